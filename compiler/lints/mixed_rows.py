"""W0112: outputs of a model in which the rows of a batch meet, so that a prediction depends on its neighbours."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostics import Diagnostic, Note, Span, hint
from compiler.frontend import syntax
from compiler.frontend.trace import Subject
from compiler.frontend.walk import statements_of
from compiler.graph.ir import Graph, Node, Role
from compiler.lints.flow import place_of
from compiler.lints.laid_open import laid_open
from compiler.ops.movement import Concat, Pad, Reverse, Slice
from compiler.ops.reduction import CumulativeSum
from compiler.ops.sources import BatchSize
from compiler.ops.window import Fold, Window
from compiler.types import BatchExtent, TensorType


def find_mixed_rows(subject: Subject) -> Iterator[Diagnostic]:
    graph = laid_open(subject.program.inference)
    mixing = _mixing(graph)
    places = dict(_output_places(subject.model))
    for output in graph.outputs:
        node = mixing.get(output.value.index)
        if output.role is Role.OUTPUT and output.name in subject.program.outputs and node is not None:
            message = f"the output `{output.name}` mixes the rows of a batch: a prediction depends on its neighbours"
            advice = hint("leave it to the loss, or reduce over another axis; `dlc predict` takes the rows 32 by 32")
            where = place_of(node)
            notes = () if where is None else (Note("rows meet here", where),)
            yield Diagnostic("W0112", message, places[output.name], (advice, *notes), "warning")


def _mixing(graph: Graph) -> dict[int, Node]:
    """The values whose rows depend on other rows, by index, with the node where that comes from."""
    found: dict[int, Node] = {}
    for node in graph.nodes:
        mixing = next((found[o.index] for o in node.operands if o.index in found), None)
        if mixing is None and _mixes(node):
            mixing = node
        if mixing is not None:
            found.update((result.index, mixing) for result in node.results)
    return found


def _mixes(node: Node) -> bool:
    axes = [axis for operand in node.operands if (axis := _batch_axis(operand.type)) is not None]
    if axes and all(_batch_axis(result.type) is None for result in node.results):
        return True
    match node.op:
        case BatchSize():
            return True
        case CumulativeSum(axis) | Concat(axis):
            return axis in axes
        case Reverse(moved) | Window(moved) | Fold(moved):
            return any(axis in moved for axis in axes)
        case Slice(starts, sizes, steps):
            shape = node.operands[0].type.shape
            return any(starts[a] != 0 or steps[a] != 1 or sizes[a] != shape[a] for a in axes)
        case Pad(low, high):
            return any(low[axis] or high[axis] for axis in axes)
        case _:
            return False


def _batch_axis(type_: TensorType) -> int | None:
    return next((axis for axis, extent in enumerate(type_.shape) if isinstance(extent, BatchExtent)), None)


def _output_places(model: syntax.Model) -> Iterator[tuple[str, Span]]:
    for statement in statements_of(model.body):
        if isinstance(statement, syntax.OutputDeclaration):
            for name in statement.names:
                yield name.id, name.span
