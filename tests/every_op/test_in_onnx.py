"""Every op as ONNX, run by ONNX Runtime, against its meaning in NumPy; and the numbers at which operators differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")

import conversions
from conversions import all_conversions, assert_converted
from onnx_models import CLOSE, difference, outputs_of
from op_samples import BATCH, SAMPLES, Sample, arrays_of, graph_of, name_of
from random_graphs import random_graph
from scan_graphs import SCANS, scan_graph

from compiler.errors.diagnostics import UsageError
from compiler.evaluate import evaluate
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, GraphInput, Role, Value
from compiler.graph.op import Op
from compiler.ops import OPS
from compiler.ops.contraction import Contraction
from compiler.ops.elementwise import Cast, FloorDivide, Maximum, Minimum, Modulo, Where
from compiler.ops.indexing import Gather, ScatterAdd
from compiler.ops.mathematics import Erf, Expm1, Log1p
from compiler.ops.movement import Broadcast, Concat, Pad, Reshape, Slice
from compiler.ops.reduction import ArgMax, CumulativeSum, Max, Min, Moments, Sum
from compiler.ops.sources import Constant, RandomUniform
from compiler.ops.window import Fold, Window
from compiler.to_onnx.model import OPSETS, TRANSLATIONS, Contents, onnx_model
from compiler.types import BatchExtent, DType, TensorType, at_batch, numpy_dtype

Array: TypeAlias = np.ndarray[Any, Any]
B = BatchExtent()
NAN, INF = np.nan, np.inf
LEAST, MOST = np.iinfo(np.int32).min, np.iinfo(np.int32).max
ENDS = (OPSETS[0], OPSETS[-1])


def types_of(graph: Graph) -> set[DType]:
    return {entry.value.type.dtype for entry in (*graph.inputs, *graph.outputs)}


def assert_same(graph: Graph, given: Mapping[str, Array], batch: int, opset: int) -> None:
    """The model's outputs are close to those of NumPy. A further input tells the size of the batch."""
    rows = GraphInput("rows", Role.DATA, Value(10**6, TensorType(DType.F32, (B,))))
    model = onnx_model(replace(graph, inputs=(*graph.inputs, rows)), Contents(), opset)
    found = outputs_of(model, {**given, "rows": np.zeros(batch, np.float32)})
    expected = evaluate(graph, given, batch)
    differences = {name: difference(found[name], array) for name, array in expected.items()}
    assert max(differences.values()) <= CLOSE, (differences, found, expected)


def applied(op: Op, *arrays: Array) -> tuple[Graph, dict[str, Array]]:
    """A graph of one node on arrays without a batch, and its inputs."""
    dtypes = {numpy_dtype(dtype): dtype for dtype in DType if dtype is not DType.BF16}
    operands = tuple(TensorType(dtypes[array.dtype], array.shape) for array in arrays)
    graph = graph_of(Sample(op, operands, ()))
    return graph, {f"x{k}": array for k, array in enumerate(arrays)}


def test_every_op_has_a_translation() -> None:
    assert set(TRANSLATIONS) == set(OPS)


@pytest.mark.parametrize("opset", ENDS)
@pytest.mark.parametrize("sample", SAMPLES, ids=name_of)
def test_a_sample(sample: Sample, opset: int) -> None:
    graph = graph_of(sample)
    if DType.BF16 in types_of(graph):
        pytest.skip("no program has bf16")
    given = {f"x{k}": array for k, array in enumerate(arrays_of(sample))}
    assert_same(graph, given, BATCH, opset)


@pytest.mark.parametrize("opset", ENDS)
@pytest.mark.parametrize("make", SCANS, ids=lambda make: make.__name__)
def test_a_scan(make: Callable[[GraphBuilder], list[Value]], opset: int) -> None:
    graph, random = scan_graph(make), np.random.default_rng(1)
    given: dict[str, Array] = {}
    for entry in graph.inputs:
        type_ = entry.value.type
        drawn = random.uniform(-1, 1, at_batch(type_.shape, 4)) if type_.dtype.is_float else random.integers(0, 3)
        given[entry.name] = np.broadcast_to(drawn, at_batch(type_.shape, 4)).astype(numpy_dtype(type_.dtype))
    assert_same(graph, given, 4, opset)


