"""Reverse-mode differentiation: nodes in, nodes that compute cotangents out, appended to the same builder.

The nodes that come out are ordinary ones, so they can be differentiated again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from compiler.errors.diagnostics import CompilerBug
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Direction, Node, Origin, Value
from compiler.graph.op import Cotangents
from compiler.ops.build import filled
from compiler.ops.elementwise import Add

Gradient: TypeAlias = "Callable[[GraphBuilder, Node, Cotangents], Cotangents]"
"""The cotangents of a node's operands from those of its results."""


def gradient_of(builder: GraphBuilder, node: Node, cotangents: Cotangents) -> Cotangents:
    return node.op.gradient(builder, node, cotangents)


def apply_chain_rule(
    builder: GraphBuilder,
    nodes: Sequence[Node],
    known: Mapping[int, Value],
    wanted: Sequence[Value],
    gradient: Gradient = gradient_of,
) -> list[Value | None]:
    """The cotangent of each `wanted` value, None where nothing reaches it, appended to `builder`.

    `nodes` in order; `known`: cotangents by the index of the value. Only nodes that depend on `wanted` are visited.
    """
    cotangents = cotangents_of(builder, nodes, known, wanted, gradient)
    return [cotangents.get(value.index) for value in wanted]


def cotangents_of(
    builder: GraphBuilder,
    nodes: Sequence[Node],
    known: Mapping[int, Value],
    wanted: Sequence[Value],
    gradient: Gradient = gradient_of,
) -> dict[int, Value]:
    """As `apply_chain_rule`: the cotangents of all values on the way, by the index of the value."""
    path = nodes_on_the_way(nodes, wanted)
    reached = {value.index for value in wanted} | {r.index for node in path for r in node.results}
    cotangents = {index: value for index, value in known.items() if index in reached}
    for node in reversed(path):
        incoming = [cotangents.get(result.index) for result in node.results]
        if any(cotangent is not None for cotangent in incoming):
            with builder.at(backward_origins(node)):
                outgoing = gradient(builder, node, incoming)
                _accumulate(builder, cotangents, reached, node, outgoing)
    return cotangents


def backward_origins(node: Node | None) -> tuple[Origin, ...]:
    return () if node is None else tuple(origin.towards(Direction.BACKWARD) for origin in node.origins)


def nodes_on_the_way(nodes: Sequence[Node], wanted: Sequence[Value]) -> list[Node]:
    """The nodes with a result of floats that depends on a wanted value."""
    reached = {value.index for value in wanted}
    path: list[Node] = []
    for node in nodes:
        depends = any(operand.index in reached for operand in node.operands)
        if depends and any(result.type.dtype.is_float for result in node.results):
            path.append(node)
            reached.update(result.index for result in node.results if result.type.dtype.is_float)
    return path


def _accumulate(
    builder: GraphBuilder, cotangents: dict[int, Value], reached: set[int], node: Node, outgoing: Sequence[Value | None]
) -> None:
    """Add the cotangents of a node's operands to those that other uses gave them."""
    for operand, cotangent in zip(node.operands, outgoing, strict=True):
        if cotangent is None or operand.index not in reached:
            continue
        before = cotangents.get(operand.index)
        cotangents[operand.index] = cotangent if before is None else builder.emit(Add(), before, cotangent)


def gradients_of(
    builder: GraphBuilder,
    nodes: Sequence[Node],
    loss: Value,
    wanted: Sequence[Value],
    seed_cotangent: Value | None = None,
) -> list[Value | None]:
    """The cotangent of each `wanted` value, None where it does not reach `loss`.

    `nodes`: those that computed `loss`, in order. `seed_cotangent`: the cotangent of `loss`; 1 if it is left out,
    which needs a scalar loss. Only nodes between `wanted` and `loss` are visited.
    """
    if seed_cotangent is None and loss.type.shape:
        raise CompilerBug("autodiff", f"a loss of type {loss.type} needs a cotangent to start from")
    cotangent = _one(builder, loss) if seed_cotangent is None else seed_cotangent
    return apply_chain_rule(builder, nodes, {loss.index: cotangent}, wanted)


def _one(builder: GraphBuilder, loss: Value) -> Value:
    with builder.at(backward_origins(builder.definition(loss))):
        return filled(builder, 1, loss.type)
