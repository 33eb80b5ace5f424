"""A product of matrices and the bias behind it as one operation, and operations that change nothing."""

from __future__ import annotations

from dataclasses import replace

from runtime.imports.onnx.graph import Graph, Node, Value
from runtime.imports.onnx.passes.matching import View, each


def join_biases(graph: Graph) -> Graph:
    """`MatMul` by constants and an addition of a constant vector are one `MatMul` of three operands; so is `Conv`."""
    return each(each(graph, ("Add",), _bias), ("Add",), _bias_of_channels)


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


def _bias_of_channels(view: View, node: Node) -> bool:
    for i in (0, 1):
        product = view.inner(node.inputs[i], "Conv")
        if product is None or len(product.inputs) != 2:
            continue
        values = view.graph.values
        result, bias = values[node.outputs[0]], values[node.inputs[1 - i]]
        if bias.constant is None or bias.constant.dtype.kind != "f" or result.shapes != values[node.inputs[i]].shapes:
            continue
        channels, places = result.shapes[0][1], result.rank - 2
        if bias.constant.shape not in ((channels, *(1,) * places), (1, channels, *(1,) * places)):
            continue
        name, points = f"{bias.name} of channels", len(result.shapes)
        contents = (bias.constant.reshape(-1),) * points
        values[name] = Value(name, bias.dtype, ((channels,),) * points, contents, bias.weight or (bias.name,))
        made = replace(product, inputs=(*product.inputs, name), outputs=node.outputs)
        view.replace(node, made, [product])
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


def drop_unused(graph: Graph) -> Graph:
    """Without nodes whose results nothing reads."""
    wanted = set(graph.outputs)
    nodes: list[Node] = []
    for node in reversed(graph.nodes):
        if wanted.intersection(node.outputs):
            nodes.append(node)
            wanted.update(node.inputs)
    graph.nodes = nodes[::-1]
    return graph


def _is_copy(graph: Graph, node: Node) -> bool:
    before, after = graph.values[node.inputs[0]], graph.values[node.outputs[0]]
    if node.op == "Transpose":
        return list(node.attributes.get("perm", range(before.rank)[::-1])) == list(range(before.rank))
    if node.op == "Dropout":
        return len(node.inputs) < 3 or not node.inputs[2]
    return before.dtype == after.dtype and before.shapes == after.shapes


def lift_reshapes(graph: Graph) -> Graph:
    """A product by constant weights acts on the last axis, whatever shape the other axes are brought into for it."""
    return each(graph, ("Reshape",), _lifted)


def _lifted(view: View, node: Node) -> bool:
    product = view.inner(node.inputs[0], "MatMul", "Gemm")
    if product is None or product.attributes.get("transA", 0):
        return False
    before = view.inner(product.inputs[0], "Reshape") or _shared(view, product.inputs[0])
    values = view.graph.values
    if before is None or not values[product.inputs[1]].is_constant or values[product.inputs[1]].rank != 2:
        return False
    y, z, w = values[product.outputs[0]], values[node.outputs[0]], values[product.inputs[0]]
    pairs = zip(y.shapes, z.shapes, strict=True)
    if w.rank != 2 or not z.rank or any(b[-1] != c[-1] for b, c in pairs):
        return False
    shapes = tuple((*c[:-1], a[-1]) for a, c in zip(w.shapes, z.shapes, strict=True))
    source = before.inputs[0]
    taken = [product, before] if len(view.readers.get(product.inputs[0], ())) == 1 else [product]
    if values[source].shapes != shapes:
        if before not in taken:
            return False
        name = f"{before.outputs[0]} of {node.outputs[0]}"
        values[name] = Value(name, w.dtype, shapes)
        view.replace(before, Node("Reshape", (source,), (name,), {}, before.place, before.version))
        source, taken = name, [product]
    view.replace(node, replace(product, inputs=(source, *product.inputs[1:]), outputs=node.outputs), taken)
    return True


def _shared(view: View, name: str) -> Node | None:
    return view.made_by(name, "Reshape")
