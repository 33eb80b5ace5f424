"""A copy of all tensors during a training, from which a step that went wrong is made again."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from compiler.driver import Array, OwnedStates, Tensors
from runtime.runs.position import Position

# Copying may take this part of the time.
_SHARE = 0.005


class Snapshot:
    """One copy of all tensors, taken anew when it has become cheap beside the time since the last."""

    def __init__(self, tensors: Tensors, states: OwnedStates | None = None) -> None:
        """Of `states` that other processes own, nothing is copied."""
        self._tensors = tensors
        self._own: Mapping[str, Array] = {} if states is None else states.own
        self._copies: dict[str, Array] = {}
        self._position: Position | None = None
        self._next_at = 0.0

    @property
    def is_due(self) -> bool:
        """Whether it is time to take it."""
        return self._position is None or time.perf_counter() >= self._next_at

    def take(self, position: Position) -> None:
        """Copy the tensors, which are at `position`."""
        begin = time.perf_counter()
        for name in self._tensors.names():
            array = self._own.get(name, self._tensors[name])
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
            if name in self._own:
                np.copyto(self._own[name], array)
            else:  # parameters are always among these, by which programs know of a change
                self._tensors.write(name, array)
        return self._position
