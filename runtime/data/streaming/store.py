"""The rows of a source on disk while they are looked at more than once: appended block by block, read back by rows."""

from __future__ import annotations

import math
import tempfile
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import TracebackType

import numpy as np

from compiler.support.record import record
from runtime.data.dataset import RowBlock
from runtime.data.specs import Array


@record
class _Kind:
    """A column: its place among those of a block, the element type (object for texts), and the shape of a row."""

    place: int
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]


@record
class _Stored:
    """A block: `offsets` (i64) of its numbers of rows and of each column; of texts, `ends` of each in its column."""

    first: int
    rows: int
    file: Path
    place: str
    offsets: Array
    ends: Mapping[str, Array]


class RowStore:
    """Blocks of rows in a file that has no name and ends with its process. Raises OSError."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115  (closed with the store)
        self._kinds: dict[str, _Kind] = {}
        self._blocks: list[_Stored] = []
        self._firsts: list[int] = []
        self._end = self.rows = 0

    def __enter__(self) -> RowStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, block: RowBlock) -> None:
        """Put the rows of a block behind the others; all have the same columns."""
        if not len(block.numbers):
            return
        offsets = [self._write(np.ascontiguousarray(block.numbers, np.int64).tobytes())]
        ends: dict[str, Array] = {}
        for name, values in block.arrays.items():
            is_text = values.dtype.kind in "UO"
            if name not in self._kinds:
                dtype = np.dtype(np.object_) if is_text else values.dtype
                self._kinds[name] = _Kind(len(offsets), dtype, values.shape[1:])
            if is_text:
                texts = [str(text).encode("utf-8", "surrogatepass") for text in values.tolist()]
                ends[name] = np.cumsum([len(text) for text in texts], dtype=np.int64)
                offsets.append(self._write(b"".join(texts)))
            else:
                offsets.append(self._write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data))
        places = np.array(offsets, np.int64)
        self._blocks.append(_Stored(self.rows, len(block.numbers), block.file, block.place, places, ends))
        self._firsts.append(self.rows)
        self.rows += len(block.numbers)

    def blocks(self, names: Sequence[str]) -> Iterator[RowBlock]:
        """The blocks, in their order, with some of their columns."""
        for stored in self._blocks:
            numbers = np.frombuffer(self._read(int(stored.offsets[0]), 8 * stored.rows), np.int64)
            arrays = {name: self._content(stored, name, 0, stored.rows) for name in names}
            yield RowBlock(arrays, stored.file, numbers, stored.place)

    def column(self, name: str, first: int, end: int) -> Array:
        """The values of a column in the rows from `first` to before `end`."""
        found: list[Array] = []
        place = bisect_right(self._firsts, first) - 1
        while first < end:
            stored = self._blocks[place]
            last = min(end, stored.first + stored.rows)
            found.append(self._content(stored, name, first - stored.first, last - stored.first))
            first, place = last, place + 1
        return found[0] if len(found) == 1 else np.concatenate(found)

    def _content(self, stored: _Stored, name: str, first: int, end: int) -> Array:
        kind = self._kinds[name]
        offset = int(stored.offsets[kind.place])
        if kind.dtype.kind != "O":
            row = kind.dtype.itemsize * math.prod(kind.shape)
            values: Array = np.frombuffer(self._read(offset + first * row, (end - first) * row), kind.dtype)
            return values.reshape(end - first, *kind.shape)
        borders = [0, *stored.ends[name].tolist()][first : end + 1]
        content = self._read(offset + borders[0], borders[-1] - borders[0])
        begins = [border - borders[0] for border in borders]
        texts: Array = np.empty(end - first, np.object_)
        texts[:] = [content[a:b].decode("utf-8", "surrogatepass") for a, b in pairwise(begins)]
        return texts

    def _write(self, content: bytes | memoryview) -> int:
        begin = self._end
        self._file.seek(begin)
        left = memoryview(content)
        while len(left):
            left = left[self._file.write(left) :]
        self._end += len(content)
        return begin

    def _read(self, offset: int, count: int) -> bytes:
        self._file.seek(offset)
        found = self._file.read(count)
        while len(found) < count and (more := self._file.read(count - len(found))):
            found += more
        return found
