"""A graph with the content of its tensors becomes an ONNX model, which is checked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, checker, helper, numpy_helper

from compiler.errors.diagnostics import UsageError
from compiler.graph.ir import PERSISTENT, Graph, GraphInput, GraphOutput, Node, Role
from compiler.graph.op import Op
from compiler.ops.contraction import Contraction
from compiler.ops.scan import Scan
from compiler.support.arrays import Array
from compiler.support.record import record
from compiler.to_onnx.draws import DOMAIN, DOMAIN_VERSION, DRAWS
from compiler.to_onnx.elementwise import ELEMENTWISE, Translation
from compiler.to_onnx.emitter import Emitter, NotInOnnxError, value_info
from compiler.to_onnx.movement import MOVEMENT
from compiler.to_onnx.nodes import needed, read_by, rename
from compiler.to_onnx.products import contraction
from compiler.to_onnx.reduction import REDUCTION
from compiler.to_onnx.scans import scan
from compiler.types import numpy_dtype

OPSETS = range(17, 22)
UPDATED = ":new"
"""Ends the name of the output that holds a tensor's new content."""
TRANSLATIONS: Mapping[type[Op], Translation] = {
    **ELEMENTWISE,
    **MOVEMENT,
    **REDUCTION,
    **DRAWS,
    Contraction: contraction,
    Scan: scan,
}
_NUMBERS = (Role.SETTING, Role.SEED, Role.STEP)
_MOST_BYTES = 2**31 - 2**24  # of the weights in a protocol buffer, which has less than 2 GiB


@record
class Contents:
    """`tensors` by their names are constants of the model; those that are missing are inputs.

    `numbers` has settings, seed and step: constants, and those that are `adjustable` the usual values of inputs, which
    need not be given. `notes` describe the model.
    """

    tensors: Mapping[str, Array] = field(default_factory=dict[str, "Array"])
    numbers: Mapping[str, float] = field(default_factory=dict[str, float])
    adjustable: tuple[str, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict[str, str])


def onnx_model(graph: Graph, contents: Contents, opset: int) -> ModelProto:
    """The model of a graph. Raises UsageError, with all operations that ONNX does not have."""
    e = Emitter(opset, graph)
    refused: dict[str, str] = {}
    e.translate = lambda nodes: _translate(e, nodes, refused)
    for entry in (*graph.inputs, *graph.outputs):
        e.unique(_name(entry))
    _expect_distinct(graph)
    inputs = [entry.name for entry in graph.inputs if _input(e, entry, contents)]
    e.translate(graph.nodes)
    names: dict[str, str] = {}
    for output in graph.outputs:
        try:
            names[_name(output)] = e.full(output.value)
        except NotInOnnxError as reason:
            refused[f"the output `{output.name}`"] = str(reason)
    if refused:
        listed = "".join(f"\n  {place}: {reason}" for place, reason in refused.items())
        raise UsageError(f"{graph.name} cannot be written as ONNX of opset {opset}:{listed}", "rewrite these lines")
    nodes = _named([*e.first.nodes, *e.scope.nodes], names, {entry.name for entry in graph.inputs} | e.given)
    nodes = needed(nodes, names)
    read = {*read_by(nodes), *inputs}
    weights = [entry for entry in graph.inputs if entry.name in contents.tensors and entry.name in read]
    infos = [value_info(entry.name, entry.value.type) for entry in graph.inputs if entry.name in inputs]
    infos += [value_info(entry.name, entry.value.type) for entry in weights]
    made = [value_info(_name(output), output.value.type) for output in graph.outputs]
    kept = [tensor for name, tensor in e.initializers.items() if name in read]
    model = _checked(helper.make_graph(nodes, graph.name, infos, made, kept), e, contents, graph)
    _fill(model.graph, {entry.name: contents.tensors[entry.name] for entry in weights})
    return model


