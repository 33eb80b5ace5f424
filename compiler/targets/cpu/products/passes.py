"""The passes that turn the definition of a product into the loops that run, in order, with the reason for each."""

from __future__ import annotations

from compiler.loops.ir import ContractionKernel, Load, Store
from compiler.targets.cpu.kernel_pass import KernelPass
from compiler.targets.cpu.products import ir
from compiler.targets.cpu.products.ask_ahead import ask_by_lines, ask_for_next_panel, ask_for_next_rows, ask_for_results
from compiler.targets.cpu.products.block_long_sum import block_long_sum
from compiler.targets.cpu.products.block_rows_and_sum import block_rows_and_sum, copy_rows, join_items
from compiler.targets.cpu.products.copy_both_operands import copy_both_operands
from compiler.targets.cpu.products.finishing import repeating_loads
from compiler.targets.cpu.products.make_tiles import block_rows, make_items, put_panels_outside, tile
from compiler.targets.cpu.products.pack_panels import pack, pack_all_panels, pack_while_multiplying, take_by_register
from compiler.targets.cpu.products.place_sums import keep_repeated, spill
from compiler.targets.cpu.products.put_vectors_along_rows import (
    block_strips,
    copy_strips,
    join_strips,
    put_vectors_along_rows,
)
from compiler.targets.cpu.products.rewriting import nested
from compiler.targets.cpu.products.unroll import ask_for_operands, fence, unroll, unroll_stage

PASSES = tuple(
    KernelPass(run, reason)
    for run, reason in (
        (tile, "an element that is loaded meets several, and their sums stay in registers"),
        (put_vectors_along_rows, "rows are neighbours, and fill vectors where columns would not"),
        (block_strips, "blocks of a long sum stay in cache, as the sums of a thread's strips do"),
        (copy_strips, "all columns of a strip read its rows: in one stretch, from the first-level cache"),
        (join_strips, "a thread copies the columns of a block once for its strips, whatever its items"),
        (block_long_sum, "both operands come from far away once, not once for each tile"),
        (copy_both_operands, "both are larger than the cache and apart along the sum: copies are read in one stretch"),
        (block_rows_and_sum, "the operands are larger than the cache: what is read again and again lies near"),
        (join_items, "the blocks of a thread are as large as its cache allows, whatever its items"),
        (put_panels_outside, "a thread keeps to its columns, and a panel stays in cache for all rows"),
        (block_rows, "the left operand is larger than the cache: a block of it stays there for all panels"),
        (make_items, "tiles are independent of each other, and so many that all threads have some"),
        (pack_all_panels, "each of many blocks of rows reads all panels: in one stretch, whose lines are few"),
        (copy_rows, "the rows of a tile compete for the same lines of the first-level cache"),
        (pack, "each tile of rows reads the panel: in one stretch, whose lines are few"),
        (pack_while_multiplying, "few tiles share a panel, which the first one reads in any case"),
        (take_by_register, "a whole vector of the right operand has no room beside the sums"),
        (spill, "a long stage has no registers beside the sums, and rows that do not exist none at all"),
        (keep_repeated, "what repeats along the rows of the result stays in registers for all tiles"),
        (unroll, "the end of the loop is hidden behind the multiplications of several steps"),
        (
            unroll_stage,
            "the vectors of a short stage need no loop, and what repeats along rows has a register for each",
        ),
        (fence, "a load that moves up takes a register that the sums need"),
        (ask_for_operands, "operands that come from far away, or once, arrive before their use"),
        (ask_for_next_panel, "the next panel, rows and sums come from far away, and are used but for a short time"),
        (ask_for_next_rows, "rows come from far away, each tile's behind those of the tile before"),
        (ask_for_results, "what the stage reads and writes arrives while the tile is multiplied"),
        (ask_by_lines, "a processor moves whole lines: one address of each is enough"),
    )
)


def definition(kernel: ContractionKernel, lasts: bool) -> ir.ProductLoops:
    """The definition of a product: row by row and column by column, a sum and the elementwise stage on it.

    The right operand that `lasts` is the same from call to call.
    """
    body = [i for stage in kernel.stages for i in stage.body]
    written = {i.access.buffer for i in body if isinstance(i, Store)}
    read = {i.access.buffer for i in body if isinstance(i, Load)}
    epilogue = ir.Epilogue(len(body), bool(written & read), bool(repeating_loads(kernel.stages)))
    axes = (ir.Axis.OUTER, ir.Axis.TILE, ir.Axis.PANEL)
    loops = nested([ir.Loop(axis, ir.Kind.PLAIN, ()) for axis in axes], (ir.Multiply(), ir.Finish(in_registers=True)))
    return ir.ProductLoops(kernel.contraction, epilogue, lasts, None, (loops,))
