"""Texts block by block: lines, files and pairs. A block has a few megabytes at most, but for a single text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TypeVar

import numpy as np

from compiler.errors.diagnostics import DataError
from compiler.support.record import record
from runtime.data.dataset import BlockSource, Dataset, RowBlock
from runtime.data.formats.content import LONGEST_LINE
from runtime.data.specs import Array
from runtime.data.text.files import TextPath, line_pieces, text_pieces

_First = TypeVar("_First")
_Second = TypeVar("_Second")
_ROWS, _CHARACTERS = 1 << 10, 1 << 20  # of a block at most, but for a single text


@record
class NumberedText:
    """A line of a file with its number, or a file that is one text with its place among the files."""

    file: Path
    number: int
    text: str


def texts_of_files(files: Sequence[TextPath], place: Path, whole: bool) -> Iterator[tuple[TextPath, NumberedText]]:
    """The texts of all files: lines that are not blank, or where `whole` the files, which lie at a `place`."""
    for count, file in enumerate(files, 1):
        if whole:
            yield file, NumberedText(place, count, " ".join("".join(text_pieces(file)).split()))
            continue
        for number, line in numbered_lines(file):
            if line:
                yield file, NumberedText(file.path, number, line)


def numbered_lines(file: TextPath) -> Iterator[tuple[int, str]]:
    """All lines of a file, blank ones too, with their numbers."""
    for first, lines in line_pieces(file):
        yield from enumerate(lines, first)


def blocks_of_rows(rows: Iterable[tuple[NumberedText, Mapping[str, str]]], names: Sequence[str]) -> Iterator[RowBlock]:
    """Texts by field to blocks, each of one file, with the fields of some names."""
    kept: list[tuple[NumberedText, Mapping[str, str]]] = []
    characters = 0
    for row in rows:
        if kept and (row[0].file != kept[0][0].file or len(kept) == _ROWS or characters > _CHARACTERS):
            yield _block(kept, names)
            kept, characters = [], 0
        kept.append(row)
        characters += sum(map(len, row[1].values()))
    if kept:
        yield _block(kept, names)


def _block(rows: Sequence[tuple[NumberedText, Mapping[str, str]]], names: Sequence[str]) -> RowBlock:
    numbers = np.array([text.number for text, _ in rows], np.int64)
    arrays = {name: objects([cells[name] for _, cells in rows]) for name in names}
    return RowBlock(arrays, rows[0][0].file, numbers)


def objects(texts: Sequence[str]) -> Array:
    values: Array = np.empty(len(texts), np.object_)
    values[:] = texts
    return values


def source_of_texts(
    head: Dataset,
    files: Sequence[Path],
    rows: Callable[[], Iterator[tuple[NumberedText, Mapping[str, str]]]],
    prints: Callable[[], Mapping[str, str]],
) -> BlockSource:
    """A source whose `rows` are texts by field."""

    def blocks(names: Sequence[str]) -> Iterator[RowBlock]:
        yield from blocks_of_rows(rows(), names)

    return BlockSource(head, tuple(files), blocks, prints)


def cut_between_words(pieces: Iterable[str], may_cut: bool) -> Iterator[str]:
    """A text in other pieces, which end before a blank behind a letter or mark: no token lies in two of them.

    Where it `may_cut` words, the pieces stay as they are. Raises DataError for a word of millions of letters.
    """
    rest = ""
    for piece in pieces:
        if may_cut:
            yield piece
            continue
        rest += piece
        end = _last_end_of_word(rest)
        if end:
            yield rest[:end]
            rest = rest[end:]
        elif len(rest) > LONGEST_LINE:
            message = f"a word of more than {LONGEST_LINE:,} characters: `{rest[:20]}…`"
            raise DataError(message, fix='give `tokens = "char"`, or blanks between words')
    if rest:
        yield rest


def _last_end_of_word(text: str) -> int:
    """The last place behind the end of a word and before a blank or the end of a line; 0 without one."""
    end = max(text.rfind(" "), text.rfind("\n"))
    while end > 0 and text[end - 1].isspace():
        end = max(text.rfind(" ", 0, end), text.rfind("\n", 0, end))
    return max(end, 0)


def side_by_side(
    texts: Iterator[_First], others: Iterator[_Second], differing: Callable[[int, int], DataError]
) -> Iterator[tuple[_First, _Second]]:
    """What stands at the same places; `differing` is the error where one has more, by how many both have."""
    for count, (text, other) in enumerate(zip_longest(texts, others)):
        if text is None or other is None:
            has_text, has_other = count + (text is not None), count + (other is not None)
            raise differing(has_text + sum(1 for _ in texts), has_other + sum(1 for _ in others))
        yield text, other
