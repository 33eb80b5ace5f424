"""The derivative of a model as text of the language, in functions that know the lines for which they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from compiler.errors.diagnostics import Source, UsageError
from compiler.inspection.gradient.losses import each_loss
from compiler.inspection.gradient.text import gradient_text
from compiler.inspection.reading import stretches_of
from runtime.support.files import JsonObject, JsonValue

if TYPE_CHECKING:
    from compiler.driver import Program


def gradient_to_json(program: Program, files: Mapping[str, int], go_on: Callable[[], None]) -> JsonObject:
    """The functions as `dlc show --stage gradient` prints them, or `refused` with the reason why there is no text.

    `go_on` is called now and then, and raises an error to end the work.
    """
    try:
        texts = each_loss(program, lambda alone, loss: gradient_text(alone, go_on=go_on, loss=loss))
    except UsageError as error:
        return {"refused": str(error)}
    parts: list[JsonValue] = [
        {
            "text": function.text,
            "colours": _colours(function.text),
            "lines": [[files[name], line] for name, line in sorted(function.lines) if name in files],
        }
        for text in texts
        for function in text.functions
    ]
    return {"parts": parts}


def _colours(text: str) -> list[JsonValue]:
    ordered = sorted((s.line, s.column, s.length, s.kind) for s in stretches_of(Source("gradient.dl", text)))
    return [number for stretch in ordered for number in stretch]
