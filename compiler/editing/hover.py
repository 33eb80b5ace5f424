"""A place in a text to the facts about it, as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from compiler.editing import keys
from compiler.editing.document import Document
from compiler.editing.facts import Facts
from compiler.editing.signatures import head_of, one_line, origin_of
from compiler.editing.subject_facts import Dimension, Meaning, SettingFact
from compiler.editing.symbols import LOCAL, Kind, Occurrence, Symbol
from compiler.errors.diagnostics import Span
from compiler.frontend.builtins.table import Builtin
from compiler.support.data_formats import CUTS, OPTIONS
from compiler.support.record import record
from compiler.syntax import tree

Link = Callable[[Span], str]
"""The address of a place, for a link."""


@record(eq=False)
class Hover:
    text: str
    place: Span


def hover(document: Document, facts: Facts | None, line: int, column: int, link: Link) -> Hover | None:
    """What is known at a place: the type of a tensor and the origin of its dimensions, documentation, settings."""
    token = document.token_at(line, column)
    if token is None:
        return None
    place = document.span_of(token)
    occurrence = document.occurrences.get((token.line, token.column))
    known = _Known(document, facts, link)
    parts = list(known.of(occurrence) if occurrence is not None else known.of_word(token.text, line))
    if occurrence is None or occurrence.kind not in LOCAL:
        parts += known.result_around(place)
    return Hover("\n\n".join(parts), place) if parts else None


class _Known:
    def __init__(self, document: Document, facts: Facts | None, link: Link) -> None:
        self.document, self.link = document, link
        self.meanings = facts.meanings if facts is not None else ()
        self.settings = facts.settings if facts is not None else ()

    def of(self, occurrence: Occurrence) -> Iterator[str]:
        symbol = occurrence.symbol
        if symbol is None:
            yield from self._of_plain(occurrence)
            return
        match symbol.node:
            case Builtin():
                yield _code(symbol.node.signature)
                yield f"{symbol.node.document}\n\n*built in*"
            case tree.Const() | tree.Callable() | tree.Model() | tree.Sample() | tree.Test():
                yield _code(head_of(symbol.node))
                if symbol.node.doc:
                    yield symbol.node.doc
                yield f"*{self._linked(symbol)}*"
            case tree.Train():
                yield _code(head_of(symbol.node))
                yield from self._settings_of(symbol.node)
            case tree.Update():
                yield keys.STATEMENTS["update"]
                if symbol.node.doc:
                    yield symbol.node.doc
            case tree.Entry():
                yield from self._of_key(symbol.node)
            case _:
                yield from self._of_local(occurrence, symbol)

    def of_word(self, word: str, line: int) -> Iterator[str]:
        """A word of the language."""
        told = keys.STATEMENTS.get(word) or keys.DECLARATIONS.get(word)
        if self.document.keyword_at(line) == "train" and word in ("target", "loss", "augment"):
            told = keys.TRAIN[word]
        if told:
            yield told

    def _of_plain(self, occurrence: Occurrence) -> Iterator[str]:
        word = occurrence.place.text
        if occurrence.kind is Kind.FORMAT:
            options = {**OPTIONS, **CUTS}[word]
            yield _code(f"{word}(path)" if word in OPTIONS else f"{word}({', '.join(options)})")
            kind = "A data format" if word in OPTIONS else "Rows that are cut from the data"
            yield f"{kind}. Options: {', '.join(f'`{name}`' for name in options) or 'none'}"
        elif occurrence.kind is Kind.ATTRIBUTE:
            yield "The transpose over the last two axes."
        meaning = self._exact(occurrence.place)
        if meaning is not None:
            yield from self._told(word, meaning)

    def _of_key(self, entry: tree.Entry) -> Iterator[str]:
        yield _code(one_line(entry.span))
        told = next((k[entry.key] for k in (keys.TRAIN, keys.UPDATE, keys.GENERATE) if entry.key in k), None)
        if told:
            yield told
        values = [s for s in self.settings if s.name == entry.key or s.name.startswith(f"{entry.key}.")]
        if values:
            yield _listed(values)

    def _of_local(self, occurrence: Occurrence, symbol: Symbol) -> Iterator[str]:
        meaning = self._exact(occurrence.place) or self._of_statement(symbol) or self._elsewhere(symbol)
        parameter = symbol.node if isinstance(symbol.node, tree.Parameter) else None
        if meaning is not None:
            yield from self._told(symbol.name, meaning)
        if parameter is not None and (meaning is None or not meaning.is_tensor):
            yield _code(one_line(parameter.span))
        elif meaning is None:
            yield _code(_declaration_text(symbol))
        where = f" of `{symbol.owner}`" if symbol.owner else ""
        yield f"{symbol.kind.value}{where}"
        doc = getattr(symbol.node, "doc", None)
        if isinstance(doc, str) and doc:
            yield doc
        values = self._values_of(symbol, occurrence.place.line)
        if values:
            yield _listed(values)

    def _told(self, name: str, meaning: Meaning) -> Iterator[str]:
        if not meaning.is_tensor:
            yield f"`{name}` is {' or '.join(meaning.texts)}"
            return
        yield _code("\n".join(f"{name}: {text}" for text in meaning.texts))
        yield from self._origins(meaning)

    def _origins(self, meaning: Meaning) -> Iterator[str]:
        origins = [told for dimension in meaning.dimensions if (told := self._origin(dimension))]
        if origins:
            yield "\n".join(dict.fromkeys(origins))

    def _origin(self, dimension: Dimension) -> str:
        origin = dimension.origin
        if origin is None:
            return ""
        text = one_line(origin).replace("`", "")
        shown = text if len(text) <= 48 else f"{text[:45]}…"
        return f"- `{dimension.text}` comes from `{shown}`, [line {origin.line}]({self.link(origin)})"

    def _exact(self, place: Span) -> Meaning | None:
        return next((m for m in self.meanings if m.place == place), None)

    def _of_statement(self, symbol: Symbol) -> Meaning | None:
        """What was seen of a declared input, parameter or state: its place is the whole line."""
        node = symbol.node
        if isinstance(node, tree.InputDeclaration | tree.ParamDeclaration | tree.StateDeclaration):
            return next((m for m in self.meanings if m.place == node.span), None)
        return None

    def _elsewhere(self, symbol: Symbol) -> Meaning | None:
        """What was seen where the name is bound first, or else where it is used."""
        if symbol.place is not None and (found := self._exact(symbol.place)) is not None:
            return found
        places = {
            (o.place.line, o.place.column)
            for o in self.document.occurrences.values()
            if o.symbol is not None and o.symbol.key == symbol.key
        }
        return next((m for m in self.meanings if (m.place.line, m.place.column) in places and _is_word(m)), None)

    def result_around(self, place: Span) -> list[str]:
        """The tensor that the innermost expression around a place gives, and the origin of each dimension.

        The expression is a call, a pipe or an operator.
        """
        around = [m for m in self.meanings if m.is_tensor and m.place != place and m.place.holds(place)]
        statements = [m for m in around if m.place.text.startswith(("input ", "target ", "param ", "state "))]
        inner = [m for m in around if m not in statements]
        if not inner:
            return []
        smallest = min(inner, key=lambda m: (m.place.end_line - m.place.line, m.place.end_column - m.place.column))
        return [_code("\n".join(f"gives {text}" for text in smallest.texts)), *self._origins(smallest)]

    def _values_of(self, symbol: Symbol, line: int) -> list[SettingFact]:
        """The values of a setting: of a model, or of what a key of `train` names."""
        if symbol.kind is Kind.DIMENSION or (symbol.kind is Kind.SETTING and self._is_of_model(symbol)):
            return [s for s in self.settings if s.name == symbol.name]
        if symbol.kind is not Kind.SETTING:
            return []
        stretch = self.document.stretch_at(line)
        if stretch is None or not isinstance(stretch.node, tree.Train):
            return []
        keys_ = [e.key for e in stretch.node.entries if e.span.line <= line <= e.span.end_line]
        names = {f"{key}.{symbol.name}" for key in keys_}
        return [s for s in self.settings if s.name in names and s.line == stretch.keyword.line]

    def _is_of_model(self, symbol: Symbol) -> bool:
        return any(
            isinstance(d, tree.Model) and d.name == symbol.owner and symbol.node in d.settings
            for d in (
                *self.document.syntax.module.declarations,
                *(d for m in self.document.imports for d in m.declarations),
            )
        )

    def _settings_of(self, train: tree.Train) -> Iterator[str]:
        values = [s for s in self.settings if s.line == train.span.line]
        if values:
            yield _listed(values)

    def _linked(self, symbol: Symbol) -> str:
        assert symbol.place is not None
        return f"[{origin_of(symbol.place)}]({self.link(symbol.place)})"


def _is_word(meaning: Meaning) -> bool:
    return meaning.place.text.isidentifier()


def _declaration_text(symbol: Symbol) -> str:
    match symbol.node:
        case (
            tree.InputDeclaration()
            | tree.ParamDeclaration()
            | tree.StateDeclaration()
            | tree.LossDeclaration()
            | tree.View()
            | tree.Assign()
        ):
            return one_line(symbol.node.span)
        case _:
            return symbol.name


def _listed(values: list[SettingFact]) -> str:
    """`hidden` = 64, from `train`; with the experiments where they differ."""
    experiments = {s.experiment for s in values}
    lines = [
        f"- `{s.name} = {s.value}`, from {_ORIGINS.get(s.origin, s.origin)}"
        + (f", in `{s.experiment}`" if len(experiments) > 1 else "")
        for s in values
    ]
    return "\n".join(dict.fromkeys(lines))


_ORIGINS = {"train": "`train`", "default": "its default", "data": "the data", "generate": "`generate`"}


def _code(text: str) -> str:
    return f"```dl\n{text}\n```"