@pytest.mark.parametrize("seed", range(40))
def test_a_random_graph(seed: int) -> None:
    graph, given, batch = random_graph(seed, 25)
    assert_same(graph, given, batch, OPSETS[seed % len(OPSETS)])


FLOATS = np.array([NAN, INF, -INF, 0.0, -0.0, 1e-30, -1e-8, 0.3, -0.4, 0.7, 88.0, -88.0, 3.0, -3.0], np.float32)
TO_INTEGERS = np.array([NAN, INF, -INF, 2.0**31, -(2.0**31) - 1, 2.0**63, -(2.0**63), -0.9, 255.9, 256.0, 1e38, 7.5])
DIVIDED = np.array([7, -7, 0, LEAST, MOST, 5, -5, 1], np.int32)
DIVISORS = np.array([3, 3, 0, -1, -1, 0, -2, LEAST], np.int32)
NUMERATORS = np.array([7.5, -7.5, 7.5, -7.5, 0.0, INF, 1.0, 5.0, -5.0, NAN, 0.3], np.float32)
DENOMINATORS = np.array([2.0, 2.0, -2.0, -2.0, 3.0, 2.0, 0.0, INF, INF, 1.0, 0.1], np.float32)
ROWS = np.array([[1, NAN, 3, NAN], [INF, NAN, 2, 1], [3, 3, 1, 3], [-INF] * 4, [1, 2, INF, INF]], np.float32)
IMAGE = np.array([[NAN, 1, 2, 2], [0, 1, -INF, 2], [-1, -1, INF, 4], [-1, -1, 3, NAN]], np.float32).reshape(1, 1, 4, 4)
POOL = Window((2, 3), (2, 2), (2, 2), (1, 1))
HALVES = [Erf(), Expm1(), Log1p()]
EXTREMES: list[tuple[Op, tuple[Array, ...]]] = [
    *((op, (FLOATS.astype(dtype),)) for op in HALVES for dtype in (np.float32, np.float64)),
    *((Cast(dtype), (TO_INTEGERS.astype(source),)) for dtype in (DType.I32, DType.I64, DType.U8) for source in "fd"),
    (Cast(DType.BOOL), (FLOATS,)),
    (Cast(DType.U8), (np.array([-1, 256, 300], np.int64),)),
    *((op, (DIVIDED.astype(dtype), DIVISORS.astype(dtype))) for op in (FloorDivide(), Modulo()) for dtype in "il"),
    *((op, (DIVIDED.astype("B"), DIVISORS.astype("B"))) for op in (FloorDivide(), Modulo())),
    *(
        (op, (NUMERATORS.astype(dtype), DENOMINATORS.astype(dtype)))
        for op in (FloorDivide(), Modulo())
        for dtype in "fd"
    ),
    *((op, (FLOATS, FLOATS[::-1].copy())) for op in (Maximum(), Minimum())),
    *(
        (op, (ROWS.astype(dtype),))
        for op in (Max((1,)), Min((1,)), ArgMax(1), Max((0, 1)), ArgMax(0))
        for dtype in "fd"
    ),
    *((op, (np.array([[3, 9, 9], [LEAST, LEAST, MOST]], np.int32),)) for op in (Max((1,)), Min((0,)), ArgMax(1))),
    (Where(), (np.array([True, False, True]), np.array([True, True, False]), np.array([False, True, True]))),
    (Gather(0), (np.arange(6.0).reshape(3, 2), np.array([-5, 0, 2, 3, MOST], np.int32))),
    (Gather(0), (np.array([True, False]), np.array([1, 1, 0], np.uint8))),
    (ScatterAdd(0, 3), (np.array([-5, 1, 1, 9], np.int64), np.array([1.0, 2.0, INF, 4.0], np.float32))),
    (CumulativeSum(0, True), (np.array([1, INF, 2, -INF, 3], np.float32),)),
    (Moments((1,)), (ROWS,)),
]


@pytest.mark.parametrize("opset", ENDS)
@pytest.mark.parametrize(("op", "arrays"), EXTREMES, ids=lambda value: getattr(value, "name", None))
def test_an_extreme(op: Op, arrays: tuple[Array, ...], opset: int) -> None:
    assert_same(*applied(op, *arrays), 1, opset)


