"""A `sample` of a trained model to its rows, and these as pictures in a grid."""

from __future__ import annotations

import math
import time

import numpy as np

from compiler import driver
from compiler.driver import Array, GraphKind, Options, Program, Purpose, Sampler, Steps, Tensors
from compiler.errors.diagnostics import UsageError
from compiler.errors.suggestions import did_you_mean
from compiler.support.record import record
from compiler.targets.available_memory import expect_memory
from compiler.types import Shape, numpy_dtype
from runtime.data.part import in_dtype
from runtime.inference.evaluation import Pace
from runtime.inference.model import runtime_settings

_GAP, _LEAST_SIDE = 2, 32  # pixels between pictures, and of the longer side of a picture in a grid


def sampler_of(program: Program, name: str | None) -> Sampler:
    """The sampler of a name, or the only one. Raises UsageError."""
    names = [sampler.name for sampler in program.samplers]
    if not names:
        fix = f"add `sample rows from {program.model} {{ … }}` to the model file; `dlc explain E0630` shows one"
        raise UsageError(f"nothing says how to sample from {program.model}", fix)
    if name is None:
        if len(names) > 1:
            raise UsageError(f"{program.model} has {len(names)} samplers", f"name one: {', '.join(names)}")
        return program.samplers[0]
    found = next((sampler for sampler in program.samplers if sampler.name == name), None)
    if found is None:
        raise UsageError(f"{program.model} has no sampler {name}", did_you_mean(name, names) or f"there is {names[0]}")
    return found


class RowSampler:
    """The compiled sampler of a program. A row is made of the seed and its number alone."""

    def __init__(self, program: Program, sampler: Sampler, options: Options) -> None:
        kind = GraphKind(Purpose.SAMPLING, sampler=sampler.name)
        self._executable = driver.compile_program(program, kind, options)
        self._settings, self._batch = runtime_settings(program), options.batch
        outputs = sampler.graph.outputs
        self._dtypes = {o.name: in_dtype(numpy_dtype(o.value.type.dtype), options.dtype) for o in outputs}
        self._row_sizes = {o.name: self._dtypes[o.name].itemsize * _elements(o.value.type.shape[1:]) for o in outputs}
        self._pace = Pace()

    def rows(self, tensors: Tensors, count: int, seed: int = 0) -> dict[str, Array]:
        """Each output by name, for the rows from 0 to `count`, which is at least 1. Raises ResourceError."""
        self._expect_room(count)
        numbers = np.arange(count, dtype=np.int64)
        pieces: dict[str, list[Array]] = {name: [] for name in self._dtypes}
        first = 0
        while first < count:
            rows = numbers[first : first + self._pace.steps * self._batch]
            begin = time.perf_counter()
            data = {driver.ROW_NUMBERS: numbers}
            results = self._executable.run(Steps(tensors, data, rows, self._batch, 0, seed, self._settings))
            self._pace.observe(-(-len(rows) // self._batch), time.perf_counter() - begin)
            for name, dtype in self._dtypes.items():
                pieces[name].append(results.arrays[name].astype(dtype, copy=False))
            first += len(rows)
        return {name: np.concatenate(arrays) for name, arrays in pieces.items()}

    def _expect_room(self, count: int) -> None:
        """Raise ResourceError where so many rows do not fit; at the end there are two copies of them."""
        needed = {name: 2 * count * size for name, size in self._row_sizes.items()}
        needed["numbers of the rows"] = count * np.dtype(np.int64).itemsize
        expect_memory(f"a sample of {count:,} rows", needed, "give a smaller --n")


def _elements(shape: Shape) -> int:
    """How many elements a row has, whose extents are numbers."""
    return math.prod(extent for extent in shape if isinstance(extent, int))


def unusual_rows(outputs: dict[str, Array]) -> dict[str, int]:
    """By output, how many rows have a value that is not finite, where there are any."""
    floats = {name: array for name, array in outputs.items() if array.dtype.kind == "f"}
    found = {n: int((~np.isfinite(a)).reshape(len(a), -1).any(axis=1).sum()) for n, a in floats.items()}
    return {name: count for name, count in found.items() if count}


@record
class ValueRange:
    """The values that are black and white."""

    low: float
    high: float


def drawable(outputs: dict[str, Array], name: str | None) -> tuple[str, Array]:
    """The output that has a picture for each row, [rows, channels, height, width], and its name. Raises UsageError."""
    found = {n: shaped for n, values in outputs.items() if (shaped := _channels_first(values)) is not None}
    if name is not None and name not in outputs:
        raise UsageError(f"there is no output {name}", did_you_mean(name, outputs) or f"there is {', '.join(outputs)}")
    if not found or (name is not None and name not in found):
        shapes = ", ".join(f"{n} {list(v.shape[1:])}" for n, v in outputs.items())
        raise UsageError(
            f"no output has pictures: {shapes}" if name is None else f"the output {name} has no pictures: {shapes}",
            "a picture is [h, w], [1, h, w] or [3, h, w]; an .npz file takes any output",
        )
    if name is None and len(found) > 1:
        raise UsageError(f"{len(found)} outputs have pictures", f"name one with --picture: {', '.join(found)}")
    chosen = next(iter(found)) if name is None else name
    return chosen, found[chosen]


def _channels_first(values: Array) -> Array | None:
    if values.ndim == 3:
        values = values[:, None]
    is_picture = values.ndim == 4 and values.shape[1] in (1, 3) and values.dtype.kind in "uif" and min(values.shape)
    return values if is_picture else None


def as_bytes(name: str, pictures: Array, value_range: ValueRange | None) -> Array:
    """Pictures of bytes: those of u8 as they are, others by the range. Raises UsageError where they need one."""
    if value_range is None:
        if pictures.dtype != np.uint8:
            fix = "give it, as --range 0 1; or end the sampler with bytes: `cast(255 * x, u8)`"
            raise UsageError(f"nothing says which values of {name} are black and white", fix)
        return pictures
    wide = np.nan_to_num(pictures.astype(np.float64), nan=value_range.low)
    share = (np.clip(wide, value_range.low, value_range.high) - value_range.low) / (value_range.high - value_range.low)
    return np.round(share * 255).astype(np.uint8)


def grid_of(pictures: Array) -> Array:
    """One picture [channels, height, width] of u8 [rows, channels, h, w], row by row in about a square.

    Pictures below 32 pixels are enlarged by whole factors.
    """
    factor = max(1, _LEAST_SIDE // max(pictures.shape[2:]))
    large = pictures.repeat(factor, axis=2).repeat(factor, axis=3)
    count, channels, height, width = large.shape
    columns = math.ceil(math.sqrt(count))
    lines = -(-count // columns)
    grid = np.zeros((channels, lines * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP), np.uint8)
    for number, picture in enumerate(large):
        top, left = number // columns * (height + _GAP), number % columns * (width + _GAP)
        grid[:, top : top + height, left : left + width] = picture
    return grid
