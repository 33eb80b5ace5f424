"""Blocks of rows for those who take them in a known order: a thread reads each while the one before is used."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from runtime.data.specs import Array
from runtime.data.streaming.order import BlockOrder, Run
from runtime.data.streaming.rows import RowFiles, RowStream

_Arrays = dict[str, Array]


class _Ahead:
    """Reads lists of runs into two sets of arrays that take turns, of at most `most` rows.

    `waited` are the seconds for which a block was not there when it was asked for.
    """

    def __init__(self, stream: RowStream, most: int) -> None:
        self._files = RowFiles(stream)
        self._rooms = [stream.room(min(most, stream.rows)) for _ in range(1 if stream.rows <= most else 2)]
        self._thread = ThreadPoolExecutor(1, "rows")
        self._next: tuple[object, Future[_Arrays]] | None = None
        self.waited = 0.0

    def take(self, key: object, runs: list[Run]) -> _Arrays:
        """The rows of a block, until the next call."""
        begin = time.perf_counter()
        if self._next is None or self._next[0] != key:
            self.begin(key, runs)
        assert self._next is not None
        found = self._next[1].result()
        self._next = None
        self.waited += time.perf_counter() - begin
        self._rooms.reverse()  # what was just filled is the last to be filled anew
        return found

    def begin(self, key: object, runs: list[Run]) -> None:
        """Read a block that will be asked for, while the one that was taken last is used."""
        if self._next is not None:
            self._next[1].cancel()
            self._wait_for(self._next[1])
        self._next = key, self._thread.submit(self._files.read, runs, self._rooms[0])

    @staticmethod
    def _wait_for(one: Future[_Arrays]) -> None:
        if not one.cancelled():
            one.exception()

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)
        self._files.close()


class EpochRows:
    """The rows of a training in the order of its epochs. A thread reads the next block, and two are in memory."""

    def __init__(self, stream: RowStream, seed: int) -> None:
        self._stream, self._seed = stream, seed
        self._ahead = _Ahead(stream, stream.block)
        self._orders: dict[int, BlockOrder] = {}
        self._block: tuple[tuple[int, int], _Arrays, Array] | None = None

    @property
    def waited(self) -> float:
        """Seconds for which rows were waited for."""
        return self._ahead.waited

    def steps_at_once(self, epoch: int, first: int, batch: int) -> int:
        """How many steps of `batch` rows, from a place of the epoch on, lie in one block; 1 where none does."""
        order = self._order(epoch)
        end = int(order.starts[order.block_at(first) + 1])
        if end == self._stream.rows:
            return -(-(end - first) // batch)
        return max(1, (end - first) // batch)

    def take(self, epoch: int, first: int, count: int) -> tuple[Mapping[str, Array], Array]:
        """The rows at `count` places of an epoch: arrays, until the next call, and the places of the rows in them."""
        order = self._order(epoch)
        pieces: list[_Arrays] = []
        end = min(first + count, self._stream.rows)
        while True:
            number = order.block_at(first)
            begin, border = int(order.starts[number]), int(order.starts[number + 1])
            arrays, places = self._taken(order, number)
            places = places[first - begin : min(end, border) - begin]
            if not pieces and end <= border:
                return arrays, places
            pieces.append({name: array[places] for name, array in arrays.items()})
            first = border
            if first >= end:
                break
        joined = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
        return joined, np.arange(len(next(iter(joined.values()))))

    def close(self) -> None:
        self._ahead.close()

    def _order(self, epoch: int) -> BlockOrder:
        if epoch not in self._orders:
            rows, block = self._stream.rows, self._stream.block
            kept = {known: order for known, order in self._orders.items() if known == epoch - 1}
            self._orders = {**kept, epoch: BlockOrder(rows, block, self._seed, epoch)}
        return self._orders[epoch]

    def _taken(self, order: BlockOrder, number: int) -> tuple[_Arrays, Array]:
        """A block and the order of its rows; the one that follows is begun."""
        key = order.epoch, number
        if self._block is not None and self._block[0] == key:
            return self._block[1:]
        if order.blocks == 1 and self._block is not None:  # all rows are in memory
            self._block = key, self._block[1], order.order(number)
            return self._block[1:]
        arrays = self._ahead.take(key, order.runs(number))
        self._block = key, arrays, order.order(number)
        if order.blocks > 1:
            after = (order, number + 1) if number + 1 < order.blocks else (self._order(order.epoch + 1), 0)
            self._ahead.begin((after[0].epoch, after[1]), after[0].runs(after[1]))
        return self._block[1:]


def blocks_in_order(stream: RowStream, multiple: int) -> Iterator[tuple[int, Mapping[str, Array]]]:
    """All rows in the order on disk, block by block, each with its first row and until the next is asked for.

    Each block but the last has a multiple of `multiple` rows.
    """
    each = max(stream.block // multiple, 1) * multiple
    ahead = _Ahead(stream, each)
    try:
        for first in range(0, stream.rows, each):
            end = min(first + each, stream.rows)
            arrays = ahead.take(first, [(first, end)])
            if end < stream.rows:
                ahead.begin(end, [(end, min(end + each, stream.rows))])
            yield first, arrays
    finally:
        ahead.close()
