"""A series to the parts that a training or an evaluation needs: windows, cut by their places in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

import numpy as np

from compiler.errors.diagnostics import DataError
from runtime.data.batching import split_steps
from runtime.data.dataset import Dataset, Field
from runtime.data.fitting import fitted, refuse_missing, tokenizers_of
from runtime.data.loaded import LoadedData, fraction_of, summary_of
from runtime.data.matching import check_fields, match_fields
from runtime.data.part import Part
from runtime.data.preparation import Preparation
from runtime.data.reading import read_dataset
from runtime.data.specs import Array, Cuts, DataSource, InputSpec
from runtime.data.text.tokenizer import Tokenizer
from runtime.data.windows import Series, columns_of_series, table_series, text_of, text_series


def load_series(
    specs: Sequence[InputSpec], source: DataSource, dataset: Dataset, cuts: Cuts, known: Preparation | None
) -> LoadedData:
    """The first part of the series is for training, the last for the test. Raises DataError."""
    loaded = _table(specs, dataset, cuts) if dataset.text is None else _text(specs, dataset, cuts, known)
    series, preparation, borders = loaded
    train = series.part("train", 0, borders[0])
    parts: dict[str, Part | None] = {"train": train}
    for name, given, begin, end in (
        ("validation", cuts.validation, borders[0], borders[1]),
        ("test", cuts.test, borders[1], borders[2]),
    ):
        if isinstance(given, DataSource):
            parts[name] = series_part(specs, read_dataset(given, specs, preparation), preparation)
        else:
            parts[name] = series.part(name, begin, end) if given else None
    summary = summary_of(dataset, source, parts, preparation, cuts.seed, dataset.notes)
    return LoadedData(train, parts["validation"], parts["test"], preparation, summary, dataset.notes)


def series_part(specs: Sequence[InputSpec], dataset: Dataset, preparation: Preparation) -> Part:
    """All windows of a further series, prepared as in the training. Raises DataError."""
    if dataset.text is not None:
        (tokenizer,) = preparation.tokenizers.values()
        (numbers,) = tokenizer.encode([text_of(dataset.fields)])
        return _text_series(specs, dataset, numbers, preparation).part("whole", 0, len(numbers))
    columns = {spec.name: preparation.columns[spec.name] for spec in specs}
    check_fields(dataset, columns)
    return _table_series(specs, dataset, replace(preparation, columns=columns)).part("whole", 0, dataset.rows)


def plain_series(specs: Sequence[InputSpec], dataset: Dataset) -> Preparation:
    """How a table is a series where nothing was learnt from that of a training. Raises DataError."""
    return Preparation(columns_of_series(dataset, specs), table=tuple(dataset.fields))


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
    table = dataset.table
    assert table is not None
    if table.missing == "drop":
        fix = 'fill in the values, or give `missing = "mean"`'
        raise DataError("a series without the rows that miss a value has gaps", dataset.path, fix=fix)
    columns = columns_of_series(dataset, specs)
    preparation = Preparation(columns, table=tuple(dataset.fields), missing=table.missing)
    borders = (*split_steps(dataset.rows, *_shares(cuts), dataset.path), dataset.rows)
    if table.normalise or table.missing == "mean":
        preparation = fitted(preparation, dataset.fields, specs, np.arange(borders[0]), table.normalise)
    return _table_series(specs, dataset, preparation), preparation, borders


def _texts(dataset: Dataset, cuts: Cuts) -> list[str]:
    """A running text in its three parts, cut behind a blank where tokens are longer than a character."""
    text = text_of(dataset.fields)
    borders = list(split_steps(len(text), *_shares(cuts), dataset.path))
    if dataset.text is not None and dataset.text.rules.unit != "char":
        borders = [_behind_blank(text, border) for border in borders]
    return [text[: borders[0]], text[borders[0] : borders[1]], text[borders[1] :]]


def _shares(cuts: Cuts) -> tuple[float, float]:
    return fraction_of(cuts.validation), fraction_of(cuts.test)


def _behind_blank(text: str, place: int) -> int:
    while place < len(text) and not text[place - 1].isspace():
        place += 1
    return place


def _text_series(specs: Sequence[InputSpec], dataset: Dataset, numbers: Array, preparation: Preparation) -> Series:
    assert dataset.windows is not None
    return text_series(specs, dataset, numbers, preparation, dataset.windows)


def _table_series(specs: Sequence[InputSpec], dataset: Dataset, preparation: Preparation) -> Series:
    assert dataset.windows is not None
    refuse_missing(preparation, dataset.fields, specs)
    return table_series(specs, dataset, preparation, dataset.windows)
