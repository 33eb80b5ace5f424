"""Data sources to arrays: the parts that a training or an evaluation needs, and the rows of a prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from compiler.errors.diagnostics import DataError, Source, Span
from compiler.errors.suggestions import quoted
from compiler.support.record import record
from runtime.data.arrays import array_for, array_in_columns
from runtime.data.batching import PartRows, split_rows
from runtime.data.dataset import Dataset, Field, TableOptions
from runtime.data.fitting import fitted, refuse_missing, rows_without_gaps, tokenizers_of, vocabularies_of
from runtime.data.formats.format import SourceOptions, SourceRequest
from runtime.data.formats.formats import format_of
from runtime.data.formats.lines import OF_TABLES, TOKENS, fields_of_files, fields_of_table
from runtime.data.formats.pairs import SOURCE, TARGET
from runtime.data.loaded import LoadedData, LoadedPart, fraction_of, summary_of
from runtime.data.matching import check_fields, match_fields
from runtime.data.part import Part, RowNames
from runtime.data.preparation import Preparation
from runtime.data.reading import read_dataset
from runtime.data.series_loading import load_series, plain_series, series_part, tokenizers_of_series
from runtime.data.specs import Array, Cuts, DataSource, InputSpec, SettingValue
from runtime.data.text.rows import TextRows, without_texts
from runtime.data.text.tokenizer import PAD, Tokenizer
from runtime.data.unprepared import inputs_alone, refuse_numbered, refuse_unprepared, unprepared

# Options of the training that hold for rows to be predicted, too.
_KEPT = {"csv": ("separator", "window"), "images": ("size", "channels", "fit")}


@record
class _Prepared:
    """One source, with rows left out that miss values, and what was learnt from it."""

    dataset: Dataset
    preparation: Preparation
    notes: tuple[str, ...]


def load_training_data(
    specs: Sequence[InputSpec],
    data: DataSource,
    validation: float | DataSource | None,
    test: float | DataSource | None,
    seed: int,
    known: Preparation | None = None,
) -> LoadedData:
    """Read `data`, cut off fractions, fit the preparation on what remains, and read the other sources.

    Without `test`, the test part is the one that the format sets aside, if any. The tokenizers are those of `known`,
    where a training goes on. Raises DataError.
    """
    dataset = read_dataset(data, specs)
    if dataset.windows is not None:
        return load_series(specs, data, dataset, Cuts(validation, test, seed), known)
    prepared = _prepared(specs, dataset)
    dataset = prepared.dataset
    split = split_rows(dataset.rows, fraction_of(validation), fraction_of(test), seed, dataset.path)
    preparation = _fitted(specs, prepared, split, known)
    notes = list(prepared.notes)
    arrays = _arrays(specs, dataset.fields, preparation, notes)
    names = _row_names(specs, dataset.fields, preparation)
    train = Part(arrays, split.train, lengths=_lengths(dataset, arrays), names=names)
    official = None
    if dataset.test is not None and test is None:
        official = _everything(specs, dataset.test, preparation, notes)
    elif dataset.test is not None:
        notes.append(f"{dataset.path.name}: its own test part is not used, because the program names another")
    parts = {
        "train": train,
        "validation": _other_part(specs, train, split.validation, validation, preparation, notes),
        "test": official or _other_part(specs, train, split.test, test, preparation, notes),
    }
    summary = summary_of(dataset, data, parts, preparation, seed, notes)
    most = 0 if dataset.text is None else dataset.text.buckets
    notes = list(dict.fromkeys(notes))
    return LoadedData(train, parts["validation"], parts["test"], preparation, summary, tuple(notes), most)


def learnt_tokenizers(dataset: Dataset, cuts: Cuts) -> Mapping[str, Tokenizer]:
    """The tokenizers that a training with these cuts takes from its part of the texts."""
    assert dataset.text is not None
    if dataset.windows is not None:
        return tokenizers_of_series(dataset, cuts)
    shares = fraction_of(cuts.validation), fraction_of(cuts.test)
    split = split_rows(dataset.rows, *shares, cuts.seed, dataset.path)
    return tokenizers_of(dataset.text, dataset.fields, split.train)


def load_evaluation_data(specs: Sequence[InputSpec], source: DataSource, preparation: Preparation) -> LoadedPart:
    """All rows of a source, or the test part where its format has one, prepared as in the training."""
    notes: list[str] = []
    return LoadedPart(_evaluation_part(specs, source, preparation, notes), tuple(dict.fromkeys(notes)))


def load_rows(
    path: Path, specs: Sequence[InputSpec], preparation: Preparation | None, options: Mapping[str, SettingValue]
) -> LoadedPart:
    """The inputs in a file for a prediction; targets in it are passed over.

    `preparation` and `options` are those of the training, as far as there was one. Raises DataError, and UsageError
    where the preparation of the training is missing and needed.
    """
    inputs = [spec for spec in specs if not spec.is_target]
    if preparation is None:
        refuse_unprepared(path, options)
        refuse_numbered(path, specs, options)
    if preparation is not None and preparation.readings and not path.name.endswith((".npz", ".npy")):
        return _load_texts(path, inputs, preparation, options)
    known = format_of(path)
    kept = {name: options[name] for name in _KEPT.get(known.name, ()) if name in options}
    if known.name == "csv" and preparation is not None and not preparation.table:
        kept = {}  # the training's data was no table
    span = Span(Source("--input", ""), 1, 1, 1, 1)
    source = DataSource(known.name, str(path.absolute()), (), span)
    dataset = read_dataset(source, inputs, preparation, kept, is_training=False)
    if dataset.format in ("idx", "images") and len(inputs) == 1 and len(dataset.fields) == 1:
        dataset = replace(dataset, fields={inputs[0].name: next(iter(dataset.fields.values()))})
    fields, rows = (dataset.test, dataset.test_rows) if dataset.test is not None else (dataset.fields, dataset.rows)
    dataset = replace(dataset, fields=fields, rows=rows)
    if preparation is None:
        dataset = inputs_alone(dataset, specs, options)
    notes = list(dataset.notes)
    if dataset.windows is not None:
        return LoadedPart(series_part(inputs, dataset, preparation or plain_series(inputs, dataset)), tuple(notes))
    if preparation is None and not _matched(inputs, dataset).is_plain:
        raise unprepared(path)
    part = _part_like_training(inputs, dataset, preparation, notes, may_drop=False)
    files = next((field.files for field in fields.values() if field.files), ())
    return LoadedPart(part, tuple(dict.fromkeys(notes)), files)


def _load_texts(
    path: Path, inputs: Sequence[InputSpec], preparation: Preparation, options: Mapping[str, SettingValue]
) -> LoadedPart:
    """The texts of the input that takes texts: lines, or files, or the cells of a column, as in the training.

    Of a model of pairs, each line holds both. Raises DataError.
    """
    names = {n for spec in inputs if spec.mask_of is None for n in preparation.columns[spec.name]}
    if names == {SOURCE, TARGET}:
        return _load_pairs(path, inputs, preparation, options)
    if len(names) != 1:
        message = f"the model takes {quoted(sorted(names))}, and a file of lines gives one of them"
        raise DataError(message, path, fix="give an npz file with an array for each input")
    is_table = "text" in options and path.name.lower().removesuffix(".gz").endswith((".csv", ".tsv"))
    field = _texts_of_table(path, options) if is_table else _texts_of_files(path, options)
    notes: list[str] = []
    return LoadedPart(_everything(inputs, dict.fromkeys(names, field), preparation, notes), tuple(notes), field.files)


def _texts_of_table(path: Path, options: Mapping[str, SettingValue]) -> Field:
    """The column that held the texts in the training data."""
    kept = {name: options[name] for name in ("text", *OF_TABLES) if name in options}
    return fields_of_table(SourceRequest(path, SourceOptions(kept), frozenset()))[TOKENS]


def _texts_of_files(path: Path, options: Mapping[str, SettingValue]) -> Field:
    kept = {name: options[name] for name in ("encoding", "each") if name in options}
    return fields_of_files(SourceRequest(path, SourceOptions(kept), frozenset()))[TOKENS]


def _load_pairs(
    path: Path, inputs: Sequence[InputSpec], preparation: Preparation, options: Mapping[str, SettingValue]
) -> LoadedPart:
    """Both texts of each line of a file, cut as in the training, or else by a tab. Raises DataError."""
    kept = {name: options[name] for name in ("encoding", "separator") if name in options}
    source = DataSource("pairs", str(path.absolute()), (), Span(Source("--input", ""), 1, 1, 1, 1))
    dataset = read_dataset(source, inputs, preparation, kept)
    notes: list[str] = []
    return LoadedPart(_everything(inputs, dataset.fields, preparation, notes), tuple(dict.fromkeys(notes)))


def _prepared(specs: Sequence[InputSpec], dataset: Dataset) -> _Prepared:
    preparation = _matched(specs, dataset)
    notes = list(dataset.notes)
    dataset = _without_gaps(dataset, preparation, notes)
    used = {name for names in preparation.columns.values() for name in names}
    unused = sorted((set(dataset.fields) - used) | set(dataset.unread))
    if unused:
        notes.append(f"{dataset.path.name}: not used: {quoted(unused)}")
    return _Prepared(dataset, preparation, tuple(notes))


def _matched(specs: Sequence[InputSpec], dataset: Dataset) -> Preparation:
    columns = match_fields(dataset, [spec for spec in specs if spec.mask_of is None or dataset.text is None])
    used = dict.fromkeys(name for names in columns.values() for name in names)
    readings = {} if dataset.text is None else {n: r for n, r in dataset.text.readings.items() if n in used}
    table = tuple(dataset.fields) if dataset.table is not None else ()
    missing = dataset.table.missing if dataset.table is not None else "error"
    classes = {name: known for name in used if (known := dataset.fields[name].classes) is not None}
    vocabularies = vocabularies_of((name for name in used if name not in readings), dataset.fields)
    return Preparation(columns, vocabularies, {}, {}, table, missing, classes, readings=readings)


def _preparation_for(dataset: Dataset, specs: Sequence[InputSpec], saved: Preparation | None) -> Preparation:
    """The preparation of a further source: the saved one, as far as it concerns `specs` and this kind of data."""
    if saved is None:
        return _matched(specs, dataset)
    if dataset.text is not None:
        return replace(_matched(specs, dataset), vocabularies=saved.vocabularies, tokenizers=saved.tokenizers)
    saved = without_texts(saved)
    is_table = dataset.table is not None
    columns_used = {name for spec in specs for name in saved.columns.get(spec.name, ())}
    if is_table and not saved.table and columns_used & saved.vocabularies.keys():
        message = f"{dataset.format} data for a model trained on arrays that hold categories"
        raise DataError(message, dataset.path, fix="give npz data")
    if not is_table or not saved.table:
        return replace(saved, columns=match_fields(dataset, specs), table=tuple(dataset.fields) if is_table else ())
    columns = _columns_of(specs, saved, dataset.path)
    check_fields(dataset, columns)
    return replace(saved, columns=columns)


def _columns_of(specs: Sequence[InputSpec], saved: Preparation, path: Path) -> dict[str, tuple[str, ...]]:
    columns = {spec.name: saved.columns[spec.name] for spec in specs if spec.name in saved.columns}
    if len(columns) < len(specs):
        absent = next(spec for spec in specs if spec.name not in columns)
        raise DataError(
            f"the saved preparation has no columns for `{absent.name}`",
            path,
            fix="train again after changing the inputs or targets of the program",
        )
    return columns


def _without_gaps(dataset: Dataset, preparation: Preparation, notes: list[str]) -> Dataset:
    """The table without rows that miss a value, where `missing = "drop"` asks for it."""
    if not preparation.table or preparation.missing != "drop":
        return dataset
    keep = np.flatnonzero(rows_without_gaps(preparation, dataset.fields))
    if len(keep) == dataset.rows:
        return dataset
    if len(keep) == 0:
        raise DataError(
            "every row misses a value", dataset.path, fix="choose other columns with `columns`, or fill in values"
        )
    notes.append(
        f"{dataset.path.name}: {dataset.rows - len(keep)} of {dataset.rows} rows miss a value and are left out"
    )
    fields = {name: _rows_of(field, keep) for name, field in dataset.fields.items()}
    return replace(dataset, fields=fields, rows=len(keep))


def _rows_of(field: Field, rows: Array) -> Field:
    numbers = rows + 1 if field.row_numbers is None else field.row_numbers[rows]
    return Field(field.values[rows], field.file, numbers)


def _fitted(specs: Sequence[InputSpec], prepared: _Prepared, split: PartRows, known: Preparation | None) -> Preparation:
    table: TableOptions | None = prepared.dataset.table
    text = prepared.dataset.text
    if text is not None:
        tokenizers = tokenizers_of(text, prepared.dataset.fields, split.train) if known is None else known.tokenizers
        return replace(prepared.preparation, tokenizers=tokenizers)
    if table is None or not (table.normalise or table.missing == "mean"):
        return prepared.preparation
    return fitted(prepared.preparation, prepared.dataset.fields, specs, split.train, table.normalise)


def _arrays(
    specs: Sequence[InputSpec], fields: Mapping[str, Field], preparation: Preparation, notes: list[str]
) -> dict[str, Array]:
    if preparation.table:
        refuse_missing(preparation, fields, specs)
    texts = TextRows(fields, preparation, notes)
    masked = {spec.mask_of for spec in specs}
    for spec in specs:
        if texts.takes(spec) and not (spec.is_target or spec.mask_of or spec.name in masked):
            texts.note_filling(spec)
    return {
        spec.name: texts.array(spec) if texts.takes(spec) else array_for(spec, fields, preparation, notes)
        for spec in specs
    }


def _row_names(
    specs: Sequence[InputSpec], fields: Mapping[str, Field], preparation: Preparation
) -> dict[str, RowNames]:
    columns = {spec.name: preparation.columns.get(spec.name, ()) for spec in specs}
    return {name: _names_of(fields[found[0]]) for name, found in columns.items() if found}


def _names_of(field: Field) -> RowNames:
    return RowNames(field.file, field.row_numbers, field.files)


def _lengths(dataset: Dataset, arrays: Mapping[str, Array]) -> Array | None:
    """The length of each row's text, by which batches are made; None where they are made at random."""
    if dataset.text is None or dataset.text.buckets == 0:
        return None
    texts = [arrays[name] for name in dataset.text.readings if name in arrays]
    found: Array = np.max([(array != PAD).sum(axis=1) for array in texts], axis=0)
    return found


