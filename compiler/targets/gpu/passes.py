"""The passes that decide how a kernel is gone through on a device, in order, with the reason for each."""

from __future__ import annotations

from dataclasses import replace

from compiler.targets.cpu.kernel_pass import KernelPass
from compiler.targets.cpu.products import ir
from compiler.targets.cpu.products.block_long_sum import block_long_sum
from compiler.targets.cpu.products.make_tiles import make_items, put_panels_outside, tile
from compiler.targets.cpu.products.place_sums import keep_repeated, spill
from compiler.targets.cpu.products.rewriting import with_multiply
from compiler.targets.cpu.products.unroll import unroll, unroll_stage
from compiler.targets.cpu.rows.passes import keep_rows


def ask_for_nothing(product: ir.ProductLoops, given: ir.Circumstances) -> ir.ProductLoops:
    return with_multiply(product, lambda of: (replace(of, asks=()),))


ROW_PASSES = (KernelPass(keep_rows, "short rows need no loop, and stay in registers from one stage to the next"),)

PRODUCT_PASSES = tuple(
    KernelPass(run, reason)
    for run, reason in (
        (tile, "an element that is loaded meets several, and their sums stay in registers"),
        (block_long_sum, "splits of a sum over the batch are items of their own"),
        (ask_for_nothing, "while a thread waits for memory, others go on"),
        (put_panels_outside, "neighbouring groups of threads read the same columns"),
        (make_items, "tiles are independent of each other: LANES threads have one"),
        (spill, "a long stage has no registers beside the sums, and rows that do not exist none at all"),
        (keep_repeated, "what repeats along the rows of the result stays in registers for all tiles"),
        (unroll, "the end of the loop is hidden behind the multiplications of several steps"),
        (unroll_stage, "the vectors of a short stage need no loop"),
    )
)
