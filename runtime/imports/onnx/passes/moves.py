"""Chains of reshapes and transposes as one of them, or as none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from runtime.imports.onnx.graph import Graph, Node, Value, takes_all
from runtime.imports.onnx.passes.layouts import Layout, moved, regrouped, whole
from runtime.imports.onnx.passes.matching import View, each

_SHAPING = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten")


def plain_gathers(graph: Graph) -> Graph:
    """`Gather` and `GatherND` of all elements in their order are reshapes."""
    return each(graph, ("Gather", "GatherND"), _plain)


def _plain(view: View, node: Node) -> bool:
    value, index = (view.graph.values[name] for name in node.inputs)
    if not (
        node.attributes.get("axis", 0) == 0 and takes_all(value, index)
        if node.op == "Gather"
        else _takes_each(node, value, index)
    ):
        return False
    view.replace(node, Node("Reshape", (node.inputs[0],), node.outputs, {}, node.place, node.version))
    return True


def _takes_each(node: Node, value: Value, index: Value) -> bool:
    """Whether indices of as many components as a tensor has axes take each element once, in order."""
    if node.attributes.get("batch_dims", 0) or index.contents is None or index.shapes[0][-1] != value.rank:
        return False
    for places, shape in zip(index.contents, value.shapes, strict=True):
        if places.size != value.rank * int(np.prod(shape)) or (places < 0).any() or (places >= shape).any():
            return False
        flat = np.ravel_multi_index(tuple(places.reshape(-1, value.rank).T), shape)
        if not np.array_equal(flat, np.arange(len(flat))):
            return False
    return True


def shorten_moves(graph: Graph) -> Graph:
    """A chain of reshapes and transposes that one reshape or one transpose does is that one."""
    return each(graph, _SHAPING, _shortened)


def _shortened(view: View, node: Node) -> bool:
    chain = [node]
    best: tuple[str, Node] | None = None
    while (before := view.made_by(chain[-1].inputs[0], *_SHAPING)) is not None:
        chain.append(view.new.get(id(before), before))
        source = chain[-1].inputs[0]
        layout: Layout | None = whole(view.graph.values[source].shapes[0])
        for one in reversed(chain):
            layout = None if layout is None else moved(view, one, one.outputs[0], layout)
        single = None if layout is None else _single(view, node, source, layout)
        best = best if single is None else (source, single)
    if best is None:
        return False
    view.replace(node, best[1])
    view.maker[node.outputs[0]] = best[1]
    return True


def _single(view: View, node: Node, source: str, layout: Layout) -> Node | None:
    """One node with that result of a source."""
    value, result = view.graph.values[source], view.graph.values[node.outputs[0]]
    bare = replace(node, inputs=(source,), attributes={})
    if layout.order == tuple(part for axis in whole(value.shapes[0]).axes for part in axis) or _in_order(
        view, source, layout
    ):
        return replace(bare, op="Identity" if value.shapes == result.shapes else "Reshape")
    if value.rank != result.rank:
        return None
    before = whole(value.shapes[0]).axes
    free = [axis for axis in range(value.rank) if not before[axis]]
    order: list[int] = []
    for axis in layout.axes:
        if axis not in before or (not axis and not free):
            return None
        order.append(before.index(axis) if axis else free.pop(0))
    if sorted(order) != list(range(value.rank)):
        return None
    shapes = tuple(tuple(shape[axis] for axis in order) for shape in value.shapes)
    return replace(bare, op="Transpose", attributes={"perm": order}) if shapes == result.shapes else None


def _in_order(view: View, source: str, layout: Layout) -> bool:
    """Whether the elements lie as in the source."""
    shape = view.graph.values[source].shapes[0]
    return regrouped(layout.order, shape) == whole(shape).axes
