"""Kernels that differ in numbers only share their code, and give what NumPy gives."""

from __future__ import annotations

import numpy as np
import pytest
from comparisons import Array, assert_same
from native import compiled
from random_graphs import random_graph

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role
from compiler.loops.ir import ColumnKernel, FlatKernel, RowKernel
from compiler.loops.printer import print_kernel
from compiler.machine import AVX2, AVX512, Machine
from compiler.ops.elementwise import Multiply
from compiler.ops.movement import Pad, Slice, Transpose
from compiler.ops.spreading import Sum
from compiler.pipeline import optimise_graph
from compiler.schedule.build import schedule
from compiler.targets.cpu.emit import emit
from compiler.targets.cpu.specialisation import Key, factor_of, specialisation
from compiler.targets.llvm.to_llvm import to_llvm
from compiler.types import DType, TensorType

Shape = tuple[int, ...]
FILLED = (0.0, float("-inf"), 2.5)


@pytest.mark.parametrize("divisor", [2, 3, 5, 7, 14, 49, 196, 641, 1000, 65536, 65537, 10**9 + 7, 2**31 - 1])
def test_division_by_a_factor_and_a_shift(divisor: int) -> None:
    factor, shift = factor_of(divisor)
    multiples = range(0, 2**31, max(divisor, 2**31 // 1000 // divisor * divisor))
    for index in (0, 1, 2**31 - 1, *(m + d for m in multiples for d in (-1, 0, 1) if 0 <= m + d < 2**31)):
        assert index * factor < 2**63
        assert index * factor >> shift == index // divisor


def graph_of(kind: str, shapes: list[Shape]) -> Graph:
    builder = GraphBuilder(kind)
    for number, shape in enumerate(shapes):
        x = builder.input(f"x{number}", Role.DATA, TensorType(DType.F32, shape))
        match kind:
            case "sum of rows":
                y = builder.emit(Sum((1,)), builder.emit(Multiply(), x, x))
            case "sum of columns":
                y = builder.emit(Sum((0,)), builder.emit(Multiply(), x, x))
            case "border":
                y = builder.emit(Pad((1, 1, 0), (1, 1, 0), 0.0), builder.emit(Multiply(), x, x))
            case "filled":
                y = builder.emit(Pad((1, 1, 0), (1, 1, 0), FILLED[number]), builder.emit(Multiply(), x, x))
            case "part":
                part = builder.emit(Slice((1, 2, 0), (shape[0] - 1, shape[1] - 2, shape[2]), (1, 1, 1)), x)
                y = builder.emit(Multiply(), part, part)
            case _:
                y = builder.emit(Transpose((1, 0)), x)
        builder.output(f"y{number}", Role.OUTPUT, y)
    return builder.build()


def expected(kind: str, x: Array, number: int) -> Array:
    square = x * x
    return {
        "sum of rows": lambda: (x.astype("f8") ** 2).sum(1).astype("f4"),
        "sum of columns": lambda: (x.astype("f8") ** 2).sum(0).astype("f4"),
        "border": lambda: np.pad(square, ((1, 1), (1, 1), (0, 0))),
        "filled": lambda: np.pad(square, ((1, 1), (1, 1), (0, 0)), constant_values=FILLED[number]),
        "part": lambda: square[1:, 2:],
        "turned": lambda: x.T,
    }[kind]()


SHARED: list[tuple[str, list[Shape], int]] = [
    ("sum of rows", [(3, 272), (5, 512), (9, 1024)], 1),
    ("sum of rows", [(3, 257), (5, 300), (9, 1030)], 1),
    ("sum of rows", [(3, 96), (5, 112), (7, 513)], 3),  # one chain, four chains, and a rest
    ("sum of columns", [(3, 32), (50, 64), (17, 160)], 1),
    ("sum of columns", [(3, 33), (50, 70), (17, 161)], 1),
    ("border", [(3, 5, 80), (4, 7, 96), (2, 9, 160)], 2),  # what is inside, and the border
    ("filled", [(3, 5, 80), (4, 7, 96), (2, 9, 160)], 2),
    ("part", [(3, 5, 80), (4, 7, 96), (5, 9, 160)], 1),
    ("turned", [(70, 96), (130, 160), (65, 112)], 2),
]


@pytest.mark.parametrize(("kind", "shapes", "most"), SHARED)
@pytest.mark.parametrize("threads", [1, 3])
def test_kernels_that_differ_in_numbers_share_their_code(
    kind: str, shapes: list[Shape], most: int, threads: int
) -> None:
    graph = graph_of(kind, shapes)
    native = compiled(graph)
    assert len(native.lowered.texts) <= most
    random = np.random.default_rng(3)
    inputs = {f"x{k}": random.uniform(-1, 1, shape).astype("f4") for k, shape in enumerate(shapes)}
    found = native.executable(threads).call(inputs)
    for number in range(len(shapes)):
        assert_same(f"{kind} {shapes[number]}", found[f"y{number}"], expected(kind, inputs[f"x{number}"], number))


@pytest.mark.parametrize("machine", [AVX512, AVX2], ids=["AVX-512", "AVX2"])
def test_kernels_with_equal_keys_have_equal_code(machine: Machine) -> None:
    """Nothing that the key leaves out may be looked at by what writes the code."""
    texts: dict[Key, str] = {}
    shared = 0
    graphs = [graph_of(kind, shapes) for kind, shapes, _ in SHARED] + [random_graph(seed, 40)[0] for seed in range(20)]
    for kernel in dict.fromkeys(i.kernel for graph in graphs for i in schedule(optimise_graph(graph)).instances):
        if isinstance(kernel, RowKernel | FlatKernel | ColumnKernel):
            what = specialisation(kernel, machine)
            text = to_llvm(emit(what, machine, 32), machine)
            shared += what.key in texts
            assert texts.setdefault(what.key, text) == text, print_kernel(kernel)
    assert shared >= 50
