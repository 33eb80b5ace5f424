"""Kernels that read a part of a buffer and write another part of it, or the same one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from comparisons import assert_same_outputs
from native import EVERY_KERNEL_PARALLEL, compiled, host
from random_graphs import random_graph

from compiler.driver import load_text
from compiler.errors.diagnostics import CompilerBug
from compiler.evaluate import evaluate
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role
from compiler.loops.footprint import Footprint, meet, operand_of, touched_by
from compiler.loops.ir import (
    Access,
    BufferArgument,
    ColumnKernel,
    Combine,
    ContractionKernel,
    FlatKernel,
    IndexTerm,
    Kernel,
    Load,
    Reduce,
    RowKernel,
    Space,
    Stage,
    StagedKernel,
    Store,
    instructions_of,
    iteration_space,
    statements_of,
)
from compiler.ops.contraction import Contraction
from compiler.ops.elementwise import Multiply, Subtract
from compiler.ops.mathematics import Sin, Tanh
from compiler.ops.movement import Broadcast, Concat, Reshape, Reverse, Slice, Transpose
from compiler.ops.sources import Constant, Iota
from compiler.ops.spreading import Sum
from compiler.ops.window import Window
from compiler.pipeline import optimise_graph
from compiler.programs.kinds import TRAINING
from compiler.programs.stages import graph_of
from compiler.schedule.build import schedule
from compiler.schedule.ir import Arena, Buffer, BufferPlace, Instance, Schedule
from compiler.schedule.verify import verify_schedule
from compiler.targets.memory import TensorStore
from compiler.tuning import Tuning
from compiler.types import BatchExtent, DType, Extent, TensorType, size_at

BATCH = 5


def beside(what: str) -> Graph:
    """Rows of 4, and behind them what is made of them: `a` with its two rows reversed, or `a` @ w."""
    builder, batch = GraphBuilder(what), BatchExtent()
    x = builder.input("x", Role.DATA, TensorType(DType.F32, (batch, 2, 4)))
    w = builder.input("w", Role.DATA, TensorType(DType.F32, (4, 4)))
    a = builder.emit(Tanh(), x)
    made = {
        "reversed": lambda: builder.emit(Sin(), builder.emit(Reverse((1,)), a)),
        "product": lambda: builder.emit(Contraction((0, 1, 2), (2, 3), (0, 1, 3)), a, w),
    }
    builder.output("y", Role.OUTPUT, builder.emit(Concat(2), a, made[what]()))
    return builder.build()


def in_place(plan: Schedule) -> Instance:
    return next(i for i in plan.instances if {*i.reads} & {*i.writes})


def changed(plan: Schedule, kernel: Kernel) -> Schedule:
    """The schedule with another kernel in the place of the one that works in place."""
    old = in_place(plan)
    return replace(plan, instances=tuple(replace(i, kernel=kernel) if i is old else i for i in plan.instances))


def staged(kernel: Kernel) -> StagedKernel:
    assert isinstance(kernel, StagedKernel)
    return kernel


def moved(kernel: StagedKernel, kind: type[Load] | type[Store], change: Callable[[Any], Any]) -> StagedKernel:
    """The kernel with a change to the accesses of its loads or of its stores."""
    (stage,) = kernel.stages
    body = tuple(replace(i, access=change(i.access)) if isinstance(i, kind) else i for i in stage.body)
    return replace(kernel, stages=(replace(stage, body=body),))


@pytest.mark.parametrize("what", ["reversed", "product"])
def test_parts_that_lie_apart_are_no_hazard(what: str) -> None:
    graph = beside(what)
    random = np.random.default_rng(1)
    shapes = {"x": (BATCH, 2, 4), "w": (4, 4)}
    inputs = {name: random.uniform(-1, 1, shape).astype("f4") for name, shape in shapes.items()}
    native = compiled(graph, batch=EVERY_KERNEL_PARALLEL)
    assert in_place(native.plan)
    verify_schedule(native.plan, EVERY_KERNEL_PARALLEL)
    assert_same_outputs(native.executable(2).call(inputs, BATCH), evaluate(graph, inputs, BATCH))


def test_an_update_that_reads_one_element_for_all_does_not_write_over_it() -> None:
    """Another thread may still have to read it."""
    builder, type_ = GraphBuilder("scaled"), TensorType(DType.F32, (70, 90))
    p = builder.input("p", Role.PARAMETER, type_)
    g = builder.input("g", Role.DATA, type_)
    corner = builder.emit(Reshape(()), builder.emit(Slice((0, 0), (1, 1), (1, 1)), p))
    scaled = builder.emit(Multiply(), g, builder.emit(Broadcast((70, 90), ()), corner))
    builder.output("p", Role.PARAMETER, builder.emit(Subtract(), p, scaled), updates="p")
    plan = schedule(builder.build())
    verify_schedule(plan, 32)
    update = next(i for i in plan.instances if isinstance(i.kernel, RowKernel | FlatKernel))
    assert not {*update.reads} & {*update.writes}


def of_weights(rows: Extent) -> Graph:
    """Weights `a` that rows are multiplied by, and then others, which a kernel makes of all of `a`."""
    builder = GraphBuilder("of weights")
    x = builder.input("x", Role.DATA, TensorType(DType.F32, (rows, 32)))
    w = builder.input("w", Role.PARAMETER, TensorType(DType.F32, (32, 32)))
    product = Contraction((0, 2), (2, 1), (0, 1))
    a = builder.emit(product, w, w)
    y = builder.emit(Tanh(), builder.emit(product, x, a))
    total = builder.emit(Broadcast((32, 32), (0,)), builder.emit(Sum((1,)), a))
    b = builder.emit(Multiply(), a, total)
    builder.output("y", Role.OUTPUT, builder.emit(product, y, b))
    return builder.build()


@pytest.mark.parametrize("rows", [BatchExtent(1), BATCH])
def test_what_runs_once_writes_over_nothing_that_each_step_reads(rows: Extent) -> None:
    """Rows of the batch leave the memory to what runs once; what else each step reads makes it run each time."""
    graph, random = of_weights(rows), np.random.default_rng(2)
    inputs = {name: random.uniform(-1, 1, (n, 32)).astype("f4") for name, n in (("x", BATCH), ("w", 32))}
    native = compiled(graph, machine=replace(host(), tuning=Tuning(overwritten_bytes=0)))
    assert any(i.once for i in native.plan.instances) == isinstance(rows, BatchExtent)
    executable = native.executable()
    store = TensorStore(executable.manifest.tensors)
    store.write("w", inputs["w"])
    for _ in range(2):
        assert_same_outputs(executable.call({"x": inputs["x"]}, BATCH, store), evaluate(graph, inputs, BATCH))


PENALISED = """
model M {
    input x: f32[batch, 96]
    output y = x |> dense(25) |> dense(1) |> tanh |> dense(25)
}
train M {
    target t: f32[batch, 25]
    loss = mse(y, t)
    optimizer = adam
    clip = norm(0.5)
    penalty = l2(0.001)
    batch = 100
}
"""


def test_updates_are_ordered_by_what_joined_reductions_need() -> None:
    """The sums of squares of the penalty and of the clip are joined, so updates wait for more than before."""
    verify_schedule(schedule(optimise_graph(graph_of(load_text(PENALISED, "model.dl"), TRAINING))), 32)


@pytest.mark.parametrize("optimised", [True, False])
@pytest.mark.parametrize("made", ["ones", "windows", "places"])
@pytest.mark.parametrize("is_left", [True, False])
def test_an_operand_that_is_made_wherever_it_is_used_is_stored_for_a_product(
    made: str, is_left: bool, optimised: bool
) -> None:
    """A product reads memory; constants and places have none until they are copied there."""
    builder = GraphBuilder(made)
    x = builder.input("x", Role.DATA, TensorType(DType.F32, (BatchExtent(), 4, 6)))
    one = builder.emit(Constant(1.0, DType.F32))
    kinds = {
        "ones": lambda: builder.emit(Broadcast((4, 5), ()), one),
        "windows": lambda: builder.emit(Window((0,), (4,), (1,), (1,)), builder.emit(Broadcast((8,), ()), one)),
        "places": lambda: builder.emit(Iota((4, 5), 0, DType.F32)),
    }
    operand = kinds[made]()
    if made == "windows":
        operand = builder.emit(Transpose((1, 0)), operand)
    labels = ((0, 1, 2), (1, 3))
    given = (operand, x) if is_left else (x, operand)
    lhs, rhs = reversed(labels) if is_left else labels
    builder.output("y", Role.OUTPUT, builder.emit(Contraction(lhs, rhs, (0, 2, 3)), *given))
    graph = builder.build()
    inputs = {"x": np.random.default_rng(2).uniform(-1, 1, (BATCH, 4, 6)).astype("f4")}
    native = compiled(optimise_graph(graph) if optimised else graph)
    assert_same_outputs(native.executable().call(inputs, BATCH), evaluate(graph, inputs, BATCH))


@pytest.mark.parametrize("seed", [262, 316, 1524])
def test_random_graphs_with_parts_that_lie_apart(seed: int) -> None:
    plan = schedule(random_graph(seed, 30)[0])
    assert in_place(plan)
    verify_schedule(plan, 32)


def test_a_part_that_reaches_into_the_other_is_found() -> None:
    """The load covers 0 to 3 of each 8 elements, the store 4 to 7."""
    plan = schedule(beside("reversed"))
    kernel = staged(in_place(plan).kernel)
    for start in (1, 3, 5, 7):
        broken = moved(kernel, Store, lambda access, start=start: replace(access, offset=start))
        with pytest.raises(CompilerBug, match="reads other elements of buffer 2 than it overwrites"):
            verify_schedule(changed(plan, broken), 32)


def test_a_part_of_another_row_is_found() -> None:
    """What the next row of the batch writes, or a row that lies elsewhere for each size of the batch."""
    plan = schedule(beside("reversed"))
    kernel = staged(in_place(plan).kernel)
    further = moved(kernel, Load, lambda access: replace(access, offset=access.offset + 16 + 4))
    faster = moved(kernel, Load, lambda access: replace(access, rows=(IndexTerm(1, None, 16),)))
    uneven = moved(kernel, Load, lambda access: replace(access, rows=(IndexTerm(3, None, 8),)))
    for broken in (further, faster, uneven):
        with pytest.raises(CompilerBug, match="reads other elements"):
            verify_schedule(changed(plan, broken), 32)


def test_an_operand_that_reaches_into_the_result_is_found() -> None:
    plan = schedule(beside("product"))
    kernel = in_place(plan).kernel
    assert isinstance(kernel, ContractionKernel)
    for start in (1, 4):
        broken = replace(kernel, contraction=replace(kernel.contraction, lhs_offset=start))
        with pytest.raises(CompilerBug, match="while it needs the old content"):
            verify_schedule(changed(plan, broken), 32)


def test_a_load_behind_the_store_of_its_element_is_found() -> None:
    plan = schedule(beside("reversed"))
    kernel = staged(in_place(plan).kernel)
    (stage,) = kernel.stages
    load, *rest = stage.body
    (store,) = [i for i in rest if isinstance(i, Store)]
    assert isinstance(load, Load)
    again = replace(load, access=store.access, result=99)
    with pytest.raises(CompilerBug, match="element 4 of buffer 2 before anything has written it"):
        verify_schedule(changed(plan, replace(kernel, stages=(replace(stage, body=(again, *stage.body)),))), 32)
    with pytest.raises(CompilerBug, match="again after it has overwritten it"):
        verify_schedule(changed(plan, replace(kernel, stages=(replace(stage, body=(*stage.body, again)),))), 32)


def summed(rows: int) -> Schedule:
    """Sums of `rows` rows each, stored where the rows lie."""
    access = Access(0, 0, (IndexTerm(1, None, 3),), (IndexTerm(1, None, 1),))
    body = (Load(0, access, DType.F32, Space.FULL), Reduce(1, Combine.SUM, 0, DType.F32, Space.COLUMN))
    stages = (Stage(body, (Store(access, 1, DType.F32, Space.COLUMN),)),)
    buffers = (BufferArgument("b0", DType.F32),)
    kernel = ColumnKernel("sum", buffers, (), stages, BatchExtent(), rows, 3)
    buffer = Buffer(0, DType.F32, BatchExtent(3 * rows), "x", Role.STATE)
    instance = Instance(kernel, (0,), (0,), (0,), ())
    return Schedule("sums", (buffer,), (instance,), (False,), (BufferPlace(Arena.TENSORS, 0),), (), (), 0, 0)


def test_a_sum_over_the_rows_of_others_is_found() -> None:
    """The sum of block k lies in row k: that of a block of one row is its own, of two it is another block's."""
    verify_schedule(summed(1), 32)
    with pytest.raises(CompilerBug, match="reads other elements"):
        verify_schedule(summed(2), 32)


