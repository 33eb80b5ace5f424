"""A text and what is known of it to remarks within its lines: shapes, numbers of parameters, times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from compiler.editing.document import Document
from compiler.editing.facts import Facts
from compiler.editing.subject_facts import Meaning
from compiler.support.record import record
from compiler.syntax import tree
from compiler.syntax.walk import statements_within

_MOST_SHAPES = 3


@record
class Hint:
    """A remark behind a place of the text. `is_type` where it follows a name, as an annotation would."""

    line: int
    column: int
    text: str
    tip: str = ""
    is_type: bool = False


@record
class LineTime:
    """The time of a line in a step, and its share."""

    milliseconds: float
    share: float
    tip: str


def hints(document: Document, facts: Facts, times: Mapping[int, LineTime]) -> list[Hint]:
    """The shape of every tensor that a line binds, as messages print it; parameters; and times, by line."""
    by_place = {(m.place.line, m.place.column, m.place.end_line, m.place.end_column): m for m in facts.meanings}
    found = [*_names(document, by_place), *_statements(document, by_place), *_stages(document, facts)]
    found += [_numbers(document, fact.line, fact.numbers, fact.tensors) for fact in facts.parameters]
    found += [
        Hint(line, _end_of(document, line), _time(time), time.tip) for line, time in times.items() if time.share > 0
    ]
    return sorted(dict.fromkeys(found), key=lambda hint: (hint.line, hint.column))


_Meanings = Mapping[tuple[int, int, int, int], Meaning]


def _names(document: Document, by_place: _Meanings) -> Iterator[Hint]:
    """Names that get a tensor, and keys whose value is one."""
    for occurrence in document.occurrences.values():
        if not occurrence.is_written:
            continue
        place = occurrence.place
        symbol = occurrence.symbol
        if symbol is not None and isinstance(symbol.node, tree.Entry):
            place = symbol.node.value.span
        meaning = by_place.get((place.line, place.column, place.end_line, place.end_column))
        if meaning is not None and meaning.is_tensor:
            end = occurrence.place
            yield Hint(end.line, end.end_column, f": {_shapes(meaning)}", _tip(meaning), True)


def _statements(document: Document, by_place: _Meanings) -> Iterator[Hint]:
    """Inputs, targets, parameters and states, whose types may hold names: their shapes behind the line."""
    for declaration in document.syntax.module.declarations:
        if isinstance(declaration, tree.Train):
            statements: Iterator[tree.Statement] = iter(declaration.targets)
        elif isinstance(declaration, tree.Model | tree.Callable):
            statements = statements_within(declaration.body)
        else:
            continue
        for statement in statements:
            place = statement.span
            meaning = by_place.get((place.line, place.column, place.end_line, place.end_column))
            if meaning is not None and meaning.is_tensor:
                yield Hint(place.end_line, place.end_column, _shapes(meaning), _tip(meaning))


def _stages(document: Document, facts: Facts) -> Iterator[Hint]:
    """What has come of an expression at the end of a line, where it goes on in the next one with `|>`."""
    ending: dict[int, Meaning] = {}
    for meaning in facts.meanings:
        place = meaning.place
        if not meaning.is_tensor or place.end_line >= len(document.lines):
            continue
        rest = document.lines[place.end_line - 1][place.end_column - 1 :].strip()
        goes_on = document.lines[place.end_line].lstrip().startswith("|>")
        known = ending.get(place.end_line)
        is_longer = known is None or (place.line, place.column) < (known.place.line, known.place.column)
        if goes_on and is_longer and (not rest or rest.startswith("#")):
            ending[place.end_line] = meaning
    for line, meaning in ending.items():
        yield Hint(line, meaning.place.end_column, _shapes(meaning), _tip(meaning))


def _shapes(meaning: Meaning) -> str:
    shown = " | ".join(meaning.texts[:_MOST_SHAPES])
    return shown if len(meaning.texts) <= _MOST_SHAPES else f"{shown} | …"


def _tip(meaning: Meaning) -> str:
    return "\n".join(meaning.texts) if len(meaning.texts) > 1 else ""


def _numbers(document: Document, line: int, numbers: int, tensors: int) -> Hint:
    text = f"{numbers:,} parameter{'' if numbers == 1 else 's'}"
    return Hint(line, _end_of(document, line), text, f"in {tensors} tensor{'' if tensors == 1 else 's'}")


def _time(time: LineTime) -> str:
    return f"{duration(time.milliseconds)}, {time.share:.0%}"


def duration(milliseconds: float) -> str:
    """`12.3 µs`, `1.24 ms`, `2.50 s`."""
    for unit, size in (("s", 1000.0), ("ms", 1.0)):
        if milliseconds >= size:
            return f"{milliseconds / size:.3g} {unit}"
    return f"{milliseconds * 1000:.3g} µs"


def _end_of(document: Document, line: int) -> int:
    """The column behind the last token of a line."""
    text = document.lines[line - 1] if line <= len(document.lines) else ""
    last = max((t.end_column for t in document.lexed.tokens if t.line == line), default=len(text.rstrip()) + 1)
    return last
