"""NumPy arrays from a caller to a part of data, checked as a file would be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from compiler.errors.diagnostics import DataError
from compiler.errors.suggestions import did_you_mean, quoted
from runtime.data.arrays import array_for
from runtime.data.dataset import Field
from runtime.data.loading import part_in_columns
from runtime.data.part import Part, RowNames
from runtime.data.preparation import Preparation
from runtime.data.specs import Array, InputSpec

_PLACE = Path("arrays")  # stands where messages name a file


def part_of_arrays(specs: Sequence[InputSpec], arrays: Mapping[str, Array], saved: Preparation | None = None) -> Part:
    """All rows of `arrays`, which must hold each input and target of `specs` by name and nothing else.

    They hold what the data of the training held, and are prepared as it was, by `saved`: scaled where columns were.
    Raises DataError for a wrong name, shape or value, and where the numbers of rows differ.
    """
    names = [spec.name for spec in specs]
    for name in arrays:
        if name not in names:
            raise DataError(f"no input `{name}`{did_you_mean(name, names, '; ')}", _PLACE, fix=f"give {quoted(names)}")
    if missing := [name for name in names if name not in arrays]:
        raise DataError(f"{quoted(missing)} missing", _PLACE, fix=f"give {quoted(names)}")
    fields = {name: Field(_array_of(name, arrays[name]), _PLACE) for name in names}
    counts = {name: len(field.values) if field.values.ndim else 0 for name, field in fields.items()}
    if len(set(counts.values())) != 1 or 0 in counts.values():
        said = ", ".join(f"`{name}` has {count}" for name, count in counts.items())
        raise DataError(f"the numbers of rows differ or are 0: {said}", _PLACE, fix="give as many rows of each")
    if saved is not None and saved.is_of_columns:
        return part_in_columns(specs, fields, saved)
    preparation = Preparation({name: (name,) for name in names})
    notes: list[str] = []
    prepared = {spec.name: array_for(spec, fields, preparation, notes) for spec in specs}
    named = {name: RowNames(_PLACE) for name in names}
    return Part(prepared, np.arange(counts[names[0]], dtype=np.int64), names=named)


def _array_of(name: str, values: object) -> Array:
    try:
        array: Array = np.asarray(values)
    except ValueError as error:  # lists of different lengths
        raise DataError(f"`{name}` is no array: {error}", _PLACE, fix="give rows of one shape") from error
    if array.dtype.kind not in "biufUO":
        message = f"`{name}` has the dtype {array.dtype}, which is no number or text"
        raise DataError(message, _PLACE, fix="convert it to numbers")
    return array
