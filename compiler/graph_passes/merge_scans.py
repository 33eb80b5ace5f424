"""Merges scans that differ only in their emitted stacks: differentiation asks for one with more stacks."""

from __future__ import annotations

from dataclasses import replace

from compiler.graph.ir import Graph, Node, Value
from compiler.graph_passes.rewrite import Rewriting
from compiler.ops.scan import Scan, scan_body


def merge_scans(graph: Graph) -> Graph:
    """A scan with the stacks of all its likes stands in place of the first."""
    families: list[list[Node]] = []
    by_operands: dict[tuple[int, ...], list[list[Node]]] = {}
    for node in graph.nodes:
        if isinstance(node.op, Scan):
            known = by_operands.setdefault(tuple(o.index for o in node.operands), [])
            family = next((f for f in known if _is_alike(f[0], node)), None)
            if family is None:
                family = list[Node]()
                known.append(family)
                families.append(family)
            family.append(node)
    if all(len(family) == 1 for family in families):
        return graph
    home = {node.results[0].index: family for family in families for node in family if node.results}
    merged: dict[int, dict[int, Value]] = {}  # by the first result of a family's first scan: stacks by emitted value
    rewriting = Rewriting(graph)
    for node in map(rewriting.current, graph.nodes):
        if not isinstance(node.op, Scan) or len(family := home[node.results[0].index]) == 1:
            rewriting.keep(node)
            continue
        key = family[0].results[0].index
        if key not in merged:
            merged[key] = _merged(rewriting, node, family)
        carries = [merged[key][-1 - k] for k in range(node.op.carries)]
        rewriting.replace(node, (*carries, *(merged[key][value.index] for value in node.op.emitted)))
    return rewriting.finish()


def _is_alike(first: Node, second: Node) -> bool:
    """Whether two scans of the same operands take the same steps."""
    a, b = first.op, second.op
    assert isinstance(a, Scan)
    assert isinstance(b, Scan)
    same = replace(a, body=b.body) == b
    carried = a.body.outputs[: a.carries] == b.body.outputs[: b.carries]
    return same and carried and a.body.inputs == b.body.inputs and a.body.nodes == b.body.nodes


def _merged(rewriting: Rewriting, node: Node, family: list[Node]) -> dict[int, Value]:
    """One scan for a family; its stacks by the value that they hold, its carries under -1, -2, …"""
    op = node.op
    assert isinstance(op, Scan)
    emitted = {value.index: value for other in family if isinstance(other.op, Scan) for value in other.op.emitted}
    inputs = [entry.value for entry in op.body.inputs]
    body = scan_body(inputs, op.body.nodes, (*op.next_carries, *emitted.values()))
    results = rewriting.builder.emit_all(replace(op, body=body), *node.operands)
    stacks = dict(zip(emitted, results[op.carries :], strict=True))
    return stacks | {-1 - k: results[k] for k in range(op.carries)}
