"""The operations and bytes of kernels, against what their graphs say."""

from __future__ import annotations

from pathlib import Path

import pytest
from native import host
from printed_places import Unpredictable, bytes_of

from compiler import driver
from compiler.inspection.forms import flops_of
from compiler.loops.ir import CollectKernel, FetchKernel
from compiler.loops.printer import print_kernel
from compiler.programs.kinds import TRAINING
from compiler.programs.stages import graph_of, prepared, scheduled
from compiler.schedule.work import calls_of, work_of

SEQUENCES = """model Sequences {
    input tokens: i32[batch, 64] in 0..5
    x = tokens |> embedding(5, 12)
    x = x |> encoder_block(2, 24, causal = true)
    output logits = x |> lstm(8) |> dense(5)
}

train Sequences {
    target next: i32[batch, 64] in 0..5
    loss = cross_entropy(logits, next)
    optimizer = adam(lr = 0.01)
    clip = global_norm(1.0)
    epochs = 1
    batch = 4
}
"""
ZOO = Path(__file__).parents[2] / "benchmarks/zoo"


@pytest.mark.parametrize("name", ["mlp", "mlp_small", "lenet5"])
def test_products_are_those_of_the_optimised_graph(name: str) -> None:
    program = driver.load(ZOO / f"{name}.dl")
    assert program.plan is not None
    options = driver.options_of(program, driver.Options(batch=program.plan.usual_rows))
    graph = prepared(graph_of(program, TRAINING), options)
    plan = scheduled(graph, options, host())
    shares = [share for instance in plan.instances for share in work_of(instance, plan, options.batch)]
    wanted = flops_of([n for n in graph.nodes if n.op.name == "contraction"], options.batch)
    found = sum(share.flops for share in shares if share.op == "contraction")
    assert found == pytest.approx(wanted, rel=1e-12)
    assert all(share.bytes >= 0 <= share.flops for share in shares)


@pytest.mark.parametrize("name", ["mlp", "lenet5", "lstm"])
def test_no_kernel_touches_more_than_its_buffers(name: str) -> None:
    program = driver.load(ZOO / f"{name}.dl")
    assert program.plan is not None
    options = driver.options_of(program, driver.Options(batch=program.plan.usual_rows))
    plan = scheduled(prepared(graph_of(program, TRAINING), options), options, host())
    for instance in plan.instances:
        if isinstance(instance.kernel, FetchKernel | CollectKernel):
            continue  # a transfer moves rows of the caller
        calls = 1
        for loop in instance.loops:
            calls *= plan.loops[loop].steps
        moved = sum(share.bytes for share in work_of(instance, plan, options.batch)) / calls
        kernel = instance.kernel
        sizes = [
            b.dtype.size * _elements(plan.buffers[instance.arguments[k]].elements, options.batch)
            for k, b in enumerate(kernel.buffers)
            if not b.is_scratch
        ]
        assert moved <= 2 * sum(sizes) + 1e-6, kernel.name  # read and written


@pytest.mark.parametrize("name", ["lenet5", "sequences"])
def test_bytes_are_the_places_that_the_printed_loops_reach(name: str, tmp_path: Path) -> None:
    own = tmp_path / "sequences.dl"
    own.write_text(SEQUENCES)
    program = driver.load(own if name == "sequences" else ZOO / f"{name}.dl")
    options = driver.options_of(program, driver.Options(batch=4))
    plan = scheduled(prepared(graph_of(program, TRAINING), options), options, host())
    unknown = 0
    for instance in plan.instances:
        if isinstance(instance.kernel, FetchKernel | CollectKernel):
            continue
        moved = sum(share.bytes for share in work_of(instance, plan, options.batch))
        try:
            expected = calls_of(instance, plan) * bytes_of(print_kernel(instance.kernel), options.batch)
        except Unpredictable:
            unknown += 1
            continue
        assert moved == pytest.approx(expected, rel=1e-12), instance.kernel.name
    assert unknown == (name == "sequences")  # the rows of a table that tokens choose


def _elements(extent: object, batch: int) -> int:
    return extent if isinstance(extent, int) else extent.multiple * batch  # type: ignore[attr-defined]
