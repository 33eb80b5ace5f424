"""Answer an editor's questions by the Language Server Protocol, on standard input and output.

Editors start it themselves; the user guide has the settings of VS Code, Neovim, Helix, Emacs and Zed.
"""

from __future__ import annotations

import importlib.util
import sys

from compiler.errors.diagnostics import UsageError
from runtime.cli.parser import Namespace, Parser

EXAMPLES = ("dlc lsp --stdio",)
_PACKAGES = ("pygls", "lsprotocol")


def configure(parser: Parser) -> None:
    parser.add_flag("--stdio", "speak on standard input and output, as it does anyway: some editors ask for it")


def run(arguments: Namespace) -> int:
    if missing := [name for name in _PACKAGES if importlib.util.find_spec(name) is None]:
        raise UsageError(f"`dlc lsp` needs {' and '.join(missing)}", "pip install 'dlc[lsp]'")
    if sys.stdin.isatty():
        raise UsageError("`dlc lsp` talks to an editor, which starts it", "see the user guide for its settings")
    from runtime.cli.main import COMMANDS, version  # this module is one of the commands
    from runtime.editor.server import serve  # packages of the extra

    return serve(version(), frozenset(command.name for command in COMMANDS))
