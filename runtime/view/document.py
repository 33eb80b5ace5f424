"""A model to the one JSON document of its page, from what the compiler knows of it; times come from a profile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from compiler.driver import FUSIONS
from compiler.inspection.ledger import LineFigures, ledger_of
from compiler.inspection.memory_picture import MemoryPicture, memory_picture
from compiler.inspection.plan import Compiled, Forms, compiled, forms_of, plan_of
from compiler.profiling.line_work import Work, work_without_times
from compiler.support.record import record
from runtime.runs.directory import cpu_name
from runtime.support.files import JsonObject, JsonValue
from runtime.view.code_part import kernels_to_json
from runtime.view.gradient_part import gradient_to_json
from runtime.view.graph_part import graph_to_json
from runtime.view.lessons import lessons_of
from runtime.view.origins import OriginTable
from runtime.view.text_part import bindings_to_json, documents_to_json, files_of, findings_to_json, sources_to_json

if TYPE_CHECKING:
    from compiler.driver import Options, Program
    from compiler.inspection.reading import Reading

FORMAT = 1
"""Of the document; raised when a page of before could not read it."""


@record(eq=False)
class Page:
    """`document` is the page's data, and `code` that of each kernel by its symbol, which few readers look at.

    `forms` are those of its program, of which the code can be made; a text with mistakes has none.
    """

    document: JsonObject
    code: Mapping[str, JsonObject]
    forms: Forms | None = None


def document_of(
    reading: Reading,
    options: Options,
    title: str,
    profile: JsonObject | None = None,
    with_code: bool = True,
    go_on: Callable[[], None] = lambda: None,
    forms: Forms | None = None,
) -> Page:
    """The data of a page. A text with mistakes has no figures; without `with_code`, nothing behind the graphs is made.

    `options` have the batch of a step. Figures of bytes, kernels and memory are those of the code. `go_on` is called
    from kernel to kernel, and raises an error to end the work. `forms` are those of an earlier page of the reading.
    """
    document: dict[str, JsonValue] = {
        "format": FORMAT,
        "title": title,
        "sources": sources_to_json(reading),
        "findings": findings_to_json(reading),
        "bindings": bindings_to_json(reading),
        "documents": documents_to_json(reading),
        "profile": profile,
        "lessons": [one for n, source in enumerate(reversed(reading.sources)) for one in lessons_of(source, n)],
    }
    if reading.subject is None:
        return Page(document, {})
    program = reading.subject.program
    forms = forms or forms_of(program, options)
    table = OriginTable(files_of(reading))
    document |= {"model": program.model, "name": program.name, "trains": program.plan is not None}
    document |= {"batch": options.batch, "dtype": options.dtype, "settings": _settings(program)}
    code: Mapping[str, JsonObject] = {}
    made = compiled(forms, True, go_on) if with_code else None
    work: Work | None = None
    if made is not None:
        work = work_without_times(made.lowered, options.batch, in_place=program.plan is None)
        kernels, code = kernels_to_json(made, work, table, go_on)
        document |= {"plan": plan_of(made).to_json(), "kernels": kernels, "machine": _machine(made)}
        document["fusions"] = dict(FUSIONS)
        document["memory"] = _memory(memory_picture(made.schedule, options.batch), table)
    if made is not None and program.plan is not None:
        document["gradient"] = gradient_to_json(forms.program, files_of(reading), go_on)
    document["graph"] = graph_to_json(program, options.batch, files_of(reading), forms if with_code else None)
    document["lines"] = _lines(forms, work, files_of(reading))
    document["origins"] = table.to_json()
    return Page(document, code, forms)


def _settings(program: Program) -> list[JsonValue]:
    return [{"name": s.name, "value": _plain(s.value), "from": s.origin} for s in program.settings]


def _plain(value: object) -> JsonValue:
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)


def _machine(found: Compiled) -> JsonObject:
    return {"name": found.machine.name, "description": found.machine.description, "processor": cpu_name()}


def _lines(forms: Forms, work: Work | None, files: Mapping[str, int]) -> list[JsonValue]:
    """The figures of each line of the user's files; those of no line stand at file -1."""
    ledger = dict(ledger_of(forms))
    moved = {} if work is None else {(row.file, row.line): row for row in work.lines}
    found: list[JsonValue] = []
    for place in dict.fromkeys((*ledger, *moved)):
        figures = ledger.get(place, LineFigures())
        row: dict[str, JsonValue] = {
            "file": files.get(place[0], -1),
            "line": place[1],
            "type": figures.type,
            "parameters": figures.parameters,
            "flops_forward": figures.flops_forward,
            "flops": [figures.flops[direction] for direction in figures.flops],
        }
        if place in moved:
            row["bytes"] = moved[place].bytes
        found.append(row)
    return found


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
