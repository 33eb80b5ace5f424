"""Shows any stage of compilation, whole or for one line of the source."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from compiler.diagnostics import Source, UsageError
from compiler.frontend import elaborate
from compiler.frontend.ast_printer import ast_to_json, print_ast
from compiler.frontend.library import library_scope
from compiler.frontend.modules import load_modules
from compiler.frontend.program import Program
from compiler.graph.drawing import graph_to_dot, graph_to_json, graph_to_svg
from compiler.graph.ir import Graph, Origin
from compiler.graph.printer import print_graph
from compiler.interface import Options
from compiler.loops.printer import print_kernel
from compiler.rendering import did_you_mean
from compiler.schedule.drawing import schedule_to_dot, schedule_to_svg
from compiler.schedule.ir import Schedule
from compiler.schedule.printer import print_schedule, schedule_to_json
from compiler.stages import prepared, scheduled
from compiler.targets.cpu.cache import default_folder
from compiler.targets.cpu.jit import assembly
from compiler.targets.cpu.lower import Lowered, lower
from compiler.targets.cpu.machine import detect
from compiler.training_step import prediction_graph, training_step

Chooser = Callable[[Sequence[Origin]], bool]


def show(
    path: str | Path,
    line: int | None = None,
    stage: str = "graph",
    mode: str = "train",
    node: str | None = None,
    format: str = "text",
    options: Options | None = None,
    experiment: str | None = None,
    overrides: tuple[tuple[str, str], ...] = (),
) -> str:
    """The text of a stage: `ast graph grad schedule loops llvm asm`, as `text json dot svg`.

    `line` and `node` keep only what came from a line of the file or from a path such as `encoder.0`.
    """
    options = options or Options()
    modules = load_modules(Path(path), default_folder())
    _expect_line(modules[-1].source, line)
    if stage == "ast":
        if line is not None:
            shown = [d for d in modules[-1].declarations if d.span.line <= line <= d.span.end_line]
            modules = (*modules[:-1], replace(modules[-1], declarations=tuple(shown)))
        root = next(m for m in modules if Path(m.source.name) == Path(path))
        return json.dumps(ast_to_json(root)) if format == "json" else print_ast(root)
    program = elaborate.elaborate(modules, library_scope(), experiment, overrides)
    chosen = _chooser(str(path), line, node)
    _expect_node(program, node)
    if mode == "train" and program.plan is None:
        mode = "infer"
    if program.plan is not None:
        options = replace(options, batch=program.plan.batch)
    if stage == "graph":
        source = program.training if mode == "train" else prediction_graph(program)
        return _graph(_only(source, chosen), format)
    graph = _step(program, mode)
    ready = prepared(graph, options)
    if stage == "grad":
        return _graph(_only(ready, chosen), format)
    plan = scheduled(ready, options)
    if stage == "schedule":
        return _schedule(plan, format, chosen)
    found = lower(ready, plan, detect(), options.batch)
    return _code(found, stage, format, chosen)


def _expect_line(source: Source, line: int | None) -> None:
    lines = len(source.text.splitlines())
    if line is not None and line > lines:
        raise UsageError(f"{source.name} has no line {line}", f"it ends with line {lines}")


def _expect_node(program: Program, node: str | None) -> None:
    """Every start of the path of an operation names a node."""
    if node is None:
        return
    paths = {o.path for n in (*program.training.nodes, *program.inference.nodes) for o in n.origins if o.path}
    known = {path.rsplit(".", cut)[0] for path in paths for cut in range(path.count(".") + 1)}
    if node not in known:
        found = did_you_mean(node, known)
        outermost = sorted(path for path in known if "." not in path)
        fix = f"did you mean {found}?" if found else f"there is {', '.join(outermost)}, and what is below"
        raise UsageError(f"{program.name} has no node {node}", fix if known else "")


def _step(program: Program, mode: str) -> Graph:
    return training_step(program) if mode == "train" else prediction_graph(program)


def _chooser(path: str, line: int | None, node: str | None) -> Chooser:
    def chosen(origins: Sequence[Origin]) -> bool:
        at_line = line is None or any(
            place.line <= line <= place.end_line and Path(place.source.name) == Path(path)
            for o in origins
            for place in (o.span, *o.calls)
        )
        at_node = node is None or any(o.path == node or o.path.startswith(node + ".") for o in origins)
        return at_line and at_node

    return chosen


def _only(graph: Graph, chosen: Chooser) -> Graph:
    """The graph with the chosen nodes; it may no longer be complete."""
    return replace(graph, nodes=tuple(n for n in graph.nodes if not n.origins or chosen(n.origins)))


def _graph(graph: Graph, format: str) -> str:
    match format:
        case "json":
            return json.dumps(graph_to_json(graph))
        case "dot":
            return graph_to_dot(graph)
        case "svg":
            return graph_to_svg(graph)
        case _:
            return print_graph(graph, origins=True)


def _schedule(plan: Schedule, format: str, chosen: Chooser) -> str:
    kept = [k for k, i in enumerate(plan.instances) if not i.origins or chosen(i.origins)]
    plan = replace(
        plan,
        instances=tuple(plan.instances[k] for k in kept),
        barriers=tuple(plan.barriers[k] for k in kept),
    )
    match format:
        case "json":
            return json.dumps(schedule_to_json(plan))
        case "dot":
            return schedule_to_dot(plan)
        case "svg":
            return schedule_to_svg(plan)
        case _:
            return print_schedule(plan)


def _code(found: Lowered, stage: str, format: str, chosen: Chooser) -> str:
    """The kernels of the chosen instances, each once, under the lines that they serve."""
    machine = detect()
    parts: list[dict[str, object]] = []
    seen: set[str] = set()
    for symbol, instance in found.instances:
        kernel, origins = instance.kernel, instance.origins
        if symbol in seen or symbol not in found.texts or not origins or not chosen(origins):
            continue
        seen.add(symbol)
        text = found.texts[symbol]
        body = print_kernel(kernel) if stage == "loops" else text if stage == "llvm" else assembly(text, machine)
        lines = sorted({f"{o.user_span.source.name}:{o.user_span.line} ({o.direction.value})" for o in origins})
        parts.append({"kernel": kernel.name, "symbol": symbol, "lines": lines, "text": body})
    if not parts:
        raise UsageError("no kernel comes from there", "the line may be configuration only, or folded away")
    if format == "json":
        return json.dumps(parts)
    comment = {"llvm": ";", "asm": "#", "loops": "#"}[stage]
    return "\n".join(
        f"{comment} {p['kernel']}, from {', '.join(map(str, p['lines']))}\n{p['text']}"  # type: ignore[call-overload]
        for p in parts
    )
