"""Sums over the rows of columns by blocks of threads: chains of a column go side by side, and meet in shared memory.

LANES neighbours have a vector of columns and one of its CHAINS, and a block some vectors beside each other. Which row
is added by which chain, and how chains are joined, is fixed for all targets.
"""

from __future__ import annotations

from collections.abc import Sequence

from compiler.loops.ir import ColumnKernel, Reduce, Stage
from compiler.nest import ir
from compiler.nest.arguments import ColumnsNumber, RowsNumber
from compiler.nest.ir import ADDRESS, INDEX, TRUTH, Index, Items, Nest, Operand, Value, vector
from compiler.schedule.addresses import count
from compiler.support.numerics import CHAINS, LANES
from compiler.support.record import record
from compiler.targets.cpu.kernel_nest import KernelNest
from compiler.targets.cpu.tiles import ceiling, divided, rounded_down
from compiler.targets.gpu.threads import GROUPS

VECTORS = GROUPS // CHAINS  # of columns that a block has


def is_in_chains(kernel: ColumnKernel) -> bool:
    """Whether a kernel only adds up, several chains a column, and then computes with the sums."""
    reduces = [i for stage in kernel.stages for i in stage.body if isinstance(i, Reduce)]
    return len(kernel.stages) == 1 and len(reduces) > 0 and all(reduce.factor is None for reduce in reduces)


def blocks_of_columns(kernel: ColumnKernel) -> Items:
    return Items(kernel.outer, 1, -(-count(kernel.columns) // (LANES * VECTORS)))


@record
class _Place:
    """The block of rows and the column of a thread's vector, and its chain; whether there is such a vector."""

    outer: Index
    rows: Value
    column: Index
    mask: Operand | None
    group: Value
    own: Index
    chain: Index
    is_there: Value


def build_column_blocks(k: KernelNest, kernel: ColumnKernel) -> Nest:
    (stage,) = kernel.stages
    k.open()
    place = _place_of(k, kernel)
    reduces = [i for i in stage.body if isinstance(i, Reduce)]
    _join(k, place, reduces, _chain_of(k, place, stage, reduces))
    k.new_row(place.outer, stage.after)
    is_first = k.nest.binary("and", place.is_there, k.nest.compare("eq", place.chain, 0), TRUTH)
    with k.nest.when(is_first):
        for instruction in stage.after:
            k.vector(instruction, place.outer, place.column, place.mask)
    return k.close(blocks_of_columns(kernel))


def _place_of(k: KernelNest, kernel: ColumnKernel) -> _Place:
    nest, least = k.nest, count(kernel.columns)
    rows = k.argument(RowsNumber())
    width: Index = k.argument(ColumnsNumber()) if least > LANES else least
    group, block = (nest.define(ir.Ordinal, INDEX, of) for of in ("group", "block"))
    vectors = ceiling(nest, width, LANES)
    outer, panel = divided(nest, block, ceiling(nest, vectors, VECTORS))
    chain, own = divided(nest, group, VECTORS)
    number = nest.add(nest.mul(panel, VECTORS), own)
    column = nest.mul(nest.minimum(number, nest.sub(vectors, 1)), LANES)
    mask = k.mask_below(column, width) if least % LANES else None
    return _Place(outer, rows, column, mask, group, own, chain, nest.compare("lt", number, vectors))


def _chain_of(k: KernelNest, place: _Place, stage: Stage, reduces: Sequence[Reduce]) -> list[Value]:
    """The own chain of each sum: every row number CHAINS; those behind the last whole turn are of the first chain."""
    nest, body = k.nest, [i for i in stage.body if not isinstance(i, Reduce)]
    start = nest.mul(place.outer, place.rows)

    def one(row: Index, carried: Sequence[Operand]) -> Sequence[Operand]:
        here = nest.add(start, row)
        k.digits = {here: (place.outer, row)}
        k.new_row(here, body)
        for instruction in body:
            k.vector(instruction, here, place.column, place.mask)
        return [k.combined(r, total, k.wide(r.operand)) for r, total in zip(reduces, carried, strict=True)]

    stop = rounded_down(nest, place.rows, CHAINS)
    has_rest = nest.binary("and", place.is_there, nest.compare("eq", place.chain, 0), TRUTH)
    identities = [k.identity(reduce) for reduce in reduces]
    values = nest.loop(place.chain, nest.select(place.is_there, stop, 0), CHAINS, identities, one)
    return nest.loop(stop, nest.select(has_rest, place.rows, stop), 1, values, one)


def _join(k: KernelNest, place: _Place, reduces: Sequence[Reduce], values: Sequence[Value]) -> None:
    """Each sum from its chains, which the groups of threads leave in shared memory."""
    nest, start, rooms = k.nest, 0, list[Value]()
    for reduce, value in zip(reduces, values, strict=True):
        size = reduce.dtype.size
        rooms.append(nest.define(ir.Shared, ADDRESS, start, GROUPS * LANES * size))
        nest.store(value, nest.pointer(rooms[-1], nest.mul(place.group, LANES), reduce.dtype), size)
        start += GROUPS * LANES * size
    nest.body.append(ir.Barrier(nest.line))
    own = nest.mul(place.own, LANES)
    for reduce, room in zip(reduces, rooms, strict=True):
        places = [nest.pointer(room, nest.add(own, n * VECTORS * LANES), reduce.dtype) for n in range(CHAINS)]
        wide = vector(reduce.dtype, LANES)
        k.put(reduce.result, k.joined(reduce, [nest.load(found, wide, reduce.dtype.size) for found in places]))
