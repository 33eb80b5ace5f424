"""The next token from a whole window, read at the last filled position. This graph defines the meaning of decoding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from compiler.errors.diagnostics import CompilerBug
from compiler.frontend.program import Generation, Program
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role, Value
from compiler.graph_passes.eliminate import eliminate_dead
from compiler.graph_passes.simplify import simplify
from compiler.ops.control import resolve_custom_gradients
from compiler.ops.elementwise import Cast, Minimum
from compiler.ops.indexing import Gather
from compiler.ops.movement import Reshape
from compiler.ops.sources import Constant
from compiler.types import DType, TensorType

TIME = 1
STEP = "step"
"""The position of the last filled place, from 0, in the whole sequence: a full window has slid beyond its end."""


def window_graph(program: Program) -> Graph:
    """Inputs: those of the model, the feed filled from the left. Outputs: those of the sampler."""
    generation, graph = generation_of(program), scoring_graph(program)
    builder = GraphBuilder(f"{program.name} window")
    values = inputs_of(builder, graph)
    logits = builder.inline(graph, [values[i.name] for i in graph.inputs])[generation.source]
    add_sampler(builder, generation, values, at_position(builder, values, logits))
    return builder.build()


def generation_of(program: Program) -> Generation:
    if program.generation is None:
        raise CompilerBug("decoding", f"{program.name} has no `generate`")
    return program.generation


def scoring_graph(program: Program) -> Graph:
    """The inference graph as far as the output that scores tokens needs it, with the inputs that it needs."""
    source = generation_of(program).source
    whole = program.inference_graph
    graph = replace(whole, outputs=tuple(o for o in whole.outputs if o.name == source))
    is_double = program.plan is not None and program.plan.is_double
    graph = simplify(eliminate_dead(resolve_custom_gradients(graph)), is_double)
    used = {operand.index for node in graph.nodes for operand in node.operands}
    feed = generation_of(program).feed
    return replace(graph, inputs=tuple(i for i in graph.inputs if i.value.index in used or i.name == feed))


def inputs_of(builder: GraphBuilder, graph: Graph) -> dict[str, Value]:
    """The inputs of a graph made inputs of another, and the position beside them."""
    values = {i.name: builder.input(i.name, i.role, i.value.type) for i in graph.inputs}
    if STEP not in values:
        values[STEP] = builder.input(STEP, Role.STEP, TensorType(DType.I64))
    return values


def at_position(builder: GraphBuilder, values: Mapping[str, Value], logits: Value) -> Value:
    """The scores at the last filled place of the window, [batch, tokens]."""
    extent = logits.type.shape[TIME]
    assert isinstance(extent, int)
    last = builder.emit(Constant(extent - 1, DType.I64))
    return builder.emit(Gather(TIME), logits, builder.emit(Minimum(), values[STEP], last))


def add_sampler(builder: GraphBuilder, generation: Generation, values: Mapping[str, Value], logits: Value) -> None:
    """The outputs of the sampler, from scores [batch, tokens]."""
    if logits.type.dtype is not DType.F32:
        logits = builder.emit(Cast(DType.F32), logits)
    known = {**values, "logits": logits}
    sampler = generation.sampler
    arguments = [known.get(i.name) or builder.input(i.name, i.role, i.value.type) for i in sampler.inputs]
    for name, value in builder.inline(sampler, arguments).items():
        builder.output(name, Role.OUTPUT, value)


def flattened(builder: GraphBuilder, logits: Value) -> Value:
    """The scores of a single position, without its axis."""
    shape = logits.type.shape
    return builder.emit(Reshape((shape[0], *shape[TIME + 1 :])), logits)
