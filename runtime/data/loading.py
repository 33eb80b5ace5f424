"""Data sources to arrays: the parts that a training or an evaluation needs, and the rows of a prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from compiler.diagnostics import DataError, Source, Span
from runtime.data.arrays import array_for
from runtime.data.dataset import Dataset, Field, TableOptions
from runtime.data.fitting import fitted, refuse_missing, rows_without_gaps, vocabularies_of
from runtime.data.formats.format import Options, Request
from runtime.data.formats.formats import format_named, format_of
from runtime.data.matching import check_fields, match_fields
from runtime.data.part import Part
from runtime.data.preparation import Preparation
from runtime.data.specs import Array, DataSource, InputSpec, SettingValue
from runtime.data.splits import Split, split_rows
from runtime.files import JsonValue

# Options of the training that hold for rows to be predicted, too.
_KEPT = {"csv": ("separator",), "images": ("size", "channels", "fit")}


@dataclass(frozen=True, slots=True)
class LoadedData:
    """What a training needs. `summary` is the run's `data.json`; `notes` are remarks for the user."""

    train: Part
    validation: Part | None
    test: Part | None
    preparation: Preparation
    summary: Mapping[str, JsonValue]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LoadedPart:
    """Rows for an evaluation or a prediction, with remarks for the user."""

    part: Part
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Prepared:
    """One source, with rows left out that miss values, and what was learnt from it."""

    dataset: Dataset
    preparation: Preparation
    notes: tuple[str, ...]


def source_at(path: Path, like: DataSource | None) -> DataSource:
    """The source of `--data PATH`: of the format and options of `like`, unless the path shows another format."""
    path = path.absolute()
    span = like.span if like is not None else Span(Source("--data", ""), 1, 1, 1, 1)
    if like is not None:
        known = format_named(like.format, str(like.span))
        fits_folder = path.is_dir() and known.holds is not None and known.holds(path)
        if fits_folder or (not path.is_dir() and path.name.lower().removesuffix(".gz").endswith(known.endings)):
            return DataSource(like.format, str(path), like.options, span)
    options = like.options if like is not None and like.format == format_of(path).name else ()
    return DataSource(format_of(path).name, str(path), options, span)


def located(source: DataSource) -> Path:
    """Where a source is: a relative path counts from the folder of the text that names it."""
    path = Path(source.path).expanduser()
    return path if path.is_absolute() else Path(source.span.source.name).absolute().parent / path


def load_training_data(
    specs: Sequence[InputSpec],
    data: DataSource,
    validation: float | DataSource | None,
    test: float | DataSource | None,
    seed: int,
) -> LoadedData:
    """Read `data`, cut off fractions, fit the preparation on what remains, and read the other sources.

    Without `test`, the test part is the one that the format sets aside, if any. Raises DataError.
    """
    prepared = _first_source(specs, data)
    dataset = prepared.dataset
    split = split_rows(dataset.rows, _fraction(validation), _fraction(test), seed, dataset.path)
    preparation = _fitted(specs, prepared, split)
    notes = list(prepared.notes)
    arrays = _arrays(specs, dataset.fields, preparation, notes)
    official = None
    if dataset.test is not None and test is None:
        official = _everything(specs, dataset.test, preparation, notes)
    elif dataset.test is not None:
        notes.append(f"{dataset.path.name}: its own test part is not used, because the program names another")
    parts = {
        "train": Part(arrays, split.train),
        "validation": _other_part(specs, arrays, split.validation, validation, preparation, notes),
        "test": official or _other_part(specs, arrays, split.test, test, preparation, notes),
    }
    summary = _summary(dataset, data, parts, preparation, seed, notes)
    train = Part(arrays, split.train)
    return LoadedData(train, parts["validation"], parts["test"], preparation, summary, tuple(dict.fromkeys(notes)))


