"""Windows of a running text whose tokens stay on disk, each token once: rows of a program that overlap or touch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from compiler import driver
from compiler.errors.diagnostics import DataError
from compiler.support.record import record
from compiler.support.trusted_folder import TrustedFolder
from runtime.data.decoded import mapped
from runtime.data.orders import shift_of_windows
from runtime.data.specs import Array
from runtime.data.streaming.order import whole_order
from runtime.data.streaming.packs import PackedPart, RowFile, opened_rows
from runtime.data.streaming.rows import OnDemand
from runtime.support.files import explained

TOKEN = "(tokens)"
"""The array of a part that has its tokens (i32), one behind the other."""
_AT_ONCE = 1 << 18  # tokens


@record
class Window:
    """The tokens of a window that an input or target takes: `length` from step `first` on. Of a mask, all are true."""

    first: int
    length: int
    dtype: np.dtype[np.generic]
    is_mask: bool = False


@record(eq=False)
class WindowStream:
    """The windows of a part, of which a training reads blocks of at most `block`: one each `stride` tokens.

    A window takes `steps` tokens. In training, all begin up to `slack` later, by the epoch. `begin` is the place of the
    first token in the whole text; with `is_numbered`, the places of windows in it are an input, too.
    """

    folder: TrustedFolder
    part: PackedPart
    block: int
    windows: Mapping[str, Window]
    steps: int
    stride: int
    slack: int
    begin: int
    is_numbered: bool = False

    @property
    def rows(self) -> int:
        return (self.part.rows - self.steps - self.slack) // self.stride + 1

    def with_numbers(self) -> WindowStream:
        return replace(self, is_numbered=True)

    def widened(self) -> WindowStream:
        return self

    def room(self, rows: int) -> dict[str, Array]:
        """Arrays for so many rows."""
        found: dict[str, Array] = {n: np.empty((rows, w.length), w.dtype) for n, w in self.windows.items()}
        if self.is_numbered:
            found[driver.SAMPLE_NUMBERS] = np.empty(rows, np.int64)
        return found

    def opened(self) -> WindowFile:
        return WindowFile(self)

    def shift(self, seed: int, epoch: int) -> int:
        """By how many tokens all windows of an epoch begin later."""
        return shift_of_windows(seed, epoch) % (self.slack + 1) if self.slack else 0

    def order_of_epoch(self, seed: int, epoch: int) -> Array:
        """The places of the windows in the order in which an epoch takes them, of all blocks."""
        return whole_order(self.rows, self.block, seed, epoch) * self.stride + self.shift(seed, epoch)

    def arrays(self) -> Mapping[str, Array]:
        """By each input and target the windows at all places, of which `rows` are some."""
        names = (*self.windows, *([driver.SAMPLE_NUMBERS] if self.is_numbered else []))
        return OnDemand(names, self._mapped)

    def _mapped(self, name: str) -> Array:
        count = self.part.rows - self.steps + 1
        if name == driver.SAMPLE_NUMBERS:
            return np.arange(self.begin, self.begin + count)
        packed, window = self.part.arrays[TOKEN], self.windows[name]
        place = self.folder.path / packed.entry
        with explained(DataError, place):
            opened = opened_rows(self.folder, packed, self.part.rows, TOKEN)
            with opened.file as file:
                opened.check()
                raw = mapped(file, place, 0, (self.part.rows * packed.row_bytes,))
        return _windows_of(raw.view(packed.dtype), window, count, 1)


class WindowFile:
    """The open file of a stream. Not for several threads at once."""

    def __init__(self, stream: WindowStream) -> None:
        self._stream = stream
        self._file: RowFile | None = None

    def read(
        self, runs: Sequence[tuple[int, int]], into: Mapping[str, Array], chosen: Array | None = None, shift: int = 0
    ) -> dict[str, Array]:
        """The windows of some runs, as `RowFiles.read`, `shift` tokens later. Raises DataError."""
        wanted = np.concatenate([np.arange(first, end) for first, end in runs])
        wanted = wanted if chosen is None else wanted[chosen]
        found = {name: array[: len(wanted)] for name, array in into.items()}
        each = max(1, _AT_ONCE // self._stream.stride)
        done = 0
        while done < len(wanted):
            first = int(wanted[done])
            count = int(np.searchsorted(wanted[done:], first + each))
            self._fill(found, wanted[done : done + count], done, shift)
            done += count
        return found

    def close(self) -> None:
        if self._file is not None:
            self._file.file.close()
            self._file = None

    def __del__(self) -> None:
        self.close()

    def _fill(self, found: Mapping[str, Array], rows: Array, done: int, shift: int) -> None:
        """Fill the places from `done` on with the windows of `rows`, which lie near each other."""
        stream = self._stream
        first = int(rows[0])
        span = int(rows[-1]) - first + 1
        begin = first * stream.stride + shift
        tokens: Array = np.empty((span - 1) * stream.stride + stream.steps, np.int32)
        packed = stream.part.arrays[TOKEN]
        with explained(DataError, stream.folder.path / packed.entry):
            if self._file is None:
                self._file = opened_rows(stream.folder, packed, stream.part.rows, TOKEN)
            self._file.fill(begin, tokens)
        for name, window in stream.windows.items():
            found[name][done : done + len(rows)] = _windows_of(tokens, window, span, stream.stride)[rows - first]
        if stream.is_numbered:
            found[driver.SAMPLE_NUMBERS][done : done + len(rows)] = rows * stream.stride + shift + stream.begin


def _windows_of(tokens: Array, window: Window, count: int, stride: int) -> Array:
    if window.is_mask:
        return np.broadcast_to(np.True_, (count, window.length))
    (each,) = tokens.strides
    shape = (count, window.length)
    views = np.lib.stride_tricks.as_strided(tokens[window.first :], shape, (each * stride, each), writeable=False)
    return views.astype(window.dtype, copy=False)
