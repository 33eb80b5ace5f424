"""A step that changes nothing and tells how training works: units without effect, sizes of gradients and updates."""

from __future__ import annotations

from dataclasses import replace

from compiler.diagnosis.parts import origin_of
from compiler.diagnosis.reports import WatchedNumber
from compiler.errors.diagnostics import CompilerBug
from compiler.frontend.program import Program
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Node, Role, Value
from compiler.graph_passes.eliminate_dead import eliminate_dead
from compiler.interface import Executable, Options
from compiler.ops.build import constant_of, filled
from compiler.ops.elementwise import Abs, Cast, LessEqual, Maximum, Multiply, Sigmoid, Subtract, Symbolic, Tanh
from compiler.ops.reduction import Max, Min
from compiler.ops.spreading import Sum
from compiler.programs.executables import executable
from compiler.programs.load import complete, in_precision
from compiler.programs.steps.training_step import StepBuilder, in_phase
from compiler.support.record import record
from compiler.types import BatchExtent, DType, static_elements

# An output so near to the end of its range has hardly any slope left: 0.02 of the largest of tanh and sigmoid.
_SATURATED_TANH, _SATURATED_SIGMOID = 0.99, 0.495


@record
class WatchedStep:
    """`watched` says what the scalars of `executable` are, by their names."""

    executable: Executable
    watched: tuple[WatchedNumber, ...]


def watched_step(program: Program, phase: int, options: Options) -> WatchedStep:
    """The watching step of a phase of the training."""
    graph, watched = _watched(StepBuilder(*in_phase(in_precision(complete(program), options), phase)))
    return WatchedStep(executable(graph, options), watched)


def _watched(step: StepBuilder) -> tuple[Graph, tuple[WatchedNumber, ...]]:
    builder = step.builder
    forward = list(builder.nodes)
    watched: list[WatchedNumber] = []

    def watch(kind: str, path: str, node: Node | None, value: Value, units: int) -> None:
        name = f"watched {len(watched)}"
        origin = None if node is None else origin_of(node)
        span = None if origin is None else origin.user_span
        builder.output(name, Role.OUTPUT, value)
        watched.append(WatchedNumber(name, kind, span, path, units))

    for node in forward:
        found = _without_effect(builder, node)
        if found is not None:
            kind, share, units = found
            origin = origin_of(node)
            watch(kind, "" if origin is None else origin.path, node, share, units)
    step.differentiate(step.forward["loss"])
    before = dict(step.gradients)
    step.clip()
    step.update()
    updated = {output.updates: output.value for output in builder.outputs if output.role is Role.PARAMETER}
    builder.outputs[:] = [output for output in builder.outputs if output.updates is None]
    for spec in step.program.parameters:
        if spec.path not in before:
            continue
        start = len(watched)
        count = static_elements(spec.type.shape)
        old, new = step.inputs[spec.path], updated[spec.path]
        change = builder.emit(Subtract(), new, old)
        sizes = {"gradient": before[spec.path], "update": change, "weight": old}
        for kind, value in sizes.items():
            if kind != "gradient" and spec.type.rank < 2:
                continue  # a bias begins at 0, beside which every update is large
            watch(kind, spec.path, None, _mean_square(builder, value), count)
        place = next((c for c in reversed((*spec.calls, spec.span)) if not c.source.is_library), spec.span)
        watched[start:] = [replace(one, span=place) for one in watched[start:]]
    if not watched:
        raise CompilerBug("watched_step", f"{step.program.name} has nothing to watch")
    return eliminate_dead(builder.build()), tuple(watched)


def _mean_square(builder: GraphBuilder, value: Value) -> Value:
    square = builder.emit(Multiply(), value, value)
    total = Symbolic(builder, builder.emit(Sum(tuple(range(value.type.rank))), square))
    return (total / static_elements(value.type.shape)).value


def _without_effect(builder: GraphBuilder, node: Node) -> tuple[str, Value, int] | None:
    """The share of units that are dead, or saturated, for all rows of the batch; of what has no units, nothing."""
    match node.op:
        case Maximum() if any(constant_of(builder, operand) == 0 for operand in node.operands):
            kind, limit = "dead", 0.0
        case Tanh():
            kind, limit = "saturated", _SATURATED_TANH
        case Sigmoid():
            kind, limit = "saturated", _SATURATED_SIGMOID
        case _:
            return None
    value = node.results[0]
    shape = value.type.shape
    axis = 1 if len(shape) > 3 else len(shape) - 1  # channels of images, else features
    if len(shape) < 2 or not isinstance(shape[0], BatchExtent) or not isinstance(units := shape[axis], int):
        return None
    others = tuple(i for i in range(len(shape)) if i != axis)
    if isinstance(node.op, Maximum):
        most = builder.emit(Max(others), value)
        without = builder.emit(LessEqual(), most, filled(builder, limit, most.type))
    else:
        middle = 0.5 if isinstance(node.op, Sigmoid) else 0.0
        distance = builder.emit(Abs(), builder.emit(Subtract(), value, filled(builder, middle, value.type)))
        least = builder.emit(Min(others), distance)
        without = builder.emit(LessEqual(), filled(builder, limit, least.type), least)
    counted = builder.emit(Cast(DType.F32), without)
    return kind, (Symbolic(builder, builder.emit(Sum((0,)), counted)) / units).value, units
