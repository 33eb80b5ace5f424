"""Nests in watched memory: every kind of kernel and of loop order is right, and faults that are put in are found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
from kernel_kinds import (
    KINDS,
    PRODUCTS,
    added_by_index,
    beside,
    cases_of,
    chosen,
    drawn,
    product,
    product_along_the_sum,
    running,
)
from loop_orders import LOOP_ORDERS, loop_order_of
from nest_cases import MACHINES, NOMINAL, Attack, Cases, graph_cases, small

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Value
from compiler.loops.ir import ContractionKernel, Kernel, PrefixSumKernel, ScatterKernel, instructions_of
from compiler.loops.ir import Random as Draw
from compiler.machine import Machine
from compiler.nest.verify_memory import Law
from compiler.targets.cpu.products.ir import Circumstances

BATCHES = (1, 2, NOMINAL - 1, NOMINAL, NOMINAL + 1)


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


@pytest.mark.parametrize("make", [running, beside], ids=lambda make: make.__name__)
def test_no_fault_that_breaks_a_law_is_without_a_doubt(make: Callable[[GraphBuilder], Value]) -> None:
    """As `attack_verifier.py` asks of kernels of all kinds, with many more faults."""
    holes: list[str] = []
    attack = Attack(Law, note=holes.append)
    cases = cases_of(make, small(MACHINES[1], Random(2)))
    found = Counter(who for _, who in cases.mutations(Random(2), 8, attack))
    assert holes == []
    assert found["proof"] > found["nobody"]
    assert not found["missed"]
