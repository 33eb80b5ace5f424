"""`dlc lsp`: the questions of an editor, by the Language Server Protocol; `compiler.editing` answers them."""
