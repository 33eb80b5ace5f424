"""The state of a page on a server: the text as it is edited, and documents that follow it, computed in turn."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

from compiler.errors.diagnostics import DataError, DlcError, UsageError
from compiler.inspection.reading import Reading
from compiler.support.record import record
from runtime.support import regular_files
from runtime.support.files import JsonObject, JsonValue, explained, replace_file, rewrite_file
from runtime.support.priority import step_back
from runtime.view.document import Page
from runtime.view.text_part import files_of
from runtime.view.viewed import Viewed, curves_of_run

if TYPE_CHECKING:
    from runtime.view.comparison import Side
    from runtime.view.live_run import LiveRun
    from runtime.view.values_part import Question
    from runtime.view.watching import Watching

Tell = Callable[[str, JsonObject], None]
"""Takes the kind of an event and its data; it may be called by any thread."""


_REST = 0.6  # seconds without an edit, after which the code of a text is made


class _SupersededError(Exception):
    """There is a newer text."""


@record(eq=False)
class Shown:
    """A text under its version, which grows with each edit, and the page of it; `is_whole` once its code is there."""

    version: int
    text: str
    reading: Reading
    page: Page
    is_whole: bool


class Session:
    """The state behind one page. Documents are made by one thread, one after the other; only the newest text counts."""

    def __init__(self, viewed: Viewed, tell: Tell, waits: bool = False) -> None:
        """With `waits`, the code of kernels is not made before there are figures of the training."""
        self.viewed, self._tell = viewed, tell
        self._worker = ThreadPoolExecutor(1, "view", initializer=step_back if waits else None)
        self._lock = threading.Lock()
        self._version = 0
        self._is_closed = False
        self._saved: str | None = text_in(viewed)  # None while the file cannot be read
        self._saves = 0  # texts that the file has had since then
        self._measured: JsonObject | None = None
        self._run: JsonObject = {}
        self._watching: tuple[int, Watching] | None = None  # of the text with that version
        self._sides: tuple[Side, Side] | None = None
        self.shown = self._read(self._saved, 0)
        self.training: LiveRun | None = None
        if viewed.run is not None:
            from runtime.view.live_run import LiveRun  # loads inference, and every format of data

            self.training = LiveRun(viewed.run, viewed.options, files_of(self.shown.reading), self._tell_of_training)
        self._waiting: threading.Timer | None = None
        if not waits:
            self._complete_soon(_REST)  # after the page is drawn

    def begin(self) -> None:
        """Make the code of the text, unless that has begun."""
        if self._waiting is None:
            self._complete_soon(0.0)

    def _tell_of_training(self, kind: str, data: JsonObject) -> None:
        self._tell(kind, data)
        if kind in ("samples", "refusal"):
            self.begin()

    def edit(self, text: str) -> Shown:
        """Show another text: its mistakes, types and figures at once, its code soon. Nothing is saved."""
        with self._lock:
            self._version += 1
            version = self._version
        found = self._worker.submit(self._shown_if_newest, text, version).result()
        self._complete_soon(_REST)
        self._tell("changed", {"version": found.version})
        return found

    def save(self, text: str, over: int | None = None) -> int:
        """Write the text to the file, unless somebody else has changed it; how many texts it has had. Raises DlcError.

        `over` is the number of the text that a page began with. A file that is gone is made anew.
        """
        if self.viewed.run is not None:
            raise UsageError("the text of a run is not changed", "copy it, and train again")
        if over is not None and over != self._saves:
            raise UsageError("the file was saved elsewhere in the meantime", "copy this text, and open the page anew")
        path = self.viewed.path
        is_there = path.exists()
        if is_there and text_in(self.viewed) != self._saved:
            raise UsageError(f"{path} has changed since it was opened", "open the page anew")
        with explained(DataError, path, "cannot be written: "):
            (rewrite_file if is_there else replace_file)(path, text.encode())
        self._saved = text
        self._saves += 1
        self._tell("changed", {"version": self.shown.version})
        return self._saves

    def measure(self, seconds: float) -> JsonObject:
        """Profile the text that is shown. Raises DlcError."""
        shown = self.shown
        measured = self._worker.submit(self.viewed.profile, shown.reading, seconds).result()
        if self.shown.version == shown.version:
            self._measured = measured
        return measured

    def comparison(self, row: int) -> JsonObject:
        """The run beside the other one. Raises DlcError."""
        return self._worker.submit(self._comparison, row).result()

    def _comparison(self, row: int) -> JsonObject:
        if self.viewed.other is None:
            raise UsageError("there is no other run", "name two: dlc view RUN OTHER_RUN")
        from runtime.view.comparison import comparison_to_json, sides_of  # loads inference, and every format of data

        if self._sides is None:
            self._sides = sides_of(self.viewed)
        return comparison_to_json(*self._sides, row)

    def values(self, asked: Question) -> JsonObject:
        """What stands at a line for a row of the data, before and after changes. Raises DlcError."""
        return self._worker.submit(self._values, asked).result()

    def _values(self, asked: Question) -> JsonObject:
        from runtime.view.values_part import values_to_json  # loads inference, and every format of data
        from runtime.view.watching import Watching, examples_of

        shown = self.shown
        if self._watching is None or self._watching[0] != shown.version:
            self._watching = None  # whose memory is free before that of the other text is taken
            self._watching = shown.version, Watching(examples_of(self.viewed, shown.reading), shown.reading)
        return values_to_json(self._watching[1], shown.reading, asked)

    def follow_file(self) -> None:
        """Show what another editor has saved, unless the text here has changes of its own."""
        if self.viewed.run is not None or self.shown.text != (self._saved or self.shown.text):
            return
        try:
            text = text_in(self.viewed)
        except DlcError as error:
            if self._saved is not None:
                self._saved = None
                self._tell("failed", {"message": f"not saved any more: {error}"})
            return
        if text != self._saved:
            self._saved = text
            self._saves += 1
            self.edit(text)

    def tell_of_run(self) -> None:
        """Tell the curves of the run, if its training has written more since the last time, and how far that is."""
        if self.viewed.run is None or self.training is None:
            return
        self.training.follow()
        with suppress(DlcError):  # while a file is being replaced
            found = curves_of_run(self.viewed.run)
            if found != self._run:
                self._run = found
                self._tell("run", found)

    def trained(self) -> LiveRun:
        """The training of the run. Raises UsageError for a file."""
        if self.training is None:
            raise UsageError("this is a model file, which does not train", "open the folder of a run")
        return self.training

    @property
    def is_saved(self) -> bool:
        """Whether the file has the text that is shown; that of a run does not change."""
        return self.viewed.run is not None or self.shown.text == self._saved

    def document(self, shown: Shown) -> JsonObject:
        """The document of a text, with what a page on a server asks beyond it."""
        live: dict[str, JsonValue] = {"version": shown.version, "whole": shown.is_whole}
        live |= {"saved": shown.text == self._saved, "saves": self._saves}
        live |= {"editable": self.viewed.run is None}
        live |= {"compares": self.viewed.other is not None, "trains": self.training is not None}
        live |= {"is_training": self.training is not None and self.training.goes_on}
        run = self.viewed.run
        return {**shown.page.document, **({} if run is None else {"run": curves_of_run(run)}), "live": live}

    def code(self, symbol: str) -> JsonObject | None:
        return self.shown.page.code.get(symbol)

    def close(self) -> None:
        self._is_closed = True
        if self._waiting is not None:
            self._waiting.cancel()
        self._worker.shutdown(wait=False, cancel_futures=True)
        if self.training is not None:
            self.training.close()

    def _shown_if_newest(self, text: str, version: int) -> Shown:
        if version == self._version:
            self._measured = None  # the times of another text would mislead
            self.shown = self._read(text, version)
        return self.shown

    def _read(self, text: str, version: int) -> Shown:
        reading = self.viewed.reading(text)
        return Shown(version, text, reading, self.viewed.page(reading, None, with_code=False), False)

    def _complete_soon(self, rest: float) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
        self._waiting = threading.Timer(rest, self._begin_to_complete, (self.shown,))
        self._waiting.daemon = True
        self._waiting.start()

    def _begin_to_complete(self, shown: Shown) -> None:
        with suppress(RuntimeError):  # the page was closed meanwhile
            self._worker.submit(self._complete, shown)

    def _complete(self, before: Shown) -> None:
        """Make kernels, memory and code of a text, if it is still the newest, and tell of it."""

        def go_on() -> None:
            if before.version != self._version or self._is_closed:
                raise _SupersededError

        if before.reading.subject is None or before.version != self._version:
            return
        try:
            page = self.viewed.page(before.reading, self._measured, True, go_on, before.page.forms)
        except _SupersededError:
            return
        except DlcError as error:
            self._tell("failed", {"version": before.version, "message": str(error)})
            return
        if before.version == self._version:
            self.shown = Shown(before.version, before.text, before.reading, page, True)
            self._tell("whole", {"version": before.version})


def text_in(viewed: Viewed) -> str:
    """The text of the file as it is. Raises UsageError where it cannot be read."""
    try:
        return regular_files.content(viewed.path).decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{viewed.path}: {error.strerror}", "name a model file that can be read") from error
    except ValueError as error:
        raise UsageError(f"{viewed.path} is not UTF-8 text", "save it as UTF-8") from error


def events_as_text(kind: str, data: Mapping[str, JsonValue]) -> str:
    """A server-sent event."""
    from runtime.view.page_text import json_text

    return f"event: {kind}\ndata: {json_text(dict(data))}\n\n"
