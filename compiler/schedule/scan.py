"""The body of a scan as the schedule takes it: it reads and writes the stacks themselves, at the place of its step."""

from __future__ import annotations

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, GraphOutput, Node, Role, Value
from compiler.ops.movement import Reshape, Slice
from compiler.ops.scan import Scan
from compiler.schedule.numerics.fix_numerics import fix_numerics
from compiler.schedule.numerics.internal_ops import Empty, Insert


def body_on_stacks(op: Scan) -> Graph:
    """Inputs: the stacks of x, the carries, the captures. Outputs: the carries, updated, and the emitted stacks.

    Everything is said for place 0 along the scanned axis; a step at another place begins so much further on.
    """
    builder = GraphBuilder(op.body.name)
    arguments: list[Value] = []
    for number, entry in enumerate(op.body.inputs):
        is_carry = 0 <= number - op.scanned < op.carries
        type_ = op.stacked(entry.value.type) if number < op.scanned else entry.value.type
        value = builder.input(entry.name, Role.STATE if is_carry else Role.DATA, type_)
        arguments.append(_element(builder, value) if number < op.scanned else value)
    found = builder.inline(op.body, arguments)
    for number, entry in enumerate(op.body.outputs):
        carry = op.body.inputs[op.scanned + number].name if number < op.carries else None
        builder.output(entry.name, Role.OUTPUT if carry is None else Role.STATE, found[entry.name], carry)
    return _with_stacks(op, fix_numerics(builder.build()))


def _element(builder: GraphBuilder, stack: Value) -> Value:
    shape = stack.type.shape
    part = builder.emit(Slice((0,) * len(shape), (1, *shape[1:]), (1,) * len(shape)), stack)
    return builder.emit(Reshape(shape[1:]), part)


def _with_stacks(op: Scan, fixed: Graph) -> Graph:
    builder = GraphBuilder.continuing(fixed)
    producers = {r.index: node for node in fixed.nodes for r in node.results}
    outputs: list[GraphOutput] = []
    for number, entry in enumerate(fixed.outputs):
        value = entry.value
        if number >= op.carries:
            with builder.at(producers[value.index].origins):
                stack = builder.emit(Empty(op.stacked(value.type)))
                for starts, part in _parts(value, producers):
                    element = builder.emit(Reshape((1, *part.type.shape)), part)
                    stack = builder.emit(Insert((0, *starts)), stack, element)
            value = stack
        outputs.append(GraphOutput(entry.name, entry.role, value, entry.updates))
    return Graph(fixed.name, fixed.inputs, (*fixed.nodes, *builder.nodes), tuple(outputs))


def _parts(value: Value, producers: dict[int, Node]) -> list[tuple[tuple[int, ...], Value]]:
    """The parts of a value that was put together, each with its place, so that they go into the stack one by one."""
    parts: list[tuple[tuple[int, ...], Value]] = []
    node = producers[value.index]
    while isinstance(node.op, Insert):
        parts.insert(0, (node.op.starts, node.operands[1]))
        node = producers[node.operands[0].index]
    return parts if parts and isinstance(node.op, Empty) else [((0,) * value.type.rank, value)]
