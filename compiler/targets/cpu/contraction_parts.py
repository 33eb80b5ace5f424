"""Contractions with a long sum over the batch: blocks of the sum stay in cache, and all tiles take their share of each.

An item is a part of the sum and some tiles of rows, with all columns. Of each block, what the tiles read again and
again is copied so that they read it in one stretch, and while they multiply they ask for the next one; their
accumulators lie in scratch between the blocks. So both operands come from far away once, not once for each tile. Each
element is still one chain over its part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, prod

from compiler.loops.ir import ContractedAxis, TileContract
from compiler.record import record
from compiler.schedule.access import count
from compiler.targets.cpu.contraction import finish, put_away, repeating
from compiler.targets.cpu.kernel_text import Items, KernelCode, KernelText
from compiler.targets.cpu.multiply import DEEPEST_UNROLL, Ahead, RegisterTile, SummedAxis, multiplied
from compiler.targets.cpu.packing import is_packed
from compiler.targets.cpu.text import LANES, REGISTER, Text
from compiler.targets.cpu.tiles import Tiling, divided, outer_offsets, tiling
from compiler.types import BatchExtent

DEEP = 128  # summed elements of a block, about
FEWEST_ITEMS = 4
FEWEST_TILES = 4  # from which copying the columns of a block pays
SPARSE = 2 * LANES  # elements between neighbours of the sum, from which copying the rows of a block pays
LINE = 64  # bytes
COLUMNS, ROWS = -1, -2  # stretches of scratch, beside those of the kernel's buffers


def sums_in_blocks(contract: TileContract) -> bool:
    """Whether the sum goes over the batch and further axes, with all rows and columns static."""
    is_static = isinstance(contract.m, int) and all(isinstance(axis.extent, int) for axis in contract.outer)
    is_long = isinstance(contract.k[0].extent, BatchExtent) and len(contract.k) > 1
    return is_static and contract.rhs_n_stride == 1 and (is_long or contract.parts > 1)


def emit_parts(k: KernelText, batch: int) -> KernelCode:
    """The code of a contraction kernel for which `sums_in_blocks` holds."""
    contract = k.kernel.contraction
    assert contract is not None
    cut = tiling(contract, k.machine, batch)
    return _Parts(
        k,
        contract,
        cut,
        _block(contract),
        _grouping(contract, cut, k.machine.l2_bytes // 4),
    ).emit()


@record
class _Block:
    """How much of the sum is taken at once: indices of the first axis; or one, and so many of the second."""

    first: int
    second: int | None
    elements: int


def _block(contract: TileContract) -> _Block:
    _, *rest = contract.k
    inner = prod(count(axis.extent) for axis in rest)
    if inner <= DEEP or not rest:
        first = max(1, DEEP // inner)
        return _Block(first, None, first * inner)
    extent, inside = (
        count(rest[0].extent),
        prod(count(axis.extent) for axis in rest[1:]),
    )
    most = max(1, DEEP // inside)
    second = ceil(extent / ceil(extent / most))  # blocks of equal size
    return _Block(1, second, second * inside)


@record
class _Grouping:
    """How the tiles of rows are shared out: `outer` indices of the outer axes, and `tiles` of each, make an item."""

    outer: int
    tiles: int
    outer_groups: int
    tile_groups: int


def _grouping(contract: TileContract, cut: Tiling, room: int) -> _Grouping:
    """As many as have room for their accumulators, and leave work for several threads."""
    tiles, indices = _tiles(cut), prod(count(axis.extent) for axis in cut.walk.outer)
    most = max(1, room // (cut.shape.rows * cut.shape.width * cut.panels * contract.dtype.size))
    wanted = ceil(FEWEST_ITEMS / contract.parts)
    outer_groups = ceil(indices / max(1, most // tiles))
    outer_groups = max(outer_groups, min(wanted, indices))
    outer = ceil(indices / outer_groups)
    outer_groups = ceil(indices / outer)
    tile_groups = max(ceil(tiles / most), min(ceil(wanted / outer_groups), tiles))
    each = ceil(tiles / tile_groups)
    return _Grouping(outer, each, outer_groups, ceil(tiles / each))


def _tiles(cut: Tiling) -> int:
    """Tiles for each index of the outer axes."""
    assert isinstance(cut.walk.extent, int)
    return ceil(cut.walk.extent / cut.walk.step)


@record
class _Item:
    """What an item covers: the first outer index and how many, the first tile of each and how many."""

    outer: str
    outers: str
    tile: str
    tiles: str


@record
class _Operands:
    """Where a block of the sum starts in both operands."""

    left: str
    right: str


@dataclass(slots=True)
class _Parts:
    k: KernelText
    contract: TileContract
    cut: Tiling
    block: _Block
    grouping: _Grouping

    @property
    def slot(self) -> int:
        """Elements of the accumulators of a tile."""
        return self.cut.shape.rows * self.cut.shape.width

    @property
    def type(self) -> str:
        return REGISTER[self.contract.dtype]

    @property
    def copies_rows(self) -> bool:
        """Whether the rows of a tile are neighbours, and far from those of the next element of the sum."""
        contract, shape = self.contract, self.cut.shape
        side_by_side = contract.lhs_m_stride == 1 and shape.lines == 1 and shape.rows <= LANES
        return side_by_side and self.cut.panels > 1 and abs(contract.k[-1].lhs_stride) >= SPARSE

    @property
    def copies_columns(self) -> bool:
        """Whether all tiles share columns that do not lie as a panel would."""
        is_shared = all(axis.rhs_stride == 0 for axis in self.contract.outer)
        tiles = self.grouping.outer * self.grouping.tiles
        return is_shared and tiles >= FEWEST_TILES and not is_packed(self.contract, self.cut.shape)

    def pitch(self, width: int) -> int:
        """Elements from a copied strip to the next one; no power of two, so that they do not compete for lines."""
        return self.block.elements * width + LANES

    def emit(self) -> KernelCode:
        k, contract, text, grouping = self.k, self.contract, self.k.text, self.grouping
        size, panels, width = contract.dtype.size, self.cut.panels, self.cut.shape.width
        tiles = grouping.outer * grouping.tiles
        k.reserve(contract.tile, tiles * panels * self.slot * size)
        k.reserve(COLUMNS, self.pitch(width) * panels * size if self.copies_columns else 0)
        k.reserve(ROWS, self.pitch(LANES) * tiles * size if self.copies_rows else 0)
        k.open()
        for load in repeating(k, self.cut):
            k.repeated(load, "0", self.cut.shape.vectors)
        whole = k.extent(contract.k[0].extent)
        groups = grouping.outer_groups * grouping.tile_groups
        indices = prod(count(axis.extent) for axis in self.cut.walk.outer)

        def item_body(number: str, carried: list[str]) -> list[str]:
            part, rest = divided(text, number, str(groups))
            outer_group, tile_group = divided(text, rest, str(grouping.tile_groups))
            begin, end = (
                text.let(f"udiv i64 {text.mul(text.add(part, step), whole)}, {contract.parts}") for step in (0, 1)
            )
            outer, tile = (
                text.mul(outer_group, grouping.outer),
                text.mul(tile_group, grouping.tiles),
            )
            outers = text.minimum(text.let(f"sub i64 {indices}, {outer}"), str(grouping.outer))
            tiles = text.minimum(text.let(f"sub i64 {_tiles(self.cut)}, {tile}"), str(grouping.tiles))
            item = _Item(outer, outers, tile, tiles)
            with k.of(contract):
                self.clear()
                self.over_blocks(begin, end, item)
            self.finish(part, item)
            return []

        text.loop("%begin", "%end", 1, [], item_body)
        return k.close(Items(contract.parts, 1, groups))

    def clear(self) -> None:
        """Start the sums."""
        text = self.k.text

        def body(index: str, carried: list[str]) -> list[str]:
            place = text.pointer(self.k.bases[self.contract.tile], index, self.type)
            text.line(f"store <{LANES} x {self.type}> zeroinitializer, ptr {place}, align 64")
            return []

        text.loop(
            "0",
            str(self.grouping.outer * self.grouping.tiles * self.cut.panels * self.slot),
            LANES,
            [],
            body,
        )

    def over_blocks(self, begin: str, end: str, item: _Item) -> None:
        """Cut the sum into blocks; all tiles take each in turn."""
        text, (head, *rest) = self.k.text, self.contract.k
        second = self.block.second

        def outside(index: str, carried: list[str]) -> list[str]:
            here = self.bases(index, "0")
            if second is None:
                length = text.minimum(text.let(f"sub i64 {end}, {index}"), str(self.block.first))
                following = self.bases(text.add(index, self.block.first), "0")
                self.share(_summed(length, (head, *rest)), here, following, item)
                return []

            def inside(place: str, carried: list[str]) -> list[str]:
                length = text.minimum(text.let(f"sub i64 {rest[0].extent}, {place}"), str(second))
                beyond = text.add(place, length)
                wraps = text.let(f"icmp sge i64 {beyond}, {rest[0].extent}")
                later = text.add(index, text.let(f"zext i1 {wraps} to i64"))
                following = self.bases(later, text.let(f"select i1 {wraps}, i64 0, i64 {beyond}"))
                self.share(_summed(length, rest), self.bases(index, place), following, item)
                return []

            text.loop("0", str(rest[0].extent), second, [], inside)
            return []

        text.loop(begin, end, self.block.first, [], outside)

    def bases(self, index: str, place: str) -> _Operands:
        """Where a block starts in both operands, from its index of the first axis and its place on the second."""
        k, text, contract, (head, *rest) = self.k, self.k.text, self.contract, self.contract.k
        left, right = text.mul(index, head.lhs_stride), text.mul(index, head.rhs_stride)
        if rest:
            left = text.add(left, text.mul(place, rest[0].lhs_stride))
            right = text.add(right, text.mul(place, rest[0].rhs_stride))
        return _Operands(
            text.pointer(k.bases[contract.lhs], text.add(left, contract.lhs_offset), self.type),
            text.pointer(k.bases[contract.rhs], text.add(right, contract.rhs_offset), self.type),
        )

    def share(self, axes: list[SummedAxis], here: _Operands, following: _Operands, item: _Item) -> None:
        """One block of the sum, for all tiles of an item; those ask for the operands of the `following` block."""
        k, text, width = self.k, self.k.text, self.cut.shape.width
        if self.copies_columns:
            self.copy_columns(axes, here.right)
        if self.copies_rows:
            self.copy_rows(axes, here.left, item)
        walked = _walked(text, axes, LANES if self.copies_rows else 0, width if self.copies_columns else 0)

        def over_panels(panel: str, carried: list[str]) -> list[str]:
            def body(outer: str, tile: str, number: str) -> None:
                first, column, _, _, _ = self.place(outer, tile)
                rows = text.pointer(here.left, first, self.type)
                if self.copies_rows:
                    rows = text.pointer(k.bases[ROWS], text.mul(number, self.pitch(LANES)), self.type)
                columns = text.pointer(here.right, text.add(text.mul(panel, width), column), self.type)
                if self.copies_columns:
                    columns = text.pointer(k.bases[COLUMNS], text.mul(panel, self.pitch(width)), self.type)
                turn = text.add(text.mul(panel, self.grouping.outer * self.grouping.tiles), number)
                slots = text.pointer(k.bases[self.contract.tile], text.mul(turn, self.slot), self.type)
                self.multiply(walked, rows, columns, slots, self.ahead(axes, slots, following, turn))

            self.each_tile(item, body)
            return []

        text.loop("0", str(self.cut.panels), 1, [], over_panels)

    def ahead(self, axes: list[SummedAxis], slots: str, following: _Operands, turn: str) -> list[Ahead]:
        """The sums of the next tile, and this tile's share of what the following block takes of the operands."""
        text, line = self.k.text, LINE // self.contract.dtype.size
        tiles = self.grouping.outer * self.grouping.tiles * self.cut.panels
        steps = max(1, self.block.elements // DEEPEST_UNROLL)
        nexts = text.pointer(slots, str(self.slot), self.type)
        found = [self.spread(nexts, "0", self.slot // line, steps)]
        indices = self.block.second or self.block.first
        for start, stride in ((following.left, axes[0].lhs_stride), (following.right, axes[0].rhs_stride)):
            found.append(self.spread(start, turn, ceil(indices * abs(stride) / line / tiles), steps))
        return found

    def spread(self, start: str, turn: str, lines: int, steps: int) -> Ahead:
        """So many lines one behind the other, spread over the steps of a tile."""
        text, line = self.k.text, LINE // self.contract.dtype.size
        each = ceil(lines / steps)
        pointer = text.pointer(start, text.mul(turn, lines * line), self.type)
        return Ahead(pointer, tuple(range(0, each * line, line)), each * line)

    def multiply(self, axes: list[SummedAxis], rows: str, columns: str, slots: str, ahead: list[Ahead]) -> None:
        """Add a block of the sum to a tile."""
        k, text, shape = self.k, self.k.text, self.cut.shape
        places = self.cut.walk.places(self.contract, shape.rows)
        tile = RegisterTile(shape, self.contract.dtype, places, self.copies_columns)
        held = [text.pointer(slots, str(index * LANES), self.type) for index in range(tile.slots)]
        sums = [text.let(f"load {tile.vector}, ptr {place}, align 64") for place in held]
        put_away(k, tile, slots, multiplied(text, tile, axes, rows, columns, sums, ahead=ahead))

    def copy_columns(self, axes: list[SummedAxis], source: str) -> None:
        """Copy the columns of a block, each panel to its own stretch."""
        text, width, panels = self.k.text, self.cut.shape.width, self.cut.panels

        def one(given: str, number: str) -> None:
            there = text.pointer(self.k.bases[COLUMNS], text.mul(number, width), self.type)

            def over_panels(panel: str, carried: list[str]) -> list[str]:
                first = text.pointer(given, text.mul(panel, width), self.type)
                goal = text.pointer(there, text.mul(panel, self.pitch(width)), self.type)
                for part in range(self.cut.shape.vectors):
                    self.move(first, goal, part * LANES)
                return []

            text.loop("0", str(panels), 1, [], over_panels)

        self.over(axes, source, lambda axis: axis.rhs_stride, one)

    def copy_rows(self, axes: list[SummedAxis], source: str, item: _Item) -> None:
        """Copy the rows of a block, those of each tile to a stretch of its own."""
        text, walk = self.k.text, self.cut.walk
        assert isinstance(walk.extent, int)
        last = str(max(0, walk.extent - walk.step))

        def over_outer(outer: str, carried: list[str]) -> list[str]:
            lhs, _, _ = outer_offsets(self.k, walk.outer, text.add(item.outer, outer))
            begin = text.mul(text.mul(outer, self.grouping.tiles), self.pitch(LANES))
            strips = text.pointer(self.k.bases[ROWS], begin, self.type)

            def one(given: str, number: str) -> None:
                goal = text.pointer(strips, text.mul(number, LANES), self.type)

                def over_tiles(tile: str, carried: list[str]) -> list[str]:
                    unit = text.minimum(text.mul(text.add(item.tile, tile), walk.step), last)
                    there = text.pointer(goal, text.mul(tile, self.pitch(LANES)), self.type)
                    self.move(text.pointer(given, unit, self.type), there, 0)
                    return []

                text.loop("0", item.tiles, 1, [], over_tiles)

            self.over(axes, text.pointer(source, lhs, self.type), lambda axis: axis.lhs_stride, one)
            return []

        text.loop("0", item.outers, 1, [], over_outer)

    def move(self, source: str, goal: str, offset: int) -> None:
        text, size = self.k.text, self.contract.dtype.size
        given, there = (text.pointer(base, str(offset), self.type) for base in (source, goal))
        name = text.let(f"load <{LANES} x {self.type}>, ptr {given}, align {size}")
        text.line(f"store <{LANES} x {self.type}> {name}, ptr {there}, align 64")

    def over(
        self,
        axes: Sequence[SummedAxis],
        source: str,
        stride: Callable[[SummedAxis], int],
        body: Callable[[str, str], None],
        number: str = "0",
    ) -> None:
        """Run `body` for each element of a block, with its place in the operand and its number."""
        text, (axis, *rest) = self.k.text, axes
        size = prod(int(a.extent) for a in rest)

        def step(index: str, carried: list[str]) -> list[str]:
            here = text.pointer(source, text.mul(index, stride(axis)), self.type)
            place = text.add(number, text.mul(index, size))
            if rest:
                self.over(rest, here, stride, body, place)
            else:
                body(here, place)
            return []

        text.loop("0", axis.extent, 1, [], step)

    def finish(self, part: str, item: _Item) -> None:
        """The elementwise stage on all tiles of an item."""
        text, walk = self.k.text, self.cut.walk
        assert isinstance(walk.extent, int)
        rows = str(walk.extent * walk.unit)

        def over_panels(panel: str, carried: list[str]) -> list[str]:
            column = text.mul(panel, self.cut.shape.width)

            def body(outer: str, tile: str, number: str) -> None:
                _, _, base, row, start = self.place(outer, tile)
                base = text.add(base, text.mul(part, self.contract.part_step))
                finish(
                    self.k,
                    self.contract,
                    self.cut,
                    start,
                    row,
                    rows,
                    column,
                    base,
                    self.slots(number, panel),
                )

            self.each_tile(item, body)
            return []

        if self.cut.panels == 1:
            over_panels("0", [])
        else:
            text.loop("0", str(self.cut.panels), 1, [], over_panels)

    def each_tile(self, item: _Item, body: Callable[[str, str, str], None]) -> None:
        """Run `body` with the outer index and the tile of each tile of an item, and with its number in the item."""
        text = self.k.text

        def over_outer(outer: str, carried: list[str]) -> list[str]:
            first = text.mul(outer, self.grouping.tiles)

            def over_tiles(tile: str, carried: list[str]) -> list[str]:
                body(
                    text.add(item.outer, outer),
                    text.add(item.tile, tile),
                    text.add(first, tile),
                )
                return []

            text.loop("0", item.tiles, 1, [], over_tiles)
            return []

        text.loop("0", item.outers, 1, [], over_outer)

    def slots(self, number: str, panel: str) -> str:
        """Where the accumulators of a tile lie; those of a panel, one behind the other."""
        text = self.k.text
        first = text.mul(panel, self.grouping.outer * self.grouping.tiles * self.slot)
        offset = text.add(first, text.mul(number, self.slot))
        return text.pointer(self.k.bases[self.contract.tile], offset, self.type)

    def place(self, outer: str, tile: str) -> tuple[str, str, str, str, str]:
        """Offsets of a tile in both operands and in the rows; its first row, and the first that no tile before had."""
        text, walk = self.k.text, self.cut.walk
        assert isinstance(walk.extent, int)
        lhs, rhs, base = outer_offsets(self.k, walk.outer, outer)
        start = text.mul(tile, walk.step)
        unit = text.minimum(start, str(max(0, walk.extent - walk.step)))
        left = text.add(text.add("0", text.mul(unit, walk.stride)), lhs)
        return left, rhs, base, text.mul(unit, walk.unit), text.mul(start, walk.unit)


def _summed(first: str, axes: Sequence[ContractedAxis]) -> list[SummedAxis]:
    """The axes of a block, of which the outermost has `first` indices."""
    extents = [first, *(str(axis.extent) for axis in axes[1:])]
    return [SummedAxis(e, axis.lhs_stride, axis.rhs_stride) for e, axis in zip(extents, axes, strict=True)]


def _walked(text: Text, axes: Sequence[SummedAxis], left: int, right: int) -> list[SummedAxis]:
    """The axes as tiles walk them, joined where one step serves; an operand that is copied has `left` or `right`
    elements of each element of the sum side by side."""
    found: list[SummedAxis] = []
    dense = 1
    for axis in reversed(axes):
        here = SummedAxis(
            axis.extent,
            left * dense or axis.lhs_stride,
            right * dense or axis.rhs_stride,
        )
        if axis is not axes[0]:
            dense *= int(axis.extent)
        if found:
            inner, size = found[0], int(found[0].extent)
            if (here.lhs_stride, here.rhs_stride) == (
                size * inner.lhs_stride,
                size * inner.rhs_stride,
            ):
                extent = text.mul(axis.extent, size) if axis is axes[0] else str(int(axis.extent) * size)
                found[0] = SummedAxis(extent, inner.lhs_stride, inner.rhs_stride)
                continue
        found.insert(0, here)
    return found
