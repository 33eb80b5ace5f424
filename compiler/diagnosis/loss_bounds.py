"""The loss of outputs that ignore the input, and the least loss that any outputs can reach on given rows.

Both follow from the loss alone: the graph is cut where the model's outputs enter it, so that no loss need be known by
name. log(classes) of a cross-entropy comes out as any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from compiler.diagnosis.differences import gradient_graph
from compiler.diagnosis.parts import every_value, name_of, with_inputs
from compiler.diagnosis.reports import LossBounds
from compiler.evaluate import evaluate, inputs_at
from compiler.frontend.program import Program
from compiler.graph.ir import Graph, Node, Value
from compiler.graph_passes.convert_dtype import to_dtype
from compiler.interface import Array, Tensors
from compiler.ops.mathematics import Sigmoid
from compiler.ops.spreading import Reshape
from compiler.pipeline import prepare_for_gradients
from compiler.programs.load import complete
from compiler.support.record import record
from compiler.types import DType

_ROUNDS = 400
_NEAR = 1e-3


@record
class _Free:
    """An output that may be anything, or a probability (`sigmoid`), or a distribution over its last axis (`softmax`),
    as a function of numbers that may be anything."""

    value: Value
    kind: str

    def of(self, numbers: Array) -> Array:
        if self.kind == "sigmoid":
            return 1 / (1 + np.exp(-numbers))
        if self.kind == "softmax":
            raised = np.exp(numbers - numbers.max(axis=-1, keepdims=True))
            return raised / raised.sum(axis=-1, keepdims=True)
        return numbers

    def slope(self, output: Array, slope: Array) -> Array:
        """The slope in the numbers, from that in the output that they give."""
        if self.kind == "sigmoid":
            return slope * output * (1 - output)
        if self.kind == "softmax":
            return output * (slope - (slope * output).sum(axis=-1, keepdims=True))
        return slope


def loss_bounds(
    program: Program, data: Mapping[str, Array], tensors: Tensors, settings: Mapping[str, float], batch: int, seed: int
) -> LossBounds | None:
    """The loss of guessing, and its floor, over `batch` rows of each input and target; without penalties.

    None where the loss depends on no output of the model that is made of floats.
    """
    program = complete(program)
    graph = prepare_for_gradients(to_dtype(program.inference_graph, DType.F64))
    known = {**data, **{spec.path: tensors[spec.path] for spec in program.parameters}}
    inputs = inputs_at(graph, known, seed, settings)
    values = every_value(graph, inputs, batch)
    loss, free = _cut(program, graph, values)
    if not free:
        return None
    zeros = {name_of(one.value): np.zeros(values[one.value.index].shape) for one in free}
    point = {i.name: inputs[i.name] for i in loss.inputs if i.name in inputs}
    guess = _at(loss, free, point, zeros, batch)
    return LossBounds(guess, min(guess, _least(loss, free, point, zeros, batch)))


def _cut(program: Program, graph: Graph, values: Mapping[int, Array]) -> tuple[Graph, list[_Free]]:
    """The loss as a function of the model's outputs of floats, and those of them that it reads."""
    names = {o.name: o.value for o in graph.outputs}
    outputs = {v.index: v for name in program.outputs if (v := names[name]).type.dtype.is_float}
    whole = replace(graph, outputs=tuple(o for o in graph.outputs if o.name == "loss"))
    cut = with_inputs(whole, list(outputs.values()))
    read = {operand.index for node in cut.nodes for operand in node.operands}
    makers = {result.index: node for node in graph.nodes for result in node.results}
    return cut, [_Free(v, _kind(makers, v, values[v.index])) for v in outputs.values() if v.index in read]


def _kind(makers: Mapping[int, Node], value: Value, here: Array) -> str:
    if here.ndim > 1 and (here >= 0).all() and np.allclose(here.sum(axis=-1), 1, atol=_NEAR):
        return "softmax"
    node = makers.get(value.index)
    while node is not None and isinstance(node.op, Reshape):
        node = makers.get(node.operands[0].index)
    return "sigmoid" if node is not None and isinstance(node.op, Sigmoid) else "any"


def _outputs(free: list[_Free], numbers: Mapping[str, Array]) -> dict[str, Array]:
    return {name_of(one.value): one.of(numbers[name_of(one.value)]) for one in free}


def _at(loss: Graph, free: list[_Free], point: Mapping[str, Array], numbers: Mapping[str, Array], batch: int) -> float:
    return float(evaluate(loss, {**point, **_outputs(free, numbers)}, batch)["loss"])


def _least(loss: Graph, free: list[_Free], point: Mapping[str, Array], zeros: Mapping[str, Array], batch: int) -> float:
    """The least loss that steps of Adam find, whose length is that of the largest number in the data."""
    names = list(zeros)
    slopes = gradient_graph(loss, names)
    weight = {"weight of loss": np.array(1.0)}
    reach = max((float(np.abs(a).max()) for a in point.values() if a.dtype.kind == "f" and a.size), default=1.0)
    numbers = {name: array.copy() for name, array in zeros.items()}
    mean, square = ({name: np.zeros_like(array) for name, array in zeros.items()} for _ in range(2))
    least = np.inf
    for t in range(1, _ROUNDS + 1):
        outputs = _outputs(free, numbers)
        found = evaluate(slopes, {**point, **outputs, **weight}, batch)
        least = min(least, _at(loss, free, point, numbers, batch))
        length = 0.1 * max(reach, 1.0) * (1 - t / (_ROUNDS + 1))
        for one in free:
            name = name_of(one.value)
            slope = one.slope(outputs[name], found[name])
            mean[name] = 0.9 * mean[name] + 0.1 * slope
            square[name] = 0.99 * square[name] + 0.01 * slope**2
            step = (mean[name] / (1 - 0.9**t)) / (np.sqrt(square[name] / (1 - 0.99**t)) + 1e-12)
            numbers[name] = numbers[name] - length * step
    return float(least)
