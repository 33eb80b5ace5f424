"""The samples of the ops as graphs of one node, with arrays for their operands."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role
from compiler.graph.op import Sample
from compiler.ops import OPS
from compiler.types import DType, at_batch, numpy_dtype

Array: TypeAlias = np.ndarray[Any, Any]

BATCH = 3
SAMPLES: tuple[Sample, ...] = tuple(sample for op in OPS for sample in op.samples())


def name_of(sample: Sample) -> str:
    return f"{sample.op.name}-{'-'.join(map(str, sample.operands))}"


def arrays_of(sample: Sample, batch: int = BATCH, seed: int = 0) -> list[Array]:
    """Random operands in the sample's ranges; the upper end is left out, for integers and booleans too."""
    random = np.random.default_rng(seed)
    arrays: list[Array] = []
    for type_, (low, high) in zip(sample.operands, sample.ranges, strict=True):
        shape, dtype = at_batch(type_.shape, batch), numpy_dtype(type_.dtype)
        is_float = type_.dtype.is_float
        drawn = random.uniform(low, high, shape) if is_float else random.integers(int(low), int(high), shape)
        arrays.append(np.asarray(drawn).astype(dtype))
    return arrays


def graph_of(sample: Sample) -> Graph:
    """Inputs x0, x1, …; outputs y0, …"""
    builder = GraphBuilder(sample.op.name)
    inputs = [builder.input(f"x{i}", Role.DATA, type_) for i, type_ in enumerate(sample.operands)]
    for i, result in enumerate(builder.emit_all(sample.op, *inputs)):
        builder.output(f"y{i}", Role.OUTPUT, result)
    return builder.build()


def float_inputs(graph: Graph) -> list[str]:
    return [entry.name for entry in graph.inputs if entry.value.type.dtype in (DType.F32, DType.F64)]
