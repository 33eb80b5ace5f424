"""The fields of a data source to the rows of a program, for its inputs and targets."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from compiler.errors.diagnostics import DataError
from compiler.errors.suggestions import quoted
from runtime.data.arrays import array_for, array_in_columns
from runtime.data.dataset import Dataset, Field
from runtime.data.matching import check_fields, match_fields
from runtime.data.part import Part, RowNames
from runtime.data.preparation import Preparation, refuse_missing, rows_without_gaps, vocabulary_of
from runtime.data.reading import read_dataset
from runtime.data.specs import Array, DataSource, InputSpec
from runtime.data.text.rows import NOWHERE, TextRemarks, TextRows
from runtime.data.text.tokenizer import PAD
from runtime.data.windows import series_part


class PartMaker:
    """Fields to parts of data, for the inputs and targets of a program; `notes` are remarks for the user.

    Of parts that are made block by block of one source, `remarks` add up what is said of texts, and
    `places` are the names of their files.
    """

    def __init__(
        self,
        specs: Sequence[InputSpec],
        notes: Sequence[str] = (),
        remarks: TextRemarks | None = None,
        places: Mapping[str, str] = NOWHERE,
    ) -> None:
        self._specs, self.notes = specs, list(notes)
        self._remarks, self._places = remarks, places

    @property
    def remarks(self) -> list[str]:
        """What is said of the texts of all blocks."""
        return [] if self._remarks is None else self._remarks.notes()

    def further(self, source: DataSource, preparation: Preparation) -> Part:
        """The rows of a further source, prepared as in the training."""
        dataset = read_dataset(source, self._specs, preparation, is_training=False)
        self.notes += dataset.notes
        if dataset.windows is not None:
            return series_part(self._specs, dataset, preparation)
        if dataset.test is not None:
            dataset = replace(dataset, fields=dataset.test)
        part = self.like_training(dataset, preparation, may_drop=True)
        return replace(part, fingerprints=dataset.fingerprints)

    def like_training(self, dataset: Dataset, saved: Preparation | None, may_drop: bool) -> Part:
        """The rows of a further source: all, or without those that miss a value, where the training left these out.

        `saved` is the preparation of the training, as far as there was one.
        """
        if saved is not None and saved.is_of_columns and dataset.table is None and dataset.text is None:
            match_fields(dataset, self._specs)
            return part_in_columns(self._specs, dataset.fields, saved)
        preparation = preparation_for(dataset, self._specs, saved)
        if may_drop:
            dataset = self.without_gaps(dataset, preparation)
        return self.everything(dataset.fields, preparation)

    def without_gaps(self, dataset: Dataset, preparation: Preparation) -> Dataset:
        """The table without rows that miss a value, where `missing = "drop"` asks for it."""
        if not preparation.table or preparation.missing != "drop":
            return dataset
        keep = np.flatnonzero(rows_without_gaps(preparation, dataset.fields))
        if len(keep) == dataset.rows:
            return dataset
        if len(keep) == 0:
            fix = "choose other columns with `columns`, or fill in values"
            raise DataError("every row misses a value", dataset.path, fix=fix)
        left_out = f"{dataset.rows - len(keep)} of {dataset.rows} rows miss a value and are left out"
        self.notes.append(f"{dataset.path.name}: {left_out}")
        return replace(dataset, fields={name: field.at(keep) for name, field in dataset.fields.items()})

    def everything(self, fields: Mapping[str, Field], preparation: Preparation) -> Part:
        """All rows of the fields."""
        if preparation.table:
            refuse_missing(preparation, fields, self._specs)
        remarks = TextRemarks() if self._remarks is None else self._remarks
        texts = TextRows(fields, preparation, remarks, self._places)
        masked = {spec.mask_of for spec in self._specs}
        for spec in self._specs:
            if texts.takes(spec) and not (spec.is_target or spec.mask_of or spec.name in masked):
                texts.note_filling(spec)
        arrays = {
            spec.name: texts.array(spec) if texts.takes(spec) else array_for(spec, fields, preparation, self.notes)
            for spec in self._specs
        }
        if self._remarks is None:
            self.notes += remarks.notes()
        rows = len(next(iter(arrays.values()))) if arrays else 0
        columns = {spec.name: preparation.columns.get(spec.name, ()) for spec in self._specs}
        names = {name: names_of_rows(fields[found[0]]) for name, found in columns.items() if found}
        return Part(arrays, np.arange(rows, dtype=np.int64), names=names)


def matched(specs: Sequence[InputSpec], dataset: Dataset) -> Preparation:
    columns = match_fields(dataset, [spec for spec in specs if spec.mask_of is None or dataset.text is None])
    used = dict.fromkeys(name for names in columns.values() for name in names)
    readings = {} if dataset.text is None else {n: r for n, r in dataset.text.readings.items() if n in used}
    table = tuple(dataset.fields) if dataset.table is not None else ()
    missing = dataset.table.missing if dataset.table is not None else "error"
    classes = {name: known for name in used if (known := dataset.fields[name].classes) is not None}
    texts = [name for name in used if name not in readings and dataset.fields[name].is_text]
    vocabularies = {name: vocabulary_of(dataset.fields[name]) for name in texts}
    return Preparation(columns, vocabularies, {}, {}, table, missing, classes, readings=readings)


def named_for_only_input(dataset: Dataset, inputs: Sequence[InputSpec]) -> Dataset:
    """A file of one array that has no name of its own, as `idx`, by the name of the only input."""
    if dataset.format not in ("idx", "images") or len(inputs) != 1 or len(dataset.fields) != 1:
        return dataset
    return replace(dataset, fields={inputs[0].name: next(iter(dataset.fields.values()))})


def preparation_for(dataset: Dataset, specs: Sequence[InputSpec], saved: Preparation | None) -> Preparation:
    """The preparation of a further source: the saved one, as far as it concerns `specs` and this kind of data."""
    if saved is None:
        return matched(specs, dataset)
    if dataset.text is not None:
        return replace(matched(specs, dataset), vocabularies=saved.vocabularies, tokenizers=saved.tokenizers)
    saved = replace(saved, readings={}, tokenizers={})  # tokens are numbers already
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
        message = f"the saved preparation has no columns for `{absent.name}`"
        raise DataError(message, path, fix="train again after changing the inputs or targets of the program")
    return columns


def names_of_rows(field: Field) -> RowNames:
    return RowNames(field.file, field.row_numbers, field.files, field.origin, field.origins)


def part_in_columns(specs: Sequence[InputSpec], fields: Mapping[str, Field], saved: Preparation) -> Part:
    """All rows of arrays by input and target, for a model whose training made these of columns. Raises DataError."""
    saved = replace(saved, columns=_columns_of(specs, saved, next(iter(fields.values())).file))
    arrays = {spec.name: array_in_columns(spec, fields[spec.name], saved) for spec in specs}
    rows = np.arange(len(next(iter(arrays.values()))), dtype=np.int64)
    return Part(arrays, rows, names={spec.name: names_of_rows(fields[spec.name]) for spec in specs})


def target_column(specs: Sequence[InputSpec], preparation: Preparation) -> str:
    """The column of the only target, or ""."""
    columns = [column for spec in specs if spec.is_target for column in preparation.columns.get(spec.name, ())]
    return columns[0] if len(columns) == 1 else ""


def lengths_of_texts(dataset: Dataset, arrays: Mapping[str, Array]) -> Array | None:
    """The length of each row's text, by which batches are made; None where they are made at random."""
    if dataset.text is None or dataset.text.buckets == 0:
        return None
    texts = [arrays[name] for name in dataset.text.readings if name in arrays]
    found: Array = np.max([(array != PAD).sum(axis=1) for array in texts], axis=0)
    return found


def notes_of_unused(path: Path, names: Collection[str]) -> list[str]:
    """A remark on fields of a file that the program does not read."""
    return [f"{path.name}: not used: {quoted(sorted(names))}"] if names else []
