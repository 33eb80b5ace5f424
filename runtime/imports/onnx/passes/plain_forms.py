"""Operations of `.dl` from what stands for them where ONNX means something else or has no such operation."""

from __future__ import annotations

import math
from dataclasses import replace

from runtime.imports.onnx.graph import CLAMPED, HIDING, Graph, Node
from runtime.imports.onnx.passes.matching import View, axes_of, each


def plain_extremes(graph: Graph) -> Graph:
    """A maximum beside a choice of NaN where an element is NaN is the maximum of `.dl`; a minimum, too."""
    return each(graph, ("Where",), _extreme)


def _extreme(view: View, node: Node) -> bool:
    number = view.number(node.inputs[1])
    reduction = view.made_by(node.inputs[2], "ReduceMax", "ReduceMin")
    if number is None or not math.isnan(number) or reduction is None:
        return False
    cast = view.made_by(node.inputs[0], "Cast")
    marked = view.made_by(cast.inputs[0], "ReduceMax") if cast is not None else None
    numbers = view.made_by(marked.inputs[0], "Cast") if marked is not None else None
    test = view.made_by(numbers.inputs[0], "IsNaN") if numbers is not None else None
    if marked is None or test is None or test.inputs[0] != reduction.inputs[0]:
        return False
    if axes_of(view, marked) != axes_of(view, reduction) or _keeps(marked) != _keeps(reduction):
        return False
    view.replace(node, replace(reduction, outputs=node.outputs))
    return True


def _keeps(node: Node) -> bool:
    return bool(node.attributes.get("keepdims", 1))


def plain_indices(graph: Graph) -> Graph:
    """Indices that are clamped into their axis before `Gather`, are clamped by `.dl` as well."""
    return each(graph, ("Gather",), _clamped)


def _clamped(view: View, node: Node) -> bool:
    values = view.graph.values
    low, high = view.made_by(node.inputs[1], "Min"), None
    if low is not None and len(low.inputs) == 2:
        high = view.made_by(low.inputs[0], "Max")
    axis = int(node.attributes.get("axis", 0))
    if low is None or high is None or len(high.inputs) != 2 or view.number(high.inputs[1]) != 0:
        return False
    if any(view.number(low.inputs[1]) != shape[axis] - 1 for shape in values[node.inputs[0]].shapes):
        return False
    index = high.inputs[0]
    cast = view.made_by(index, "Cast")
    if cast is not None and values[cast.inputs[0]].dtype in ("uint8", "int32") and values[index].dtype == "int64":
        index = cast.inputs[0]
    attributes = {**node.attributes, CLAMPED: 1}
    view.replace(node, replace(node, inputs=(node.inputs[0], index), attributes=attributes))
    return True


def recognise_means(graph: Graph) -> Graph:
    """A sum through the number of its elements, or times one through it, is a mean."""
    return each(graph, ("Mul", "Div"), _mean)


def _mean(view: View, node: Node) -> bool:
    factor, summed = _scaled(view, node)
    total = view.inner(summed, "ReduceSum")
    axes = axes_of(view, total) if total is not None else None
    if total is None or not axes:
        return False
    values = view.graph.values
    if values[node.outputs[0]].rank != values[summed].rank or not values[summed].dtype.startswith("float"):
        return False
    counts = {math.prod(shape[axis] for axis in axes) for shape in values[total.inputs[0]].shapes}
    if len(counts) != 1 or not math.isclose(factor * counts.pop(), 1, rel_tol=1e-6):
        return False
    attributes = {"axes": axes, "keepdims": total.attributes.get("keepdims", 1)}
    mean = Node("ReduceMean", (total.inputs[0],), node.outputs, attributes, node.place, 13)
    view.replace(node, mean, [total])
    return True


def _scaled(view: View, node: Node) -> tuple[float, str]:
    """The factor and the other operand; a factor of 0 where there is none."""
    if node.op == "Div":
        divisor = view.number(node.inputs[1])
        return (1 / divisor, node.inputs[0]) if divisor else (0.0, node.inputs[0])
    return view.split(node) or (0.0, node.inputs[0])


def recognise_softmax(graph: Graph) -> Graph:
    """`exp(x - max(x)) / sum(exp(x - max(x)))` along one axis is a softmax.

    With 0 for a maximum of -inf and 1 for a sum of 0, it is one that is 0 where every element is -inf.
    """
    return each(graph, ("Mul", "Div"), _softmax)


def _softmax(view: View, node: Node) -> bool:
    for power, divisor in _quotients(view, node):
        exp = view.made_by(power, "Exp")
        shifted = view.made_by(exp.inputs[0], "Sub") if exp is not None else None
        if exp is None or shifted is None:
            continue
        peak, no_peak = _instead(view, shifted.inputs[1], -math.inf, 0)
        total, no_total = _instead(view, divisor, 0, 1)
        added, largest = view.made_by(total, "ReduceSum"), view.made_by(peak, "ReduceMax")
        if added is None or largest is None or no_peak != no_total:
            continue
        if added.inputs[0] != power or largest.inputs[0] != shifted.inputs[0]:
            continue
        axes = axes_of(view, added)
        if axes is None or len(axes) != 1 or axes_of(view, largest) != axes or not (_keeps(added) and _keeps(largest)):
            continue
        settings = {"axis": axes[0], **({HIDING: 1} if no_peak else {})}
        view.replace(node, Node("Softmax", (shifted.inputs[0],), node.outputs, settings, node.place, 13))
        return True
    return False


def _instead(view: View, name: str, number: float, other: float) -> tuple[str, bool]:
    """The x of `where(x == number, other, x)`, and whether the value is that, or else the value itself."""
    chosen = view.made_by(name, "Where")
    test = view.made_by(chosen.inputs[0], "Equal") if chosen is not None else None
    if chosen is None or test is None or view.number(chosen.inputs[1]) != other:
        return name, False
    x = chosen.inputs[2]
    compared = view.other(test, x)
    return (x, True) if compared is not None and view.number(compared) == number else (name, False)


def _quotients(view: View, node: Node) -> list[tuple[str, str]]:
    """The pairs of a dividend and a divisor that an operation may be the quotient of."""
    if node.op == "Div":
        return [(node.inputs[0], node.inputs[1])]
    found: list[tuple[str, str]] = []
    for i in (0, 1):
        inverse = view.made_by(node.inputs[i], "Div", "Reciprocal")
        if inverse is not None and (inverse.op == "Reciprocal" or view.is_number(inverse.inputs[0], 1)):
            found.append((node.inputs[1 - i], inverse.inputs[-1]))
    return found


def recognise_relu(graph: Graph) -> Graph:
    """The larger of x and 0 is `Relu`."""
    return each(graph, ("Max",), _relu)


def _relu(view: View, node: Node) -> bool:
    split = view.split(node) if len(node.inputs) == 2 else None
    if split is None or split[0] != 0:
        return False
    x, result = view.graph.values[split[1]], view.graph.values[node.outputs[0]]
    if not x.dtype.startswith("float") or x.shapes != result.shapes:
        return False
    view.replace(node, Node("Relu", (split[1],), node.outputs, {}, node.place, 14))
    return True
