"""Sums over the rows of columns, whose chains go side by side in a block of threads."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from comparisons import Array, assert_same_bits
from emulated import emulated, lowered_for_device
from native import host

from compiler.driver import Options
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role
from compiler.nest import ir
from compiler.nest.lanes import all_statements
from compiler.ops.elementwise import Multiply
from compiler.ops.reduction import Max
from compiler.ops.spreading import Sum
from compiler.programs.executables import executable
from compiler.targets.gpu.text import host_text
from compiler.types import BatchExtent, DType, Shape, TensorType, at_batch, numpy_dtype

WAIT = "call i8 @llvm.coro.suspend(token none, i1 false)"


def sums(shape: Shape, axis: int, dtype: DType = DType.F32) -> Graph:
    """Sum and maximum of products over an axis."""
    builder = GraphBuilder("sums")
    x, y = (builder.input(name, Role.DATA, TensorType(dtype, shape)) for name in "xy")
    product = builder.emit(Multiply(), x, y)
    builder.output("sum", Role.OUTPUT, builder.emit(Sum((axis,)), product))
    builder.output("most", Role.OUTPUT, builder.emit(Max((axis,)), product))
    return builder.build()


def inputs(shape: Shape, rows: int, dtype: DType = DType.F32) -> dict[str, Array]:
    random = np.random.default_rng(0)
    return {name: random.normal(size=at_batch(shape, rows)).astype(numpy_dtype(dtype)) for name in "xy"}


def text_by(order: int = 0, backwards: bool = False) -> Callable[[ir.Nest], str]:
    return partial(host_text, machine=host(), order=order, backwards=backwards, is_strict=True)


@pytest.mark.parametrize(
    ("rows", "columns", "dtype"),
    [
        *((3, columns, DType.F32) for columns in (5, 64)),
        *((7, columns, DType.F32) for columns in (1, 40)),
        *((130, columns, DType.F32) for columns in (16, 200)),
        (130, 100, DType.F64),
    ],
)
def test_sums_over_rows_have_the_bits_of_native_code(rows: int, columns: int, dtype: DType) -> None:
    shape = (3, rows, columns)
    expect_bits_of_native_code(shape, 1, [1], dtype)


@pytest.mark.parametrize("shape", [(BatchExtent(1), 70), (BatchExtent(3), 9), (40, BatchExtent(1))])
def test_sums_whose_extents_only_the_run_knows(shape: Shape) -> None:
    expect_bits_of_native_code(shape, 0, [1, 2, 37, 64], DType.F32)


def expect_bits_of_native_code(shape: Shape, axis: int, batches: list[int], dtype: DType) -> None:
    graph = sums(shape, axis, dtype)
    native = executable(graph, Options(threads=1, batch=64))
    for how in (text_by(), text_by(order=255, backwards=True)):
        lowered = lowered_for_device(graph, 64, how)
        found = emulated(lowered)
        for rows in batches:
            given = inputs(shape, rows, dtype)
            for name, array in native.call(given, rows).items():
                assert_same_bits(found.call(given, rows)[name], array)


def test_a_column_has_a_chain_in_each_of_four_groups() -> None:
    lowered = lowered_for_device(sums((130, 100), 0), 1, text_by())
    (nest,) = [nest for nest in lowered.nests.values() if ir.Barrier in map(type, all_statements(nest.body))]
    (entry,) = [e for e in lowered.manifest.entries if e.function >= 0 and e.chunk == 1 and e.factor == 2]
    assert entry.extent == 1
    shared = [s for s in all_statements(nest.body) if isinstance(s, ir.Shared)]
    assert [s.bytes for s in shared] == [1024, 1024]


def test_the_barrier_between_chains_is_needed() -> None:
    def without_barrier(nest: ir.Nest, order: int) -> str:
        return text_by(order)(nest).replace(WAIT, "add i8 0, 0")

    graph, given = sums((130, 100), 0), inputs((130, 100), 1)
    wanted = emulated(lowered_for_device(graph, 1, text_by())).call(given, 1)["sum"]
    found = [
        emulated(lowered_for_device(graph, 1, partial(without_barrier, order=order))).call(given, 1)["sum"]
        for order in (0, 255)
    ]
    assert any(one.tobytes() != wanted.tobytes() for one in found)
