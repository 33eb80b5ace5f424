"""The rows of a part on disk: read by runs into arrays in memory, or mapped where something needs any of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar, cast

import numpy as np

from compiler import driver
from compiler.errors.diagnostics import DataError
from compiler.support.record import record
from compiler.support.trusted_folder import TrustedFolder
from runtime.data.decoded import mapped
from runtime.data.specs import Array
from runtime.data.streaming.order import BlockOrder, Lengths, whole_order
from runtime.data.streaming.packs import PackedArray, PackedPart, RowFile, opened_rows
from runtime.support.files import explained

ROW, NUMBER, FILE = "(row)", "(number)", "(file)"
"""The arrays of a part that say which rows of the data it has, and what they are called: by numbers, and the places of
their files in a list."""
LENGTH = "(length)"
"""The array of a part that has the lengths of texts (i32), where a batch takes texts of similar length."""
_LARGE_ROW = 1 << 14  # bytes, from which on a read by itself costs less than to read the rows between
_Value = TypeVar("_Value")


class BlockFile(Protocol):
    """The open files of a stream. Not for several threads at once."""

    def read(
        self, runs: Sequence[tuple[int, int]], into: Mapping[str, Array], chosen: Array | None = None, shift: int = 0
    ) -> dict[str, Array]:
        """The rows of some runs, one behind the other, in the first places of the arrays `into`. Raises DataError.

        `chosen` are the places of those rows, in ascending order, that are wanted of all. Windows begin `shift` later.
        """
        ...

    def close(self) -> None: ...


class BlockStream(Protocol):
    """Rows on disk that are read by blocks, or windows of what lies there, which an epoch moves by up to `slack`."""

    @property
    def block(self) -> int: ...

    @property
    def rows(self) -> int: ...

    @property
    def slack(self) -> int: ...

    def room(self, rows: int) -> dict[str, Array]:
        """Arrays for so many rows."""
        ...

    def opened(self) -> BlockFile: ...

    def shift(self, seed: int, epoch: int) -> int:
        """By how much all rows of an epoch begin later."""
        ...

    def orders(self, seed: int, batch: int) -> Callable[[int], BlockOrder]:
        """The order of any epoch, whose batches take `batch` rows. Raises DataError."""
        ...

    def order_of_epoch(self, seed: int, epoch: int, batch: int) -> Array:
        """The places in `arrays` of the rows in the order in which an epoch takes them, of all blocks."""
        ...

    def arrays(self) -> Mapping[str, Array]:
        """All inputs and targets, each mapped when it is asked for."""
        ...

    def with_numbers(self) -> BlockStream: ...

    def widened(self) -> BlockStream: ...


@record(eq=False)
class RowStream:
    """The rows of a part, of which a training reads blocks of at most `block`.

    `is_wide`: every f32 becomes f64. `is_numbered`: the numbers of rows are an input, too.
    """

    folder: TrustedFolder
    part: PackedPart
    block: int
    is_wide: bool = False
    is_numbered: bool = False

    @property
    def rows(self) -> int:
        return self.part.rows

    @property
    def slack(self) -> int:
        return 0

    def shift(self, seed: int, epoch: int) -> int:
        del seed, epoch
        return 0

    def opened(self) -> RowFiles:
        return RowFiles(self)

    @property
    def fed(self) -> Mapping[str, PackedArray]:
        """The inputs and targets that are on disk."""
        return {name: array for name, array in self.part.arrays.items() if name not in (ROW, NUMBER, FILE, LENGTH)}

    def dtype_of(self, name: str) -> np.dtype[np.generic]:
        """The element type that an input or target has in memory."""
        stored = self.stored(name).dtype
        return np.dtype(np.float64) if self.is_wide and stored == np.float32 else stored

    @property
    def row_bytes(self) -> int:
        """What a row takes in memory."""
        each = (self.dtype_of(n).itemsize * math.prod(a.shape) for n, a in self.fed.items())
        return sum(each) + 8 * self.is_numbered

    def with_numbers(self) -> RowStream:
        return replace(self, is_numbered=True)

    def widened(self) -> RowStream:
        return replace(self, is_wide=True)

    def room(self, rows: int) -> dict[str, Array]:
        """Arrays for so many rows."""
        found: dict[str, Array] = {n: np.empty((rows, *a.shape), self.dtype_of(n)) for n, a in self.fed.items()}
        if self.is_numbered:
            found[driver.SAMPLE_NUMBERS] = np.empty(rows, np.int64)
        return found

    def stored(self, name: str) -> PackedArray:
        """What is on disk of an array in memory."""
        return self.part.arrays[ROW if name == driver.SAMPLE_NUMBERS else name]

    def mapped(self, name: str) -> Array:
        """All rows of an array, checked once, and in memory only as far as they are looked at. Raises DataError."""
        array = self.stored(name)
        place = self.folder.path / array.entry
        with explained(DataError, place):
            opened = opened_rows(self.folder, array, self.rows, name)
            with opened.file as file:
                opened.check()
                raw = mapped(file, place, 0, (self.rows * array.row_bytes,))
        values = raw.view(array.dtype).reshape(self.rows, *array.shape)
        return values.astype(self.dtype_of(name), copy=False)

    def orders(self, seed: int, batch: int) -> Callable[[int], BlockOrder]:
        """The order of any epoch, whose batches take `batch` rows. Raises DataError."""
        lengths = Lengths(self.mapped(LENGTH), batch) if LENGTH in self.part.arrays else None
        return lambda epoch: BlockOrder(self.rows, self.block, seed, epoch, lengths)

    def order_of_epoch(self, seed: int, epoch: int, batch: int) -> Array:
        """The rows in the order in which an epoch takes them, of all blocks."""
        return whole_order(self.orders(seed, batch)(epoch))

    def arrays(self) -> Mapping[str, Array]:
        """All inputs and targets, each mapped when it is asked for."""
        names = (*self.fed, *([driver.SAMPLE_NUMBERS] if self.is_numbered else []))
        return OnDemand(names, self.mapped)


class RowFiles:
    """The open files of a stream. Not for several threads at once."""

    def __init__(self, stream: RowStream) -> None:
        self._stream = stream
        self._files: dict[str, RowFile] = {}

    def read(
        self, runs: Sequence[tuple[int, int]], into: Mapping[str, Array], chosen: Array | None = None, shift: int = 0
    ) -> dict[str, Array]:
        """As `BlockFile.read`."""
        assert shift == 0
        count = sum(end - first for first, end in runs)
        found = {name: array[: count if chosen is None else len(chosen)] for name, array in into.items()}
        seen = done = 0
        for first, end in runs:
            of_run = None
            if chosen is not None:
                of_run = chosen[np.searchsorted(chosen, seen) : np.searchsorted(chosen, seen + end - first)] - seen
            wanted = end - first if of_run is None else len(of_run)
            for name, array in found.items():
                self._fill_chosen(name, first, end, array[done : done + wanted], of_run)
            seen, done = seen + end - first, done + wanted
        return found

    def close(self) -> None:
        for opened in self._files.values():
            opened.file.close()
        self._files.clear()

    def __del__(self) -> None:
        self.close()

    def _fill_chosen(self, name: str, first: int, end: int, rows: Array, chosen: Array | None) -> None:
        """Fill `rows` with those of a run: all, or those at the places `chosen`, each by itself where it is large."""
        if chosen is None:
            self._fill(name, first, rows)
        elif self._stream.stored(name).row_bytes < _LARGE_ROW:
            whole: Array = np.empty((end - first, *rows.shape[1:]), rows.dtype)
            self._fill(name, first, whole)
            rows[...] = whole[chosen]
        else:
            for place, row in enumerate(chosen.tolist()):
                self._fill(name, first + row, rows[place : place + 1])

    def _fill(self, name: str, first: int, rows: Array) -> None:
        stream, packed = self._stream, self._stream.stored(name)
        raw: Array = rows if rows.dtype == packed.dtype else np.empty(rows.shape, packed.dtype)
        with explained(DataError, stream.folder.path / packed.entry):
            if name not in self._files:
                self._files[name] = opened_rows(stream.folder, packed, stream.rows, name)
            self._files[name].fill(first, raw)
        if raw is not rows:
            rows[...] = raw


class OnDemand(Mapping[str, _Value]):
    """Values by names, each made when it is first asked for."""

    def __init__(self, names: Sequence[str], make: Callable[[str], _Value]) -> None:
        self._names, self._make = tuple(names), make
        self._made: dict[str, _Value] = {}

    def __getitem__(self, name: str) -> _Value:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class RowRange:
    """`count` numbers from 0 on, `step` apart, as an array that takes no memory: what is taken of it is made then."""

    def __init__(self, count: int, step: int = 1) -> None:
        self._count, self._step = count, step

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, places: object) -> Array:
        if isinstance(places, slice):
            return np.arange(*places.indices(self._count)) * self._step
        found: Array = np.asarray(places)
        if found.dtype == np.bool_:
            assert len(found) == self._count
            found = np.flatnonzero(found)
        return found.astype(np.int64) * self._step

    def __contains__(self, row: object) -> bool:
        place, rest = divmod(int(cast("int", row)), self._step)
        return not rest and 0 <= place < self._count

    def __array__(self, dtype: object = None, copy: bool | None = None) -> Array:
        del dtype, copy
        return np.arange(self._count) * self._step


def all_rows(count: int, step: int = 1) -> Array:
    """Every row of a part, or one each `step`, as an array that takes no memory."""
    return cast("Array", RowRange(count, step))
