"""Outputs of a model matched with targets, each pair with its kind: a class, yes or no, or a number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from compiler.driver import Array, InputSpec
from compiler.support.record import record
from runtime.data.part import Part
from runtime.data.preparation import Preparation
from runtime.data.text.tokenizer import PAD
from runtime.inference.prediction import class_outputs, scores

_YES_OR_NO = 2
_AT_ONCE = 1 << 22  # elements of a target that are looked at together


@record
class Pair:
    """An output of the shape of a target, or with one number more for each class.

    `classes` is None where the target holds numbers. With `is_score`, a number above `threshold` stands for the class
    1, and any other for 0. With `is_distribution` the target has a number for each class, as one-hot targets have, and
    is the class of the largest. `mask` names the input that says which positions count.
    """

    target: InputSpec
    output: str
    classes: int | None
    mask: str | None = None
    is_score: bool = False
    is_distribution: bool = False
    threshold: float | None = None  # None: the program does not say it

    def guesses(self, values: Array, target: Array) -> Array:
        """The classes [rows, …] that the model predicts: the likeliest, of equals the first."""
        if not self.is_score:
            return values.argmax(axis=-1)
        return (alike(values, target) > (self.threshold or 0.0)).astype(np.int64)


def pairs_of(
    specs: Sequence[InputSpec],
    outputs: Mapping[str, Array],
    part: Part,
    judged: Mapping[str, tuple[str, ...]],
    thresholds: Mapping[str, float],
) -> list[Pair]:
    """Targets in their order, each with the outputs that fit it; `outputs` are those of a few rows, rows first.

    Where the loss or a metric compares a target with outputs (`judged`), only these are looked at; where it compares it
    with none, none.
    """
    targets = [spec for spec in specs if spec.is_target and spec.mask_of is None]
    by_class = {spec.name: name for spec, name in class_outputs(outputs, targets)}
    found: list[Pair] = []
    for spec in targets:
        array = part.arrays[spec.name]
        mask = mask_of(spec, specs, part, array.shape)
        judging = judged.get(spec.name)
        if judging == ():
            continue
        looked_at = {name: outputs[name] for name in judging or () if name in outputs} or outputs
        of_classes = [name for name, values in looked_at.items() if looked_at is not outputs and scores(values, spec)]
        if of_classes or spec.name in by_class:
            names = of_classes or [by_class[spec.name]]
            found += [Pair(spec, name, spec.high, mask) for name in names]
            continue
        fitting = [name for name, values in looked_at.items() if _fits(values, array)]
        if fitting and array.ndim > 1 and array.shape[-1] > 1 and _is_distribution(array, part.rows):
            mask = mask_of(spec, specs, part, array.shape[:-1])
            found += [Pair(spec, name, array.shape[-1], mask, is_distribution=True) for name in fitting]
        elif fitting and _is_yes_or_no(array, part.rows):
            found += [
                Pair(spec, name, _YES_OR_NO, mask, is_score=True, threshold=thresholds.get(name)) for name in fitting
            ]
        elif array.dtype != np.bool_:
            found += [Pair(spec, name, None, mask) for name in fitting]
    return found


def truth_of(pair: Pair, part: Part, rows: Array) -> Array:
    """The target of rows: numbers, or classes."""
    values = part.arrays[pair.target.name][rows]
    return values.argmax(axis=-1) if pair.is_distribution else values


def mask_of(target: InputSpec, specs: Sequence[InputSpec], part: Part, shape: tuple[int, ...]) -> str | None:
    """The mask of a target, or else that of an input, with positions of such a shape."""
    masks = [spec for spec in specs if spec.mask_of is not None and part.arrays[spec.name].shape == shape]
    own = [spec.name for spec in masks if spec.mask_of == target.name]
    return own[0] if own else masks[0].name if masks else None


def counted(pair: Pair, part: Part, rows: Array, preparation: Preparation | None) -> Array:
    """Which positions [rows, …] of the target count: those of the mask that are no padding, and have a class."""
    truth = truth_of(pair, part, rows)
    counts: Array = np.ones(truth.shape, np.bool_)
    if pair.classes is not None:
        counts &= (truth >= 0) & (truth < pair.classes)
    if pair.mask is not None:
        counts &= part.arrays[pair.mask][rows].astype(np.bool_)
    if preparation is not None and preparation.tokenizer_of(pair.target.name) is not None:
        counts &= truth != PAD
    return counts


def class_names(pair: Pair, preparation: Preparation | None) -> tuple[str, ...]:
    """The names of the classes in the data, or their numbers."""
    assert pair.classes is not None
    numbers = tuple(map(str, range(pair.classes)))
    if preparation is None:
        return numbers
    tokenizer = preparation.tokenizer_of(pair.target.name)
    if tokenizer is not None:
        return tuple(tokenizer.shown(number) for number in range(pair.classes))
    words = preparation.vocabulary_of(pair.target.name)
    return words if words is not None and len(words) == pair.classes else numbers


def alike(values: Array, target: Array) -> Array:
    """An output in the shape that rows of its target have: a last axis of one number is no axis."""
    return values.reshape(len(values), *target.shape[1:])


def _fits(values: Array, target: Array) -> bool:
    ours, theirs = values.shape[1:], target.shape[1:]
    return values.dtype.kind == "f" and (ours == theirs or ours == (*theirs, 1) or (*ours, 1) == theirs)


def _is_yes_or_no(target: Array, rows: Array) -> bool:
    """Whether a target is 0 or 1 in all of the rows."""
    return all(bool(np.isin(values, (0, 1)).all()) for values in _stretches(target, rows))


def _is_distribution(target: Array, rows: Array) -> bool:
    """Whether a target has shares in its last axis: none negative, and 1 in all."""
    return target.dtype.kind == "f" and all(
        bool((values >= 0).all()) and bool((np.abs(values.sum(axis=-1) - 1) < 1e-3).all())
        for values in _stretches(target, rows)
    )


def _stretches(target: Array, rows: Array) -> Iterator[Array]:
    each = max(1, _AT_ONCE // max(1, target[:1].size))
    for first in range(0, len(rows), each):
        yield target[rows[first : first + each]]