def number(terms: tuple[IndexTerm, ...], index: int) -> int:
    return sum((index // t.divisor % t.modulus if t.modulus else index // t.divisor) * t.stride for t in terms)


def one_by_one(instruction: Load | Store, kernel: StagedKernel, batch: int) -> Iterator[int]:
    """The elements that an instruction touches, by going through the loops."""
    outer, rows, columns = iteration_space(kernel, batch)
    elements = size_at(kernel.elements, batch) if isinstance(kernel, FlatKernel) else outer * rows * columns
    rows = {Space.COLUMN: outer, Space.SCALAR: 1}.get(instruction.space, outer * rows)
    for row, column in product(range(rows), range(columns)):
        if column and instruction.space not in (Space.FULL, Space.COLUMN):
            continue
        is_inside = row * columns + column < elements
        if instruction.space is not Space.FULL or is_inside:
            access = instruction.access
            start = access.offset + number(access.rows, row) + number(access.columns, column)
            for k in range(max(instruction.index_extent, 1) if instruction.index is not None else 1):
                yield start + k * instruction.index_stride


def test_footprints_are_what_the_loops_touch() -> None:
    compared = 0
    for seed in range(12):
        for kernel in dict.fromkeys(i.kernel for i in schedule(random_graph(seed, 30)[0]).instances):
            for instruction in statements_of(kernel):
                if not isinstance(kernel, StagedKernel):
                    continue
                if isinstance(instruction, Load | Store) and not kernel.buffers[instruction.access.buffer].is_scratch:
                    found = touched_by(instruction, kernel)
                    if found is None:
                        continue
                    for batch in (1, 3):
                        expected = {*one_by_one(instruction, kernel, batch)}
                        assert expected == {e + k * found.step for e in found.first.tolist() for k in range(batch)}
                        compared += 1
    assert compared > 500


def test_operands_of_products() -> None:
    kernel = in_place(schedule(beside("product"))).kernel
    assert isinstance(kernel, ContractionKernel)
    left, right = (operand_of(kernel.contraction, is_left).footprint() for is_left in (True, False))
    assert (left.first.tolist(), left.step) == ([0, 1, 2, 3, 8, 9, 10, 11], 16)
    assert (right.first.tolist(), right.step) == ([*range(16)], 0)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (([0, 1], 4), ([2, 3], 4), False),
        (([0, 1], 4), ([1, 2], 4), True),
        (([0, 1], 4), ([4, 5], 4), True),
        (([0, 1], 0), ([4, 5], 0), False),
        (([0, 1], 0), ([2, 3], 4), True),
    ],
)
def test_footprints_meet(one: tuple[list[int], int], other: tuple[list[int], int], expected: bool) -> None:
    first, second = (Footprint(np.array(places), step) for places, step in (one, other))
    assert meet(first, second) is expected
    assert meet(first, None)


