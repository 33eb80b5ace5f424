"""Every pass keeps the meaning of random graphs, and of their gradients."""

from __future__ import annotations

import pytest
from comparisons import assert_same_outputs
from random_graphs import random_graph

from compiler.evaluate import evaluate
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role
from compiler.graph.printer import print_graph
from compiler.graph.reader import read_graph
from compiler.graph.verify import verify
from compiler.graph_passes.convert_dtype import to_dtype
from compiler.ops import OPS
from compiler.ops.autodiff import gradients_of
from compiler.ops.reduction import Sum
from compiler.pipeline import GRAPH_PASSES, optimise_graph
from compiler.types import DType

SEEDS = range(40)
SIZE = 40


def with_gradients(graph: Graph) -> Graph:
    """`graph` with the gradients of the sum of its first output as further outputs."""
    builder = GraphBuilder(graph.name)
    inputs = {entry.name: builder.input(entry.name, entry.role, entry.value.type) for entry in graph.inputs}
    results = builder.inline(graph, list(inputs.values()))
    first = results[graph.outputs[0].name]
    loss = builder.emit(Sum(tuple(range(first.type.rank))), first)
    wanted = {name: value for name, value in inputs.items() if value.type.dtype.is_float}
    slopes = gradients_of(builder, tuple(builder.nodes), loss, list(wanted.values()))
    for output in graph.outputs:
        builder.output(output.name, output.role, results[output.name])
    for name, slope in zip(wanted, slopes, strict=True):
        if slope is not None:
            builder.output(f"d {name}", Role.OUTPUT, slope)
    return builder.build()


@pytest.mark.parametrize("seed", SEEDS)
def test_each_pass_keeps_the_meaning(seed: int) -> None:
    graph, inputs, batch = random_graph(seed, SIZE)
    graph = to_dtype(with_gradients(graph), DType.F64)
    verify(graph)
    wide = {name: array.astype("f8") if array.dtype.kind == "f" else array for name, array in inputs.items()}
    expected = evaluate(graph, wide, batch)
    for graph_pass in GRAPH_PASSES:
        graph = graph_pass(graph)
        verify(graph, graph_pass.__name__)
        try:
            assert_same_outputs(evaluate(graph, wide, batch), expected)
        except AssertionError as error:
            raise AssertionError(f"{graph_pass.__name__} changed the meaning") from error


@pytest.mark.parametrize("seed", SEEDS)
def test_text_reads_back_to_the_same_graph(seed: int) -> None:
    graph = optimise_graph(with_gradients(random_graph(seed, SIZE)[0]), verify=True)
    assert read_graph(print_graph(graph), OPS) == graph


@pytest.mark.parametrize("seed", range(5))
def test_passes_give_the_same_graph_each_time_and_a_fixed_point(seed: int) -> None:
    graph = with_gradients(random_graph(seed, SIZE)[0])
    once = optimise_graph(graph)
    assert optimise_graph(graph) == once
    again = optimise_graph(once)
    assert len(again.nodes) == len(once.nodes)
