"""Graph to text, one node a line; `reader` reads the text back."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields, is_dataclass
from types import UnionType
from typing import Any, TypeAlias, Union, get_args, get_origin, get_type_hints

from compiler.errors.diagnostics import CompilerBug
from compiler.graph.ir import Graph, GraphInput, GraphOutput, Node, Origin, Value
from compiler.graph.op import Op
from compiler.support.record import record
from compiler.types import BatchExtent, DType, TensorType


def print_graph(graph: Graph, origins: bool = False) -> str:
    """The whole graph as text; with `origins`, each node ends with a comment that says where it comes from."""
    return "\n".join(_graph_lines(graph, origins)) + "\n"


def print_node(node: Node, origins: bool = False) -> str:
    """One node as a line of the text; with `origins`, a comment at its end says where it comes from."""
    results = ", ".join(f"{_name(r)}: {r.type}" for r in node.results)
    operands = ", ".join(map(_name, node.operands))
    attributes = "".join(f" {name}={print_attribute(value)}" for name, value in attributes_of(node.op))
    comment = "; ".join(map(print_origin, node.origins)) if origins else ""
    return f"{results} = {node.op.name}({operands}){attributes}" + (f"  # {comment}" if comment else "")


def print_input(entry: GraphInput) -> str:
    return f"  input {json.dumps(entry.name)} {entry.role.value} {_name(entry.value)}: {entry.value.type}"


def print_output(output: GraphOutput) -> str:
    updates = "" if output.updates is None else f" updates {json.dumps(output.updates)}"
    return f"  output {json.dumps(output.name)} {output.role.value} {_name(output.value)}{updates}"


def print_origin(origin: Origin) -> str:
    """`model.dl:12:3 encoder.dense backward`."""
    words = (str(origin.user_span), origin.path, origin.direction.value)
    return " ".join(word for word in words if word)


def print_attribute(value: Attribute) -> str:
    """A field's value as text that can be told from every other kind: `3`, `3.0`, `f32`, `f32[3]`, `2*batch`, `[0]`."""
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case int() | float() | BatchExtent() | TensorType():
            return str(value)
        case DType():
            return value.value
        case tuple():
            return f"[{', '.join(map(print_attribute, value))}]"
        case Graph():
            return "{\n" + "\n".join("    " + line for line in _graph_lines(value, origins=False)) + "\n  }"
        case _:
            raise CompilerBug("print_graph", f"an op has a field of type {type(value).__name__}, which has no text")


def _graph_lines(graph: Graph, origins: bool) -> list[str]:
    nodes = (f"  {print_node(node, origins)}" for node in graph.nodes)
    interface = map(print_input, graph.inputs), map(print_output, graph.outputs)
    return [f"graph {json.dumps(graph.name)}", *interface[0], *nodes, *interface[1], "end"]


def _name(value: Value) -> str:
    return f"%{value.index}"


Json: TypeAlias = "bool | int | str | list[Json] | dict[str, Json] | None"
Attribute: TypeAlias = "bool | int | float | DType | BatchExtent | TensorType | Graph | tuple[Attribute, ...] | None"


@record
class OpField:
    """A field of an op's class: its type, and whether the class has no default for it."""

    type: object
    is_needed: bool


def attributes_of(op: Op) -> list[tuple[str, Attribute]]:
    """The fields of an op, in order."""
    assert is_dataclass(op)
    return [(field.name, getattr(op, field.name)) for field in fields(op)]


def fields_of(kind: type[Op]) -> dict[str, OpField]:
    """The fields of an op's class by name, in order."""
    assert is_dataclass(kind)
    types: dict[str, Any] = get_type_hints(kind)
    return {field.name: OpField(types[field.name], field.default is MISSING) for field in fields(kind)}


def fits(value: Attribute, type_: object) -> bool:
    """Whether a value that was read may stand in a field of the type; an integer may stand for a float."""
    if get_origin(type_) is tuple:
        return isinstance(value, tuple) and all(fits(item, get_args(type_)[0]) for item in value)
    if get_origin(type_) in (Union, UnionType):
        return any(fits(value, choice) for choice in get_args(type_))
    if type_ is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(type_, type) and isinstance(value, type_) and (type_ is bool or not isinstance(value, bool))
