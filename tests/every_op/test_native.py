"""Every op below the graph: each sample as interpreted kernels and as native code, against the reference."""

from __future__ import annotations

import pytest
from comparisons import Array, assert_same
from native import compiled
from op_samples import SAMPLES, Sample, arrays_of
from schedule_interpreter import run_schedule

from compiler.evaluate import evaluate
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role
from compiler.pipeline import optimise_graph
from compiler.schedule.build import schedule
from compiler.types import DType

# Passes over the graph remove these before a schedule is made.
RESOLVED = ("stop_gradient", "custom_gradient")
BATCHES = (1, 3, 17)


def has_native_types(sample: Sample) -> bool:
    """bf16 is a type of storage that native code does not have yet."""
    types = (*sample.operands, *sample.op.result_types(sample.operands))
    return all(type_.dtype is not DType.BF16 for type_ in types)


NATIVE = [s for s in SAMPLES if has_native_types(s)]
OPS = sorted({s.op.name for s in NATIVE})


def graph_of(samples: list[Sample]) -> Graph:
    """All samples in one graph: inputs `0 x0`, ..., outputs `0 y0`, ..."""
    builder = GraphBuilder(samples[0].op.name)
    for number, sample in enumerate(samples):
        inputs = [builder.input(f"{number} x{i}", Role.DATA, type_) for i, type_ in enumerate(sample.operands)]
        for i, result in enumerate(builder.emit_all(sample.op, *inputs)):
            builder.output(f"{number} y{i}", Role.OUTPUT, result)
    return builder.build()


def inputs_of(samples: list[Sample], batch: int) -> dict[str, Array]:
    return {
        f"{number} x{i}": array
        for number, sample in enumerate(samples)
        for i, array in enumerate(arrays_of(sample, batch))
    }


@pytest.mark.parametrize("name", OPS)
def test_native_equals_reference(name: str) -> None:
    samples = [s for s in NATIVE if s.op.name == name]
    graph = graph_of(samples)
    native = optimise_graph(graph) if name in RESOLVED else graph
    executables = [compiled(native, fuse=fuse).executable() for fuse in (True, False)]
    for batch in BATCHES:
        inputs = inputs_of(samples, batch)
        expected = evaluate(graph, inputs, batch)
        interpreted = run_schedule(schedule(native), inputs, batch)
        for found in (interpreted, *(executable.call(inputs, batch) for executable in executables)):
            for output, array in expected.items():
                assert_same(f"{samples[int(output.split()[0])].op} at {batch}", found[output], array)
