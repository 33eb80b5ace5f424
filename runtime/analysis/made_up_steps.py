"""Made-up rows, and steps of a training or of an inference on one batch of them in memory, for measuring speed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from compiler import driver
from compiler.driver import (
    INITIALISATION,
    STEP_OF_MODE,
    TRAINING,
    Array,
    Executable,
    GraphKind,
    Options,
    Program,
    Purpose,
    Steps,
)
from compiler.errors.diagnostics import DlcError, UsageError
from runtime.data.part import Part, at_epoch, in_precision, numbered
from runtime.data.specs import InputSpec, dtype_of, row_shape
from runtime.inference.model import runtime_settings
from runtime.runs.position import Length
from runtime.support.memory import expect_room

Weights: TypeAlias = Mapping[str, Array]  # by the names of tensors
_SUPPOSED_STEPS = 10_000  # `total_steps` of a schedule


def kind_of(mode: str, sampler: str = "") -> GraphKind:
    """The step of mode `train` or `infer`, or a batch of rows of a `sampler`."""
    return GraphKind(Purpose.SAMPLING, sampler=sampler) if sampler else STEP_OF_MODE[mode]


def usual_batch(program: Program, mode: str, sampler: str = "") -> int:
    """The rows of a step of mode `train` or `infer` or of a sampler where none are asked for.

    Raises UsageError for the training of a model without `train`.
    """
    if kind_of(mode, sampler) is not TRAINING:
        return 1
    if program.plan is None:
        raise UsageError(f"{program.model} has no `train`, so there is no training step", "use --mode infer")
    return program.plan.usual_rows


class MadeUpSteps:
    """Steps one after the other on the same tensors and data, from `weights` on, or else from the start values."""

    def __init__(
        self,
        program: Program,
        mode: str,
        batch: int,
        options: Options,
        weights: Weights | None = None,
        sampler: str = "",
    ) -> None:
        self._trains = kind_of(mode, sampler) is TRAINING
        seed = 0 if program.plan is None else program.plan.seed
        self.tensors = driver.allocate(program, options)
        driver.initialise(program, self.tensors, seed, options)
        for name, values in (weights or {}).items():
            self.tensors.write(name, values)
        inputs = [spec for spec in program.inputs if self._trains or not spec.is_target]
        part = in_precision(Part(synthetic(inputs, batch, seed), np.arange(batch)), options.dtype)
        data = at_epoch(numbered(program, part).arrays, 0) if self._trains else part.arrays
        if sampler:
            data = {driver.ROW_NUMBERS: np.arange(batch, dtype=np.int64)}
        settings = runtime_settings(program, Length(batch, batch, _SUPPOSED_STEPS) if self._trains else None)
        self._rows = part.rows
        self._steps = Steps(self.tensors, data, self._rows, batch, 0, seed, settings, lasting=True)

    def run(self, executable: Executable, count: int) -> float:
        """Make so many: of a training in one call, of an inference each in its own. The result is the seconds."""
        calls, each = (1, count) if self._trains else (count, 1)
        steps = replace(self._steps, rows=self._rows if each == 1 else np.tile(self._rows, each))
        start = time.perf_counter()
        for _ in range(calls):
            executable.run(steps)
        seconds = time.perf_counter() - start
        self._steps = replace(steps, first_step=steps.first_step + count)
        return seconds


class CompiledSteps(MadeUpSteps):
    """Such steps with the executable that runs them."""

    def __init__(self, program: Program, mode: str, batch: int, options: Options) -> None:
        kind = STEP_OF_MODE[mode]
        driver.compile_ahead(program, (INITIALISATION, kind), options)
        expect_room(program, [kind], options)
        self._executable = driver.compile_program(program, kind, options)
        super().__init__(program, mode, batch, options)

    def __call__(self, count: int) -> float:
        """Make so many; the seconds that they took."""
        return self.run(self._executable, count)


def rows_for_check(program: Program, path: Path | None, batch: int, seed: int) -> tuple[dict[str, Array], bool]:
    """`batch` rows of each input and target, and whether they are real.

    Data that is named by `path` must be there; that of the text may be missing.
    """
    source = None if program.plan is None else program.plan.data
    if path is not None or source is not None:
        from runtime.train.jobs import load_data  # all of a training, which steps on made-up rows do without

        try:
            part = load_data(program, path).train
        except DlcError:
            if path is not None:
                raise
        else:
            rows = np.resize(part.rows, batch)  # from the beginning again, where there are too few
            return {name: array[rows] for name, array in part.arrays.items()}, True
    return synthetic(program.inputs, batch, seed), False


def synthetic(specs: Sequence[InputSpec], rows: int, seed: int) -> dict[str, Array]:
    """Floats are standard normal. Integers are uniform in their range; without one, u8 is 0..256 and others 0..2."""
    generator = np.random.Generator(np.random.Philox(key=np.array([seed & ((1 << 64) - 1), 0], np.uint64)))
    return {spec.name: _array(spec, rows, generator) for spec in specs}


def _array(spec: InputSpec, rows: int, generator: np.random.Generator) -> Array:
    shape, dtype = (rows, *row_shape(spec)), dtype_of(spec)
    if dtype == np.float32:
        return generator.standard_normal(shape, np.float32)
    if dtype.kind == "f":
        return generator.standard_normal(shape).astype(dtype)
    low = spec.low if spec.low is not None else 0
    high = spec.high if spec.high is not None else low + (256 if dtype == np.uint8 else 2)
    return generator.integers(low, high, shape, np.int64).astype(dtype)
