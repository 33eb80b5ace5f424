"""Layer norm and RMS norm from the operations that exporters write them with."""

from __future__ import annotations

from runtime.imports.onnx.graph import Graph, Node
from runtime.imports.onnx.passes.matching import View, axes_of, each


def recognise_norms(graph: Graph) -> Graph:
    """`(x - mean) / sqrt(variance + eps) * gamma + beta`, and `x / sqrt(mean(x^2) + eps) * gamma`, are norms."""
    return each(each(graph, ("Add",), _shifted), ("Mul",), _scaled)


def _shifted(view: View, node: Node) -> bool:
    for i in (0, 1):
        product = view.inner(node.inputs[i], "Mul")
        if product is not None and _is_vector(view, node.inputs[1 - i], node):
            found = _layer_norm(view, product)
            if found is not None:
                x, gamma, eps = found
                inputs = (x, gamma, node.inputs[1 - i])
                settings = {"axis": -1, "epsilon": eps}
                view.replace(node, Node("LayerNormalization", inputs, node.outputs, settings, node.place, 17))
                return True
    return False


def _scaled(view: View, node: Node) -> bool:
    found = _layer_norm(view, node)
    op = "LayerNormalization"
    if found is None:
        found, op = _rms_norm(view, node), "RMSNormalization"
    if found is None:
        return False
    x, gamma, eps = found
    view.replace(node, Node(op, (x, gamma), node.outputs, {"axis": -1, "epsilon": eps}, node.place, 23))
    return True


def _is_vector(view: View, name: str, like: Node) -> bool:
    """Whether a value is a constant of floats with one number for each element of the last axis."""
    value, result = view.graph.values[name], view.graph.values[like.outputs[0]]
    content = value.constant
    if content is None or content.dtype.kind != "f" or not result.rank:
        return False
    return all(shape[-1] > 1 and content.shape == (shape[-1],) for shape in result.shapes)


def _layer_norm(view: View, node: Node) -> tuple[str, str, float] | None:
    """x, gamma and epsilon of a product with a normalised tensor."""
    for i in (0, 1):
        if not _is_vector(view, node.inputs[i], node):
            continue
        divided = _divided(view, node.inputs[1 - i])
        if divided is None:
            continue
        centred, (spread, eps) = divided
        sub = view.made_by(centred, "Sub")
        mean = view.made_by(sub.inputs[1], "ReduceMean") if sub is not None else None
        if sub is None or mean is None or not _over_last(view, mean) or mean.inputs[0] != sub.inputs[0]:
            continue
        if _squared(view, spread) in (centred, _twin(view, sub, spread)):
            return sub.inputs[0], node.inputs[i], eps
    return None


def _twin(view: View, sub: Node, spread: str) -> str | None:
    """The base of the variance, where it is the same difference computed anew."""
    base = _squared(view, spread)
    other = view.made_by(base, "Sub") if base is not None else None
    return base if other is not None and other.inputs == sub.inputs else None


def _rms_norm(view: View, node: Node) -> tuple[str, str, float] | None:
    for i in (0, 1):
        if not _is_vector(view, node.inputs[i], node):
            continue
        divided = _divided(view, node.inputs[1 - i])
        if divided is not None and _squared(view, divided[1][0]) == divided[0]:
            return divided[0], node.inputs[i], divided[1][1]
    return None


def _divided(view: View, name: str) -> tuple[str, tuple[str, float]] | None:
    """The operand, the mean of squares and epsilon of `operand / sqrt(mean + epsilon)`."""
    node = view.inner(name, "Div", "Mul")
    if node is None:
        return None
    if node.op == "Div":
        root = _root(view, node.inputs[1])
        return None if root is None else (node.inputs[0], root)
    for i in (0, 1):
        inverse = view.made_by(node.inputs[i], "Reciprocal", "Div", "Pow")
        root = None
        if inverse is not None and inverse.op == "Reciprocal":
            root = _root(view, inverse.inputs[0])
        elif inverse is not None and inverse.op == "Div" and view.is_number(inverse.inputs[0], 1):
            root = _root(view, inverse.inputs[1])
        elif inverse is not None and inverse.op == "Pow" and view.is_number(inverse.inputs[1], -0.5):
            root = _shifted_mean(view, inverse.inputs[0])
        if root is not None:
            return node.inputs[1 - i], root
    return None


def _root(view: View, name: str) -> tuple[str, float] | None:
    root = view.made_by(name, "Sqrt", "Pow")
    if root is None or (root.op == "Pow" and not view.is_number(root.inputs[1], 0.5)):
        return None
    return _shifted_mean(view, root.inputs[0])


def _shifted_mean(view: View, name: str) -> tuple[str, float] | None:
    """The mean and epsilon of their sum."""
    add = view.made_by(name, "Add")
    split = view.split(add) if add is not None else None
    mean = view.made_by(split[1], "ReduceMean") if split is not None else None
    return (mean.outputs[0], split[0]) if split is not None and mean is not None and _over_last(view, mean) else None


def _over_last(view: View, mean: Node) -> bool:
    rank = view.graph.values[mean.inputs[0]].rank
    return axes_of(view, mean) == [rank - 1] and mean.attributes.get("keepdims", 1) == 1


def _squared(view: View, mean: str) -> str | None:
    """x of a mean of x^2."""
    node = view.made_by(mean, "ReduceMean")
    square = view.made_by(node.inputs[0], "Pow", "Mul") if node is not None else None
    if square is None:
        return None
    base, other = square.inputs
    fits = view.is_number(other, 2) if square.op == "Pow" else base == other
    return base if fits else None
