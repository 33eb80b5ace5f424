"""Walks that read along rows and write along columns: blocks are transposed in registers.

An item is LANES neighbouring rows. Where their number is no multiple, the last group is moved back over rows that are
done already.
"""

from __future__ import annotations

from collections.abc import Sequence

from compiler.loops.ir import Access, Instruction, Load, RowKernel, Store
from compiler.nest.arguments import ColumnsNumber
from compiler.nest.ir import BEGIN, END, Constant, Index, Items, Nest, Operand, Value, vector
from compiler.schedule.addresses import count
from compiler.support.numerics import LANES
from compiler.support.record import mutable_record
from compiler.targets.cpu.iteration_space import DENSE, transposed_rows
from compiler.targets.cpu.kernel_frame import in_memory
from compiler.targets.cpu.kernel_nest import KernelNest
from compiler.targets.cpu.tiles import ceiling, divided, rounded_down
from compiler.targets.cpu.transpose import transposed


def build_squares(k: KernelNest, kernel: RowKernel) -> Nest:
    """The nest of a kernel that has `transposed_rows`."""
    nest = k.nest
    (stage,) = kernel.stages
    k.open()
    rows, is_free = k.place_number(transposed_rows(kernel)), k.what.has_free_columns
    columns = k.argument(ColumnsNumber()) if is_free else count(kernel.columns)
    whole = rounded_down(nest, columns, LANES)
    groups = ceiling(nest, rows, LANES)
    last = nest.sub(rows, LANES)
    with nest.each(BEGIN, END) as number:
        above, group = divided(nest, number, groups)
        first = nest.add(nest.mul(above, rows), nest.minimum(nest.mul(group, LANES), last))
        k.new_row(first, stage.body)
        block = _Block(k, stage.body, first)
        with nest.each(0, whole, LANES) as column:
            block.emit(column)
        if count(kernel.columns) % LANES:
            block.emit(whole, columns)
    return k.close(Items(kernel.rows, LANES))


@mutable_record
class _Block:
    """Some columns of LANES rows, from `first` on."""

    k: KernelNest
    body: Sequence[Instruction]
    first: Index

    def emit(self, column: Index, stop: Index | None = None) -> None:
        """LANES columns, or those before `stop`."""
        k = self.k
        mask = None if stop is None else k.mask_below(column, stop)
        for instruction in self.body:
            with k.of(instruction):
                match instruction:
                    case Load():
                        self.load(instruction, column, stop)
                    case Store():
                        self.store(instruction, column, mask)
                    case _:
                        for row in range(LANES):
                            k.vector(instruction, self.first, column, mask, row)

    def load(self, load: Load, column: Index, stop: Index | None) -> None:
        k, nest, access = self.k, self.k.nest, load.access
        type_, start = in_memory(load.dtype), k.pointer(access, self.first)
        if access.columns == DENSE:
            found = self.neighbours(load, nest.pointer(start, column, type_), self.step(access))
        else:
            stride = access.columns[0].stride
            apart = k.place_number(stride) if k.what.moves_only else stride
            start = nest.pointer(start, nest.mul(column, apart), type_)
            found = transposed(nest, self.neighbours(load, start, apart, column, stop))
        for row, name in enumerate(found):
            k.put(load.result, name, row)

    def neighbours(
        self, load: Load, place: Value, step: Index, column: Index = 0, stop: Index | None = None
    ) -> Sequence[Operand]:
        """LANES vectors, each a step behind the one before it; where there is no column any more, that one again."""
        nest, type_, found = self.k.nest, in_memory(load.dtype), list[Operand]()
        for lane in range(LANES):
            found.append(nest.load(place, vector(type_, LANES), load.dtype.size))
            here = nest.pointer(place, step, type_)
            if isinstance(stop, Value):
                is_inside = nest.compare("lt", nest.add(column, lane + 1), stop)
                place = nest.select(is_inside, here, place)
            elif stop is not None and isinstance(column, int) and column + lane + 1 >= stop:
                return found + [Constant(vector(type_, LANES), None)] * (LANES - 1 - lane)
            else:
                place = here
        return found

    def store(self, store: Store, column: Index, mask: Operand | None) -> None:
        k, type_, step = self.k, in_memory(store.dtype), self.step(store.access)
        place = k.nest.pointer(k.pointer(store.access, self.first), column, type_)
        for row in range(LANES):
            value = k.wide(store.value, row)
            k.store_vector(value, place, store.dtype, mask)
            k.finite_checks.vector(store, value, mask, more=row < LANES - 1)
            place = k.nest.pointer(place, step, type_)

    def step(self, access: Access) -> Index:
        """Elements from one row to the next."""
        total: Index = 0
        for term in access.rows:
            if term.divisor == 1:
                total = self.k.nest.add(self.k.place_number(term.stride), total)
        return total
