"""Origins of code to numbers: a page names each origin, and each set of them, once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from runtime.support.files import JsonObject, JsonValue

if TYPE_CHECKING:
    from compiler.errors.diagnostics import Span
    from compiler.inspection.parts import Origin


class OriginTable:
    """Collects origins and sets of them in the order in which they are met; set 0 is empty."""

    def __init__(self, files: Mapping[str, int]) -> None:
        self._files = files
        # by their calls as well, which their own hash leaves out: a library function has as many origins as calls
        self._origins: dict[tuple[tuple[Span, ...], Origin], int] = {}
        self._sets: dict[tuple[int, ...], int] = {(): 0}
        self._met: dict[int, tuple[tuple[Origin, ...], int]] = {}  # by identity: thousands of lines share one tuple

    def number(self, origins: tuple[Origin, ...]) -> int:
        """The number of a set of origins."""
        met = self._met.get(id(origins))
        if met is None:
            members = tuple(dict.fromkeys(self._origins.setdefault((o.calls, o), len(self._origins)) for o in origins))
            met = self._met[id(origins)] = origins, self._sets.setdefault(members, len(self._sets))
        return met[1]

    def to_json(self) -> JsonObject:
        """An origin has the places of the user's files that led to it, each as file, first and last line.

        `at` is the innermost of them, `path` the layer, `direction` the part of a step.
        """
        return {"all": [self._origin(o) for _, o in self._origins], "sets": [list(members) for members in self._sets]}

    def _origin(self, origin: Origin) -> JsonObject:
        spans = [span for span in (origin.span, *origin.calls) if span.source.name in self._files]
        places: list[JsonValue] = [[self._files[s.source.name], s.line, s.end_line] for s in spans]
        inner = origin.user_span
        at: JsonValue = [self._files[inner.source.name], inner.line] if inner.source.name in self._files else None
        return {"places": places, "at": at, "path": origin.path, "direction": origin.direction.value}
