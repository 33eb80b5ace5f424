"""The objective of an optimizer in its place: the model and its loss at another point, and their derivatives.

The parameters of the optimizer are one vector, in which they follow each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from compiler.frontend.program import ParameterSpec
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Direction, Graph, Node, Value
from compiler.graph.op import Op
from compiler.graph_passes.eliminate import eliminate_dead
from compiler.ops.autodiff import gradients_of
from compiler.ops.build import filled
from compiler.ops.control import Objective
from compiler.ops.elementwise import Multiply
from compiler.ops.movement import Concat, Reshape, Slice
from compiler.ops.scan import Scan, scan_body
from compiler.ops.spreading import Sum
from compiler.types import static_elements


def joined(builder: GraphBuilder, values: Sequence[Value]) -> Value:
    """Tensors one after the other, as a vector."""
    flat = [builder.emit(Reshape((static_elements(value.type.shape),)), value) for value in values]
    return flat[0] if len(flat) == 1 else builder.emit(Concat(0), *flat)


def taken_apart(builder: GraphBuilder, vector: Value, specs: Sequence[ParameterSpec]) -> list[Value]:
    """The parts of a vector in the shapes of the parameters."""
    parts: list[Value] = []
    start = 0
    for spec in specs:
        size = static_elements(spec.type.shape)
        part = builder.emit(Slice((start,), (size,), (1,)), vector)
        parts.append(builder.emit(Reshape(spec.type.shape), part))
        start += size
    return parts


class LossEvaluation:
    """Evaluates the loss of `training` for other values of the parameters `specs`, with all else as in `arguments`."""

    def __init__(
        self, builder: GraphBuilder, training: Graph, arguments: Mapping[str, Value], specs: Sequence[ParameterSpec]
    ) -> None:
        self._builder, self._arguments, self._specs = builder, arguments, specs
        self._loss = eliminate_dead(replace(training, outputs=(training.output("loss"),)))

    def inline(self, rule: Graph, arguments: Sequence[Value]) -> dict[str, Value]:
        """As the builder's `inline`, with the objective in its place."""
        known = self._copied(rule, arguments)
        return {output.name: known[output.value.index] for output in rule.outputs}

    def _copied(self, graph: Graph, arguments: Sequence[Value]) -> dict[int, Value]:
        """Each value of a graph in the builder, by its index."""
        known = {i.value.index: a for i, a in zip(graph.inputs, arguments, strict=True)}
        for node in graph.nodes:
            operands = [known[operand.index] for operand in node.operands]
            with self._builder.at(tuple(origin.towards(Direction.UPDATE) for origin in node.origins)):
                results = self._results(node.op, operands)
            known.update(zip((result.index for result in node.results), results, strict=True))
        return known

    def _results(self, op: Op, operands: Sequence[Value]) -> Sequence[Value]:
        if isinstance(op, Objective):
            return self._at(*operands)
        return self._scan(op, operands) if isinstance(op, Scan) else self._builder.emit_all(op, *operands)

    def _scan(self, scan: Scan, operands: Sequence[Value]) -> Sequence[Value]:
        """A loop, in whose body the objective reads the graph around it.

        Values that no step changes are computed before it, so all steps see the same draws: those of the training step.
        """
        builder = self._builder
        begin = len(builder.nodes)
        inputs = [builder.value(entry.value.type) for entry in scan.body.inputs]
        known = self._copied(scan.body, inputs)
        outputs = [known[output.value.index] for output in scan.body.outputs]
        changing = {value.index for value in inputs[: scan.scanned + scan.carries]}
        inside: list[Node] = []
        outside: list[Node] = []
        for node in builder.nodes[begin:]:
            if any(operand.index in changing for operand in node.operands):
                changing.update(result.index for result in node.results)
                inside.append(node)
            else:
                outside.append(node)
        captured = dict(zip((v.index for v in inputs), operands, strict=True))
        del builder.nodes[begin:]
        for node in outside:
            builder.append(replace(node, operands=tuple(captured.get(v.index, v) for v in node.operands)))
        own = {value.index for value in inputs} | {r.index for node in inside for r in node.results}
        read = [*(v for node in inside for v in node.operands), *outputs]
        more = list({v.index: v for v in read if v.index not in own}.values())
        op = replace(scan, body=scan_body((*inputs, *more), inside, outputs))
        return builder.emit_all(op, *operands, *more)

    def _at(self, point: Value, direction: Value | None = None) -> tuple[Value, ...]:
        """The loss at a point, its gradient, and the product of the Hessian with a direction."""
        builder = self._builder
        parameters = taken_apart(builder, point, self._specs)
        begin = len(builder.nodes)
        changed = {spec.path: value for spec, value in zip(self._specs, parameters, strict=True)}
        arguments = [changed.get(entry.name) or self._arguments[entry.name] for entry in self._loss.inputs]
        loss = builder.inline(self._loss, arguments)["loss"]
        gradient = self._slope(begin, loss, parameters)
        if direction is None:
            return loss, gradient
        inner = builder.emit(Sum((0,)), builder.emit(Multiply(), gradient, direction))
        return loss, gradient, self._slope(begin, inner, parameters)

    def _slope(self, begin: int, scalar: Value, parameters: Sequence[Value]) -> Value:
        """The gradient of a scalar by all parameters, computed by the nodes from number `begin` on."""
        builder = self._builder
        found = gradients_of(builder, tuple(builder.nodes[begin:]), scalar, parameters)
        slopes = [filled(builder, 0, p.type) if s is None else s for p, s in zip(parameters, found, strict=True)]
        return joined(builder, slopes)