def _everything(
    specs: Sequence[InputSpec], fields: Mapping[str, Field], preparation: Preparation, notes: list[str]
) -> Part:
    arrays = _arrays(specs, fields, preparation, notes)
    rows = len(next(iter(arrays.values()))) if arrays else 0
    return Part(arrays, np.arange(rows, dtype=np.int64), names=_row_names(specs, fields, preparation))


def _other_part(
    specs: Sequence[InputSpec],
    train: Part,
    rows: Array,
    source: float | DataSource | None,
    preparation: Preparation,
    notes: list[str],
) -> Part | None:
    if isinstance(source, DataSource):
        return _evaluation_part(specs, source, preparation, notes)
    return Part(train.arrays, rows, names=train.names) if len(rows) else None


def _evaluation_part(
    specs: Sequence[InputSpec], source: DataSource, preparation: Preparation, notes: list[str]
) -> Part:
    dataset = read_dataset(source, specs, preparation, is_training=False)
    notes.extend(dataset.notes)
    if dataset.windows is not None:
        return series_part(specs, dataset, preparation)
    if dataset.test is not None:
        dataset = replace(dataset, fields=dataset.test, rows=dataset.test_rows)
    return _part_like_training(specs, dataset, preparation, notes, may_drop=True)


def _part_like_training(
    specs: Sequence[InputSpec], dataset: Dataset, saved: Preparation | None, notes: list[str], may_drop: bool
) -> Part:
    """The rows of a further source: all, or without those that miss a value, where the training left these out.

    `saved` is the preparation of the training, as far as there was one.
    """
    if saved is not None and saved.is_of_columns and dataset.table is None and dataset.text is None:
        match_fields(dataset, specs)
        return part_in_columns(specs, dataset.fields, saved)
    preparation = _preparation_for(dataset, specs, saved)
    if may_drop:
        dataset = _without_gaps(dataset, preparation, notes)
    return _everything(specs, dataset.fields, preparation, notes)


def part_in_columns(specs: Sequence[InputSpec], fields: Mapping[str, Field], saved: Preparation) -> Part:
    """All rows of arrays by input and target, for a model whose training made these of columns. Raises DataError."""
    saved = replace(saved, columns=_columns_of(specs, saved, next(iter(fields.values())).file))
    arrays = {spec.name: array_in_columns(spec, fields[spec.name], saved) for spec in specs}
    rows = np.arange(len(next(iter(arrays.values()))), dtype=np.int64)
    return Part(arrays, rows, names={spec.name: _names_of(fields[spec.name]) for spec in specs})
