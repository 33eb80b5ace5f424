"""Products with a long sum whose rows lie side by side: the vectors of a register tile run along the rows.

A tile of rows with all columns is a strip; a register tile takes some columns of it. Of each block of the sum the
columns are copied, those of a register tile side by side; a strip is copied by its first register tile, while that
multiplies, and stays in the first-level cache for the others. The sums lie in scratch between the blocks, so each
element is one chain over its split. At the end they are transposed, strip by strip, for the elementwise stage.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil, prod

from compiler.loops.ir import TileContract
from compiler.machine import Machine
from compiler.schedule.addresses import count
from compiler.support.numerics import LANES
from compiler.targets.cpu.long_sums import block_of
from compiler.targets.cpu.products import ir
from compiler.targets.cpu.products.block_long_sum import asks_for_next_block, sums_in_blocks
from compiler.targets.cpu.products.rewriting import loops_over, nested, rewritten
from compiler.targets.cpu.tiles import TileShape, Tiling, pieces_of, row_steps
from compiler.tuning import Tuning


def put_vectors_along_rows(product: ir.ProductLoops, given: ir.Circumstances) -> ir.ProductLoops:
    contract = product.contract
    if not sums_in_blocks(contract) or not runs_along_rows(contract, given.tuning):
        return product
    shape = strip_shape(contract, given.machine)
    if shape is None:
        return product
    strip = TileShape(shape.width, _vectors(contract.n))
    cut = Tiling(strip, row_steps(contract, strip), 1, 0, False)
    panels = ir.Loop(ir.Axis.PANEL, ir.Kind.PLAIN, (ir.Multiply(), ir.Put()))
    body = (ir.Loop(ir.Axis.STRIP, ir.Kind.PLAIN, (panels, ir.TransposeSums(pieces_of(given.machine)), ir.Finish())),)
    return replace(product, tiling=cut, along_rows=shape, body=body)


def runs_along_rows(contract: TileContract, tuning: Tuning) -> bool:
    """Whether rows are neighbours and fill vectors about as well as columns do, which outer indices share."""
    rows, columns = _rows(contract), contract.n
    is_shared = all(axis.rhs_stride == 0 for axis in contract.outer)
    fills = _vectors(rows) * columns <= tuning.strip_waste * rows * _vectors(columns)
    return is_shared and contract.lhs_m_stride == 1 and fills


def strip_shape(contract: TileContract, machine: Machine) -> TileShape | None:
    """A tile of vectors along the rows and of single columns, whose sums stay in registers, with little done twice.

    None where a machine has not enough registers for one vector of sums.
    """
    tuning = machine.tuning
    each = max(1, LANES * contract.dtype.size * 8 // machine.vector_bits)  # registers of a vector
    shapes = [
        TileShape(columns, vectors)
        for vectors in range(1, min(tuning.strip_vectors, _vectors(_rows(contract))) + 1)
        for columns in range(1, min(LANES, contract.n, (machine.registers - 1) // (vectors * each) - 1) + 1)
    ]

    def cost(shape: TileShape) -> float:
        tiles = ceil(_rows(contract) / shape.width) * ceil(contract.n / shape.rows)
        chains = shape.rows * shape.vectors * each
        return tiles * (max(chains, tuning.strip_chains) + tuning.strip_load * (shape.rows + shape.vectors * each))

    return min(shapes, key=cost, default=None)


def _vectors(elements: int) -> int:
    return ceil(elements / LANES)


def _rows(contract: TileContract) -> int:
    assert isinstance(contract.m, int)
    return contract.m


def block_strips(product: ir.ProductLoops, given: ir.Circumstances) -> ir.ProductLoops:
    contract, shape, machine, tuning = product.contract, product.along_rows, given.machine, given.tuning
    if shape is None:
        return product
    size, slot = contract.dtype.size, shape.rows * shape.width
    strips = ceil(_rows(contract) / shape.width) * prod(count(axis.extent) for axis in contract.outer)
    room = int(machine.l2_bytes * tuning.strip_sums_share) // (product.panels * slot * size)
    together = ceil(strips / ceil(strips / max(1, room)))
    room = int(tuning.strip_share * machine.l1_bytes)
    block = block_of(contract, min(tuning.strip_sum, room // (shape.width * size)))
    pitch = block.elements * shape.rows + LANES  # no power of two: register tiles do not compete for lines
    tile = (ir.Let.PANEL, ir.Let.PANEL_SUMS, ir.Multiply(right=ir.Place.STRIPS, sums=ir.Sums.KEPT), ir.Put())
    panels = tile if product.panels == 1 else (ir.Loop(ir.Axis.PANEL, ir.Kind.PLAIN, tile),)
    multiplied = (ir.Let.STRIP, ir.Let.BLOCK_OPERANDS, ir.Let.STRIP_SUMS, *panels)
    copy = ir.CopyColumns(pitch, shape.rows, size, is_unrolled=product.panels <= LANES)
    steps = (ir.LetSteps(ir.Place.ITSELF, shape.rows), ir.LetSteps(ir.Place.COPY, shape.rows, shape.width))
    inside = (copy, *steps, ir.Loop(ir.Axis.STRIP, ir.Kind.FROM_ZERO, multiplied))
    over_sum = ir.Loop(ir.Axis.SUM, ir.Kind.OF_SPLIT, inside, block.elements, block)
    finish = (ir.Let.STRIP_SUMS, ir.TransposeSums(pieces_of(machine)), ir.Let.STRIP, ir.Let.BASE, ir.Finish())
    finished = ir.Loop(ir.Axis.STRIP, ir.Kind.FROM_ZERO, finish)
    sums = together * product.panels * slot
    body = (ir.Clear(sums), over_sum, finished)
    strips_together = ir.Loop(ir.Axis.STRIP, ir.Kind.AT_MOST, (), together)
    loops = nested([ir.Loop(ir.Axis.SPLIT, ir.Kind.PLAIN, ()), strips_together], body)
    scratch = (
        (contract.tile, (sums + LANES * shape.width) * size),
        (ir.RIGHT, pitch * product.panels * size),
        (ir.LEFT, block.elements * shape.width * size),
        (ir.TRANSPOSED, product.cut.shape.width * shape.width * size),
    )
    return replace(product, body=(ir.Entry.EXTENTS, loops), scratch=scratch)


def copy_strips(product: ir.ProductLoops, given: ir.Circumstances) -> ir.ProductLoops:
    if product.along_rows is None or product.panels == 1:
        return product
    shape, contract = product.along_rows, product.contract
    (together, *_), (blocks,) = (loops_over(product, axis) for axis in (ir.Axis.STRIP, ir.Axis.SUM))
    assert blocks.block is not None
    turns = together.step * (product.panels - 1)
    asks = asks_for_next_block(contract, blocks.block, shape.rows * shape.width, turns, given)

    def change(statement: ir.Statement) -> tuple[ir.Statement, ...]:
        if isinstance(statement, ir.LetSteps) and statement.left is ir.Place.ITSELF:
            return (replace(statement, copied=shape.width),)
        if not isinstance(statement, ir.Loop) or statement.axis is not ir.Axis.PANEL:
            return (statement,)
        panel, sums, multiply, put = statement.body
        assert isinstance(multiply, ir.Multiply)
        first = (panel, replace(multiply, copying=ir.Copying.STRIP), put)
        others = (panel, sums, replace(multiply, left=ir.Place.COPY, asks=asks), put)
        return *first, replace(statement, kind=ir.Kind.BUT_FIRST, body=others)

    return replace(product, body=rewritten(product.body, change))


def join_strips(product: ir.ProductLoops, given: ir.Circumstances) -> ir.ProductLoops:
    *entries, splits = product.body
    if product.along_rows is None or not isinstance(splits, ir.Loop):
        return product
    items = [ir.Loop(axis, ir.Kind.ITEMS, ()) for axis in (ir.Axis.SPLIT, ir.Axis.STRIP)]
    return replace(product, body=(*entries, nested(items, (ir.Join(splits.body),))))
