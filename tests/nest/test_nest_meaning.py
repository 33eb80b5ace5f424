"""Nests, interpreted: the results of the kernels that they came from, and the bits of native code."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import schedule_interpreter
from native import compiled, host
from nests import KernelAsNest

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role, Value
from compiler.machine import AVX2, AVX512, NEON, Machine
from compiler.ops.contraction import Contraction
from compiler.ops.elementwise import Add, FusedMultiplyAdd, Multiply
from compiler.ops.movement import Broadcast, Pad, Transpose
from compiler.ops.reduction import Max, Sum
from compiler.pipeline import optimise_graph
from compiler.schedule.build import schedule
from compiler.types import BatchExtent, DType, TensorType, at_batch

BATCH = BatchExtent()
MACHINES = (AVX512, AVX2, NEON)


def given(builder: GraphBuilder, name: str, *shape: int | BatchExtent) -> Value:
    return builder.input(name, Role.DATA, TensorType(DType.F32, shape))


def elementwise(builder: GraphBuilder) -> Value:
    x, y = given(builder, "x", BATCH, 37), given(builder, "y", BATCH, 37)
    return builder.emit(FusedMultiplyAdd(), x, y, builder.emit(Add(), x, y))


def sums_of_rows(builder: GraphBuilder) -> Value:
    x = given(builder, "x", BATCH, 300)
    return builder.emit(Sum((1,)), builder.emit(Multiply(), x, x))


def sums_of_columns(builder: GraphBuilder) -> Value:
    x = given(builder, "x", BATCH, 37)
    return builder.emit(Sum((0,)), builder.emit(Multiply(), x, x))


def greatest_of_short_rows(builder: GraphBuilder) -> Value:
    x = given(builder, "x", BATCH, 19)
    return builder.emit(Add(), x, builder.emit(Broadcast((BATCH, 19), (0,)), builder.emit(Max((1,)), x)))


def product(builder: GraphBuilder) -> Value:
    x, w, b = given(builder, "x", BATCH, 23), given(builder, "w", 23, 40), given(builder, "b", 40)
    y = builder.emit(Contraction((0, 1), (1, 2), (0, 2)), x, w)
    return builder.emit(Add(), y, builder.emit(Broadcast((BATCH, 40), (1,)), b))


def product_of_turned(builder: GraphBuilder) -> Value:
    x, w = given(builder, "x", BATCH, 23), given(builder, "w", 40, 23)
    return builder.emit(Contraction((0, 1), (2, 1), (0, 2)), x, w)


def sum_over_the_batch(builder: GraphBuilder) -> Value:
    x, y = given(builder, "x", BATCH, 5, 18), given(builder, "y", BATCH, 5, 33)
    return builder.emit(Contraction((0, 1, 2), (0, 1, 3), (2, 3)), x, y)


def transposed(builder: GraphBuilder) -> Value:
    return builder.emit(Transpose((0, 2, 1)), given(builder, "x", BATCH, 20, 33))


def padded(builder: GraphBuilder) -> Value:
    return builder.emit(Pad((0, 1, 2), (0, 1, 0), 0.0), given(builder, "x", BATCH, 5, 19))


KINDS = (
    *(elementwise, sums_of_rows, sums_of_columns, greatest_of_short_rows, product, product_of_turned),
    *(sum_over_the_batch, transposed, padded),
)


def graph_of(make: Callable[[GraphBuilder], Value]) -> Graph:
    builder = GraphBuilder(make.__name__)
    builder.output("y", Role.OUTPUT, make(builder))
    return optimise_graph(builder.build())


def inputs_of(graph: Graph, batch: int, whole_numbers: bool) -> dict[str, np.ndarray]:
    random = np.random.default_rng(7)
    shapes = {entry.name: at_batch(entry.value.type.shape, batch) for entry in graph.inputs}
    if whole_numbers:
        return {name: random.integers(-4, 5, shape).astype(np.float32) for name, shape in shapes.items()}
    return {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def run_as_nests(
    graph: Graph, inputs: dict[str, np.ndarray], batch: int, kernel: KernelAsNest, patch: pytest.MonkeyPatch
) -> np.ndarray:
    with patch.context() as patched:
        patched.setattr(schedule_interpreter, "run_kernel", kernel)
        return schedule_interpreter.run_schedule(schedule(graph, batch=kernel.nominal), inputs, batch)["y"]


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_a_nest_computes_its_kernel(
    make: Callable[[GraphBuilder], Value], machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With whole numbers, all orders of a sum have the same bits."""
    graph = graph_of(make)
    for batch, lasts, parts in ((1, False, 1), (6, True, 1), (19, False, 3)):
        inputs = inputs_of(graph, batch, whole_numbers=True)
        kernel = KernelAsNest(machine, 32, lasts, parts)
        expected = schedule_interpreter.run_schedule(schedule(graph, batch=32), inputs, batch)["y"]
        assert np.array_equal(run_as_nests(graph, inputs, batch, kernel, monkeypatch), expected)
        assert kernel.nests


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_native_code_has_the_bits_of_its_nest(
    make: Callable[[GraphBuilder], Value], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = graph_of(make)
    native = compiled(graph, batch=32).executable()
    for batch in (1, 19):
        inputs = inputs_of(graph, batch, whole_numbers=False)
        found = native.call(inputs, batch)["y"]
        nest = run_as_nests(graph, inputs, batch, KernelAsNest(host(), 32), monkeypatch)
        assert np.array_equal(nest.view(np.int32), np.asarray(found).view(np.int32))
