"""A name to all its places, and the reasons for which it cannot be another one."""

from __future__ import annotations

import os.path
from collections.abc import Iterator

from compiler.editing.document import Document
from compiler.editing.symbols import DECLARED, LOCAL, Kind, Occurrence, Symbol
from compiler.errors.diagnostics import Source
from compiler.frontend.builtins.functions import BUILTINS, CONSTANTS
from compiler.frontend.failures import with_article
from compiler.support.train_keys import KEYS
from compiler.syntax import tree
from compiler.syntax.lexer import CONTEXTUAL, RESERVED, lex

_FIXED = (Kind.KEY, Kind.BUILTIN, Kind.CONSTANT, Kind.TYPE, Kind.FORMAT, Kind.OPTION, Kind.ATTRIBUTE, Kind.UNKNOWN)
_READ = frozenset((Kind.CONST, Kind.MODEL, Kind.BUILTIN, Kind.CONSTANT, *DECLARED.values()))
_ROWS = "batch"


def places_of(document: Document, symbol: Symbol) -> Iterator[Occurrence]:
    """The places of a text where a name stands for the same as `symbol`."""
    for occurrence in document.occurrences.values():
        if occurrence.symbol is not None and occurrence.symbol.key == symbol.key:
            yield occurrence


def reason_against(document: Document, occurrence: Occurrence | None) -> str:
    """Why a name cannot be changed at all; empty where it can."""
    if occurrence is None or occurrence.symbol is None or occurrence.kind in _FIXED:
        return "there is no name here that could be changed"
    symbol = occurrence.symbol
    if symbol.is_library:
        return f"`{symbol.name}` belongs to the library"
    is_in_layer = document.keyword_at(occurrence.place.line) in DECLARED
    if symbol.kind is Kind.DIMENSION and symbol.name == _ROWS and not is_in_layer:
        return f"the rows of inputs and targets are always called `{_ROWS}`"
    return ""


def conflict(document: Document, symbol: Symbol, new: str) -> str:
    """Why a name cannot become `new` in a text in which it occurs; empty where it can."""
    tokens = lex(Source("", new)).tokens
    is_word = len(tokens) == 1 and tokens[0].text == new and (tokens[0].kind == "NAME" or new in CONTEXTUAL)
    if not is_word or new in RESERVED or new == "_":
        return f"`{new}` is not a name"
    if new == symbol.name:
        return ""
    if isinstance(symbol.node, tree.Entry) and new in KEYS:
        return f"`{new}` is a key of `train`"
    if symbol.kind is Kind.LOSS and _is_stated_elsewhere(document, symbol):
        return f"several bodies state the loss `{symbol.name}`, which is one in `train`"
    for occurrence in places_of(document, symbol):
        local = document.names_at(occurrence.place.line).get(new)
        if local is not None:
            return f"`{new}` is {with_article(local.kind.value)} of `{local.owner or 'this declaration'}` already"
        if symbol.kind in LOCAL and _is_used(document, occurrence.place.line, new):
            return f"`{new}` means something else in this declaration"
    if symbol.kind not in LOCAL and _is_declared(document, symbol, new):
        return f"`{new}` is declared already"
    if symbol.kind in _READ and _is_read(document, new):
        return f"`{new}` means something else already"
    return ""


def sees(document: Document, symbol: Symbol) -> bool:
    """Whether a text could name what is declared, as its own or by an import."""
    files = (document.source.name, *(module.source.name for module in document.imports))
    return symbol.place is not None and os.path.normpath(symbol.place.source.name) in map(os.path.normpath, files)


def _is_read(document: Document, name: str) -> bool:
    """Whether a text names something of the library, of the compiler or of another file, which a declaration hides."""
    symbols = (occurrence.symbol for occurrence in document.occurrences.values())
    return any(symbol is not None and symbol.name == name and symbol.kind in _READ for symbol in symbols)


def _is_used(document: Document, line: int, name: str) -> bool:
    """Whether the declaration around a line reads a global name, which a local one would hide."""
    stretch = document.stretch_at(line)
    if stretch is None:
        return False
    tokens = document.lexed.tokens[stretch.start : stretch.end]
    found = [document.occurrences.get((token.line, token.column)) for token in tokens if token.text == name]
    return any(o is not None and o.symbol is not None and o.symbol.kind not in LOCAL for o in found) or (
        bool(found) and (name in BUILTINS or name in CONSTANTS)
    )


def _is_stated_elsewhere(document: Document, symbol: Symbol) -> bool:
    """Whether another declaration states a loss of the same name."""
    symbols = (occurrence.symbol for occurrence in document.occurrences.values())
    alike = (other for other in symbols if other is not None and other.kind is Kind.LOSS and other.name == symbol.name)
    return any(other.key != symbol.key for other in alike)


def _is_declared(document: Document, symbol: Symbol, new: str) -> bool:
    declared = (*document.syntax.module.declarations, *(d for m in document.imports for d in m.declarations))
    names = {d.name for d in declared if not isinstance(d, tree.Generate | tree.Import)}
    return new in names
