"""What machines without masks or with short registers do in pieces: the same bytes, and nothing on the stack."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from native import host

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Role, Value
from compiler.loops.printer import FRAME
from compiler.machine import AVX2, AVX512, NEON, Machine
from compiler.nest.arguments import BufferPointer
from compiler.nest.builder import Builder
from compiler.nest.ir import ADDRESS, Constant, Items, Nest, vector
from compiler.nest.ir import Value as Place
from compiler.ops.contraction import Contraction
from compiler.ops.elementwise import Add, Divide, Multiply, Subtract
from compiler.ops.mathematics import Sqrt
from compiler.ops.movement import Broadcast
from compiler.schedule.build import schedule
from compiler.support.numerics import LANES
from compiler.targets.cpu.kernel_frame import in_memory
from compiler.targets.cpu.lower import lower
from compiler.targets.cpu.nest_passes import store_in_pieces
from compiler.targets.cpu.tiles import pieces_of
from compiler.targets.cpu.transpose import move_transposed
from compiler.targets.llvm.jit import Library, assembly, compile_module
from compiler.targets.llvm.to_llvm import to_llvm
from compiler.types import DType, TensorType

TYPES = {DType.F32: np.float32, DType.F64: np.float64, DType.I64: np.int64, DType.U8: np.uint8}
STACK = re.compile(r"\tv.*[yz]mm.*\(%rsp\)|\tv.*\(%rsp\).*[yz]mm|\t(ldr|str|ldp|stp)\tq.*\[sp")


def function(machine: Machine, write: Callable[[Builder, Place, Place], None]) -> str:
    """What is written between a source and a target, the only arguments, as LLVM text."""
    nest = Builder()
    write(nest, nest.given(0, ADDRESS), nest.given(1, ADDRESS))
    arguments = (BufferPointer(0), BufferPointer(1))
    written = Nest(arguments, Items(1), nest.body, nest.count, frozenset((FRAME,)), 0, 0)
    return to_llvm(store_in_pieces(written, machine), machine)


def called(code: str, source: np.ndarray, target: np.ndarray) -> None:
    library = Library([compile_module(code, host(), verify=True)], ["KERNEL"], host())
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
    arguments = np.array([source.ctypes.data, target.ctypes.data])
    call(library.address("KERNEL"))(arguments.ctypes.data, 0, 1, 0)
    library.close()


def first_lanes(dtype: DType, lanes: int, machine: Machine) -> str:
    mask = Constant(vector(DType.BOOL, LANES), tuple(k < lanes for k in range(LANES)))

    def write(nest: Builder, source: Place, target: Place) -> None:
        value = nest.load(source, vector(in_memory(dtype), LANES), dtype.size)
        nest.store(value, target, dtype.size, None if lanes == LANES else mask)

    return function(machine, write)


@pytest.mark.parametrize("masks", [True, False], ids=["masks", "pieces"])
@pytest.mark.parametrize("dtype", TYPES)
def test_the_first_lanes_are_stored_and_no_others(dtype: DType, masks: bool) -> None:
    for lanes in range(1, LANES + 1):
        source, target = np.arange(1, LANES + 1, dtype=TYPES[dtype]), np.zeros(LANES, TYPES[dtype])
        called(first_lanes(dtype, lanes, replace(host(), masks=masks)), source, target)
        assert np.array_equal(target, np.where(np.arange(LANES) < lanes, source, 0))


@pytest.mark.parametrize("dtype", TYPES)
def test_a_machine_without_masks_stores_few_pieces(dtype: DType) -> None:
    """On AVX2, a mask is slow for words and a branch for each lane otherwise."""
    code = assembly(first_lanes(dtype, 13, AVX2), AVX2)
    assert "maskmov" not in code
    assert len(re.findall(r"\t(v?mov|vpextr|vextract)\w*\s.*%.*, \d*\(%r\w+\)", code)) <= 3 * max(1, dtype.size // 2)
    assert len(re.findall(r"\{%k\d\}", assembly(first_lanes(dtype, 13, AVX512), AVX512))) == 1, "a part of one register"


def turning(dtype: DType, machine: Machine) -> str:
    def write(nest: Builder, source: Place, target: Place) -> None:
        rows, columns = (
            [nest.pointer(base, pitch * lane, dtype) for lane in range(LANES)]
            for base, pitch in ((source, LANES + 3), (target, 2 * LANES))
        )
        move_transposed(nest, pieces_of(machine), dtype, rows, columns)

    return function(machine, write)


@pytest.mark.parametrize("bits", [128, 256, 512])
@pytest.mark.parametrize("dtype", [DType.F32, DType.F64])
def test_blocks_are_turned(dtype: DType, bits: int) -> None:
    source = np.random.default_rng(0).standard_normal((LANES, LANES + 3)).astype(TYPES[dtype])
    room = np.zeros((LANES + 1) * 2 * LANES, TYPES[dtype])
    begin = -room.ctypes.data % 64 // room.itemsize
    target = room[begin : begin + 2 * LANES * LANES].reshape(LANES, 2 * LANES)
    called(turning(dtype, replace(host(), vector_bits=bits)), source, target)
    assert np.array_equal(target[:, :LANES], source[:, :LANES].T)
    assert not target[:, LANES:].any()


@pytest.mark.parametrize("machine", [AVX512, AVX2, NEON], ids=lambda machine: machine.name)
def test_blocks_are_turned_in_registers(machine: Machine) -> None:
    assert not STACK.search(assembly(turning(DType.F32, machine), machine))


def updated(builder: GraphBuilder, rows: int, columns: int) -> Value:
    """Weights less a step of Adam's kind along a product, with numbers that only the run knows."""
    x, y = (
        builder.input(name, Role.DATA, TensorType(DType.F32, (256, extent)))
        for name, extent in (("x", rows), ("y", columns))
    )
    slope = builder.emit(Contraction((0, 1), (0, 2), (1, 2)), x, y)

    def given(name: str) -> Value:
        return builder.input(name, Role.DATA, TensorType(DType.F32, (rows, columns)))

    def number(name: str) -> Value:
        single = builder.input(name, Role.DATA, TensorType(DType.F32, ()))
        return builder.emit(Broadcast((rows, columns), ()), single)

    def mixed(kept: Value, new: Value, name: str) -> Value:
        return builder.emit(
            Add(),
            builder.emit(Multiply(), kept, number(f"{name} kept")),
            builder.emit(Multiply(), new, number(f"{name} new")),
        )

    mean = mixed(given("mean"), slope, "mean")
    square = mixed(given("square"), builder.emit(Multiply(), slope, slope), "square")
    size = builder.emit(Add(), builder.emit(Sqrt(), square), number("least"))
    step = builder.emit(Divide(), builder.emit(Multiply(), mean, number("rate")), size)
    builder.output("mean'", Role.OUTPUT, mean)
    builder.output("square'", Role.OUTPUT, square)
    return builder.emit(Subtract(), given("weights"), step)


