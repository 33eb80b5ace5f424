"""Scans, forward and with their gradients: the meaning of the reference at every stage, the same bits for any team."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import pytest
from comparisons import Array, assert_same_outputs
from differentiation import assert_gradients, gradient_graph
from native import EVERY_KERNEL_PARALLEL, compiled
from op_samples import float_inputs
from scan_graphs import SCANS, scan_graph
from schedule_interpreter import run_schedule

from compiler.evaluate import evaluate
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role, Value
from compiler.graph_passes.convert_dtype import to_dtype
from compiler.pipeline import optimise_graph, prepare_for_gradients
from compiler.schedule.build import schedule
from compiler.schedule.verify import verify_schedule
from compiler.types import DType, at_batch

Make: TypeAlias = Callable[[GraphBuilder], list[Value]]

BATCHES = (1, 3, 17)


def graphs_of(make: Make) -> list[Graph]:
    """The forward pass, and for each float result the graph of its gradients."""
    forward = scan_graph(make)
    names = float_inputs(forward)
    floats = [o.name for o in forward.outputs if o.value.type.dtype.is_float]
    prepared = prepare_for_gradients(forward)
    return [forward, *(gradient_graph(prepared, output, names) for output in floats if names)]


def inputs_for(graph: Graph, batch: int) -> dict[str, Array]:
    random = np.random.default_rng(batch)
    found: dict[str, Array] = {}
    for entry in graph.inputs:
        shape = at_batch(entry.value.type.shape, batch)
        if entry.value.type.dtype.is_float:
            wide = entry.value.type.dtype is DType.F64
            found[entry.name] = random.uniform(-0.8, 0.8, shape).astype("f8" if wide else "f4")
        else:
            kind = "i8" if entry.value.type.dtype is DType.I64 else "i4"
            number = 0 if entry.role is Role.STEP else random.integers(0, 5, shape)
            found[entry.name] = np.asarray(number, kind)
    return found


@pytest.mark.parametrize("make", SCANS, ids=lambda make: make.__name__)
def test_stages_mean_the_same(make: Make) -> None:
    for graph in graphs_of(make):
        ready = optimise_graph(graph, verify=True)
        plan = schedule(ready, batch=EVERY_KERNEL_PARALLEL)
        verify_schedule(plan, EVERY_KERNEL_PARALLEL)
        for batch in BATCHES:
            inputs = inputs_for(graph, batch)
            expected = evaluate(graph, inputs, batch)
            assert_same_outputs(evaluate(ready, inputs, batch), expected)
            assert_same_outputs(run_schedule(plan, inputs, batch), expected)


@pytest.mark.parametrize("make", SCANS, ids=lambda make: make.__name__)
def test_native_bits(make: Make) -> None:
    for graph in graphs_of(make):
        ready = optimise_graph(graph)
        fused = compiled(ready, batch=EVERY_KERNEL_PARALLEL)
        teams = [fused.executable(threads) for threads in (1, 2, 3)]
        teams.append(compiled(ready, fuse=False, batch=EVERY_KERNEL_PARALLEL).executable(2))
        for batch in BATCHES:
            inputs = inputs_for(graph, batch)
            data = {e.name: inputs[e.name] for e in graph.inputs if e.role is Role.DATA}
            found = [team.call(data, batch, seed=int(inputs.get("seed", 0))) for team in teams]
            assert_same_outputs(found[0], evaluate(graph, inputs, batch))
            for other in found[1:]:
                for name, array in found[0].items():
                    assert array.tobytes() == other[name].tobytes(), f"the bits of {name} differ"


@pytest.mark.parametrize("make", [make for make in SCANS if float_inputs(scan_graph(make))], ids=lambda m: m.__name__)
def test_gradients(make: Make) -> None:
    graph = to_dtype(prepare_for_gradients(scan_graph(make)), DType.F64)
    for output in graph.outputs:
        if output.value.type.dtype.is_float:
            assert_gradients(graph, output.name, float_inputs(graph), inputs_for(graph, 3), 3)
