"""Running text: the rows of a program are windows of it, `tokens`, and the same a token further on, `next`."""

from __future__ import annotations

from compiler.errors.diagnostics import DataError
from runtime.data.dataset import Dataset, Reading, TextPlan, WindowPlan
from runtime.data.formats.format import Format, Request
from runtime.data.formats.lines import NEXT, TOKENS, text_field
from runtime.data.text.files import text_files
from runtime.data.text.rules import rules_of
from runtime.support.files import fingerprint


def read_text(request: Request) -> Dataset:
    """The texts of all files that fit the path, one behind the other. Raises DataError."""
    files = text_files(request.path, request.options)
    whole = "".join(file.text for file in files)
    if not whole.strip():
        raise DataError("there is no text in it", request.path, fix="check that this is the right file")
    field = text_field([whole], files[0].path if len(files) == 1 else request.path, [1])
    plan = TextPlan(rules_of(request.options, "char"), {TOKENS: Reading(TOKENS), NEXT: Reading(TOKENS)})
    prints = {file.path.name: fingerprint(file.path) for file in files}
    windows = WindowPlan(stride=request.options.number("stride"))
    fields = {TOKENS: field, NEXT: field}
    return Dataset("text", request.path, fields, len(whole), text=plan, windows=windows, fingerprints=prints)


TEXT = Format("text", (), read_text)
