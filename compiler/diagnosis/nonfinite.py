"""The first NaN or infinity of a step: its line, direction, element and operands.

The step is evaluated by the reference target, node by node.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from compiler.diagnosis.dimension_names import DimensionNames, Names
from compiler.diagnosis.evaluated import Evaluated, taken_apart
from compiler.diagnosis.parts import origin_of
from compiler.diagnosis.reports import NonfiniteReport, Site
from compiler.graph.ir import GraphInput, Node, Role, Value
from compiler.graph.op import Category
from compiler.interface import Array
from compiler.ops.scan import Scan
from compiler.types import BatchExtent, TensorType


def explain_nonfinite(step: Evaluated, names: DimensionNames) -> NonfiniteReport | None:
    """Where the values that are not finite come from; None if there are none.

    The first operation that makes a NaN of what is none is where it was born. What it made it of may be infinite; then
    the first operation that made this of finite numbers is the cause. A scan is taken apart and looked into.
    """
    if not step.spoilt:
        return None
    born, cause = _found(step)
    for part in (born, cause):
        if isinstance(part, Node) and isinstance(part.op, Scan):
            return explain_nonfinite(taken_apart(step, part), names)
    if born is None:
        return None
    because = None if cause is None else _site(step, names, cause)
    return NonfiniteReport(step.spoilt, _site(step, names, born), because)


def _found(step: Evaluated) -> tuple[Node | GraphInput | None, Node | GraphInput | None]:
    """Where a NaN was born, and the cause of it. Without a NaN, the first infinity is all there is to tell."""
    bad = [output.value for output in step.graph.outputs if not step.is_finite(output.value)]
    nodes, inputs = _upstream(step, bad)
    spoilt = next((entry for entry in inputs if step.has_nan(entry.value)), None)
    if spoilt is not None:
        return spoilt, None
    born = next((node for node in nodes if _makes_nan(step, node)), None)
    if born is None:
        return _cause(step, nodes, inputs), None
    return born, _cause(step, *_upstream(step, [o for o in born.operands if not step.is_finite(o)]))


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


def _cause(step: Evaluated, nodes: Sequence[Node], inputs: Sequence[GraphInput]) -> Node | GraphInput | None:
    """The first node that makes infinity of finite numbers; a constant that is infinite is meant to be."""
    made = (node for node in nodes if node.operands and all(map(step.is_finite, node.operands)))
    return next(made, inputs[0] if inputs else None)


def _site(step: Evaluated, names: DimensionNames, part: Node | GraphInput) -> Site:
    return _site_of_node(step, names, part) if isinstance(part, Node) else _site_of_input(step, names, part)


def _site_of_node(step: Evaluated, names: DimensionNames, node: Node) -> Site:
    result = next(r for r in node.results if not step.is_finite(r))
    place = _first_bad(step.values[result.index])
    origin = origin_of(node)
    return Site(
        node.op.name,
        None if origin is None else origin.user_span,
        "" if origin is None else origin.path,
        "" if origin is None else origin.direction.value,
        _shown_place(result.type, names.of(node.origins, result), place, step.rows),
        float(step.values[result.index][place]),
        tuple(_operand(step, node, result, place, operand) for operand in node.operands),
        tuple(f"{names.of_steps(s.scan) or 'step'} {s.place}" for s in step.steps.get(result.index, ())),
    )


def _site_of_input(step: Evaluated, names: DimensionNames, entry: GraphInput) -> Site:
    array = step.values[entry.value.index]
    place = _first_bad(array)
    kind = "input" if entry.role is Role.DATA else entry.role.value.replace("_", " ")
    where = _shown_place(entry.value.type, names.of_input(entry.name, entry.value), place, step.rows)
    return Site(f"{kind} {entry.name}", None, "", "", where, float(array[place]), ())


def _first_bad(array: Array) -> tuple[int, ...]:
    """The first NaN, or the first infinity where there is no NaN."""
    found = np.isnan(array) if np.isnan(array).any() else ~np.isfinite(array)
    return tuple(int(axis[0]) for axis in np.nonzero(found)) if array.ndim else ()


def _shown_place(type_: TensorType, names: Names, place: tuple[int, ...], rows: Sequence[int]) -> str:
    """`[batch 3 (row 17 of the data), time 5, 2]`: what the text has no name for is a number alone."""
    shown: list[str] = []
    for extent, name, position in zip(type_.shape, names, place, strict=True):
        if isinstance(extent, BatchExtent):
            row = position // extent.multiple
            shown.append(f"batch {position} (row {rows[row]} of the data)")
        else:
            shown.append(f"{name} {position}".strip())
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
