"""Computes equal nodes once: the same op on the same operands gives the same value, random draws included."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

from compiler.graph.ir import Graph, Node, Origin
from compiler.graph.op import Op
from compiler.graph_passes.rewrite import Rewriting
from compiler.ops.elementwise import Add, And, Equal, Multiply, NotEqual, Or
from compiler.ops.sources import Constant

_Key: TypeAlias = tuple[Op, tuple[int, ...]]

# The two sides of max and min are told apart by a zero's sign, so they are not listed.
_COMMUTATIVE = (Add, Multiply, And, Or, Equal, NotEqual)


def eliminate_common(graph: Graph) -> Graph:
    """A node that is left stands for all its equals and has the origins of all of them."""
    rewriting = Rewriting(graph)
    first: dict[_Key, Node] = {}
    origins: dict[int, list[Origin]] = {}
    for node in map(rewriting.current, graph.nodes):
        key = _key(node)
        known = first.setdefault(key, node)
        if known is node:
            rewriting.keep(node)
            continue
        rewriting.replace(node, known.results)
        if not isinstance(node.op, Constant):  # thousands of lines share a constant, and it is no work
            origins.setdefault(known.results[0].index, [*known.origins]).extend(node.origins)
    result = rewriting.finish()
    return replace(result, nodes=tuple(_with_union(node, origins) for node in result.nodes)) if origins else result


def _key(node: Node) -> _Key:
    operands = [operand.index for operand in node.operands]
    return node.op, tuple(sorted(operands) if isinstance(node.op, _COMMUTATIVE) else operands)


def _with_union(node: Node, origins: dict[int, list[Origin]]) -> Node:
    found = origins.get(node.results[0].index)
    return node if found is None else Node(node.op, node.operands, node.results, tuple(dict.fromkeys(found)))
