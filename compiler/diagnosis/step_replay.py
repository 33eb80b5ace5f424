"""One step of a training again, node by node, to tell where its values stop being finite."""

from __future__ import annotations

from dataclasses import replace

from compiler.diagnosis.dimension_names import DimensionNames
from compiler.diagnosis.evaluated import Evaluated, evaluated
from compiler.diagnosis.nonfinite import explain_nonfinite
from compiler.diagnosis.reports import NonfiniteReport
from compiler.evaluate import inputs_of
from compiler.frontend.program import Program
from compiler.graph.ir import Graph
from compiler.graph_passes.convert_dtype import to_dtype
from compiler.interface import Options, Steps
from compiler.programs.kinds import GraphKind
from compiler.programs.load import complete
from compiler.programs.stages import graph_of, prepared
from compiler.types import DType


def explain_step(program: Program, kind: GraphKind, options: Options, step: Steps) -> NonfiniteReport | None:
    """Where a single step of training stops being finite, and from what.

    Its tensors are as before the step, and stay so. None where the reference finds all values finite.
    """
    program = complete(program)
    whole = graph_of(program, kind, options)
    optimised = _evaluated(prepared(whole, replace(options, verify=False)), step)
    # As it is written, a step is easier to read; but rewriting may remove what is not finite.
    written = to_dtype(whole, DType.F64) if options.dtype == "f64" else whole
    plain = _evaluated(written, step)
    found = plain if plain.spoilt == optimised.spoilt else optimised
    return explain_nonfinite(found, DimensionNames(program))


def _evaluated(graph: Graph, step: Steps) -> Evaluated:
    return evaluated(graph, inputs_of(graph, step), [int(row) for row in step.rows])
