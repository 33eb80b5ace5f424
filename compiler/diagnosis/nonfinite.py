"""Where a step that gives NaN or infinity first did so: the line, the direction, the element, and what it was made of.

The step is evaluated by the reference target, node by node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from compiler.diagnosis.parts import every_value, origin_of
from compiler.diagnosis.reports import NonfiniteReport, Site
from compiler.graph.ir import Graph, GraphInput, Node, Role, Value
from compiler.graph.op import Category
from compiler.interface import Array
from compiler.record import record
from compiler.types import BatchExtent, TensorType


@record
class Evaluated:
    """A graph with the content of each of its values. `rows` are those of the data that its batch is made of."""

    graph: Graph
    values: Mapping[int, Array]
    rows: Sequence[int]

    @property
    def spoilt(self) -> tuple[str, ...]:
        """The outputs that are not finite."""
        return tuple(o.name for o in self.graph.outputs if not self.is_finite(o.value))

    def is_finite(self, value: Value) -> bool:
        array = self.values[value.index]
        return array.dtype.kind != "f" or bool(np.isfinite(array).all())

    def has_nan(self, value: Value) -> bool:
        array = self.values[value.index]
        return array.dtype.kind == "f" and bool(np.isnan(array).any())


def evaluated(graph: Graph, inputs: Mapping[str, Array], rows: Sequence[int]) -> Evaluated:
    return Evaluated(graph, every_value(graph, inputs, len(rows)), rows)


def explain_nonfinite(step: Evaluated) -> NonfiniteReport | None:
    """Where the values that are not finite come from; None if there are none.

    The first operation that makes a NaN of what is none is where it was born. What it made it of may be infinite; then
    the first operation that made this of finite numbers is the cause.
    """
    if not step.spoilt:
        return None
    bad = [output.value for output in step.graph.outputs if not step.is_finite(output.value)]
    nodes, inputs = _upstream(step, bad)
    spoilt = next((entry for entry in inputs if step.has_nan(entry.value)), None)
    if spoilt is not None:
        return NonfiniteReport(step.spoilt, _site_of_input(step, spoilt), None)
    born = next((node for node in nodes if _makes_nan(step, node)), None)
    if born is None:
        return _infinite(step, nodes, inputs)
    operands = [operand for operand in born.operands if not step.is_finite(operand)]
    return NonfiniteReport(step.spoilt, _site(step, born), _cause(step, *_upstream(step, operands)))


def _infinite(step: Evaluated, nodes: Sequence[Node], inputs: Sequence[GraphInput]) -> NonfiniteReport | None:
    """Nothing is NaN, so the first infinity is all there is to tell."""
    first = _cause(step, nodes, inputs)
    return None if first is None else NonfiniteReport(step.spoilt, first, None)


def _upstream(step: Evaluated, values: Iterable[Value]) -> tuple[list[Node], list[GraphInput]]:
    """The nodes, in their order, and the inputs that `values` got what is not finite from."""
    wanted = {value.index for value in values}
    nodes: list[Node] = []
    for node in reversed(step.graph.nodes):
        if any(result.index in wanted for result in node.results):
            nodes.append(node)
            wanted.update(operand.index for operand in node.operands if not step.is_finite(operand))
    return nodes[::-1], [entry for entry in step.graph.inputs if entry.value.index in wanted]


def _makes_nan(step: Evaluated, node: Node) -> bool:
    has_nan = any(step.has_nan(result) for result in node.results)
    return has_nan and not any(step.has_nan(operand) for operand in node.operands)


def _cause(step: Evaluated, nodes: Sequence[Node], inputs: Sequence[GraphInput]) -> Site | None:
    """The first node that makes infinity of finite numbers; a constant that is infinite is meant to be."""
    for node in nodes:
        if node.operands and all(map(step.is_finite, node.operands)):
            return _site(step, node)
    return _site_of_input(step, inputs[0]) if inputs else None


def _site(step: Evaluated, node: Node) -> Site:
    result = next(r for r in node.results if not step.is_finite(r))
    place = _first_bad(step.values[result.index])
    origin = origin_of(node)
    return Site(
        node.op.name,
        None if origin is None else origin.user_span,
        "" if origin is None else origin.path,
        "" if origin is None else origin.direction.value,
        _shown_place(result.type, place, step.rows),
        float(step.values[result.index][place]),
        tuple(_operand(step, node, result, place, operand) for operand in node.operands),
    )


def _site_of_input(step: Evaluated, entry: GraphInput) -> Site:
    array = step.values[entry.value.index]
    place = _first_bad(array)
    kind = "input" if entry.role is Role.DATA else entry.role.value.replace("_", " ")
    where = _shown_place(entry.value.type, place, step.rows)
    return Site(f"{kind} {entry.name}", None, "", "", where, float(array[place]), ())


def _first_bad(array: Array) -> tuple[int, ...]:
    """The first NaN, or the first infinity where there is no NaN."""
    found = np.isnan(array) if np.isnan(array).any() else ~np.isfinite(array)
    return tuple(int(axis[0]) for axis in np.nonzero(found)) if array.ndim else ()


def _shown_place(type_: TensorType, place: tuple[int, ...], rows: Sequence[int]) -> str:
    """`[batch 3 (row 17 of the data), 2]`"""
    shown: list[str] = []
    for extent, position in zip(type_.shape, place, strict=True):
        if isinstance(extent, BatchExtent):
            row = position // extent.multiple
            shown.append(f"batch {position} (row {rows[row]} of the data)")
        else:
            shown.append(str(position))
    return f"[{', '.join(shown)}]" if shown else ""


def _operand(step: Evaluated, node: Node, result: Value, place: tuple[int, ...], operand: Value) -> str:
    """The element that went in, where it stands at the same place; else what the whole operand is like."""
    array = step.values[operand.index]
    if node.op.category is Category.ELEMENTWISE and operand.type.shape == result.type.shape:
        return f"{array[place]:.6g}"
    if array.ndim == 0:
        return f"{array[()]:.6g}"
    numbers = array.astype(np.float64)
    finite = numbers[np.isfinite(numbers)]
    others = numbers.size - finite.size
    span = f"from {finite.min():.4g} to {finite.max():.4g}" if finite.size else "nothing finite"
    return f"{operand.type} ({span}{f', {others} not finite' if others else ''})"
