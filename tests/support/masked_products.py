"""Products under a causal mask: the graph of attention, and its inputs."""

from __future__ import annotations

import numpy as np
from comparisons import Array

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role, Value
from compiler.ops.contraction import Contraction
from compiler.ops.elementwise import LessEqual, Multiply, Where
from compiler.ops.mathematics import Exp
from compiler.ops.movement import Broadcast
from compiler.ops.sources import Constant, Iota
from compiler.types import BatchExtent, DType, TensorType

BATCH = 3
HEADS = 2


def numbered(pattern: str) -> Contraction:
    operands, result = pattern.split("->")
    left, right = operands.split(",")
    return Contraction(*(tuple(map(ord, names)) for names in (left, right, result)))


def masked(builder: GraphBuilder, scores: Value, other: float, forward: bool) -> Value:
    """`scores` where the index of the last axis but one is at least that of the last (at most, where `forward`)."""
    size = scores.type.shape[-1]
    assert isinstance(size, int)
    places = builder.emit(Iota((size,), 0, DType.I32))
    rows, keys = (builder.emit(Broadcast((size, size), (axis,)), places) for axis in (0, 1))
    seen = builder.emit(LessEqual(), *((rows, keys) if forward else (keys, rows)))
    mask = builder.emit(Broadcast(scores.type.shape, (scores.type.rank - 2, scores.type.rank - 1)), seen)
    number = builder.emit(Constant(other, scores.type.dtype))
    return builder.emit(Where(), mask, scores, builder.emit(Broadcast(scores.type.shape, ()), number))


def attention(size: int, depth: int, forward: bool = False, dtype: DType = DType.F32) -> Graph:
    """All products of attention over `size` positions: scores, weights times values, and their gradients."""
    builder, batch = GraphBuilder("attention"), BatchExtent()
    q, k, v = (builder.input(name, Role.DATA, TensorType(dtype, (batch, size, HEADS, depth))) for name in "qkv")
    scores = builder.emit(numbered("bihc,bjhc->bhij"), q, k)
    weights = builder.emit(Exp(), masked(builder, scores, -np.inf, forward))
    builder.output("y", Role.OUTPUT, builder.emit(numbered("bhij,bjhc->bihc"), weights, v))
    builder.output("dv", Role.OUTPUT, builder.emit(numbered("bhij,bihc->bjhc"), weights, q))
    slopes = builder.emit(Multiply(), builder.emit(numbered("bihc,bjhc->bhij"), v, k), weights)
    builder.output("dq", Role.OUTPUT, builder.emit(numbered("bhij,bjhc->bihc"), slopes, k))
    return builder.build()


def inputs(size: int, depth: int, dtype: type = np.float32) -> dict[str, Array]:
    random = np.random.default_rng(5)
    return {name: random.uniform(-0.5, 0.5, (BATCH, size, HEADS, depth)).astype(dtype) for name in "qkv"}
