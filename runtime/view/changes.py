"""Changes of inputs and weights that a page asks for: as text of its form, and made to arrays."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from compiler.driver import Array, Program
from compiler.errors.diagnostics import UsageError
from compiler.errors.suggestions import did_you_mean
from compiler.support.record import record
from runtime.data.choices import refuse_outside
from runtime.data.part import Part
from runtime.data.preparation import Preparation
from runtime.support.files import JsonValue

_AXIS = re.compile(r"(?P<first>[0-9]{1,9})(?P<range>:(?P<end>[0-9]{1,9}))?")
_FORM = "an index for each axis, such as `3, 5`, `0:16, 2` or `:, 7`"
_MOST = 100  # changes at once


@record
class Change:
    """Elements of a tensor, by its name, become `value`, or are multiplied by it where `is_factor`.

    A `value` that is text is a token, for an input of tokens. `at` has an index, a range `0:16` or `:` for each axis;
    axes that it leaves out are whole. Inputs are those of the chosen row, so they have no axis of the batch.
    """

    tensor: str
    at: str
    value: float | str
    is_factor: bool


def changes_of(asked: JsonValue) -> tuple[Change, ...]:
    """The changes that a body of JSON lists: each `{"tensor", "at", "set"}`, or `scale` or `token` for `set`."""
    if not isinstance(asked, list) or len(asked) > _MOST:
        raise UsageError("`changes` is no list of changes", f"give a list of at most {_MOST}")
    return tuple(map(_change, asked))


def _change(asked: JsonValue) -> Change:
    match asked:
        case {"tensor": str(tensor), "at": str(at), "set": int(value) | float(value)}:
            return Change(tensor, at, _as_float(value), False)
        case {"tensor": str(tensor), "at": str(at), "scale": int(value) | float(value)}:
            return Change(tensor, at, _as_float(value), True)
        case {"tensor": str(tensor), "at": str(at), "token": str(text)}:
            return Change(tensor, at, text, False)
        case _:
            raise UsageError("this is no change", 'give {"tensor": "W", "at": "3, 5", "set": 0.5}, or "scale"')


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise UsageError("a number is beyond all floats", "give a smaller one") from error


def made_to(
    changes: Sequence[Change], weights: Mapping[str, Array], rows: Mapping[str, Array], preparation: Preparation | None
) -> dict[str, Array]:
    """The changed tensors by their names, as copies; those of `rows` have one row. Raises UsageError."""
    found: dict[str, Array] = {}
    for change in changes:
        known = found.get(change.tensor, rows.get(change.tensor, weights.get(change.tensor)))
        if known is None:
            names = (*rows, *weights)
            raise UsageError(
                f"there is no tensor `{change.tensor}`", did_you_mean(change.tensor, names) or "choose one"
            )
        array = found.setdefault(change.tensor, np.array(known))
        _make(change, _number(change, preparation), array.reshape(array.shape[1:]) if change.tensor in rows else array)
    return found


def _number(change: Change, preparation: Preparation | None) -> float:
    if not isinstance(change.value, str):
        return change.value
    tokenizer = None if preparation is None else preparation.tokenizer_of(change.tensor)
    if tokenizer is None:
        raise UsageError(f"`{change.tensor}` holds no tokens", "give a number")
    (numbers,) = tokenizer.encode([change.value])
    if len(numbers) != 1 or tokenizer.unknown(change.value):
        what = "is not in the vocabulary" if tokenizer.unknown(change.value) else f"is {len(numbers)} tokens"
        raise UsageError(f"`{change.value}` {what}", "give a single token of the vocabulary")
    return float(numbers[0])


def _make(change: Change, value: float, array: Array) -> None:
    """Change a view of an array in place."""
    place = place_in(change, array.shape)
    with np.errstate(all="ignore"):
        wanted = array[place] * value if change.is_factor else np.full_like(array[place], value, np.float64)
    if array.dtype.kind in "iub":
        _expect_fitting(change, np.asarray(wanted), array.dtype)
    array[place] = wanted


def _expect_fitting(change: Change, wanted: Array, dtype: np.dtype[Any]) -> None:
    """What an array of integers cannot hold is refused, and nothing is rounded or wrapped."""
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    outside = wanted[~((wanted >= low) & (wanted <= high) & (wanted == np.floor(wanted)))]
    if outside.size:
        message = f"`{change.tensor}` holds whole numbers from {low} to {high}, and not {outside.flat[0]:g}"
        raise UsageError(message, "give such a number")


def place_in(change: Change, shape: Sequence[int]) -> tuple[int | slice, ...]:
    """The index of the elements that a change means. Raises UsageError where there are none."""
    texts = [text.strip() for text in change.at.split(",")] if change.at.strip() else []
    if len(texts) > len(shape):
        raise UsageError(f"`{change.at}` has {len(texts)} indices, and `{change.tensor}` has {len(shape)} axes", _FORM)
    return tuple(_along(change, axis, text, shape[axis]) for axis, text in enumerate(texts))


def _along(change: Change, axis: int, text: str, extent: int) -> int | slice:
    if text == ":":
        return slice(None)
    match = _AXIS.fullmatch(text)
    if match is None:
        raise UsageError(f"`{text}` is no index", f"give {_FORM}")
    first, end = int(match["first"]), int(match["end"]) if match["end"] else int(match["first"]) + 1
    if not first < end <= extent:
        message = f"there is no element {text} along axis {axis} of `{change.tensor}`, which has {extent}"
        raise UsageError(message, f"indices are 0 to {extent - 1}")
    return slice(first, end) if match["range"] else first


def expect_known_integers(program: Program, part: Part, rows: Mapping[str, Array], changed: Collection[str]) -> None:
    """Refuse changed integers that choose nothing, such as a token beyond the vocabulary. Raises DlcError."""
    for spec in program.inputs:
        if spec.name in changed and spec.low is not None and spec.high is not None:
            outside = [int(n) for n in rows[spec.name].flat if not spec.low <= n < spec.high]
            if outside:
                raise UsageError(
                    f"`{spec.name}` is in {spec.low}..{spec.high}, and {outside[0]} is not", "give one that is"
                )
    refuse_outside(program, replace(part, arrays=rows, rows=np.zeros(1, np.int64), names={}))