EMPTY = np.zeros((2, 0, 3), np.float32)
SMALL: list[tuple[Op, tuple[Array, ...]]] = [
    (Sum((1,)), (EMPTY,)),
    (Sum((0, 1, 2)), (np.ones((1, 1, 1), np.float32),)),
    (Reshape((0, 6)), (EMPTY,)),
    (Slice((0, 2), (2, 0), (1, 1)), (np.ones((2, 3), np.float32),)),
    (Concat(1), (EMPTY, np.ones((2, 1, 3), np.float32), EMPTY)),
    (Pad((0, 1, 0), (0, 0, 0), 2.0), (EMPTY,)),
    (Contraction((0, 1), (1, 2), (0, 2)), (np.ones((2, 0), np.float32), np.ones((0, 3), np.float32))),
    (Contraction((0, 1), (1, 2), (0, 2)), (np.ones((1, 1), np.float32), np.ones((1, 1), np.float32))),
    (Contraction((), (), ()), (np.full((), 3, np.float32), np.full((), 2, np.float32))),
    (Gather(0), (np.ones((1, 2), np.float32), np.zeros((0,), np.int64))),
    (ArgMax(0), (np.ones((1,), np.float64),)),
    (Max((0,)), (np.full((1,), NAN, np.float32),)),
    (Window((0,), (1,), (1,), (1,)), (np.ones((1,), np.float32),)),
    (Fold((0,), (2,), (3,), (1,), (7,)), (np.arange(4, dtype=np.int64).reshape(2, 2),)),
]


@pytest.mark.parametrize("opset", ENDS)
@pytest.mark.parametrize(("op", "arrays"), SMALL, ids=lambda value: getattr(value, "name", None))
def test_one_element_or_none(op: Op, arrays: tuple[Array, ...], opset: int) -> None:
    assert_same(*applied(op, *arrays), 1, opset)


def pooled(image: TensorType, pad: float | None, window: Window) -> Graph:
    """The largest of each window, as `max_pool` has it."""
    builder = GraphBuilder("pooled")
    x = builder.input("x", Role.DATA, image)
    if pad is not None:
        x = builder.emit(Pad((0, 0, 1, 1), (0, 0, 1, 0), pad), x)
    taps = builder.emit(window, x)
    builder.output("y", Role.OUTPUT, builder.emit(Max((4, 5)), taps))
    return builder.build()


@pytest.mark.parametrize("pad", [None, -INF, 0.0])
def test_a_pool_of_ties_and_nan(pad: float | None) -> None:
    graph = pooled(TensorType(DType.F32, (1, 1, 4, 4)), pad, POOL)
    assert_same(graph, {"x": IMAGE}, 1, 17)
    model = onnx_model(graph, Contents(), 17)
    assert [node.op_type for node in model.graph.node].count("MaxPool") == 2  # of the numbers, and of where NaN is


PRODUCTS: dict[str, tuple[tuple[int, ...], Window, tuple[int, ...], Contraction]] = {
    "forward": (
        (3, 4, 9, 8),
        Window((2, 3), (3, 2), (2, 1), (1, 2)),
        (5, 4, 3, 2),
        Contraction((0, 1, 2, 3, 4, 5), (6, 1, 4, 5), (0, 6, 2, 3)),
    ),
    "channels last": (
        (3, 9, 8, 4),
        Window((1, 2), (3, 2), (1, 2), (1, 1)),
        (3, 2, 4, 5),
        Contraction((0, 1, 2, 3, 4, 5), (4, 5, 3, 6), (0, 1, 2, 6)),
    ),
    "depthwise": (
        (3, 4, 9, 8),
        Window((2, 3), (3, 3), (2, 2), (1, 1)),
        (4, 3, 3),
        Contraction((0, 1, 2, 3, 4, 5), (1, 4, 5), (0, 1, 2, 3)),
    ),
    "gradient of the weights": (
        (3, 4, 10, 8),
        Window((2, 3), (3, 2), (2, 3), (2, 1)),
        (3, 5, 3, 3),
        Contraction((0, 1, 2, 3, 4, 5), (0, 6, 2, 3), (6, 1, 4, 5)),
    ),
    "one axis": ((3, 9, 4), Window((1,), (3,), (2,), (1,)), (3, 4, 5), Contraction((0, 1, 2, 3), (3, 2, 4), (0, 1, 4))),
}


