"""A graph as a picture, and as data for other programs."""

from __future__ import annotations

from collections.abc import Mapping

from compiler.graph.boxes import Arrow, Box, Drawing
from compiler.graph.ir import Direction, Graph, Node, Origin, Value
from compiler.graph.op import Category
from compiler.graph.printer import Json, attributes_of, print_attribute, print_origin


def graph_to_json(graph: Graph) -> dict[str, Json]:
    """Inputs, nodes and outputs; values by index, fields of ops as in the text of the graph, origins by line."""
    inputs: list[Json] = [{"name": i.name, "role": i.role.value, **_value_to_json(i.value)} for i in graph.inputs]
    outputs: list[Json] = [
        {"name": o.name, "role": o.role.value, "updates": o.updates, **_value_to_json(o.value)} for o in graph.outputs
    ]
    return {"name": graph.name, "inputs": inputs, "nodes": list(map(_node_to_json, graph.nodes)), "outputs": outputs}


def _node_to_json(node: Node) -> Json:
    operands: list[Json] = [operand.index for operand in node.operands]
    fields: dict[str, Json] = {name: print_attribute(value) for name, value in attributes_of(node.op)}
    results: list[Json] = [_value_to_json(result) for result in node.results]
    origins: list[Json] = [_origin_to_json(origin) for origin in node.origins]
    return {"op": node.op.name, "operands": operands, "fields": fields, "results": results, "origins": origins}


def _value_to_json(value: Value) -> dict[str, Json]:
    shape: list[Json] = [extent if isinstance(extent, int) else str(extent) for extent in value.type.shape]
    return {"value": value.index, "dtype": value.type.dtype.value, "shape": shape}


def _origin_to_json(origin: Origin) -> Json:
    span = origin.user_span
    place: dict[str, Json] = {"source": span.source.name, "line": span.line, "column": span.column}
    return {**place, "path": origin.path, "direction": origin.direction.value}


def drawing_of(graph: Graph) -> Drawing:
    """Inputs, nodes and outputs as boxes. A constant has no box of its own: its users show its number."""
    numbers = numbers_of(graph)
    boxes: list[Box] = []
    arrows: list[Arrow] = []
    source: dict[int, str] = {}
    for entry in graph.inputs:
        key = source[entry.value.index] = f"input {entry.name}"
        boxes.append(Box(key, (entry.name, str(entry.value.type)), entry.role.value))
    for position, node in enumerate(graph.nodes):
        if node.results[0].index in numbers:
            continue
        key = f"node {position}"
        boxes.append(Box(key, lines_of(node, numbers), kind_of(node), remark_of(node)))
        arrows.extend(_arrows_to(key, node.operands, source))
        source.update((result.index, key) for result in node.results)
    for output in graph.outputs:
        key = f"output {output.name}"
        number = numbers.get(output.value.index)
        text = (output.name,) if number is None else (output.name, number)
        boxes.append(Box(key, text, f"new {output.role.value}" if output.updates else output.role.value))
        arrows.extend(_arrows_to(key, (output.value,), source))
    used = {arrow.source for arrow in arrows}
    return Drawing(graph.name, tuple(b for b in boxes if not b.key.startswith("input") or b.key in used), tuple(arrows))


def remark_of(node: Node) -> str:
    """Where a node comes from."""
    return "\n".join(map(print_origin, node.origins))


def numbers_of(graph: Graph) -> dict[int, str]:
    """The text of each value that is a constant, or a constant repeated."""
    numbers: dict[int, str] = {}
    for node in graph.nodes:
        if node.op.category is Category.SOURCE and node.op.name == "constant":
            numbers[node.results[0].index] = print_attribute(attributes_of(node.op)[0][1])
        elif node.op.name == "broadcast" and node.operands[0].index in numbers:
            numbers[node.results[0].index] = numbers[node.operands[0].index]
    return numbers


def _arrows_to(key: str, operands: tuple[Value, ...], source: dict[int, str]) -> list[Arrow]:
    found = {o.index: Arrow(source[o.index], key, f"%{o.index}") for o in operands if o.index in source}
    return list(found.values())


def lines_of(node: Node, numbers: Mapping[int, str]) -> tuple[str, ...]:
    """The text of the box of a node, whose constants are `numbers`."""
    results = ", ".join(f"%{result.index}" for result in node.results)
    constants = [numbers[operand.index] for operand in node.operands if operand.index in numbers]
    shown = [
        f"{name}={print_attribute(value)}" for name, value in attributes_of(node.op) if name not in ("shape", "rule")
    ]
    details = " ".join((*constants, *shown))
    first = f"{results} = {node.op.name}" + (f" {details}" if len(details) <= 40 else " …")
    return first, str(node.results[0].type)


def kind_of(node: Node) -> str:
    """What decides the colour of a node."""
    directions = {origin.direction for origin in node.origins}
    if node.op.category is Category.CONTRACTION:
        return "contraction"
    return Direction.FORWARD.value if len(directions) != 1 else next(iter(directions)).value
