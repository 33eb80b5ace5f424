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
_COMMUTATIVE = frozenset((Add, Multiply, And, Or, Equal, NotEqual))


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
    if not origins:
        return result
    nodes = [_with_union(node, origins) if node.results[0].index in origins else node for node in result.nodes]
    return replace(result, nodes=tuple(nodes))


def _key(node: Node) -> _Key:
    operands = [operand.index for operand in node.operands]
    if node.op.__class__ in _COMMUTATIVE:
        operands.sort()
    return node.op, tuple(operands)


def _with_union(node: Node, origins: dict[int, list[Origin]]) -> Node:
    union = tuple(dict.fromkeys(origins[node.results[0].index]))
    return Node(node.op, node.operands, node.results, union)
