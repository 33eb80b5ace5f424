"""Nests in watched memory: every kind of kernel and of loop order is right, and faults that are put in are found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from loop_orders import LOOP_ORDERS, loop_order_of
from nest_cases import MACHINES, NOMINAL, Cases, graph_cases, small

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role, Value
from compiler.graph.op import Array
from compiler.loops.ir import ContractionKernel, Kernel, PrefixSumKernel, ScatterKernel, instructions_of
from compiler.loops.ir import Random as Draw
from compiler.machine import Machine
from compiler.ops.contraction import Contraction
from compiler.ops.elementwise import Add, Multiply
from compiler.ops.indexing import Gather, ScatterAdd
from compiler.ops.movement import Broadcast, Concat, Slice
from compiler.ops.reduction import CumulativeSum
from compiler.ops.sources import RandomUniform
from compiler.pipeline import optimise_graph
from compiler.targets.cpu.products.ir import Circumstances
from compiler.types import BatchExtent, DType, TensorType

BATCH = BatchExtent()
BATCHES = (1, 2, NOMINAL - 1, NOMINAL, NOMINAL + 1)


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


def is_of(kernel: Kernel, make: Callable[[GraphBuilder], Value]) -> bool:
    """Whether a kernel is one of those that the graph is there for."""
    if make is drawn:
        return any(isinstance(i, Draw) for i in instructions_of(kernel))
    kinds = {"added_by_index": ScatterKernel, "running": PrefixSumKernel}
    return make.__name__ not in kinds or isinstance(kernel, kinds[make.__name__])


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_kernels_of_every_kind_are_right(make: Callable[[GraphBuilder], Value], machine: Machine) -> None:
    cases = cases_of(make, machine)
    assert any(is_of(instance.kernel, make) for instance in cases.plan.instances)
    checked, faults = cases.faults(BATCHES)
    assert checked
    assert faults == []


def orders_of(cases: Cases) -> set[str]:
    given = Circumstances(cases.machine, NOMINAL)
    kernels = [i.kernel for i in cases.plan.instances if isinstance(i.kernel, ContractionKernel)]
    return {loop_order_of(kernel, cases.lasts, given) for kernel in kernels}


def test_products_of_every_loop_order_are_right() -> None:
    reached: Counter[str] = Counter()
    for seed in range(8):
        machine = replace(small(MACHINES[seed % 3], Random(seed)), l2_bytes=1 << 10)
        for make in PRODUCTS:
            cases = cases_of(make, machine, bool(seed // 3 % 2))
            orders = orders_of(cases)
            if all(reached[order] for order in orders):
                continue
            checked, faults = cases.faults((2, NOMINAL + 1) if make is not product_along_the_sum else (2,), 200_000)
            assert faults == []
            reached.update(orders if checked else ())
    assert {*reached} == {*LOOP_ORDERS}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_graphs_are_right(seed: int) -> None:
    for cases in graph_cases(seed):
        checked, faults = cases.faults()
        assert checked
        assert faults == []


@pytest.mark.parametrize("make", [product, added_by_index, chosen], ids=lambda make: make.__name__)
def test_faults_are_found(make: Callable[[GraphBuilder], Value]) -> None:
    """Or they change no result, as where a loop that has one round takes longer steps."""
    cases = cases_of(make, small(MACHINES[0], Random(1)))
    found = Counter(who for _, who in cases.mutations(Random(1), 6))
    assert found["run"] + found["proof"] > found["nobody"]
    assert found["proof"], "an access leaves its memory"
    assert not found["missed"]