@pytest.mark.parametrize("dtype", [DType.F32, DType.F64])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("name", PRODUCTS)
def test_a_convolution(name: str, padded: bool, dtype: DType) -> None:
    """As `Conv` in f32; in f64, for which ONNX Runtime has none, as a product of windows."""
    shape, window, weights, product = PRODUCTS[name]
    image = tuple(n - 2 if padded and axis in window.axes else n for axis, n in enumerate(shape))
    builder, random = GraphBuilder("product"), np.random.default_rng(2)
    x = builder.input("x", Role.DATA, TensorType(dtype, image))
    w = builder.input("w", Role.DATA, TensorType(dtype, weights))
    if padded:
        widths = tuple(int(axis in window.axes) for axis in range(len(shape)))
        x = builder.emit(Pad(widths, widths, 0.0), x)
    builder.output("y", Role.OUTPUT, builder.emit(product, builder.emit(window, x), w))
    given = {"x": random.standard_normal(image), "w": random.standard_normal(weights)}
    graph = builder.build()
    assert_same(graph, {k: a.astype(numpy_dtype(dtype)) for k, a in given.items()}, 1, 17)
    operators = {node.op_type for node in onnx_model(graph, Contents(), 17).graph.node}
    assert ("Conv" in operators, "Gather" in operators, "Pad" in operators) == (
        (True, False, False) if dtype is DType.F32 else (False, True, padded)
    )


@pytest.mark.parametrize("opset", [17, 18])
def test_draws_are_the_same_bits(opset: int) -> None:
    builder = GraphBuilder("draws")
    seed, step = (builder.input(name, Role.DATA, TensorType(DType.I64)) for name in ("seed", "step"))
    builder.output("y", Role.OUTPUT, builder.emit(RandomUniform((3, B, 5), 2**31 + 7), seed, step))
    graph = builder.build()
    for number, updates in ((0, 0), (-1, 2**40 + 3), (2**63 - 1, 17)):
        given = {"seed": np.array(number, np.int64), "step": np.array(updates, np.int64)}
        rows = GraphInput("rows", Role.DATA, Value(10**6, TensorType(DType.F32, (B,))))
        model = onnx_model(replace(graph, inputs=(*graph.inputs, rows)), Contents(), opset)
        found = outputs_of(model, {**given, "rows": np.zeros(7, np.float32)})["y"]
        assert found.tobytes() == evaluate(graph, given, 7)["y"].tobytes()


def test_all_that_is_refused_is_listed() -> None:
    """Draws for each row, and rows of zeros, where no input has rows."""
    builder = GraphBuilder("Refused")
    x = builder.input("x", Role.DATA, TensorType(DType.F32, (3,)))
    builder.output("drawn", Role.OUTPUT, builder.emit(RandomUniform((B,), 1), *numbers(builder)))
    builder.output("repeated", Role.OUTPUT, builder.emit(Broadcast((B, 3), (1,)), x))
    with pytest.raises(UsageError) as caught:
        onnx_model(builder.build(), Contents(), 17)
    assert "`random_uniform`: it depends on the batch, and no input has that axis" in str(caught.value)
    assert "the output `repeated`" in str(caught.value)


def numbers(builder: GraphBuilder) -> Sequence[Value]:
    return [builder.emit(Constant(number, DType.I64)) for number in (1, 2)]


def test_an_output_that_is_called_as_a_weight_is_refused() -> None:
    builder = GraphBuilder("Double")
    x = builder.input("x", Role.DATA, TensorType(DType.F32, (B, 3)))
    builder.output("x", Role.OUTPUT, x)
    with pytest.raises(UsageError, match="`x` names two"):
        onnx_model(builder.build(), Contents(), 17)


def test_every_conversion() -> None:
    """f64 becomes f16 by two roundings in ONNX Runtime, and integers of 16 bits have few operators there."""
    model = onnx_model(all_conversions(), Contents(), OPSETS[0])
    assert_converted(outputs_of(model, conversions.given()))