def _fill(proto: GraphProto, weights: Mapping[str, Array]) -> None:
    """The last inputs, for which the model was checked, become constants; with these, a check takes seconds."""
    if sum(array.nbytes for array in weights.values()) > _MOST_BYTES:
        raise UsageError(f"{proto.name} has more than 2 GiB, which no ONNX file holds", "take another form: --to c")
    del proto.input[len(proto.input) - len(weights) :]
    for name, array in weights.items():
        proto.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name))


def _name(entry: GraphInput | GraphOutput) -> str:
    is_update = isinstance(entry, GraphOutput) and entry.updates is not None
    return entry.name + UPDATED if is_update else entry.name


def _expect_distinct(graph: Graph) -> None:
    names = [_name(entry) for entry in (*graph.inputs, *graph.outputs)]
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        message = f"`{double}` names two inputs, weights or outputs of {graph.name}, which ONNX does not allow"
        raise UsageError(message, "give one of them another name")


def _input(e: Emitter, entry: GraphInput, contents: Contents) -> bool:
    """Declare an input of the graph; whether it is one of the model."""
    e.keep(entry.value, entry.name)
    if entry.role is Role.DATA:
        e.knows_batch_by(entry.name, entry.value.type)
    if entry.role in PERSISTENT:
        return entry.name not in contents.tensors
    if entry.role not in _NUMBERS or entry.name not in contents.numbers:
        return True
    number = np.array(contents.numbers[entry.name], numpy_dtype(entry.value.type.dtype))
    if entry.name not in contents.adjustable:
        e.set_constant(entry.name, number)
        return False
    e.initializers[entry.name] = numpy_helper.from_array(number, entry.name)
    return True


def _translate(e: Emitter, nodes: Sequence[Node], refused: dict[str, str]) -> None:
    """Append the operators of all nodes; those that cannot be translated are noted with their places."""
    label, place = e.label, e.place
    for node in nodes:
        origin = node.origins[0] if node.origins else None
        span = None if origin is None else origin.user_span
        e.label = "" if origin is None else origin.path
        e.place = "" if span is None else f"{Path(span.source.name).name}:{span.line}"
        try:
            TRANSLATIONS[type(node.op)](e, node)
        except NotInOnnxError as reason:
            where = f"{span.source.name}:{span.line}" if span is not None else "a place that is not known"
            refused[f"{where}, `{node.op.name}`"] = str(reason)
            for result in node.results:
                e.keep(result, "refused")
    e.label, e.place = label, place


def _named(nodes: list[NodeProto], outputs: Mapping[str, str], given: set[str]) -> list[NodeProto]:
    """The nodes with the names of outputs; what is given already, or is another output too, is copied."""
    renamed: dict[str, str] = {}
    copies: list[NodeProto] = []
    for name, value in outputs.items():
        if value in given or value in renamed:
            copies.append(helper.make_node("Identity", [renamed.get(value, value)], [name], name))
        else:
            renamed[value] = name
    rename(nodes, renamed)
    return [*nodes, *copies]


def _checked(proto: GraphProto, e: Emitter, contents: Contents, graph: Graph) -> ModelProto:
    imports = [helper.make_opsetid("", e.opset)]
    if e.functions:
        imports.append(helper.make_opsetid(DOMAIN, DOMAIN_VERSION))
    model = helper.make_model(
        proto,
        opset_imports=imports,
        functions=[*e.functions.values()],
        ir_version=helper.find_min_ir_version_for([helper.make_opsetid("", e.opset)]),
        producer_name="dlc",
        producer_version=contents.notes.get("dlc.version", ""),
    )
    updates = {_name(output): output.updates for output in graph.outputs if output.updates is not None}
    notes = {**contents.notes, **({"dlc.updates": json.dumps(updates)} if updates else {})}
    helper.set_model_props(model, notes)
    checker.check_model(model, full_check=True)  # pyright: ignore[reportUnknownMemberType]
    return model
