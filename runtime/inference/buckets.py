"""A program at several lengths of texts, so that little of the work is padding.

Each batch is computed at the first length that holds it, on the same tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np

from compiler import driver
from compiler.driver import Array, Executable, Program, Results, Steps
from compiler.errors.diagnostics import SourceError
from compiler.types import TensorType
from runtime.data.part import Part, rows_of_epoch
from runtime.inference.model import batch_axes, parameter_count, training_of

_MOST = 6  # more sizes would save little
_WORTH = 2e11  # floating-point operations in a training, for which one more program pays

Sizes = tuple[Mapping[str, int], ...]


def text_dimensions(program: Program) -> dict[str, tuple[str, ...]]:
    """The lengths of texts that the data decided and masks tell, each with the inputs and targets that have it."""
    found: dict[str, tuple[str, ...]] = {}
    for name in driver.data_dimensions(program):
        having = [spec for spec in program.inputs if name in (*spec.dimension_names, spec.range_name)]
        is_length = all(
            spec.range_name != name and spec.dimension_names.index(name) == 1 and spec.dimension_names.count(name) == 1
            for spec in having
        )
        if is_length and any(spec.mask_of is not None for spec in having):
            found[name] = tuple(spec.name for spec in having)
    return found


def chosen_sizes(program: Program, part: Part, most: int | None, notes: list[str]) -> Sizes:
    """At which sizes a training computes its batches; none where it has but one. `notes` says why.

    There are up to `most`; without it, as many as pay.
    """
    dimensions = text_dimensions(program)
    if most in (0, 1) or not dimensions:
        return ()
    if program.augmentation is not None:
        notes.append("every batch is computed at the longest length, since `augment` may make a text longer")
        return ()
    plan = training_of(program)
    arrays = {name: [part.arrays[spec] for spec in specs] for name, specs in dimensions.items()}
    least = _least_saved(program, len(part.rows)) if most is None else 0.0
    sizes = best_sizes(part, arrays, plan.seed, plan.rows_of(len(part.rows)), most or _MOST, least)
    decided = driver.data_dimensions(program)
    whole = {name: decided[name] for name in dimensions}
    sizes = (*(size for size in sizes if size != whole), whole)
    while len(sizes) > 1:
        try:
            changed = _first_difference(program, driver.resized(program, sizes[0]))
        except SourceError:  # shorter than the model allows
            sizes = sizes[1:]
            continue
        if changed is None:
            return sizes
        lengths = " and ".join(f"`{name}`" for name in dimensions)
        notes.append(
            f"every batch is computed at the longest length, since the shape of `{changed}` depends on {lengths}"
        )
        break
    return ()


def _least_saved(program: Program, rows: int) -> float:
    """How many places of texts a program must save in an epoch to pay: one takes some six operations a parameter."""
    plan = training_of(program)
    epochs = plan.epochs or (plan.steps or 0) * plan.rows_of(rows) / rows
    return _WORTH / max(1.0, 6.0 * parameter_count(program) * epochs)


def _first_difference(program: Program, other: Program) -> str | None:
    """A tensor that the programs cannot share."""

    def shapes(one: Program) -> dict[str, TensorType]:
        states = training_of(one).optimizer_states.items()
        gathered = enumerate(training_of(one).gathered)
        found = {p.path: p.type for p in one.parameters} | {name: state.type for name, state in states}
        return found | {f"sum {number} of the metrics": type_ for number, type_ in gathered}

    ours, others = shapes(program), shapes(other)
    return next((name for name in {**ours, **others} if ours.get(name) != others.get(name)), None)


class Buckets:
    """The programs of a few sizes, the last of which is `program` itself; without sizes, that alone."""

    def __init__(self, program: Program, sizes: Sizes) -> None:
        self._program, self._sizes = program, sizes or ({},)
        self._dimensions = text_dimensions(program) if sizes else {}
        self._data: Mapping[str, Array] | None = None
        self._cut: dict[int, Mapping[str, Array]] = {}

    @property
    def has_sizes(self) -> bool:
        """Whether there is more to choose from than the program itself."""
        return bool(self._dimensions)

    def executable(self, compiled: Callable[[Program], Executable]) -> Executable:
        """The executable that runs any batch; `compiled` makes the executable of one size."""
        return _BucketedExecutable(self, compiled) if self._dimensions else compiled(self._program)

    def program(self, bucket: int) -> Program:
        return driver.resized(self._program, self._sizes[bucket])

    def of_batches(self, data: Mapping[str, Array], rows: Array, batch: int) -> Array:
        """For each batch of `rows`, the first size that holds it."""
        does_fit = np.ones((len(self._sizes), -(-len(rows) // batch)), np.bool_)
        for name, inputs in self._dimensions.items():
            longest = longest_in_batches([data[i] for i in inputs if i in data], rows, batch)
            does_fit &= longest <= np.array([[size[name]] for size in self._sizes])
        found: Array = does_fit.argmax(axis=0)
        return found

    def of_step(self, step: Steps) -> tuple[Program, Steps]:
        """The program that computes a single step, and the step with the data as that takes it."""
        bucket = int(self.of_batches(step.data, step.rows, step.batch)[0])
        return self.program(bucket), replace(step, data=self.cut(step.data, bucket))

    def cut(self, data: Mapping[str, Array], bucket: int) -> Mapping[str, Array]:
        """The data as views that are as long as the size says."""
        if data is not self._data:
            self._data, self._cut = data, {}
        if bucket not in self._cut:
            lengths = {i: self._sizes[bucket][name] for name, inputs in self._dimensions.items() for i in inputs}
            self._cut[bucket] = {n: a[:, : lengths[n]] if n in lengths else a for n, a in data.items()}
        return self._cut[bucket]

    def joined(self, made: Sequence[Results]) -> Results:
        """The results of calls that follow each other; one without a part for each row is that of the last."""
        last = made[-1]
        scalars = {name: np.concatenate([results.scalars[name] for results in made]) for name in last.scalars}
        stacks = {name: np.concatenate([results.stacks[name] for results in made]) for name in last.stacks}
        axes = batch_axes(self._program)
        arrays = {
            name: array if name in stacks else np.concatenate([r.arrays[name] for r in made], axes.get(name) or 0)
            for name, array in last.arrays.items()
        }
        return Results(scalars, arrays, tuple(broken for results in made for broken in results.nonfinite), stacks)

    def ordered(self, data: Mapping[str, Array], rows: Array) -> Array:
        """The places of `rows`, those that fit in the smallest size first."""
        return np.argsort(self.of_batches(data, rows, 1), kind="stable")

    def stretches(self, data: Mapping[str, Array], rows: Array) -> list[Array]:
        """The rows of each size, which is the first that holds them; those of the smallest size first."""
        if len(rows) == 0:
            return []
        sizes = self.of_batches(data, rows, 1)
        return [rows[sizes == size] for size in np.unique(sizes)]


class _BucketedExecutable:
    """Runs each batch on the executable of its size, which is compiled when the first such batch comes."""

    def __init__(self, buckets: Buckets, compiled: Callable[[Program], Executable]) -> None:
        self._buckets, self._compiled = buckets, compiled
        self._executables: dict[int, Executable] = {}

    def run(self, steps: Steps) -> Results:
        made = [self._executable(bucket).run(stretch) for bucket, stretch in self._stretches(steps)]
        return made[0] if len(made) == 1 else self._buckets.joined(made)

    def _stretches(self, steps: Steps) -> Iterator[tuple[int, Steps]]:
        """Steps of one size that follow each other, with that size."""
        begin = 0
        for bucket, batches in groupby(self._buckets.of_batches(steps.data, steps.rows, steps.batch).tolist()):
            end = begin + len(list(batches))
            rows, data = steps.rows[begin * steps.batch : end * steps.batch], self._buckets.cut(steps.data, bucket)
            first = steps.first_step + begin
            yield bucket, replace(steps, data=data, rows=rows, first_step=first, lasting=False)
            begin = end

    def _executable(self, bucket: int) -> Executable:
        if bucket not in self._executables:
            self._executables[bucket] = self._compiled(self._buckets.program(bucket))
        return self._executables[bucket]


_EPOCHS = 2  # whose batches are looked at
_POINTS = 256  # sizes of batches that are told apart
_ROWS_AT_ONCE = 1 << 12  # whose lengths are measured together
_LEAST_SHARE = 0.02  # one more size must save this part of what is computed


def longest_in_batches(arrays: Sequence[Array], rows: Array, batch: int) -> Array:
    """How many places the longest row takes in each batch of `rows`, of arrays [rows, time, …] that end in zeros."""
    longest: Array = np.zeros(-(-len(rows) // batch), np.int64)
    for array in arrays:
        longest = np.maximum(longest, _longest(_places_taken(array, rows), batch))
    return longest


def _longest(lengths: Array, batch: int) -> Array:
    """The greatest of the lengths of each batch."""
    return np.maximum.reduceat(lengths, np.arange(0, len(lengths), batch))


def _places_taken(array: Array, rows: Array | None = None) -> Array:
    """How many places each of `rows`, or each row, takes: some at a time, as the array may lie on the disk."""
    count = len(array) if rows is None else len(rows)
    found: Array = np.zeros(count, np.int32)
    for first in range(0, count, _ROWS_AT_ONCE):
        end = first + _ROWS_AT_ONCE
        is_used = (array[first:end] if rows is None else array[rows[first:end]]) != 0
        used = is_used.reshape(*is_used.shape[:2], -1).any(axis=2)
        found[first:end] = np.where(used.any(axis=1), used.shape[1] - np.argmax(used[:, ::-1], axis=1), 0)
    return found


def best_sizes(
    part: Part, arrays: Mapping[str, Sequence[Array]], seed: int, batch: int, most: int, least: float = 0.0
) -> tuple[Mapping[str, int], ...]:
    """Up to `most` sizes of the dimensions in `arrays`, the smallest first: every batch of a training fits in the last.

    With them, the batches have the fewest places in all, each in the first size that holds it. One more size must save
    `least` places in an epoch, besides a part of all.
    """
    orders = [rows_of_epoch(part, seed, epoch, batch) for epoch in range(_EPOCHS)]
    found: list[list[Array]] = []
    for texts in arrays.values():
        taken = np.max([_places_taken(array) for array in texts], axis=0)
        found.append([_longest(taken[order], batch) for order in orders])
    points, counts = np.unique(np.stack([np.concatenate(each) for each in found], axis=1), axis=0, return_counts=True)
    order = np.argsort(points.sum(axis=1), kind="stable")
    groups = np.array_split(order, min(len(order), _POINTS))
    boxes = _partition(
        np.array([points[group].max(axis=0) for group in groups]),
        [int(counts[group].sum()) for group in groups],
        most,
        least * _EPOCHS / batch,
    )
    return tuple(dict(zip(arrays, map(int, box), strict=True)) for box in boxes)


def _partition(points: Array, counts: Sequence[int], most: int, least: float) -> list[Array]:
    """The points cut into runs, by dynamic programming, so that all have the least area; the largest of each run."""
    before = np.concatenate([[0], np.cumsum(counts)])
    size = len(points)
    costs = np.full((size, size + 1), np.inf)  # of the run from a point up to before another
    for first in range(size):
        places = np.maximum.accumulate(points[first:]).sum(axis=1)
        costs[first, first + 1 :] = places * (before[first + 1 :] - before[first])
    best = np.array([0.0] + [np.inf] * size)  # of all points before one
    begins: list[Array] = []
    for _ in range(min(most, size)):
        sums = best[:-1, None] + costs
        begin, after = sums.argmin(axis=0), sums.min(axis=0)
        if begins and best[-1] - after[-1] < max(least, _LEAST_SHARE * best[-1]):
            break
        best = after
        begins.append(begin)
    boxes: list[Array] = []
    end = size
    for begin in reversed(begins):
        boxes.insert(0, points[begin[end] : end].max(axis=0))
        end = int(begin[end])
    return boxes
