"""Graphs written as text in tests."""

from __future__ import annotations

from compiler.graph.ir import Graph
from compiler.graph.reader import read_graph
from compiler.graph.verify import verify
from compiler.ops import OPS

X = 'input "x" data %0: f32[batch, 4]'
ROW = 'input "row" data %1: f32[4]'
SCALAR = 'input "s" data %2: f32[]'


def graph(*lines: str) -> Graph:
    """A graph from the lines of its text."""
    return read_graph("\n".join(('graph "g"', *lines, "end")), OPS)


def ops_of(result: Graph) -> list[str]:
    verify(result)
    return [node.op.name for node in result.nodes]


def constant(index: int, number: float) -> list[str]:
    """%index: `number` in the shape of x."""
    return [
        f"%{index + 100}: f32[] = constant() value={float(number)} dtype=f32",
        f"%{index}: f32[batch, 4] = broadcast(%{index + 100}) shape=[batch, 4] axes=[]",
    ]
