"""Ops that compute nothing and steer differentiation; they are gone after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import final

from compiler.errors.diagnostics import CompilerBug
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Direction, Graph, Node, Value
from compiler.graph.op import Category, Cotangents, FlatOp, Op, TypeRuleError, Types
from compiler.ops import rules
from compiler.ops.build import filled
from compiler.support.arrays import Array
from compiler.support.record import record
from compiler.types import TensorType


@final
class StopGradient(FlatOp):
    """Its operand, to which no cotangent flows."""

    name = "stop_gradient"
    category = Category.CONTROL

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        rules.expect_operands(self.name, operands, 1)
        return (operands[0],)

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        return (operands[0],)


@final
@record
class CustomGradient(Op):
    """Operands (x1..xn, y1..ym) to (y1..ym) unchanged; `rule` gives the cotangents of x1..xn.

    Inputs of `rule` in order: each x, each y, and for each y its cotangent. Outputs: `d0`, `d1`, … by the position
    of x, for each x of floats.
    """

    rule: Graph
    inputs: int
    name = "custom_gradient"
    category = Category.CONTROL

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        xs, ys = tuple(operands[: self.inputs]), tuple(operands[self.inputs :])
        expected = (*xs, *ys, *ys)
        if len(xs) != self.inputs or tuple(i.value.type for i in self.rule.inputs) != expected:
            raise TypeRuleError(f"the gradient takes {len(self.rule.inputs)} tensors that do not fit its function")
        given = {o.name: o.value.type for o in self.rule.outputs}
        for position, x in enumerate(xs):
            if x.dtype.is_float and given.get(f"d{position}") != x:
                shown = given.get(f"d{position}", "nothing")
                raise TypeRuleError(f"the gradient gives {shown} for parameter {position + 1}, which is {x}")
        return ys

    def gradient(self, builder: GraphBuilder, node: Node, cotangents: Cotangents) -> Cotangents:
        ys = node.results
        known = [filled(builder, 0, y.type) if dy is None else dy for y, dy in zip(ys, cotangents, strict=True)]
        # The results, not the operands that they equal: a further derivative goes from them to x by this rule again.
        arguments = (*node.operands[: self.inputs], *ys, *known)
        slopes = builder.inline(self.rule, arguments, lambda origin: origin.towards(Direction.BACKWARD))
        return (*(slopes.get(f"d{i}") for i in range(self.inputs)), *(None for _ in ys))

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        return tuple(operands[self.inputs :])


@final
class Objective(Op):
    """Of a point [n]: the loss there and its gradient [n]; with a direction [n], also the Hessian's product with it.

    `objective(p)` in an optimizer stands for a copy of the model, the loss and their derivatives on the batch of the
    step, which `training_step` puts in its place.
    """

    name = "objective"
    category = Category.CONTROL

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        if len(operands) not in (1, 2) or operands[0].rank != 1 or operands[-1] != operands[0]:
            shown = " and ".join(map(str, operands)) or "nothing"
            raise TypeRuleError(f"the objective takes a point, and a direction of the same type, but got {shown}")
        return (TensorType(operands[0].dtype), *operands)

    def gradient(self, builder: GraphBuilder, node: Node, cotangents: Cotangents) -> Cotangents:
        raise CompilerBug("autodiff", "the objective has not been put in its place")

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        raise CompilerBug("reference target", "the objective has not been put in its place")


def resolve_custom_gradients(graph: Graph) -> Graph:
    """The graph without ops that steer differentiation, which stand for values that it has anyway."""
    if not any(isinstance(node.op, (StopGradient, CustomGradient)) for node in graph.nodes):
        return graph
    known: dict[int, Value] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        operands = node.operands
        for operand in operands:
            if operand.index in known:
                operands = tuple([known.get(o.index, o) for o in operands])
                break
        if isinstance(node.op, StopGradient):
            known[node.results[0].index] = operands[0]
        elif isinstance(node.op, CustomGradient):
            known.update(zip((r.index for r in node.results), operands[node.op.inputs :], strict=True))
        else:
            nodes.append(node if operands is node.operands else Node(node.op, operands, node.results, node.origins))
    outputs = tuple(replace(o, value=known[o.value.index]) if o.value.index in known else o for o in graph.outputs)
    return Graph(graph.name, graph.inputs, tuple(nodes), outputs)
