"""Threads and blocks in other orders give the same bits; a wait that is left out does not."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from emulated import emulated, graph_of_sample, lowered_for_device
from native import host
from op_samples import NATIVE_SAMPLES, Sample, arrays_of

from compiler import driver
from compiler.driver import Options
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role
from compiler.machine import Machine
from compiler.nest.ir import Nest
from compiler.ops.contraction import Contraction
from compiler.programs.kinds import PREDICTION
from compiler.programs.stages import graph_of, prepared
from compiler.support.arrays import Array
from compiler.targets.gpu.device import DEVICE, SM_75, SM_80
from compiler.targets.gpu.text import host_text
from compiler.types import DType, TensorType

ROWS = 20  # more than a block has groups of threads
ORDERS = ((255, False), (85, True), (6, False))
WAIT = "call i8 @llvm.coro.suspend(token none, i1 false)"
NO_WAIT = "add i8 0, 0"
SHARES = "model M {\n    input x: f32[batch, 40]\n    output y = x * sum(x * x, axis = 1)[:, None]\n}\n"


def results(graph: Graph, order: int, backwards: bool, data: dict[str, Array]) -> dict[str, bytes]:
    text_of = partial(host_text, machine=host(), order=order, backwards=backwards)
    found = emulated(lowered_for_device(graph, ROWS, text_of)).call(data, ROWS)
    return {name: array.tobytes() for name, array in found.items()}


def shares() -> Graph:
    program = driver.load_text(SHARES, "m.dl")
    options = driver.options_of(program, Options(batch=ROWS))
    return prepared(graph_of(program, PREDICTION, options), options)


@pytest.mark.parametrize("sample", NATIVE_SAMPLES[::3], ids=lambda sample: sample.op.name)
def test_no_bit_depends_on_the_order_of_threads_and_blocks(sample: Sample) -> None:
    graph, data = graph_of_sample(sample), {f"x{i}": array for i, array in enumerate(arrays_of(sample, ROWS))}
    expected = results(graph, 0, False, data)
    for order in ORDERS:
        assert results(graph, *order, data) == expected


def without(graph: Graph, data: dict[str, Array], left_out: int, order: int, machine: Machine) -> dict[str, bytes]:
    """The results where one of the waits of the texts is left out."""
    count = 0

    def text_of(nest: Nest) -> str:
        nonlocal count
        first, *others = host_text(nest, host(), order).split(WAIT)
        parts = [first]
        for part in others:
            parts += [NO_WAIT if count == left_out else WAIT, part]
            count += 1
        return "".join(parts)

    lowered = lowered_for_device(graph, ROWS, text_of, machine)
    assert left_out < count
    return {name: array.tobytes() for name, array in emulated(lowered).call(data, ROWS).items()}


def found_waits(graph: Graph, data: dict[str, Array], machine: Machine = DEVICE) -> list[bool]:
    """For each wait of the texts, whether some order of threads shows that it was left out."""
    plain = lowered_for_device(graph, ROWS, partial(host_text, machine=host()), machine)
    waits = sum(text.count(WAIT) for text in plain.texts.values())
    expected = results(graph, 0, False, data)
    return [any(without(graph, data, k, order, machine) != expected for order in (255, 0)) for k in range(waits)]


def test_a_wait_that_is_left_out_is_found() -> None:
    data: dict[str, Array] = {"x": np.random.default_rng(0).normal(size=(ROWS, 40)).astype(np.float32)}
    found = found_waits(shares(), data)
    assert len(found) >= 8
    assert sum(found) >= 0.75 * len(found)


@pytest.mark.parametrize(("machine", "depth", "least"), [(SM_75, 128, 2), (SM_80, 128, 1), (SM_80, 100, 2)])
def test_each_barrier_of_a_product_is_found_that_is_left_out(machine: Machine, depth: int, least: int) -> None:
    """Its operands come through shared memory in several blocks of the sum.

    Under sm_75 these are whole: behind a last one that is not, whose loop has a single round, nothing is read.
    """
    builder = GraphBuilder("product")
    types = [TensorType(DType.F32, shape) for shape in ((48, depth), (depth, 40))]
    inputs = [builder.input(name, Role.DATA, type_) for name, type_ in zip("xy", types, strict=True)]
    builder.output("z", Role.OUTPUT, builder.emit(Contraction((0, 1), (1, 2), (0, 2)), *inputs))
    random = np.random.default_rng(0)
    data: dict[str, Array] = {
        "x": random.normal(size=(48, depth)).astype(np.float32),
        "y": random.normal(size=(depth, 40)).astype(np.float32),
    }
    found = found_waits(builder.build(), data, machine)
    assert len(found) >= least
    assert all(found)
