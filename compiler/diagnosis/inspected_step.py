"""Training steps with further outputs: gradients, results of layers and lines, or measures of units and updates.

What layers and lines give is chosen after all passes that can change a rounding, so that it has the bits of the step
as it was trained.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from compiler.diagnosis.parts import dependent_values, origin_of
from compiler.diagnosis.reports import WatchedNumber
from compiler.errors.diagnostics import CompilerBug, UsageError
from compiler.errors.suggestions import nearest
from compiler.frontend.program import Program
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Direction, Graph, GraphOutput, Node, Role, Value
from compiler.graph_passes.eliminate import eliminate_dead
from compiler.interface import Executable, Options
from compiler.ops.build import constant_of, filled
from compiler.ops.elementwise import Abs, Add, Cast, LessEqual, Maximum, Multiply, Subtract, Symbolic
from compiler.ops.mathematics import Sigmoid, Tanh
from compiler.ops.reduction import Max, Min
from compiler.ops.spreading import Sum
from compiler.programs.batched_executable import in_batches
from compiler.programs.compilation import prepared_compilation
from compiler.programs.executables import executable
from compiler.programs.kinds import TRAINING, with_products
from compiler.programs.load import complete, in_precision
from compiler.programs.stages import prepared
from compiler.programs.steps.training_step import StepBuilder, in_phase
from compiler.support.record import record
from compiler.targets.registry import target_of
from compiler.types import BatchExtent, DType, static_elements

GRADIENT = ":gradient"
_LISTED = 30
# An output so near to the end of its range has hardly any slope left: 0.02 of the largest of tanh and sigmoid.
_SATURATED_TANH, _SATURATED_SIGMOID = 0.99, 0.495
_LINE = re.compile(r"(?P<file>.*):(?P<line>\d+)")


@record
class InspectedStep:
    """`names` are the outputs of `executable` that hold what each path stands for."""

    executable: Executable
    names: dict[str, tuple[str, ...]]


def inspected_step(program: Program, phase: int, options: Options, paths: Sequence[str]) -> InspectedStep:
    """The step of a phase with further results for `paths`.

    A path is that of a trained parameter with `:gradient` behind it, an output of the model, a result of the step, the
    path of a layer, or `FILE:LINE`.
    Raises UsageError for one that names nothing.
    """
    program = in_precision(complete(program), options)
    options = with_products(program, TRAINING, options)
    step = StepBuilder(*in_phase(program, phase))
    step.make_updates()
    gradients = [path for path in paths if path.endswith(GRADIENT)]
    for path in gradients:
        parameter = path.removesuffix(GRADIENT)
        if parameter not in step.slopes:
            raise _unknown(parameter, "trained parameter", list(step.slopes), "")
        step.builder.output(path, Role.OUTPUT, step.slopes[parameter])
    for path in dict.fromkeys(path for path in paths if path in program.outputs):
        step.builder.output(path, Role.OUTPUT, step.forward[path])
    step.keep_states()
    step.report()
    ready = prepared(eliminate_dead(step.builder.build()), options)
    chosen = {path: _values(ready, program.outputs, path) for path in paths if path not in gradients}
    known = {output.name for output in ready.outputs}
    further = {output.name: output for outputs in chosen.values() for output in outputs if output.name not in known}
    whole = replace(ready, outputs=(*ready.outputs, *further.values()))
    names: dict[str, tuple[str, ...]] = {path: (path,) for path in gradients}
    names.update((path, tuple(output.name for output in outputs)) for path, outputs in chosen.items())
    made = target_of(options).load(prepared_compilation(lambda: whole, options))
    return InspectedStep(in_batches(program, made), names)


def _values(graph: Graph, outputs: Sequence[str], path: str) -> list[GraphOutput]:
    """What of the values that a layer or a line computes others read on the way forward; of a result, itself.

    What is the same whatever the step is given, such as the number of rows, is none of them.
    """
    result = next((o for o in graph.outputs if o.name == path and o.updates is None), None)
    if result is not None:
        return [result]
    line = _LINE.fullmatch(path)
    chosen = [node for node in graph.nodes if _is_of(node, path, line)]
    if not chosen:
        if line is not None:
            raise UsageError(
                f"nothing is computed in line {line['line']} of {line['file']}", "name a line with a value"
            )
        layers = {o.path for node in graph.nodes if _is_forward(node) and (o := origin_of(node)) is not None and o.path}
        names = [*dict.fromkeys((*(o.name for o in graph.outputs), *outputs, *sorted(layers)))]
        raise _unknown(path, "tensor, result or layer", names, "; or a line, such as model.dl:4")
    inside = set(map(id, chosen))
    others = [node for node in graph.nodes if id(node) not in inside and _is_forward(node)]
    read = {o.index for node in others for o in node.operands}
    dependent = dependent_values(graph, {entry.name for entry in graph.inputs})
    computed = [node for node in chosen if any(operand.index in dependent for operand in node.operands)]
    found = [result for node in computed for result in node.results if result.index in read] or [*chosen[-1].results]
    many = len(found) > 1
    return [GraphOutput(f"{path}#{n}" if many else path, Role.OUTPUT, value) for n, value in enumerate(found)]


def _is_forward(node: Node) -> bool:
    return any(origin.direction is Direction.FORWARD for origin in node.origins)


def _is_of(node: Node, path: str, line: re.Match[str] | None) -> bool:
    forward = [origin for origin in node.origins if origin.direction is Direction.FORWARD]
    if line is None:
        return any(origin.path == path or origin.path.startswith(f"{path}.") for origin in forward)
    place = line["file"].split("/")[-1], int(line["line"])
    return any((span.source.name.split("/")[-1], span.line) == place for span in (o.user_span for o in forward))


def _unknown(name: str, what: str, known: Sequence[str], more: str) -> UsageError:
    near = nearest(name, known)
    if near:
        return UsageError(f"there is no {what} `{name}`", f"did you mean {near}?")
    listed = ", ".join(known[:_LISTED]) + (f" and {len(known) - _LISTED} more" if len(known) > _LISTED else "")
    return UsageError(f"there is no {what} `{name}`", f"there is {listed}{more}")


@record
class WatchedStep:
    """`watched` describes the scalars of `executable` by their names."""

    executable: Executable
    watched: tuple[WatchedNumber, ...]


def watched_step(program: Program, phase: int, options: Options) -> WatchedStep:
    """A step of a phase that changes nothing: units without effect, sizes of gradients and updates."""
    program = in_precision(complete(program), options)
    options = with_products(program, TRAINING, options)
    graph, watched = _watched(StepBuilder(*in_phase(program, phase)))
    return WatchedStep(in_batches(program, executable(graph, options)), watched)


def _watched(step: StepBuilder) -> tuple[Graph, tuple[WatchedNumber, ...]]:
    builder = step.builder
    step.make_updates()
    watched: list[WatchedNumber] = []

    def watch(kind: str, path: str, node: Node | None, value: Value, units: int) -> None:
        name = f"watched {len(watched)}"
        origin = None if node is None else origin_of(node)
        span = None if origin is None else origin.user_span
        builder.output(name, Role.OUTPUT, value)
        watched.append(WatchedNumber(name, kind, span, path, units))

    parts = _parts_of_smooth(builder, step.evaluated)
    for node in step.evaluated:
        found = None if id(node) in parts else _without_effect(builder, node)
        if found is not None:
            kind, share, units = found
            origin = origin_of(node)
            watch(kind, "" if origin is None else origin.path, node, share, units)
    before = step.slopes
    tensors = {entry.name: entry.value for entry in builder.inputs}
    updated = {output.updates: output.value for output in builder.outputs if output.role is Role.PARAMETER}
    builder.outputs[:] = [output for output in builder.outputs if output.updates is None]
    for spec in step.program.parameters:
        if spec.path not in before:
            continue
        start = len(watched)
        count = static_elements(spec.type.shape)
        old, new = tensors[spec.path], updated[spec.path]
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


def _parts_of_smooth(builder: GraphBuilder, nodes: Sequence[Node]) -> set[int]:
    """By identity, each `max(x, 0)` that is only added to functions of the same `x`, as in softplus: no unit dies."""
    makers = {result.index: node for node in nodes for result in node.results}
    readers: dict[int, list[Node]] = {}
    for node in nodes:
        for operand in node.operands:
            readers.setdefault(operand.index, []).append(node)

    def is_of(value: Value, x: Value) -> bool:
        maker = makers.get(value.index)
        return value == x or (maker is not None and len(maker.operands) == 1 and is_of(maker.operands[0], x))

    def is_part(node: Node) -> bool:
        x = next((o for o in node.operands if constant_of(builder, o) != 0), None)
        result = node.results[0]
        sums = readers.get(result.index, [])
        others = [o for reader in sums if isinstance(reader.op, Add) for o in reader.operands if o != result]
        return x is not None and 0 < len(sums) == len(others) and all(is_of(other, x) for other in others)

    return {id(node) for node in nodes if isinstance(node.op, Maximum) and is_part(node)}


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
