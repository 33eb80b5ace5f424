"""Pairs of texts, such as sentences and their translations, become fields `source`, `target` and `next`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from compiler.errors.diagnostics import DataError
from runtime.data.dataset import BlockSource, Dataset, Reading, TextPlan
from runtime.data.formats.format import Format, SourceRequest
from runtime.data.formats.lines import rules_of, text_field
from runtime.data.formats.text_blocks import NumberedText, numbered_lines, side_by_side, source_of_texts
from runtime.data.text.files import TextFile, TextPath, decoded, text_paths
from runtime.support.files import fingerprints

SOURCE, TARGET, NEXT = "source", "target", "next"


def read_pairs(request: SourceRequest) -> Dataset:
    """Two files with a text in each line, or one whose lines hold both texts. Raises DataError.

    `source` has both ends marked; `target` is the input of a decoder, with its start marked, and `next` the text that
    it should say, with its end marked. With `shared`, both sides have one vocabulary.
    """
    options = request.options
    encoding = options.text("encoding") or "utf-8-sig"
    sources = _lines(TextFile(request.path, decoded(request.path, encoding)))
    other = request.others.get(TARGET)
    if other is None:
        sources, targets = _split(request, sources)
    else:
        targets = _lines(TextFile(other, decoded(other, encoding)))
    place = other or request.path
    if len(sources) != len(targets):
        raise _differing(request.path, place, len(sources), len(targets))
    for path, texts in ((request.path, sources), (place, targets)):
        if "" in texts:
            raise DataError("the line is empty", path, texts.index("") + 1, "remove the pair from both files")
    numbers = range(1, len(sources) + 1)
    target = text_field(targets, place, numbers)
    fields = {SOURCE: text_field(sources, request.path, numbers), TARGET: target, NEXT: target}
    prints = fingerprints([request.path, place])
    return Dataset("pairs", request.path, fields, text=_plan(request), fingerprints=prints)


def _plan(request: SourceRequest) -> TextPlan:
    options = request.options
    is_shared = options.flag("shared") or False
    of_target = SOURCE if is_shared else TARGET
    readings = {
        SOURCE: Reading(SOURCE, start=True, end=True),
        TARGET: Reading(of_target, start=True),
        NEXT: Reading(of_target, end=True),
    }
    return TextPlan(rules_of(options, "word"), readings, options.number("longest"), options.buckets())


def stream_pairs(request: SourceRequest) -> BlockSource:
    """As `read_pairs`, some pairs at a time. Raises DataError."""
    encoding = request.options.text("encoding") or "utf-8-sig"
    other = request.others.get(TARGET)
    place = other or request.path
    (source,) = text_paths(request.path, request.options)
    target = text_field([], place, [])
    fields = {SOURCE: text_field([], request.path, []), TARGET: target, NEXT: target}

    def pairs() -> Iterator[tuple[int, tuple[str, str]]]:
        if other is None:
            for number, line in numbered_lines(source):
                yield number, _halves(request, number, line)
            return
        lines = numbered_lines(source), numbered_lines(TextPath(other, encoding))
        for (number, text), (_, translation) in side_by_side(*lines, partial(_differing, request.path, place)):
            yield number, (text, translation)

    def rows() -> Iterator[tuple[NumberedText, Mapping[str, str]]]:
        for number, both in pairs():
            for path, text in zip((request.path, place), both, strict=True):
                if not text:
                    raise DataError("the line is empty", path, number, "remove the pair from both files")
            yield NumberedText(request.path, number, ""), {SOURCE: both[0], TARGET: both[1], NEXT: both[1]}

    head = Dataset("pairs", request.path, fields, text=_plan(request))
    files = tuple(dict.fromkeys((request.path, place)))
    return source_of_texts(head, files, rows, lambda: fingerprints(files))


def _differing(sources: Path, targets: Path, count: int, found: int) -> DataError:
    message = f"{found} lines, but {sources.name} has {count}"
    return DataError(message, targets, fix="give both texts of a pair in the same line of their files")


def _lines(file: TextFile) -> list[str]:
    """All lines, blank ones too, since their places say what belongs together."""
    lines = [line.strip() for line in file.text.removesuffix("\n").split("\n")]
    if lines == [""]:
        raise DataError("the file is empty", file.path, fix="check that this is the right file")
    return lines


def _split(request: SourceRequest, lines: list[str]) -> tuple[list[str], list[str]]:
    """Both texts of each line."""
    cut = [_halves(request, number, line) for number, line in enumerate(lines, 1)]
    return [source for source, _ in cut], [target for _, target in cut]


def _halves(request: SourceRequest, number: int, line: str) -> tuple[str, str]:
    separator = (request.options.text("separator") or "\t").replace("\\t", "\t")
    parts = line.split(separator)
    if len(parts) < 2:
        shown = separator.replace("\t", "\\t")
        both = "name both files in `data = pairs(…, …)`, on the command line by `--set 'data=pairs(…, …)'`"
        fix = f"write `{shown}` between the texts, or give the `separator`, or {both}"
        raise DataError(f"`{shown}` does not stand between two texts", request.path, number, fix)
    return parts[0].strip(), parts[1].strip()


PAIRS = Format("pairs", (), read_pairs, stream_pairs, in_one=True)
