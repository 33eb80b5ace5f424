"""Reductions whose axes are put back behind them, as reductions that keep their axes."""

from __future__ import annotations

from dataclasses import replace

from runtime.imports.onnx.graph import Graph, Node, Value
from runtime.imports.onnx.passes.matching import View, axes_of, each

_ELEMENTWISE = frozenset(
    {"Add", "Sub", "Mul", "Div", "Sqrt", "Reciprocal", "Pow", "Where", "Equal", "Cast", "Exp", "Log", "Neg"}
)


def keep_axes(graph: Graph) -> Graph:
    """`Unsqueeze` of what elementwise operations make of a reduction is the same with the axes kept, as 1."""
    return each(graph, ("Unsqueeze",), _kept)


def _kept(view: View, node: Node) -> bool:
    axes = _axes_put_back(view, node)
    if axes is None:
        return False
    wider = _Wider(view, axes)
    found = wider.value(node.inputs[0])
    if found is None or found == node.inputs[0] or not wider.takes_all_readers(node):
        return False
    view.put_before(node, list(wider.made.values()))
    view.replace(node, Node("Identity", (found,), node.outputs, {}, node.place, node.version))
    return True


def _axes_put_back(view: View, node: Node) -> list[int] | None:
    axes = node.attributes.get("axes")
    if axes is None and len(node.inputs) > 1:
        constant = view.graph.values[node.inputs[1]].constant
        axes = None if constant is None else [int(axis) for axis in constant.reshape(-1)]
    rank = view.graph.values[node.outputs[0]].rank
    return None if axes is None else sorted(axis % rank for axis in axes)


class _Wider:
    """Values with axes of 1 put in. `made` are the nodes that make them, by the names of the values as they were."""

    def __init__(self, view: View, axes: list[int]) -> None:
        self.view, self.axes = view, axes
        self.made: dict[str, Node] = {}

    def value(self, name: str) -> str | None:
        """The name of the value with the axes; None where it has none, or nothing is known of them."""
        value = self.view.graph.values[name]
        if value.contents is not None:
            return name if value.rank == 0 and value.is_constant else None
        if name in self.made:
            return self.made[name].outputs[0]
        node = self.view.maker.get(name)
        if node is None or name in self.view.graph.outputs:
            return None
        if node.op == "Squeeze":
            return node.inputs[0] if axes_of(self.view, node) == self.axes else None
        if node.op.startswith("Reduce"):
            whole = sorted(axes_of(self.view, node) or ()) == self.axes and not node.attributes.get("keepdims", 1)
            return self._add(replace(node, attributes={**node.attributes, "keepdims": 1})) if whole else None
        if node.op not in _ELEMENTWISE:
            return None
        inputs: list[str] = []
        for operand in node.inputs:
            same = self.view.graph.values[operand].rank in (0, value.rank)
            found = self.value(operand) if same else None
            if found is None:
                return None
            inputs.append(found)
        return self._add(replace(node, inputs=tuple(inputs)))

    def _add(self, node: Node) -> str:
        before = self.view.graph.values[node.outputs[0]]
        name = f"{before.name} with axes"
        shapes: list[tuple[int, ...]] = []
        for shape in before.shapes:
            rest = iter(shape)
            shapes.append(tuple(1 if i in self.axes else next(rest) for i in range(len(shape) + len(self.axes))))
        self.view.graph.values[name] = Value(name, before.dtype, tuple(shapes))
        self.made[before.name] = replace(node, outputs=(name,))
        return name

    def takes_all_readers(self, end: Node) -> bool:
        """Whether nothing but `end` reads the values as they were: nothing is computed twice."""
        known = {id(self.view.maker[name]) for name in self.made} | {id(end)}
        return all(id(reader) in known for name in self.made for reader in self.view.readers.get(name, ()))
