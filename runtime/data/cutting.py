"""The rows of a dataset cut into the parts for training, validation and test. The cut follows from a seed alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from compiler.errors.diagnostics import DataError
from compiler.support.record import record
from runtime.data.conditions import read_condition
from runtime.data.dataset import Dataset, columns_at
from runtime.data.orders import oversampling_order, split_order
from runtime.data.specs import Array, Cut, Cuts, Fold


@record
class PartRows:
    """Row indices (i64, ascending) of each part; a part that was not asked for is empty."""

    train: Array
    validation: Array
    test: Array


def columns_of_cuts(cuts: Cuts) -> tuple[str, ...]:
    """The columns by which the data is cut."""
    found = [cuts.oversample] if cuts.oversample else []
    for key, cut in named_cuts(cuts):
        found += [cut.by] if cut.by else []
        found += read_condition(cut.condition, key).columns.values() if cut.way == "where" else []
    return tuple(dict.fromkeys(found))


def split_rows(dataset: Dataset, cuts: Cuts, target: str = "") -> PartRows:
    """Cut the rows of a dataset: test first, then validation from what is left; the rest is for training.

    Shares are fractions of all rows, but folds are parts of what the test leaves. `target` is the column by which
    shares are stratified where none is named. Raises DataError.
    """
    by_key = dict(named_cuts(cuts))
    chosen = {key: _rows_where(dataset, key, cut) for key, cut in by_key.items() if cut.way == "where"}
    if len(chosen) == 2 and len(both := np.intersect1d(chosen["validation"], chosen["test"])):
        message = f"`validation` and `test` both take row {_row_number(dataset, int(both[0]))}"
        more = f", and {len(both) - 1} more" if len(both) > 1 else ""
        raise DataError(message + more, dataset.path, fix="change one of the conditions", key="validation")
    taken = np.zeros(dataset.rows, np.bool_)
    for rows in chosen.values():
        taken[rows] = True
    for key in ("test", "validation"):
        cut = by_key.get(key)
        if cut is None or cut.way == "where":
            continue
        order = split_order(dataset.rows, cuts.seed)
        chosen[key] = _share(dataset, key, cut, order[~taken[order]], target)
        taken[chosen[key]] = True
    refuse_all({name: len(rows) for name, rows in chosen.items()}, dataset.rows, "row", dataset.path)
    nothing = np.zeros(0, np.int64)
    parts = (np.sort(chosen.get(key, nothing)) for key in ("validation", "test"))
    return PartRows(np.flatnonzero(~taken).astype(np.int64), *parts)


def oversampled(dataset: Dataset, column: str, rows: Array, seed: int) -> tuple[Array, str]:
    """The rows to train on, those of rarer values of a column again until all have as many; and a remark on that.

    Rows of a value are taken equally often, but for a rest, which is chosen at random. Raises DataError.
    """
    values, codes, counts = np.unique(
        _column(dataset, "oversample", column)[rows], return_inverse=True, return_counts=True
    )
    if len(values) == len(rows) > 1:
        message = f"`{column}` has another value in every row to train on, and none is rarer than others"
        raise DataError(message, dataset.path, fix='name a column of classes: `oversample = "class"`', key="oversample")
    most, found = int(counts.max()), list[Array]()
    for code, count in enumerate(counts.tolist()):
        own = rows[codes == code]
        rest = own[oversampling_order(count, seed)[: most % count]]
        found += [*([own] * (most // count)), rest]
    told = ", ".join(f"{value} {count}" for value, count in zip(values[:5], counts.tolist()[:5], strict=True))
    more = f" and {len(values) - 5} more values" if len(values) > 5 else ""
    return np.sort(np.concatenate(found)), f"`oversample`: {most} rows of each `{column}` ({told}{more})"


def named_cuts(cuts: Cuts) -> Iterator[tuple[str, Cut]]:
    for key, cut in zip(("validation", "test"), cuts.of_data, strict=True):
        if cut is not None:
            yield key, cut


def _rows_where(dataset: Dataset, key: str, cut: Cut) -> Array:
    found = np.flatnonzero(read_condition(cut.condition, key).mask(dataset.fields)).astype(np.int64)
    if len(found) == 0:
        raise DataError(f"no row satisfies `{cut.condition}`", dataset.path, fix="change the condition", key=key)
    return found


def _share(dataset: Dataset, key: str, cut: Cut, order: Array, target: str) -> Array:
    """The rows of a share, among those that no other part has, which come in random `order`."""
    if isinstance(cut.share, Fold):
        return _fold(dataset, key, cut, order, cut.share, target)
    count = rows_of_share(cut.share, dataset.rows, "row", key, dataset.path)
    if count >= len(order):
        other = "test" if key == "validation" else "validation"
        refuse_all({key: count, other: dataset.rows - len(order)}, dataset.rows, "row", dataset.path)
    match cut.way:
        case "stratified":
            return _by_strata(_strata(dataset, key, cut.by or target), order)[:count]
        case "grouped":
            return _whole_groups(_column(dataset, key, cut.by), order, count)
        case "latest":
            return _by_time(dataset, key, cut.by, order)[len(order) - count :]
        case _:
            return order[:count]


def _fold(dataset: Dataset, key: str, cut: Cut, order: Array, fold: Fold, target: str) -> Array:
    if fold.count > len(order):
        message = f"{fold.count} folds of {len(order)} rows leave some without a row"
        raise DataError(message, dataset.path, fix="take fewer folds", key=key)
    if cut.way == "grouped":
        values = _column(dataset, key, cut.by)
        folds = _folds_of_groups(values[order], fold.count)
        if folds.max(initial=0) < fold.count - 1:
            message = f"`{cut.by}` has {folds.max(initial=-1) + 1} values, which are fewer than {fold.count} folds"
            raise DataError(message, dataset.path, fix="take fewer folds", key=key)
        return order[folds == fold.number - 1]
    if cut.way == "stratified":
        order = _by_strata(_strata(dataset, key, cut.by or target), order)
    first, last = (len(order) * number // fold.count for number in (fold.number - 1, fold.number))
    return order[first:last]


def _by_strata(values: Array, order: Array) -> Array:
    """The order in which each value is spread evenly: any stretch of it has all values in their shares.

    Row i of n with one value stands at (i + 1/2) / n.
    """
    _, codes, counts = np.unique(values[order], return_inverse=True, return_counts=True)
    by_value = np.argsort(codes, kind="stable")
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    place = np.empty(len(order), np.int64)
    place[by_value] = np.arange(len(order)) - np.repeat(starts, counts)
    key = (2 * place + 1) / (2 * counts[codes])
    return order[np.argsort(key, kind="stable")]


def _whole_groups(values: Array, order: Array, count: int) -> Array:
    """The rows of groups, in the order in which they first occur, as long as these come nearer to `count`."""
    _, first, codes, sizes = np.unique(values[order], return_index=True, return_inverse=True, return_counts=True)
    taken, chosen = 0, np.zeros(len(sizes), np.bool_)
    for group in np.argsort(first, kind="stable"):
        if abs(taken + int(sizes[group]) - count) < abs(taken - count):
            taken += int(sizes[group])
            chosen[group] = True
    return order[chosen[codes]]


def _folds_of_groups(values: Array, count: int) -> Array:
    """The fold of each row, where rows of one value share a fold: the largest group goes to the smallest fold."""
    _, first, codes, sizes = np.unique(values, return_index=True, return_inverse=True, return_counts=True)
    filled = np.zeros(count, np.int64)
    folds = np.zeros(len(sizes), np.int64)
    for group in np.lexsort((first, -sizes)):
        folds[group] = np.argmin(filled)
        filled[folds[group]] += sizes[group]
    return folds[codes]


def _by_time(dataset: Dataset, key: str, by: str, order: Array) -> Array:
    """Rows from the earliest to the latest: by the values of a column, equal ones and all without one by row."""
    rows = np.sort(order)
    return rows[np.argsort(_column(dataset, key, by)[rows], kind="stable")] if by else rows


def _strata(dataset: Dataset, key: str, name: str) -> Array:
    """The values of a column that repeat."""
    fix = 'name a column of classes: `stratified(0.2, by = "class")`'
    if not name:
        message = f"`{key}` is stratified, and no single target says by which column"
        raise DataError(message, dataset.path, fix=fix, key=key)
    values = _column(dataset, key, name)
    if len(values) > 1 and len(np.unique(values)) == len(values):
        message = f"`{name}` has another value in every row, so that no share of each can be taken"
        raise DataError(message, dataset.path, fix=fix, key=key)
    return values


def _column(dataset: Dataset, key: str, name: str) -> Array:
    """The values of a column, none of which may be missing."""
    (name,) = columns_at((name,), tuple(dataset.fields), dataset.path)
    field = dataset.fields[name]
    values = field.values.astype(np.str_) if field.values.dtype.kind == "O" else field.values
    if values.ndim != 1:
        message = f"`{name}` holds {list(values.shape[1:])} numbers a row, and rows are cut by one"
        raise DataError(message, dataset.path, fix="name a column of single values", key=key)
    gaps = values == "" if field.is_text else np.isnan(values) if values.dtype.kind == "f" else np.zeros(1, np.bool_)
    if gaps.any():
        row = int(np.argmax(gaps))
        message = f"column `{name}`, by which rows are cut, has no value"
        raise DataError(message, field.file_of(row), field.row_number(row), "fill in the value")
    return values


def _row_number(dataset: Dataset, row: int) -> int:
    return next(iter(dataset.fields.values())).row_number(row)


def split_steps(steps: int, cuts: Cuts, file: Path) -> tuple[int, int]:
    """Where in a series of so many steps the validation part begins, and where the test part. Raises DataError.

    The training part comes first, as the past of what it shall tell.
    """
    counts = {"validation": 0, "test": 0}
    for key, cut in named_cuts(cuts):
        if isinstance(cut.share, Fold) or cut.way not in ("random", "latest") or cut.by:
            message = f"`{key} = {cut}`: a series is cut in its order, the test behind the validation"
            raise DataError(message, file, fix="give a fraction", key=key)
        counts[key] = rows_of_share(cut.share, steps, "step", key, file)
    refuse_all(counts, steps, "step", file)
    return steps - counts["test"] - counts["validation"], steps - counts["test"]


def rows_of_share(fraction: float, whole: int, noun: str, key: str, file: Path) -> int:
    """How many rows or steps a fraction is. Raises DataError."""
    if not 0 <= fraction < 1:
        message = f"`{key} = {fraction}` is no fraction of the {noun}s"
        raise DataError(message, file, fix="give one from 0 to 1", key=key)
    count = round(whole * fraction)
    if fraction > 0 and count == 0:
        message = f"`{key} = {fraction}` of {whole} {noun}s is no {noun}"
        raise DataError(message, file, fix="take a larger fraction or more data", key=key)
    return count


def refuse_all(counts: dict[str, int], whole: int, noun: str, file: Path) -> None:
    if sum(counts.values()) >= whole:
        validation, test = counts.get("validation", 0), counts.get("test", 0)
        message = f"of {whole} {noun}s, {validation} for validation and {test} for the test leave none to train on"
        key = "validation" if validation >= test else "test"
        raise DataError(message, file, fix="take smaller fractions or more data", key=key)
