"""Products whose operands a device copies to shared memory by itself: bits, waits, alignment, instructions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from comparisons import assert_same_bits
from device_tools import needs_toolkit
from emulated import emulated, lowered_for_device
from native import host

from compiler.driver import Options
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role
from compiler.loops.ir import contraction_of
from compiler.machine import Machine
from compiler.nest import ir
from compiler.nest.lanes import all_statements
from compiler.ops.contraction import Contraction
from compiler.programs.executables import executable
from compiler.schedule.build import schedule
from compiler.schedule.ir import Schedule
from compiler.support.arrays import Array
from compiler.targets.gpu import lower
from compiler.targets.gpu.block_shapes import SHAPES, BlockShape
from compiler.targets.gpu.device import SM_75, SM_80
from compiler.targets.gpu.ptx import ptx_of
from compiler.targets.gpu.text import device_text, host_text
from compiler.targets.gpu.toolkit import assembled, disassembled
from compiler.types import BatchExtent, DType, TensorType

BATCH = BatchExtent(1)
Labels = tuple[tuple[int, ...], tuple[int, ...]]
PLAIN, TURNED_LEFT, TURNED_RIGHT = ((0, 1), (1, 2)), ((1, 0), (1, 2)), ((0, 1), (2, 1))
BOTH, IMAGES, HEADS = ((1, 0), (2, 1)), ((0, 3, 1), (1, 2)), ((3, 0, 1), (3, 1, 2))
TWO_SUMS, TURNED_SUMS = ((4, 1, 0), (4, 1, 2)), ((0, 4, 1), (2, 4, 1))
KEPT: dict[Labels, tuple[int, ...]] = {IMAGES: (0, 3, 2), HEADS: (3, 0, 2)}
SIZES = {0: 76, 1: 140, 2: 52, 3: 3, 4: 2}
WAIT = "call i8 @llvm.coro.suspend(token none, i1 false)"
AWAIT = "call void @KERNEL.await_copies(ptr %copies, i64 1)"
NOTHING = "call void @KERNEL.await_copies(ptr %copies, i64 99)"
COMMIT = "call void @KERNEL.commit_copies(ptr %copies)"


def graph_of(labels: Labels, batch: int | None, dtype: DType, sizes: dict[int, int] = SIZES) -> Graph:
    """The product of both operands over the labels that the result lacks; one label may be the batch."""
    builder = GraphBuilder("product")
    types = [TensorType(dtype, tuple(BATCH if k == batch else sizes[k] for k in side)) for side in labels]
    inputs = [builder.input(name, Role.DATA, type_) for name, type_ in zip("xy", types, strict=True)]
    builder.output("z", Role.OUTPUT, builder.emit(Contraction(*labels, KEPT.get(labels, (0, 2))), *inputs))
    return builder.build()


def data_of(
    labels: Labels, batch: int | None, rows: int, dtype: DType, sizes: dict[int, int] = SIZES
) -> dict[str, Array]:
    random = np.random.default_rng(0)
    shapes = [tuple(rows if k == batch else sizes[k] for k in side) for side in labels]
    numbers = "f4" if dtype is DType.F32 else "f8"
    given = {name: random.normal(size=shape).astype(numbers) for name, shape in zip("xy", shapes, strict=True)}
    given["x"].flat[::997], given["y"].flat[::89] = np.inf, -0.0
    return given


def text_by(**how: bool | int) -> Callable[[ir.Nest], str]:
    return partial(host_text, machine=host(), is_strict=True, **how)  # type: ignore[arg-type]


def copies_in(nest: ir.Nest) -> int:
    return sum(isinstance(statement, ir.CopyAhead) for statement in all_statements(nest.body))


def expect_bits_of_native_code(
    graph: Graph, given: Sequence[tuple[dict[str, Array], int]], batch: int, copies: bool = True
) -> None:
    """Of kernels that copy at once and late, with threads in two orders."""
    native = executable(graph, Options(threads=1, batch=batch))
    for how in ({"copies_early": False}, {"copies_early": True, "order": 255}):
        lowered = lowered_for_device(graph, batch, text_by(**how))
        assert any(map(copies_in, lowered.nests.values())) is copies
        found = emulated(lowered)
        for data, rows in given:
            assert_same_bits(found.call(data, rows)["z"], native.call(data, rows)["z"])


@pytest.mark.parametrize(
    ("labels", "batch"),
    [
        *((labels, batch) for labels in (PLAIN, TURNED_RIGHT) for batch in (None, 0)),
        *((labels, batch) for labels in (PLAIN, TURNED_LEFT) for batch in (None, 1)),
        *((labels, batch) for labels in (BOTH, TURNED_SUMS) for batch in (None,)),
        *((labels, batch) for labels in (IMAGES, HEADS) for batch in (0, 3)),
        *((TWO_SUMS, batch) for batch in (None, 4)),
    ],
)
def test_a_product_of_copies_has_the_bits_of_native_code(labels: Labels, batch: int | None) -> None:
    given = [(data_of(labels, batch, rows, DType.F32), rows) for rows in ((1, 37, 64) if batch is not None else (1,))]
    expect_bits_of_native_code(graph_of(labels, batch, DType.F32), given, 64)


@pytest.mark.parametrize("labels", [PLAIN, TURNED_LEFT, TURNED_RIGHT, BOTH])
@pytest.mark.parametrize(
    ("shape", "dtype"), [*((shape, DType.F32) for shape in SHAPES), *((shape, DType.F64) for shape in SHAPES[1:])]
)
def test_tiles_of_each_shape_and_their_edges(
    shape: BlockShape, dtype: DType, labels: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lower, "shape_for", lambda *_: shape)
    for sizes in ({0: 132, 1: 20, 2: 68}, {0: 128, 1: 64, 2: 64}, {0: 36, 1: 4, 2: 16}):
        graph = graph_of(labels, None, dtype, sizes)
        expect_bits_of_native_code(graph, [(data_of(labels, None, 1, dtype, sizes), 1)], 1)


@pytest.mark.parametrize("labels", [PLAIN, TURNED_LEFT, TURNED_RIGHT, TWO_SUMS])
@pytest.mark.parametrize("odd", [0, 1, 2])
def test_operands_that_lie_in_no_pieces_come_by_registers(labels: Labels, odd: int) -> None:
    """Of an axis that lies apart, the extent may be odd."""
    sizes = SIZES | {odd: SIZES[odd] - 1}
    last = {side[-1] for side in labels}
    given = [(data_of(labels, None, 1, DType.F32, sizes), 1)]
    expect_bits_of_native_code(graph_of(labels, None, DType.F32, sizes), given, 1, copies=odd not in last)


def test_buffers_that_may_begin_elsewhere_are_not_copied() -> None:
    """A buffer at no multiple of 16 bytes, or one that a loop moves by other steps."""
    graph = graph_of(PLAIN, None, DType.F32)
    plan = schedule(graph, (), 1, machine=SM_80)
    (number,) = [k for k, i in enumerate(plan.instances) if contraction_of(i.kernel)]
    instance = plan.instances[number]
    contract = contraction_of(instance.kernel)
    assert contract is not None
    buffer = instance.arguments[contract.lhs]

    def copies(plan: Schedule) -> bool:
        found = lower.lower(graph, plan, SM_80, 1, text_by(), keeps_nests=True)
        return any(map(copies_in, found.nests.values()))

    for step, is_copied in ((0, True), (4, True), (8, True), (1, False), (6, False)):
        places = [*plan.places]
        places[buffer] = replace(places[buffer], offset=places[buffer].offset + 4 * step)
        assert copies(replace(plan, places=tuple(places))) is is_copied
        strides = tuple((step if k == contract.lhs else 0,) for k in range(len(instance.arguments)))
        moved = (*plan.instances[:number], replace(instance, strides=strides), *plan.instances[number + 1 :])
        assert copies(replace(plan, instances=moved)) is is_copied


@pytest.mark.parametrize("machine", [SM_75, SM_80], ids=["sm_75", "sm_80"])
@pytest.mark.parametrize("summed", [48, 52])
def test_sums_that_are_negative_zeros_stay_so(machine: Machine, summed: int) -> None:
    """Terms below the least number round to -0, to which nothing may be added."""
    sizes = SIZES | {1: summed}
    graph, given = graph_of(PLAIN, None, DType.F32, sizes), data_of(PLAIN, None, 1, DType.F32, sizes)
    given["x"][:], given["y"][:] = 1e-30, -1e-30
    found = emulated(lowered_for_device(graph, 1, text_by(), machine)).call(given, 1)["z"]
    assert np.signbit(found).all()
    assert_same_bits(found, executable(graph, Options(threads=1, batch=1)).call(given, 1)["z"])


FAULTS: dict[str, tuple[str, str]] = {
    "barrier": (WAIT, "add i8 0, 0"),
    "await less": (AWAIT, AWAIT.replace("1)", "2)")),
    "await": (AWAIT, NOTHING),
    "commit": (COMMIT, NOTHING),
}


def results(text_of: Callable[[ir.Nest], str]) -> bytes:
    lowered = lowered_for_device(graph_of(PLAIN, None, DType.F32), 1, text_of)
    return emulated(lowered).call(data_of(PLAIN, None, 1, DType.F32), 1)["z"].tobytes()


def with_fault(nest: ir.Nest, fault: str, number: int, **how: bool | int) -> str:
    """The text of a kernel in which one statement is another."""
    right, wrong = FAULTS[fault]
    kernel, functions = text_by(**how)(nest).split("\n}\n", 1)
    parts = kernel.split(right)
    assert number + 1 < len(parts)
    kernel = right.join(parts[: number + 1]) + wrong + right.join(parts[number + 1 :])
    return f"{kernel}\n}}\n{functions}"


@pytest.mark.parametrize(
    ("fault", "number"), [("barrier", 0), ("await less", 0), ("await", 0), *(("commit", k) for k in range(3))]
)
def test_each_statement_that_orders_copies_is_found_that_is_wrong(fault: str, number: int) -> None:
    expected = results(text_by())
    found = [
        results(partial(with_fault, fault=fault, number=number, copies_early=early, order=order)) != expected
        for early in (False, True)
        for order in (0, 255)
    ]
    assert any(found)


def with_late_barrier(body: list[ir.Statement]) -> list[ir.Statement]:
    """A loop that begins copies before its barrier."""
    barrier = next(s for s in body if isinstance(s, ir.Barrier))
    commit = next(s for s in body if isinstance(s, ir.CommitCopies))
    others = [s for s in body if s is not barrier]
    others.insert(others.index(commit) + 1, barrier)
    return others


def test_copies_that_begin_while_a_stage_is_read_are_found() -> None:
    expected = results(text_by())

    def text_of(nest: ir.Nest, **how: bool | int) -> str:
        for loop in (s for s in nest.body if isinstance(s, ir.Loop)):
            if any(isinstance(i, ir.Barrier) for i in loop.body):
                loop.body[:] = with_late_barrier(loop.body)
        return text_by(**how)(nest)

    assert results(partial(text_of, copies_early=True)) != expected
    assert results(text_of) == expected  # late copies are made behind the barrier


@needs_toolkit
@pytest.mark.parametrize("labels", [PLAIN, TURNED_LEFT, TURNED_RIGHT, BOTH])
def test_copies_are_instructions_of_a_device_from_8_0_on(labels: Labels) -> None:
    sizes = {0: 2048, 1: 256, 2: 2048}
    for machine in (SM_75, SM_80):
        lowered = lowered_for_device(graph_of(labels, None, DType.F32, sizes), 1, device_text, machine)
        (symbol,) = [symbol for symbol, tiles in lowered.tiles.items() if "rows x" in tiles]
        ptx = ptx_of(lowered.texts[symbol], machine)
        assert f".target {machine.cpu}" in ptx
        assert ("copied ahead in 3 stages" in lowered.tiles[symbol]) is machine.copies_ahead
        copies = copies_in(lowered.nests[symbol])
        assert copies == (9 if machine.copies_ahead else 0)
        assert ptx.count("cp.async.cg.shared.global") == copies
        for architecture in ("sm_80", "sm_90", "sm_120"):
            code = disassembled(assembled(ptx, architecture).code)
            assert code.count("LDGSTS.E.BYPASS") == copies
            assert code.count("LDS.128") >= 32


@needs_toolkit
@pytest.mark.parametrize("labels", [PLAIN, BOTH])
@pytest.mark.parametrize("shape", SHAPES[1:])
def test_tiles_of_f64_have_half_the_depth_where_stages_have_no_room(
    shape: BlockShape, labels: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lower, "shape_for", lambda *_: shape)
    sizes = {0: 256, 1: 256, 2: 256}
    lowered = lowered_for_device(graph_of(labels, None, DType.F64, sizes), 1, device_text)
    ((symbol, tiles),) = ((symbol, tiles) for symbol, tiles in lowered.tiles.items() if "rows x" in tiles)
    assert "copied ahead in 3 stages" in tiles
    made = assembled(ptx_of(lowered.texts[symbol], SM_80), "sm_90")
    assert " 0 bytes spill stores" in made.report
    assert disassembled(made.code).count("LDGSTS.E.BYPASS") == copies_in(lowered.nests[symbol])
