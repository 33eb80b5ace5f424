"""Instructions carry the statements that they come from, and nothing else of a kernel's code depends on that."""

from __future__ import annotations

import ctypes
import re
from dataclasses import replace
from itertools import pairwise

import pytest
from native import host
from random_graphs import random_graph

from compiler.errors.diagnostics import Source, Span
from compiler.graph.ir import Graph, Origin
from compiler.loops.ir import (
    Access,
    BufferArgument,
    ColumnKernel,
    Combine,
    Compute,
    IndexTerm,
    Load,
    Reduce,
    Space,
    Stage,
    Store,
    statements_of,
)
from compiler.loops.printer import FRAME, print_kernel, statement_lines
from compiler.machine import AVX2, NEON, Machine
from compiler.schedule.build import schedule
from compiler.targets.cpu.lower import lower
from compiler.targets.cpu.specialisation import Key, specialisation
from compiler.targets.llvm.jit import Library, compile_module
from compiler.targets.llvm.listing import listing
from compiler.targets.lowered import Lowered
from compiler.types import DType

BATCH = 32
SEEDS = range(6)


def lowered(seed: int) -> Lowered:
    return lowered_graph(random_graph(seed, 40)[0])


def lowered_graph(graph: Graph) -> Lowered:
    return lower(graph, schedule(graph, batch=BATCH), host(), BATCH)


def without_locations(text: str) -> str:
    function, _, _ = text.partition("\n}\n")
    return re.sub(r",? !dbg !\d+", "", function) + "\n}\n"


@pytest.mark.parametrize("seed", SEEDS)
def test_every_instruction_has_a_location(seed: int) -> None:
    for text in lowered(seed).texts.values():
        rows = text.partition("\n}\n")[0].splitlines()
        bare = [row for row in rows if row.startswith("  ") and "!dbg" not in row and " alloca " not in row]
        assert bare == []


@pytest.mark.parametrize("seed", SEEDS)
def test_every_statement_that_computes_has_instructions(seed: int) -> None:
    found = lowered(seed)
    for symbol, instance in found.instances:
        if symbol not in found.texts:
            continue
        kernel = instance.kernel
        lines = statement_lines(kernel)
        located = {int(line) for line in re.findall(r"!dbg !(\d+)$", found.texts[symbol], re.MULTILINE)}
        wanted = [s for s in statements_of(kernel) if isinstance(s, Compute | Reduce | Store)]
        missing = [s for s in wanted if lines[id(s)] not in located]
        assert all(isinstance(s, Compute) and s.op.name == "cast" for s in missing), print_kernel(kernel)


@pytest.mark.parametrize("seed", SEEDS)
def test_kernels_that_share_code_are_printed_with_the_same_lines(seed: int) -> None:
    lines: dict[Key, list[int]] = {}
    for kernel in (instance.kernel for _, instance in lowered(seed).instances):
        found = list(statement_lines(kernel).values())
        assert lines.setdefault(specialisation(kernel, host()).key, found) == found


def sums_of_columns(outer: int) -> ColumnKernel:
    """The sums over the rows of each outer block."""
    body = (
        Load(0, Access(0, 0, (IndexTerm(1, None, 40),), (IndexTerm(1, None, 1),)), DType.F32, Space.FULL),
        Reduce(1, Combine.SUM, 0, DType.F32, Space.COLUMN),
    )
    store = Store(Access(1, 0, (IndexTerm(1, None, 40),), (IndexTerm(1, None, 1),)), 1, DType.F32, Space.COLUMN)
    buffers = (BufferArgument("b0", DType.F32), BufferArgument("b1", DType.F32))
    return ColumnKernel("sums", buffers, (), (Stage(body, (store,)),), outer, 5, 40)


def test_outer_blocks_do_not_move_the_lines_of_statements() -> None:
    one, several = sums_of_columns(1), sums_of_columns(3)
    assert specialisation(one, host()).key == specialisation(several, host()).key
    assert list(statement_lines(one).values()) == list(statement_lines(several).values())


def test_code_does_not_depend_on_places_in_the_source() -> None:
    graph = random_graph(3, 40)[0]
    source = Source("elsewhere.dl", "x\n" * 200)
    nodes = tuple(
        replace(node, origins=(Origin(Span(source, 100 + k, 1, 100 + k, 2), path=f"p{k}"),))
        for k, node in enumerate(graph.nodes)
    )
    moved = lowered_graph(replace(graph, nodes=nodes))
    assert moved.texts == lowered_graph(graph).texts
    assert any(any(instance.statements) for _, instance in moved.instances)


@pytest.mark.parametrize("seed", SEEDS[:2])
def test_locations_change_no_instruction(seed: int) -> None:
    for symbol, text in lowered(seed).texts.items():
        located = listing(text, symbol, host())
        plain = listing(without_locations(text), symbol, host())
        assert [(i.offset, i.text) for i in located] == [(i.offset, i.text) for i in plain]


def test_what_lost_its_place_counts_for_no_statement() -> None:
    """Constants, for one, are loaded wherever LLVM finds it best."""
    texts = {symbol: text for seed in SEEDS for symbol, text in lowered(seed).texts.items()}
    found = [i for symbol, text in texts.items() for i in listing(text, symbol, host())]
    assert any(instruction.line > FRAME for instruction in found)
    assert any(before.line > FRAME and after.line == 0 for before, after in pairwise(found))


@pytest.mark.parametrize("machine", [AVX2, NEON], ids=["avx2", "neon"])
def test_other_machines_compile_locations_too(machine: Machine) -> None:
    graph = random_graph(1, 40)[0]
    texts = lower(graph, schedule(graph, batch=BATCH), machine, BATCH).texts
    for text in texts.values():
        image = compile_module(text, machine, verify=True)
        assert b"debug_line" in image


@pytest.mark.skipif(not host().triple.startswith("x86_64"), reason="knows the bytes of x86 instructions")
def test_offsets_are_those_of_the_code_in_memory() -> None:
    texts = lowered(0).texts
    library = Library([compile_module(text, host()) for text in texts.values()], list(texts), host())
    returns = 0
    for symbol, text in texts.items():
        for instruction in listing(text, symbol, host()):
            if instruction.offset is None:
                continue
            if instruction.text == "retq":
                returns += 1
                assert ctypes.string_at(library.address(symbol) + instruction.offset, 1) == b"\xc3"
            if instruction.text == "vzeroupper":
                assert ctypes.string_at(library.address(symbol) + instruction.offset, 3) == b"\xc5\xf8\x77"
    assert returns >= len(texts)
