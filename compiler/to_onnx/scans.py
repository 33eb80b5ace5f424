"""Scans, as ONNX's `Scan`: captures are read from the scope around the body."""

from __future__ import annotations

import numpy as np
from onnx import GraphProto, ValueInfoProto, helper

from compiler.graph.ir import Node, Value
from compiler.ops.scan import Scan, draws
from compiler.to_onnx.emitter import Emitter, Held, scope_of, value_info
from compiler.to_onnx.nodes import by_dependence
from compiler.types import DType, TensorType

_PLACE = TensorType(DType.I64)


def scan(e: Emitter, node: Node) -> None:
    op = node.op
    assert isinstance(op, Scan)
    if op.length == 0:
        _of_no_steps(e, node, op)
        return
    xs = [e.full(operand) for operand in node.operands[: op.scanned]]
    starts = [e.full(operand) for operand in node.operands[op.scanned : op.scanned + op.carries]]
    captures = [e.read(operand) for operand in node.operands[op.scanned + op.carries :]]
    counts_places = not xs or any(map(draws, op.body.nodes))
    if counts_places:
        xs.append(e.constant(np.arange(op.length, dtype=np.int64)))
    direction = int(op.reverse)
    names = e.emit_all(
        "Scan",
        [*starts, *xs],
        len(node.results),
        body=_body(e, op, captures, counts_places),
        num_scan_inputs=len(xs),
        scan_input_directions=[direction] * len(xs),
        scan_output_directions=[direction] * len(op.emitted) or None,
    )
    for result, name in zip(node.results, names, strict=True):
        e.keep(result, name)


def _of_no_steps(e: Emitter, node: Node, op: Scan) -> None:
    for result, operand in zip(node.results, node.operands[op.scanned : op.scanned + op.carries], strict=False):
        e.keep(result, e.full(operand))
    for result in node.results[op.carries :]:
        zero = e.number(0, result.type.dtype)
        e.keep(result, e.emit("Expand", zero, e.extents(result.type.shape)))


def _body(e: Emitter, op: Scan, captures: list[Held], counts_places: bool) -> GraphProto:
    """The graph of a step. Its names are its own, as ONNX wants them different from those around it."""
    scope, label, offset = scope_of(op.body), e.label, e.stream_offset
    results = (*op.next_carries, *op.emitted)
    with e.inside(scope):
        infos = [_input(e, value) for value in (*op.carried_inputs, *op.step_inputs)]
        if counts_places:
            place = e.unique(f"{label}/place")
            infos.append(value_info(place, _PLACE))
            e.stream_offset = _stream_offset(e, op, place, offset)
        for value, held in zip(op.captured_inputs, captures, strict=True):
            e.keep(value, held.name, held.shape)
        e.translate(op.body.nodes)
        made = [e.full(value) for value in results]
    e.stream_offset = offset
    steady, scope.nodes = by_dependence(scope.nodes, [info.name for info in infos])
    e.scope.nodes.extend(steady)  # in front of the scan, once for all steps
    with e.inside(scope):
        # Names that nodes of the body give to nothing else.
        outputs = [e.emit("Identity", name) for name in made]
    types = [value_info(name, value.type) for name, value in zip(outputs, results, strict=True)]
    return helper.make_graph(scope.nodes, e.unique(f"{label}/body"), infos, types)


def _input(e: Emitter, value: Value) -> ValueInfoProto:
    name = e.unique(f"{e.label}/given" if e.label else "given")
    e.keep(value, name)
    return value_info(name, value.type)


def _stream_offset(e: Emitter, op: Scan, place: str, outer: str | None) -> str:
    """What the random streams of the step at this place are more than those of the first place."""
    own = e.emit("Mul", place, e.number(op.stream_step, DType.I64))
    return own if outer is None else e.emit("Add", own, outer)
