"""W0112 and W0115: rows of a batch that meet, and reductions that go on behind the end of a row."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.errors.diagnostics import Diagnostic, Note, Span, hint
from compiler.frontend.program import InputSpec
from compiler.frontend.trace import Subject
from compiler.graph.ir import Graph, Node, Role, Value
from compiler.graph.op import Category
from compiler.lints.flow import Flow, inlined, place_of
from compiler.ops.contraction import Contraction
from compiler.ops.control import CustomGradient
from compiler.ops.elementwise import Comparison, Where
from compiler.ops.indexing import Gather
from compiler.ops.movement import Transpose
from compiler.ops.reduction import Max, Min, Moments
from compiler.ops.row_mixing import mixed_values
from compiler.ops.scan import Scan
from compiler.ops.spreading import Broadcast, Reshape, Sum
from compiler.syntax import tree
from compiler.syntax.walk import statements_of
from compiler.types import Shape


def find_padded_reductions(subject: Subject) -> Iterator[Diagnostic]:
    """W0115: reductions along a padded dimension that include elements behind the end of a row."""
    graph = subject.program.inference_graph
    specs = {spec.name: spec for spec in subject.program.inputs}
    told: set[Span] = set()
    for mask in specs.values():
        if mask.mask_of is None:
            continue
        padded = specs[mask.mask_of]
        for node in _unmasked(graph, padded, mask):
            place = place_of(node)
            if place is not None and place not in told:
                told.add(place)
                name = padded.dimension_names[1]
                dimension = f"`{name}`" if name else "a padded dimension"
                message = f"a reduction over {dimension} includes the padding of `{padded.name}`"
                yield Diagnostic("W0115", message, place, (hint(f"`where = {mask.name}` leaves it out"),), "warning")


def _unmasked(graph: Graph, padded: InputSpec, mask: InputSpec) -> Iterator[Node]:
    """The reductions over the padded axis of values to which no mask was applied since they were computed."""
    inputs = {entry.name: entry.value for entry in graph.inputs}
    if padded.name not in inputs:
        return
    source = inputs[padded.name]
    flow = Flow(graph)
    needed = flow.reaching([output.value for output in graph.outputs])
    varying = flow.depending(list(inputs.values()))
    axes = {source.index: 1}
    masked = {value.index for name, value in inputs.items() if name == mask.name}
    for node in graph.nodes:
        if _keeps_masks(node) and any(operand.index in masked for operand in node.operands):
            masked.update(result.index for result in node.results)
        if _makes_mask(node, flow, source, varying):
            masked.update(result.index for result in node.results)
        for place, operand in enumerate(node.operands):
            axis = axes.get(operand.index)
            if axis is None:
                continue
            is_needed = any(result.index in needed for result in node.results)
            reduces = isinstance(node.op, Sum | Max | Min | Moments) and axis in node.op.axes
            if reduces and operand.index not in masked and is_needed:
                yield node
            for number, result in enumerate(node.results):
                after = _axis_after(node, place, axis, number, result)
                if after is not None:
                    axes[result.index] = after


def _keeps_masks(node: Node) -> bool:
    """Whether what was left out of an operand has no share in the result. Weights mix it in again: a bias, say."""
    kinds = (Category.ELEMENTWISE, Category.MOVEMENT, Category.REDUCTION, Category.CONTROL)
    return node.op.category in kinds


def _makes_mask(node: Node, flow: Flow, source: Value, varying: set[int]) -> bool:
    """A comparison of the padded input with one number, or a choice that no data makes, as that of a causal mask."""
    if isinstance(node.op, Comparison):
        sides = [flow.source(operand) for operand in node.operands]
        return any(side.index == source.index for side in sides) and any(side.type.rank == 0 for side in sides)
    return isinstance(node.op, Where) and node.operands[0].index not in varying


def _axis_after(node: Node, place: int, axis: int, number: int, result: Value) -> int | None:
    """Where the axis of an operand stands in a result; None where it is reduced, or is no longer known."""
    operand, op = node.operands[place], node.op
    match op:
        case Broadcast(axes=axes):
            return axes[axis]
        case Transpose(order):
            return order.index(axis)
        case Sum(axes=axes) | Max(axes=axes) | Min(axes=axes) | Moments(axes=axes):
            return None if axis in axes else axis - sum(reduced < axis for reduced in axes)
        case Reshape():
            return _axis_in(operand.type.shape, axis, result.type.shape)
        case Contraction(lhs=lhs, rhs=rhs, out=out):
            label = (lhs, rhs)[place][axis]
            return out.index(label) if label in out else None
        case Gather(axis=picked, by_row=False):
            return axis + picked if place == 1 else None
        case Scan(scanned=scanned, carries=carries):
            return 0 if place < scanned and axis == 0 and number >= carries else None
        case CustomGradient(inputs=count):
            return axis if place == count + number else None
        case _:
            return axis if result.type.shape == operand.type.shape else None


def _axis_in(before: Shape, axis: int, after: Shape) -> int | None:
    """The axis of a reshaped tensor, where those before it stayed as they are, apart from axes of 1."""
    leading = [extent for extent in before[: axis + 1] if extent != 1]
    for place in range(len(after)):
        if [extent for extent in after[: place + 1] if extent != 1] == leading and after[place] == before[axis]:
            return place
    return None


def find_mixed_rows(subject: Subject) -> Iterator[Diagnostic]:
    """W0112: outputs of a model in which the rows of a batch meet, so that a prediction depends on its neighbours."""
    graph = inlined(subject.program.inference_graph)
    mixing = mixed_values(graph.nodes)
    declared = [s for s in statements_of(subject.model.body) if isinstance(s, tree.OutputDeclaration)]
    places = {name.id: name.span for statement in declared for name in statement.names}
    for output in graph.outputs:
        node = mixing.get(output.value.index)
        if output.role is Role.OUTPUT and output.name in subject.program.outputs and node is not None:
            message = f"the output `{output.name}` mixes the rows of a batch: a prediction depends on its neighbours"
            advice = hint("leave it to the loss, or reduce over another axis; `dlc predict` takes the rows 32 by 32")
            where = place_of(node)
            notes = () if where is None else (Note("rows meet here", where),)
            yield Diagnostic("W0112", message, places[output.name], (advice, *notes), "warning")
