"""Which rows of a source that stays on disk belong to which part: the same as `split_rows` chooses in memory.

Random shares are found by the word at which they end, and conditions block by block. What needs the order of all rows,
as strata and groups do, is done in memory by the columns that say it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from compiler.errors.diagnostics import DataError, size
from runtime.data.conditions import read_condition
from runtime.data.cutting import named_cuts, refuse_all, rows_of_share, split_rows
from runtime.data.dataset import Dataset, Field
from runtime.data.orders import words_of_split
from runtime.data.specs import Array, Cut, Cuts, Fold

TRAIN, VALIDATION, TEST = range(3)
CODES = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
"""The code of each part, among those of rows."""

_AT_ONCE = 1 << 18
_BYTES_OF_A_ROW = 64  # that a cut in memory takes for the orders of all rows
_DIGITS, _DIGIT = 4, 16

FieldBlocks = Callable[[], Iterator[tuple[int, Mapping[str, Field]]]]
"""The blocks of the columns by which rows are cut, each with its first row."""


def part_codes(head: Dataset, rows: int, blocks: FieldBlocks, cuts: Cuts, target: str, room: int) -> Array:
    """The code (u8) of each row's part. `room`: the bytes of a block, which a cut in memory may take.

    Raises DataError.
    """
    named = dict(named_cuts(cuts))
    if any(not _is_by_blocks(cut) for cut in named.values()):
        expect_room_of_cut(head, rows, room, next(key for key, cut in named.items() if not _is_by_blocks(cut)))
        return _in_memory(head, rows, blocks, cuts, target)
    codes: Array = np.zeros(rows, np.uint8)
    for key in (key for key, cut in named.items() if cut.way == "where"):
        _mark_where(head, codes, blocks, key, named[key])
    for key in ("test", "validation"):
        if key in named and named[key].way != "where":
            _mark_share(head, codes, named[key], key, cuts.seed)
    counts = np.bincount(codes, minlength=3)
    refuse_all({key: int(counts[CODES[key]]) for key in named}, rows, "row", head.path)
    return codes


def _is_by_blocks(cut: Cut) -> bool:
    return cut.way in ("where", "random") or (cut.way == "latest" and not cut.by and not isinstance(cut.share, Fold))


def expect_room_of_cut(head: Dataset, rows: int, room: int, key: str) -> None:
    """Raise DataError where a cut that takes all rows in memory takes more than a block."""
    needed = _BYTES_OF_A_ROW * rows
    if needed > room:
        message = f"this cut puts all {rows:,} rows in order, which takes {size(needed)}, and a block has {size(room)}"
        fix = f"take a share at random (`{key} = 0.1`), a condition (`where(…)`), or a larger `stream`"
        if key == "oversample":
            fix = "weigh classes in the loss, by `balanced(…)`; or take a larger `stream`"
        raise DataError(message, head.path, fix=fix, key=key)


def _in_memory(head: Dataset, rows: int, blocks: FieldBlocks, cuts: Cuts, target: str) -> Array:
    split = split_rows(in_memory(head, [fields for _, fields in blocks()]), cuts, target)
    codes: Array = np.zeros(rows, np.uint8)
    codes[split.validation], codes[split.test] = VALIDATION, TEST
    return codes


def in_memory(head: Dataset, blocks: Sequence[Mapping[str, Field]]) -> Dataset:
    """Some columns of all blocks."""
    joined = {name: _joined([fields[name] for fields in blocks]) for name in blocks[0]}
    return Dataset(head.format, head.path, joined)


def _joined(fields: Sequence[Field]) -> Field:
    """A column of all blocks, whose rows know their file and their number in it."""
    numbers = [field.numbers for field in fields]
    origin = np.repeat(np.arange(len(fields), dtype=np.int32), [len(part) for part in numbers])
    values = np.concatenate([field.values for field in fields])
    files = tuple(field.file for field in fields)
    return Field(values, files[0], np.concatenate(numbers), origin=origin, origins=files)


def _mark_where(head: Dataset, codes: Array, blocks: FieldBlocks, key: str, cut: Cut) -> None:
    condition, found = read_condition(cut.condition, key), 0
    for first, fields in blocks():
        mask = condition.mask(fields)
        part = codes[first : first + len(mask)]
        both = mask & (part != TRAIN)
        if both.any():
            field = next(iter(fields.values()))
            row = int(np.argmax(both))
            message = f"`validation` and `test` both take row {field.row_number(row)}"
            raise DataError(message, field.file, fix="change one of the conditions", key="validation")
        part[mask] = CODES[key]
        found += int(mask.sum())
    if not found:
        raise DataError(f"no row satisfies `{cut.condition}`", head.path, fix="change the condition", key=key)


def _mark_share(head: Dataset, codes: Array, cut: Cut, key: str, seed: int) -> None:
    left = int((codes == TRAIN).sum())
    if isinstance(cut.share, Fold):
        if cut.share.count > left:
            message = f"{cut.share.count} folds of {left} rows leave some without a row"
            raise DataError(message, head.path, fix="take fewer folds", key=key)
        first, last = (left * number // cut.share.count for number in (cut.share.number - 1, cut.share.number))
    else:
        first, last = 0, rows_of_share(cut.share, len(codes), "row", key, head.path)
        if last >= left:
            other = "test" if key == "validation" else "validation"
            refuse_all({key: last, other: len(codes) - left}, len(codes), "row", head.path)
    if cut.way == "latest":
        codes[np.flatnonzero(codes == TRAIN)[left - last :]] = CODES[key]
        return
    chosen = _first_in_order(codes, seed, last)
    if first:
        chosen ^= _first_in_order(codes, seed, first)
    codes[chosen] = CODES[key]


def _first_in_order(codes: Array, seed: int, count: int) -> Array:
    """Which of the rows without a part are the first so many of `split_order`: those of the smallest words."""
    chosen: Array = np.zeros(len(codes), np.bool_)
    if not count:
        return chosen
    last, before = _word_at(codes, seed, count - 1)
    for first, words in _words(codes, seed):
        free = codes[first : first + len(words)] == TRAIN
        part = free & (words < last)
        equal = np.flatnonzero(free & (words == last))[: count - before]  # equal words come by row
        part[equal] = True
        before += len(equal)
        chosen[first : first + len(words)] = part
    return chosen


def _word_at(codes: Array, seed: int, place: int) -> tuple[np.uint64, int]:
    """The word at a place of the order of rows without a part, found digit by digit, and how many are smaller."""
    prefix, before = 0, 0
    for digit in range(_DIGITS):
        counts = np.zeros(1 << _DIGIT, np.int64)
        low = _DIGIT * (_DIGITS - 1 - digit)
        for first, words in _words(codes, seed):
            free = words[codes[first : first + len(words)] == TRAIN]
            free = free[free >> np.uint64(low + _DIGIT) == prefix] if digit else free
            digits = ((free >> np.uint64(low)) & np.uint64((1 << _DIGIT) - 1)).astype(np.int64)
            counts += np.bincount(digits, minlength=1 << _DIGIT)
        ends = np.cumsum(counts)
        found = int(np.searchsorted(ends, place - before, side="right"))
        before += int(ends[found] - counts[found])
        prefix = prefix << _DIGIT | found
    return np.uint64(prefix), before


def _words(codes: Array, seed: int) -> Iterator[tuple[int, Array]]:
    first = 0
    for words in words_of_split(seed, len(codes), _AT_ONCE):
        yield first, words
        first += len(words)
