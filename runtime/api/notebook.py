"""In a notebook: cells of `.dl` text that begin with `%%dl`, and the curves of a training while it runs.

IPython and marimo are there or not; neither is imported before the caller's process has done so.
"""

from __future__ import annotations

import json
import keyword
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from compiler.errors.diagnostics import DlcError, SourceError, UsageError
from runtime.api.displays import training_html
from runtime.support.caller import for_caller
from runtime.train.events import EpochEnded, Event, TrainingEnded, TrainingProgressed, TrainingStarted

_SECONDS_BETWEEN = 0.25  # two drawings of the curves
_HTML = "text/html"
_HOME = Path(__file__).parents[2]


def _notebook_display() -> Callable[[str], None] | None:
    """A function that shows HTML in the place of what it showed before; None outside a notebook."""
    marimo: Any = sys.modules.get("marimo")
    if marimo is not None and marimo.running_in_notebook():
        return lambda html: marimo.output.replace(marimo.Html(html))
    ipython: Any = sys.modules.get("IPython")
    if ipython is None or getattr(_shell(), "kernel", None) is None:
        return None
    handle = ipython.display.display({_HTML: "", "text/plain": ""}, raw=True, display_id=True)
    return lambda html: handle.update({_HTML: html, "text/plain": ""}, raw=True)


class Reporter(Protocol):
    """An observer that takes what it shows off the screen when it is closed."""

    def __call__(self, event: Event) -> None: ...

    def close(self) -> None: ...


def live_curves() -> LiveCurves | None:
    """An observer that shows a training in the notebook; None outside of one."""
    show = _notebook_display()
    return None if show is None else LiveCurves(show)


class LiveCurves:
    """The observer of a training that draws its curves as they grow, a few times a second."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._history: list[EpochEnded] = []
        self._best: int | None = None
        self._steps = 0
        self._shown_at = -_SECONDS_BETWEEN
        self._progress: TrainingProgressed | None = None

    def __call__(self, event: Event) -> None:
        match event:
            case TrainingStarted():
                self._steps = event.total_steps
            case TrainingProgressed():
                self._progress = event
                self._draw()
            case EpochEnded():
                self._history.append(event)
                self._best = event.epoch if event.is_best else self._best
                self._draw(event.step)
            case TrainingEnded():
                self._show(training_html(self._history, event.best_epoch))
            case _:
                pass

    def close(self) -> None:
        """The last drawing stays."""

    def _draw(self, step: int | None = None) -> None:
        now = time.monotonic()
        if now - self._shown_at < _SECONDS_BETWEEN:
            return
        self._shown_at = now
        made = step if step is not None or self._progress is None else self._progress.step
        share = None if made is None else min(1.0, made / max(1, self._steps))
        self._show(training_html(self._history, self._best, self._progress, share))


def register_cells(load: Callable[..., Any]) -> None:
    """Let cells begin with `%%dl NAME setting=value …`, where IPython runs; `load` makes a model of text.

    The cell binds the model of its text to NAME, and shows it.
    """
    shell = _shell()
    if shell is None:
        return

    def dl(line: str, cell: str) -> Any:
        try:
            name, settings = _cell_arguments(line)
            model = load(cell, name="cell", **settings)
        except DlcError as error:
            shown = [] if isinstance(error, SourceError) else [str(error)]  # whose note is the whole message
            raise CellError("\n".join([*shown, *error.__notes__])) from None
        shell.push({name: model})
        return model

    dl.__doc__ = "`%%dl NAME setting=value …`: bind NAME to the model of the cell's text."
    shell.register_magic_function(dl, magic_kind="cell", magic_name="dl")
    # IPython alone asks an error for it
    setattr(DlcError, "_render_traceback_", traceback_of_caller)  # noqa: B010


def traceback_of_caller(error: DlcError) -> list[str]:
    """The traceback of an error as IPython shows it, without the lines of dlc."""
    rest = _without_own(error.__traceback__) or error.__traceback__
    return _shell().InteractiveTB.structured_traceback(type(error), error, rest, tb_offset=1)


def _without_own(trace: TracebackType | None) -> TracebackType | None:
    if trace is None:
        return None
    further = _without_own(trace.tb_next)
    if _is_own(trace.tb_frame.f_code.co_filename):
        return further
    return TracebackType(further, trace.tb_frame, trace.tb_lasti, trace.tb_lineno)


def _is_own(file: str) -> bool:
    """Whether a file of code belongs to dlc: its module `dlc`, or a package beside that."""
    path = Path(file)
    return path == _HOME / "dlc.py" or any(path.is_relative_to(_HOME / name) for name in ("compiler", "runtime"))


class CellError(Exception):
    """A mistake in a cell of `.dl` text, which a notebook shows without the Python that found it."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


@for_caller
def _cell_arguments(line: str) -> tuple[str, Mapping[str, Any]]:
    """The name and the settings of `%%dl net hidden=64 optimizer.lr=0.01`. Raises UsageError."""
    fix = "begin the cell with `%%dl NAME setting=value …`, where NAME is a variable"
    try:
        name, *given = shlex.split(line) or [""]
    except ValueError as error:
        raise UsageError(f"`%%dl {line}`: {error}", fix) from None
    if not name.isidentifier() or keyword.iskeyword(name):
        raise UsageError(f"`%%dl` needs the name of a variable, not `{name}`" if name else "`%%dl` has no name", fix)
    settings: dict[str, Any] = {}
    for one in given:
        key, sign, value = one.partition("=")
        if not sign:
            raise UsageError(f"`{one}` is no setting", fix)
        try:
            settings[key] = json.loads(value)
        except ValueError:
            settings[key] = value
    return name, settings


def _shell() -> Any:
    """IPython's shell, where one runs."""
    ipython = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()
