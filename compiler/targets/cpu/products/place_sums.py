"""Decides where the elementwise stage finds the sums of a tile, and which operands stay in registers for all."""

from __future__ import annotations

from dataclasses import replace

from compiler.targets.cpu.products import ir
from compiler.targets.cpu.products.rewriting import has_loop, rewritten
from compiler.tuning import Tuning


def spill(product: ir.ProductLoops, given: ir.Circumstances) -> ir.ProductLoops:
    contract, shape = product.contract, product.cut.shape
    if stays_in_registers(product, given.tuning):
        return product if product.scratch else replace(product, scratch=((contract.tile, 0),))

    def change(statement: ir.Statement) -> tuple[ir.Statement, ...]:
        return (ir.Put(), ir.Finish()) if isinstance(statement, ir.Finish) and statement.in_registers else (statement,)

    scratch = product.scratch or ((contract.tile, shape.rows * shape.width * contract.dtype.size),)
    return replace(product, body=rewritten(product.body, change), scratch=scratch)


def stays_in_registers(product: ir.ProductLoops, tuning: Tuning) -> bool:
    """Whether the stage is short enough to work on the accumulators.

    Every row has to exist, and nothing may be overwritten that the stage reads.
    """
    steps, epilogue = product.cut.row_steps, product.epilogue
    fits = isinstance(steps.extent, int) and steps.extent >= steps.step
    is_short = epilogue.statements <= tuning.stage_in_registers
    return fits and is_short and product.contract.n % product.cut.shape.width == 0 and not epilogue.overwrites


def keep_repeated(product: ir.ProductLoops, given: ir.Circumstances) -> ir.ProductLoops:
    if not product.epilogue.repeats or product.cut.panels > 1:
        return product
    *entries, loops = product.body
    if has_loop(product, ir.Axis.SUM):
        return replace(product, body=(ir.Entry.REPEATED, *product.body))
    return replace(product, body=(*entries, ir.Entry.REPEATED, loops))
