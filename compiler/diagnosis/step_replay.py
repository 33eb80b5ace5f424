"""One step of a training again, node by node, to tell where its values stop being finite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from compiler.diagnosis.dimension_names import DimensionNames
from compiler.diagnosis.evaluated import Evaluated, evaluated
from compiler.diagnosis.nonfinite import explain_nonfinite
from compiler.diagnosis.reports import NonfiniteReport
from compiler.evaluate import inputs_of
from compiler.frontend.program import Program
from compiler.graph.ir import Graph
from compiler.graph_passes.convert_dtype import to_dtype
from compiler.interface import Array, Options, Tensors
from compiler.programs.load import complete
from compiler.programs.stages import graph_of, prepared
from compiler.types import DType


def explain_step(
    program: Program,
    kind: str,
    options: Options,
    tensors: Tensors,
    data: Mapping[str, Array],
    rows: Array,
    step: int,
    seed: int,
    settings: Mapping[str, float],
) -> NonfiniteReport | None:
    """Where a step of kind `training` or `training N` over `rows` of the data stops being finite, and from what.

    `tensors` are as before the step, and stay so. None where the reference finds all values finite.
    """
    program = complete(program)
    whole = graph_of(program, kind, options)
    optimised = _evaluated(prepared(whole, replace(options, verify=False)), tensors, data, rows, step, seed, settings)
    # As it is written, a step is easier to read; but rewriting may remove what is not finite.
    written = to_dtype(whole, DType.F64) if options.dtype == "f64" else whole
    plain = _evaluated(written, tensors, data, rows, step, seed, settings)
    found = plain if plain.spoilt == optimised.spoilt else optimised
    return explain_nonfinite(found, DimensionNames(program))


def _evaluated(
    graph: Graph,
    tensors: Tensors,
    data: Mapping[str, Array],
    rows: Array,
    step: int,
    seed: int,
    settings: Mapping[str, float],
) -> Evaluated:
    inputs = inputs_of(graph, tensors, data, rows, step, seed, settings)
    return evaluated(graph, inputs, [int(row) for row in rows])
