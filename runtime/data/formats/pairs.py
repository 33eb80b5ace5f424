"""Pairs of texts, such as sentences and their translations, become fields `source`, `target` and `next`."""

from __future__ import annotations

from compiler.errors.diagnostics import DataError
from runtime.data.dataset import Dataset, Reading, TextPlan
from runtime.data.formats.format import Format, SourceRequest
from runtime.data.formats.lines import rules_of, text_field
from runtime.data.text.files import TextFile, decoded
from runtime.support.files import fingerprint

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
        message = f"{len(targets)} lines, but {request.path.name} has {len(sources)}"
        raise DataError(message, place, fix="give both texts of a pair in the same line of their files")
    for path, texts in ((request.path, sources), (place, targets)):
        if "" in texts:
            raise DataError("the line is empty", path, texts.index("") + 1, "remove the pair from both files")
    numbers = range(1, len(sources) + 1)
    target = text_field(targets, place, numbers)
    fields = {SOURCE: text_field(sources, request.path, numbers), TARGET: target, NEXT: target}
    is_shared = options.flag("shared") or False
    of_target = SOURCE if is_shared else TARGET
    readings = {
        SOURCE: Reading(SOURCE, start=True, end=True),
        TARGET: Reading(of_target, start=True),
        NEXT: Reading(of_target, end=True),
    }
    plan = TextPlan(rules_of(options, "word"), readings, options.number("longest"), options.buckets())
    prints = {path.name: fingerprint(path) for path in {request.path, place}}
    return Dataset("pairs", request.path, fields, text=plan, fingerprints=prints)


def _lines(file: TextFile) -> list[str]:
    """All lines, blank ones too, since their places say what belongs together."""
    lines = [line.strip() for line in file.text.removesuffix("\n").split("\n")]
    if lines == [""]:
        raise DataError("the file is empty", file.path, fix="check that this is the right file")
    return lines


def _split(request: SourceRequest, lines: list[str]) -> tuple[list[str], list[str]]:
    """Both texts of each line."""
    separator = (request.options.text("separator") or "\t").replace("\\t", "\t")
    cut = [line.split(separator) for line in lines]
    for number, parts in enumerate(cut, 1):
        if len(parts) < 2:
            shown = separator.replace("\t", "\\t")
            both = "name both files in `data = pairs(…, …)`, on the command line by `--set 'data=pairs(…, …)'`"
            fix = f"write `{shown}` between the texts, or give the `separator`, or {both}"
            raise DataError(f"`{shown}` does not stand between two texts", request.path, number, fix)
    return [parts[0].strip() for parts in cut], [parts[1].strip() for parts in cut]


PAIRS = Format("pairs", (), read_pairs, in_one=True)
