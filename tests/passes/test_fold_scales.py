"""What follows a product column by column goes into its weights, where these stay as they are."""

from __future__ import annotations

import numpy as np
import pytest
from comparisons import Array
from native import compiled

from compiler.evaluate import evaluate
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role, Value
from compiler.graph_passes.fold_scales import fold_scales
from compiler.ops.contraction import Contraction
from compiler.ops.elementwise import Add, Multiply, Subtract
from compiler.ops.movement import Broadcast, Pad
from compiler.pipeline import optimise_graph
from compiler.targets.memory import TensorStore
from compiler.types import BatchExtent, DType, TensorType

BATCH = BatchExtent()
COLUMNS = ("shift", "scale", "bias")


class Normalised:
    """(x @ w - shift) * scale + bias, for 5 inputs and 7 columns, as a graph in the making."""

    def __init__(self) -> None:
        self.builder = GraphBuilder("normalised")
        self.x = self.builder.input("x", Role.DATA, TensorType(DType.F32, (BATCH, 5)))
        self.w = self.builder.input("w", Role.PARAMETER, TensorType(DType.F32, (5, 7)))
        self.vectors = {n: self.builder.input(n, Role.STATE, TensorType(DType.F32, (7,))) for n in COLUMNS}
        self.product = self.builder.emit(Contraction((0, 1), (1, 2), (0, 2)), self.x, self.w)
        moved = self.builder.emit(Subtract(), self.product, self.spread("shift"))
        scaled = self.builder.emit(Multiply(), self.spread("scale"), moved)
        self.result = self.builder.emit(Add(), scaled, self.spread("bias"))

    def spread(self, name: str) -> Value:
        return self.builder.emit(Broadcast((BATCH, 7), (1,)), self.vectors[name])

    def graph(self) -> Graph:
        self.builder.output("y", Role.OUTPUT, self.result)
        return self.builder.build()


def names_for_each_row(graph: Graph) -> list[str]:
    return [n.op.name for n in graph.nodes if BATCH in n.results[0].type.shape and n.op.name != "broadcast"]


def inputs(rows: int) -> dict[str, Array]:
    random = np.random.default_rng(rows)
    shapes = {"x": (rows, 5), "w": (5, 7)} | dict.fromkeys(COLUMNS, (7,))
    return {name: random.normal(size=shape).astype("f4") for name, shape in shapes.items()}


def test_one_addition_is_left() -> None:
    graph = Normalised().graph()
    assert names_for_each_row(optimise_graph(graph)) == ["contraction", "add"]


def test_the_meaning_is_kept() -> None:
    graph, given = Normalised().graph(), inputs(4)
    expected, found = evaluate(graph, given, 4), evaluate(optimise_graph(graph), given, 4)
    np.testing.assert_allclose(found["y"], expected["y"], rtol=1e-5, atol=1e-5)


def test_a_product_with_another_use_is_left_alone() -> None:
    made = Normalised()
    made.builder.output("raw", Role.OUTPUT, made.product)
    graph = made.graph()
    assert names_for_each_row(fold_scales(graph)) == names_for_each_row(graph)


@pytest.mark.parametrize("name", ["w", "scale"])
def test_what_the_program_writes_is_left_alone(name: str) -> None:
    made = Normalised()
    value = made.w if name == "w" else made.vectors[name]
    made.builder.output(f"new {name}", Role.PARAMETER, made.builder.emit(Add(), value, value), updates=name)
    graph = made.graph()
    assert names_for_each_row(fold_scales(graph)) == names_for_each_row(graph)


def test_what_runs_once_runs_again_for_other_weights() -> None:
    executable = compiled(optimise_graph(Normalised().graph())).executable()
    store = TensorStore(executable.manifest.tensors)
    for seed in (3, 3, 5):
        given = inputs(seed)
        for name in store.names():
            store.write(name, given[name])
        for _ in range(2):
            found = executable.call({"x": given["x"]}, seed, store)
            np.testing.assert_allclose(
                found["y"], evaluate(Normalised().graph(), given, seed)["y"], rtol=1e-5, atol=1e-5
            )


def test_halos_are_filled_again_when_the_batch_grows() -> None:
    builder = GraphBuilder("halo")
    x = builder.input("x", Role.DATA, TensorType(DType.F32, (BATCH, 4, 3)))
    padded = builder.emit(Pad((0, 1, 2), (0, 2, 1), 7.0), x)
    builder.output("y", Role.OUTPUT, builder.emit(Multiply(), padded, padded))
    executable = compiled(builder.build()).executable()
    assert executable.manifest.once == 1
    for rows in (2, 1, 5, 40, 3):
        given = np.random.default_rng(rows).normal(size=(rows, 4, 3)).astype("f4")
        expected = np.pad(given, ((0, 0), (1, 2), (2, 1)), constant_values=7.0) ** 2
        np.testing.assert_array_equal(executable.call({"x": given}, rows)["y"], expected)
