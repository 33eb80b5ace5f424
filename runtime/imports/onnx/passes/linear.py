"""A product of matrices and the bias behind it as one operation, and operations that change nothing."""

from __future__ import annotations

from dataclasses import replace

from runtime.imports.onnx.graph import Graph, Node
from runtime.imports.onnx.passes.matching import View, each


def join_biases(graph: Graph) -> Graph:
    """`MatMul` by constants and an addition of a constant vector are one `MatMul` of three operands."""
    return each(graph, ("Add",), _bias)


def _bias(view: View, node: Node) -> bool:
    for i in (0, 1):
        product = view.inner(node.inputs[i], "MatMul")
        if product is None or len(product.inputs) != 2:
            continue
        values = view.graph.values
        weights, bias = values[product.inputs[1]], values[node.inputs[1 - i]]
        constant = bias.constant
        if not weights.is_constant or weights.rank != 2 or constant is None or constant.dtype.kind != "f":
            continue
        units = weights.shapes[0][1]
        if (
            constant.shape not in ((units,), (1, units))
            or values[product.outputs[0]].shapes != values[node.outputs[0]].shapes
        ):
            continue
        view.replace(
            node, replace(product, inputs=(*product.inputs, node.inputs[1 - i]), outputs=node.outputs), [product]
        )
        return True
    return False


def drop_identities(graph: Graph) -> Graph:
    """Readers of a copy read what was copied."""
    source: dict[str, str] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        node = replace(node, inputs=tuple(source.get(name, name) for name in node.inputs))
        copies = node.op == "Identity" or (
            node.op in ("Dropout", "Cast", "Reshape", "Transpose") and _is_copy(graph, node)
        )
        if copies and node.outputs[0] not in graph.outputs and not any(node.outputs[1:]):
            source[node.outputs[0]] = node.inputs[0]
        else:
            nodes.append(node)
    graph.nodes = nodes
    return graph


def _is_copy(graph: Graph, node: Node) -> bool:
    before, after = graph.values[node.inputs[0]], graph.values[node.outputs[0]]
    if node.op == "Transpose":
        return list(node.attributes.get("perm", range(before.rank)[::-1])) == list(range(before.rank))
    if node.op == "Dropout":
        return len(node.inputs) < 3 or not node.inputs[2]
    return before.dtype == after.dtype and before.shapes == after.shapes
