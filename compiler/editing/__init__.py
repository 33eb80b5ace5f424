"""Questions of an editor about a text in any state: names and their declarations, shapes, documentation, completions.

Nothing here knows a protocol; `runtime/editor` speaks the Language Server Protocol.
"""
