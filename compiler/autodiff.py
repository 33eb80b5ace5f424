"""Reverse-mode differentiation: nodes in, nodes that compute cotangents out, appended to the same builder.

The nodes that come out are ordinary ones, so they can be differentiated again.
"""

from __future__ import annotations

from collections.abc import Sequence

from compiler.errors.diagnostics import CompilerBug
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Node, Value
from compiler.ops.build import filled
from compiler.ops.chain_rule import apply_chain_rule, backward_origins


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
