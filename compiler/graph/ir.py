"""The graph: typed tensor operations in execution order, whose operands are values, not names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum

from compiler.errors.diagnostics import Span
from compiler.graph.op import Op
from compiler.support.record import record
from compiler.types import TensorType


class Direction(Enum):
    """Which part of a step a node serves."""

    FORWARD = "forward"
    BACKWARD = "backward"
    UPDATE = "update"


@record
class Origin:
    """Where a node comes from: the line, the calls that led there (outermost first), the layer's path."""

    span: Span
    calls: tuple[Span, ...] = ()
    path: str = ""
    direction: Direction = Direction.FORWARD

    def __hash__(self) -> int:
        return hash((self.span, self.path))  # these tell most apart; an enumeration's own hash takes long

    def towards(self, direction: Direction) -> Origin:
        """The same place, for a node that serves `direction`."""
        return Origin(self.span, self.calls, self.path, direction)

    @property
    def user_span(self) -> Span:
        """The innermost place in the user's own text: a line of the library stands for the call that reached it."""
        places = (*self.calls, self.span)
        return next((p for p in reversed(places) if not p.source.is_library), self.span)

    @property
    def user_line(self) -> tuple[str, int]:
        """The file and the line of that place."""
        return self.user_span.source.name, self.user_span.line


@record
class Value:
    """The result of a node or an input of the graph. Two values are the same when their index is."""

    index: int
    type: TensorType

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Value) and self.index == other.index and self.type == other.type

    def __hash__(self) -> int:
        return self.index


@record
class Node:
    """One application of an op."""

    op: Op
    operands: tuple[Value, ...]
    results: tuple[Value, ...]
    origins: tuple[Origin, ...] = ()


class Role(Enum):
    """The role of an input or output for the runtime."""

    DATA = "data"  # fed with each batch
    PARAMETER = "parameter"
    STATE = "state"  # saved with the model, not trained
    OPTIMIZER_STATE = "optimizer_state"
    SETTING = "setting"  # a float setting that is passed at run time
    SEED = "seed"  # i64 scalar, fixed for a run
    STEP = "step"  # i64 scalar: updates made so far
    OUTPUT = "output"  # a named result: logits, loss, a metric


PERSISTENT = (Role.PARAMETER, Role.STATE, Role.OPTIMIZER_STATE)
"""The roles of tensors that outlast a step."""


@record
class GraphInput:
    name: str
    role: Role
    value: Value


@record
class GraphOutput:
    """A named result. `updates` names the input whose new content it is (a parameter, a state)."""

    name: str
    role: Role
    value: Value
    updates: str | None = None


@record
class Graph:
    """A program without control flow. Nodes stand in execution order; each value is defined once, before its uses."""

    name: str
    inputs: tuple[GraphInput, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[GraphOutput, ...]

    def input(self, name: str) -> GraphInput:
        return next(i for i in self.inputs if i.name == name)

    def output(self, name: str) -> GraphOutput:
        return next(o for o in self.outputs if o.name == name)


def depending(nodes: Iterable[Node], values: Iterable[int], starts: Callable[[Node], bool] | None = None) -> set[int]:
    """The indices of `values` and of all that depends on them, or on a node that `starts`; nodes stand in order."""
    found = set(values)
    for node in nodes:
        if any(operand.index in found for operand in node.operands) or (starts is not None and starts(node)):
            found.update(result.index for result in node.results)
    return found


def needed_by(
    nodes: Sequence[Node], values: Iterable[int], needs: Callable[[Node], Iterable[Value]] = lambda node: node.operands
) -> tuple[list[Node], set[int]]:
    """The nodes that make `values` and what these need, in order; and the indices of `values` and of all they need."""
    found, kept = set(values), list[Node]()
    for node in reversed(nodes):
        if any(result.index in found for result in node.results):
            kept.append(node)
            found.update([value.index for value in needs(node)])
    return kept[::-1], found


def behind(value: Value, makers: Mapping[int, Node], kinds: tuple[type[Op], ...]) -> Value:
    """The value that ops of these kinds lead to; `makers` has nodes by the indices of their results."""
    while (maker := makers.get(value.index)) is not None and isinstance(maker.op, kinds):
        value = maker.operands[0]
    return value
