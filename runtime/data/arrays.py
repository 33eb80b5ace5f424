"""Fields to the array of one input or target, in its declared type, with every value checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from compiler.errors.diagnostics import DataError
from compiler.errors.suggestions import did_you_mean, quoted
from compiler.support.record import record
from runtime.data.dataset import Field
from runtime.data.preparation import Preparation
from runtime.data.specs import Array, InputSpec, dtype_of, row_shape

_PIECE = 1 << 24  # bytes of values that are checked at once
# Whole numbers up to here are exact in the float type.
_EXACT = {"float16": 1 << 11, "float32": 1 << 24, "float64": 1 << 53}


@record
class _Place:
    """The place of a value in a message: its field, and the input or target that it feeds."""

    spec: InputSpec
    name: str
    field: Field
    vocabulary: tuple[str, ...] | None
    first: int = 0  # the row of the field with which the values begin

    def refuse(self, wrong: Array, values: Array, message: str, fix: str) -> None:
        """Raise DataError about the first row in which `wrong` is true, if any; `{}` in the message is its value."""
        if not bool(wrong.any()):
            return
        row = int(np.argmax(wrong.reshape(len(wrong), -1).any(axis=1)))
        value = values[row][wrong[row]].flat[0]
        shown = f"{value:.9g}" if values.dtype.kind == "f" else str(value)
        if self.vocabulary is not None:
            shown += f" (`{self.vocabulary[int(value)]}`)"
        row += self.first
        raise DataError(
            f"{self.label}: {message.format(shown)}", self.field.file_of(row), self.field.row_number(row), fix
        )

    @property
    def label(self) -> str:
        return f"`{self.name}`" if self.name == self.spec.name else f"column `{self.name}` for `{self.spec.name}`"


def array_for(spec: InputSpec, fields: Mapping[str, Field], preparation: Preparation, notes: list[str]) -> Array:
    """The array [rows, …] of an input or target, C-contiguous; `notes` gets what was rounded. Raises DataError."""
    names = preparation.columns[spec.name]
    if not preparation.table:
        return np.ascontiguousarray(_whole_field(spec, names[0], fields[names[0]], preparation, notes))
    array = columns_for(spec, fields, preparation)
    return array.reshape(len(array), *row_shape(spec))


def array_in_columns(spec: InputSpec, field: Field, preparation: Preparation) -> Array:
    """The array [rows, …] of an input or target that the training made of columns, from an array of the same shape.

    Its elements along a row (or along the last axis, for windows of a series) are what stood in those columns, and are
    prepared like them. Raises DataError.
    """
    _check_shape(spec, spec.name, field)
    names = preparation.columns[spec.name]
    values = field.values.reshape(-1, len(names))
    rows = np.repeat([field.row_number(row) for row in range(len(field.values))], len(values) // len(field.values))
    fields = {name: Field(values[:, position], field.file, rows) for position, name in enumerate(names)}
    return columns_for(spec, fields, preparation).reshape(field.values.shape)


def columns_for(spec: InputSpec, fields: Mapping[str, Field], preparation: Preparation) -> Array:
    """The columns of a table [rows, columns] that feed an input or target. Raises DataError."""
    names = preparation.columns[spec.name]
    array: Array = np.empty((len(fields[names[0]].values), len(names)), dtype_of(spec))
    for position, name in enumerate(names):
        array[:, position] = _column(spec, name, fields[name], preparation)
    return array


def _whole_field(spec: InputSpec, name: str, field: Field, preparation: Preparation, notes: list[str]) -> Array:
    _check_shape(spec, name, field)
    values, vocabulary = _numbers(name, field, preparation)
    dtype = dtype_of(spec)
    if values.dtype.kind == dtype.kind == "f" and values.dtype.itemsize > dtype.itemsize:
        held, declared = (f"f{8 * kind.itemsize}" for kind in (values.dtype, dtype))
        notes.append(f"{field.file.name}: `{name}` is {held} and was rounded to {declared}")
    place = _Place(spec, name, field, vocabulary)
    if values.dtype != dtype or values.nbytes <= _PIECE:
        return _converted(values, dtype, place)
    each = max(1, _PIECE * len(values) // values.nbytes)
    for first in range(0, len(values), each):  # what is checked beside the values takes no more memory than a piece
        _converted(values[first : first + each], dtype, replace(place, first=first))
    return values


def _check_shape(spec: InputSpec, name: str, field: Field) -> None:
    shape = row_shape(spec)
    if field.values.shape[1:] != shape:
        raise DataError(
            f"`{name}` has rows of shape {list(field.values.shape[1:])}, but `{spec.name}: {spec.type}`"
            f" takes {list(shape)}",
            field.file,
            fix="declare the shape that the data has, and reshape in the model",
        )


def _column(spec: InputSpec, name: str, field: Field, preparation: Preparation) -> Array:
    values, vocabulary = _numbers(name, field, preparation)
    if vocabulary is not None and dtype_of(spec).kind == "f":
        message = f"column `{name}` holds categories, but `{spec.name}: {spec.type}` takes numbers to calculate with"
        raise DataError(message, field.file, fix=_category_fix(spec, name, len(vocabulary)))
    # A column of a series may feed a target, too, which stays as it is.
    if name in preparation.fills and not spec.is_target:
        values = np.where(np.isnan(values), preparation.fills[name], values)
    scale = None if spec.is_target else preparation.scales.get(name)
    if scale is not None:
        values = (values - scale.centre) / scale.spread
    return _converted(values, dtype_of(spec), _Place(spec, name, field, vocabulary))


def _category_fix(spec: InputSpec, name: str, categories: int) -> str:
    if spec.is_target:
        declared = f"declare `target {spec.name}: i32[batch] in 0..{categories}`"
        return f"{declared}; for a loss of numbers, `cast({spec.name}, f32)`"
    return (
        f"leave `{name}` out of `columns`, and give it an input of its own: `{name}: i32[batch] in 0..{categories}`,"
        " with `one_hot` in the model"
    )


def _numbers(name: str, field: Field, preparation: Preparation) -> tuple[Array, tuple[str, ...] | None]:
    """A field's numbers; those of a text field are positions in its vocabulary."""
    known = preparation.classes.get(name, preparation.vocabularies.get(name))
    if not field.is_text and field.classes is not None and known is not None and field.classes != known:
        return _renumbered(name, field, field.classes, known), known
    if not field.is_text:
        return field.values, None
    vocabulary = preparation.vocabularies.get(name)
    if vocabulary is None:
        raise DataError(f"`{name}` holds text, where the model takes numbers", field.file, fix="give numbers in it")
    codes = {text: code for code, text in enumerate(vocabulary)}
    found = np.array([codes.get(str(text), -1) for text in field.values.flat], np.int64).reshape(field.values.shape)
    if bool((found < 0).any()):
        row = int(np.argmax((found < 0).reshape(len(found), -1).any(axis=1)))
        text = str(field.values[row] if found.ndim == 1 else field.values[row][found[row] < 0].flat[0])
        message = f"`{name}` is `{text}`, which the training data does not have{did_you_mean(text, vocabulary, '; ')}"
        raise DataError(message, field.file_of(row), field.row_number(row), f"use one of {quoted(vocabulary)}")
    return found, vocabulary


