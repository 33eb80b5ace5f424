"""A compiled program as data: its plan, kernels with their code, memory and gradient, and the work of each line."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from compiler.driver import FUSIONS
from compiler.inspection.forms import Forms
from compiler.inspection.memory_picture import MemoryPicture, memory_picture
from compiler.inspection.plan import Compiled, compiled, plan_of
from compiler.profiling.line_work import Work, work_without_times
from compiler.support.record import record
from runtime.runs.directory import cpu_name
from runtime.support.files import JsonObject, JsonValue
from runtime.view.code_part import kernels_to_json
from runtime.view.gradient_part import gradient_to_json
from runtime.view.origins import OriginTable


@record(eq=False)
class CompiledPart:
    """The entries of a document that need the kernels of a step; `code` is that of each kernel by its symbol."""

    entries: JsonObject
    code: Mapping[str, JsonObject]
    work: Work


def compiled_part(
    forms: Forms, batch: int, files: Mapping[str, int], table: OriginTable, go_on: Callable[[], None]
) -> CompiledPart:
    """Compiles a step of `batch` rows. `go_on` is called from kernel to kernel, and raises an error to end the work."""
    made, trains = compiled(forms, True, go_on), forms.program.plan is not None
    work = work_without_times(made.lowered, batch, in_place=not trains)
    kernels, code = kernels_to_json(made, work, table, go_on)
    entries: dict[str, JsonValue] = {
        "plan": plan_of(made).to_json(),
        "kernels": kernels,
        "machine": _machine(made),
        "fusions": dict(FUSIONS),
        "memory": _memory(memory_picture(made.schedule, batch), table),
    }
    if trains:
        entries["gradient"] = gradient_to_json(forms.program, files, go_on)
    return CompiledPart(entries, code, work)


def _machine(found: Compiled) -> JsonObject:
    return {"name": found.machine.name, "description": found.machine.description, "processor": cpu_name()}


def _memory(picture: MemoryPicture, table: OriginTable) -> JsonObject:
    buffers: list[JsonValue] = [
        [b.name, int(b.is_of_batch), b.offset, b.size, b.first, b.last, table.number(b.origins)]
        for b in picture.buffers
    ]
    return {
        "buffers": buffers,
        "stretches": [list(names) for names in picture.kernels],
        "static_bytes": picture.static_bytes,
        "batch_bytes": picture.batch_bytes,
        "peak": picture.peak,
    }
