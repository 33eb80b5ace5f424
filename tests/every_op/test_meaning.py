"""The type and the NumPy meaning of every op, each against an independent line."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from comparisons import assert_same
from op_samples import BATCH, SAMPLES, Sample, arrays_of, graph_of, name_of

from compiler.evaluate import evaluate
from compiler.graph.printer import print_graph
from compiler.graph.reader import read_graph
from compiler.graph.verify import verify
from compiler.ops import OPS
from compiler.ops.rules import other_axes
from compiler.types import DType, at_batch, numpy_dtype


def _letters(labels: tuple[int, ...]) -> str:
    return "".join(chr(ord("a") + label) for label in labels)


def _erf_term(n: int, x: Any) -> Any:
    return 2 / math.sqrt(math.pi) * (-1) ** n * x ** (2 * n + 1) / math.factorial(n) / (2 * n + 1)


def _places(op: Any) -> list[Any]:
    sizes = at_batch(op.sizes, BATCH)
    return [start + step * np.arange(n) for start, n, step in zip(op.starts, sizes, op.steps, strict=True)]


def _cumulative(op: Any, x: Any) -> Any:
    n = x.shape[op.axis]
    mask = np.tri(n).T if op.reverse else np.tri(n)
    return np.moveaxis(np.tensordot(mask, np.moveaxis(x, op.axis, 0), 1), 0, op.axis)


def _take(op: Any, x: Any, indices: Any) -> Any:
    if op.by_row:
        return np.array(
            [_take(replace(op, axis=op.axis - 1, by_row=False), *row) for row in zip(x, indices, strict=True)]
        )
    return np.take(x, indices.astype(int), axis=op.axis, mode="clip")


def _scatter(op: Any, indices: Any, updates: Any) -> Any:
    if op.by_row:
        inner = replace(op, axis=op.axis - 1, by_row=False)
        return np.array([_scatter(inner, *row) for row in zip(indices, updates, strict=True)])
    chosen = np.clip(indices.astype(int), 0, op.extent - 1)[..., None] == np.arange(op.extent)
    places = range(op.axis, op.axis + indices.ndim)
    return np.moveaxis(np.tensordot(updates, chosen, axes=(tuple(places), tuple(range(indices.ndim)))), -1, op.axis)


def _put(op: Any, x: Any, part: Any, index: Any) -> Any:
    extent = x.shape[op.axis]
    here = np.arange(extent) == np.clip(int(index), 0, extent - 1)
    return np.where(here.reshape(-1, *(1,) * (x.ndim - op.axis - 1)), part, x)


def _threefry(key: int, counter: int) -> int:
    """The definition in plain Python integers: of both, the low 32 bits come first."""
    mask = 0xFFFFFFFF
    k0, k1 = key & mask, key >> 32 & mask
    keys = (k0, k1, 0x1BD11BDA ^ k0 ^ k1)
    x0, x1 = ((counter & mask) + k0) & mask, ((counter >> 32 & mask) + k1) & mask
    for i in range(20):
        turn = (13, 15, 26, 6, 17, 29, 16, 24)[i % 8]
        x0 = (x0 + x1) & mask
        x1 = ((x1 << turn | x1 >> (32 - turn)) & mask) ^ x0
        if i % 4 == 3:
            j = i // 4 + 1
            x0, x1 = (x0 + keys[j % 3]) & mask, (x1 + keys[(j + 1) % 3] + j) & mask
    return x0 | x1 << 32


def _unit(words: int) -> float:
    return (words >> 8 & 0xFFFFFF) / 2**24


def _stream_draw(op: Any, seed: Any, step: Any) -> Any:
    key = _threefry(int(seed), int(step) & 0xFFFFFFFF | op.stream << 32)
    shape = at_batch(op.shape, BATCH)
    return np.array([_unit(_threefry(key, e)) for e in range(math.prod(shape))]).reshape(shape)


def _keyed_draw(op: Any, keys: Any, counters: Any) -> Any:
    words = [_threefry(int(k), int(c)) for k, c in zip(keys.flat, counters.flat, strict=True)]
    if op.dtype is DType.I64:
        return np.array(words, np.uint64).astype(np.int64).reshape(keys.shape)
    return np.array([_unit(w) for w in words]).reshape(keys.shape)


def _window(op: Any, x: Any) -> Any:
    """Axis by axis and tap by tap."""
    for place, axis in enumerate(op.axes):
        size, stride, dilation = op.sizes[place], op.strides[place], op.dilations[place]
        starts = range(0, x.shape[axis] - dilation * (size - 1), stride)
        taps = [np.take(x, [start + tap * dilation for start in starts], axis) for tap in range(size)]
        x = np.stack(taps, -1)
    return x


def _fold(op: Any, windows: Any) -> Any:
    """The taps, added up by the number of the element that `window` reads there."""
    shape = list(windows.shape[: windows.ndim - len(op.axes)])
    for axis, extent in zip(op.axes, op.extents, strict=True):
        shape[axis] = extent
    reads = _window(op, np.arange(math.prod(shape)).reshape(shape)).ravel()
    return np.bincount(reads, windows.ravel(), math.prod(shape)).reshape(shape)


def _recurrence(op: Any, xs: Any, h: Any, w: Any) -> tuple[Any, Any]:
    """The sample's recurrence, h' = h * (h W + x), step by step."""
    found = np.zeros((op.length, *h.shape))
    for place in reversed(range(op.length)) if op.reverse else range(op.length):
        h = found[place] = h * (np.einsum("bi,ij->bj", h, w) + xs[place])
    return h, found


def _cast(dtype: DType, x: np.ndarray) -> np.ndarray:
    if dtype is DType.BOOL:
        return x != 0
    return np.clip(np.trunc(x), *dtype.limits) if x.dtype.kind == "f" and not dtype.is_float else x


MEANINGS: dict[str, Callable[..., Any]] = {
    "constant": lambda op: op.value,
    "iota": lambda op: np.indices(at_batch(op.shape, BATCH))[op.axis],
    "batch_size": lambda op: BATCH,
    "random_uniform": _stream_draw,
    "threefry": _keyed_draw,
    "neg": lambda op, x: -x,
    "exp": lambda op, x: math.e**x,
    "log": lambda op, x: np.log2(x) * math.log(2),
    "expm1": lambda op, x: np.exp(x) - 1,
    "log1p": lambda op, x: np.log(1 + x),
    "sqrt": lambda op, x: x**0.5,
    "rsqrt": lambda op, x: x**-0.5,
    "tanh": lambda op, x: 1 - 2 / (np.exp(2 * x) + 1),
    "sigmoid": lambda op, x: 1 / (1 + np.exp(-x)),
    "erf": lambda op, x: sum(_erf_term(n, x) for n in range(40)),
    "sin": lambda op, x: np.imag(np.exp(1j * x)),
    "cos": lambda op, x: np.real(np.exp(1j * x)),
    "floor": lambda op, x: x - x % 1,
    "flush": lambda op, x: np.where(np.abs(x) < 2.0 ** (-1022 if x.dtype == np.float64 else -126), 0, x).astype(
        x.dtype
    ),
    "abs": lambda op, x: np.maximum(x, -x),
    "not": lambda op, x: x == 0,
    "add": lambda op, a, b: a + b,
    "sub": lambda op, a, b: a - b,
    "mul": lambda op, a, b: a * b,
    "div": lambda op, a, b: a / b,
    "pow": lambda op, a, b: np.exp(b * np.log(a)),
    "maximum": lambda op, a, b: np.where(a > b, a, b),
    "minimum": lambda op, a, b: np.where(a > b, b, a),
    "floordiv": lambda op, a, b: a // b,
    "mod": lambda op, a, b: a - b * np.floor(a / b),
    "and": lambda op, a, b: a & b,
    "or": lambda op, a, b: a | b,
    "eq": lambda op, a, b: a == b,
    "ne": lambda op, a, b: a != b,
    "lt": lambda op, a, b: a < b,
    "le": lambda op, a, b: a <= b,
    "where": lambda op, c, a, b: np.choose(c.astype(int), (b, a)),
    "fma": lambda op, a, b, c: a * b + c,
    "cast": lambda op, x: _cast(op.dtype, x),
    "sum": lambda op, x: np.apply_over_axes(np.sum, x, op.axes).squeeze(op.axes),
    "max": lambda op, x: np.apply_over_axes(np.max, x, op.axes).squeeze(op.axes),
    "min": lambda op, x: np.apply_over_axes(np.min, x, op.axes).squeeze(op.axes),
    "argmax": lambda op, x: np.argsort(-x, axis=op.axis, kind="stable").take(0, axis=op.axis),
    "cumsum": _cumulative,
    "moments": lambda op, x: (x.mean(op.axes), (x**2).mean(op.axes) - x.mean(op.axes) ** 2),
    "reshape": lambda op, x: np.array(list(x.flat)).reshape(at_batch(op.shape, BATCH)),
    "transpose": lambda op, x: np.moveaxis(x, op.permutation, range(x.ndim)),
    "broadcast": lambda op, x: (
        np.ones(at_batch(op.shape, BATCH)) * np.expand_dims(x, other_axes(len(op.shape), op.axes))
    ),
    "slice": lambda op, x: x[np.ix_(*_places(op))],
    "pad": lambda op, x: np.pad(x, tuple(zip(op.low, op.high, strict=True)), constant_values=x.dtype.type(op.value)),
    "concat": lambda op, *xs: np.concatenate(xs, op.axis),
    "reverse": lambda op, x: x[tuple(slice(None, None, -1 if i in op.axes else 1) for i in range(x.ndim))],
    "window": _window,
    "fold": _fold,
    "contraction": lambda op, a, b: np.einsum(f"{_letters(op.lhs)},{_letters(op.rhs)}->{_letters(op.out)}", a, b),
    "gather": _take,
    "scatter_add": _scatter,
    "put": _put,
    "stop_gradient": lambda op, x: x,
    "custom_gradient": lambda op, *xs: xs[op.inputs],
    "scan": _recurrence,
}


def test_every_op_has_a_meaning_here_and_a_sample() -> None:
    assert set(MEANINGS) == {op.name for op in OPS}
    assert {sample.op.name for sample in SAMPLES} == {op.name for op in OPS}
    assert len({op.name for op in OPS}) == len(OPS)


@pytest.mark.parametrize("sample", SAMPLES, ids=name_of)
def test_meaning(sample: Sample) -> None:
    arrays, graph = arrays_of(sample), graph_of(sample)
    verify(graph)
    found = evaluate(graph, {f"x{i}": array for i, array in enumerate(arrays)}, BATCH)
    wide = [array.astype("f8") if array.dtype.kind == "f" else array for array in arrays]
    with np.errstate(divide="ignore"):
        meaning = MEANINGS[sample.op.name](sample.op, *wide)
    expected = meaning if isinstance(meaning, tuple) else (meaning,)
    for output, array in zip(graph.outputs, expected, strict=True):
        type_ = output.value.type
        assert found[output.name].shape == at_batch(type_.shape, BATCH)
        tolerant = found[output.name].astype("f4") if type_.dtype is DType.F32 else found[output.name]
        if type_.dtype is DType.BF16:
            assert np.allclose(tolerant, array, rtol=2**-8)
            assert not (np.ascontiguousarray(tolerant).view(np.uint32) & 0xFFFF).any()
        else:
            assert_same(output.name, tolerant, np.asarray(array).astype(numpy_dtype(type_.dtype)))


@pytest.mark.parametrize("sample", SAMPLES, ids=name_of)
def test_text_reads_back(sample: Sample) -> None:
    graph = graph_of(sample)
    assert read_graph(print_graph(graph), OPS) == graph