def _renumbered(name: str, field: Field, classes: tuple[str, ...], known: tuple[str, ...]) -> Array:
    """The classes of a further source by the numbers that they had in the training data."""
    numbers = {text: number for number, text in enumerate(known)}
    absent = next((text for text in classes if text not in numbers), None)
    if absent is not None:
        near = did_you_mean(absent, known, "; ")
        message = f"`{name}` has the class `{absent}`, which the training data does not have{near}"
        raise DataError(message, field.file, fix=f"use classes of {quoted(known)}")
    wrong = field.values >= len(classes)
    if bool(wrong.any()):
        message = f"`{name}` is {field.values[wrong][0]}, but the data names {len(classes)} classes"
        raise DataError(message, field.file, field.row_number(int(np.argmax(wrong))), "name every class, or none")
    renumbered: Array = np.array([numbers[text] for text in classes], field.values.dtype)
    return renumbered[field.values]


def _converted(values: Array, dtype: np.dtype[np.generic], place: _Place) -> Array:
    if values.dtype.kind == "f":
        place.refuse(~np.isfinite(values), values, "the value is {}", "replace it by a finite number")
    if dtype.kind == "f":
        return _to_float(values, dtype, place)
    if values.dtype.kind == "f":
        fix = f"give whole numbers, or declare `{place.spec.name}` as f32"
        place.refuse(values != np.floor(values), values, "{} is not a whole number", fix)
    _check_range(values, dtype, place)
    return values.astype(dtype, copy=False)


