"""Signals that ask a training to end: after the step that runs, it saves and leaves."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeAlias

_Handler: TypeAlias = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None


class Interruption:
    """While entered, SIGINT, SIGTERM and SIGHUP set `requested`; SIGHUP does not where it is ignored, as with `nohup`.

    On Windows, SIGBREAK stands in place of SIGHUP.
    Outside the main thread signals stay as they are.
    """

    def __init__(self) -> None:
        self.requested = self._is_signalled = False
        self._before: dict[signal.Signals, _Handler] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            hang_up = getattr(signal, "SIGHUP", None) or signal.Signals["SIGBREAK"]
            for number in (signal.SIGINT, signal.SIGTERM, hang_up):
                if number != hang_up or signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: it was not set from Python
        self._before.clear()

    def _request(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._is_signalled and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = self._is_signalled = True

    def request(self) -> None:
        """Ask for what the first signal asks for."""
        self.requested = True
