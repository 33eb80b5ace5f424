"""Scans with random bodies, forward and backward: every pass and the schedule keep their meaning."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from comparisons import assert_same_outputs
from differentiation import gradient_graph
from op_samples import float_inputs
from scan_graphs import BATCH, Recurrence, f32, matrix
from schedule_interpreter import run_schedule

from compiler.evaluate import evaluate
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role, Value
from compiler.ops.build import filled
from compiler.ops.contraction import Contraction
from compiler.ops.elementwise import Add, Multiply
from compiler.ops.mathematics import Tanh
from compiler.ops.movement import Broadcast
from compiler.ops.reduction import Sum
from compiler.pipeline import optimise_graph, prepare_for_gradients
from compiler.schedule.build import schedule
from compiler.schedule.verify import verify_schedule
from compiler.types import at_batch

WIDTH, STEPS, SIZE = 4, 3, 12


def random_scan(seed: int) -> Graph:
    """Rows and carries of [batch, WIDTH], weights that are captured, running sums of products and of rows."""
    random, builder = Random(seed), GraphBuilder(f"scan {seed}")
    xs = [builder.input(f"x{k}", Role.DATA, f32(STEPS, BATCH, WIDTH)) for k in range(random.randint(1, 2))]
    weights = [builder.input(f"w{k}", Role.DATA, f32(WIDTH, WIDTH)) for k in range(2)]
    still = builder.input("s", Role.DATA, f32(BATCH, WIDTH))
    rows = random.randint(1, 3)
    sums = [f32(WIDTH, WIDTH), f32(WIDTH)]
    starts = [still, *(filled(builder, k, f32(BATCH, WIDTH)) for k in range(rows - 1))]
    loop = Recurrence(builder, xs, [*starts, *(filled(builder, 0, type_) for type_ in sums)])
    values = [*loop.elements, *loop.carries[:rows], still]
    for _ in range(SIZE):
        values.append(_made(random, builder, values, weights))
    product = builder.emit(Contraction((0, 1), (0, 2), (1, 2)), random.choice(values), random.choice(values))
    added = builder.emit(Add(), loop.carries[rows], product)
    total = builder.emit(Add(), builder.emit(Sum((0,)), random.choice(values)), loop.carries[rows + 1])
    if random.random() < 0.3:  # a running sum that a step reads
        seen = builder.emit(Broadcast((BATCH, WIDTH), (1,)), loop.carries[rows + 1])
        values.append(builder.emit(Multiply(), seen, random.choice(values)))
    carries = [*(random.choice(values) for _ in range(rows)), added, total]
    emitted = [random.choice(values) for _ in range(random.randint(0, 3))]
    for number, value in enumerate(loop.finish(carries, emitted, STEPS, random.random() < 0.5)):
        builder.output(f"y{number}", Role.OUTPUT, value)
    return builder.build()


def _made(random: Random, builder: GraphBuilder, values: list[Value], weights: list[Value]) -> Value:
    value = random.choice(values)
    match random.randrange(4):
        case 0:
            return builder.emit(Tanh(), matrix(builder, value, random.choice(weights)))
        case 1:
            return builder.emit(Tanh(), builder.emit(Add(), value, random.choice(values)))
        case 2:
            return builder.emit(Multiply(), value, builder.emit(Tanh(), random.choice(values)))
        case _:
            mean = builder.emit(Sum((1,)), value)
            return builder.emit(Tanh(), builder.emit(Broadcast((BATCH, WIDTH), (0,)), mean))


@pytest.mark.parametrize("seed", range(24))
def test_random_scan(seed: int) -> None:
    forward = random_scan(seed)
    names = float_inputs(forward)
    outputs = [output.name for output in forward.outputs]
    plain = [forward, *(gradient_graph(forward, output, names) for output in outputs[:: len(outputs) - 1])]
    prepared = prepare_for_gradients(forward)
    split = [forward, *(gradient_graph(prepared, output, names) for output in outputs[:: len(outputs) - 1])]
    random = np.random.default_rng(seed)
    for graph, other in zip(plain, split, strict=True):
        shapes = {entry.name: at_batch(entry.value.type.shape, 3) for entry in graph.inputs}
        inputs = {name: random.uniform(-0.8, 0.8, shape).astype("f4") for name, shape in shapes.items()}
        expected = evaluate(graph, inputs, 3)
        ready = optimise_graph(other, verify=True)
        known = {output.name for output in ready.outputs}
        # Where nothing reaches an input, the gradient of the whole scan is 0, and that of the split one is not there.
        assert not any(expected.pop(name).any() for name in set(expected) - known)
        assert_same_outputs(evaluate(ready, inputs, 3), expected)
        plan = schedule(ready)
        verify_schedule(plan, 32)
        assert_same_outputs(run_schedule(plan, inputs, 3), expected)
