"""Memory is shared where lives allow it; tensors are updated in place where that is sound, else copied back."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from comparisons import Array, assert_same_outputs
from native import EVERY_KERNEL_PARALLEL, compiled
from schedule_interpreter import run_schedule

from compiler.evaluate import evaluate
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role, Value
from compiler.interface import FUSIONS
from compiler.ops.contraction import Contraction
from compiler.ops.elementwise import Add, Divide, Multiply, Subtract
from compiler.ops.mathematics import Exp, Tanh
from compiler.ops.movement import Broadcast, Concat, Slice, Transpose
from compiler.ops.reduction import CumulativeSum, Sum
from compiler.ops.sources import Constant
from compiler.schedule.build import schedule
from compiler.schedule.ir import Arena, Buffer, BufferPlace, Schedule
from compiler.schedule.memory.plan_memory import ALIGNMENT, Life, places_of, size_in_arena
from compiler.schedule.printer import print_schedule
from compiler.schedule.verify import verify_schedule
from compiler.targets.memory import TensorStore
from compiler.types import BatchExtent, DType, Extent, TensorType, at_batch

BATCH = BatchExtent()
ROWS = 5


class Step:
    """A graph whose tensors x and y, each of 6 x 6, are updated."""

    def __init__(self) -> None:
        self.builder = GraphBuilder("step")
        self.emit = self.builder.emit

    def tensor(self, name: str, *shape: Extent) -> Value:
        return self.builder.input(name, Role.PARAMETER, TensorType(DType.F32, shape or (6, 6)))

    def data(self, name: str, *shape: Extent) -> Value:
        return self.builder.input(name, Role.DATA, TensorType(DType.F32, shape))

    def update(self, name: str, value: Value) -> None:
        self.builder.output(name, Role.PARAMETER, value, name)

    def result(self, name: str, value: Value) -> None:
        self.builder.output(name, Role.OUTPUT, value)


def descent(step: Step) -> None:
    x, slope = step.tensor("x"), step.data("slope", 6, 6)
    rate = step.emit(Broadcast((6, 6), ()), step.emit(Constant(0.1, DType.F32)))
    step.update("x", step.emit(Subtract(), x, step.emit(Multiply(), rate, slope)))


def update_after_use(step: Step) -> None:
    """The old tensor is used by a product, which must come first."""
    x, data = step.tensor("x"), step.data("d", BATCH, 6)
    product = step.emit(Contraction((0, 1), (1, 2), (0, 2)), data, x)
    step.result("z", product)
    slope = step.emit(Contraction((0, 1), (0, 2), (1, 2)), data, product)
    step.update("x", step.emit(Subtract(), x, slope))


def moving_average(step: Step) -> None:
    x, data = step.tensor("x", 6), step.data("d", BATCH, 6)
    step.update("x", step.emit(Add(), step.emit(Sum((0,)), data), x))
    step.result("z", step.emit(Multiply(), data, step.emit(Broadcast((BATCH, 6), (1,)), x)))


def each_from_the_other(step: Step) -> None:
    x, y = step.tensor("x"), step.tensor("y")
    step.update("x", step.emit(Add(), x, y))
    step.update("y", step.emit(Subtract(), x, y))


def swap(step: Step) -> None:
    x, y = step.tensor("x"), step.tensor("y")
    step.update("x", y)
    step.update("y", x)


def unchanged(step: Step) -> None:
    x = step.tensor("x")
    step.update("x", x)
    step.result("z", step.emit(Exp(), x))


def constant(step: Step) -> None:
    x = step.tensor("x")
    step.update("x", step.emit(Broadcast((6, 6), ()), step.emit(Constant(2.0, DType.F32))))
    step.result("z", step.emit(Exp(), x))


def old_and_new(step: Step) -> None:
    x = step.tensor("x")
    new = step.emit(Exp(), x)
    step.update("x", new)
    step.result("old", x)
    step.result("new", new)


def one_value_for_two(step: Step) -> None:
    x, _ = step.tensor("x"), step.tensor("y")
    new = step.emit(Tanh(), x)
    step.update("x", new)
    step.update("y", new)


def transposed(step: Step) -> None:
    x = step.tensor("x")
    step.update("x", step.emit(Add(), x, step.emit(Transpose((1, 0)), x)))


def squared(step: Step) -> None:
    x = step.tensor("x")
    step.update("x", step.emit(Contraction((0, 1), (1, 2), (0, 2)), x, x))


def normalised(step: Step) -> None:
    x = step.tensor("x")
    total = step.emit(Sum((0, 1)), step.emit(Multiply(), x, x))
    step.update("x", step.emit(Divide(), x, step.emit(Broadcast((6, 6), ()), total)))


def summed_up(step: Step) -> None:
    step.update("x", step.emit(CumulativeSum(0, False), step.tensor("x")))


def halves_exchanged(step: Step) -> None:
    x = step.tensor("x")
    low, high = (step.emit(Slice((start, 0), (3, 6), (1, 1)), x) for start in (0, 3))
    step.update("x", step.emit(Concat(0), high, low))


# How many tensors are written aside and copied back.
COPIES: list[tuple[Callable[[Step], None], int]] = [
    (descent, 0),
    (update_after_use, 0),
    (moving_average, 0),
    (each_from_the_other, 1),
    (swap, 1),
    (unchanged, 0),
    (constant, 0),
    (old_and_new, 0),
    (one_value_for_two, 0),
    (transposed, 1),
    (squared, 1),
    (normalised, 0),
    (summed_up, 1),
    (halves_exchanged, 1),
]


def made(make: Callable[[Step], None]) -> Graph:
    step = Step()
    make(step)
    return step.builder.build()


def inputs_of(graph: Graph) -> dict[str, Array]:
    random = np.random.default_rng(1)
    return {i.name: random.normal(size=at_batch(i.value.type.shape, ROWS)).astype("f4") for i in graph.inputs}


def run_natively(graph: Graph, inputs: dict[str, Array], fuse: bool) -> dict[str, Array]:
    """The results, and the tensors after the step."""
    native = compiled(graph, fuse=fuse, batch=EVERY_KERNEL_PARALLEL)
    store = TensorStore(native.lowered.manifest.tensors)
    for name in store.names():
        store.write(name, inputs[name])
    fed = {slot.name: inputs[slot.name] for slot in native.lowered.manifest.inputs}
    return {**native.executable(2).call(fed, ROWS, store), **{name: store[name] for name in store.names()}}


@pytest.mark.parametrize(("make", "copies"), COPIES, ids=[make.__name__ for make, _ in COPIES])
def test_updates(make: Callable[[Step], None], copies: int) -> None:
    graph = made(make)
    plan = schedule(graph)
    assert sum(i.kernel.name == "copy_back" for i in plan.instances) == copies, print_schedule(plan)
    inputs = inputs_of(graph)
    expected = evaluate(graph, inputs, ROWS)
    for fuse in (True, False):
        for batch in (1, EVERY_KERNEL_PARALLEL):
            plan = schedule(graph, () if fuse else FUSIONS, batch)
            verify_schedule(plan, batch)
            found = run_schedule(plan, inputs, ROWS)
            assert_same_outputs({name: found[name] for name in expected}, expected)
        found = run_natively(graph, inputs, fuse)
        assert_same_outputs({name: found[name] for name in expected}, expected)


def chain(length: int) -> Schedule:
    """Products one after the other, each with a result of 64 columns."""
    step = Step()
    x = step.data("d", BATCH, 64)
    for number in range(length):
        x = step.emit(Contraction((0, 1), (1, 2), (0, 2)), x, step.tensor(f"w{number}", 64, 64))
    step.result("z", x)
    return schedule(step.builder.build(), batch=EVERY_KERNEL_PARALLEL)


def test_a_long_chain_needs_no_more_memory_than_a_short_one() -> None:
    row = 64 * 4
    assert chain(3).batch_bytes == chain(12).batch_bytes <= 3 * row
    assert sum(chain(12).barriers) == 13, "one between each two of the products, the fetch and the collect"


def test_what_is_needed_later_keeps_its_memory() -> None:
    step = Step()
    x = step.data("d", BATCH, 64)
    for number in range(4):
        x = step.emit(Contraction((0, 1), (1, 2), (0, 2)), x, step.tensor(f"w{number}", 64, 64))
        step.result(f"z{number}", x)
    plan = schedule(step.builder.build(), batch=EVERY_KERNEL_PARALLEL)
    assert plan.batch_bytes == 4 * 64 * 4, "the four results; one of them takes the memory of the data"


def test_packing() -> None:
    sizes = (1000, 10, 500, 1000, 250)
    lives = (Life(0, 1), Life(0, 5), Life(2, 3), Life(2, 3), Life(1, 2))
    buffers = [Buffer(k, DType.F32, size) for k, size in enumerate(sizes)]
    fixed = {1: BufferPlace(Arena.TENSORS, 0)}
    places, static, batch = places_of(buffers, dict(enumerate(lives)), fixed)
    assert places[1] == fixed[1]
    assert batch == 0
    bytes_of = [size_in_arena(b) for b in buffers]
    assert static == bytes_of[3] + bytes_of[2] + bytes_of[4], "all that is in use at the fullest moment, and no more"
    for first, life in enumerate(lives):
        assert places[first].offset % ALIGNMENT == 0
        for second, other in enumerate(lives[:first]):
            together = life.first <= other.last and other.first <= life.last
            if together and 1 not in (first, second):
                apart = places[first].offset >= places[second].offset + bytes_of[second]
                assert apart or places[second].offset >= places[first].offset + bytes_of[first]


def test_batch_buffers_lie_apart_for_every_batch() -> None:
    """A size in bytes that is no multiple of 4 for each row is rounded, so that the capacity aligns what follows."""
    buffers = [Buffer(0, DType.U8, BatchExtent(3)), Buffer(1, DType.F64, BatchExtent(2)), Buffer(2, DType.BOOL, BATCH)]
    places, static, batch = places_of(buffers, dict.fromkeys(range(3), Life(0, 0)), {})
    assert (static, batch) == (0, 4 + 16 + 4)
    assert sorted(p.offset for p in places.values()) == [0, 16, 20]
    assert all(p.arena is Arena.BATCH for p in places.values())
