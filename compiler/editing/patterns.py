"""A name to the patterns of parameter names that hold it, such as `freeze = ["embed.*"]`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from compiler.editing.document import Document
from compiler.editing.symbols import Kind, Symbol
from compiler.errors.diagnostics import Span
from compiler.frontend.scope import Namespace
from compiler.frontend.train.entries import lines_of
from compiler.frontend.train.patterns import matches
from compiler.support.record import record
from compiler.syntax import tree
from compiler.syntax.walk import expressions_in

_ENTRIES = ("freeze", "unfreeze", "parameters")
_SETTINGS = ("on", "decay_on", "fresh", "rename")
_OF_MODELS = (Kind.VARIABLE, Kind.OUTPUT, Kind.LOSS, Kind.PARAM, Kind.STATE)
_OF_LAYERS = (*_OF_MODELS, Kind.SETTING)
_INTO = "->"


@record
class PatternPlace:
    """A word of a pattern, in which a name stands. `is_the_name` where the word is the name and nothing else."""

    place: Span
    pattern: str
    is_the_name: bool


def patterns_with(document: Document, symbol: Symbol, new: str) -> Iterator[PatternPlace]:
    """The words of patterns in a text that select parameters by a name, and would not with the name `new`.

    The paths of a model's parameters begin with its variables. Those of layers may stand anywhere in a path, by their
    own names or as instances with a number, so such a word is not known to be the name.
    """
    for train in document.syntax.module.declarations:
        if not isinstance(train, tree.Train):
            continue
        begins_paths = symbol.kind in _OF_MODELS and _is_model_of(document, train, symbol)
        if begins_paths or _is_in_layers(document, symbol):
            for text in _patterns_of(train):
                yield from _words(document, text, symbol.name, new, begins_paths)


def _is_model_of(document: Document, train: tree.Train, symbol: Symbol) -> bool:
    found = document.scope.lookup(Namespace.MODEL, train.model.id)
    return found is not None and symbol.place is not None and _is_within(symbol.place, found.declaration.span)


def _is_in_layers(document: Document, symbol: Symbol) -> bool:
    """Whether the name is one of a layer that the text can see, or in one."""
    if symbol.place is None or symbol.kind not in (*_OF_LAYERS, Kind.LAYER):
        return False
    modules = (document.syntax.module, *document.imports)
    layers = (d for m in modules for d in m.declarations if isinstance(d, tree.Callable) and d.keyword == "layer")
    return any(_is_within(symbol.place, layer.span) for layer in layers)


def _is_within(place: Span, outer: Span) -> bool:
    return place.source.name == outer.source.name and outer.line <= place.line <= outer.end_line


def _patterns_of(train: tree.Train) -> Iterator[tree.Text]:
    for entry in lines_of(train):
        for expression in expressions_in(entry.value):
            if isinstance(expression, tree.Text) and entry.key in _ENTRIES:
                yield expression
            elif isinstance(expression, tree.Call) and entry.key not in _ENTRIES:
                for keyword in expression.keywords:
                    if keyword.name in _SETTINGS:
                        yield from (e for e in expressions_in(keyword.value) if isinstance(e, tree.Text))


def _words(document: Document, text: tree.Text, name: str, new: str, begins: bool) -> Iterator[PatternPlace]:
    span = text.span
    written = document.lines[span.line - 1][span.column : span.end_column - 2]
    start = written.index(_INTO) + len(_INTO) if _INTO in written else 0
    words = list(re.finditer(r"[^.\s]+", written[start:]))
    for word in words[:1] if begins else words:
        found = word.group()
        is_instance = re.fullmatch(rf"{re.escape(name)}_\d+", found) is not None
        is_lost = "*" in found and matches(found, name) and not matches(found, new)
        if found == name or is_instance or is_lost:
            column = span.column + 1 + start + word.start()
            place = Span(document.source, span.line, column, span.line, column + len(found))
            yield PatternPlace(place, text.value, begins and found == name)
