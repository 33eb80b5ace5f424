"""Contractions with a long sum over the batch: blocks of the sum stay in cache, and all tiles take their share of each.

An item is a part of the sum, a panel of columns, and some tiles of rows, whose accumulators lie in scratch between the
blocks. So both operands come from far away once, not once for each tile. Each element is still one chain over its part.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from compiler.loops.ir import TileContract
from compiler.schedule.access import count
from compiler.targets.cpu.contraction import finish, put_away, repeating
from compiler.targets.cpu.kernel_text import Items, KernelCode, KernelText
from compiler.targets.cpu.machine import Machine
from compiler.targets.cpu.multiply import RegisterTile, SummedAxis, multiplied
from compiler.targets.cpu.text import LANES, REGISTER
from compiler.targets.cpu.tiles import Tiling, divided, outer_offsets, tiling
from compiler.types import BatchExtent

SHORTEST = 512  # summed elements that a block has at least, where the cache holds them


def sums_in_blocks(contract: TileContract) -> bool:
    """Whether the sum goes over the batch and further axes, with all rows and columns static."""
    is_static = isinstance(contract.m, int) and all(isinstance(axis.extent, int) for axis in contract.outer)
    is_long = isinstance(contract.k[0].extent, BatchExtent) and len(contract.k) > 1
    return is_static and contract.rhs_n_stride == 1 and (is_long or contract.parts > 1)


def emit_parts(k: KernelText, batch: int) -> KernelCode:
    """The code of a contraction kernel for which `sums_in_blocks` holds."""
    contract = k.kernel.contraction
    assert contract is not None
    return _Parts(k, contract, tiling(contract, k.machine, batch)).emit()


@dataclass(slots=True)
class _Parts:
    k: KernelText
    contract: TileContract
    cut: Tiling

    @property
    def tiles(self) -> int:
        """Tiles for each index of the outer axes."""
        assert isinstance(self.cut.walk.extent, int)
        return -(-self.cut.walk.extent // self.cut.walk.step)

    @property
    def all_tiles(self) -> int:
        return self.tiles * prod(count(axis.extent) for axis in self.cut.walk.outer)

    @property
    def tile(self) -> RegisterTile:
        shape = self.cut.shape
        return RegisterTile(shape, self.contract.dtype, self.cut.walk.places(self.contract, shape.rows), False)

    @property
    def slot(self) -> int:
        """Elements of the accumulators of a tile."""
        return self.cut.shape.rows * self.cut.shape.width

    def emit(self) -> KernelCode:
        k, contract, text = self.k, self.contract, self.k.text
        size, panels = contract.dtype.size, self.cut.panels
        most = max(1, k.machine.l2_bytes // 4 // (self.slot * size))
        groups = -(-self.all_tiles // most)
        each = -(-self.all_tiles // groups)
        k.reserve(contract.tile, each * self.slot * size)
        k.open()
        for load in repeating(k, self.cut):
            k.repeated(load, "0", self.cut.shape.vectors)
        whole = k.extent(contract.k[0].extent)

        def item_body(item: str, carried: list[str]) -> list[str]:
            part, rest = divided(text, item, str(panels * groups))
            panel, group = divided(text, rest, str(groups))
            begin, end = (
                text.let(f"udiv i64 {text.mul(text.add(part, step), whole)}, {contract.parts}") for step in (0, 1)
            )
            column = text.mul(panel, self.cut.shape.width)
            first = text.mul(group, each)
            last = text.minimum(text.add(first, each), str(self.all_tiles))
            with k.of(contract):
                self.clear(each)
                self.over_blocks(begin, end, column, first, last)
            self.finish(part, column, first, last)
            return []

        text.loop("%begin", "%end", 1, [], item_body)
        return k.close(Items(contract.parts, 1, panels * groups))

    def clear(self, tiles: int) -> None:
        text, tile = self.k.text, self.tile

        def body(index: str, carried: list[str]) -> list[str]:
            place = text.pointer(self.k.bases[self.contract.tile], index, REGISTER[tile.dtype])
            text.line(f"store {tile.vector} {tile.zero}, ptr {place}, align 64")
            return []

        text.loop("0", str(tiles * self.slot), LANES, [], body)

    def over_blocks(self, begin: str, end: str, column: str, first: str, last: str) -> None:
        """Cut the sum into blocks whose operands fit in the second-level cache; all tiles take each in turn."""
        text, k, (head, *rest) = self.k.text, self.k, self.contract.k
        axes = [SummedAxis(k.extent(axis.extent), axis.lhs_stride, axis.rhs_stride) for axis in (head, *rest)]
        taken, second = _block_lengths(self.contract, k.machine, self.cut.shape.width)

        def outside(index: str, carried: list[str]) -> list[str]:
            left, right = text.mul(index, head.lhs_stride), text.mul(index, head.rhs_stride)
            if second is None:
                here = text.minimum(text.let(f"sub i64 {end}, {index}"), str(taken))
                block = [SummedAxis(here, head.lhs_stride, head.rhs_stride), *axes[1:]]
                self.share(block, left, right, column, first, last)
                return []

            def inside(place: str, carried: list[str]) -> list[str]:
                here = text.minimum(text.let(f"sub i64 {axes[1].extent}, {place}"), str(second))
                block = [SummedAxis(here, rest[0].lhs_stride, rest[0].rhs_stride), *axes[2:]]
                further = (text.mul(place, rest[0].lhs_stride), text.mul(place, rest[0].rhs_stride))
                lhs, rhs = (text.add(text.add("0", a), b) for a, b in zip((left, right), further, strict=True))
                self.share(block, lhs, rhs, column, first, last)
                return []

            text.loop("0", axes[1].extent, second, [], inside)
            return []

        text.loop(begin, end, taken, [], outside)

    def share(self, axes: list[SummedAxis], lhs: str, rhs: str, column: str, first: str, last: str) -> None:
        """One block of the sum, for tiles `first` to `last`."""
        k, text, contract, tile = self.k, self.k.text, self.contract, self.tile
        type_ = REGISTER[contract.dtype]

        def body(number: str, carried: list[str]) -> list[str]:
            left, right, _, _, _ = self.place(number)
            left = text.add(text.add(left, lhs), contract.lhs_offset)
            right = text.add(text.add(text.add(right, column), rhs), contract.rhs_offset)
            pointers = (
                text.pointer(k.bases[contract.lhs], left, type_),
                text.pointer(k.bases[contract.rhs], right, type_),
            )
            slots = self.slots(number, first)
            held: list[str] = []
            for index in range(tile.slots):
                place = text.pointer(slots, str(index * LANES), type_)
                held.append(text.let(f"load {tile.vector}, ptr {place}, align 64"))
            put_away(k, tile, slots, multiplied(text, tile, axes, *pointers, held))
            return []

        text.loop(first, last, 1, [], body)

    def finish(self, part: str, column: str, first: str, last: str) -> None:
        text, walk = self.k.text, self.cut.walk
        assert isinstance(walk.extent, int)
        rows = str(walk.extent * walk.unit)

        def body(number: str, carried: list[str]) -> list[str]:
            _, _, base, row, start = self.place(number)
            base = text.add(base, text.mul(part, self.contract.part_step))
            finish(self.k, self.contract, self.cut, start, row, rows, column, base, self.slots(number, first))
            return []

        text.loop(first, last, 1, [], body)

    def slots(self, number: str, first: str) -> str:
        """Where the accumulators of a tile lie."""
        text = self.k.text
        offset = text.mul(text.let(f"sub i64 {number}, {first}"), self.slot)
        return text.pointer(self.k.bases[self.contract.tile], offset, REGISTER[self.contract.dtype])

    def place(self, number: str) -> tuple[str, str, str, str, str]:
        """Offsets of a tile in both operands and in the rows; its first row, and the first that no tile before had."""
        text, walk = self.k.text, self.cut.walk
        assert isinstance(walk.extent, int)
        outer, index = divided(text, number, str(self.tiles))
        lhs, rhs, base = outer_offsets(self.k, walk.outer, outer)
        start = text.mul(index, walk.step)
        unit = text.minimum(start, str(max(0, walk.extent - walk.step)))
        left = text.add(text.add("0", text.mul(unit, walk.stride)), lhs)
        return left, rhs, base, text.mul(unit, walk.unit), text.mul(start, walk.unit)


def _block_lengths(contract: TileContract, machine: Machine, width: int) -> tuple[int, int | None]:
    """How many indices of the first summed axis a block takes; or one, and so many of the second."""
    head, *rest = contract.k
    inner = prod(count(axis.extent) for axis in rest)
    bytes_ = (abs(head.lhs_stride) + inner * width) * contract.dtype.size
    room = machine.l2_bytes // 2
    if bytes_ > room and len(rest) > 1:
        extent = count(rest[0].extent)
        return 1, max(1, min(extent, extent * room // bytes_))
    return max(1, min(-(-SHORTEST // inner), room // max(1, bytes_))), None
