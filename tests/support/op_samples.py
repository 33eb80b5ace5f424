"""Samples of the ops, which generated tests apply: as graphs of one node, with arrays for their operands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role
from compiler.graph.op import Op
from compiler.ops import OPS
from compiler.ops.contraction import Contraction
from compiler.ops.control import CustomGradient, StopGradient
from compiler.ops.elementwise import (
    Abs,
    Binary,
    Cast,
    Comparison,
    Divide,
    Floor,
    FloorDivide,
    FusedMultiplyAdd,
    Maximum,
    Minimum,
    Modulo,
    Not,
    Symbolic,
    Unary,
    Where,
)
from compiler.ops.indexing import Gather, Put, ScatterAdd
from compiler.ops.mathematics import Log, Log1p, Power, Rsqrt, Sqrt
from compiler.ops.movement import Broadcast, Concat, Pad, Reshape, Reverse, Slice, Transpose
from compiler.ops.reduction import ArgMax, CumulativeSum, Max, Min, Moments, Sum
from compiler.ops.scan import Scan, scan_body
from compiler.ops.sources import BatchSize, Constant, Iota, RandomUniform, Threefry
from compiler.ops.window import Fold, Window
from compiler.types import STORED, BatchExtent, DType, Extent, Shape, TensorType, at_batch, numpy_dtype

Array: TypeAlias = np.ndarray[Any, Any]
Range: TypeAlias = tuple[float, float]


@dataclass(frozen=True)
class Sample:
    """An application of an op: operand types, and for each the half-open range of its values.

    Inside of the ranges, a float op is differentiable.
    """

    op: Op
    operands: tuple[TensorType, ...]
    ranges: tuple[Range, ...]


BATCH = 3
_B = BatchExtent()
_SMALL, _WHOLE = (-2, 2), (-9, 9)  # the usual ranges, of floats and of integers
_SHAPES: tuple[Shape, ...] = ((), (3, 4), (_B, 5))

# Where ops are differentiable, other than in the usual range.
_UNARY_RANGES: dict[type[Op], Range] = {
    Log: (0.3, 3.0),
    Log1p: (-0.7, 3.0),
    Sqrt: (0.3, 3.0),
    Rsqrt: (0.3, 3.0),
    Not: (0, 2),
    Abs: (0.3, 2.0),
    Floor: (0.1, 0.9),
}
_BINARY_RANGES: dict[type[Op], tuple[Range, Range]] = {
    Divide: (_SMALL, (0.3, 2.0)),
    Power: ((0.3, 2.0), _SMALL),
    Maximum: ((-2.0, -0.1), (0.1, 2.0)),
    Minimum: ((-2.0, -0.1), (0.1, 2.0)),
    FloorDivide: ((4.1, 4.9), (1.1, 1.3)),
    Modulo: ((4.1, 4.9), (1.7, 1.9)),
}
# The axis, x and indices of gathers in which each row has its own indices.
_BY_ROW: tuple[tuple[int, Shape, Shape], ...] = (
    (1, (_B, 4), (_B, 3)),
    (2, (_B, 2, 4), (_B, 3)),
    (1, (3, 4, 2), (3, 2, 2)),
    (1, (_B, 5, 2), (_B,)),
)
# The axis, x and the type of the index of `put`.
_PUTS: tuple[tuple[int, Shape, DType], ...] = (
    (1, (3, 4), DType.I32),
    (0, (5, 20), DType.I64),
    (1, (_B, 4, 2), DType.I64),
    (2, (2, _B, 6), DType.U8),
)
_CASTS: tuple[tuple[DType, DType, Range], ...] = (
    (DType.F32, DType.F64, (-2, 2)),
    (DType.F32, DType.I32, (-90, 90)),
    (DType.U8, DType.F32, (0, 255)),
    (DType.I64, DType.I32, (-90, 90)),
    (DType.BOOL, DType.F32, (0, 2)),
    (DType.I32, DType.BOOL, (0, 3)),
    (DType.F32, DType.BF16, (-2, 2)),
)
_CONSTANTS = ((0.1, DType.F32), (-0.0, DType.F64), (float("inf"), DType.F32), (-7, DType.I32), (True, DType.BOOL))


def _f32(*shape: Extent) -> TensorType:
    return TensorType(DType.F32, shape)


def _i32(*shape: Extent) -> TensorType:
    return TensorType(DType.I32, shape)


def _i64(*shape: Extent) -> TensorType:
    return TensorType(DType.I64, shape)


def _floats(op: Op, *operands: TensorType) -> Sample:
    """Of operands in the usual range of floats."""
    return Sample(op, operands, (_SMALL,) * len(operands))


def _integers(op: Op, *operands: TensorType) -> Sample:
    return Sample(op, operands, (_WHOLE,) * len(operands))


def _unary(kind: type[Unary]) -> Iterator[Sample]:
    for dtype in (DType.F32, DType.I32, DType.BOOL):
        if dtype in kind.accepted:
            for shape in _SHAPES:
                yield Sample(kind(), (TensorType(dtype, shape),), (_UNARY_RANGES.get(kind, _SMALL),))


def _binary(kind: type[Binary]) -> Iterator[Sample]:
    whole = ((-9, 10), (-9, 10))
    if issubclass(kind, Comparison):
        whole = ((0, 3), (0, 3))
    elif kind in (FloorDivide, Modulo):
        whole = ((-9, 10), (1, 5))
    floats = _BINARY_RANGES.get(kind, (_SMALL, _SMALL))
    for dtype, ranges in ((DType.F32, floats), (DType.I32, whole), (DType.BOOL, ((0, 2), (0, 2)))):
        if dtype in kind.accepted:
            for shape in _SHAPES:
                yield Sample(kind(), (TensorType(dtype, shape),) * 2, ranges)


def _elementwise() -> Iterator[Sample]:
    for kind in OPS:
        if issubclass(kind, Unary):
            yield from _unary(kind)
        elif issubclass(kind, Binary):
            yield from _binary(kind)
    for shape in _SHAPES:
        condition, numbers, integers = TensorType(DType.BOOL, shape), _f32(*shape), _i32(*shape)
        yield Sample(Where(), (condition, numbers, numbers), ((0, 2), _SMALL, _SMALL))
        yield Sample(Where(), (condition, integers, integers), ((0, 2), _WHOLE, _WHOLE))
        yield _floats(FusedMultiplyAdd(), numbers, numbers, numbers)
    for dtype, to, domain in _CASTS:
        yield Sample(Cast(to), (TensorType(dtype, (3, 4)),), (domain,))
    for dtype in (DType.I64, DType.F32):
        for shape in ((3, 4), (_B, 5)):
            yield Sample(Threefry(dtype), (_i64(*shape),) * 2, ((-(2**62), 2**62), (0, 2**40)))


def _sources() -> Iterator[Sample]:
    ops = (
        *(Constant(value, dtype) for value, dtype in _CONSTANTS),
        Iota((3, 4), 1, DType.I32),
        Iota((_B, 4), 0, DType.F32),
        Iota((2, BatchExtent(2)), 1, DType.I64),
        BatchSize(),
    )
    for op in ops:
        yield Sample(op, (), ())
    yield Sample(RandomUniform((3, 4), 7), (_i64(), _i64()), ((-50, 50), (0, 1000)))
    yield Sample(RandomUniform((_B, 4), 0), (_i64(), _i64()), ((0, 50), (0, 1000)))


def _reductions() -> Iterator[Sample]:
    for kind in (Sum, Max, Min):
        yield _floats(kind((1,)), _f32(3, 4))
        yield _floats(kind((0,)), _f32(_B, 4))
        yield _floats(kind((0, 2)), _f32(2, _B, 3))
        yield _integers(kind((0,)), _i32(5))
    yield _floats(ArgMax(1), _f32(_B, 4))
    yield Sample(ArgMax(0), (_i32(9),), ((0, 3),))
    yield _floats(CumulativeSum(1, False), _f32(_B, 4))
    yield _floats(CumulativeSum(0, True), _f32(4, 3))
    yield _integers(CumulativeSum(0, False), _i32(5))
    yield _floats(Moments((1,)), _f32(_B, 4))
    yield _floats(Moments((0, 2)), _f32(_B, 3, 2))
    yield _floats(Moments((0,)), _f32(5))


def _movements() -> Iterator[Sample]:
    yield _floats(Reshape((4, 3)), _f32(2, 6))
    yield _floats(Reshape((BatchExtent(3), 2)), _f32(_B, 6))
    yield _floats(Reshape((_B, 3)), _f32(BatchExtent(3)))
    yield _integers(Reshape((2, 1, 1)), _i32(2))
    yield _floats(Transpose((1, 0)), _f32(_B, 4))
    yield _floats(Transpose((2, 0, 1)), _f32(2, 3, 4))
    yield _integers(Transpose((0, 2, 1)), _i32(2, 3, _B))
    yield _floats(Broadcast((3, 4), ()), _f32())
    yield _floats(Broadcast((_B, 4), (1,)), _f32(4))
    yield _floats(Broadcast((_B, 3, 4), (0, 2)), _f32(_B, 1))
    yield _floats(Broadcast((_B, 4), (0, 1)), _f32(1, 4))
    yield _integers(Broadcast((2, 3), (0,)), _i32(2))
    yield _floats(Slice((0, 1), (_B, 2), (1, 1)), _f32(_B, 4))
    yield _floats(Slice((1, 0), (3, 2), (2, 3)), _f32(7, 5))
    yield _integers(Slice((2,), (1,), (1,)), _i32(3))
    yield _floats(Pad((0, 1), (0, 2), 0.0), _f32(_B, 4))
    yield _floats(Pad((2, 0), (1, 3), -1.5), _f32(2, 3))
    yield _integers(Pad((1,), (0,), 7.0), _i32(3))
    yield _floats(Concat(1), _f32(_B, 2), _f32(_B, 3), _f32(_B, 1))
    yield _floats(Concat(0), _f32(2, 3))
    yield _integers(Concat(0), _i32(2), _i32(3))
    yield _floats(Reverse((1,)), _f32(_B, 4))
    yield _floats(Reverse((0, 2)), _f32(2, 3, 4))


def _windows() -> Iterator[Sample]:
    yield _floats(Window((1,), (3,), (1,), (1,)), _f32(_B, 5))
    yield _floats(Window((1, 2), (2, 3), (2, 1), (1, 2)), _f32(_B, 5, 6))
    yield _floats(Window((0,), (2,), (3,), (1,)), _f32(7, 2))
    yield _integers(Window((0,), (2,), (2,), (1,)), _i32(4))
    yield _floats(Fold((1,), (3,), (1,), (1,), (5,)), _f32(_B, 3, 3))
    yield _floats(Fold((1, 2), (2, 3), (2, 1), (1, 2), (5, 6)), _f32(_B, 2, 2, 2, 3))
    yield _floats(Fold((0,), (3,), (2,), (1,), (8,)), _f32(3, 2, 3))
    yield _floats(Fold((0,), (2,), (3,), (1,), (7,)), _f32(2, 2, 2))
    yield _integers(Fold((0,), (2,), (1,), (1,), (4,)), _i32(3, 2))


def _products() -> Iterator[Sample]:
    yield _floats(Contraction((0, 1), (1, 2), (0, 2)), _f32(_B, 3), _f32(3, 4))
    yield _floats(Contraction((0, 1), (0, 2), (2, 1)), _f32(_B, 3), _f32(_B, 4))
    yield _floats(Contraction((5, 0, 1), (5, 2, 1), (5, 0, 2)), _f32(2, _B, 4), _f32(2, 5, 4))
    yield _floats(Contraction((0,), (1,), (0, 1)), _f32(3), _f32(4))
    yield _floats(Contraction((0,), (0,), ()), _f32(6), _f32(6))
    yield _floats(Contraction((0, 1), (0, 1), (1, 0)), _f32(2, 3), _f32(2, 3))


def _indexing() -> Iterator[Sample]:
    yield Sample(Gather(0), (_f32(5, 3), _i32(_B)), (_SMALL, (0, 5)))
    yield Sample(Gather(1), (_f32(_B, 4), _i64(2, 3)), (_SMALL, (-1, 6)))
    yield Sample(Gather(0), (_f32(4), TensorType(DType.U8)), (_SMALL, (0, 4)))
    yield Sample(Gather(0), (_i32(4, 2), _i32(3)), (_WHOLE, (0, 4)))
    yield Sample(ScatterAdd(0, 5), (_i32(_B), _f32(_B, 3)), ((0, 5), _SMALL))
    yield Sample(ScatterAdd(1, 4), (_i64(2, 3), _f32(_B, 2, 3)), ((-1, 6), _SMALL))
    yield Sample(ScatterAdd(0, 3), (TensorType(DType.U8), _f32()), ((0, 3), _SMALL))
    yield Sample(ScatterAdd(1, 3), (_i32(), _f32(_B, 2)), ((0, 3), _SMALL))
    for axis, x, i in _BY_ROW:
        updates = _f32(*x[:axis], *i[1:], *x[axis + 1 :])
        yield Sample(Gather(axis, by_row=True), (_f32(*x), _i32(*i)), (_SMALL, (-1, 6)))
        yield Sample(ScatterAdd(axis, 4, by_row=True), (_i32(*i), updates), ((-1, 6), _SMALL))
    for axis, shape, dtype in _PUTS:
        part = _f32(*shape[:axis], 1, *shape[axis + 1 :])
        yield Sample(Put(axis), (_f32(*shape), part, TensorType(dtype)), (_SMALL, _SMALL, (0, 8)))


def custom_gradient() -> Sample:
    """The identity, whose cotangent is negated."""
    type_ = _f32(_B, 3)
    rule = GraphBuilder("negated")
    rule.input("x", Role.DATA, type_)
    rule.input("y", Role.DATA, type_)
    cotangent = rule.input("dy", Role.DATA, type_)
    rule.output("d0", Role.OUTPUT, (Symbolic(rule, cotangent) * -1.0).value)
    return _floats(CustomGradient(rule.build(), 1), type_, type_)


def _recurrence() -> Graph:
    """The body of a simple scan: h' = h * (h W + x), which is also what it emits."""
    builder = GraphBuilder("scan")
    state = _f32(_B, 3)
    x, h, w = (builder.input(n, Role.DATA, type_) for n, type_ in (("x", state), ("h", state), ("w", _f32(3, 3))))
    product = Symbolic(builder, builder.emit(Contraction((0, 1), (1, 2), (0, 2)), h, w))
    moved = ((product + Symbolic(builder, x)) * Symbolic(builder, h)).value
    return scan_body((x, h, w), builder.nodes, (moved, moved))