def load_evaluation_data(specs: Sequence[InputSpec], source: DataSource, preparation: Preparation) -> LoadedPart:
    """All rows of a source, or the test part where its format has one, prepared as in the training."""
    notes: list[str] = []
    return LoadedPart(_evaluation_part(specs, source, preparation, notes), tuple(dict.fromkeys(notes)))


def load_rows(
    path: Path, specs: Sequence[InputSpec], preparation: Preparation | None, options: Mapping[str, SettingValue]
) -> LoadedPart:
    """The inputs in a file for a prediction; targets in it are passed over.

    `preparation` and `options` are those of the training, as far as there was one. Raises DataError.
    """
    inputs = [spec for spec in specs if not spec.is_target]
    known = format_of(path)
    is_like_training = preparation is not None and bool(preparation.table) and known.name == "csv"
    kept = {name: options[name] for name in _KEPT.get(known.name, ()) if name in options}
    if known.name == "csv" and not is_like_training:
        kept = {}
    span = Span(Source("--input", ""), 1, 1, 1, 1)
    dataset = read_dataset(DataSource(known.name, str(path.absolute()), (), span), inputs, preparation, kept)
    if dataset.format in ("idx", "images") and len(inputs) == 1 and len(dataset.fields) == 1:
        dataset = replace(dataset, fields={inputs[0].name: next(iter(dataset.fields.values()))})
    fields, rows = (dataset.test, dataset.test_rows) if dataset.test is not None else (dataset.fields, dataset.rows)
    dataset = replace(dataset, fields=fields, rows=rows)
    notes = list(dataset.notes)
    preparation = _preparation_for(dataset, inputs, preparation)
    return LoadedPart(_everything(inputs, dataset.fields, preparation, notes), tuple(dict.fromkeys(notes)))


def read_dataset(
    source: DataSource,
    specs: Sequence[InputSpec],
    preparation: Preparation | None = None,
    options: Mapping[str, SettingValue] | None = None,
) -> Dataset:
    """The content of a source; `specs` say which fields are wanted. Raises DataError."""
    place = str(source.span)
    known = format_named(source.format, place)
    given = Options(dict(source.options) if options is None else options, place)
    given.check_known(known.name, known.options)
    path = located(source)
    if not path.exists():
        raise DataError("there is no such file or folder", path, fix=_path_fix(source))
    wanted = frozenset(spec.name for spec in specs)
    if preparation is None or not preparation.table or known.name != "csv":
        return known.read(Request(path, given, wanted))
    needed = tuple(dict.fromkeys(n for spec in specs for n in preparation.columns.get(spec.name, ())))
    layouts = (preparation.table, needed)
    texts = frozenset(preparation.vocabularies)
    return known.read(Request(path, given, wanted | frozenset(needed), texts, layouts))


def _path_fix(source: DataSource) -> str:
    if Path(source.path).is_absolute():
        return "check the path"
    here = Path(source.path)
    found = f"; there is one at {here.absolute()}: give --data {here}" if here.exists() else ""
    return f"the path counts from the folder of {source.span.source.name}; name another with --data PATH{found}"


def _first_source(specs: Sequence[InputSpec], source: DataSource) -> _Prepared:
    dataset = read_dataset(source, specs)
    preparation = _matched(specs, dataset)
    notes = list(dataset.notes)
    dataset = _without_gaps(dataset, preparation, notes)
    used = {name for names in preparation.columns.values() for name in names}
    unused = sorted((set(dataset.fields) - used) | set(dataset.unread))
    if unused:
        notes.append(f"{dataset.path.name}: not used: {', '.join(f'`{name}`' for name in unused)}")
    return _Prepared(dataset, preparation, tuple(notes))


def _matched(specs: Sequence[InputSpec], dataset: Dataset) -> Preparation:
    columns = match_fields(dataset, specs)
    used = dict.fromkeys(name for names in columns.values() for name in names)
    table = tuple(dataset.fields) if dataset.table is not None else ()
    missing = dataset.table.missing if dataset.table is not None else "error"
    classes = {name: known for name in used if (known := dataset.fields[name].classes) is not None}
    return Preparation(columns, vocabularies_of(used, dataset.fields), {}, {}, table, missing, classes)


