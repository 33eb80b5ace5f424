"""Gradients of graphs in tests: by the compiler's own rules, and by differences along one random direction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from compiler.evaluate import evaluate
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role
from compiler.ops.autodiff import gradients_of

Array: TypeAlias = np.ndarray[Any, Any]

STEP = 1e-6
TOLERANCE = 1e-6


def gradient_graph(graph: Graph, output: str, wanted: Sequence[str]) -> Graph:
    """`graph` with a further input `cotangent` of `output` and the outputs `d <name>` for each wanted input."""
    builder = GraphBuilder(f"gradient of {graph.name}")
    inputs = {i.name: builder.input(i.name, i.role, i.value.type) for i in graph.inputs}
    results = builder.inline(graph, list(inputs.values()))
    cotangent = builder.input("cotangent", Role.DATA, results[output].type)
    slopes = gradients_of(builder, tuple(builder.nodes), results[output], [inputs[n] for n in wanted], cotangent)
    builder.output(output, Role.OUTPUT, results[output])
    for name, slope in zip(wanted, slopes, strict=True):
        if slope is not None:
            builder.output(f"d {name}", Role.OUTPUT, slope)
    return builder.build()


def gradients(
    graph: Graph, output: str, wanted: Sequence[str], arrays: Mapping[str, Array], cotangent: Array, batch: int = 1
) -> list[Array]:
    """The cotangents of the wanted inputs; zeros where none arrives."""
    results = evaluate(gradient_graph(graph, output, wanted), {**arrays, "cotangent": cotangent}, batch)
    return [results.get(f"d {name}", np.zeros_like(arrays[name])) for name in wanted]


def assert_gradients(
    graph: Graph, output: str, wanted: Sequence[str], arrays: Mapping[str, Array], batch: int = 1
) -> None:
    """The gradient equals a central difference along one random direction, for a random cotangent. f64 only."""
    random = np.random.default_rng(11)
    value = evaluate(graph, arrays, batch)[output]
    cotangent = np.asarray(random.normal(size=value.shape))
    directions = {name: np.asarray(random.normal(size=arrays[name].shape)) for name in wanted}
    ours = sum(
        float((slope * directions[name]).sum())
        for name, slope in zip(wanted, gradients(graph, output, wanted, arrays, cotangent, batch), strict=True)
    )
    moved = [
        evaluate(graph, {**arrays, **{n: arrays[n] + sign * STEP * d for n, d in directions.items()}}, batch)[output]
        for sign in (1, -1)
    ]
    measured = float(((moved[0] - moved[1]) * cotangent).sum()) / (2 * STEP)
    scale = max(1.0, abs(measured), float(np.abs(value * cotangent).sum()))
    assert abs(ours - measured) <= TOLERANCE * scale, f"gradient {ours}, difference quotient {measured}"