def _control() -> Iterator[Sample]:
    yield _floats(StopGradient(), _f32(_B, 3))
    yield _integers(StopGradient(), _i32(3))
    yield custom_gradient()
    for reverse in (False, True):
        scan = Scan(_recurrence(), 1, 1, 4, reverse, int(reverse))
        yield Sample(scan, (_f32(4, _B, 3), _f32(_B, 3), _f32(3, 3)), (_SMALL, (-1, 1), (-1, 1)))


def _stored() -> Iterator[Sample]:
    """Of element types that are only stored: conversions from and to them, movements and choices."""
    for stored, other in zip(STORED, (*STORED[1:], STORED[0]), strict=True):
        domain = (0, 9) if stored.is_unsigned else _WHOLE
        for target in (DType.F32, DType.I32, DType.BOOL, other):
            yield Sample(Cast(target), (TensorType(stored, (_B, 5)),), (domain,))
        for source in (DType.F32, DType.F64, DType.I64):
            yield Sample(Cast(stored), (TensorType(source, (_B, 5)),), (domain,))
    for stored, domain in ((DType.F16, _WHOLE), (DType.I8, _WHOLE), (DType.U16, (0, 9)), (DType.U64, (0, 9))):
        row, rows = TensorType(stored, (_B, 5)), TensorType(stored, (3, 4))
        yield Sample(Where(), (TensorType(DType.BOOL, (_B, 5)), row, row), ((0, 2), domain, domain))
        for op in _MOVEMENTS_OF_STORED:
            yield Sample(op, (row,), (domain,))
        yield Sample(Concat(0), (rows, rows), (domain, domain))
        yield Sample(Gather(0), (rows, _i32(_B)), (domain, (-1, 4)))
        yield Sample(Put(1), (rows, TensorType(stored, (3, 1)), _i32()), (domain, domain, (0, 4)))
        yield Sample(Constant(1.5 if stored.is_float else 100, stored), (), ())


