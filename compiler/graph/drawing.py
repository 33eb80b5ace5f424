"""A graph as boxes and arrows, for a picture: what `dot` and `svg` draw, and any other stage can give."""

from __future__ import annotations

from dataclasses import dataclass

from compiler.graph.ir import Direction, Graph, Node, Value
from compiler.graph.op import Category
from compiler.graph.printer import attributes_of, print_attribute, print_origin


@dataclass(frozen=True, slots=True)
class Box:
    """One thing in a picture: its text by lines, the kind that decides its colour, and what a pointer shows."""

    key: str
    lines: tuple[str, ...]
    kind: str
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Arrow:
    """From one box to another, by their keys. `name` is how the target's text may refer to the source."""

    source: str
    target: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Drawing:
    """Boxes in an order in which arrows point forward."""

    name: str
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]


def drawing_of(graph: Graph) -> Drawing:
    """Inputs, nodes and outputs as boxes. A constant has no box of its own: its users show its number."""
    numbers = _numbers(graph)
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
        boxes.append(Box(key, _lines_of(node, numbers), _kind_of(node), "\n".join(map(print_origin, node.origins))))
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


def _numbers(graph: Graph) -> dict[int, str]:
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


def _lines_of(node: Node, numbers: dict[int, str]) -> tuple[str, ...]:
    results = ", ".join(f"%{result.index}" for result in node.results)
    constants = [numbers[operand.index] for operand in node.operands if operand.index in numbers]
    shown = [
        f"{name}={print_attribute(value)}" for name, value in attributes_of(node.op) if name not in ("shape", "rule")
    ]
    details = " ".join((*constants, *shown))
    first = f"{results} = {node.op.name}" + (f" {details}" if len(details) <= 40 else " …")
    return first, str(node.results[0].type)


def _kind_of(node: Node) -> str:
    directions = {origin.direction for origin in node.origins}
    if node.op.category is Category.CONTRACTION:
        return "contraction"
    return Direction.FORWARD.value if len(directions) != 1 else next(iter(directions)).value
