"""Blocks of rows for those who take them in a known order: a thread reads each while the one before is used."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import numpy as np

from compiler import driver
from compiler.support.record import record
from runtime.data.specs import Array
from runtime.data.streaming.order import BlockOrder, Run
from runtime.data.streaming.rows import BlockStream

_Arrays = dict[str, Array]
_Found = TypeVar("_Found")
_PART = 16  # of a block that is read at once where the order is that on disk


@record
class OwnShards:
    """The rows of each batch that a process computes: those of some of its shards."""

    batch: int
    shards: int
    rank: int
    processes: int

    def among(self, places: Array, rows: int) -> Array:
        """Which of the places of an epoch over `rows` rows are own ones."""
        full = rows // self.batch * self.batch
        own = self._within(places % self.batch, self.batch)
        return np.where(places < full, own, self._within(places - full, rows - full))

    def _within(self, places: Array, rows: int) -> Array:
        first, end = driver.rows_of_process(self.rank, self.processes, self.shards, rows)
        return (places >= first) & (places < end)


class _Ahead(Generic[_Found]):
    """Does jobs that read blocks, each while the result of the one before is used, into two sets of arrays by turns.

    `waited` are the seconds for which a block was not there when it was asked for.
    """

    def __init__(self, stream: BlockStream) -> None:
        self._stream, self._files = stream, stream.opened()
        self._rooms: list[_Arrays] = [{}, {}]
        self._thread = ThreadPoolExecutor(1, "rows")
        self._next: tuple[object, Future[_Found]] | None = None
        self.waited = 0.0

    def read(self, runs: list[Run], chosen: Array | None = None, shift: int = 0) -> _Arrays:
        """In a job: the rows of a block, or the `chosen` ones of those in `runs`, in ascending order, `shift` later."""
        rows = sum(end - first for first, end in runs) if chosen is None else len(chosen)
        room = self._rooms[0]
        if not room or len(next(iter(room.values()))) < rows:
            room.clear()  # before there are two
            room.update(self._stream.room(rows))
        return self._files.read(runs, room, chosen, shift)

    def take(self, key: object, job: Callable[[], _Found]) -> _Found:
        """The result of a job, whose arrays last until the next call."""
        begin = time.perf_counter()
        if self._next is None or self._next[0] != key:
            self.begin(key, job)
        assert self._next is not None
        found = self._next[1].result()
        self._next = None
        self.waited += time.perf_counter() - begin
        self._rooms.reverse()  # what was just filled is the last to be filled anew
        return found

    def begin(self, key: object, job: Callable[[], _Found]) -> None:
        """Begin a job whose result will be asked for, while that of the one before is used."""
        if self._next is not None and not self._next[1].cancel():
            self._next[1].exception()  # wait for it
        self._next = key, self._thread.submit(job)

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)
        self._files.close()


class EpochRows:
    """The rows of a training in the order of its epochs. A thread reads the next block, and two are in memory.

    With `own`, only the rows of this process are read, and those in the places of others are any rows. `batch` rows
    have similar lengths, where the stream knows these.
    """

    def __init__(self, stream: BlockStream, seed: int, own: OwnShards | None = None, batch: int = 1) -> None:
        self._stream, self._seed, self._own = stream, seed, own
        self._order_of = stream.orders(seed, batch)
        self._ahead: _Ahead[tuple[_Arrays, Array]] = _Ahead(stream)
        self._orders: dict[int, BlockOrder] = {}
        self._block: tuple[tuple[int, int], _Arrays, Array] | None = None

    @property
    def is_whole(self) -> bool:
        """Whether all rows are read, and not those of this process alone."""
        return self._own is None

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
        while first < end:
            number = order.block_at(first)
            begin, border = int(order.starts[number]), int(order.starts[number + 1])
            arrays, places = self._taken(order, number)
            places = places[first - begin : min(end, border) - begin]
            if not pieces and end <= border:
                return arrays, places
            pieces.append({name: array[places] for name, array in arrays.items()})
            first = border
        joined = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
        return joined, np.arange(len(next(iter(joined.values()))))

    def _order(self, epoch: int) -> BlockOrder:
        if epoch not in self._orders:
            kept = {known: order for known, order in self._orders.items() if known == epoch - 1}
            self._orders = {**kept, epoch: self._order_of(epoch)}
        return self._orders[epoch]

    def _taken(self, order: BlockOrder, number: int) -> tuple[_Arrays, Array]:
        """A block and where in it the rows of its places are; the block that follows is begun."""
        key = order.epoch, number
        if self._block is not None and self._block[0] == key:
            return self._block[1:]
        lasts = order.blocks == 1 and self._own is None and not self._stream.slack  # all rows are in memory
        if lasts and self._block is not None:
            self._block = key, self._block[1], order.order(number)
            return self._block[1:]
        self._block = key, *self._ahead.take(key, lambda: self._read(order, number))
        if not lasts:
            after = (order, number + 1) if number + 1 < order.blocks else (self._order(order.epoch + 1), 0)
            self._ahead.begin((after[0].epoch, after[1]), lambda: self._read(*after))
        return self._block[1:]

    def _read(self, order: BlockOrder, number: int) -> tuple[_Arrays, Array]:
        """The rows of a block, and where the rows of its places are among them."""
        rows, shift = order.order(number), self._stream.shift(self._seed, order.epoch)
        if self._own is None:
            return self._ahead.read(order.runs(number), shift=shift), rows
        places = np.arange(int(order.starts[number]), int(order.starts[number + 1]))
        own = rows[self._own.among(places, self._stream.rows)]
        chosen = np.sort(own) if len(own) else rows[:1]  # one stands in the places of all others
        arrays = self._ahead.read(order.runs(number), chosen, shift)
        return arrays, np.minimum(np.searchsorted(chosen, rows), len(chosen) - 1)


def blocks_in_order(stream: BlockStream, multiple: int) -> Iterator[tuple[int, Mapping[str, Array]]]:
    """All rows in the order on disk, some at a time, each with its first row and until the next is asked for.

    They come beside the blocks of a training, so they are small parts of one; each but the last has a multiple of
    `multiple` rows.
    """
    each = max(stream.block // _PART // multiple, 1) * multiple
    ahead: _Ahead[_Arrays] = _Ahead(stream)

    def job(first: int) -> Callable[[], _Arrays]:
        return lambda: ahead.read([(first, min(first + each, stream.rows))])

    try:
        for first in range(0, stream.rows, each):
            arrays = ahead.take(first, job(first))
            if first + each < stream.rows:
                ahead.begin(first + each, job(first + each))
            yield first, arrays
    finally:
        ahead.close()
