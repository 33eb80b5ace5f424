"""Removes the nodes on which no output depends. Inputs stay: they are the graph's interface."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace

from compiler.graph.ir import Graph, Node, Value
from compiler.ops.scan import Scan, scan_body


def eliminate_dead(graph: Graph) -> Graph:
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
        kept, needed = _cone(op, roots)
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


def _cone(op: Scan, roots: list[Value]) -> tuple[list[Node], set[int]]:
    """The nodes of the body that `roots` need, in order, and all the values that are read."""
    needed = {root.index for root in roots}
    kept: list[Node] = []
    for node in reversed(op.body.nodes):
        if any(result.index in needed for result in node.results):
            kept.append(node)
            needed.update(operand.index for operand in node.operands)
    return kept[::-1], needed
