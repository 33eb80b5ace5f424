"""The kernels of a step, and the code of each: columns of text, with the statement and the origins of each line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from compiler.inspection.code_view import CodeLine, KernelView, kernel_views
from compiler.inspection.fusion_steps import FusionStep, fusion_steps
from compiler.inspection.parts import Origin
from compiler.targets.registry import kernel_target_of
from runtime.support.files import JsonObject, JsonValue
from runtime.view.origins import OriginTable

if TYPE_CHECKING:
    from compiler.inspection.plan import Compiled
    from compiler.profiling.line_work import Work

STAGES = ("loops", "llvm", "asm")


def kernels_to_json(
    found: Compiled, work: Work, table: OriginTable, go_on: Callable[[], None]
) -> tuple[list[JsonValue], dict[str, JsonObject]]:
    """The kernels in the order of their first calls, and by symbol the code of each in the three stages.

    `go_on` is called now and then, and raises an error to end the work.
    """
    kernels: list[JsonValue] = []
    code: dict[str, dict[str, JsonValue]] = {}
    amounts = {row.symbol: row for row in work.kernels}
    go_on()
    steps = fusion_steps(found.code, found.forms.options, found.machine, go_on)
    views = {stage: _views(found, stage, go_on) for stage in STAGES}
    for view in views["loops"]:
        instances = [instance for symbol, instance in found.lowered.instances if symbol == view.symbol]
        kernels.append(
            {
                "name": view.kernel,
                "symbol": view.symbol,
                "kind": instances[0].kernel.kind,
                "calls": amounts[view.symbol].calls if view.symbol in amounts else 0,
                "flops": amounts[view.symbol].flops if view.symbol in amounts else 0.0,
                "bytes": amounts[view.symbol].bytes if view.symbol in amounts else 0.0,
                "origins": table.number(view.origins),
                "fusion": [_step(step, table) for step in steps.get(view.kernel, ())],
                "statements": list(view.printed),
                "statement_origins": _statement_origins(views["llvm"], view.symbol, len(view.printed), table),
            }
        )
    for stage in STAGES:
        for view in views[stage]:
            go_on()
            code.setdefault(view.symbol, {})[stage] = _columns(view, table)
    return kernels, {symbol: dict(stages) for symbol, stages in code.items()}


def _step(step: FusionStep, table: OriginTable) -> JsonObject:
    sides = {"first": list(step.first), "second": list(step.second)}
    return {"fusion": step.fusion, **sides, "origins": table.number(step.origins)}


def _views(found: Compiled, stage: str, go_on: Callable[[], None]) -> Sequence[KernelView]:
    def every(_: Sequence[Origin]) -> bool:
        go_on()
        return True

    return kernel_views(found.lowered, stage, kernel_target_of(found.forms.options), found.machine, every)


def _statement_origins(views: Sequence[KernelView], symbol: str, count: int, table: OriginTable) -> list[JsonValue]:
    """For each line of the printed kernel, the set of its origins."""
    view = next(view for view in views if view.symbol == symbol)
    found: dict[int, CodeLine] = {line.statement: line for line in view.code if line.origins}
    return [table.number(found[n].origins) if n in found else 0 for n in range(1, count + 1)]


def _columns(view: KernelView, table: OriginTable) -> JsonObject:
    """The lines of text as one text, and for each the statement and the set of origins."""
    columns: dict[str, JsonValue] = {
        "text": "\n".join(line.text for line in view.code),
        "statements": [line.statement for line in view.code],
        "origins": [table.number(line.origins) for line in view.code],
    }
    if any(line.is_instruction for line in view.code):
        columns["offsets"] = [line.offset for line in view.code]
        columns["labels"] = {str(n): list(line.labels) for n, line in enumerate(view.code) if line.labels}
    return columns
