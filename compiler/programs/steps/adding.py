"""The program that adds rows of elements: a node of the tree over shards."""

from __future__ import annotations

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role
from compiler.ops.elementwise import Add
from compiler.programs.kinds import LEFT, RIGHT, SUM
from compiler.types import DType, TensorType


def adding_graph(dtype: DType, elements: int) -> Graph:
    """A sum may take the place of a summand: each element is read before its sum is stored."""
    builder = GraphBuilder("adding")
    type_ = TensorType(dtype, (elements,))
    left, right, _ = (builder.input(name, Role.OPTIMIZER_STATE, type_) for name in (LEFT, RIGHT, SUM))
    builder.output(SUM, Role.OPTIMIZER_STATE, builder.emit(Add(), left, right), updates=SUM)
    return builder.build()
