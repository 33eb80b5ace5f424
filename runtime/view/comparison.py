"""Two runs side by side: the differences at each line of the text in weights, values of a row, settings and metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compiler.driver import Array, ParameterSpec
from compiler.errors.diagnostics import Span
from compiler.support.record import record
from runtime.data.part import Part
from runtime.runs.listing import RunDifferences, compared
from runtime.support.files import JsonObject, JsonValue
from runtime.view.differences import difference_to_json
from runtime.view.run_part import run_to_json
from runtime.view.watching import Watching, examples_of

if TYPE_CHECKING:
    from compiler.inspection.reading import Reading
    from runtime.view.viewed import Viewed

Line = tuple[str, int]  # the name of a file below the folder of the texts, and a line of it


@record(eq=False)
class Side:
    """One of two runs: its folder, that of its texts, these by their names there, and its rows and weights."""

    folder: Path
    source: Path
    texts: Mapping[str, Sequence[str]]
    reading: Reading
    watching: Watching

    @property
    def parameters(self) -> dict[str, ParameterSpec]:
        return {spec.path: spec for spec in self.watching.examples.program.parameters}

    def line_of(self, spec: ParameterSpec) -> Line:
        """The place in the user's text that makes a parameter."""
        return self.line(next((s for s in (spec.span, *reversed(spec.calls)) if not s.source.is_library), spec.span))

    def line(self, span: Span) -> Line:
        return _name_in(self.source, span.source.name), span.line


def side_of(viewed: Viewed) -> Side:
    """A run, opened. Raises DlcError where its text, data or weights cannot be read."""
    assert viewed.run is not None
    assert viewed.within is not None
    reading, source = viewed.reading(), viewed.within
    texts = {_name_in(source, one.name): one.text.splitlines() for one in reversed(reading.sources)}
    return Side(viewed.run, source, texts, reading, Watching(examples_of(viewed, reading), reading))


def sides_of(viewed: Viewed) -> tuple[Side, Side]:
    """Both runs of a comparison. Raises DlcError as `side_of`.

    The second takes the rows of the first where their data has as many, however each cuts it: another seed, for
    instance, keeps other rows for the test.
    """
    assert viewed.other is not None
    first, second = side_of(viewed), side_of(viewed.other)
    mine, other = first.watching.examples.part, second.watching.examples
    known = mine.stream is None and other.part.stream is None
    if not known or _sizes(mine) != _sizes(other.part) or np.array_equal(mine.rows, other.part.rows):
        return first, second
    weights = other.said.partition(", ")[2]
    said = f"with the rows of {first.folder.name}, of which it may have trained with some, {weights}"
    changed = replace(other, part=replace(other.part, rows=mine.rows), said=said)
    return first, replace(second, watching=Watching(changed, second.reading))


def _sizes(part: Part) -> dict[str, int]:
    return {name: len(array) for name, array in part.arrays.items()}


def _name_in(folder: Path, name: str) -> str:
    path = Path(name)
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else path.name


@record
class AlignedLine:
    """A line of the first text, of the second (each 0 where it is in the other one alone), or of both."""

    file: str
    first: int
    second: int
    text: str


def comparison_to_json(first: Side, second: Side, row: int) -> JsonObject:
    """The texts aligned, each line with its differences; settings, metrics and curves. Raises DlcError."""
    found = compared(first.folder, second.folder)
    rows, pairs = aligned(first.texts, second.texts)
    at_lines = dict[Line, list[JsonValue]]()
    told = (*_told(first, found), *_weights(first, second), *_values(first, second, pairs, row))
    for line, difference in told:
        at_lines.setdefault(line, []).append(difference)
    written: list[JsonValue] = [
        {
            "file": one.file,
            "first": one.first,
            "second": one.second,
            "text": one.text,
            "differences": at_lines.get((one.file, one.first), []),
        }
        for one in rows
    ]
    return {
        "runs": [first.folder.name, second.folder.name],
        "settings": [[name, *pair] for name, pair in found.settings.items()],
        "metrics": [[name, *pair] for name, pair in found.metrics.items()],
        "parts": list(found.parts),
        "row": row,
        "rows": min(len(first.watching.examples.part.rows), len(second.watching.examples.part.rows)),
        "same_row": _is_same_row(first.watching.row(row), second.watching.row(row)),
        "said": [first.watching.examples.said, second.watching.examples.said],
        "lines": written,
        "curves": run_to_json(second.folder)["curves"],
    }


