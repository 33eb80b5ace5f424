"""Checks the invariants of a graph; a broken one is a fault of the compiler."""

from __future__ import annotations

from compiler.errors.diagnostics import CompilerBug
from compiler.graph.ir import Graph, Node, Value
from compiler.graph.op import Category, TypeRuleError
from compiler.graph.printer import attributes_of, print_graph
from compiler.types import TensorType


def verify(graph: Graph, stage: str = "graph") -> None:
    """Raise `CompilerBug` unless each value is defined once, before its uses, with the type of its op's rule.

    The bodies of scans and the rules of gradients are graphs, too.
    """
    try:
        expect_valid(graph)
    except InvalidGraph as broken:
        raise CompilerBug(stage, str(broken), print_graph(graph)) from None


def expect_valid(graph: Graph) -> None:
    """As `verify`, for a graph that a user wrote. Raises `InvalidGraph`."""
    known: dict[int, TensorType] = {}
    for entry in graph.inputs:
        _define(known, entry.value, f"input {entry.name}")
    for node in graph.nodes:
        _check_node(known, node)
    for output in graph.outputs:
        _expect_known(known, output.value, f"output {output.name}")
    _check_names(graph)


class InvalidGraph(Exception):
    """An invariant that does not hold."""


def _define(known: dict[int, TensorType], value: Value, place: str) -> None:
    if value.index in known:
        raise InvalidGraph(f"%{value.index} is defined a second time by {place}")
    known[value.index] = value.type


def _expect_known(known: dict[int, TensorType], value: Value, place: str) -> None:
    if value.index not in known:
        raise InvalidGraph(f"{place} uses %{value.index} before its definition")
    if known[value.index] != value.type:
        raise InvalidGraph(f"{place} takes %{value.index} for {value.type}, but it is {known[value.index]}")


def _check_node(known: dict[int, TensorType], node: Node) -> None:
    for operand in node.operands:
        if known.get(operand.index) is not operand.type:  # as a rule it is, and need not be compared
            _expect_known(known, operand, _place(node))
    if node.op.category is Category.CONTROL:
        for _, value in attributes_of(node.op):
            if isinstance(value, Graph):
                expect_valid(value)
    try:
        types = node.op.result_types([operand.type for operand in node.operands])
    except TypeRuleError as error:
        raise InvalidGraph(f"{_place(node)}: {error}") from None
    if types != tuple([result.type for result in node.results]):
        shown = ", ".join(map(str, types))
        raise InvalidGraph(f"{_place(node)} gives {shown} by its rule, but its results have other types")
    for result in node.results:
        if result.index in known:
            _define(known, result, _place(node))
        known[result.index] = result.type


def _place(node: Node) -> str:
    return f"{node.op.name} (giving {', '.join(f'%{r.index}' for r in node.results)})"


def _check_names(graph: Graph) -> None:
    inputs = {entry.name: entry.value.type for entry in graph.inputs}
    outputs = {output.name for output in graph.outputs}
    if len(inputs) != len(graph.inputs) or len(outputs) != len(graph.outputs):
        raise InvalidGraph("two inputs, or two outputs, have the same name")
    updated = set[str]()
    for output in graph.outputs:
        if output.updates is None:
            continue
        if output.updates not in inputs:
            raise InvalidGraph(f"output {output.name} updates {output.updates}, which is no input")
        if inputs[output.updates] != output.value.type:
            raise InvalidGraph(f"output {output.name} is {output.value.type}, but updates {inputs[output.updates]}")
        if output.updates in updated:
            raise InvalidGraph(f"two outputs update {output.updates}")
        updated.add(output.updates)
