"""Rows for a model of which only text and weights are known: its `data` says how a table is written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from compiler.errors.diagnostics import UsageError
from runtime.data.dataset import Dataset, TableOptions, columns_at
from runtime.data.formats.format import SourceOptions
from runtime.data.specs import InputSpec, SettingValue, row_shape


def refuse_unprepared(data: object, options: Mapping[str, SettingValue]) -> None:
    """Raise UsageError where `options` of the training's data ask for means or deviations, which are not known here."""
    if options.get("normalise") or options.get("missing") == "mean":
        raise unprepared(data)


def refuse_numbered(data: object, specs: Sequence[InputSpec], options: Mapping[str, SettingValue]) -> None:
    """Raise UsageError where an input takes the numbers that the training gave to categories."""
    given = SourceOptions(options)
    numbered = set(given.columns("categories")) - set(given.columns("target"))
    numbered -= {spec.name for spec in specs if spec.is_target}
    if given.columns("columns"):
        numbered &= {*given.columns("columns"), *(spec.name for spec in specs)}
    if numbered:
        raise unprepared(data)


def unprepared(data: object) -> UsageError:
    message = f"{data} must be prepared as the training data was, which weights alone do not say"
    return UsageError(message, "name the run instead of the model file")


def inputs_alone(dataset: Dataset, specs: Sequence[InputSpec], options: Mapping[str, SettingValue]) -> Dataset:
    """The data with the columns that the training would take for inputs, by the names that they had there.

    Those of targets are left out: by their names, or by the option `target`. Of a series, the past of targets is an
    input.
    """
    given = SourceOptions(options)
    targets = {spec.name for spec in specs if spec.is_target} | given.names_in("target")
    table = dataset.table
    if table is None:
        return replace(dataset, fields={n: field for n, field in dataset.fields.items() if n not in targets})
    needed = sum(math.prod(row_shape(spec)) for spec in specs if not spec.is_target)
    dataset = _named(dataset, table, given)
    names = tuple(dataset.fields)
    # A place is one of the training's table only where there are more columns than the inputs take.
    places = range(-len(names), len(names)) if len(names) > needed else range(0)
    targets |= set(columns_at([t for t in given.columns("target") if t in (*names, *places)], names, dataset.path))
    chosen = given.columns("columns")
    is_whole = bool(chosen) and all(column in (*names, *places) for column in chosen)
    columns = columns_at(chosen, names, dataset.path) if is_whole else ()
    left_out = set[str]() if dataset.windows is not None else targets - set(columns)
    fields = {name: field for name, field in dataset.fields.items() if name not in left_out}
    return replace(dataset, fields=fields, table=replace(table, columns=columns))


def _named(dataset: Dataset, table: TableOptions, options: SourceOptions) -> Dataset:
    """A table without a first line of names with those that the training gave to all its columns, or to its inputs."""
    names = options.names("names")
    targets = columns_at(options.columns("target"), names, dataset.path) if names else ()
    layouts = (names, tuple(name for name in names if name not in targets), options.names("columns"))
    found = next((layout for layout in layouts if len(layout) == len(dataset.fields)), None)
    if not names or table.has_header or found is None:
        return dataset
    return replace(dataset, fields=dict(zip(found, dataset.fields.values(), strict=True)))
