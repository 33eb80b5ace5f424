"""A `sample` of a program as the graph that makes its rows."""

from __future__ import annotations

from compiler.errors.diagnostics import CompilerBug
from compiler.frontend.program import Program
from compiler.graph.ir import Graph
from compiler.ops.control import resolve_custom_gradients


def sampling_graph(program: Program, name: str) -> Graph:
    """Inputs: tensors of the model, ROW_NUMBERS, `seed` and settings of run time. Outputs: those of the `sample`."""
    found = next((sampler for sampler in program.samplers if sampler.name == name), None)
    if found is None:
        raise CompilerBug("sampling_graph", f"{program.name} has no sample {name}")
    return resolve_custom_gradients(found.graph)
