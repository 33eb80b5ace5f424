"""Predictions by the names and axes that a model had where it was imported from, which its weights file notes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np

from compiler.driver import Array, DataQuestion, DimensionsOf, Program
from compiler.errors.diagnostics import DataError
from compiler.errors.suggestions import did_you_mean, quoted
from compiler.support.record import record
from compiler.types import numpy_dtype, word_of
from runtime.data.formats.numpy_arrays import npz_fields
from runtime.data.part import Part
from runtime.runs.tensor_files import notes_of

NOTE = "onnx"  # the key of the note in a safetensors file


@record
class GivenInput:
    """An input by its name elsewhere; `rows` is the axis that counts rows, None where the whole array is one row."""

    name: str
    rows: int | None


@record
class GivenNames:
    """Inputs and outputs of a program with their names elsewhere.

    `together`: rows have an influence on each other, so that all of them make one batch.
    """

    inputs: Mapping[str, GivenInput]
    outputs: Mapping[str, str]
    together: bool = False

    def to_note(self) -> dict[str, str]:
        inputs = {own: {"name": given.name, "rows": given.rows} for own, given in self.inputs.items()}
        return {NOTE: json.dumps({"inputs": inputs, "outputs": dict(self.outputs), "together": self.together})}


def given_names(weights: Path) -> GivenNames | None:
    """What a weights file notes; None for one that notes nothing."""
    text = notes_of(weights).get(NOTE)
    if text is None:
        return None
    try:
        found = json.loads(text)
        inputs = {
            str(own): GivenInput(str(given["name"]), None if given["rows"] is None else int(given["rows"]))
            for own, given in found["inputs"].items()
        }
        return GivenNames(
            inputs, {str(own): str(name) for own, name in found["outputs"].items()}, bool(found["together"])
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def read_arrays(path: Path, names: GivenNames) -> tuple[dict[str, Array], tuple[str, ...]]:
    """The arrays of an npz file by the program's names, each with its rows first, and the names of all others.

    Raises DataError.
    """
    wanted = {given.name: own for own, given in names.inputs.items()}
    fields, others = npz_fields(path, frozenset(wanted))
    missing = [name for name in wanted if name not in fields]
    if missing:
        hint = did_you_mean(missing[0], others)
        raise DataError(f"there is no array {quoted(missing)}", path, fix=hint or f"the model takes {quoted(wanted)}")
    arrays: dict[str, Array] = {}
    for name, own in wanted.items():
        rows, values = names.inputs[own].rows, fields[name].values
        if rows is None:
            arrays[own] = values[None]
        elif values.ndim <= rows:
            raise DataError(f"array `{name}` has {values.ndim} axes, and axis {rows} counts its rows", path)
        else:
            arrays[own] = np.ascontiguousarray(np.moveaxis(values, rows, 0))
    counts = {len(array) for array in arrays.values()}
    if len(counts) > 1 or 0 in counts:
        listed = ", ".join(f"`{names.inputs[own].name}` has {len(array)}" for own, array in arrays.items())
        raise DataError(f"the arrays differ in their number of rows, or have none: {listed}", path)
    return arrays, others


def dimensions_of_arrays(arrays: Mapping[str, Array]) -> DimensionsOf:
    """Answers with the sizes of the arrays' axes."""

    def answer(question: DataQuestion) -> Mapping[str, int]:
        found: dict[str, int] = {}
        for spec in question.inputs:
            for axis, name in enumerate(spec.dimension_names):
                if name in question.names and spec.name in arrays and axis < arrays[spec.name].ndim:
                    found.setdefault(str(name), arrays[spec.name].shape[axis])
        return found

    return answer


def part_of(program: Program, arrays: Mapping[str, Array], names: GivenNames, path: Path) -> Part:
    """All rows, in the element types of the program. Raises DataError for arrays of another shape."""
    checked: dict[str, Array] = {}
    for spec in program.inputs:
        if spec.is_target:
            continue
        given, dtype = arrays[spec.name], numpy_dtype(spec.type.dtype)
        wanted = [None, *spec.type.shape[1:]]
        if given.ndim != len(wanted) or any(w is not None and w != g for w, g in zip(wanted, given.shape, strict=True)):
            shown = " × ".join(["rows", *map(str, spec.type.shape[1:])])
            have = " × ".join(map(str, given.shape))
            raise DataError(f"array `{names.inputs[spec.name].name}` is {have}, and the model takes {shown}", path)
        if not np.can_cast(given.dtype, dtype, "same_kind"):
            have, shown = word_of(given.dtype), word_of(dtype)
            raise DataError(f"array `{names.inputs[spec.name].name}` has {have}, and the model takes {shown}", path)
        checked[spec.name] = np.ascontiguousarray(given, dtype)
    count = len(next(iter(checked.values())))
    return Part(cast("Mapping[str, Array]", checked), np.arange(count))
