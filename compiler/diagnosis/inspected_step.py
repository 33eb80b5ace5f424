"""A step of training whose gradients, results of layers and values of lines can be inspected.

What layers and lines give is chosen after all passes that can change a rounding, so that it has the bits of the step
as it was trained.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from compiler.diagnosis.parts import dependent_values, origin_of
from compiler.errors.diagnostics import UsageError
from compiler.errors.suggestions import nearest
from compiler.frontend.program import Program
from compiler.graph.ir import Direction, Graph, GraphOutput, Node, Origin, Role
from compiler.graph_passes.eliminate_dead import eliminate_dead
from compiler.interface import Executable, Options
from compiler.programs.compilation import prepared_compilation
from compiler.programs.load import complete, in_precision
from compiler.programs.stages import prepared
from compiler.programs.steps.training_step import StepBuilder, in_phase
from compiler.support.record import record
from compiler.targets.registry import target_of

GRADIENT = ":gradient"
_LISTED = 30
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
    step = StepBuilder(*in_phase(program, phase))
    step.differentiate(step.forward["loss"])
    gradients = [path for path in paths if path.endswith(GRADIENT)]
    for path in gradients:
        parameter = path.removesuffix(GRADIENT)
        if parameter not in step.gradients:
            raise _unknown(parameter, "trained parameter", list(step.gradients), "")
        step.builder.output(path, Role.OUTPUT, step.gradients[parameter])
    for path in dict.fromkeys(path for path in paths if path in program.outputs):
        step.builder.output(path, Role.OUTPUT, step.forward[path])
    step.clip()
    step.update()
    step.keep_states()
    step.report()
    ready = prepared(eliminate_dead(step.builder.build()), options)
    chosen = {path: _values(ready, program.outputs, path) for path in paths if path not in gradients}
    known = {output.name for output in ready.outputs}
    further = {output.name: output for outputs in chosen.values() for output in outputs if output.name not in known}
    whole = replace(ready, outputs=(*ready.outputs, *further.values()))
    names: dict[str, tuple[str, ...]] = {path: (path,) for path in gradients}
    names.update((path, tuple(output.name for output in outputs)) for path, outputs in chosen.items())
    return InspectedStep(target_of(options).load(prepared_compilation(whole, options)), names)


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
    return any(_stands_in(origin, line["file"], int(line["line"])) for origin in forward)


def _stands_in(origin: Origin, file: str, line: int) -> bool:
    span = origin.user_span
    return span.line == line and span.source.name.split("/")[-1] == file.split("/")[-1]


def _unknown(name: str, what: str, known: Sequence[str], more: str) -> UsageError:
    near = nearest(name, known)
    if near:
        return UsageError(f"there is no {what} `{name}`", f"did you mean {near}?")
    listed = ", ".join(known[:_LISTED]) + (f" and {len(known) - _LISTED} more" if len(known) > _LISTED else "")
    return UsageError(f"there is no {what} `{name}`", f"there is {listed}{more}")
