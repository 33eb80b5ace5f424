"""Names of values in the text of a derivative: those of the model's own text, with a `d` for gradients."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from compiler.graph.ir import Graph, GraphInput, Node, Role, Value
from compiler.inspection.gradient.derivative import Derivative
from compiler.inspection.gradient.outline import Outline, Segment
from compiler.inspection.levels import Level
from compiler.ops.scan import Scan
from compiler.syntax import tree, walk
from compiler.syntax.lexer import RESERVED

_TAKEN = frozenset(RESERVED) | {"batch", "inf", "pi", "training", "sum", "max", "min", "mean", "forward", "backward"}
_GENERIC = {"contraction": "z", "sum": "total", "max": "most", "scan": "last", "scatter_add": "total"}
_Place = tuple[str, int, int, int, int]


class Names:
    """The names of all values, whatever function they stand in; a function makes them differ where they meet."""

    def __init__(self, derivative: Derivative, outline: Outline) -> None:
        self._inputs = outline.inputs
        self._slopes, self._same = derivative.slopes, derivative.same
        self._outputs = {o.value.index: o.name for o in derivative.graph.outputs if o.name != "loss"}
        self._loss = derivative.graph.output("loss").value.index
        written = dict(_written(derivative.root))
        self._written = dict(_assigned(derivative.graph, written))

    def of(self, value: Value, segment: Segment, makers: Mapping[int, Node]) -> str:
        """The name of a value in the function of a segment, which others may have too."""
        return _identifier(self._of(value.index, segment, makers))

    def _of(self, index: int, segment: Segment, makers: Mapping[int, Node]) -> str:
        own = self._parameters(segment).get(index)
        if own is not None:
            return own
        if index in self._inputs:
            return _of_input(self._inputs[index], segment)
        if index in self._outputs:
            return f"d{_below(self._outputs[index], segment)}"
        if index == self._loss:
            return "loss"
        if index in self._slopes:
            return f"d{self._of(self._slopes[index], segment, makers)}"
        if index in self._written:
            return self._written[index]
        node = makers.get(index)
        return "t" if node is None else _GENERIC.get(node.op.name, "t")

    def _parameters(self, segment: Segment) -> dict[int, str]:
        """The parameters of the declaration that a segment applies, by the values that it is applied to."""
        if segment.level is None or len(segment.level.applied) <= segment.round:
            return {}
        operands = segment.level.applied[segment.round].operands
        return {self._same.get(value.index, value.index): name for name, value in operands.items()}

    def is_named(self, value: Value, segment: Segment) -> bool:
        """Whether the model's own text gives the value, or what it is the gradient of, a name."""
        index = value.index
        while index in self._slopes and index not in self._outputs:
            index = self._slopes[index]
        return index in self._written or index in self._outputs or index in self._parameters(segment)


def _of_input(entry: GraphInput, segment: Segment) -> str:
    if entry.role is not Role.SETTING:
        return _below(entry.name, segment)
    return entry.name.rpartition(".")[2] if re.fullmatch(r"[\w.]+", entry.name) else "factor"


def _below(path: str, segment: Segment) -> str:
    """A path as it is seen from inside of a layer."""
    level = segment.level
    own = level.paths[segment.round] if level is not None and len(level.paths) > segment.round else ""
    return path[len(own) + 1 :] if own and path.startswith(f"{own}.") else path


def _identifier(text: str) -> str:
    word = re.sub(r"\W", "_", text, flags=re.ASCII).strip("_") or "t"
    word = f"v{word}" if word[0].isdigit() else word
    return f"{word}_" if word in _TAKEN else word


def free(name: str, taken: set[str]) -> str:
    """The name, or with a number, as no other of the function has it; it is taken now."""
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name}_{number}"
    taken.add(found)
    return found


def _written(level: Level) -> Iterator[tuple[_Place, str]]:
    """The name that a statement gives to a value, by the place of the value's expression."""
    seen: set[int] = set()
    for inner in level.walk():
        declaration = inner.declaration
        if declaration is not None and id(declaration) not in seen:
            seen.add(id(declaration))
            yield from _of_block(declaration.body)


def _of_block(block: tree.Block) -> Iterator[tuple[_Place, str]]:
    for statement in walk.statements_of(block):
        match statement:
            case tree.Assign(targets, value) if len(targets) == 1:
                yield _place(value), targets[0].id
            case _:
                continue


def _place(expression: tree.Expression) -> _Place:
    span = expression.span
    return span.source.name, span.line, span.column, span.end_line, span.end_column


def _assigned(graph: Graph, written: Mapping[_Place, str]) -> Iterator[tuple[int, str]]:
    """Values by index that an expression of a statement gives, all of it."""
    for node in _all(graph):
        for origin in node.origins[:1]:
            span = origin.span
            name = written.get((span.source.name, span.line, span.column, span.end_line, span.end_column))
            if name is not None and origin.direction.value == "forward" and len(node.results) == 1:
                yield node.results[0].index, name


def _all(graph: Graph) -> Iterator[Node]:
    for node in graph.nodes:
        yield node
        if isinstance(node.op, Scan):
            yield from _all(node.op.body)


def is_parameter(role: Role) -> bool:
    return role in (Role.PARAMETER, Role.STATE)
