"""Windows of a running text or a table whose steps stay on disk, each once: rows of a program that overlap or touch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from compiler import driver
from compiler.errors.diagnostics import DataError
from compiler.support.record import record
from compiler.support.trusted_folder import TrustedFolder
from runtime.data.decoded import mapped
from runtime.data.orders import shift_of_windows
from runtime.data.part import Part
from runtime.data.specs import Array
from runtime.data.streaming.order import BlockOrder, whole_order
from runtime.data.streaming.packs import Pack, PackedPart, RowFile, opened_rows
from runtime.data.streaming.rows import OnDemand, all_rows
from runtime.data.windows import PlacedWindows, windows_over
from runtime.support.files import explained

TOKEN = "(tokens)"
"""The array of a part that has its tokens (i32), one behind the other."""
_AT_ONCE = 1 << 20  # bytes


@record
class Window:
    """The steps of a window that an input or target takes of an array: `length` from step `first` on.

    With a `length` of 0, it is the value of step `first`, without an axis of time. Of a mask, all are true.
    """

    first: int
    length: int
    dtype: np.dtype[np.generic]
    array: str = TOKEN
    is_mask: bool = False


@record(eq=False)
class WindowStream:
    """The windows of a part, of which a training reads blocks of at most `block`: one each `stride` steps.

    They lie in `count` steps of the part from its step `first` on. A window takes `steps` of them. In training, all
    begin up to `slack` later, by the epoch. `begin` is the place of the first step in the whole series; with
    `is_numbered`, the places of windows in it are an input, too.
    """

    folder: TrustedFolder
    part: PackedPart
    block: int
    windows: Mapping[str, Window]
    steps: int
    stride: int
    slack: int
    first: int
    count: int
    begin: int
    is_numbered: bool = False

    @property
    def rows(self) -> int:
        return (self.count - self.steps - self.slack) // self.stride + 1

    def with_numbers(self) -> WindowStream:
        return replace(self, is_numbered=True)

    def widened(self) -> WindowStream:
        wide = {n: replace(w, dtype=np.dtype(np.float64)) for n, w in self.windows.items() if w.dtype == np.float32}
        return replace(self, windows={**self.windows, **wide})

    def room(self, rows: int) -> dict[str, Array]:
        """Arrays for so many rows."""
        found: dict[str, Array] = {n: np.empty((rows, *self._shape(w)), w.dtype) for n, w in self.windows.items()}
        if self.is_numbered:
            found[driver.SAMPLE_NUMBERS] = np.empty(rows, np.int64)
        return found

    def opened(self) -> WindowFile:
        return WindowFile(self)

    def shift(self, seed: int, epoch: int) -> int:
        """By how many tokens all windows of an epoch begin later."""
        return shift_of_windows(seed, epoch) % (self.slack + 1) if self.slack else 0

    def orders(self, seed: int, batch: int) -> Callable[[int], BlockOrder]:
        """The order of any epoch."""
        del batch
        return lambda epoch: BlockOrder(self.rows, self.block, seed, epoch)

    def order_of_epoch(self, seed: int, epoch: int, batch: int) -> Array:
        """The places of the windows in the order in which an epoch takes them, of all blocks."""
        return whole_order(self.orders(seed, batch)(epoch)) * self.stride + self.shift(seed, epoch)

    def arrays(self) -> Mapping[str, Array]:
        """By each input and target the windows at all places, of which `rows` are some."""
        names = (*self.windows, *([driver.SAMPLE_NUMBERS] if self.is_numbered else []))
        return OnDemand(names, self._mapped)

    def _shape(self, window: Window) -> tuple[int, ...]:
        """The shape of a row."""
        return (*([window.length] if window.length else []), *self.part.arrays[window.array].shape)

    def _mapped(self, name: str) -> Array:
        count = self.count - self.steps + 1
        if name == driver.SAMPLE_NUMBERS:
            return np.arange(self.begin, self.begin + count)
        window = self.windows[name]
        packed = self.part.arrays[window.array]
        place = self.folder.path / packed.entry
        with explained(DataError, place):
            opened = opened_rows(self.folder, packed, self.part.rows, window.array)
            with opened.file as file:
                opened.check()
                raw = mapped(file, place, 0, (self.part.rows * packed.row_bytes,))
        steps = raw.view(packed.dtype).reshape(self.part.rows, *packed.shape)
        return _windows_of(steps[self.first :], window, count, 1)


def part_of_windows(
    pack: Pack,
    name: str,
    block: int,
    windows: Mapping[str, Window],
    steps: int,
    placed: PlacedWindows,
    begin: int,
    end: int,
) -> Part:
    """The `placed` windows of a packed part that take so many `steps`, before its step `end`.

    `begin` is the place of the first step of the packed part in the whole series.
    """
    count = end - placed.first
    first, stride, slack = placed.first, placed.stride, placed.slack
    part = pack.parts[name]
    stream = WindowStream(pack.folder, part, block, windows, steps, stride, slack, first, count, begin + first)
    return Part(stream.arrays(), all_rows(stream.rows, stride), stream=stream)


class WindowFile:
    """The open files of a stream. Not for several threads at once."""

    def __init__(self, stream: WindowStream) -> None:
        self._stream = stream
        self._names = tuple(dict.fromkeys(window.array for window in stream.windows.values()))
        self._files: dict[str, RowFile] = {}

    def read(
        self, runs: Sequence[tuple[int, int]], into: Mapping[str, Array], chosen: Array | None = None, shift: int = 0
    ) -> dict[str, Array]:
        """The windows of some runs, as `RowFiles.read`, `shift` steps later. Raises DataError."""
        wanted = np.concatenate([np.arange(first, end) for first, end in runs])
        wanted = wanted if chosen is None else wanted[chosen]
        found = {name: array[: len(wanted)] for name, array in into.items()}
        step = max(self._stream.part.arrays[name].row_bytes for name in self._names)
        each = max(1, _AT_ONCE // (self._stream.stride * step))
        done = 0
        while done < len(wanted):
            first = int(wanted[done])
            count = int(np.searchsorted(wanted[done:], first + each))
            self._fill(found, wanted[done : done + count], done, shift)
            done += count
        return found

    def close(self) -> None:
        for opened in self._files.values():
            opened.file.close()
        self._files.clear()

    def __del__(self) -> None:
        self.close()

    def _fill(self, found: Mapping[str, Array], rows: Array, done: int, shift: int) -> None:
        """Fill the places from `done` on with the windows of `rows`, which lie near each other."""
        stream = self._stream
        first = int(rows[0])
        span = int(rows[-1]) - first + 1
        begin, count = first * stream.stride + shift, (span - 1) * stream.stride + stream.steps
        steps = {name: self._steps(name, begin, count) for name in self._names}
        for name, window in stream.windows.items():
            views = _windows_of(steps[window.array], window, span, stream.stride)
            found[name][done : done + len(rows)] = views[rows - first]
        if stream.is_numbered:
            found[driver.SAMPLE_NUMBERS][done : done + len(rows)] = rows * stream.stride + shift + stream.begin

    def _steps(self, name: str, begin: int, count: int) -> Array:
        """So many steps of an array, from one of those of the windows on."""
        stream = self._stream
        packed = stream.part.arrays[name]
        steps: Array = np.empty((count, *packed.shape), packed.dtype)
        with explained(DataError, stream.folder.path / packed.entry):
            if name not in self._files:
                self._files[name] = opened_rows(stream.folder, packed, stream.part.rows, name)
            self._files[name].fill(stream.first + begin, steps)
        return steps


def _windows_of(steps: Array, window: Window, count: int, stride: int) -> Array:
    if window.is_mask:
        return np.broadcast_to(np.True_, (count, window.length))
    views = windows_over(steps, window.first, window.length, count, stride)
    return views.astype(window.dtype, copy=False)
