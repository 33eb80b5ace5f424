"""Kernels of attention that a thread takes a head through, one after the other."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from elaboration import program
from native import EVERY_KERNEL_PARALLEL, compiled, host

from compiler.errors.diagnostics import CompilerBug
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role
from compiler.interface import Options
from compiler.loops.ir import ContractionKernel
from compiler.ops.contraction import Contraction
from compiler.ops.elementwise import Add, Multiply
from compiler.ops.mathematics import Exp
from compiler.ops.movement import Broadcast, Pad, Slice, Transpose
from compiler.programs.kinds import TRAINING
from compiler.programs.stages import graph_of, prepared, scheduled
from compiler.schedule.ir import Buffer, Instance, Schedule
from compiler.schedule.order import chained_kernels
from compiler.schedule.order.chained_kernels import fills_evenly
from compiler.schedule.verify import verify_schedule
from compiler.targets.cpu.iteration_space import is_row_blocked, transposed_rows
from compiler.tuning import Tuning
from compiler.types import BatchExtent, DType, TensorType, at_batch

HEADS, TIME, DEPTH = 2, 37, 20
TEXT = """
model M {
    input x: [batch, 48, 24]
    output y = x |> encoder_block(2, 32, causal = true, drop = 0)
}

train M {
    target t: [batch, 48, 24]
    loss = mse(y, t)
    optimizer = gradient_descent(lr = 0.1)
    batch = 64
}
"""


@cache
def step() -> Schedule:
    options = Options(batch=64)
    return scheduled(prepared(graph_of(program(TEXT), TRAINING), options), options, host())


def test_attention_is_a_chain_forward_and_one_backward() -> None:
    plan = step()
    verify_schedule(plan, 64)
    products = [
        [isinstance(i.kernel, ContractionKernel) for i in plan.instances[s.first : s.last + 1]] for s in plan.chains
    ]
    # Scores, weights, values; then the gradients of weights and scores, and of values, keys and queries.
    assert products == [[True, False, True], [True, False, True, True, True]]
    assert all(chain.shards == BatchExtent(2) for chain in plan.chains)
    assert not any(any(plan.barriers[s.first + 1 : s.last + 1]) for s in plan.chains)


def test_weights_are_kept_and_gradients_of_scores_are_passed_on() -> None:
    """Weights lie where the scores were, and the gradients of scores where those of the weights were."""
    plan = step()
    squares = {b.index for b in plan.buffers if b.elements == BatchExtent(2 * 48 * 48)}
    assert [len(squares & {*chain.passed_on}) for chain in plan.chains] == [0, 1]
    assert len(squares) == 2


def test_few_shards_are_left_to_all_threads() -> None:
    options = Options(batch=4)
    assert scheduled(prepared(graph_of(program(TEXT), TRAINING), options), options, host()).chains == ()


def test_the_work_of_finding_chains_grows_with_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with its square: what else uses a buffer is counted once, and not for each chain."""
    layer = "encoder_block(2, 32, causal = true, drop = 0)"
    looked_at: list[Instance] = []

    def counted(instance: Instance, storage: Buffer) -> bool:
        looked_at.append(instance)
        return fills_evenly(instance, storage)

    monkeypatch.setattr(chained_kernels, "fills_evenly", counted)
    counts: list[int] = []
    for blocks in (1, 3):
        looked_at.clear()
        whole = program(TEXT.replace(layer, " |> ".join([layer] * blocks)))
        plan = scheduled(prepared(graph_of(whole, TRAINING), Options(batch=64)), Options(batch=64), host())
        assert len(plan.chains) == 2 * blocks
        counts.append(len(looked_at))
    assert counts[1] < 4 * counts[0]


def test_a_barrier_inside_a_chain_is_found() -> None:
    plan = step()
    inside = plan.chains[0].first + 1
    barriers = tuple(barrier or k == inside for k, barrier in enumerate(plan.barriers))
    with pytest.raises(CompilerBug, match="a barrier stands inside a chain"):
        verify_schedule(replace(plan, barriers=barriers), 64)


def test_what_is_used_outside_must_not_be_passed_on() -> None:
    plan = step()
    chain = plan.chains[0]
    weights = plan.instances[chain.first + 1].writes[0]
    broken = replace(chain, passed_on=(weights,))
    with pytest.raises(CompilerBug, match="is used outside of it"):
        verify_schedule(replace(plan, chains=(broken, *plan.chains[1:])), 64)


def test_shards_that_meet_are_found() -> None:
    plan = step()
    longer = replace(plan.chains[0], last=plan.chains[0].last + 1)
    barriers = tuple(barrier and k != longer.last for k, barrier in enumerate(plan.barriers))
    with pytest.raises(CompilerBug, match="are not independent"):
        verify_schedule(replace(plan, chains=(longer, *plan.chains[1:]), barriers=barriers), 64)


