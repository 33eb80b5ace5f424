"""A model to the one JSON document of its page, from what the compiler knows of it; times come from a profile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from compiler.inspection.forms import Forms, forms_of
from compiler.inspection.ledger import LineFigures, ledger_of
from compiler.support.record import record
from runtime.support.files import JsonObject, JsonValue
from runtime.view.graph_part import graph_to_json
from runtime.view.lessons import lessons_of
from runtime.view.origins import OriginTable
from runtime.view.text_part import bindings_to_json, documents_to_json, files_of, findings_to_json, sources_to_json

if TYPE_CHECKING:
    from compiler.driver import Options, Program
    from compiler.inspection.reading import Reading
    from compiler.profiling.line_work import Work
    from runtime.view.compiled_part import CompiledPart

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
    document: dict[str, JsonValue] = {"format": FORMAT, "title": title, "profile": profile, **_text(reading)}
    if reading.subject is None:
        return Page(document, {})
    program, files = reading.subject.program, files_of(reading)
    forms, table = forms or forms_of(program, options), OriginTable(files)
    document |= {"model": program.model, "name": program.name, "trains": program.plan is not None}
    document |= {"batch": options.batch, "dtype": options.dtype, "settings": _settings(program)}
    made: CompiledPart | None = None
    if with_code:
        from runtime.view.compiled_part import compiled_part  # loads the schedule, and all that makes code

        made = compiled_part(forms, options.batch, files, table, go_on)
        document |= made.entries
    document["graph"] = graph_to_json(program, options.batch, files, forms if with_code else None)
    document["lines"] = _lines(forms, None if made is None else made.work, files)
    document["origins"] = table.to_json()
    return Page(document, {} if made is None else made.code, forms)


def _text(reading: Reading) -> JsonObject:
    """What the text says by itself."""
    return {
        "sources": sources_to_json(reading),
        "findings": findings_to_json(reading),
        "bindings": bindings_to_json(reading),
        "documents": documents_to_json(reading),
        "lessons": [one for n, source in enumerate(reversed(reading.sources)) for one in lessons_of(source, n)],
    }


def _settings(program: Program) -> list[JsonValue]:
    return [{"name": s.name, "value": _plain(s.value), "from": s.origin} for s in program.settings]


def _plain(value: object) -> JsonValue:
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)


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
