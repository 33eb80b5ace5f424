"""`accumulate = n`: whether a loss is a function of sums over several batches, and the values kept between them."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.errors.diagnostics import Span, hint
from compiler.frontend.failures import failure
from compiler.frontend.program import Accumulation, OptimizerState, ParameterSpec
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role
from compiler.ops.batch_sums import ledger_of, made_of_sums, slopes_of
from compiler.ops.build import filled
from compiler.types import TensorType


def accumulation_of(
    batches: int, training: Graph, trained: Sequence[ParameterSpec], metrics: Sequence[str], loss: Span
) -> Accumulation:
    """The tensors that add up over the batches of an update. `loss` is the place of its expression.

    What is not made of sums over rows is told by the epoch, not by the update. Raises Failure for a loss that does not
    follow from such sums.
    """
    if not made_of_sums(training, ("loss",)):
        raise failure(
            "E0614",
            "`accumulate` cannot put `loss` together from several batches: it is not made of sums over rows",
            loss,
            hint("`sum` and `mean` over the batch can be added up, a maximum or a variance cannot"),
        )
    ledger = ledger_of(training, made_of_sums(training, metrics))
    if slopes_of(_continued(training), ledger.loss, training.output("loss").value, ledger.trained) is None:
        raise failure(
            "E0614",
            "`accumulate` cannot add up gradients of this loss: it is not linear in its sums over rows",
            loss,
            hint("a mean of rows is, a root of a mean or a quotient of two sums that depend on parameters is not"),
        )
    named = [(Accumulation.gradient(spec.path), spec.type) for spec in trained]
    named += [(Accumulation.count(number), value.type) for number, value in enumerate(ledger.counts)]
    named += [(Accumulation.sum(number), value.type) for number, value in enumerate(ledger.sums)]
    states = tuple(OptimizerState(name, type_, _zeros(type_)) for name, type_ in named)
    return Accumulation(batches, len(ledger.counts), states)


def _continued(graph: Graph) -> GraphBuilder:
    builder = GraphBuilder.continuing(graph)
    for node in graph.nodes:
        builder.append(node)
    return builder


def _zeros(type_: TensorType) -> Graph:
    builder = GraphBuilder("zeros")
    builder.output("value", Role.OUTPUT, filled(builder, 0, type_))
    return builder.build()
