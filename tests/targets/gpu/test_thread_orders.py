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
from compiler.graph.ir import Graph
from compiler.nest.ir import Nest
from compiler.programs.kinds import PREDICTION
from compiler.programs.stages import graph_of, prepared
from compiler.support.arrays import Array
from compiler.targets.gpu.text import host_text

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


def test_a_wait_that_is_left_out_is_found() -> None:
    graph = shares()
    data: dict[str, Array] = {"x": np.random.default_rng(0).normal(size=(ROWS, 40)).astype(np.float32)}
    expected = results(graph, 0, False, data)

    def without(left_out: int, order: int) -> dict[str, bytes]:
        count = 0

        def text_of(nest: Nest) -> str:
            nonlocal count
            first, *others = host_text(nest, host(), order).split(WAIT)
            parts = [first]
            for part in others:
                parts += [NO_WAIT if count == left_out else WAIT, part]
                count += 1
            return "".join(parts)

        lowered = lowered_for_device(graph, ROWS, text_of)
        assert left_out < count
        return {name: array.tobytes() for name, array in emulated(lowered).call(data, ROWS).items()}

    plain = lowered_for_device(graph, ROWS, partial(host_text, machine=host()))
    waits = sum(text.count(WAIT) for text in plain.texts.values())
    found = [any(without(k, order) != expected for order in (255, 0)) for k in range(waits)]
    assert waits >= 8
    assert sum(found) >= 0.75 * waits
