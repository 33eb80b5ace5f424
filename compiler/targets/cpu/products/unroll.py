"""Decides how many steps of a sum stand one behind the other, and how far ahead of them a tile asks for operands."""

from __future__ import annotations

from dataclasses import replace

from compiler.loops.ir import ContractedAxis, Triangle
from compiler.nest.builder import Builder
from compiler.nest.ir import INDEX
from compiler.support.numerics import LANES
from compiler.targets.cpu.long_sums import Block, summed_axes, walked
from compiler.targets.cpu.multiply import SummedAxis
from compiler.targets.cpu.products import ir
from compiler.targets.cpu.products.rewriting import rewritten, statements_of, with_multiply

SHORT = 64  # summed elements, up to which a sum is divided evenly
SHORT_STAGE = 64  # statements for the vectors of a row, up to which they are written one behind the other


def unroll(product: ir.ProductLoops, given: ir.Circumstances) -> ir.ProductLoops:
    shape, tuning = product.register_tile, given.tuning
    usual = tuning.unrolled_steps if shape.rows * shape.vectors > 4 else 8

    def steps(multiply: ir.Multiply) -> int:
        extent, stride = _last_axis(product, multiply)
        places = {*_places(product, multiply)}
        if any(place + turn * stride in places for place in places for turn in range(1, tuning.unrolled_steps)):
            return 1  # steps read the same elements of the left operand: side by side, LLVM would keep them and spill
        if extent is None:
            return usual
        if extent > SHORT or extent % usual == 0:
            return usual if extent >= usual else 1
        return max(step for step in range(1, 9) if extent % step == 0)

    return with_multiply(product, lambda of: (replace(of, unrolled=steps(of)),))


def unroll_stage(product: ir.ProductLoops, given: ir.Circumstances) -> ir.ProductLoops:
    cut, epilogue = product.cut, product.epilogue
    is_whole = product.contract.n % cut.shape.width == 0 or cut.panels == 1
    holds = epilogue.repeats and cut.panels == 1  # which each vector does in registers of its own
    if not is_whole or not (holds or cut.shape.vectors * epilogue.statements <= SHORT_STAGE):
        return product

    def change(statement: ir.Statement) -> tuple[ir.Statement, ...]:
        if isinstance(statement, ir.Finish) and not statement.in_registers:
            return (replace(statement, is_unrolled=True),)
        return (statement,)

    return replace(product, body=rewritten(product.body, change))


def ask_for_operands(product: ir.ProductLoops, given: ir.Circumstances) -> ir.ProductLoops:
    rows, tuning, triangle = product.register_tile.rows, given.tuning, product.contract.triangle

    def change(multiply: ir.Multiply) -> tuple[ir.Multiply]:
        once = multiply.streams or multiply.copying is ir.Copying.STRIP or rows <= tuning.streamed_rows
        of_corner = tuning.streamed_rows if triangle in (Triangle.SUM_TO_ROW, Triangle.SUM_FROM_ROW) else 0
        most = rows if once else of_corner
        is_far = _last_axis(product, multiply)[1] > 2 * LANES
        left = is_far and _places(product, multiply) == tuple(range(rows)) and multiply.lanes == LANES
        asks = most or left or multiply.copying is not ir.Copying.NEVER
        return (replace(multiply, steps_ahead=tuning.steps_ahead if asks else 0, ahead_rows=most, ahead_left=left),)

    return with_multiply(product, change)


def fence(product: ir.ProductLoops, given: ir.Circumstances) -> ir.ProductLoops:
    return with_multiply(product, lambda of: (replace(of, is_fenced=True),)) if given.machine.is_arm else product


def _places(product: ir.ProductLoops, multiply: ir.Multiply) -> tuple[int, ...]:
    pitches = [s.pitch for s in statements_of(product.body) if isinstance(s, ir.CopyRows)]
    return ir.places_of_rows(product, multiply.left, pitches[0] if pitches else 0)


def _last_axis(product: ir.ProductLoops, multiply: ir.Multiply) -> tuple[int | None, int]:
    """The extent of the innermost axis of the sum, where it is constant, and its stride in what a tile broadcasts."""
    statements, (*_, axis) = [*statements_of(product.body)], product.contract.k
    for statement in statements:
        if isinstance(statement, ir.Loop) and statement.block is not None:
            (steps,) = [s for s in statements if isinstance(s, ir.LetSteps) and s.left is multiply.left]
            return _last_of_block(product, statement.block, steps)
        if isinstance(statement, ir.CopyStrips) and multiply.left is ir.Place.STRIPS:
            return None, statement.strips.room
    is_whole = ir.Let.BLOCK not in statements and product.contract.triangle is None
    stride = 1 if multiply.left is ir.Place.COPY else axis.lhs_stride
    return axis.extent if is_whole and isinstance(axis.extent, int) else None, stride


def _last_of_block(product: ir.ProductLoops, block: Block, steps: ir.LetSteps) -> tuple[int | None, int]:
    nest, axes = Builder(), product.contract.k  # of a nest that nobody reads
    of_block: tuple[ContractedAxis, ...] = axes if block.second is None else axes[1:]
    found = summed_axes(nest.fresh(INDEX), of_block)
    if product.along_rows is not None:
        found = [SummedAxis(a.extent, a.rhs_stride, a.lhs_stride) for a in found]
    last = walked(nest, found, steps.broadcast, steps.vectors, steps.copied)[-1]
    return last.extent if isinstance(last.extent, int) else None, last.lhs_stride