_MOVEMENTS_OF_STORED = (
    Reshape((_B, 1, 5)),
    Transpose((1, 0)),
    Broadcast((_B, 5, 2), (0, 1)),
    Slice((0, 1), (_B, 2), (1, 3)),
    Pad((0, 1), (0, 2), 3.0),
    Reverse((1,)),
    Window((1,), (2,), (1,), (1,)),
)

SAMPLES: Sequence[Sample] = (
    *_sources(),
    *_elementwise(),
    *_reductions(),
    *_movements(),
    *_windows(),
    *_products(),
    *_indexing(),
    *_control(),
    *_stored(),
)


def name_of(sample: Sample) -> str:
    return f"{sample.op.name}-{'-'.join(map(str, sample.operands))}"


def arrays_of(sample: Sample, batch: int = BATCH, seed: int = 0) -> list[Array]:
    """Random operands in the sample's ranges; the upper end is left out, for integers and booleans too."""
    random = np.random.default_rng(seed)
    arrays: list[Array] = []
    for type_, (low, high) in zip(sample.operands, sample.ranges, strict=True):
        shape, dtype = at_batch(type_.shape, batch), numpy_dtype(type_.dtype)
        is_float = type_.dtype.is_float
        drawn = random.uniform(low, high, shape) if is_float else random.integers(int(low), int(high), shape)
        arrays.append(np.asarray(drawn).astype(dtype))
    return arrays


