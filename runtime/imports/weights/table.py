"""The table of an import, as text that people edit: how each tensor of the model is made of those of the file.

x.conv2d.W = conv1.weight transpose(2, 3, 1, 0)
lstm.b = lstm.bias_ih_l0 + lstm.bias_hh_l0
head.W = start
ignore fc.weight
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from compiler.errors.diagnostics import DataError
from compiler.errors.suggestions import did_you_mean, quoted
from compiler.support.record import record
from runtime.imports.weights.expressions import STEPS, Expression, Extents, Step, Term, Unfitting

_PLAIN = re.compile(r"[^\s\"=+(),#\x00-\x1f\x7f-\xa0\u200b-\u200f\u2028-\u202e\u2066-\u2069]+")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[=+(),]|[^\s"=+(),#]+')
START = "start"
IGNORE = "ignore"


@record
class Table:
    """`entries`: of tensors of the model; those of `fresh` keep their start values. `ignored` are names in the file."""

    entries: Mapping[str, Expression]
    fresh: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


def written(name: str) -> str:
    """A name as the table has it: in quotes where it holds signs of the table, or what cannot be seen."""
    return name if _PLAIN.fullmatch(name) and name not in (IGNORE, START) else json.dumps(name)


def line_of(path: str, expression: Expression) -> str:
    terms = [" ".join([written(term.name), *map(str, term.steps)]) for term in expression.terms]
    return f"{written(path)} = {' + '.join(terms)}"


def lines_of(table: Table, reasons: Mapping[str, str]) -> list[str]:
    """The lines of a table, with the reason of each behind it."""
    width = max((len(line_of(path, made)) for path, made in table.entries.items()), default=0)
    found: list[str] = []
    for path, made in table.entries.items():
        reason = reasons.get(path)
        found.append(f"{line_of(path, made):{min(width, 72)}}  # {reason}" if reason else line_of(path, made))
    found += [f"{written(path)} = {START}" for path in table.fresh]
    return [*found, *(f"{IGNORE} {written(name)}" for name in table.ignored)]


def read_table(text: str, file: Path, paths: Mapping[str, Extents], shapes: Mapping[str, Extents]) -> Table:
    """The table of a text, for a model with tensors `paths` and a file with tensors `shapes`.

    Raises DataError at the first line that is none, names no tensor, or whose steps give another shape.
    """
    entries: dict[str, Expression] = {}
    fresh: list[str] = []
    ignored: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            words = _words(line)
            if not words:
                continue
            if words[0] == IGNORE and len(words) == 2:
                ignored.append(_known(_name(words[1]), shapes, "the file"))
                continue
            if len(words) < 3 or words[1] != "=":
                raise Unfitting("a line is `tensor of the model = tensor of the file`, or `ignore tensor of the file`")
            path = _known(_name(words[0]), paths, "the model")
            if path in entries or path in fresh:
                raise Unfitting(f"`{path}` has a line already")
            if words[2:] == [START]:
                fresh.append(path)
                continue
            entries[path] = _checked(path, _expression(words[2:], shapes), paths, shapes)
        except Unfitting as problem:
            raise DataError(str(problem), file, number, "correct the line, or take it out to have it found") from None
    return Table(entries, tuple(fresh), tuple(dict.fromkeys(ignored)))


def _words(line: str) -> list[str]:
    words: list[str] = []
    rest = line.strip()
    while rest and not rest.startswith("#"):
        found = _TOKEN.match(rest)
        if found is None:
            raise Unfitting("a name in quotes does not end")
        words.append(found[0])
        rest = rest[found.end() :].lstrip()
    return words


def _name(word: str) -> str:
    if not word.startswith('"'):
        return word
    try:
        return str(json.loads(word))
    except ValueError:
        raise Unfitting(f"{word} is no text in quotes") from None


def _known(name: str, names: Iterable[str], where: str) -> str:
    known = tuple(names)
    if name not in known:
        raise Unfitting(f"{where} has no tensor `{name}`{did_you_mean(name, known, '; ')}")
    return name


def _expression(words: Sequence[str], shapes: Mapping[str, Extents]) -> Expression:
    terms: list[Term] = []
    place = 0
    while place < len(words):
        if terms:
            if words[place] != "+":
                raise Unfitting(f"`+` or a step is missing before `{words[place]}`")
            place += 1
        if place >= len(words):
            raise Unfitting("a tensor is missing behind `+`")
        term = Term(_known(_name(words[place]), shapes, "the file"))
        place += 1
        while place + 1 < len(words) and words[place + 1] == "(":
            step, place = _step(words, place)
            term = Term(term.name, (*term.steps, step))
        terms.append(term)
    return Expression(tuple(terms))


def _step(words: Sequence[str], place: int) -> tuple[Step, int]:
    name = words[place]
    if name not in STEPS:
        raise Unfitting(f"there is no step `{name}`{did_you_mean(name, STEPS, '; ')}; the steps are {quoted(STEPS)}")
    end = next((k for k in range(place + 2, len(words)) if words[k] == ")"), None)
    if end is None:
        raise Unfitting(f"`{name}(` is not closed")
    inside = words[place + 2 : end]
    if inside[1::2] != [","] * (len(inside) // 2) or not all(re.fullmatch(r"\d{1,18}", word) for word in inside[::2]):
        raise Unfitting(f"`{name}(…)` takes whole numbers, with commas between them")
    return Step(name, tuple(int(word) for word in inside[::2])), end + 1


def _checked(path: str, made: Expression, paths: Mapping[str, Extents], shapes: Mapping[str, Extents]) -> Expression:
    shape = made.shape_of(shapes)
    if shape != paths[path]:
        raise Unfitting(f"`{path}` is {list(paths[path])}, and the line makes {list(shape)}")
    return made
