"""The reading of each line of the user's files: colours, types, origins of dimensions, and callees."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from itertools import groupby

from compiler.errors import rendering
from compiler.errors.diagnostics import Span
from compiler.inspection.reading import Binding, Document, Reading, Unnamed, called_at, document_of, stretches_of
from runtime.support.files import JsonObject, JsonValue

_LONGEST_TEXT = 80  # characters of a step without a name


def files_of(reading: Reading) -> dict[str, int]:
    """The numbers of the user's files, the main one first."""
    return {source.name: number for number, source in enumerate(reversed(reading.sources))}


def sources_to_json(reading: Reading) -> list[JsonValue]:
    """Each file with its text and its coloured stretches: line, column, length and kind, one behind the other."""
    found: list[JsonValue] = []
    for source in reversed(reading.sources):
        ordered = sorted((s.line, s.column, s.length, s.kind) for s in stretches_of(source))
        found.append({"name": source.name, "text": source.text, "colours": [n for s in ordered for n in s]})
    return found


def findings_to_json(reading: Reading) -> list[JsonValue]:
    """The mistakes and warnings, as `dlc check --json` prints them."""
    return [rendering.to_json(finding) for finding in reading.findings]


def bindings_to_json(reading: Reading) -> list[JsonValue]:
    """Each name that a line gives to tensors, with their types, and the tensors that it computes without a name.

    `rounds` has the types in their order, from round to round of a loop and from call to call of a function. What has
    no name has its `text`.
    """
    files, by_name = files_of(reading), dict[tuple[str, int, str, str], list[Binding | Unnamed]]()
    for binding in reading.bindings():
        by_name.setdefault((binding.span.source.name, binding.span.line, binding.name, ""), []).append(binding)
    for one in reading.unnamed():
        by_name.setdefault((one.span.source.name, one.span.line, "", one.span.text), []).append(one)
    found: list[JsonValue] = []
    for (file, line, name, written), tensors in by_name.items():
        text = textwrap.shorten(written, _LONGEST_TEXT, placeholder=" …")
        rounds = [
            {"shape": shape, "count": len(list(those)), "dimensions": [_dimension(files, *one) for one in dimensions]}
            for (shape, dimensions), those in groupby((tensor.shown, tensor.dimensions) for tensor in tensors)
        ]
        found.append({"file": files.get(file, 0), "line": line, "name": name, "text": text, "rounds": rounds})
    return found


def _dimension(files: Mapping[str, int], text: str, span: Span | None) -> JsonValue:
    """An axis, with the place of the user's text that gave it its extent."""
    place: JsonValue = None
    if span is not None and span.source.name in files:
        place = {"file": files[span.source.name], "line": span.line, "text": " ".join(span.text.split())}
    return {"text": text, "from": place}


def documents_to_json(reading: Reading) -> JsonObject:
    """The documentation of everything that a line calls, by name, and the names by file and line."""
    known: dict[str, Document] = {}
    called: list[JsonValue] = []
    for number, source in enumerate(reversed(reading.sources)):
        scope = reading.scopes.get(source.name)
        if scope is None:
            continue
        for line, names in called_at(source).items():
            for name in names:
                if name not in known and (found := document_of(name, scope)) is not None:
                    known[name] = found
            there = [name for name in names if name in known]
            if there:
                called.append([number, line, *there])
    entries = {
        name: {"keyword": d.keyword, "head": d.head, "text": d.text, "place": d.place} for name, d in known.items()
    }
    return {"entries": entries, "called": called}