def graph_of(sample: Sample) -> Graph:
    """Inputs x0, x1, …; outputs y0, …"""
    builder = GraphBuilder(sample.op.name)
    inputs = [builder.input(f"x{i}", Role.DATA, type_) for i, type_ in enumerate(sample.operands)]
    for i, result in enumerate(builder.emit_all(sample.op, *inputs)):
        builder.output(f"y{i}", Role.OUTPUT, result)
    return builder.build()


def float_inputs(graph: Graph) -> list[str]:
    return [entry.name for entry in graph.inputs if entry.value.type.dtype in (DType.F32, DType.F64)]


def is_native(sample: Sample) -> bool:
    """bf16 is a type of storage that native code does not have; passes over the graph remove two ops."""
    types = (*sample.operands, *sample.op.result_types(sample.operands))
    is_resolved = sample.op.name in ("stop_gradient", "custom_gradient")
    return not is_resolved and all(type_.dtype is not DType.BF16 for type_ in types)


NATIVE_SAMPLES = [sample for sample in SAMPLES if is_native(sample)]


def with_extremes(array: Array) -> Array:
    """Floats with special numbers in two of three places: zeros, subnormal, huge and infinite ones, NaN.

    So are numbers of types that are only stored: the least, the greatest, and some around the largest f16.
    """
    if array.dtype.kind != "f":
        return _with_extreme_integers(array) if array.dtype in map(numpy_dtype, STORED) else array
    info = np.finfo(array.dtype)
    small = (0.0, -0.0, info.smallest_subnormal, -info.tiny / 3, info.tiny, 1e-30)
    large = (info.max, -info.max / 3, 65519.9, 65520.0, 1e30, np.inf, -np.inf, np.nan)
    with np.errstate(over="ignore"):
        return _spread(array, np.array([*small, *large], array.dtype))


def _with_extreme_integers(array: Array) -> Array:
    info = np.iinfo(array.dtype.name)
    listed = (info.min, info.max, info.max - 1, info.max // 2 + 1, 2049, 2051, 65519, 65520)
    return _spread(array, np.array([number for number in listed if number <= info.max], array.dtype))


def _spread(array: Array, special: Array) -> Array:
    place = np.arange(array.size).reshape(array.shape)
    return np.where(place % 3 == 0, array, special[place * 7 % len(special)])
