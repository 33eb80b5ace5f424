"""Walks that read along rows and write along columns: blocks are transposed in registers.

An item is LANES neighbouring rows. Where their number is no multiple, the last group is moved back over rows that are
done already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compiler.loops.ir import Access, Instruction, Load, Store
from compiler.schedule.access import count
from compiler.targets.cpu.kernel_code import ColumnsNumber, Items, KernelCode
from compiler.targets.cpu.kernel_text import KernelText
from compiler.targets.cpu.text import LANES, MEMORY, REGISTER
from compiler.targets.cpu.tiles import ceiling, divided
from compiler.targets.cpu.turning import turned
from compiler.targets.cpu.walks import DENSE, has_free_columns, moves_only


def emit_transposing(k: KernelText, line: int) -> KernelCode:
    """The code of a walk with so many `transposed_rows`, which stand for a number as offsets do."""
    text, kernel = k.text, k.kernel
    (stage,) = kernel.stages
    k.open()
    rows, is_free = k.place_number(line), has_free_columns(kernel)
    columns = k.argument(ColumnsNumber()) if is_free else str(count(kernel.columns))
    whole = text.let(f"and i64 {columns}, {-LANES}") if is_free else str(int(columns) // LANES * LANES)
    groups = ceiling(text, rows, LANES)
    last = text.let(f"sub i64 {rows}, {LANES}")

    def item(number: str, carried: list[str]) -> list[str]:
        above, group = divided(text, number, groups)
        first = text.add(text.mul(above, rows), text.minimum(text.mul(group, LANES), last))
        k.new_row(first, stage.body)
        block = _Block(k, stage.body, first)
        text.loop("0", whole, LANES, [], lambda column, _: block.emit(column))
        if count(kernel.columns) % LANES:
            block.emit(whole, columns)
        return []

    text.loop("%begin", "%end", 1, [], item)
    return k.close(Items(kernel.rows, LANES))


@dataclass(slots=True)
class _Block:
    """Some columns of LANES rows, from `first` on."""

    k: KernelText
    body: Sequence[Instruction]
    first: str

    def emit(self, column: str, stop: str = "") -> list[str]:
        """LANES columns, or those before `stop`."""
        k = self.k
        mask = k.mask_below(column, stop) if stop else None
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
        return []

    def load(self, load: Load, column: str, stop: str) -> None:
        k, text, access = self.k, self.k.text, load.access
        type_, start = MEMORY[load.dtype], k.pointer(access, self.first)
        if access.columns == DENSE:
            found = self.neighbours(load, text.pointer(start, column, type_), self.step(access))
        else:
            stride = access.columns[0].stride
            apart = k.place_number(stride) if moves_only(k.kernel) else str(stride)
            start = text.pointer(start, text.mul(column, apart), type_)
            found = turned(text, self.neighbours(load, start, apart, column, stop), type_)
        for row, name in enumerate(found):
            k.put(load.result, name, REGISTER[load.dtype], True, row)

    def neighbours(self, load: Load, place: str, step: str, column: str = "0", stop: str = "") -> list[str]:
        """LANES vectors, each a step behind the one before it; where there is no column any more, that one again."""
        text, type_, found = self.k.text, MEMORY[load.dtype], list[str]()
        for lane in range(LANES):
            found.append(text.let(f"load <{LANES} x {type_}>, ptr {place}, align {load.dtype.size}"))
            here = text.pointer(place, step, type_)
            if stop.startswith("%"):
                is_inside = text.let(f"icmp slt i64 {text.add(column, lane + 1)}, {stop}")
                place = text.let(f"select i1 {is_inside}, ptr {here}, ptr {place}")
            elif stop and int(column) + lane + 1 >= int(stop):
                return found + ["poison"] * (LANES - 1 - lane)
            else:
                place = here
        return found

    def store(self, store: Store, column: str, mask: str | None) -> None:
        k, type_, step = self.k, MEMORY[store.dtype], self.step(store.access)
        place = k.text.pointer(k.pointer(store.access, self.first), column, type_)
        for row in range(LANES):
            value = k.wide(store.value, row)
            k.store_vector(store, value, place, mask)
            k.watches.vector(store, value, mask, more=row < LANES - 1)
            place = k.text.pointer(place, step, type_)

    def step(self, access: Access) -> str:
        """Elements from one row to the next."""
        total = "0"
        for term in access.rows:
            if term.divisor == 1:
                total = self.k.text.add(self.k.place_number(term.stride), total)
        return total
