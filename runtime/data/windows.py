"""A series to the parts that a training or an evaluation needs.

Rows are windows: views of one resident array, cut into parts by their places in time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import NoReturn

import numpy as np

from compiler.errors.diagnostics import DataError
from compiler.errors.suggestions import quoted
from compiler.support.record import record
from runtime.data.arrays import columns_for
from runtime.data.cutting import split_steps
from runtime.data.dataset import Dataset, Field, columns_at
from runtime.data.matching import check_fields, match_fields
from runtime.data.part import LoadedData, Part, loaded_data
from runtime.data.preparation import Preparation, fitted, refuse_missing, tokenizers_of
from runtime.data.reading import read_dataset
from runtime.data.specs import Array, Cuts, DataSource, InputSpec, PartSource, dtype_of, row_shape
from runtime.data.text.rows import check_vocabulary, longest_row
from runtime.data.text.tokenizer import Tokenizer


@record
class PlacedWindows:
    """The windows of a part: they begin at the steps from `first` to `last`, `stride` apart.

    In training all move by up to `slack` from epoch to epoch, so that each step comes at every place.
    """

    first: int
    last: int
    stride: int
    slack: int


@record
class WindowForm:
    """`steps` belong to a window, of which the first `reach` may lie before the part to which the window belongs.

    `stride` is that of a training, `spread` that of other parts.
    """

    steps: int
    reach: int
    stride: int
    spread: int
    file: Path

    def placed(self, name: str, begin: int, end: int) -> PlacedWindows:
        """The windows that belong to the steps from `begin` to `end`. Raises DataError where there is none."""
        first, last = max(begin - self.reach, 0), end - self.steps
        if last < first:
            message = f"the {name} part has {end - begin} steps, and a window takes {self.steps}"
            raise DataError(message, self.file, fix="take shorter windows, a larger part or more data")
        is_training = name == "train"
        stride = self.stride if is_training else self.spread
        return PlacedWindows(first, last, stride, min(stride - 1, last - first) if is_training else 0)


@record
class Series:
    """`arrays`: each input and target [windows, …], window by window a step further on; no step is stored twice."""

    arrays: Mapping[str, Array]
    form: WindowForm

    def part(self, name: str, begin: int, end: int) -> Part:
        """The windows that belong to the steps from `begin` to `end`. Raises DataError where there is none."""
        found = self.form.placed(name, begin, end)
        rows = np.arange(found.first, found.last - found.slack + 1, found.stride, dtype=np.int64)
        return Part(self.arrays, rows, found.slack)


def _text_series(specs: Sequence[InputSpec], dataset: Dataset, numbers: Array, preparation: Preparation) -> Series:
    """Windows of the token `numbers` of a text; targets lie a token further on."""
    assert dataset.windows is not None
    arrays: dict[str, tuple[Array, int, int]] = {}
    for spec in specs:
        name = preparation.columns[spec.mask_of or spec.name][0]
        length = longest_row(spec)
        if spec.mask_of is not None:
            arrays[spec.name] = np.ones(len(numbers), np.bool_), 0, length
            continue
        tokenizer = preparation.tokenizers[preparation.readings[name].vocabulary]
        check_vocabulary(spec, tokenizer, dataset.fields[name])
        arrays[spec.name] = numbers.astype(dtype_of(spec), copy=False), int(name == "next"), length
    longest = max(length for _, _, length in arrays.values())
    return _series(arrays, 0, dataset.windows.stride or longest, longest, dataset.path)


def _table_series(specs: Sequence[InputSpec], dataset: Dataset, preparation: Preparation) -> Series:
    """Windows of the columns of a table: inputs take `length` steps, targets what comes after them."""
    steps = steps_of_table(specs, dataset.fields, preparation)
    places = table_windows(specs, dataset, preparation)
    found = {name: (steps[name], *place) for name, place in places.items()}
    plan = dataset.windows
    assert plan is not None
    return _series(found, reach_of(specs, places), plan.stride or 1, 1, dataset.path)


def steps_of_table(
    specs: Sequence[InputSpec], fields: Mapping[str, Field], preparation: Preparation
) -> dict[str, Array]:
    """What each input and target takes of every row of a series: a number, or one of each column. Raises DataError."""
    refuse_missing(preparation, fields, specs)
    found: dict[str, Array] = {}
    for spec in specs:
        steps = columns_for(spec, fields, preparation)
        found[spec.name] = np.ascontiguousarray(steps[:, 0]) if len(row_shape(spec)) < 2 else steps
    return found


def table_windows(specs: Sequence[InputSpec], dataset: Dataset, preparation: Preparation) -> dict[str, tuple[int, int]]:
    """At which step of a window each input and target begins, and how many it takes: 0 where it has no axis of time.

    Raises DataError.
    """
    plan = dataset.windows
    assert plan is not None
    length = plan.length or 1
    found: dict[str, tuple[int, int]] = {}
    for spec in specs:
        shape, width = row_shape(spec), len(preparation.columns[spec.name])
        count = length if not spec.is_target else shape[0] if shape else 1
        expected = [(count,)] * (width == 1) + [(count, width)] + [()] * (spec.is_target and width == 1)
        if shape not in expected:
            shown = ", ".join(str(extent) for extent in expected[0])
            raise DataError(
                f"`{spec.name}: {spec.type}` does not fit {count} steps of {quoted(preparation.columns[spec.name])}",
                dataset.path,
                fix=f"declare it as {spec.type.dtype.value}[batch, {shown}]",
            )
        ahead = max(plan.horizon or count, count)
        first = length + ahead - count if spec.is_target else 0
        found[spec.name] = first, 0 if shape == () else count
    return found


def reach_of(specs: Sequence[InputSpec], places: Mapping[str, tuple[int, int]]) -> int:
    """How many steps of a window lie before its targets, which may belong to the part before."""
    return min((places[spec.name][0] for spec in specs if spec.is_target), default=0)


def columns_of_series(dataset: Dataset, specs: Sequence[InputSpec]) -> dict[str, tuple[str, ...]]:
    """Which columns of a series feed what: a column of its name; else the option `target` or `columns`.

    Without them, an input takes all columns of numbers, and a target the only one. Raises DataError.
    """
    assert dataset.table is not None
    names = tuple(dataset.fields)
    numbers = tuple(name for name, field in dataset.fields.items() if not field.is_text)
    listed = {
        False: columns_at(dataset.table.columns, names, dataset.path) or numbers,
        True: columns_at(dataset.table.target, names, dataset.path) or numbers[: len(numbers) == 1],
    }
    found: dict[str, tuple[str, ...]] = {}
    for spec in specs:
        found[spec.name] = (spec.name,) if spec.name in names else listed[spec.is_target]
        if not found[spec.name]:
            option = "target" if spec.is_target else "columns"
            message = f"no column for `{spec.name}`: the series has {quoted(names)}"
            raise DataError(message, dataset.path, fix=f'say which it is, such as `{option} = "{names[-1]}"`')
    return found


def text_of(fields: Mapping[str, Field]) -> str:
    """The whole of a running text."""
    return str(next(iter(fields.values())).values[0])


def _series(found: Mapping[str, tuple[Array, int, int]], reach: int, stride: int, spread: int, file: Path) -> Series:
    """`found`: by input or target its steps, the step of a window at which it begins, and how many it takes.

    One that takes 0 has the value of a single step, without an axis of time.
    """
    steps = max(first + max(count, 1) for _, first, count in found.values())
    total = min(len(array) for array, _, _ in found.values())
    windows = max(total - steps + 1, 0)
    arrays = {name: windows_over(array, first, count, windows) for name, (array, first, count) in found.items()}
    return Series(arrays, WindowForm(steps, reach, stride, spread, file))


def windows_over(steps: Array, first: int, count: int, windows: int, stride: int = 1) -> Array:
    """So many windows, `stride` apart, as views [windows, count, …] of steps; without `count`, [windows, …]."""
    each, *rest = steps.strides
    begin = steps[first:] if windows else steps
    time = ((count,), (each,)) if count else ((), ())
    return np.lib.stride_tricks.as_strided(
        begin, (windows, *time[0], *steps.shape[1:]), (each * stride, *time[1], *rest), writeable=False
    )


def load_series(
    specs: Sequence[InputSpec], source: DataSource, dataset: Dataset, cuts: Cuts, known: Preparation | None
) -> LoadedData:
    """The first part of the series is for training, the last for the test. Raises DataError."""
    if cuts.oversample:
        refuse_classes(dataset.path)
    loaded = _table(specs, dataset, cuts) if dataset.text is None else _text(specs, dataset, cuts, known)
    series, preparation, borders = loaded
    train = series.part("train", 0, borders[0])

    def other_part(name: str, given: PartSource, begin: int, end: int) -> Part | None:
        if isinstance(given, DataSource):
            return series_part(specs, read_dataset(given, specs, preparation), preparation)
        return series.part(name, begin, end) if given else None

    validation = other_part("validation", cuts.validation, borders[0], borders[1])
    parts = train, validation, other_part("test", cuts.test, borders[1], borders[2])
    return loaded_data(dataset, source, parts, preparation, cuts.seed, dataset.notes)


def refuse_classes(path: Path) -> NoReturn:
    raise DataError("windows of a series have no classes", path, fix="leave out `oversample`", key="oversample")


def series_part(specs: Sequence[InputSpec], dataset: Dataset, preparation: Preparation) -> Part:
    """All windows of a further series, prepared as in the training. Raises DataError."""
    if dataset.text is not None:
        (tokenizer,) = preparation.tokenizers.values()
        (numbers,) = tokenizer.encode([text_of(dataset.fields)])
        part = _text_series(specs, dataset, numbers, preparation).part("whole", 0, len(numbers))
    else:
        further = further_preparation(specs, dataset, preparation)
        part = _table_series(specs, dataset, further).part("whole", 0, dataset.rows)
    return replace(part, fingerprints=dataset.fingerprints)


def tokenizers_of_series(dataset: Dataset, cuts: Cuts) -> dict[str, Tokenizer]:
    """The tokenizer of a running text, from its part for training."""
    assert dataset.text is not None
    values: Array = np.array(_texts(dataset, cuts)[:1], np.object_)
    fields = {name: Field(values, dataset.path) for name in dataset.text.readings}
    return tokenizers_of(dataset.text, fields, np.arange(1))


def _text(
    specs: Sequence[InputSpec], dataset: Dataset, cuts: Cuts, known: Preparation | None
) -> tuple[Series, Preparation, tuple[int, ...]]:
    """The windows of a running text, and the tokens at which its parts end."""
    assert dataset.text is not None
    columns = match_fields(dataset, [spec for spec in specs if spec.mask_of is None])
    tokenizers = tokenizers_of_series(dataset, cuts) if known is None else known.tokenizers
    preparation = Preparation(columns, tokenizers=tokenizers, readings=dataset.text.readings)
    (tokenizer,) = tokenizers.values()
    numbers = tokenizer.encode(_texts(dataset, cuts))
    series = _text_series(specs, dataset, np.concatenate(numbers), preparation)
    return series, preparation, tuple(accumulate(len(part) for part in numbers))


def _table(specs: Sequence[InputSpec], dataset: Dataset, cuts: Cuts) -> tuple[Series, Preparation, tuple[int, ...]]:
    """The windows of a table, and the rows at which its parts end."""
    table, preparation = dataset.table, table_preparation(specs, dataset)
    assert table is not None
    borders = (*split_steps(dataset.rows, cuts, dataset.path), dataset.rows)
    if table.normalise or table.missing == "mean":
        preparation = fitted(preparation, dataset.fields, specs, np.arange(borders[0]), table.normalise)
    return _table_series(specs, dataset, preparation), preparation, borders


def table_preparation(specs: Sequence[InputSpec], dataset: Dataset) -> Preparation:
    """Which columns of a series feed what, before anything is learnt from them. Raises DataError."""
    table = dataset.table
    assert table is not None
    if table.missing == "drop":
        fix = 'fill in the values, or give `missing = "mean"`'
        raise DataError("a series without the rows that miss a value has gaps", dataset.path, fix=fix)
    columns = columns_of_series(dataset, specs)
    return Preparation(columns, table=tuple(dataset.fields), missing=table.missing)


def further_preparation(specs: Sequence[InputSpec], dataset: Dataset, preparation: Preparation) -> Preparation:
    """That of a further series, whose columns are those of the training. Raises DataError."""
    columns = {spec.name: preparation.columns[spec.name] for spec in specs}
    check_fields(dataset, columns)
    return replace(preparation, columns=columns)


def _texts(dataset: Dataset, cuts: Cuts) -> list[str]:
    """A running text in its three parts, cut behind a blank where tokens are longer than a character."""
    text = text_of(dataset.fields)
    borders = list(split_steps(len(text), cuts, dataset.path))
    if dataset.text is not None and dataset.text.rules.unit != "char":
        borders = [_behind_blank(text, border) for border in borders]
    return [text[: borders[0]], text[borders[0] : borders[1]], text[borders[1] :]]


def _behind_blank(text: str, place: int) -> int:
    while place < len(text) and not text[place - 1].isspace():
        place += 1
    return place
