"""How many kernels the usual parts of a network become, and what those kernels are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from comparisons import Array, assert_same_outputs
from schedule_interpreter import run_schedule
from small_networks import (
    BATCH,
    Network,
    column_sums,
    dense_backward,
    dense_relu,
    elementwise_chain,
    embedding,
    layer_norm,
    layer_norm_backward,
    softmax_cross_entropy,
)

from compiler.evaluate import evaluate
from compiler.graph.ir import Graph
from compiler.interface import FUSIONS
from compiler.loops.ir import ColumnKernel, Compute, ContractionKernel, Kernel, Reduce, RowKernel, StagedKernel, Store
from compiler.loops.printer import print_kernel
from compiler.ops.contraction import Contraction
from compiler.ops.elementwise import Add, Divide
from compiler.ops.mathematics import Exp, Tanh
from compiler.ops.reduction import Max, Sum
from compiler.schedule.build import schedule
from compiler.schedule.ir import Schedule
from compiler.schedule.printer import print_schedule
from compiler.types import DType, at_batch

ROWS, COLUMNS, TILES = RowKernel, ColumnKernel, ContractionKernel

# The types of the kernels, without the transfers of inputs and results, and the values that these kernels store.
EXPECTED: list[tuple[Callable[[], Graph], list[type[Kernel]], int]] = [
    (softmax_cross_entropy, [ROWS, ROWS], 3),  # the second is the sum of the losses over the batch
    (dense_relu, [TILES], 1),
    (dense_backward, [TILES, COLUMNS, TILES, TILES], 4),
    (layer_norm, [ROWS], 1),
    (layer_norm_backward, [ROWS], 1),
    (elementwise_chain, [ROWS], 1),
    (column_sums, [COLUMNS], 1),
    (embedding, [ROWS], 1),
]


def kernels(plan: Schedule) -> list[StagedKernel]:
    return [i.kernel for i in plan.instances if isinstance(i.kernel, StagedKernel)]


def inputs_of(graph: Graph, batch: int) -> dict[str, Array]:
    random = np.random.default_rng(0)
    found: dict[str, Array] = {}
    for entry in graph.inputs:
        shape = at_batch(entry.value.type.shape, batch)
        is_index = entry.value.type.dtype is DType.I32
        found[entry.name] = (
            random.integers(0, 50, shape).astype("i4") if is_index else random.normal(size=shape).astype("f4")
        )
    return found


@pytest.mark.parametrize(("make", "kinds", "stores"), EXPECTED, ids=[make.__name__ for make, _, _ in EXPECTED])
def test_kernels(make: Callable[[], Graph], kinds: list[type[Kernel]], stores: int) -> None:
    graph = make()
    plan, plain = schedule(graph), schedule(graph, FUSIONS)
    assert [type(k) for k in kernels(plan)] == kinds, print_schedule(plan)
    instructions = [i for k in kernels(plan) for s in k.stages for i in (*s.body, *s.after)]
    assert sum(isinstance(i, Store) for i in instructions) == stores
    assert len(kernels(plain)) > len(kinds)
    inputs = inputs_of(graph, 5)
    expected = evaluate(graph, inputs, 5)
    assert_same_outputs({name: run_schedule(plan, inputs, 5)[name] for name in expected}, expected)


def test_unfused_kernels_hold_one_operation_each() -> None:
    plan = schedule(layer_norm_backward(), FUSIONS)
    for kernel in kernels(plan):
        instructions = [i for s in kernel.stages for i in (*s.body, *s.after)]
        assert sum(isinstance(i, Compute | Reduce) for i in instructions) <= 1, print_kernel(kernel)


def test_long_rows_go_through_scratch_where_a_value_is_costly() -> None:
    net = Network("softmax of long rows")
    x = net.data("x", BATCH, 1000)
    powers = net.emit(Exp(), x)
    total = net.emit(Sum((1,)), powers)
    (kernel,) = kernels(schedule(net.graph(y=net.emit(Divide(), powers, net.spread(total, x, 0)))))
    (scratch,) = [b for b in kernel.buffers if b.is_scratch]
    assert scratch.elements == 1000
    names = [i.op.name for s in kernel.stages for i in s.body if isinstance(i, Compute)]
    assert names.count("exp") == 1, print_kernel(kernel)


def test_a_product_needs_its_operands_complete() -> None:
    net = Network("two products with a function between")
    x = net.data("x", BATCH, 8)
    hidden = net.emit(Tanh(), net.dense(x, net.parameter("w", 8, 8), net.parameter("b", 8)))
    plan = schedule(net.graph(y=net.dense(hidden, net.parameter("v", 8, 8), net.parameter("c", 8))))
    assert [type(k) for k in kernels(plan)] == [TILES, TILES], print_schedule(plan)


def test_a_reduction_of_a_product_is_its_own_kernel() -> None:
    net = Network("sum of a product")
    y = net.emit(Contraction((0, 1), (1, 2), (0, 2)), net.data("x", BATCH, 8), net.parameter("w", 8, 8))
    plan = schedule(net.graph(y=net.emit(Max((1,)), y)))
    assert [type(k) for k in kernels(plan)] == [TILES, ROWS], print_schedule(plan)


def test_a_value_that_lies_elsewhere_is_not_fused() -> None:
    """A transposed result of a reduction is no value of the reader's own row or column."""
    net = Network("outer sum")
    x = net.data("x", 6, 6)
    rows = net.emit(Sum((1,)), x)
    plan = schedule(net.graph(y=net.emit(Add(), x, net.spread(rows, x, 1))))
    assert len(kernels(plan)) == 2, print_schedule(plan)