def _to_float(values: Array, dtype: np.dtype[np.generic], place: _Place) -> Array:
    with np.errstate(over="ignore"):
        converted = values.astype(dtype, copy=False)
    if values.dtype.kind == "f" and values.dtype.itemsize > dtype.itemsize:
        declared, wider = ("f16", "f32") if dtype == np.float16 else ("f32", "f64")
        fix = f"scale the values down, or declare it {wider}"
        place.refuse(np.isinf(converted), values, f"{{}} is too large for {declared}", fix)
    elif values.dtype.kind in "iu" and values.dtype.itemsize >= dtype.itemsize:
        wrong = (values > _EXACT[dtype.name]) | (values < -_EXACT[dtype.name])
        fix = "scale the values down, or declare it as a wider type"
        place.refuse(wrong, values, f"{{}} cannot be kept exactly in {dtype.name}", fix)
    return converted


def _check_range(values: Array, dtype: np.dtype[np.generic], place: _Place) -> None:
    """That whole numbers lie in the declared range and in their type."""
    spec = place.spec
    if dtype.kind == "b":
        least, end, said = 0, 2, f"`{spec.name}` is bool"
    else:
        limits = np.iinfo(dtype.name)
        least, end, said = int(limits.min), int(limits.max) + 1, f"`{spec.name}` is {spec.type.dtype.value}"
        if values.dtype.kind == "f":
            least, end = max(least, -(1 << 53)), min(end, (1 << 53) + 1)
    low, high = spec.low, spec.high
    if (low is not None and low > least) or (high is not None and high < end):
        least, end = max(least, low if low is not None else least), min(end, high if high is not None else end)
        said = f"`{spec.name}` is declared `in {least}..{end}`"
    if values.size == 0 or (int(values.min()) >= least and int(values.max()) < end):
        return
    wrong = (values < least) | (values >= end)
    place.refuse(wrong, values, f"{{}} is out of range: {said}", _range_fix(values, place, end - least))


def _range_fix(values: Array, place: _Place, size: int) -> str:
    if place.vocabulary is not None:
        return f"declare the range for {len(place.vocabulary)} categories: {quoted(place.vocabulary)}"
    distinct = len(np.unique(values))
    if place.name != place.spec.name and distinct <= size:
        return f'to number the {distinct} values from 0, give csv `categories = ["{place.name}"]`'
    least, most, low = int(values.min()), int(values.max()), place.spec.low or 0
    if least > low and most - least < size:
        name, further = place.spec.name, least - low
        return (
            f"the data counts from {least}, the range from {low}: subtract {further} in the data, or declare "
            f"`in {least}..{most + 1}` and compute with `{name} - {further}`"
        )
    spec = place.spec
    if spec.is_target and spec.low is not None and least < low and not spec.type.dtype.is_unsigned:
        declared = f"`in {least}..{max(most + 1, low + size)}`"
        return f"correct the value; or, where {least} marks elements that a loss leaves out, declare {declared}"
    what = "classes" if place.spec.is_target else "values"
    return f"correct the value; or, where the data is right, give the model the {what} from {least} to {most}"
