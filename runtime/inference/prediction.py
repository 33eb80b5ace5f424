"""Inputs to the model's outputs, and to the classes that the outputs stand for."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from compiler import driver
from compiler.driver import PREDICTION, Array, GraphKind, Options, Program, Purpose, Steps, Tensors
from compiler.types import Shape, numpy_dtype
from runtime.data.part import Part
from runtime.data.preparation import Preparation
from runtime.data.specs import InputSpec
from runtime.inference.buckets import Buckets, Sizes
from runtime.inference.model import batch_axes, runtime_settings
from runtime.inference.pace import Pace
from runtime.inference.precision import in_dtype, in_precision


class Predictor:
    """The compiled inference of a program, for any number of rows; batches are of `sizes` unless outputs are, too."""

    def __init__(self, program: Program, options: Options, sizes: Sizes = ()) -> None:
        buckets = Buckets(program, sizes)
        self._buckets = buckets if _output_shapes(buckets.smallest) == _output_shapes(program) else Buckets(program, ())
        self._executable = self._buckets.executable(lambda one: driver.compile_program(one, PREDICTION, options))
        self._settings = runtime_settings(program)
        self._batch, self._dtype = options.batch, options.dtype
        self._pace = Pace()
        outputs = program.inference_graph.outputs
        axes = batch_axes(program)
        self._axes = {name: axes[name] for name in program.outputs}
        self._dtypes = {o.name: in_dtype(numpy_dtype(o.value.type.dtype), self._dtype) for o in outputs}

    def predict(self, tensors: Tensors, part: Part) -> dict[str, Array]:
        """Each output by name, one row for each row of `part`, which has at least one.

        An output without a batch axis, such as a mean over all rows, is that of the last batch.
        """
        part = in_precision(part, self._dtype)
        order = self._buckets.ordered(part.arrays, part.rows)
        pieces: dict[str, list[Array]] = {}
        first = 0
        while first < len(order):
            rows = part.rows[order[first : first + self._pace.steps * self._batch]]
            begin = time.perf_counter()
            results = self._executable.run(Steps(tensors, part.arrays, rows, self._batch, settings=self._settings))
            self._pace.observe(-(-len(rows) // self._batch), time.perf_counter() - begin)
            lasting = {name: values[-1].astype(self._dtypes[name]) for name, values in results.scalars.items()}
            for name, values in (*results.arrays.items(), *lasting.items()):
                pieces.setdefault(name, []).append(values)
            first += len(rows)
        places = np.argsort(order)
        return {
            name: pieces[name][-1] if axis is None else np.concatenate(pieces[name], axis).take(places, axis)
            for name, axis in self._axes.items()
        }

    def rows_first(self, outputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs that have a part for each row, with that axis in front."""
        return {name: np.moveaxis(outputs[name], axis, 0) for name, axis in self._axes.items() if axis is not None}


def attention_weights(program: Program, tensors: Tensors, part: Part, row: int, options: Options) -> dict[str, Array]:
    """The attention weights for one row of `part`, by the paths of their layers. Raises UsageError without any."""
    executable = driver.compile_program(program, GraphKind(Purpose.ATTENTION), replace(options, batch=1))
    part = in_precision(part, options.dtype)
    rows = part.rows[row : row + 1]
    found = executable.run(Steps(tensors, part.arrays, rows, 1, settings=runtime_settings(program)))
    return {name: array[0] for name, array in found.arrays.items()}


def _output_shapes(program: Program) -> dict[str, Shape]:
    return {output.name: output.value.type.shape for output in program.inference_graph.outputs}


def classes(
    outputs: Mapping[str, Array], targets: Sequence[InputSpec], preparation: Preparation | None
) -> dict[str, Array]:
    """For a target of `n` classes: the most likely class of each row, under the target's name.

    A target `in 0..n` belongs to the output of floats that has n numbers a row; where two outputs or two targets
    claim one another, nothing is decoded. Classes that were words in the training data are words here.
    """
    found: dict[str, Array] = {}
    for spec, name in class_outputs(outputs, targets):
        best = outputs[name].argmax(axis=-1)
        words = preparation.vocabulary_of(spec.name) if preparation is not None else None
        usable = words is not None and len(words) == outputs[name].shape[-1]
        found[spec.name] = np.array(words)[best] if usable else best
    return found


def class_outputs(outputs: Mapping[str, Array], targets: Sequence[InputSpec]) -> list[tuple[InputSpec, str]]:
    """Each target of classes with the output that scores them, where neither claims another."""
    pairs = [(spec, name) for spec in targets for name in outputs if scores(outputs[name], spec)]
    targets_of = [spec.name for spec, _ in pairs]
    outputs_of = [name for _, name in pairs]
    return [
        (spec, name)
        for spec, name in pairs
        if targets_of.count(spec.name) == 1 and outputs_of.count(name) == 1 and spec.name not in outputs
    ]


def scores(values: Array, spec: InputSpec) -> bool:
    """Whether values [rows, …, n] have a number for each class of a target `in 0..n`."""
    is_classes = spec.low == 0 and spec.high is not None and spec.high > 1 and not spec.type.dtype.is_float
    return is_classes and values.dtype.kind == "f" and values.ndim > 1 and values.shape[-1] == spec.high
