"""The loop orders that a product may have, in order: the first one that fits it is taken."""

from __future__ import annotations

from collections.abc import Callable

from compiler.loops.ir import ContractionKernel, TileContract
from compiler.nest.ir import Nest
from compiler.support.record import record
from compiler.targets.cpu.contraction_along_rows import emit_along_rows, runs_along_rows
from compiler.targets.cpu.contraction_long_sum import emit_long_sum, sums_in_blocks
from compiler.targets.cpu.kernel_nest import KernelNest
from compiler.targets.cpu.products.block_rows_and_sum import blocks_rows_and_sum
from compiler.targets.cpu.products.build import build
from compiler.targets.cpu.products.copy_both_operands import sums_side_by_side
from compiler.targets.cpu.products.ir import Circumstances
from compiler.targets.cpu.products.passes import definition, optimised
from compiler.targets.cpu.tiles import Tiling, tiling
from compiler.tuning import Tuning


@record
class Product:
    """A product in question: its cut into register tiles, and whether its right operand `lasts` over calls."""

    kernel: ContractionKernel
    cut: Tiling
    batch: int
    lasts: bool
    tuning: Tuning

    @property
    def contract(self) -> TileContract:
        return self.kernel.contraction


@record
class LoopOrder:
    """A nest that products may become: which ones it fits, what builds it, and why it is faster for them."""

    name: str
    reason: str
    fits: Callable[[Product], bool]
    build: Callable[[KernelNest, Product], Nest]


LOOP_ORDERS = (
    LoopOrder(
        "vectors along the rows",
        "a long sum whose rows are neighbours: rows fill vectors where columns would not, and blocks stay in cache",
        lambda p: sums_in_blocks(p.contract) and runs_along_rows(p.contract, p.tuning),
        lambda k, p: emit_along_rows(k, p.contract),
    ),
    LoopOrder(
        "blocks of a long sum",
        "all tiles take their share of a block, so both operands come from far away once, not once for each tile",
        lambda p: sums_in_blocks(p.contract),
        lambda k, p: emit_long_sum(k, p.contract, p.cut),
    ),
    LoopOrder(
        "both operands copied",
        "they are larger than the cache and lie row by row along the sum: copies of a block are read in one stretch",
        lambda p: not p.lasts and sums_side_by_side(p.contract, p.cut, p.tuning),
        lambda k, p: build(k, optimised(definition(p.kernel), Circumstances(k.machine, p.batch, p.lasts))),
    ),
    LoopOrder(
        "blocks of rows and sum",
        "the operands are larger than the cache: what is read again and again lies near",
        lambda p: blocks_rows_and_sum(p.contract, p.cut, p.tuning),
        lambda k, p: build(k, optimised(definition(p.kernel), Circumstances(k.machine, p.batch, p.lasts))),
    ),
    LoopOrder(
        "tile after tile",
        "everything else: a panel of the right operand stays in cache",
        lambda p: True,
        lambda k, p: build(k, optimised(definition(p.kernel), Circumstances(k.machine, p.batch, p.lasts))),
    ),
)


def loop_order_of(product: Product) -> LoopOrder:
    return next(order for order in LOOP_ORDERS if order.fits(product))


def emit_product(k: KernelNest, kernel: ContractionKernel, batch: int, lasts: bool) -> Nest:
    """The nest of a product. `batch` is the nominal batch, a hint for tile sizes only."""
    product = Product(kernel, tiling(kernel.contraction, k.machine, batch), batch, lasts, k.tuning)
    return loop_order_of(product).build(k, product)
