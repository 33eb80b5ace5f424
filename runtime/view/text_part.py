"""The reading of each line of the user's files: colours, types, origins of dimensions, and callees."""

from __future__ import annotations

from collections.abc import Mapping

from compiler.errors import rendering
from compiler.inspection.reading import Binding, Document, Reading, called_at, document_of, stretches_of
from runtime.support.files import JsonObject, JsonValue


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
    """Each name that a line gives to tensors, with the types that it has from round to round of a loop."""
    files, by_name = files_of(reading), dict[tuple[int, int, str], list[Binding]]()
    for binding in reading.bindings():
        key = (files.get(binding.span.source.name, 0), binding.span.line, binding.name)
        by_name.setdefault(key, []).append(binding)
    found: list[JsonValue] = []
    for (file, line, name), bindings in by_name.items():
        rounds = [{"shape": b.shown, "path": b.path} for b in bindings]
        found.append({"file": file, "line": line, "name": name, "rounds": rounds, **_dimensions(files, bindings[-1])})
    return found


def _dimensions(files: Mapping[str, int], binding: Binding) -> JsonObject:
    """Each axis, with the place of the user's text that gave it its extent."""
    found: list[JsonValue] = []
    for text, span in binding.dimensions:
        place: JsonValue = None
        if span is not None and span.source.name in files:
            place = {"file": files[span.source.name], "line": span.line, "text": " ".join(span.text.split())}
        found.append({"text": text, "from": place})
    return {"dimensions": found}


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
