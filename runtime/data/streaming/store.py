"""The rows of a source on disk while they are looked at more than once: appended block by block, read back by rows."""

from __future__ import annotations

import tempfile
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from compiler.support.record import record
from runtime.data.dataset import RowBlock
from runtime.data.specs import Array


@record
class _Piece:
    """A column of a block: where it lies, and the bytes of each text where it is one of texts."""

    offset: int
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    lengths: Array | None = None


@record
class _Stored:
    first: int
    rows: int
    file: Path
    place: str
    numbers: int  # the offset of the numbers of its rows
    pieces: Mapping[str, _Piece]


class RowStore:
    """Blocks of rows in a file that has no name and ends with its process. Raises OSError."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (closed with the store)
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
        """Put the rows of a block behind the others."""
        if not len(block.numbers):
            return
        numbers = self._write(np.ascontiguousarray(block.numbers, np.int64).tobytes())
        pieces = {name: self._piece(values) for name, values in block.arrays.items()}
        self._blocks.append(_Stored(self.rows, len(block.numbers), block.file, block.place, numbers, pieces))
        self._firsts.append(self.rows)
        self.rows += len(block.numbers)

    def blocks(self, names: Sequence[str]) -> Iterator[RowBlock]:
        """The blocks, in their order, with some of their columns."""
        for stored in self._blocks:
            numbers = np.frombuffer(self._read(stored.numbers, 8 * stored.rows), np.int64)
            arrays = {name: self._content(stored.pieces[name], 0, stored.rows) for name in names}
            yield RowBlock(arrays, stored.file, numbers, stored.place)

    def column(self, name: str, first: int, end: int) -> Array:
        """The values of a column in the rows from `first` to before `end`."""
        found: list[Array] = []
        place = bisect_right(self._firsts, first) - 1
        while first < end:
            stored = self._blocks[place]
            last = min(end, stored.first + stored.rows)
            found.append(self._content(stored.pieces[name], first - stored.first, last - stored.first))
            first, place = last, place + 1
        return found[0] if len(found) == 1 else np.concatenate(found)

    def _piece(self, values: Array) -> _Piece:
        if values.dtype.kind not in "UO":
            dense = np.ascontiguousarray(values)
            content = dense.reshape(-1).view(np.uint8).data
            return _Piece(self._write(content), values.dtype, values.shape[1:])
        texts = [str(text).encode("utf-8", "surrogatepass") for text in values.tolist()]
        lengths: Array = np.array([len(text) for text in texts], np.int64)
        return _Piece(self._write(b"".join(texts)), np.dtype(np.object_), (), lengths)

    def _content(self, piece: _Piece, first: int, end: int) -> Array:
        if piece.lengths is None:
            row = piece.dtype.itemsize * int(np.prod(piece.shape, dtype=np.int64))
            values: Array = np.frombuffer(self._read(piece.offset + first * row, (end - first) * row), piece.dtype)
            return values.reshape(end - first, *piece.shape)
        borders = np.concatenate([[0], np.cumsum(piece.lengths)])
        begin = int(borders[first])
        content = self._read(piece.offset + begin, int(borders[end]) - begin)
        texts: Array = np.empty(end - first, np.object_)
        texts[:] = [
            content[a - begin : b - begin].decode("utf-8", "surrogatepass")
            for a, b in zip(borders[first:end].tolist(), borders[first + 1 : end + 1].tolist(), strict=True)
        ]
        return texts

    def _write(self, content: bytes | memoryview) -> int:
        begin = self._end
        self._file.seek(begin)
        self._file.write(content)
        self._end += len(content)
        return begin

    def _read(self, offset: int, count: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(count)
