"""The tensors of some steps ago, kept in memory to go back to when a step is not finite."""

from __future__ import annotations

import time

import numpy as np

from compiler.driver import Array, Tensors
from runtime.runs.position import Position

# Copying may take this part of the time.
_SHARE = 0.005


class Snapshot:
    """One copy of all tensors, taken anew when it has become cheap beside the time since the last."""

    def __init__(self, tensors: Tensors) -> None:
        self._tensors = tensors
        self._copies: dict[str, Array] = {}
        self._position: Position | None = None
        self._next_at = 0.0

    def keep_up(self, position: Position) -> None:
        """Copy the tensors, which are at `position`, if it is time to."""
        if self._position is None or time.perf_counter() >= self._next_at:
            self.take(position)

    def take(self, position: Position) -> None:
        """Copy the tensors, which are at `position`."""
        begin = time.perf_counter()
        for name in self._tensors.names():
            array = self._tensors[name]
            if name in self._copies:
                np.copyto(self._copies[name], array)
            else:
                self._copies[name] = array.copy()
        end = time.perf_counter()
        self._position, self._next_at = position, end + (end - begin) / _SHARE

    def forget(self) -> None:
        """The next state cannot be reached from the copy by steps alone."""
        self._position = None

    def restore(self) -> Position:
        """Put the copy back; where it was taken."""
        assert self._position is not None, "a copy is taken before the first step"
        for name, array in self._copies.items():
            self._tensors.write(name, array)
        return self._position
