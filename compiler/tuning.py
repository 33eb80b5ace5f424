"""The numbers that decide who computes an element, where and when; none of them decides a bit of any result.

A machine has one such record (`Machine.tuning`). The orders of sums are no tuning: they stand in `numerics`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from reprlib import repr as shortened
from typing import Any, cast

from compiler.support.record import record

READABLE_BEHIND = 128  # bytes behind a buffer that kernels may read, and never use: 16 lanes of 8 bytes
MOST_TILE_ROWS = 28  # the memory behind a buffer has room for a tile of so many rows


@record
class Tuning:
    """Thresholds and sizes, by their purpose. Each serves every machine until a measurement finds a better one."""

    # Fusion: groups that become one kernel, and values that a kernel computes again instead of reading them.
    largest_group: int = 120  # members, so that the code of a kernel stays of bounded size
    again_depth: int = 4  # ops that are computed again for one value, beyond which reading it is cheaper
    again_share: int = 16  # times fewer elements than the value that is computed again cost nothing to read
    sibling_share: int = 16  # times fewer elements than a kernel goes through are not worth joining readers for
    window_reads: int = 4  # of an image by a kernel, from which it computes several pixels side by side without a copy
    overwritten_bytes: int = 1 << 18  # at the nominal batch, from which fresh memory costs more than another barrier
    # The domain of a kernel: its rows and columns.
    flat_columns: int = 2048  # elements of an item where a kernel has no rows: some microseconds of work
    row_columns: int = 256  # columns that pay for the start of a row
    product_rows: int = 12  # rows of which tiles can be made; with fewer, those of several images make one product
    # Values of the forward pass that the backward pass computes again.
    spared_bytes: int = 64 << 20  # to save at the nominal batch, from which memory matters more than time
    spared_value_bytes: int = 1 << 18  # of a value, below which nothing is saved by it
    spared_beside: int = 16  # times fewer bytes than a value are kept beside it
    spared_sum: int = 64  # summed elements: a product of no more takes about as long as moving its result twice
    spared_near: int = 3  # products behind the loss: values that are read so soon are kept, as memory is fullest there
    spared_ops: int = 40  # ops that are done again for one value
    spared_reads: int = 2  # large operands of what is computed again
    # Threads.
    serial_work: int = 80_000  # operations on elements, up to which one thread is faster than a barrier
    shard_rows: int = 32  # rows of a product in each shard of chained kernels: with fewer, tiles may span shards
    shards: int = 16  # of chained kernels at the nominal batch, so that threads get equal shares
    image_shards: int = 8  # the same, where a shard is all that belongs to a row of the batch
    chain_reach: int = 12  # instances over which one is moved forward into a chain
    product_items: int = 512  # of a large product: as many as many threads share evenly
    item_tiles: int = 4  # of rows in such an item, at least
    # Several processes.
    bucket_bytes: int = 1 << 19  # of gradients sent together: an eighth takes 50 us at 10 Gbit/s, beyond the latency
    # Tiles of products: rows by vectors of columns, whose sums stay in registers.
    tile_rows: int = MOST_TILE_ROWS  # more would need more registers than any machine has
    tile_vectors: int = 16  # of a tile of few rows whose columns are read in place, in long stretches
    packed_tile_vectors: int = 8  # of a packed panel that few rows read: a wider one streams no faster
    operand_registers: int = 3  # of 16, which are left to the operands beside the sums
    tile_start: float = 0.3  # rows: the cost of a tile beside its own
    unrolled_steps: int = 4  # of the sum that stand one behind the other, which hides the end of the loop
    streamed_rows: int = 4  # up to which the right operand of a tile comes once, and is asked for ahead
    steps_ahead: int = 8  # of the sum, before its use a vector is asked for; more may fall on the same lines of a cache
    near_panel_bytes: int = 16 << 10  # up to which a packed panel is expected in the first-level cache
    copying_tiles: int = 6  # of rows, up to which copying a panel while it is read pays for the longer code
    stage_in_registers: int = 6  # instructions of a stage up to which it works on the sums where they are
    tile_ahead_sum: int = 64  # summed elements in which a tile can ask for the rows of the next one
    # Products larger than the second-level cache: blocks of rows and of the sum.
    rows_share: float = 0.5  # of the second-level cache, for a block of rows beside a panel
    block_panels: int = 4  # of columns, from which blocks pay
    block_sum: int = 640  # summed elements of a block whose panel does not stay in the first-level cache
    near_block_sum: int = 384  # summed elements that such a block has at least where its panel stays there
    whole_panel_share: float = 0.2  # of the second-level cache, up to which a panel is summed at once
    copied_rows_panels: int = 12  # from which copying rows that compete for lines of the cache pays
    copied_sum: int = 128  # summed elements of a block where both operands are copied
    copied_share: float = 1.0  # of the second-level cache, for the sums and the copies of such a block
    copied_together: int = 4  # strips whose copies stand one behind the other
    # Products with a long sum over the batch.
    long_sum: int = 128  # summed elements of a block, about
    long_sum_items: int = 4  # that leave work for several threads
    long_sum_tiles: int = 4  # of rows from which copying the columns of a block pays
    long_sum_share: float = 0.25  # of the second-level cache, for the sums of an item
    strip_sum: int = 160  # summed elements of a block, about, where vectors run along the rows
    strip_share: float = 0.8  # of the first-level cache, which a copied strip may take
    strip_sums_share: float = 0.375  # of the second-level cache, which the sums of an item may take
    strip_vectors: int = 3  # of rows in a strip
    strip_waste: float = 1.1  # times as many lanes as along the columns, up to which the rows are taken
    strip_load: float = 0.25  # multiplications that the load of a register costs
    strip_chains: int = 10  # sums of registers that are in work at once, at least, so that none waits for itself
    # Kernels over rows.
    shared_reads: int = 4  # elements that a row and the next one both read, from which they are computed side by side
    many_registers: int = 32  # with fewer, small blocks of rows come first: sums and what they read stay in registers
    near_row_bytes: int = 1 << 14  # of what all rows read, which stays in the first-level cache beside tall blocks
    rows_ahead: int = 12  # before its use a piece of a row is asked for, where the rows of a column are summed
    block_bytes_ahead: int = 1 << 15  # before its use the newest element of a row is asked for, for each line
    strip_bytes_ahead: int = 1 << 10  # the same of sums over strips, where each row of a block has a line of its own
    streamed_caches: int = 16  # times the second-level cache, from which results are stored past the caches

    @property
    def changes(self) -> dict[str, int | float]:
        """The numbers that are not those of every machine, by name."""
        usual = Tuning()
        return {n: getattr(self, n) for n in NUMBERS if getattr(self, n) != getattr(usual, n)}

    @property
    def description(self) -> str:
        return described(self.changes)


NUMBERS: tuple[str, ...] = tuple(part.name for part in fields(cast("Any", Tuning)))
"""The names of all numbers of a `Tuning`, in order."""
# A number from outside is one of the whole powers of two, less than the usual 1 or more than 64 times the usual.
_POWERS = ("unrolled_steps", "copied_together")
_LIMITS: dict[str, tuple[float, float]] = {
    "tile_rows": (1, MOST_TILE_ROWS),
    "shard_rows": (MOST_TILE_ROWS // 2 + 1, 4096),  # a tile spans shards of fewer rows
    "operand_registers": (1, 8),
    **dict.fromkeys(("rows_share", "whole_panel_share", "copied_share", "long_sum_share"), (0.01, 2.0)),
    **dict.fromkeys(("strip_share", "strip_sums_share"), (0.01, 2.0)),
    **dict.fromkeys(("tile_start", "strip_load"), (0.01, 16.0)),
}
_WIDEST = 64


def limits_of(name: str) -> tuple[float, float]:
    """The least and the greatest value of a number from outside."""
    return _LIMITS.get(name, (1, _WIDEST * getattr(Tuning(), name)))


def described(changes: Mapping[str, float]) -> str:
    """For a reader: which numbers are not the usual ones."""
    return f"tuned: {', '.join(f'{n} {value}' for n, value in changes.items())}" if changes else "usual tuning"


def tuning_of(changes: Mapping[str, object]) -> Tuning:
    """A tuning with some numbers of its own. Raises ValueError for a number that none can have."""
    usual = Tuning()
    for name, value in changes.items():
        if name not in NUMBERS:
            raise ValueError(f"there is no number `{shortened(name)[1:-1]}`")
        normal, (least, most) = getattr(usual, name), limits_of(name)
        kind = "a number" if isinstance(normal, float) else "a whole number"
        is_number = type(value) in ((int, float) if isinstance(normal, float) else (int,))
        if not is_number or not least <= cast("float", value) <= most:
            raise ValueError(f"`{name}` cannot be {shortened(value)}: it is {kind} from {least} to {most}")
        if name in _POWERS and cast("int", value).bit_count() != 1:
            raise ValueError(f"`{name}` cannot be {value!r}: it is a power of two")
    return replace(usual, **cast("dict[str, Any]", changes))
