"""Shows any stage of compilation, whole or for one line of the source."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from compiler.errors.diagnostics import UsageError
from compiler.errors.suggestions import did_you_mean, nearest
from compiler.frontend import elaborate
from compiler.frontend.program import DimensionsOf, Program
from compiler.graph import drawing as graph_drawing
from compiler.graph.ir import Graph, Origin
from compiler.graph.pictures import dark_style as dark_style
from compiler.graph.pictures import drawn
from compiler.graph.printer import print_graph
from compiler.inspection.code_view import kernel_views, print_views, views_to_json
from compiler.inspection.gradient.losses import each_loss
from compiler.inspection.gradient.proof import proved_text
from compiler.inspection.gradient.text import PrintedFunction
from compiler.inspection.level_drawing import drawing_of_levels
from compiler.inspection.levels import levels_of
from compiler.inspection.parts import Chooser, part_of_fused, part_of_graph
from compiler.inspection.passes import PassForm, watched_passes
from compiler.inspection.ptx_view import head_of
from compiler.inspection.view import PassRun, View
from compiler.interface import Options
from compiler.machine import Machine
from compiler.programs.kinds import TRAINING, with_products
from compiler.programs.load import complete, in_precision, options_of
from compiler.programs.stages import prepared, scheduled
from compiler.programs.steps.sampling import sampling_graph
from compiler.programs.steps.training_step import prediction_graph, training_step
from compiler.schedule import drawing as schedule_drawing
from compiler.schedule.build import fixed, fused_graph
from compiler.schedule.fusion.ir import FusedGraph
from compiler.schedule.fusion.printer import fused_to_json, print_fused
from compiler.schedule.ir import Schedule
from compiler.schedule.printer import print_schedule, schedule_to_json
from compiler.support.cache import default_folder
from compiler.support.record import record
from compiler.syntax.modules import load_modules
from compiler.syntax.printer import ast_to_json, print_ast
from compiler.syntax.tree import Module
from compiler.targets.registry import kernel_target_of

_CODE = (
    "fixed",
    "fused",
    "schedule",
    "kernels",
    "tiles",
    "loops",
    "llvm",
    "ptx",
    "asm",
)  # the stages that know a machine


def show(view: View, options: Options, dimensions_of: DimensionsOf | None = None) -> str:
    """The text of a stage, whole or of what came from a line or a node. Raises SourceError and UsageError."""
    if options.machine is not None and view.stage not in _CODE:
        message = f"stage {view.stage} is the same for every target"
        raise UsageError(message, f"--target goes with {', '.join(_CODE[:-1])} and {_CODE[-1]}")
    if view.stage == "ast":
        return _syntax(_modules(view), view)
    opened = _opened(view, options, dimensions_of)
    chosen, options = _chooser(view), opened.options
    if view.stage == "gradient":
        return _gradient(opened, view)
    if view.stage in ("graph", "step"):
        return _graph(_only(opened.text if view.stage == "graph" else opened.step(), chosen, view), view, opened)
    ready = prepared(opened.step(), options)
    if view.stage == "grad":
        return _graph(_only(ready, chosen, view), view, opened)
    machine = kernel_target_of(options).machine(options, runs=False)
    if view.stage == "fixed":
        return _graph(_only(fixed(ready, options.without, options.batch, machine), chosen, view), view, opened)
    if view.stage == "fused":
        fused = fused_graph(ready, options.without, options.batch, options.verify, machine)
        _expect_some(part_of_fused(fused, chosen).groups, "kernel", view)
        return _fused(fused, chosen, view)
    kernel_target_of(options).expect_products(options, runs=False)
    plan = scheduled(ready, options, machine)
    if view.stage == "schedule":
        return _schedule(plan, view, chosen)
    return _code(ready, plan, options, view, chosen, machine)


def _gradient(opened: _Opened, view: View) -> str:
    """The derivative as text, whole or the functions of a part. Raises UsageError for a prediction, which has none."""
    if view.sampler is not None:
        raise UsageError("a `sample` has no gradient", "leave out --sampler")
    if view.mode != "train":
        raise UsageError("a prediction has no gradient", "leave out --mode infer")
    program, options = in_precision(opened.program, opened.options), opened.options
    texts = each_loss(program, lambda alone, loss: proved_text(alone, options, loss))
    path = Path(view.path)
    found = [
        function
        for text in texts
        for function in text.functions
        if (view.node is None or view.node in function.paths)
        and (view.line is None or any(Path(name) == path and line == view.line for name, line in function.lines))
    ]
    _expect_some(found, "function of the gradient", view)
    whole = "\n".join(text.text for text in texts)
    text = "\n\n".join(function.text for function in found) + "\n" if _is_part(view) else whole
    if view.format == "json":
        return json.dumps({"text": text, "functions": [_function_to_json(function) for function in found]})
    return text


def _function_to_json(function: PrintedFunction) -> dict[str, object]:
    lines = [{"file": name, "line": line} for name, line in sorted(function.lines)]
    return {
        "name": function.name,
        "layers": sorted(filter(None, function.paths)),
        "lines": lines,
        "text": function.text,
    }


def watch_passes(view: View, options: Options, dimensions_of: DimensionsOf | None = None) -> tuple[PassRun, ...]:
    """Each pass over the graph of a step or of a prediction, in order. Raises SourceError and UsageError."""
    opened, chosen = _opened(view, options, dimensions_of), _chooser(view)

    def text_of(form: PassForm) -> str:
        if isinstance(form, Graph):
            return _graph(_part(form, chosen, view), view, opened)
        return _fused(form, chosen, view)

    step = opened.step()
    _only(step, chosen, view)  # refuses a line from which nothing comes
    return watched_passes(step, opened.options, view, text_of)


@record
class _Opened:
    """A program and how it is compiled: its graph as the text has it, and the step or prediction that is made of it.

    Of a `sampler`, both are its graph.
    """

    program: Program
    trains: bool
    options: Options
    sampler: str | None = None

    @property
    def text(self) -> Graph:
        if self.sampler is not None:
            return sampling_graph(self.program, self.sampler)
        return self.program.training_graph if self.trains else prediction_graph(self.program)

    def step(self) -> Graph:
        program = in_precision(self.program, self.options)
        if self.sampler is not None:
            return self.text
        return training_step(program) if self.trains else prediction_graph(program)


def _opened(view: View, options: Options, dimensions_of: DimensionsOf | None) -> _Opened:
    program = elaborate.elaborate(_modules(view), view.experiment, view.overrides, dimensions_of)
    _expect_node(program, view.node)
    _expect_sampler(program, view.sampler)
    trains = view.mode == "train" and program.plan is not None and view.sampler is None
    rows = program.plan.usual_rows if trains and program.plan is not None else 1  # as a run compiles them
    options = options_of(program, replace(options, batch=rows))
    return _Opened(program, trains, with_products(program, TRAINING, options) if trains else options, view.sampler)


def _expect_sampler(program: Program, name: str | None) -> None:
    names = [sampler.name for sampler in program.samplers]
    if name is not None and name not in names:
        fix = did_you_mean(name, names) or (f"there is {', '.join(names)}" if names else "")
        raise UsageError(f"{program.name} has no sampler {name}", fix)


def _modules(view: View) -> tuple[Module, ...]:
    modules = load_modules(Path(view.path), default_folder(), view.within)
    source = modules[-1].source
    lines = len(source.text.splitlines())
    if view.line is not None and view.line > lines:
        raise UsageError(f"{source.name} has no line {view.line}", f"it ends with line {lines}")
    return modules


def _syntax(modules: tuple[Module, ...], view: View) -> str:
    root = next(m for m in modules if Path(m.source.name) == Path(view.path))
    if view.line is not None:
        shown = [d for d in root.declarations if d.span.line <= view.line <= d.span.end_line]
        root = replace(root, declarations=tuple(shown))
    return json.dumps(ast_to_json(root)) if view.format == "json" else print_ast(root)


def _expect_node(program: Program, node: str | None) -> None:
    """Every start of the path of an operation names a node."""
    if node is None:
        return
    paths = {
        o.path for n in (*program.training_graph.nodes, *program.inference_graph.nodes) for o in n.origins if o.path
    }
    known = {path.rsplit(".", cut)[0] for path in paths for cut in range(path.count(".") + 1)}
    if node not in known:
        found = nearest(node, known)
        outermost = sorted(path for path in known if "." not in path)
        fix = f"did you mean {found}?" if found else f"the outermost nodes are {', '.join(outermost)}"
        raise UsageError(f"{program.name} has no node {node}", fix if known else "")


def _chooser(view: View) -> Chooser:
    """Whether origins hold the line and the node."""
    path, line, node = Path(view.path), view.line, view.node

    def chosen(origins: Sequence[Origin]) -> bool:
        at_line = line is None or any(
            place.line <= line <= place.end_line and Path(place.source.name) == path
            for o in origins
            for place in (o.span, *o.calls)
        )
        at_node = node is None or any(o.path == node or o.path.startswith(node + ".") for o in origins)
        return at_line and at_node

    return chosen


def _only(graph: Graph, chosen: Chooser, view: View) -> Graph:
    """As `_part`. Raises UsageError where nothing is left."""
    part = _part(graph, chosen, view)
    _expect_some(part.nodes, "operation", view)
    return part


def _expect_some(found: Sequence[object], what: str, view: View) -> None:
    """Raises UsageError where nothing is left of the line or the node that `view` shows."""
    if not found and _is_part(view):
        raise UsageError(f"no {what} comes from there", "the line may be configuration only, or folded away")


def _is_part(view: View) -> bool:
    return view.line is not None or view.node is not None


def _part(graph: Graph, chosen: Chooser, view: View) -> Graph:
    return part_of_graph(graph, chosen) if _is_part(view) else graph


def graph_of_program(program: Program, mode: str, format: str, depth: int = 1) -> str:
    """The graph as the text has it, of the loss (`train`) or of a prediction, as `text`, `svg` or `dot`."""
    opened = _Opened(complete(program), mode == "train" and program.plan is not None, Options())
    return _graph(opened.text, View("", stage="graph", format=format, depth=depth), opened)


def _graph(graph: Graph, view: View, opened: _Opened) -> str:
    match view.format:
        case "json":
            return json.dumps(graph_drawing.graph_to_json(graph))
        case "text":
            return print_graph(graph, origins=True)
        case "svg" | "dot" if opened.sampler is None and (view.depth is not None or not _is_part(view)):
            is_own = view.stage == "graph" and opened.trains and not view.stop_after
            levels = levels_of(opened.program)
            depth = 1 if view.depth is None else view.depth
            return drawn(drawing_of_levels(graph, levels, depth, is_own), view.format)
        case _:
            return drawn(graph_drawing.drawing_of(graph), view.format)


def _fused(fused: FusedGraph, chosen: Chooser, view: View) -> str:
    """Raises UsageError for a format that would be a picture."""
    if view.format not in ("text", "json"):
        raise UsageError("a fused graph cannot be drawn", "stop at a pass before fuse")
    fused = part_of_fused(fused, chosen) if _is_part(view) else fused
    return json.dumps(fused_to_json(fused)) if view.format == "json" else print_fused(fused, origins=True)


def _schedule(plan: Schedule, view: View, chosen: Chooser) -> str:
    kept = [k for k, i in enumerate(plan.instances) if chosen(i.origins)]
    _expect_some(kept, "kernel", view)
    plan = replace(
        plan, instances=tuple(plan.instances[k] for k in kept), barriers=tuple(plan.barriers[k] for k in kept)
    )
    if view.format == "json":
        return json.dumps(schedule_to_json(plan))
    return print_schedule(plan) if view.format == "text" else drawn(schedule_drawing.drawing_of(plan), view.format)


def _code(graph: Graph, plan: Schedule, options: Options, view: View, chosen: Chooser, machine: Machine) -> str:
    target = kernel_target_of(options)
    part = chosen if _is_part(view) else None
    found = target.lower(graph, plan, machine, options.batch, keeps_nests=view.stage in ("tiles", "loops"))
    views = kernel_views(found, view.stage, target, machine, part)
    _expect_some(views, "code", view)
    if view.format == "json":
        return views_to_json(views, part, machine)
    head = head_of(target.ptx(found.texts[views[0].symbol], machine)) if view.stage == "ptx" else ""
    is_told = options.machine is not None or options.target == "gpu"
    return head + print_views(views, view.stage, part, machine if is_told else None)
