"""A row of data to the values that the names of a text stand for, and to the gradients there, by native programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from compiler.errors.diagnostics import Span
from compiler.frontend.program import Program
from compiler.frontend.trace import Trace
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, GraphOutput, Role, Value, needed_by
from compiler.interface import Options, Steps, Tensors
from compiler.ops.autodiff import gradients_of
from compiler.programs.executables import executable
from compiler.support.arrays import Array, np
from compiler.support.record import record
from compiler.targets.target import LoadedProgram
from compiler.types import at_batch, is_of_pairs

LOSS = "loss"
INFERENCE = "inference"
"""The graph whose values are computed, by the name under which the trace of an elaboration has it."""
ATTENTION = "softmax"
"""The library's function for the weights of attention, which are shown though no text of the user's names them."""


@record
class Named:
    """A value with the place in the user's text that made it, under a name of the text or that of what was called."""

    name: str
    span: Span
    path: str
    value: Value


def named_values(trace: Trace) -> list[Named]:
    """Every value of the inference that the text gives a name or makes by a call, and the weights of attention.

    What has a name and was called stands once, under its name; a name in a loop once for each round.
    """
    found = {b.value.index: Named(b.name, b.span, b.path, b.value) for b in trace.bindings.get(INFERENCE, [])}
    for application in trace.applications.get(INFERENCE, []):
        name, call = application.declaration.name, application.user_call
        is_own = not application.call.source.is_library or name == ATTENTION
        for value in application.results[:1] if is_own and not call.source.is_library else ():
            found.setdefault(value.index, Named(name, call, application.path, value))
    return [found[index] for index in sorted(found)]


@record(eq=False)
class WatchedValues:
    """A native program whose results are values of the text, each under the name that `outputs` has for it."""

    program: LoadedProgram
    outputs: Mapping[str, Named]
    given: Mapping[str, Named]  # values that are inputs of the graph, by the names of these

    def run(self, tensors: Tensors, rows: Mapping[str, Array], settings: Mapping[str, float]) -> dict[Named, Array]:
        """The values of a batch of these rows, with these weights; those that are inputs are as they were given."""
        batch = len(next(iter(rows.values())))
        results = self.program.run(Steps(tensors, rows, np.arange(batch), batch, settings=settings))
        lasting = {name: steps[-1] for name, steps in results.scalars.items()}
        arrays: dict[str, Array] = {**results.arrays, **lasting}
        found = {one: np.array(rows[name] if name in rows else tensors[name]) for name, one in self.given.items()}
        return found | {one: np.array(_rows(arrays[name], one.value, batch)) for name, one in self.outputs.items()}


def watched_values(program: Program, named: Sequence[Named], options: Options) -> WatchedValues:
    """The prediction of a program, compiled, with these values as its results; others than its own are left out."""
    graph = program.inference_graph
    entries = {entry.value.index: entry.name for entry in graph.inputs}
    made = {result.index for node in graph.nodes for result in node.results}
    outputs = {_key(one): one for one in named if one.value.index in made}
    given = {entries[one.value.index]: one for one in named if one.value.index in entries}
    watched = replace(graph, outputs=tuple(GraphOutput(key, Role.OUTPUT, one.value) for key, one in outputs.items()))
    return WatchedValues(executable(_with_needed_inputs(watched), options), outputs, given)


def watched_gradients(program: Program, named: Sequence[Named], options: Options) -> WatchedValues:
    """The same for the gradient of the loss in each value, and in each parameter under its path.

    It is that of the program that predicts: nothing is dropped out, and normalisations use what they have kept. What
    the loss does not depend on is left out, and so are integers. Formulas are differentiated as the text has them.
    """
    graph = program.inference_graph
    entries = {entry.name: entry.value for entry in graph.inputs}
    made = {result.index for node in graph.nodes for result in node.results} | {v.index for v in entries.values()}
    weights = [s for s in program.parameters if s.role is Role.PARAMETER and s.path in entries]
    every = (*named, *(Named(s.path, s.span, s.path, entries[s.path]) for s in weights))
    wanted = [one for one in every if one.value.index in made and one.value.type.dtype.is_float]
    builder = GraphBuilder.extending(graph)
    slopes = gradients_of(builder, graph.nodes, graph.output(LOSS).value, [one.value for one in wanted])
    found = {f"gradient {n}": pair for n, pair in enumerate(zip(wanted, slopes, strict=True))}
    outputs = [GraphOutput(key, Role.OUTPUT, slope) for key, (_, slope) in found.items() if slope is not None]
    whole = _with_needed_inputs(replace(builder.build(), outputs=tuple(outputs)))
    return WatchedValues(executable(whole, options), {o.name: found[o.name][0] for o in outputs}, {})


def _rows(array: Array, value: Value, batch: int) -> Array:
    """An array without the places of pairs behind the last row."""
    return array[tuple(map(slice, at_batch(value.type.shape, batch)))] if is_of_pairs(value.type.shape) else array


def _with_needed_inputs(graph: Graph) -> Graph:
    kept, needed = needed_by(graph.nodes, [output.value.index for output in graph.outputs])
    inputs = tuple(entry for entry in graph.inputs if entry.value.index in needed)
    return replace(graph, inputs=inputs, nodes=tuple(kept))


def _key(one: Named) -> str:
    return f"value {one.value.index}"
