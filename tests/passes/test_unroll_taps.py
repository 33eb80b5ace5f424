"""Pools, their gradients and convolutions of single channels: no window is left, and the meaning is the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pytest
from comparisons import assert_same_outputs
from differentiation import gradient_graph
from graph_text import ops_of
from native import compiled
from standard_library import applied

from compiler.evaluate import evaluate
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role
from compiler.graph_passes.eliminate import eliminate_dead
from compiler.graph_passes.simplify import simplify
from compiler.graph_passes.unroll_taps import unroll_taps
from compiler.ops.contraction import Contraction
from compiler.ops.elementwise import Multiply
from compiler.ops.mathematics import Exp
from compiler.ops.movement import Broadcast
from compiler.ops.reduction import ArgMax, Max, Sum
from compiler.ops.spreading import Reshape
from compiler.ops.window import Fold, Window
from compiler.pipeline import optimise_graph
from compiler.schedule.build import schedule
from compiler.support import numerics
from compiler.types import BatchExtent, DType, TensorType

Array: TypeAlias = np.ndarray[Any, Any]
Make: TypeAlias = Callable[[GraphBuilder], None]

BATCH = BatchExtent()
WINDOWS = [
    Window((2, 3), (2, 2), (2, 2), (1, 1)),
    Window((2, 3), (3, 3), (2, 2), (1, 1)),
    Window((2, 3), (3, 2), (1, 3), (1, 2)),
    Window((2, 3), (1, 2), (3, 4), (1, 1)),
]


def graph_of(make: Make) -> Graph:
    builder = GraphBuilder("taps")
    make(builder)
    return builder.build()


def data(builder: GraphBuilder, name: str, *shape: int | BatchExtent) -> Any:
    return builder.input(name, Role.DATA, TensorType(DType.F32, shape))


def values_of(graph: Graph, batch: int = 3) -> dict[str, Array]:
    random = np.random.default_rng(5)
    shapes = {i.name: [batch if isinstance(e, BatchExtent) else e for e in i.value.type.shape] for i in graph.inputs}
    # Halves, so that many windows have their largest element more than once.
    return {name: (random.integers(-4, 4, shape) / 2).astype(np.float32) for name, shape in shapes.items()}


def unrolled(graph: Graph) -> Graph:
    """The graph after the pass, which means the same."""
    result = eliminate_dead(simplify(unroll_taps(simplify(graph))))
    inputs = values_of(graph)
    assert_same_outputs(evaluate(result, inputs, 3), evaluate(graph, inputs, 3))
    return result


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_reductions_over_taps_read_slices(window: Window) -> None:
    def make(builder: GraphBuilder) -> None:
        taps = builder.emit(window, data(builder, "x", BATCH, 2, 7, 8))
        flat = builder.emit(Reshape((*taps.type.shape[:4], window.sizes[0] * window.sizes[1])), taps)
        builder.output("sum", Role.OUTPUT, builder.emit(Sum((4, 5)), builder.emit(Exp(), taps)))
        builder.output("max", Role.OUTPUT, builder.emit(Max((4,)), flat))
        builder.output("argmax", Role.OUTPUT, builder.emit(ArgMax(4), flat))

    assert not {"window", "sum", "max", "argmax"} & {*ops_of(unrolled(graph_of(make)))}


def test_a_nan_is_the_largest_of_its_window_wherever_it_stands() -> None:
    def make(builder: GraphBuilder) -> None:
        taps = builder.emit(Window((0,), (3,), (3,), (1,)), data(builder, "x", 12))
        builder.output("argmax", Role.OUTPUT, builder.emit(ArgMax(1), taps))

    nan = np.nan
    x = np.array([nan, 1, 2, 1, nan, 2, nan, nan, 2, 1, 2, nan], np.float32)
    graph = graph_of(make)
    found = evaluate(unroll_taps(graph), {"x": x}, 1)["argmax"]
    np.testing.assert_array_equal(found, [0, 1, 0, 2])
    np.testing.assert_array_equal(found, evaluate(graph, {"x": x}, 1)["argmax"])


@pytest.mark.parametrize(
    "call",
    [
        "max_pool(2)(x)",
        "max_pool(3, 2, 1)(x)",
        "max_pool(3, 1)(x)",
        "max_pool(2, 3, ceil = true)(x)",
        "avg_pool(2)(x)",
        "avg_pool(3, 2, 1)(x)",
        "avg_pool(3, 2, 1, count_padding = false)(x)",
    ],
)
def test_the_gradient_of_a_pool_gathers(call: str) -> None:
    x = np.zeros((3, 2, 7, 8))
    graph = gradient_graph(applied(call, {"x": x}, is_double=False), "result", ["x"])
    result = optimise_graph(unrolled(graph))
    assert not {"window", "fold", "scatter_add", "max", "argmax"} & {*ops_of(result)}


def test_the_gradient_of_max_pool_is_one_kernel() -> None:
    x = np.zeros((3, 2, 8, 8))
    graph = gradient_graph(applied("max_pool(2)(x)", {"x": x}, is_double=False), "result", ["x"])
    kernels = [i.kernel.name for i in schedule(optimise_graph(graph)).instances]
    assert sum("le_not_eq" in name for name in kernels) == 1


def test_what_is_repeated_over_places_is_not_read_beyond_them() -> None:
    def make(builder: GraphBuilder) -> None:
        factors = builder.emit(Broadcast((BATCH, 5, 3), (2,)), data(builder, "w", 3))
        spread = builder.emit(Broadcast((BATCH, 5, 3), (0, 1)), data(builder, "dy", BATCH, 5))
        product = builder.emit(Multiply(), spread, factors)
        builder.output("dx", Role.OUTPUT, builder.emit(Fold((1,), (3,), (1,), (1,), (7,)), product))
        builder.output("count", Role.OUTPUT, builder.emit(Fold((1,), (3,), (1,), (1,), (7,)), factors))

    assert ops_of(unrolled(graph_of(make))).count("fold") == 1


def depthwise(builder: GraphBuilder) -> None:
    """A convolution of 4 channels, each with its own kernel of 3 × 2."""
    taps = builder.emit(Window((2, 3), (3, 2), (2, 1), (1, 1)), data(builder, "x", BATCH, 4, 7, 6))
    weights = data(builder, "W", 3, 2, 4)
    product = Contraction((0, 1, 2, 3, 4, 5), (4, 5, 1), (0, 1, 2, 3))
    builder.output("y", Role.OUTPUT, builder.emit(product, taps, weights))


def test_a_convolution_of_single_channels_and_its_gradients_are_elementwise() -> None:
    assert "contraction" not in ops_of(unrolled(graph_of(depthwise)))
    graph = gradient_graph(graph_of(depthwise), "y", ["x", "W"])
    result = optimise_graph(graph)
    assert not {"contraction", "fold", "window"} & {*ops_of(result)}
    inputs = values_of(graph)
    expected = evaluate(graph, inputs, 3)
    assert_same_outputs(evaluate(result, inputs, 3), expected)
    assert_same_outputs(compiled(graph).executable().call(inputs, 3), expected)


def test_products_over_channels_stay() -> None:
    def make(builder: GraphBuilder) -> None:
        taps = builder.emit(Window((2,), (3,), (1,), (1,)), data(builder, "x", BATCH, 4, 7))
        product = Contraction((0, 1, 2, 3), (3, 1, 4), (0, 4, 2))
        builder.output("y", Role.OUTPUT, builder.emit(product, taps, data(builder, "W", 3, 4, 5)))

    assert ops_of(unrolled(graph_of(make))) == ["window", "contraction"]


def test_long_windows_stay() -> None:
    def make(builder: GraphBuilder) -> None:
        taps = builder.emit(Window((1,), (numerics.MOST_TAPS + 1,), (1,), (1,)), data(builder, "x", BATCH, 80))
        builder.output("y", Role.OUTPUT, builder.emit(Sum((2,)), taps))

    assert ops_of(unrolled(graph_of(make))) == ["window", "sum"]
