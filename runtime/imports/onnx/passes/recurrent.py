"""Recurrent layers with the rows first, as the library has them."""

from __future__ import annotations

from dataclasses import replace

from runtime.imports.onnx.graph import Graph, Node, Value
from runtime.imports.onnx.passes.matching import View, each

_LAYERS = ("LSTM", "GRU", "RNN")


def rows_first(graph: Graph) -> Graph:
    """A layer over [time, rows, n] is one over [rows, time, n] between transposes, which others may undo."""
    return each(graph, _LAYERS, _turned)


def _turned(view: View, node: Node) -> bool:
    if node.attributes.get("layout", 0):
        return False
    inputs = list(node.inputs)
    before: list[Node] = []
    for place in (0, 5, 6):
        if place < len(inputs) and inputs[place]:
            known = view.graph.values[inputs[place]].contents
            if place and known is not None and not any(one.any() for one in known):
                inputs[place] = ""
                continue
            before.append(_transposed(view, inputs[place], f"{node.outputs} operand {place}", (1, 0, 2)))
            inputs[place] = before[-1].outputs[0]
    outputs: list[str] = []
    behind: list[Node] = []
    for place, name in enumerate(node.outputs):
        if not name:
            outputs.append("")
            continue
        there = (2, 0, 1, 3) if place == 0 else (1, 0, 2)
        value = view.graph.values[name]
        inner = f"{name} with rows first"
        shapes = tuple(tuple(shape[axis] for axis in there) for shape in value.shapes)
        view.graph.values[inner] = Value(inner, value.dtype, shapes)
        outputs.append(inner)
        back = [there.index(axis) for axis in range(len(there))]
        behind.append(Node("Transpose", (inner,), (name,), {"perm": back}, node.place, 13))
    layer = replace(node, inputs=tuple(inputs), outputs=tuple(outputs), attributes={**node.attributes, "layout": 1})
    view.put_before(node, [*before, layer, *behind[:-1]])
    view.replace(node, behind[-1])
    return True


def _transposed(view: View, source: str, name: str, order: tuple[int, ...]) -> Node:
    value = view.graph.values[source]
    shapes = tuple(tuple(shape[axis] for axis in order) for shape in value.shapes)
    view.graph.values[name] = Value(name, value.dtype, shapes)
    return Node("Transpose", (source,), (name,), {"perm": list(order)}, "", 13)


def join_directions(graph: Graph) -> Graph:
    """States [rows, time, directions, units] that are only read as [rows, time, directions * units] are made so."""
    return each(graph, ("Reshape", "Squeeze"), _joined)


def _joined(view: View, node: Node) -> bool:
    layer = view.inner(node.inputs[0], *_LAYERS)
    if layer is None or layer.outputs[0] != node.inputs[0] or not layer.attributes.get("layout", 0):
        return False
    before, after = (view.graph.values[name] for name in (node.inputs[0], node.outputs[0]))
    if any(b != (*a[:2], a[2] * a[3]) for a, b in zip(before.shapes, after.shapes, strict=True)):
        return False
    outputs = (node.outputs[0], *layer.outputs[1:])
    view.replace(layer, replace(layer, outputs=outputs, attributes={**layer.attributes, "joined": 1}))
    view.replace(node, node, [node])
    return True
