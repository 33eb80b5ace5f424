"""An exception to a message on standard error and an exit code: no traceback reaches a user."""

from __future__ import annotations

import sys
from pathlib import Path

from compiler.errors.diagnostics import CompilerBug, DlcError, SourceError, UsageError
from runtime.reporting.terminal import say_labelled, say_laid_out, wants_colour, width_of
from runtime.support.files import explain

FAILURE = 1
MISUSE = 2


def report_failure(error: Exception) -> int:
    """Print what went wrong, with a hint where there is one, and give the exit code."""
    match error:
        case SourceError():
            from compiler.errors.rendering import render  # only a mistake in a model needs it

            say_laid_out(render(error, wants_colour(sys.stderr), width_of(sys.stderr)))
            return FAILURE
        case UsageError():
            _print(str(error), error.fix)
            return MISUSE
        case DlcError():
            _print(str(error), error.fix)
        case OSError():
            message, fix = explain(error)
            _print(f"{error.filename}: {message}" if error.filename else message, fix)
        case ImportError() if "map segment" in str(error):
            _print("there is not enough memory to load a library", "raise the limit (ulimit -v)")
        case MemoryError():
            _print("not enough memory", "use a smaller batch, or less data")
        case CompilerBug():
            _report_bug(f"the compiler broke one of its own rules: {error}", error, error.dump)
        case _:
            _report_bug(f"unexpected {type(error).__name__}: {error}", error, "")
    return FAILURE


def _print(message: str, fix: str) -> None:
    say_labelled("error", message)
    if fix:
        say_labelled("hint", fix)


def _report_bug(message: str, error: Exception, dump: str) -> None:
    import traceback

    text = "".join(traceback.format_exception(error)) + ("\n" + dump if dump else "")
    say_labelled("error", message)
    say_labelled("note", "this is a fault of dlc, not of your model or data")
    if (path := _save(text)) is not None:
        say_labelled("hint", f"please report it with the file {path}, which holds the details")


def _save(text: str) -> Path | None:
    import tempfile

    try:
        with tempfile.NamedTemporaryFile("w", prefix="dlc-report-", suffix=".txt", delete=False) as file:
            file.write(text)
            return Path(file.name)
    except OSError:  # a full disk must not hide the message
        return None
