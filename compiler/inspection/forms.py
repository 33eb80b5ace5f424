"""The forms of a program that its work is counted in, and the operations of their nodes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from compiler.frontend.program import Program
from compiler.graph.ir import Graph, Node
from compiler.graph.op import Category
from compiler.interface import Options
from compiler.ops.contraction import Contraction
from compiler.ops.reduction import CumulativeSum, Max, Min, Moments, Sum
from compiler.ops.scan import Scan
from compiler.pipeline import simplified
from compiler.programs.kinds import TRAINING, with_products
from compiler.programs.load import complete, in_precision
from compiler.programs.steps.sampling import sampling_graph
from compiler.programs.steps.training_step import prediction_graph, training_step
from compiler.support.record import record
from compiler.types import at_batch


@record(eq=False)
class Forms:
    """The forms of a program that its work is counted in: the graphs of a prediction and of a step, simplified.

    A bare model has no step: its step is its forward pass. Of a `sampler`, all are its graph.
    """

    program: Program
    options: Options
    training: Graph  # the step as it is before any pass
    forward: Graph
    step: Graph
    sampler: str = ""


def forms_of(program: Program, options: Options, sampler: str = "") -> Forms:
    program = in_precision(complete(program), options)
    if sampler:
        graph = sampling_graph(program, sampler)
        read = {entry.name for entry in graph.inputs}
        program = replace(program, parameters=tuple(p for p in program.parameters if p.path in read))
        once = simplified(graph)
        return Forms(program, options, graph, once, once, sampler)
    if program.plan is not None:  # a step computes batch by batch where it takes several
        options = replace(options, batch=max(1, options.batch // program.plan.batches))
        options = with_products(program, TRAINING, options)
    predicting = prediction_graph(program)
    training = training_step(program) if program.plan is not None else predicting
    return Forms(program, options, training, simplified(predicting), simplified(training))


def flops_of(nodes: Sequence[Node], batch: int) -> int:
    """Two for each multiply-add of a contraction, one for each element of other arithmetic."""
    return sum(flops for _, flops in work_of_nodes(nodes, batch))


def work_of_nodes(nodes: Sequence[Node], batch: int, times: int = 1) -> Iterator[tuple[Node, int]]:
    """Each node with its operations; those of a scan's body count for every step."""
    for node in nodes:
        if isinstance(node.op, Scan):
            yield from work_of_nodes(node.op.body.nodes, batch, times * node.op.length)
        yield node, times * _node_flops(node, batch)


def _node_flops(node: Node, batch: int) -> int:
    result = math.prod(at_batch(node.results[0].type.shape, batch))
    match node.op:
        case Contraction(lhs=lhs, rhs=rhs, out=out):
            shapes = (node.operands[0].type.shape, node.operands[1].type.shape)
            extents = dict(zip((*lhs, *rhs), (e for s in shapes for e in at_batch(s, batch)), strict=True))
            return 2 * result * math.prod(n for label, n in extents.items() if label not in out)
        case Sum() | Max() | Min() | Moments() | CumulativeSum():
            return math.prod(at_batch(node.operands[0].type.shape, batch))
        case _:
            counts = node.op.category is Category.ELEMENTWISE and node.results[0].type.dtype.is_float
            return result * (2 if node.op.name == "fma" else 1) if counts else 0
