"""A trained model as a server computes it: rows of requests to the outputs that `dlc predict` gives for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from compiler import driver
from compiler.driver import Array, InputSpec, Program
from compiler.errors.diagnostics import CheckpointError, UsageError
from compiler.support.record import record
from compiler.types import numpy_dtype
from runtime.data.choices import refuse_outside_inputs
from runtime.data.loading import part_of_arrays, part_of_texts, refuse_numbered, refuse_unprepared
from runtime.data.part import Part
from runtime.data.preparation import Preparation
from runtime.data.specs import dtype_of, row_shape
from runtime.inference.buckets import Buckets
from runtime.inference.model import weight_names
from runtime.inference.prediction import Predictor, classes
from runtime.runs.trained import Trained
from runtime.serving.requests import Interface
from runtime.serving.tensors import TensorInfo, datatype_of

Columns: TypeAlias = Mapping[str, Array]


@record
class Compiled:
    """A program as it computes: weights of the same program, from any of its checkpoints, go with it.

    Where `is_row_by_row`, a row has the same outputs in any batch.
    """

    program: Program
    predictor: Predictor
    is_row_by_row: bool


def compiled(trained: Trained, known: Compiled | None = None) -> Compiled:
    """The program of a trained model, compiled; `known` where that is the same program."""
    program = trained.program
    if known is not None and _identity(known.program) == _identity(program):
        return known
    predictor = Predictor(program, trained.options, trained.sizes)
    return Compiled(program, predictor, driver.predicts_row_by_row(program))


def _identity(program: Program) -> tuple[object, ...]:
    texts = [(source.name, source.text) for source in program.sources]
    return program.name, program.model, texts, [(setting.name, setting.value) for setting in program.settings]


class ServedModel:
    """One set of weights. Its methods are called from one thread at a time."""

    def __init__(self, trained: Trained, version: str, known: Compiled | None = None) -> None:
        """Compile the model, unless `known` has its program. Raises UsageError and CheckpointError."""
        self.name, self.version = trained.program.model, version
        self._trained, self._preparation = trained, trained.preparation
        self._specs = [spec for spec in trained.program.inputs if not spec.is_target]
        if self._preparation is None:
            _refuse_unknown_preparation(trained.program)
        _refuse_spoilt_weights(trained)
        self.compiled = compiled(trained, known)
        self._buckets = Buckets(trained.program, trained.sizes)
        self.inputs = tuple(
            _input_info(spec, self._preparation) for spec in self._specs if not _is_made_from_text(spec, trained)
        )
        # To find what an integer out of range changes takes long: the graph is evaluated with and without it.
        self.may_block = bool(trained.program.index_limits)
        self._is_plain = not self.may_block and all(map(self._takes_numbers_as_they_are, self._specs))

    def interface(self, most_rows: int) -> Interface:
        """What requests give and responses hold, found by a prediction of one row of zeros. Raises UsageError."""
        zeros = {s.name: np.full((1, *row_shape(s)), s.low or 0, dtype_of(s)) for s in self._specs}
        columns = self.predict([Part(zeros, np.arange(1))])
        if not columns:
            raise UsageError(f"no output of {self.name} has rows", "an output needs the axis `batch`")
        outputs = tuple(TensorInfo(n, datatype_of(a.dtype), a.shape[1:]) for n, a in columns.items())
        return Interface(self.inputs, outputs, most_rows)

    def part_of(self, arrays: Mapping[str, Array]) -> Part:
        """The rows of a request, prepared as the training prepared its own. Raises DataError."""
        if self._is_plain:
            return Part(arrays, np.arange(len(next(iter(arrays.values())))))
        program, preparation = self._trained.program, self._preparation
        if preparation is not None and preparation.readings:
            return part_of_texts(self._specs, arrays, preparation)
        part = part_of_arrays(self._specs, arrays, preparation)
        refuse_outside_inputs(program, part)
        return part

    def predict(self, parts: Sequence[Part]) -> Columns:
        """Each output and each class that it stands for, a row for each row of the parts, one after the other.

        Texts of several lengths are computed length by length, so that none depends on the longest beside it.
        """
        arrays = {name: _joined([part.arrays[name] for part in parts]) for name in parts[0].arrays}
        rows = np.arange(sum(len(part.rows) for part in parts))
        predictor, tensors = self.compiled.predictor, self._trained.tensors
        stretches = [rows] if not self._trained.sizes else self._buckets.stretches(arrays, rows)
        found = [predictor.rows_first(predictor.predict(tensors, Part(arrays, stretch))) for stretch in stretches]
        outputs = found[0]
        if len(stretches) > 1:
            places = np.argsort(np.concatenate(stretches))
            outputs = {name: np.concatenate([one[name] for one in found])[places] for name in outputs}
        targets = [spec for spec in self._trained.program.inputs if spec.is_target]
        return {**outputs, **classes(outputs, targets, self._preparation)}

    def _takes_numbers_as_they_are(self, spec: InputSpec) -> bool:
        """Whether what a request gives is what the program reads: floats that no training scaled or filled."""
        preparation = self._preparation
        is_prepared = preparation is not None and (preparation.is_of_columns or bool(preparation.readings))
        return spec.type.dtype.is_float and not is_prepared


def _joined(arrays: Sequence[Array]) -> Array:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _is_made_from_text(spec: InputSpec, trained: Trained) -> bool:
    """Whether an input is the mask of a text, which is computed from that."""
    preparation = trained.preparation
    return preparation is not None and bool(preparation.readings) and spec.mask_of is not None


def _input_info(spec: InputSpec, preparation: Preparation | None) -> TensorInfo:
    """How requests give an input: as the training data held it, in texts, words, or numbers as yet unscaled."""
    row, datatype = row_shape(spec), datatype_of(numpy_dtype(spec.type.dtype))
    dtype_of(spec)  # raises DataError for an element type that no data has
    if preparation is None:
        return TensorInfo(spec.name, datatype, row)
    if preparation.readings and preparation.tokenizer_of(spec.name) is not None:
        return TensorInfo(spec.name, "BYTES", ())
    if not preparation.is_of_columns:
        return TensorInfo(spec.name, datatype, row)
    columns = preparation.columns.get(spec.name, ())
    if any(column in preparation.vocabularies for column in columns):
        return TensorInfo(spec.name, "BYTES", row)
    may_miss = any(column in preparation.fills for column in columns)
    return TensorInfo(spec.name, "FP64" if spec.type.dtype.is_float else datatype, row, may_miss)


def _refuse_unknown_preparation(program: Program) -> None:
    """Raise UsageError where weights alone do not say how the training prepared what requests give."""
    if program.plan is not None and program.plan.data is not None:
        options = dict(program.plan.data.options)
        refuse_unprepared("what requests give", options)
        refuse_numbered("what requests give", program.inputs, options)


def _refuse_spoilt_weights(trained: Trained) -> None:
    for name in weight_names(trained.program):
        if np.isnan(trained.tensors[name]).any():
            message = f"`{name}` holds NaN, so no output would be a number"
            raise CheckpointError(message, trained.weights, "serve other weights, or train again")
