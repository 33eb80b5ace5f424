"""Texts as data: a text per line or file, a column of a table, or one running text; and how they become tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from compiler.errors.diagnostics import DataError
from runtime.data.dataset import (
    SYNONYMS,
    BlockSource,
    Dataset,
    Field,
    Reading,
    RowBlock,
    TextPlan,
    WindowPlan,
    columns_at,
)
from runtime.data.formats.csv_files import stream_csv
from runtime.data.formats.csv_table import read_csv
from runtime.data.formats.format import Format, SourceOptions, SourceRequest
from runtime.data.formats.text_blocks import (
    NumberedText,
    cut_between_words,
    numbered_lines,
    objects,
    side_by_side,
    source_of_texts,
    texts_of_files,
)
from runtime.data.text.files import TextFile, TextPath, decoded, lines_of, text_files, text_paths, text_pieces
from runtime.data.text.tokenizer import SPECIAL, UNITS, TokenRules
from runtime.support.files import fingerprint_of_all, fingerprints

TOKENS, NEXT, LABEL = "tokens", "next", "label"
OF_TABLES = ("header", "names", "separator")


def read_lines(request: SourceRequest) -> Dataset:
    """The texts of all files that fit the path, and their labels. Raises DataError.

    A label is the word with which a line begins or ends (`label = "first"` or `"last"`), a line of a file of its own
    (`labels = "…"`), a column beside the column `text`, or what `*` stands for in the path.
    """
    options = request.options
    fields = fields_of_table(request) if options.values.get("text") is not None else fields_of_files(request)
    fields, plan = _read_as_tokens(request, fields)
    first = fields[TOKENS]
    prints = _fingerprints(request, list(dict.fromkeys(first.files or (first.file,))))
    return Dataset("lines", request.path, fields, text=plan, fingerprints=prints)


def _read_as_tokens(request: SourceRequest, fields: dict[str, Field]) -> tuple[dict[str, Field], TextPlan]:
    """The fields with those that are the texts once more, and how they become tokens."""
    options = request.options
    first = fields[TOKENS]
    if SYNONYMS in request.others:
        first = fields[TOKENS] = replace(first, synonyms=_synonyms(request.others[SYNONYMS], options))
    if NEXT in request.wanted:
        readings = {TOKENS: Reading(TOKENS, start=True), NEXT: Reading(TOKENS, end=True)}
        fields[NEXT] = first
    else:
        has_ends = options.flag("ends") or False
        readings = {TOKENS: Reading(TOKENS, has_ends, has_ends)}
    if SYNONYMS in request.wanted:
        fields[SYNONYMS], readings[SYNONYMS] = first, readings[TOKENS]
    return fields, TextPlan(rules_of(options, "word"), readings, options.number("longest"), options.buckets())


def stream_lines(request: SourceRequest) -> BlockSource:
    """As `read_lines`, some texts at a time. Raises DataError."""
    if request.options.values.get("text") is not None:
        return _stream_table(request)
    options = request.options
    files = text_paths(request.path, options)
    paths = [file.path for file in files]
    where = options.choice("label", ("first", "last"))
    whole = options.choice("each", ("line", "file")) == "file"
    labels = None if where is not None else request.others.get("labels")
    has_labels = where is not None or labels is not None or "*" in str(request.path)
    place = paths[0] if len(paths) == 1 else request.path
    empty = {name: text_field([], place, []) for name in (TOKENS, *((LABEL,) if has_labels else ()))}
    fields, plan = _read_as_tokens(request, empty)

    def rows() -> Iterator[tuple[NumberedText, Mapping[str, str]]]:
        texts = texts_of_files(files, place, whole)
        if labels is not None:
            encoding = options.text("encoding") or "utf-8-sig"
            found = (line for _, line in numbered_lines(TextPath(labels, encoding)) if line)
            for (_, text), label in side_by_side(texts, found, partial(_differing, labels, place)):
                yield text, _cells(fields, text.text, label)
            return
        for file, text in texts:
            label, told = (file.star, text.text) if where is None or whole else _cut(text, where)
            yield text, _cells(fields, told, label)

    head = Dataset("lines", request.path, fields, text=plan)
    return source_of_texts(head, (*paths, *request.others.values()), rows, lambda: _fingerprints(request, paths))


def _fingerprints(request: SourceRequest, files: Sequence[Path]) -> dict[str, str]:
    """That of each file by its name; of all texts together, where they lie in several files."""
    if len(files) == 1:
        return fingerprints([*files, *request.others.values()])
    return {request.path.name: fingerprint_of_all(files), **fingerprints(request.others.values())}


def _cells(fields: Mapping[str, Field], text: str, label: str) -> dict[str, str]:
    return {name: label if name == LABEL else text for name in fields}


def _differing(labels: Path, texts: Path, count: int, found: int) -> DataError:
    message = f"{found} labels for the {count} texts of {texts.name}"
    return DataError(message, labels, fix="give a label in each line, in the order of the texts")


def _stream_table(request: SourceRequest) -> BlockSource:
    """The column `text` of a table and the others that are wanted, as `fields_of_table`."""
    inner = stream_csv(_table_request(request))
    places = _columns_by_field(request, inner.head)
    fields, plan = _read_as_tokens(request, {name: inner.head.fields[column] for name, column in places.items()})

    def blocks(names: Sequence[str]) -> Iterator[RowBlock]:
        used = {name: places.get(name, places[TOKENS]) for name in names}
        for block in inner.blocks(tuple(dict.fromkeys(used.values()))):
            yield replace(block, arrays={name: block.arrays[column] for name, column in used.items()})

    files = (*inner.files, *request.others.values())
    head = Dataset("lines", request.path, fields, text=plan)
    return BlockSource(head, files, blocks, lambda: _fingerprints(request, inner.files))


def text_field(texts: Sequence[str], file: Path, row_numbers: Sequence[int]) -> Field:
    return Field(objects(texts), file, np.array(row_numbers, np.int64))


def fields_of_table(request: SourceRequest) -> dict[str, Field]:
    """The column `text` of a csv table, that of the label, and whatever else the program wants by name."""
    table = read_csv(_table_request(request))
    return {name: table.fields[column] for name, column in _columns_by_field(request, table).items()}


def _table_request(request: SourceRequest) -> SourceRequest:
    options = request.options
    kept = {name: value for name, value in options.values.items() if name in OF_TABLES}
    named = options.names_in("text", "label")
    return SourceRequest(request.path, SourceOptions(kept, options.place), request.wanted | named, named)


def _columns_by_field(request: SourceRequest, table: Dataset) -> dict[str, str]:
    """The column of each field. Raises DataError."""
    names = tuple(table.fields)
    found = {name: name for name in names if name in request.wanted}
    for field, option in ((LABEL, "label"), (TOKENS, "text")):
        for column in columns_at(request.options.columns(option)[:1], names, request.path):
            found[field] = column
    return found


def fields_of_files(request: SourceRequest) -> dict[str, Field]:
    """The texts of all files that fit the path, and their labels where the options say it."""
    options = request.options
    files = text_files(request.path, options)
    where = options.choice("label", ("first", "last"))
    whole = options.choice("each", ("line", "file")) == "file"
    parts = [_of_file(file, where, whole) for file in files]
    texts = [text for part, _, _ in parts for text in part]
    numbers = [number for _, _, part in parts for number in part]
    if not texts:
        raise DataError("there is no text in it", request.path, fix="check that this is the right file")
    place = files[0].path if len(files) == 1 else request.path
    if len(files) > 1:
        numbers = list(range(1, len(texts) + 1))
    of_rows = tuple(file.path for file, (part, _, _) in zip(files, parts, strict=True) for _ in part)
    text = text_field(texts, place, numbers)
    fields = {TOKENS: replace(text, files=of_rows) if whole or len(files) > 1 else text}
    if where is not None:
        fields[LABEL] = text_field([label for _, labels, _ in parts for label in labels], place, numbers)
    elif "labels" in request.others:
        fields[LABEL] = _labels(request.others["labels"], options, fields[TOKENS])
    elif "*" in str(request.path):
        stars = [file.star for file, (part, _, _) in zip(files, parts, strict=True) for _ in part]
        fields[LABEL] = text_field(stars, place, numbers)
    return fields


def _of_file(file: TextFile, where: str | None, whole: bool) -> tuple[list[str], list[str], list[int]]:
    """The texts of a file, their labels, and the lines on which they begin."""
    if whole:
        return [" ".join(file.text.split())], [], [1]
    texts: list[str] = []
    labels: list[str] = []
    numbers: list[int] = []
    for number, line in lines_of(file):
        if where is not None:
            label, line = _cut(NumberedText(file.path, number, line), where)
            labels.append(label)
        texts.append(line)
        numbers.append(number)
    return texts, labels, numbers


def _cut(line: NumberedText, where: str) -> tuple[str, str]:
    """The label with which a line begins or ends, and the rest."""
    cut = line.text.split(None, 1) if where == "first" else line.text.rsplit(None, 1)
    if len(cut) < 2:
        message = f"`{line.text[:40]}` is one word, and it should be a label and a text"
        raise DataError(message, line.file, line.number, "correct the line, or leave out the option `label`")
    label, text = cut if where == "first" else cut[::-1]
    return label.removeprefix("__label__"), text


def _labels(path: Path, options: SourceOptions, texts: Field) -> Field:
    file = TextFile(path, decoded(path, options.text("encoding") or "utf-8-sig"))
    found = lines_of(file)
    if len(found) != len(texts.values):
        raise _differing(path, texts.file, len(texts.values), len(found))
    return text_field([label for _, label in found], path, [number for number, _ in found])


def _synonyms(path: Path, options: SourceOptions) -> tuple[tuple[str, ...], ...]:
    """In each line a word, and those that may stand for it."""
    found = lines_of(TextFile(path, decoded(path, options.text("encoding") or "utf-8-sig")))
    short = next((number for number, line in found if len(line.split()) < 2), None)
    if short is not None:
        fix = "give a word and its synonyms in each line, with blanks between them"
        raise DataError("the line has a word without a synonym", path, short, fix)
    return tuple(tuple(line.split()) for _, line in found)


LINES = Format("lines", (), read_lines, stream_lines)


def read_text(request: SourceRequest) -> Dataset:
    """The texts of all files that fit the path, one behind the other. Raises DataError."""
    files = text_files(request.path, request.options)
    whole = "".join(file.text for file in files)
    if not whole.strip():
        raise DataError("there is no text in it", request.path, fix="check that this is the right file")
    field = text_field([whole], files[0].path if len(files) == 1 else request.path, [1])
    plan = TextPlan(rules_of(request.options, "char"), {TOKENS: Reading(TOKENS), NEXT: Reading(TOKENS)})
    prints = fingerprints(file.path for file in files)
    windows = WindowPlan(stride=request.options.number("stride"))
    fields = {TOKENS: field, NEXT: field}
    return Dataset("text", request.path, fields, text=plan, windows=windows, fingerprints=prints)


def stream_text(request: SourceRequest) -> BlockSource:
    """As `read_text`: each row is the next piece of the one text of all files. Raises DataError."""
    files = text_paths(request.path, request.options)
    paths = [file.path for file in files]
    rules = rules_of(request.options, "char")
    field = text_field([], paths[0] if len(paths) == 1 else request.path, [])
    plan = TextPlan(rules, {TOKENS: Reading(TOKENS), NEXT: Reading(TOKENS)})
    windows = WindowPlan(stride=request.options.number("stride"))

    def blocks(names: Sequence[str]) -> Iterator[RowBlock]:
        pieces = chain.from_iterable(map(text_pieces, files))
        for number, piece in enumerate(cut_between_words(pieces, may_cut=rules.unit == "char" and not rules.lower), 1):
            yield RowBlock(dict.fromkeys(names, objects([piece])), field.file, np.array([number]))

    head = Dataset("text", request.path, {TOKENS: field, NEXT: field}, text=plan, windows=windows)
    return BlockSource(head, tuple(paths), blocks, lambda: fingerprints(paths))


TEXT = Format("text", (), read_text, stream_text)


BYTES = 256


def rules_of(options: SourceOptions, usual: str) -> TokenRules:
    """The rules that the options say; `usual` is the unit where they say none. Raises DataError."""
    unit = options.choice("tokens", UNITS) or usual
    most = options.number("vocabulary")
    if most is not None and most <= len(SPECIAL):
        message = f"option `vocabulary` is {most}, and {len(SPECIAL)} tokens have a special meaning"
        raise DataError(message, options.place, fix="give the most tokens that the vocabulary may have")
    if unit == "bpe" and most is None:
        message = 'tokens of the unit "bpe" need the size of their vocabulary'
        raise DataError(message, options.place, fix="give one, such as `vocabulary = 8000`")
    if unit == "bpe" and most is not None and most < BYTES + len(SPECIAL):
        raise DataError(
            f"option `vocabulary` is {most}, and byte pairs have the {BYTES} bytes and {len(SPECIAL)} special tokens",
            options.place,
            fix=f"give at least {BYTES + len(SPECIAL)}, such as `vocabulary = 8000`",
        )
    return TokenRules(unit, options.flag("lower") or False, options.number("min_frequency") or 1, most)
