"""The printed derivative of a program against the derived one: compiled from its text, run, and compared by bits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from compiler.diagnosis.gradient_check import augmented
from compiler.diagnosis.reports import GradientTextCheck
from compiler.errors.diagnostics import UsageError
from compiler.evaluate import first_value
from compiler.frontend.program import Program
from compiler.graph.ir import Graph, Role
from compiler.inspection.gradient.losses import each_loss, losses_of
from compiler.inspection.gradient.proof import (
    derived_graph,
    differing_bits,
    printed_graph,
    proved_text,
    with_fixed_inputs,
)
from compiler.inspection.gradient.text import Printed
from compiler.interface import Array, Options
from compiler.programs.executables import executable
from compiler.programs.load import complete, options_of
from compiler.programs.stages import prepared
from compiler.types import numpy_dtype


def check_gradient_text(
    program: Program, data: Mapping[str, Array], settings: Mapping[str, float], batch: int, seed: int, options: Options
) -> GradientTextCheck:
    """Run both natively from the start values of the parameters. A text that is refused is told with the reason.

    data: inputs and targets as they come from a loader, `batch` rows of each.
    """
    program = complete(program)
    options = options_of(program, replace(options, target="native", batch=batch))
    try:
        texts = each_loss(program, lambda alone, loss: proved_text(alone, options, loss))
    except UsageError as refusal:
        return GradientTextCheck(0, (), str(refusal))
    inputs = _inputs(program, data, settings, batch, seed)
    count, differing = 0, list[str]()
    for alone, text in zip(losses_of(program).values(), texts, strict=True):
        plain = with_fixed_inputs(derived_graph(alone, options), settings, {})
        derived = _run(plain, inputs, batch, seed, options)
        drawn = {**inputs, **_draws(text, batch, seed)}
        found = _run(printed_graph(text), drawn, batch, seed, options)
        count += len(derived) - 1
        differing += differing_bits(derived, found)
    return GradientTextCheck(count, tuple(differing))


def _inputs(
    program: Program, data: Mapping[str, Array], settings: Mapping[str, float], batch: int, seed: int
) -> dict[str, Array]:
    """Everything that a graph of the program may read, as floats of 64 bits where it has floats."""
    known = dict(augmented(program, data, settings, batch, seed))
    known.update((spec.path, first_value(spec.initializer, seed)) for spec in program.parameters)
    return {**known, "step": np.array(0)}


def _draws(printed: Printed, batch: int, seed: int) -> dict[str, Array]:
    scalars = [np.array(seed), np.array(0)]
    return {name: node.op.evaluate(scalars, batch)[0] for name, node in printed.derivative.draws.items()}


def _run(graph: Graph, inputs: Mapping[str, Array], batch: int, seed: int, options: Options) -> Mapping[str, Array]:
    fed = tuple(replace(i, role=Role.DATA) if i.role in (Role.PARAMETER, Role.STATE) else i for i in graph.inputs)
    graph = replace(graph, inputs=fed)
    wide = {i.name: i.value.type.dtype for i in prepared(graph, options).inputs}
    given = {
        name: inputs[name].astype(numpy_dtype(dtype), copy=False) for name, dtype in wide.items() if name in inputs
    }
    return executable(graph, options).call(given, batch, seed=seed)
