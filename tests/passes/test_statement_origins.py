"""Each statement of a kernel knows the nodes that it computes for."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import pytest
from random_graphs import random_graph

from compiler.errors.diagnostics import Source, Span
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Origin, Role
from compiler.interface import FUSIONS
from compiler.loops.ir import Compute, Load, Store, statements_of
from compiler.ops.contraction import Contraction
from compiler.ops.elementwise import Add, Multiply
from compiler.ops.mathematics import Exp, Tanh
from compiler.schedule.build import schedule
from compiler.schedule.ir import Instance
from compiler.types import DType, TensorType

SOURCE = Source("model.dl", "\n" * 1000)
SQUARE = TensorType(DType.F32, (16, 16))


def at(line: int) -> tuple[Origin, ...]:
    return (Origin(Span(SOURCE, line, 1, line, 2)),)


def numbered(graph: Graph) -> Graph:
    """Node k comes from line k + 1."""
    return replace(graph, nodes=tuple(replace(n, origins=at(k)) for k, n in enumerate(graph.nodes, 1)))


def lines(origins: tuple[Origin, ...]) -> set[int]:
    return {origin.span.line for origin in origins}


def only_kernel(builder: GraphBuilder) -> Instance:
    (instance,) = [i for i in schedule(numbered(builder.build())).instances if i.statements]
    return instance


def test_the_product_and_its_stage_have_lines_of_their_own() -> None:
    builder = GraphBuilder("product")
    x, w, b = (builder.input(name, Role.PARAMETER, SQUARE) for name in "xwb")
    product = builder.emit(Contraction((0, 1), (1, 2), (0, 2)), x, w)
    builder.output("y", Role.OUTPUT, builder.emit(Tanh(), builder.emit(Add(), product, b)))
    instance = only_kernel(builder)
    said = [
        (type(s).__name__, lines(o)) for s, o in zip(statements_of(instance.kernel), instance.statements, strict=True)
    ]
    assert said == [
        ("TileContract", {1}),
        ("Load", {1}),
        ("Load", {2}),
        ("Compute", {2}),
        ("Compute", {3}),
        ("Store", {3}),
    ]


def test_a_load_serves_all_nodes_that_use_it() -> None:
    builder = GraphBuilder("shared")
    x = builder.input("x", Role.PARAMETER, SQUARE)
    first, second = builder.emit(Exp(), x), builder.emit(Tanh(), x)
    builder.output("y", Role.OUTPUT, builder.emit(Multiply(), first, second))
    instance = only_kernel(builder)
    loads = [o for s, o in zip(statements_of(instance.kernel), instance.statements, strict=True) if isinstance(s, Load)]
    assert [lines(o) for o in loads] == [{1, 2}]


@pytest.mark.parametrize("without", [(), FUSIONS], ids=["fused", "plain"])
@pytest.mark.parametrize("seed", range(12))
def test_what_computes_or_stores_comes_from_its_own_instance(seed: int, without: Collection[str]) -> None:
    for instance in schedule(numbered(random_graph(seed, 40)[0]), without).instances:
        statements = statements_of(instance.kernel)
        assert len(statements) == len(instance.statements)
        for statement, origins in zip(statements, instance.statements, strict=True):
            assert set(origins) <= set(instance.origins)
            copies_input = not instance.origins  # an output that is an input comes from no operation
            assert origins or copies_input or not isinstance(statement, Compute | Store)
