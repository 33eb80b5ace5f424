"""Inputs to a model's outputs, the classes that these stand for, attention weights, and files of all of them."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from compiler import driver
from compiler.driver import PREDICTION, Array, GraphKind, Options, Program, Purpose, Steps, Tensors
from compiler.errors.diagnostics import SourceError
from compiler.types import Shape, at_batch, numpy_dtype
from runtime.data.part import Part, in_dtype, in_precision
from runtime.data.preparation import Preparation
from runtime.data.specs import InputSpec
from runtime.inference.buckets import Buckets, Sizes
from runtime.inference.evaluation import Pace
from runtime.inference.model import batch_axes, runtime_settings
from runtime.support.files import json_text, write_output


class Predictor:
    """The compiled inference of a program, for any number of rows; batches are of `sizes` unless outputs are, too."""

    def __init__(self, program: Program, options: Options, sizes: Sizes = ()) -> None:
        buckets = Buckets(program, sizes)
        self._buckets = (
            buckets if _output_shapes(buckets.program(0)) == _output_shapes(program) else Buckets(program, ())
        )
        self._executable = self._buckets.executable(lambda one: driver.compile_program(one, PREDICTION, options))
        self._settings = runtime_settings(program)
        self._batch, self._dtype = options.batch, options.dtype
        self._pace = Pace()
        outputs = program.inference_graph.outputs
        axes = batch_axes(program)
        self._axes = {name: axes[name] for name in program.outputs}
        self._dtypes = {o.name: in_dtype(numpy_dtype(o.value.type.dtype), self._dtype) for o in outputs}

    def predict(self, tensors: Tensors, part: Part) -> dict[str, Array]:
        """Each output by name, one row for each row of `part`.

        An output without a batch axis, such as a mean over all rows, is that of the last batch; without rows, there is
        none.
        """
        if not len(part.rows):
            return self._of_no_rows()
        part = in_precision(part, self._dtype)
        order = self._buckets.ordered(part.arrays, part.rows)
        pieces: dict[str, list[Array]] = {}
        first = 0
        while first < len(order):
            rows = part.rows[order[first : first + self._pace.steps * self._batch]]
            begin = time.perf_counter()
            done = first // self._batch
            results = self._executable.run(
                Steps(tensors, part.arrays, rows, self._batch, done, settings=self._settings)
            )
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

    def _of_no_rows(self) -> dict[str, Array]:
        shapes = _output_shapes(self._buckets.program(0))
        rowed = [name for name, axis in self._axes.items() if axis is not None]
        return {name: np.empty(at_batch(shapes[name], 0), self._dtypes[name]) for name in rowed}

    def rows_first(self, outputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs that have a part for each row, with that axis in front."""
        return {name: np.moveaxis(outputs[name], axis, 0) for name, axis in self._axes.items() if axis is not None}


def in_batches(parts: Iterable[Part], batch: int) -> Iterator[Part]:
    """The rows of all parts, in order, in parts of whole batches but for the last."""
    held: list[dict[str, Array]] = []
    count = 0
    for part in parts:
        held.append({name: array[part.rows] for name, array in part.arrays.items()})
        count += len(part.rows)
        if count >= batch:
            joined = {name: np.concatenate([arrays[name] for arrays in held]) for name in held[0]}
            whole = count // batch * batch
            yield Part({name: array[:whole] for name, array in joined.items()}, np.arange(whole))
            held, count = [{name: array[whole:] for name, array in joined.items()}], count - whole
    if count:
        yield Part({n: np.concatenate([arrays[n] for arrays in held]) for n in held[0]}, np.arange(count))


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


Tokens: TypeAlias = tuple[str, ...]


def tokens_along(
    weights: Mapping[str, Array], program: Program, preparation: Preparation, part: Part, row: int
) -> dict[str, tuple[Tokens | None, Tokens | None]]:
    """For each of the attention weights of a row of `part`: the tokens of its queries and of its keys.

    None stands for an axis that has the length of no input of tokens, or of several that do not hold the same.
    """
    readers = [
        spec
        for spec in program.inputs
        if not spec.is_target and spec.type.rank == 2 and preparation.tokenizer_of(spec.name) is not None
    ]
    moved = _shapes_at_other_lengths(program, readers)
    texts = {spec.name: _tokens(preparation, spec.name, part.arrays[spec.name][part.rows[row]]) for spec in readers}

    def along(name: str, axis: int) -> Tokens | None:
        shape = weights[name].shape
        if len(shape) < -axis:
            return None
        having = {
            text
            for reader, text in texts.items()
            if len(text) == shape[axis] and (reader not in moved or moved[reader][name][axis] != shape[axis])
        }
        return having.pop() if len(having) == 1 else None

    return {name: (along(name, -2), along(name, -1)) for name in weights}


def _shapes_at_other_lengths(program: Program, readers: Sequence[InputSpec]) -> dict[str, Mapping[str, Shape]]:
    """The shapes of all weights were the texts of an input one token shorter: so the axes of its length are told.

    Only of inputs whose length the data decided, and the model allows to be another.
    """
    decided = driver.data_dimensions(program)
    found: dict[str, Mapping[str, Shape]] = {}
    for spec in readers:
        length = spec.dimension_names[1] if spec.dimension_names else None
        if length in decided:
            other = decided[length] - 1 or 2
            try:
                found[spec.name] = driver.attention_shapes(driver.resized(program, {length: other}))
            except SourceError:
                continue
    return found


def _tokens(preparation: Preparation, name: str, numbers: Array) -> Tokens:
    tokenizer = preparation.tokenizer_of(name)
    assert tokenizer is not None
    return tuple(tokenizer.shown(int(number)) for number in numbers)


FORMATS = (".npz", ".jsonl")


def json_lines(arrays: Mapping[str, Array]) -> Iterator[str]:
    """One line a row: `{"logits": [0.1, 2.5], "label": "cat"}`. A number that is not finite becomes null."""
    columns = {name: _shortest(values).tolist() for name, values in arrays.items()}
    for row in range(min(map(len, columns.values()))):
        yield json_text({name: values[row] for name, values in columns.items()})


def write_predictions(path: Path, arrays: Mapping[str, Array]) -> None:
    """Put the file in place in one step, in the format of its ending. Raises UsageError, OSError."""
    if path.suffix == ".npz":
        content = npz_bytes(arrays)
    else:
        content = "".join(line + "\n" for line in json_lines(arrays)).encode()
    write_output(path, content)


def npz_bytes(arrays: Mapping[str, Array]) -> bytes:
    """The content of an npz file. `np.savez` takes the names as its own arguments, and so not every name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return buffer.getvalue()


def _shortest(values: Array) -> Array:
    """The f64 whose shortest text is that of the f32 or f16: 0.1 is printed as 0.1. NaN and infinity become None."""
    if values.dtype.kind != "f":
        return values
    wide = values.astype(np.str_).astype(np.float64) if values.dtype != np.float64 else values
    spoilt = ~np.isfinite(wide)
    if bool(spoilt.any()):
        wide = wide.astype(np.object_)
        wide[spoilt] = None
    return wide
