"""A row of the data through a model by native programs, with inputs and weights as they are or changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from compiler import driver
from compiler.driver import Array, Options, Program, Tensors
from compiler.errors.diagnostics import SourceError, UsageError
from compiler.inspection.values import Named, WatchedValues, named_values, watched_gradients, watched_values
from compiler.support.record import record
from runtime.analysis.evaluation_data import evaluation_data
from runtime.data.part import Part, in_precision
from runtime.data.preparation import Preparation
from runtime.inference.model import runtime_settings, weight_names
from runtime.runs.frozen_weights import put_frozen_weights
from runtime.runs.trained import open_trained_run
from runtime.train.jobs import load_data
from runtime.view.changes import Change, expect_known_integers, made_to

if TYPE_CHECKING:
    from compiler.inspection.reading import Reading
    from runtime.view.viewed import Viewed

Values = Mapping[Named, Array]
_KEPT = 6  # results of rows with changes


@record(eq=False)
class Examples:
    """Rows of data with the weights that they run through; `said` names both."""

    program: Program
    options: Options
    part: Part
    preparation: Preparation | None
    tensors: Tensors
    said: str


def examples_of(viewed: Viewed, reading: Reading) -> Examples:
    """The rows and weights of a run, or of a file the last part of its data and first weights.

    Raises SourceError for a text with mistakes, DataError for data that cannot be read, and UsageError without any.
    """
    if reading.subject is None:
        raise SourceError(tuple(f for f in reading.findings if f.severity == "error"))
    program = reading.subject.program
    if viewed.run is not None:
        trained = open_trained_run(viewed.run, False, viewed.overrides, viewed.options)
        chosen, options = evaluation_data(trained, None, None), replace(trained.options, batch=1)
        said = f"{chosen.name}, {trained.checkpoint}"
        part = in_precision(chosen.part, options.dtype)
        return Examples(program, options, part, trained.preparation, trained.tensors, said)
    if program.plan is None or program.plan.data is None:
        raise UsageError("the text names no data", "add `data = …` to its `train`")
    options = replace(driver.options_of(program, viewed.options), batch=1)
    program, seed = driver.with_wide_inputs(program, options), program.plan.seed
    data = load_data(program, None)
    parts = {"test": data.test, "validation": data.validation, "training": data.train}
    name, part = next((name, part) for name, part in parts.items() if part is not None)
    tensors = driver.allocate(program, options)
    driver.initialise(program, tensors, seed, options)
    put_frozen_weights(program, tensors)
    said = f"the {name} part, first weights of seed {seed}"
    return Examples(program, options, in_precision(part, options.dtype), data.preparation, tensors, said)


class Watching:
    """The values of the text, and the gradients there, of any row; what was computed last is kept."""

    def __init__(self, examples: Examples, reading: Reading) -> None:
        assert reading.subject is not None
        self.examples = examples
        self.named: Sequence[Named] = named_values(reading.subject.trace)
        self._known: dict[tuple[int, tuple[Change, ...], bool], Values] = {}

    def row(self, number: int) -> dict[str, Array]:
        """The inputs and targets of a row of the part, counted from 0, each as a batch. Raises UsageError."""
        part = self.examples.part
        if not 0 <= number < len(part.rows):
            raise UsageError(f"there is no row {number}", f"rows are 0 to {len(part.rows) - 1}")
        return {name: np.array(array[part.rows[number]])[None] for name, array in part.arrays.items()}

    def weights(self) -> dict[str, Array]:
        """The parameters and states."""
        return {name: self.examples.tensors[name] for name in weight_names(self.examples.program)}

    def values(self, number: int, changes: tuple[Change, ...] = ()) -> Values:
        """Each named value of the prediction of a row. Raises DlcError for a change that cannot be made."""
        return self._computed(number, changes, False)

    def gradients(self, number: int, changes: tuple[Change, ...] = ()) -> Values:
        """The gradient of the loss of a row in each value and parameter that has one. Raises DlcError."""
        if self.examples.program.plan is None:
            raise UsageError("a model without `train` has no loss", "add a `train` with `loss = …`")
        return self._computed(number, changes, True)

    @cached_property
    def _forward(self) -> WatchedValues:
        return watched_values(self.examples.program, self.named, self.examples.options)

    @cached_property
    def _backward(self) -> WatchedValues:
        return watched_gradients(self.examples.program, self.named, self.examples.options)

    def _computed(self, number: int, changes: tuple[Change, ...], is_backward: bool) -> Values:
        key = number, changes, is_backward
        if key not in self._known:
            found = self._run(self._backward if is_backward else self._forward, number, changes)
            self._known = {**dict([*self._known.items()][1 - _KEPT :]), key: found}
        return self._known[key]

    def _run(self, program: WatchedValues, number: int, changes: tuple[Change, ...]) -> Values:
        examples, rows, before = self.examples, self.row(number), self.weights()
        inputs = {spec.name: rows[spec.name] for spec in examples.program.inputs if not spec.is_target}
        changed = made_to(changes, before, inputs, examples.preparation)
        rows.update((name, array) for name, array in changed.items() if name in rows)
        expect_known_integers(examples.program, examples.part, rows, changed.keys())
        written = {name: array for name, array in changed.items() if name in before}
        kept = {name: np.array(before[name]) for name in written}
        for name, array in written.items():
            examples.tensors.write(name, array)
        try:
            return program.run(examples.tensors, rows, runtime_settings(examples.program))
        finally:
            for name, array in kept.items():
                examples.tensors.write(name, array)
