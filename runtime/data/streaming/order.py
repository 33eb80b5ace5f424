"""The order of an epoch over rows that are read block by block: a permutation of two levels, by counters alone.

The rows are cut into runs, which lie next to each other on disk. An epoch draws an order of the runs, puts as many as
fill a block together, and draws an order of the rows of each block. Rows that fit in one block have the order that they
have in memory.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from compiler.support.record import record
from runtime.data.orders import by_length, order_in_block, order_of_runs
from runtime.data.specs import Array

RUNS = 64  # of a block, or more where they do not divide it

Run = tuple[int, int]
"""The first row, and the row behind the last."""


@record(eq=False)
class Lengths:
    """The lengths of all rows, by which those of a block come in batches of `batch` rows of similar length."""

    of_rows: Array
    batch: int


def whole_order(order: BlockOrder) -> Array:
    """The rows (i64) in the order in which an epoch takes them, of all blocks."""
    found: list[Array] = []
    for number in range(order.blocks):
        found.append(order.lying(number)[order.order(number)])
    return np.concatenate(found)


class BlockOrder:
    """The order of epoch `epoch` over `rows` rows, in blocks of at most `block`.

    With `lengths`, rows of similar length within a block are put together; those of the batch with which a block
    begins, if it began in the one before, are any.
    """

    def __init__(self, rows: int, block: int, seed: int, epoch: int, lengths: Lengths | None = None) -> None:
        self._rows, self._seed, self.epoch, self._lengths = rows, seed, epoch, lengths
        self._run = max(1, block // RUNS)
        self._runs_of_block = block // self._run

    @cached_property
    def _visited(self) -> Array:
        """The runs of each block, one block behind the other; those of a block in their order on disk."""
        runs = -(-self._rows // self._run)
        if runs <= self._runs_of_block:
            return np.arange(runs)
        order = order_of_runs(runs, self._seed, self.epoch)
        blocks = [order[k : k + self._runs_of_block] for k in range(0, runs, self._runs_of_block)]
        return np.concatenate([np.sort(block) for block in blocks])

    @cached_property
    def starts(self) -> Array:
        """The place in the order at which each block begins, and the number of all rows behind them."""
        lengths = np.minimum(self._run, self._rows - self._visited * self._run)
        ends = np.cumsum(lengths)[self._runs_of_block - 1 :: self._runs_of_block]
        return np.unique(np.concatenate([[0], ends, [self._rows]]))

    @property
    def blocks(self) -> int:
        return len(self.starts) - 1

    def block_at(self, place: int) -> int:
        """The block in which a place of the order lies."""
        return int(np.searchsorted(self.starts, place, side="right")) - 1

    def runs(self, block: int) -> list[Run]:
        """The rows of a block on disk; runs that touch are one."""
        found: list[Run] = []
        for run in self._visited[block * self._runs_of_block : (block + 1) * self._runs_of_block].tolist():
            first, end = run * self._run, min((run + 1) * self._run, self._rows)
            if found and found[-1][1] == first:
                first = found.pop()[0]
            found.append((first, end))
        return found

    def lying(self, block: int) -> Array:
        """The rows (i64) of a block, as they come in `runs`."""
        return np.concatenate([np.arange(first, end) for first, end in self.runs(block)])

    def order(self, block: int) -> Array:
        """The order (i64) in which the rows of a block are taken, as they come in `runs`."""
        begin = int(self.starts[block])
        drawn = order_in_block(int(self.starts[block + 1]) - begin, self._seed, self.epoch, block)
        if self._lengths is None:
            return drawn
        batch = self._lengths.batch
        before, whole = np.split(drawn, [-begin % batch])
        lengths = self._lengths.of_rows[self.lying(block)[whole]]
        return np.concatenate([before, by_length(whole, lengths, batch, self._seed, self.epoch, block)])