def _preparation_for(dataset: Dataset, specs: Sequence[InputSpec], saved: Preparation | None) -> Preparation:
    """The preparation of a further source: the saved one, as far as it concerns `specs` and this kind of data."""
    if saved is None:
        return _matched(specs, dataset)
    is_table = dataset.table is not None
    columns_used = {name for spec in specs for name in saved.columns.get(spec.name, ())}
    if is_table != bool(saved.table) and (saved.scales or columns_used & saved.vocabularies.keys()):
        raise DataError(
            f"{dataset.format} data for a model trained on columns that are normalised or hold categories",
            dataset.path,
            fix="give csv data" if saved.table else "give npz data",
        )
    if not is_table or not saved.table:
        return replace(saved, columns=match_fields(dataset, specs), table=tuple(dataset.fields) if is_table else ())
    columns = {spec.name: saved.columns[spec.name] for spec in specs if spec.name in saved.columns}
    if len(columns) < len(specs):
        absent = next(spec for spec in specs if spec.name not in columns)
        raise DataError(
            f"the saved preparation has no columns for `{absent.name}`",
            dataset.path,
            fix="train again after changing the inputs or targets of the program",
        )
    check_fields(dataset, columns)
    return replace(saved, columns=columns)


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


def _fitted(specs: Sequence[InputSpec], prepared: _Prepared, split: Split) -> Preparation:
    table: TableOptions | None = prepared.dataset.table
    if table is None or not (table.normalise or table.missing == "mean"):
        return prepared.preparation
    return fitted(prepared.preparation, prepared.dataset.fields, specs, split.train, table.normalise)


def _arrays(
    specs: Sequence[InputSpec], fields: Mapping[str, Field], preparation: Preparation, notes: list[str]
) -> dict[str, Array]:
    if preparation.table:
        refuse_missing(preparation, fields, specs)
    return {spec.name: array_for(spec, fields, preparation, notes) for spec in specs}


def _everything(
    specs: Sequence[InputSpec], fields: Mapping[str, Field], preparation: Preparation, notes: list[str]
) -> Part:
    arrays = _arrays(specs, fields, preparation, notes)
    rows = len(next(iter(arrays.values()))) if arrays else 0
    return Part(arrays, np.arange(rows, dtype=np.int64))


def _other_part(
    specs: Sequence[InputSpec],
    arrays: Mapping[str, Array],
    rows: Array,
    source: float | DataSource | None,
    preparation: Preparation,
    notes: list[str],
) -> Part | None:
    if isinstance(source, DataSource):
        return _evaluation_part(specs, source, preparation, notes)
    return Part(arrays, rows) if len(rows) else None


def _evaluation_part(
    specs: Sequence[InputSpec], source: DataSource, preparation: Preparation, notes: list[str]
) -> Part:
    dataset = read_dataset(source, specs, preparation)
    notes.extend(dataset.notes)
    if dataset.test is not None:
        dataset = replace(dataset, fields=dataset.test, rows=dataset.test_rows)
    preparation = _preparation_for(dataset, specs, preparation)
    dataset = _without_gaps(dataset, preparation, notes)
    return _everything(specs, dataset.fields, preparation, notes)


def _fraction(part: float | DataSource | None) -> float:
    return 0.0 if part is None or isinstance(part, DataSource) else part


def _summary(
    dataset: Dataset,
    source: DataSource,
    parts: Mapping[str, Part | None],
    preparation: Preparation,
    seed: int,
    notes: Sequence[str],
) -> dict[str, JsonValue]:
    return {
        "format": dataset.format,
        "path": str(dataset.path),
        "options": dict(source.options),
        "fingerprints": dict(dataset.fingerprints),
        "rows": {name: len(part.rows) for name, part in parts.items() if part is not None},
        "split_seed": seed,
        "preparation": preparation.to_json(),
        "notes": list(dict.fromkeys(notes)),
    }