@pytest.mark.parametrize(("shift", "is_fault"), [(0, False), (4, False), (1, True), (3, True)])
def test_elements_that_two_stores_of_a_kernel_share_are_found(shift: int, is_fault: bool) -> None:
    """Rows of 4 that are stored a second time, elsewhere in their rows of 8."""
    builder = GraphBuilder("beside")
    x = builder.input("x", Role.DATA, TensorType(DType.F32, (BatchExtent(), 4)))
    w = builder.emit(Constant(0.0, DType.F32))
    builder.output("y", Role.OUTPUT, builder.emit(Concat(1), x, builder.emit(Broadcast((BatchExtent(), 4), ()), w)))
    plan = schedule(builder.build())
    verify_schedule(plan, 32)
    old = next(i for i in plan.instances if any(isinstance(s, Store) for s in instructions_of(i.kernel)))
    (stage,) = staged(old.kernel).stages
    store = next(i for i in stage.body if isinstance(i, Store))
    again = replace(store, access=replace(store.access, offset=store.access.offset + shift))
    kernel = replace(old.kernel, stages=(replace(stage, body=(*stage.body, again)),))
    broken = replace(plan, instances=tuple(replace(i, kernel=kernel) if i is old else i for i in plan.instances))
    if is_fault:
        with pytest.raises(CompilerBug, match="stores elements of buffer"):
            verify_schedule(broken, 32)
    else:
        verify_schedule(broken, 32)