def attention(heads_first: bool) -> Graph:
    """Attention without a mask; with `heads_first`, the values are read across heads, so no chain may take them."""
    builder, batch = GraphBuilder("attention"), BatchExtent()
    q, k = (builder.input(n, Role.DATA, TensorType(DType.F32, (batch, TIME, HEADS, DEPTH))) for n in "qk")
    b, i, j, h, c, g = range(6)
    scores = builder.emit(Exp(), builder.emit(Contraction((b, i, h, c), (b, j, h, c), (b, h, i, j)), q, k))
    weights = builder.emit(Add(), scores, scores) if heads_first else scores
    if heads_first:
        mixed = builder.emit(Contraction((b, h, i, j), (b, g, i, j), (b, i, h, g)), weights, scores)
        builder.output("mixed", Role.OUTPUT, mixed)
    builder.output("y", Role.OUTPUT, builder.emit(Contraction((b, h, i, j), (b, j, h, c), (b, i, h, c)), weights, k))
    return builder.build()


def heads_with_taps() -> Graph:
    """Attention whose queries are sums over neighbouring times, of each head by itself."""
    builder, shape = GraphBuilder("taps"), (BatchExtent(), 8, 64, 32)
    q, k = (builder.input(name, Role.DATA, TensorType(DType.F32, shape)) for name in "qk")
    w = builder.input("w", Role.DATA, TensorType(DType.F32, (32,)))
    padded, queries = builder.emit(Pad((0, 0, 5, 0), (0, 0, 0, 0), 0.0), q), q
    for tap in range(6):
        neighbour = builder.emit(Slice((0, 0, tap, 0), shape, (1,) * 4), padded)
        weighted = builder.emit(Multiply(), neighbour, builder.emit(Broadcast(shape, (3,)), w))
        queries = builder.emit(Add(), queries, weighted)
    b, h, i, j, c = range(5)
    scores = builder.emit(Contraction((b, h, i, c), (b, h, j, c), (b, h, i, j)), queries, k)
    builder.output("y", Role.OUTPUT, builder.emit(Contraction((b, h, i, j), (b, h, j, c), (b, h, i, c)), scores, k))
    return builder.build()


def turned_bias() -> Graph:
    """Attention with a bias whose heads lie beside each other, in lines that 16 rows do not divide."""
    builder, (batch, heads, time, depth) = GraphBuilder("bias"), (BatchExtent(), 4, 40, 32)
    q, k = (builder.input(n, Role.DATA, TensorType(DType.F32, (batch, heads, time, depth))) for n in "qk")
    bias = builder.input("w", Role.DATA, TensorType(DType.F32, (batch, time, heads, time)))
    b, h, i, j, c = range(5)
    scores = builder.emit(Contraction((b, h, i, c), (b, h, j, c), (b, h, i, j)), q, k)
    biased = builder.emit(Add(), scores, builder.emit(Transpose((0, 2, 3, 1)), bias))
    for name, weights in (("y", biased), ("z", scores)):
        values = builder.emit(Contraction((b, h, i, j), (b, h, j, c), (b, h, i, c)), weights, k)
        builder.output(name, Role.OUTPUT, values)
    return builder.build()


@pytest.mark.parametrize("graph", [heads_with_taps(), turned_bias()], ids=lambda graph: graph.name)
def test_items_of_a_chain_keep_to_its_shards(graph: Graph) -> None:
    random = np.random.default_rng(4)
    given = {e.name: random.uniform(-1, 1, at_batch(e.value.type.shape, 3)).astype("f4") for e in graph.inputs}
    native = compiled(graph, batch=EVERY_KERNEL_PARALLEL)
    kernels = [i.kernel for s in native.plan.chains for i in native.plan.instances[s.first : s.last + 1]]
    assert any(is_row_blocked(kernel, Tuning()) or transposed_rows(kernel) for kernel in kernels)
    expected = compiled(graph, fuse=False, batch=EVERY_KERNEL_PARALLEL).executable(1).call(given, 3)
    for threads in (1, 2, 3):
        found = native.executable(threads).call(given, 3)
        assert all(np.array_equal(found[name], array) for name, array in expected.items())


@pytest.mark.parametrize("heads_first", [False, True])
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_chains_change_no_bit(batch: int, heads_first: bool) -> None:
    graph = attention(heads_first)
    random = np.random.default_rng(3)
    given = {n: random.uniform(-0.3, 0.3, (batch, TIME, HEADS, DEPTH)).astype("f4") for n in "qk"}
    native = compiled(graph, batch=EVERY_KERNEL_PARALLEL)
    assert native.plan.chains
    expected = compiled(graph, fuse=False, batch=EVERY_KERNEL_PARALLEL).executable(1).call(given, batch)
    for threads in (1, 2, 3, 7):
        executable = native.executable(threads)
        for _ in range(2):
            found = executable.call(given, batch)
            assert all(np.array_equal(found[name], array) for name, array in expected.items())
