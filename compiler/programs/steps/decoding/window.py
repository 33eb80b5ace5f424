"""The next token from a whole window, read at the last filled position. This graph defines the meaning of decoding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from compiler.errors.diagnostics import CompilerBug
from compiler.frontend.program import SEEN, Generation, Program
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role, Value
from compiler.graph_passes.eliminate import eliminate_dead
from compiler.graph_passes.simplify import simplify
from compiler.ops.control import resolve_custom_gradients
from compiler.ops.elementwise import And, Cast, Less, LessEqual, Minimum
from compiler.ops.indexing import Gather, ScatterAdd
from compiler.ops.movement import Reshape
from compiler.ops.sources import Constant, Iota
from compiler.ops.spreading import Broadcast
from compiler.types import DType, Extent, TensorType

TIME = 1
STEP = "step"
"""The position of the last filled place, from 0, in the whole sequence: a full window has slid beyond its end."""


def window_graph(program: Program) -> Graph:
    """Inputs: those of the model, the feed filled from the left. Outputs: those of the sampler."""
    generation, graph = generation_of(program), scoring_graph(program)
    builder = GraphBuilder(f"{program.name} window")
    values = inputs_of(builder, graph)
    logits = builder.inline(graph, [values[i.name] for i in graph.inputs])[generation.source]
    add_sampler(builder, generation, values, at_position(builder, values, logits), lambda: values[generation.feed])
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


def add_sampler(
    builder: GraphBuilder,
    generation: Generation,
    values: Mapping[str, Value],
    logits: Value,
    tokens: Callable[[], Value],
) -> None:
    """The outputs of the sampler, from scores [batch, tokens]; `tokens` gives those of the window, [batch, time]."""
    if logits.type.dtype is not DType.F32:
        logits = builder.emit(Cast(DType.F32), logits)
    known = {**values, "logits": logits}
    sampler = generation.sampler
    if any(entry.name == SEEN for entry in sampler.inputs):
        known[SEEN] = seen_tokens(builder, tokens(), values[STEP], logits.type.shape[1])
    arguments = [known.get(i.name) or builder.input(i.name, i.role, i.value.type) for i in sampler.inputs]
    for name, value in builder.inline(sampler, arguments).items():
        builder.output(name, Role.OUTPUT, value)


def seen_tokens(builder: GraphBuilder, tokens: Value, position: Value, classes: Extent) -> Value:
    """Which tokens [batch, classes] stand in a window [batch, time] up to a position: bool."""
    shape = tokens.type.shape
    assert isinstance(classes, int)
    numbers = builder.emit(Cast(DType.I32), tokens)
    places = builder.emit(Iota(shape, TIME, DType.I64))
    is_filled = builder.emit(LessEqual(), places, builder.emit(Broadcast(shape, ()), position))
    # A token beyond those that are scored would count as the nearest of them.
    end = builder.emit(Broadcast(shape, ()), builder.emit(Constant(classes, DType.I32)))
    is_scored = builder.emit(And(), is_filled, builder.emit(Less(), numbers, end))
    counts = builder.emit(ScatterAdd(1, classes, by_row=True), numbers, builder.emit(Cast(DType.I32), is_scored))
    none = builder.emit(Broadcast(counts.type.shape, ()), builder.emit(Constant(0, DType.I32)))
    return builder.emit(Less(), none, counts)


def flattened(builder: GraphBuilder, logits: Value) -> Value:
    """The scores of a single position, without its axis."""
    shape = logits.type.shape
    return builder.emit(Reshape((shape[0], *shape[TIME + 1 :])), logits)
