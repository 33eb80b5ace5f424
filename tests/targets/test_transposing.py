"""Values whose axes are turned as they are copied or computed with: blocks of them are transposed in registers."""

from __future__ import annotations

import numpy as np
import pytest
from native import EVERY_KERNEL_PARALLEL, compiled

from compiler.evaluate import evaluate
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role, Value
from compiler.interface import Steps
from compiler.ops.elementwise import Add, Multiply
from compiler.ops.movement import Broadcast, Pad, Reshape, Slice, Transpose
from compiler.targets.cpu.iteration_space import transposed_rows
from compiler.targets.memory import TensorStore
from compiler.types import BatchExtent, DType, TensorType, at_batch

BATCH = BatchExtent()
SHAPES = ((16, 16), (48, 5), (37, 53), (17, 2), (70, 64), (33, 1))


def graph_of(shape: tuple[int, int], dtype: DType, form: str) -> Graph:
    builder, (first, second) = GraphBuilder(form), shape

    def given(name: str, *extents: int | BatchExtent) -> Value:
        return builder.input(name, Role.DATA, TensorType(dtype, extents))

    if form == "fixed":
        turned = builder.emit(Transpose((1, 0)), given("x", second, first))
    elif form == "middle":  # of several axes, and inside a larger value
        turned = builder.emit(Transpose((0, 1, 3, 2)), given("x", BATCH, 3, second, first))
        turned = builder.emit(Pad((0, 1, 0, 1), (0, 0, 2, 1), 0.0), turned)
    else:
        turned = builder.emit(Transpose((0, 2, 1)), given("x", BATCH, second + 3, first))
        turned = builder.emit(Slice((0, 0, 2), (BATCH, first, second), (1, 1, 1)), turned)
        plain = given("z", BATCH, first, second)
        turned = builder.emit(Add(), plain, builder.emit(Multiply(), turned, plain))
    builder.output("y", Role.OUTPUT, turned)
    return builder.build()


@pytest.mark.parametrize("form", ["fixed", "middle", "computed"])
@pytest.mark.parametrize("dtype", [DType.F32, DType.F64])
@pytest.mark.parametrize("shape", SHAPES)
def test_transposed_values_are_the_same_on_all_threads(shape: tuple[int, int], dtype: DType, form: str) -> None:
    graph = graph_of(shape, dtype, form)
    native = compiled(graph, batch=EVERY_KERNEL_PARALLEL)
    found = [rows for instance in native.plan.instances if (rows := transposed_rows(instance.kernel))]
    assert found == ([shape[0]] if shape[1] > 1 else [])
    random = np.random.default_rng(0)
    inputs = {
        entry.name: random.standard_normal(at_batch(entry.value.type.shape, 3)).astype(
            "f4" if dtype is DType.F32 else "f8"
        )
        for entry in graph.inputs
    }
    expected = evaluate(graph, inputs, 3)["y"]
    for threads in (1, 2):
        assert np.array_equal(native.executable(threads).call(inputs, 3)["y"], expected)


def test_few_rows_are_not_transposed() -> None:
    native = compiled(graph_of((15, 40), DType.F32, "middle"))
    assert not any(transposed_rows(instance.kernel) for instance in native.plan.instances)


@pytest.mark.parametrize("rows", [33, 40, 47])
def test_lines_that_the_rows_do_not_fill_are_not_transposed(rows: int) -> None:
    builder = GraphBuilder("cut")
    x = builder.input("x", Role.DATA, TensorType(DType.F32, (24, 16)))
    y = builder.input("y", Role.DATA, TensorType(DType.F32, (rows, 24)))
    repeated = builder.emit(Broadcast((3, 16, 24), (1, 2)), builder.emit(Transpose((1, 0)), x))
    cut = builder.emit(Slice((0, 0), (rows, 24), (1, 1)), builder.emit(Reshape((48, 24)), repeated))
    builder.output("z", Role.OUTPUT, builder.emit(Add(), cut, y))
    graph, random = builder.build(), np.random.default_rng(0)
    native = compiled(graph, batch=EVERY_KERNEL_PARALLEL)
    assert not any(transposed_rows(instance.kernel) for instance in native.plan.instances)
    inputs = {e.name: random.standard_normal(at_batch(e.value.type.shape, 1)).astype("f4") for e in graph.inputs}
    assert np.array_equal(native.executable(2).call(inputs, 1)["z"], evaluate(graph, inputs, 1)["z"])


@pytest.mark.parametrize("place", [(0, 0, 0), (1, 5, 0), (1, 36, 52), (0, 16, 47)])
def test_a_value_that_is_not_finite_is_found_in_any_row(place: tuple[int, int, int]) -> None:
    executable = compiled(graph_of((37, 53), DType.F32, "computed"), batch=EVERY_KERNEL_PARALLEL).executable(2)
    inputs = {"x": np.ones((2, 56, 37), np.float32), "z": np.ones((2, 37, 53), np.float32)}
    inputs["x"][0, 0] = np.inf  # outside of the slice
    assert not executable.run(Steps(TensorStore(()), inputs, np.arange(2), 2)).nonfinite
    batch, row, column = place
    inputs["x"][batch, column + 2, row] = np.nan
    assert [name for name, _ in executable.run(Steps(TensorStore(()), inputs, np.arange(2), 2)).nonfinite] == ["y"]
