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
from compiler.targets.cpu.products.block_long_sum import asks_for_next_block, sums_in_blocks
from compiler.targets.cpu.products.ir import (
    LEFT,
    RIGHT,
    TRANSPOSED,
    Axis,
    Circumstances,
    Clear,
    CopyColumns,
    Copying,
    Entry,
    Finish,
    Join,
    Kind,
    Let,
    LetSteps,
    Loop,
    Multiply,
    Place,
    ProductLoops,
    Put,
    Statement,
    Sums,
    TransposeSums,
)
from compiler.targets.cpu.products.rewriting import loops_over, nested, rewritten
from compiler.targets.cpu.tiles import TileShape, Tiling, row_steps
from compiler.targets.cpu.transpose import pieces_of
from compiler.tuning import Tuning


def put_vectors_along_rows(product: ProductLoops, given: Circumstances) -> ProductLoops:
    contract = product.contract
    if not sums_in_blocks(contract) or not runs_along_rows(contract, given.tuning):
        return product
    shape = strip_shape(contract, given.machine)
    strip = TileShape(shape.width, _vectors(contract.n))
    cut = Tiling(strip, row_steps(contract, strip), 1, 0, False)
    panels = Loop(Axis.PANEL, Kind.PLAIN, (Multiply(), Put()))
    body = (Loop(Axis.STRIP, Kind.PLAIN, (panels, TransposeSums(pieces_of(given.machine)), Finish())),)
    return replace(product, tiling=cut, along_rows=shape, body=body)


def runs_along_rows(contract: TileContract, tuning: Tuning) -> bool:
    """Whether rows are neighbours and fill vectors about as well as columns do, which outer indices share."""
    rows, columns = _rows(contract), contract.n
    is_shared = all(axis.rhs_stride == 0 for axis in contract.outer)
    fills = _vectors(rows) * columns <= tuning.strip_waste * rows * _vectors(columns)
    return is_shared and contract.lhs_m_stride == 1 and fills


def strip_shape(contract: TileContract, machine: Machine) -> TileShape:
    """A tile of vectors along the rows and of single columns, whose sums stay in registers, with little done twice."""
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

    return min(shapes, key=cost)


def _vectors(elements: int) -> int:
    return ceil(elements / LANES)


def _rows(contract: TileContract) -> int:
    assert isinstance(contract.m, int)
    return contract.m


def block_strips(product: ProductLoops, given: Circumstances) -> ProductLoops:
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
    tile = (Let.PANEL, Let.PANEL_SUMS, Multiply(right=Place.STRIPS, sums=Sums.KEPT), Put())
    panels = tile if product.panels == 1 else (Loop(Axis.PANEL, Kind.PLAIN, tile),)
    multiplied = (Let.STRIP, Let.BLOCK_OPERANDS, Let.STRIP_SUMS, *panels)
    copy = CopyColumns(pitch, shape.rows, size, is_unrolled=product.panels <= LANES)
    steps = (LetSteps(Place.ITSELF, shape.rows), LetSteps(Place.COPY, shape.rows, shape.width))
    inside = (copy, *steps, Loop(Axis.STRIP, Kind.FROM_ZERO, multiplied))
    over_sum = Loop(Axis.SUM, Kind.OF_SPLIT, inside, block.elements, block)
    transpose = TransposeSums(pieces_of(machine))
    finished = Loop(Axis.STRIP, Kind.FROM_ZERO, (Let.STRIP_SUMS, transpose, Let.STRIP, Let.BASE, Finish()))
    sums = together * product.panels * slot
    body = (Clear(sums), over_sum, finished)
    loops = nested([Loop(Axis.SPLIT, Kind.PLAIN, ()), Loop(Axis.STRIP, Kind.AT_MOST, (), together)], body)
    scratch = (
        (contract.tile, (sums + LANES * shape.width) * size),
        (RIGHT, pitch * product.panels * size),
        (LEFT, block.elements * shape.width * size),
        (TRANSPOSED, product.cut.shape.width * shape.width * size),
    )
    return replace(product, body=(Entry.EXTENTS, loops), scratch=scratch)


def copy_strips(product: ProductLoops, given: Circumstances) -> ProductLoops:
    if product.along_rows is None or product.panels == 1:
        return product
    shape, contract = product.along_rows, product.contract
    (together, *_), (blocks,) = (loops_over(product, axis) for axis in (Axis.STRIP, Axis.SUM))
    assert blocks.block is not None
    turns = together.step * (product.panels - 1)
    asks = asks_for_next_block(contract, blocks.block, shape.rows * shape.width, turns, given)

    def change(statement: Statement) -> tuple[Statement, ...]:
        if isinstance(statement, LetSteps) and statement.left is Place.ITSELF:
            return (replace(statement, copied=shape.width),)
        if not isinstance(statement, Loop) or statement.axis is not Axis.PANEL:
            return (statement,)
        panel, sums, multiply, put = statement.body
        assert isinstance(multiply, Multiply)
        first = (panel, replace(multiply, copying=Copying.STRIP), put)
        others = (panel, sums, replace(multiply, left=Place.COPY, asks=asks), put)
        return *first, replace(statement, kind=Kind.BUT_FIRST, body=others)

    return replace(product, body=rewritten(product.body, change))


def join_strips(product: ProductLoops, given: Circumstances) -> ProductLoops:
    *entries, splits = product.body
    if product.along_rows is None or not isinstance(splits, Loop):
        return product
    items = [Loop(axis, Kind.ITEMS, ()) for axis in (Axis.SPLIT, Axis.STRIP)]
    return replace(product, body=(*entries, nested(items, (Join(splits.body),))))
