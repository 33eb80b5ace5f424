"""A graph with the content of each of its values, and the same with a scan taken apart into its steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace

import numpy as np

from compiler.diagnosis.parts import every_value
from compiler.evaluate import evaluate_node
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Node, Value
from compiler.graph_passes.rewrite import Rewriting
from compiler.interface import Array
from compiler.ops.movement import Concat, Slice
from compiler.ops.scan import Scan
from compiler.ops.spreading import Reshape
from compiler.support.record import record


@record
class ScanStep:
    """A step of a scan, by its place along the scanned axis."""

    scan: Node
    place: int


@record
class Evaluated:
    """A graph with the content of each of its values. `rows` are those of the data that its batch is made of.

    `steps` says in which steps of scans, the outermost first, a value was made that is one of a scan's body.
    """

    graph: Graph
    values: Mapping[int, Array]
    rows: Sequence[int]
    steps: Mapping[int, tuple[ScanStep, ...]] = field(default_factory=dict[int, tuple[ScanStep, ...]])

    @property
    def spoilt(self) -> tuple[str, ...]:
        """The outputs that are not finite."""
        return tuple(o.name for o in self.graph.outputs if not self.is_finite(o.value))

    def is_finite(self, value: Value) -> bool:
        array = self.values[value.index]
        return array.dtype.kind != "f" or bool(np.isfinite(array).all())

    def has_nan(self, value: Value) -> bool:
        array = self.values[value.index]
        return array.dtype.kind == "f" and bool(np.isnan(array).any())


def evaluated(graph: Graph, inputs: Mapping[str, Array], rows: Sequence[int]) -> Evaluated:
    return Evaluated(graph, every_value(graph, inputs, len(rows)), rows)


def taken_apart(step: Evaluated, scan: Node) -> Evaluated:
    """The same with the steps of a scan one after the other, in place of it."""
    rewriting = Rewriting(step.graph)
    steps = dict(step.steps)
    for node in step.graph.nodes:
        current = rewriting.current(node)
        if node.results == scan.results:
            rewriting.replace(node, _unrolled(rewriting.builder, current, steps))
        else:
            rewriting.keep(current)
    graph = rewriting.finish()
    values = dict(step.values)
    for node in graph.nodes:
        if node.results[0].index not in values:
            results = evaluate_node(node, [values[operand.index] for operand in node.operands], len(step.rows))
            values.update((value.index, array) for value, array in zip(node.results, results, strict=True))
    return replace(step, graph=graph, values=values, steps=steps)


def _unrolled(builder: GraphBuilder, node: Node, steps: dict[int, tuple[ScanStep, ...]]) -> list[Value]:
    """The results of a scan from all its steps, which are noted in `steps`."""
    op = node.op
    assert isinstance(op, Scan)
    stacks, captures = node.operands[: op.scanned], node.operands[op.scanned + op.carries :]
    carries = list(node.operands[op.scanned : op.scanned + op.carries])
    around = steps.get(node.results[0].index, ())
    emitted: list[list[Value]] = []
    for place in op.places():
        first = len(builder.nodes)
        elements = [_element(builder, stack, place) for stack in stacks]
        body = op.body_at(place)
        found = builder.inline(body, (*elements, *carries, *captures))
        results = [found[output.name] for output in body.outputs]
        made = (result.index for new in builder.nodes[first:] for result in new.results)
        steps.update(dict.fromkeys(made, (*around, ScanStep(node, place))))
        carries, rest = results[: op.carries], results[op.carries :]
        emitted.append(rest)
    if op.reverse:
        emitted.reverse()
    with builder.at(node.origins):
        return [*carries, *(_stacked(builder, column) for column in zip(*emitted, strict=True))]


def _element(builder: GraphBuilder, stack: Value, place: int) -> Value:
    _, *rest = stack.type.shape
    zeros, ones = (0,) * len(rest), (1,) * len(rest)
    cut = builder.emit(Slice((place, *zeros), (1, *rest), (1, *ones)), stack)
    return builder.emit(Reshape(tuple(rest)), cut)


def _stacked(builder: GraphBuilder, column: Sequence[Value]) -> Value:
    return builder.emit(Concat(0), *(builder.emit(Reshape((1, *value.type.shape)), value) for value in column))
