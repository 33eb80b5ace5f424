"""The machine code of products, read for every machine: their sums stay in registers."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role
from compiler.machine import AVX2, MACHINES, Machine
from compiler.ops.contraction import Contraction
from compiler.ops.movement import Transpose
from compiler.schedule.build import schedule
from compiler.targets.cpu.lower import lower
from compiler.targets.llvm.jit import assembly
from compiler.types import DType, TensorType

FUSED = re.compile(r"vfmadd\d+ps|fmla")
BY_ELEMENT = re.compile(r"fmla.*\[\d\]")
STACK = re.compile(r"\(%rsp|\[sp")
CALL = re.compile(r"(callq?|bl|blr)\s")
LABEL = re.compile(r"([\w.$]+):")
JUMP = re.compile(r"\t(?:b|b\.\w+|t?cb\w+|tbn?z|j\w+)\s(?:.*\s)?(\.?L\w+)")
LEFT_TURNED, RIGHT_TURNED = "left turned", "right turned"
ROWS = (1, 2, 3, 4, 5, 6, 7, 10, 13, 24, 32, 100)


def product(rows: int, columns: int, depth: int, form: str) -> Graph:
    builder = GraphBuilder("product")
    left = (depth, rows) if form == LEFT_TURNED else (rows, depth)
    right = (columns, depth) if form == RIGHT_TURNED else (depth, columns)
    x = builder.input("x", Role.DATA, TensorType(DType.F32, left))
    w = builder.input("w", Role.PARAMETER, TensorType(DType.F32, right))
    x = builder.emit(Transpose((1, 0)), x) if form == LEFT_TURNED else x
    w = builder.emit(Transpose((1, 0)), w) if form == RIGHT_TURNED else w
    builder.output("y", Role.OUTPUT, builder.emit(Contraction((0, 1), (1, 2), (0, 2)), x, w))
    return builder.build()


def product_loops(text: str) -> Iterator[str]:
    """The innermost loops that multiply several vectors and add."""
    rows = text.splitlines()
    places = {label[1]: number for number, row in enumerate(rows) if (label := LABEL.match(row))}
    jumps = [(places.get(jump[1], number), number) for number, row in enumerate(rows) if (jump := JUMP.match(row))]
    loops = [(start, end) for start, end in jumps if start < end]
    for start, end in loops:
        inside = "\n".join(rows[start : end + 1])
        is_innermost = not any((start, end) != (a, b) and start <= a and b <= end for a, b in loops)
        if is_innermost and len(FUSED.findall(inside)) >= 4:
            yield inside


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
@pytest.mark.parametrize("form", ["as it lies", LEFT_TURNED, RIGHT_TURNED])
@pytest.mark.parametrize(("columns", "depth"), [(64, 96), (200, 130), (512, 512)])
def test_sums_of_products_stay_in_registers(columns: int, depth: int, form: str, machine: Machine) -> None:
    for rows in ROWS:
        graph = product(rows, columns, depth, form)
        texts = lower(graph, schedule(graph, batch=1), machine, 1).texts.values()
        loops = [loop for text in texts for loop in product_loops(assembly(text, machine))]
        assert loops, f"{rows} rows"
        for loop in loops:
            assert not STACK.search(loop), f"{rows} rows:\n{loop}"
            assert not CALL.search(loop)


@pytest.mark.parametrize("machine", [m for m in MACHINES if m.is_arm], ids=lambda machine: machine.name)
@pytest.mark.parametrize("rows", [6, 32])
def test_arm_multiplies_by_an_element(rows: int, machine: Machine) -> None:
    """An element of the left operand is no vector of its own, but for the first, which takes no more room."""
    graph = product(rows, 512, 512, "as it lies")
    texts = lower(graph, schedule(graph, batch=1), machine, 1).texts.values()
    for loop in (loop for text in texts for loop in product_loops(assembly(text, machine))):
        assert len(BY_ELEMENT.findall(loop)) >= 0.9 * len(FUSED.findall(loop))
        assert not re.search(r"\bdup\b", loop)


@pytest.mark.parametrize(("rows", "least"), [(2, 8), (3, 12)])
def test_few_rows_have_enough_sums_in_work(rows: int, least: int) -> None:
    """Two multiply-adds a cycle with a latency of four need eight sums that do not wait for each other."""
    graph = product(rows, 512, 512, "as it lies")
    texts = lower(graph, schedule(graph, batch=1), AVX2, 1).texts.values()
    loops = [loop for text in texts for loop in product_loops(assembly(text, AVX2))]
    sums = [{*re.findall(r"vfmadd\d+ps.*, %ymm(\d+)$", loop, re.MULTILINE)} for loop in loops]
    assert max(map(len, sums)) >= least
