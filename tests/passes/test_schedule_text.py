"""Schedules and kernels as text, as data and as pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from xml.etree import ElementTree

import pytest
from golden import Golden
from kernel_data import made_again
from random_graphs import random_graph
from small_networks import BATCH, Network, column_sums, dense_backward, layer_norm, softmax_cross_entropy

from compiler.graph.ir import Graph
from compiler.graph.pictures import drawn
from compiler.loops.ir import CollectKernel, FetchKernel, Kernel, StagedKernel
from compiler.loops.printer import print_kernel
from compiler.ops.contraction import Contraction
from compiler.ops.elementwise import Add
from compiler.ops.indexing import ScatterAdd
from compiler.ops.movement import Transpose
from compiler.ops.reduction import CumulativeSum
from compiler.schedule.build import schedule
from compiler.schedule.drawing import drawing_of
from compiler.schedule.printer import print_schedule, schedule_to_json
from compiler.types import DType


def whole_repertoire() -> Graph:
    """The kernels that the parts of networks lack: indexed and running sums, a product for each row of the batch."""
    net = Network("indexed sums")
    x = net.data("x", BATCH, 3, 4)
    scores = net.emit(Contraction((0, 1, 2), (0, 3, 2), (0, 1, 3)), x, x)
    running = net.emit(CumulativeSum(1, True), scores)
    turned = net.emit(Transpose((0, 2, 1)), running)
    rows = net.emit(ScatterAdd(0, 20), net.data("i", BATCH, dtype=DType.I32), net.data("u", BATCH, 5))
    return net.graph(y=net.emit(Add(), running, turned), rows=rows)


CASES = (softmax_cross_entropy, dense_backward, layer_norm, column_sums, whole_repertoire)


@pytest.mark.parametrize("make", CASES, ids=[make.__name__ for make in CASES])
def test_text(make: Callable[[], Graph], golden: Golden) -> None:
    plan = schedule(make(), batch=128)
    golden(f"schedule/{make.__name__}.schedule", print_schedule(plan))
    kernels = [i.kernel for i in plan.instances if not isinstance(i.kernel, FetchKernel | CollectKernel)]
    golden(f"schedule/{make.__name__}.loops", "\n".join(map(print_kernel, kernels)))


def random_kernels(seed: int) -> list[Kernel]:
    return [i.kernel for i in schedule(random_graph(seed, 40)[0]).instances]


@pytest.mark.parametrize("seed", range(12))
def test_kernels_are_plain_data(seed: int) -> None:
    for kernel in random_kernels(seed):
        assert made_again(kernel) == kernel


@pytest.mark.parametrize("seed", range(12))
def test_pseudo_code_names_every_value_and_buffer(seed: int) -> None:
    for kernel in random_kernels(seed):
        text = print_kernel(kernel)
        assert text == print_kernel(kernel)
        if isinstance(kernel, StagedKernel):
            assert all(f"{b.name}[" in text or b.name == "tile" for b in kernel.buffers)


@pytest.mark.parametrize("make", CASES, ids=[make.__name__ for make in CASES])
def test_data_and_pictures(make: Callable[[], Graph]) -> None:
    plan = schedule(make())
    data = json.loads(json.dumps(schedule_to_json(plan)))
    assert [i["kernel"] for i in data["instances"]] == [i.kernel.name for i in plan.instances]
    assert {b["index"] for b in data["buffers"]} >= {b for i in plan.instances for b in i.writes}
    drawing = drawing_of(plan)
    keys = [box.key for box in drawing.boxes]
    assert sum(key.startswith("kernel") for key in keys) == len(plan.instances)
    assert all(keys.index(arrow.source) < keys.index(arrow.target) for arrow in drawing.arrows)
    assert len(drawing.arrows) == len({(a.source, a.target) for a in drawing.arrows})
    assert drawn(drawing, "dot").count(" -> ") == len(drawing.arrows)
    assert ElementTree.fromstring(drawn(drawing, "svg")).tag.endswith("svg")