@pytest.mark.parametrize("columns", [1000, 1024, 84])
def test_the_stage_of_a_product_leaves_the_registers_to_its_sums(columns: int) -> None:
    """Its loops lie deeper than those over the sum, but run less often: LLVM must be told."""
    builder = GraphBuilder("update")
    builder.output("weights'", Role.OUTPUT, updated(builder, 120, columns))
    graph = builder.build()
    texts = lower(graph, schedule(graph, batch=32), AVX2, 32).texts.values()
    (code,) = (assembly(text, AVX2) for text in texts if "llvm.fma" in text)
    loops = [loop for loop in innermost_loops(code) if sum("vfmadd231ps" in line for line in loop) >= 8]
    assert loops
    assert all(sum(bool(STACK.search(line)) for line in loop) <= 2 for loop in loops)


def innermost_loops(code: str) -> list[list[str]]:
    """The instructions of loops without branches but the last."""
    lines, begin, found = code.splitlines(), -1, list[list[str]]()
    for number, line in enumerate(lines):
        if re.match(r"\.?\w+:", line):
            begin = number
        elif jump := re.match(r"\tj\w+\t(\S+)", line):
            if begin >= 0 and lines[begin].startswith(f"{jump[1]}:"):
                found.append(lines[begin:number])
            begin = -1
    return found