def aligned(
    first: Mapping[str, Sequence[str]], second: Mapping[str, Sequence[str]]
) -> tuple[list[AlignedLine], dict[Line, Line]]:
    """The lines of both, in order, and which line of the second each line of the first has become.

    The first file of each is the main one, and the others are those of the same names. Lines that differ follow each
    other, those of the first in front; where they are as many, each has become the one at its place.
    """
    rows: list[AlignedLine] = []
    pairs: dict[Line, Line] = {}
    mains = next(iter(first), ""), next(iter(second), "")
    names = [mains, *((name, name) for name in dict.fromkeys((*first, *second)) if name not in mains)]
    for file, other_file in names:
        one, other = first.get(file, ()), second.get(other_file, ())
        for kind, a, b, c, d in SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
            if b - a == d - c:
                pairs.update(((file, a + n + 1), (other_file, c + n + 1)) for n in range(b - a))
            if kind == "equal":
                rows += [AlignedLine(file, a + n + 1, c + n + 1, one[a + n]) for n in range(b - a)]
                continue
            rows += [AlignedLine(file, n + 1, 0, one[n]) for n in range(a, b)]
            rows += [AlignedLine(file, 0, n + 1, other[n]) for n in range(c, d)]
    return rows, pairs


def _told(side: Side, found: RunDifferences) -> Iterator[tuple[Line, JsonValue]]:
    """Settings and metrics at the lines of the first run that give them; a setting of the model at its head.

    One that its command line replaced stands at the line that it replaces.
    """
    subject = side.reading.subject
    if subject is None or subject.program.plan is None or subject.train is None:
        return
    train, head, texts = subject.train, subject.model.span, {source.name for source in side.reading.sources}
    given = subject.program.plan.places.items()
    places = {key: place if place.source.name in texts else train.place_of(key) for key, place in given}
    for name, pair in found.settings.items():
        place = places.get(name) or places.get(name.split(".", 1)[0]) or head
        yield side.line(place), {"kind": "setting", "name": name, "pair": list(pair)}
    for name, pair in found.metrics.items():
        if pair == found.settings.get(name):
            continue  # as many epochs as it was told
        key = name.removeprefix("val_").removeprefix("test_")
        place = places.get(key) or places.get("metrics") or places.get("loss") or head
        yield side.line(place), {"kind": "metric", "name": name, "pair": list(pair)}


def _weights(first: Side, second: Side) -> Iterator[tuple[Line, JsonValue]]:
    """The difference of each weight that both have, at the line of the first; and those that one of them lacks."""
    mine, other = first.watching.weights(), second.watching.weights()
    for path, spec in first.parameters.items():
        entry: dict[str, JsonValue] = {"kind": spec.role.value, "name": path}
        if path not in other:
            yield first.line_of(spec), {**entry, "only": 0}
        elif mine[path].shape != other[path].shape:
            yield first.line_of(spec), {**entry, "shapes": [list(mine[path].shape), list(other[path].shape)]}
        else:
            yield first.line_of(spec), {**entry, **difference_to_json(mine[path], other[path])}


def _values(first: Side, second: Side, pairs: Mapping[Line, Line], row: int) -> Iterator[tuple[Line, JsonValue]]:
    """The difference of each value of the row that stands in both texts at the same place under the same name."""
    others = _by_place(second, row)
    for (line, name, number), array in _by_place(first, row).items():
        place = pairs.get(line)
        other = None if place is None else others.get((place, name, number))
        entry: dict[str, JsonValue] = {"kind": "value", "name": name}
        if other is not None and other.shape == array.shape:
            yield line, {**entry, **difference_to_json(array, other)}
        elif other is not None:
            yield line, {**entry, "shapes": [list(array.shape), list(other.shape)]}


def _by_place(side: Side, row: int) -> dict[tuple[Line, str, int], Array]:
    """Values of a row by their line and name, numbered where a loop gives a name several times."""
    found: dict[tuple[Line, str, int], Array] = {}
    for one, array in side.watching.values(row).items():
        line, number = side.line(one.span), 0
        while (line, one.name, number) in found:
            number += 1
        found[line, one.name, number] = array
    return found


def _is_same_row(first: Mapping[str, Array], second: Mapping[str, Array]) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(array, second[name]) for name, array in first.items())
