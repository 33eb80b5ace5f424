"""Errors of the Python API as its caller sees them: at the caller's line, with a hint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import ParamSpec, TypeVar

from compiler import driver
from compiler.errors.diagnostics import Diagnostic, DlcError, SourceError, Span

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")

_SETTINGS = "settings"


def for_caller(call: Callable[_Given, _Result]) -> Callable[_Given, _Result]:
    """A function whose `DlcError`s end at its call, without the lines of `dlc` itself, and hold the hint as a note."""

    @wraps(call)
    def called(*arguments: _Given.args, **named: _Given.kwargs) -> _Result:
        try:
            return call(*arguments, **named)
        except DlcError as error:
            raise _explained(error).with_traceback(None) from None

    return called


def _explained(error: DlcError) -> DlcError:
    if getattr(error, "__notes__", None):
        return error  # from a call within the call
    if isinstance(error, SourceError):
        from compiler.errors.rendering import render  # only a mistake in a model needs it

        found = SourceError(tuple(_without_command_line(diagnostic) for diagnostic in error.diagnostics))
        found.add_note(render(found))
        return found
    fix = str(getattr(error, "fix", ""))
    if fix:
        error.add_note(f"hint: {fix}")
    return error


def _without_command_line(diagnostic: Diagnostic) -> Diagnostic:
    """Settings come from keyword arguments here, not from a command line."""

    def renamed(span: Span) -> Span:
        """`--set hidden=x` is `hidden=x`."""
        if span.source.name != driver.COMMAND_LINE:
            return span
        shorter = len(driver.SET) if span.source.text.startswith(driver.SET) else 0
        source = replace(span.source, name=_SETTINGS, text=span.source.text[shorter:])
        return replace(span, source=source, column=max(span.column - shorter, 1), end_column=span.end_column - shorter)

    notes = tuple(note if note.span is None else replace(note, span=renamed(note.span)) for note in diagnostic.notes)
    return replace(diagnostic, span=renamed(diagnostic.span), notes=notes)
