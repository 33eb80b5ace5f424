"""The graph of an example reads back from its text behind every pass, and the next pass makes the same of it."""

from __future__ import annotations

import pytest
from repository import ROOT

from compiler import driver
from compiler.driver import Options
from compiler.graph.ir import Graph
from compiler.graph.printer import print_graph
from compiler.graph.reader import read_graph
from compiler.ops import OPS
from compiler.pipeline import passes_of
from compiler.programs.stages import graph_of
from compiler.schedule.numerics.internal_ops import INTERNAL_OPS
from runtime.data.dimensions import dimensions_if_there

EXAMPLES = ("digits", "lenet", "tagging")  # dense layers, convolutions, scans
ROWS = 10_000  # enough for the pass that weighs memory


def read_back(graph: Graph) -> Graph:
    text = print_graph(graph)
    found = read_graph(text, (*OPS, *INTERNAL_OPS))
    assert print_graph(found) == text
    return found


@pytest.mark.parametrize("example", EXAMPLES)
def test_passes_on_text(example: str) -> None:
    graph = graph_of(
        driver.load(ROOT / "examples" / example / "model.dl", dimensions_of=dimensions_if_there), "training"
    )
    for each in passes_of(Options(batch=ROWS)):
        of_text = each.run(read_back(graph))
        graph = each.run(graph)
        assert print_graph(of_text) == print_graph(graph), each.name
    read_back(graph)
