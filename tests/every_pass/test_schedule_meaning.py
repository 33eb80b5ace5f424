"""Schedules of random graphs: sound, and interpreted they mean what the graph means, so a fault is located by stage."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from comparisons import assert_same_outputs
from random_graphs import random_graph
from schedule_interpreter import run_schedule

from compiler.errors.diagnostics import CompilerBug
from compiler.evaluate import evaluate
from compiler.interface import FUSIONS
from compiler.loops.ir import BufferArgument, Compute, Load, RowKernel, Space, Stage, Store
from compiler.loops.printer import print_kernel
from compiler.loops.verify import verify_kernel
from compiler.pipeline import optimise_graph
from compiler.schedule.build import schedule
from compiler.schedule.numerics.fix_numerics import fix_numerics
from compiler.schedule.verify import verify_schedule

SEEDS = range(30)
SIZE = 30


def some(seed: int) -> list[list[str]]:
    """One fusion, and half of them."""
    names = list(FUSIONS)
    return [[names[seed % len(names)]], Random(seed).sample(names, len(names) // 2)]


@pytest.mark.parametrize("seed", SEEDS)
def test_interpreted_kernels_equal_the_reference(seed: int) -> None:
    graph, inputs, batch = random_graph(seed, SIZE)
    expected = evaluate(graph, inputs, batch)
    assert_same_outputs(evaluate(fix_numerics(graph), inputs, batch), expected)
    for without in ((), FUSIONS, *some(seed)):
        plan = schedule(graph, without)
        assert_same_outputs(run_schedule(plan, inputs, batch), expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_schedules_are_sound(seed: int) -> None:
    graph = optimise_graph(random_graph(seed, SIZE)[0])
    for without in ((), FUSIONS, *some(seed)):
        for batch in (1, 100_000):
            verify_schedule(schedule(graph, without, batch, verify=True), batch)


def test_schedules_are_the_same_each_time() -> None:
    graph = random_graph(3, SIZE)[0]
    assert schedule(graph) == schedule(graph)


@pytest.fixture(scope="module")
def kernel() -> RowKernel:
    """One with a fused chain of elementwise instructions whose result is stored element by element."""
    kernels = [i.kernel for seed in range(10) for i in schedule(optimise_graph(random_graph(seed, SIZE)[0])).instances]
    storing = [
        k for k in kernels if isinstance(k, RowKernel) and any(isinstance(i, Store) for s in k.stages for i in s.body)
    ]
    return max(storing, key=lambda k: sum(isinstance(i, Compute) for s in k.stages for i in s.body))


def edited(kernel: RowKernel, kind: type, change: str, value: object) -> RowKernel:
    """The kernel with one field of its first instruction of a kind replaced."""
    for number, stage in enumerate(kernel.stages):
        for place, instruction in enumerate(stage.body):
            if isinstance(instruction, kind):
                body = (*stage.body[:place], replace(instruction, **{change: value}), *stage.body[place + 1 :])
                stages = (*kernel.stages[:number], replace(stage, body=body), *kernel.stages[number + 1 :])
                return replace(kernel, stages=stages)
    raise AssertionError(f"the kernel has no {kind.__name__}\n{print_kernel(kernel)}")


@pytest.mark.parametrize(
    ("kind", "change", "value", "complaint"),
    [
        (Compute, "result", 0, "defined a second time|used before"),
        (Compute, "operands", (999, 998, 997), "operands without a type|used before its definition"),
        (Compute, "space", Space.ROW, "stands among those of full"),
        (Load, "result", 990, "used before its definition"),
        (Store, "value", 991, "v991 is used before its definition"),
    ],
)
def test_broken_kernels_are_found(kernel: RowKernel, kind: type, change: str, value: object, complaint: str) -> None:
    verify_kernel(kernel)
    with pytest.raises(CompilerBug, match=complaint) as caught:
        verify_kernel(edited(kernel, kind, change, value))
    assert caught.value.dump.startswith("kernel ")


def test_wrong_types_and_passes_are_found(kernel: RowKernel) -> None:
    other = tuple(BufferArgument(b.name, next(d for d in type(b.dtype) if d is not b.dtype)) for b in kernel.buffers)
    with pytest.raises(CompilerBug, match="does not hold"):
        verify_kernel(replace(kernel, buffers=other))
    long = replace(kernel, columns=1000)
    split = [Stage((i,)) for stage in long.stages for i in stage.body]
    with pytest.raises(CompilerBug, match=r"does not outlive its pass|among those"):
        verify_kernel(replace(long, stages=tuple(split)))


def test_a_missing_barrier_and_shared_memory_are_found() -> None:
    batch = 100_000
    plan = schedule(random_graph(1, SIZE)[0], batch=batch)
    assert sum(plan.barriers) > 1
    with pytest.raises(CompilerBug, match="needs a barrier"):
        verify_schedule(replace(plan, barriers=(False,) * len(plan.barriers)), batch)
    with pytest.raises(CompilerBug, match="share memory"):
        verify_schedule(replace(plan, places=tuple(replace(p, offset=0) for p in plan.places)), batch)
    with pytest.raises(CompilerBug, match="before anything has written it"):
        verify_schedule(replace(plan, instances=plan.instances[-1:], barriers=(False,)), batch)


@pytest.mark.parametrize("seed", range(4))
def test_each_barrier_is_needed(seed: int) -> None:
    """Without any one of them, threads may meet each other's data; none is there for nothing."""
    batch = 100_000
    plan = schedule(random_graph(seed, SIZE)[0], batch=batch)
    first = sum(instance.once for instance in plan.instances)
    for place, barrier in enumerate(plan.barriers):
        if barrier and place > first:
            without = (*plan.barriers[:place], False, *plan.barriers[place + 1 :])
            with pytest.raises(CompilerBug, match=r"needs a barrier|share memory"):
                verify_schedule(replace(plan, barriers=without), batch)


def test_small_kernels_that_use_the_same_buffers_in_other_queues_are_found() -> None:
    plan = schedule(random_graph(1, SIZE)[0], batch=1)
    assert not any(plan.barriers)
    verify_schedule(plan, 1)
    with pytest.raises(CompilerBug, match="needs a barrier"):
        verify_schedule(replace(plan, queues=tuple(range(len(plan.instances)))), 1)
