"""The operations and bytes of kernels, against what their graphs say."""

from __future__ import annotations

from pathlib import Path

import pytest
from native import host

from compiler import driver
from compiler.inspection.forms import flops_of
from compiler.loops.ir import CollectKernel, FetchKernel
from compiler.programs.kinds import TRAINING
from compiler.programs.stages import graph_of, prepared, scheduled
from compiler.schedule.work import work_of

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


def _elements(extent: object, batch: int) -> int:
    return extent if isinstance(extent, int) else extent.multiple * batch  # type: ignore[attr-defined]
