"""Two passes that leave out nodes: those on which no output depends, and those that repeat others."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace
from typing import TypeAlias

from compiler.graph.ir import Graph, Node, Origin, needed_by
from compiler.graph.op import Op
from compiler.graph_passes.rewrite import Rewriting
from compiler.ops.elementwise import Add, And, Equal, Multiply, NotEqual, Or
from compiler.ops.scan import Scan, scan_body
from compiler.ops.sources import Constant


def eliminate_dead(graph: Graph) -> Graph:
    """The graph without nodes on which no output depends. Inputs stay: they are the graph's interface."""
    used = {output.value.index for output in graph.outputs}
    kept: list[Node] = []
    is_smaller = False
    for node in reversed(graph.nodes):
        for result in node.results:
            if result.index in used:
                if isinstance(node.op, Scan):
                    whole, node = node, pruned(node, used)
                    is_smaller = is_smaller or whole is not node
                kept.append(node)
                used.update([operand.index for operand in node.operands])
                break
    if len(kept) == len(graph.nodes) and not is_smaller:
        return graph
    return replace(graph, nodes=tuple(reversed(kept)))


def pruned(node: Node, used: Container[int]) -> Node:
    """`node`, a scan, with the results that are `used` and what these need; its other results are gone."""
    op = node.op
    assert isinstance(op, Scan)
    emits = [k for k, result in enumerate(node.results[op.carries :]) if result.index in used]
    carries = {k for k, result in enumerate(node.results[: op.carries]) if result.index in used}
    places = {value.index: k for k, value in enumerate(op.carried_inputs)}
    while True:
        roots = [*(op.next_carries[k] for k in carries), *(op.emitted[k] for k in emits)]
        kept, needed = needed_by(op.body.nodes, (root.index for root in roots))
        more = carries | {places[index] for index in needed if index in places}
        if more == carries:
            break
        carries = more
    order = sorted(carries)
    xs = [k for k, value in enumerate(op.step_inputs) if value.index in needed]
    captures = [k for k, value in enumerate(op.captured_inputs) if value.index in needed]
    is_whole = len(emits) == len(op.emitted) and len(order) == op.carries and len(kept) == len(op.body.nodes)
    if is_whole and len(xs) == op.scanned and len(captures) == len(op.captured_inputs):
        return node
    first, last = op.scanned, op.scanned + op.carries
    places_in = [*xs, *(first + k for k in order), *(last + k for k in captures)]
    inputs = [op.body.inputs[k].value for k in places_in]
    outputs = [*(op.next_carries[k] for k in order), *(op.emitted[k] for k in emits)]
    results = (*(node.results[k] for k in order), *(node.results[op.carries + k] for k in emits))
    body = scan_body(inputs, kept, outputs)
    changed = replace(op, body=body, scanned=len(xs), carries=len(order))
    return Node(changed, tuple(node.operands[k] for k in places_in), results, node.origins)


_Key: TypeAlias = tuple[Op, tuple[int, ...]]

# The two sides of max and min are told apart by a zero's sign, so they are not listed.
_COMMUTATIVE = frozenset((Add, Multiply, And, Or, Equal, NotEqual))


def eliminate_common(graph: Graph) -> Graph:
    """The graph in which equal nodes are computed once: the same op on the same operands, random draws included.

    A node that is left stands for all its equals and has the origins of all of them.
    """
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
    unions = {index: tuple(dict.fromkeys(every)) for index, every in origins.items()}
    keyed = [(node.results[0].index, node) for node in result.nodes]
    nodes = [Node(n.op, n.operands, n.results, unions[key]) if key in unions else n for key, n in keyed]
    return replace(result, nodes=tuple(nodes))


def _key(node: Node) -> _Key:
    operands = [operand.index for operand in node.operands]
    if node.op.__class__ in _COMMUTATIVE:
        operands.sort()
    return node.op, tuple(operands)
