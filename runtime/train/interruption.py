"""Ctrl-C, or the end of the terminal, as a request: a training stops between two calls; a second Ctrl-C interrupts."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeAlias

_Handler: TypeAlias = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None


class Interruption:
    """While entered, SIGINT, SIGTERM and SIGHUP set `requested`; SIGHUP does not where it is ignored, as with `nohup`.

    Outside the main thread signals stay as they are.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[signal.Signals, _Handler] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: it was not set from Python
        self._before.clear()

    def _request(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
