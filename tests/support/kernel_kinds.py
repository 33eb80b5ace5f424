"""Graphs for kernels of every kind and for products of every loop order, and their nests with data."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from nest_cases import Cases

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role, Value
from compiler.graph.op import Array
from compiler.machine import Machine
from compiler.ops.contraction import Contraction
from compiler.ops.elementwise import Add, Multiply
from compiler.ops.indexing import Gather, ScatterAdd
from compiler.ops.movement import Broadcast, Concat, Slice
from compiler.ops.reduction import CumulativeSum
from compiler.ops.sources import RandomUniform
from compiler.pipeline import optimise_graph
from compiler.types import BatchExtent, DType, TensorType

BATCH = BatchExtent()


def data(b: GraphBuilder, name: str, *shape: int | BatchExtent, dtype: DType = DType.F32) -> Value:
    return b.input(name, Role.DATA, TensorType(dtype, shape))


def chosen(b: GraphBuilder) -> Value:
    """Rows that an index chooses, which may lie outside."""
    return b.emit(Gather(0), data(b, "table", 9, 21), data(b, "index", BATCH, dtype=DType.I32))


def added_by_index(b: GraphBuilder) -> Value:
    return b.emit(ScatterAdd(0, 9), data(b, "index", BATCH, dtype=DType.I32), data(b, "x", BATCH, 21))


def running(b: GraphBuilder) -> Value:
    forward, backward = (
        b.emit(CumulativeSum(1, reverse), data(b, f"x{reverse}", BATCH, 6, 21)) for reverse in (False, True)
    )
    return b.emit(Add(), forward, backward)


def drawn(b: GraphBuilder) -> Value:
    seed, step = (b.input(n, role, TensorType(DType.I64)) for n, role in (("seed", Role.SEED), ("step", Role.STEP)))
    return b.emit(Multiply(), data(b, "x", BATCH, 21), b.emit(RandomUniform((BATCH, 21), 3), seed, step))


def beside(b: GraphBuilder) -> Value:
    return b.emit(Concat(1), data(b, "x", BATCH, 5, 7), b.emit(Broadcast((BATCH, 3, 7), (2,)), data(b, "y", 7)))


def product(b: GraphBuilder) -> Value:
    y = b.emit(Contraction((0, 1), (1, 2), (0, 2)), data(b, "x", BATCH, 23), data(b, "w", 23, 40))
    return b.emit(Add(), y, b.emit(Broadcast((BATCH, 40), (1,)), data(b, "bias", 40)))


def product_along_the_sum(b: GraphBuilder) -> Value:
    return b.emit(Contraction((1, 0), (1, 2), (0, 2)), data(b, "x", 25, 34), data(b, "w", 25, 72))


def deep_product(b: GraphBuilder) -> Value:
    return b.emit(Contraction((0, 1), (1, 2), (0, 2)), data(b, "x", BATCH, 25), data(b, "w", 25, 80))


def product_of_rows(b: GraphBuilder) -> Value:
    return b.emit(Contraction((0, 1), (2, 1), (0, 2)), data(b, "x", BATCH, 23), data(b, "w", 40, 23))


def sum_over_the_batch(b: GraphBuilder) -> Value:
    """Of a part of the positions of one operand, so that they and the batch are two axes."""
    part = b.emit(Slice((0, 1, 0), (BATCH, 3, 18), (1, 1, 1)), data(b, "x", BATCH, 5, 18))
    return b.emit(Contraction((0, 1, 2), (0, 1, 3), (2, 3)), part, data(b, "y", BATCH, 3, 33))


def sum_of_rows_over_the_batch(b: GraphBuilder) -> Value:
    part = b.emit(Slice((0, 0, 1), (BATCH, 18, 3), (1, 1, 1)), data(b, "x", BATCH, 18, 5))
    return b.emit(Contraction((0, 2, 1), (0, 1, 3), (2, 3)), part, data(b, "y", BATCH, 3, 33))


KINDS = (chosen, added_by_index, running, drawn, beside)
PRODUCTS = (
    *(product, product_along_the_sum, deep_product, product_of_rows, sum_over_the_batch, sum_of_rows_over_the_batch),
)


def cases_of(make: Callable[[GraphBuilder], Value], machine: Machine, lasts: bool = False) -> Cases:
    builder = GraphBuilder(make.__name__)
    builder.output("y", Role.OUTPUT, make(builder))
    graph: Graph = optimise_graph(builder.build())
    random, given = np.random.default_rng(3), dict[str, Array]()
    for entry in graph.inputs:
        is_float = entry.value.type.dtype.is_float
        given[entry.name] = random.standard_normal(997) if is_float else random.integers(-2, 12, 97)
    return Cases(graph, given, machine, lasts)
