"""Operands of a product that a device copies to the memory of a block by itself, while threads multiply what is there.

Shared memory has STAGES blocks of the sum: one is multiplied, the others are on their way. Pieces of 16 bytes are
copied as they lie, so shared memory has an operand line by line where it lies so, and else summed element by element.
Beyond the ends of the operands zeros are left, which no thread adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, replace
from functools import partial

from compiler.loops.ir import TileContract
from compiler.nest import ir
from compiler.nest.ir import ADDRESS, Constant, Index, Operand, Value, vector
from compiler.schedule.addresses import count
from compiler.support.numerics import LANES
from compiler.support.record import mutable_record, record
from compiler.targets.cpu.kernel_nest import KernelNest
from compiler.targets.cpu.tiles import rounded_down
from compiler.targets.gpu.block_places import LANE_INDICES, Numbers, Place
from compiler.targets.gpu.block_shapes import PADDING, SHARED_BYTES, BlockShape, others_of, row_axes
from compiler.targets.gpu.block_sums import Counts, SumWalk, has_whole_blocks, multiplied
from compiler.targets.gpu.device import BLOCK_THREADS
from compiler.targets.gpu.matrix_products import Staged, Warps, warps_of
from compiler.targets.gpu.threads import GROUPS
from compiler.types import DType, Extent

STAGES = 3


@record
class _Layout:
    """How an operand lies: extents and strides of its summed axes and of its lines.

    `others` are the further steps that lead to the first element of a tile. Of its lines, a tile has `each` for every
    group. Where these are a group's own, the first lines of all groups stand beside each other in shared memory, so
    that groups which read at once read from other banks.
    """

    shape: BlockShape
    each: int
    is_of_groups: bool
    sums: tuple[tuple[Extent, int], ...]
    lines: tuple[tuple[Extent, int], ...]
    others: tuple[int, ...]

    @property
    def is_along_sum(self) -> bool:
        return self.lines[-1][1] != 1

    @property
    def height(self) -> int:
        """The lines of a tile."""
        return GROUPS * self.each

    @property
    def pitch(self) -> int:
        """Elements of shared memory from line to line, or from one summed element to the next."""
        return self.shape.depth + PADDING if self.is_along_sum else self.height + self.shape.padding

    @property
    def size(self) -> int:
        """Elements of a stage."""
        return self.pitch * (self.height if self.is_along_sum else self.shape.depth)

    def is_in_pieces(self, piece: int) -> bool:
        """Whether so many elements lie together wherever one of them has a number that is a multiple of so many."""
        together, apart = (self.sums, self.lines) if self.is_along_sum else (self.lines, self.sums)
        *around, (extent, stride) = together
        is_whole = not around or count(extent) % piece == 0
        steps = (*self.others, *(step for _, step in (*around, *apart)))
        return stride == 1 and is_whole and all(step % piece == 0 for step in steps)


def _layouts(contract: TileContract, shape: BlockShape) -> tuple[_Layout, _Layout]:
    outer = [*others_of(contract), *(contract.k[:1] if contract.splits > 1 else ())]
    left = _Layout(
        shape,
        shape.rows,
        contract.rounding is None,
        tuple((axis.extent, axis.lhs_stride) for axis in contract.k),
        tuple((axis.extent, axis.left) for axis in row_axes(contract)),
        (contract.lhs_offset, *(axis.lhs_stride for axis in outer)),
    )
    right = _Layout(
        shape,
        shape.vectors,
        False,
        tuple((axis.extent, axis.rhs_stride) for axis in contract.k),
        ((contract.n, contract.rhs_n_stride),),
        (contract.rhs_offset, *(axis.rhs_stride for axis in outer)),
    )
    return left, right


def bytes_of_stages(contract: TileContract, shape: BlockShape) -> int:
    """The shared memory of a block."""
    return STAGES * sum(layout.size for layout in _layouts(contract, shape)) * contract.dtype.size


def copied_shape(contract: TileContract, shape: BlockShape) -> BlockShape | None:
    """The tile with as many summed elements at once as its stages have room for.

    None where an operand does not lie in pieces of 16 bytes, if its buffer begins at a multiple of 16.
    """
    piece = ir.PIECE_BYTES // contract.dtype.size
    if not all(layout.is_in_pieces(piece) for layout in _layouts(contract, shape)):
        return None
    parts = (1, 2) if contract.rounding is None else (1,)  # matrices of a warp are not cut
    shallow = [replace(shape, depth=shape.depth // part) for part in parts]
    return next((cut for cut in shallow if bytes_of_stages(contract, cut) <= SHARED_BYTES), None)


@mutable_record
class _Operand:
    """An operand on its way: `most` lines from the `first` on, `depth` summed elements, from `base` to `room`.

    Thread `t` copies piece `t` of a stage, and so on by BLOCK_THREADS; pieces that lie together follow each other.
    """

    k: KernelNest
    layout: _Layout
    dtype: DType
    base: Value
    room: Value
    first: Index
    most: Index
    depth: Index
    group: Value
    has_all_lines: bool  # whether no line of a tile lies beyond the last one
    has_all_sums: bool  # whether the last stage is full
    targets: list[Operand] = field(default_factory=list[Operand])  # of each own piece, its place in a stage
    elements: list[Operand] = field(default_factory=list[Operand])  # the first summed element of each
    places: list[Operand] = field(default_factory=list[Operand])  # the line of each, behind the base
    there: Operand = ir.PIECE_BYTES  # of a piece that lies along lines, those bytes that are of lines

    @property
    def piece(self) -> int:
        return ir.PIECE_BYTES // self.dtype.size

    @property
    def count(self) -> int:
        """The pieces of a stage."""
        return self.layout.height * self.layout.shape.depth // self.piece

    @property
    def numbers(self) -> Numbers:
        return Numbers(self.k, LANE_INDICES)

    def prepare(self) -> None:
        """Find the own pieces, once for all stages."""
        nest, numbers, layout = self.k.nest, self.numbers, self.layout
        together = (layout.shape.depth if layout.is_along_sum else layout.height) // self.piece
        lanes = Constant(LANE_INDICES, tuple(range(LANES)))
        own = nest.binary("add", numbers.of(nest.mul(self.group, LANES)), lanes, LANE_INDICES)
        apart = numbers.binary("div", own, together)
        within = numbers.binary("mul", numbers.binary("rem", own, together), self.piece)
        along = None if layout.is_along_sum else self.place_of(within, self.piece)
        for turn in range(max(1, self.count // BLOCK_THREADS)):
            number = numbers.binary("add", apart, turn * BLOCK_THREADS // together)
            row = number if along is not None else self.slot(number)
            self.targets.append(nest.binary("add", numbers.binary("mul", row, layout.pitch), within, LANE_INDICES))
            self.elements.append(within if along is None else number)
            self.places.append(self.place_of(number, 1) if along is None else along)
        self.there = numbers.of(ir.PIECE_BYTES)
        if along is not None and not self.has_all_lines:
            self.there = self.bytes_before(self.most, numbers.binary("add", within, self.first))

    def slot(self, line: Operand) -> Operand:
        """Where a line stands in shared memory."""
        if not self.layout.is_of_groups:
            return line
        numbers, each = self.numbers, self.layout.each
        start = numbers.binary("mul", numbers.binary("rem", line, each), GROUPS)
        return self.k.nest.binary("add", start, numbers.binary("div", line, each), LANE_INDICES)

    def place_of(self, line: Operand, step: int) -> Operand:
        """Where lines of the tile begin, or every `step` of them; the last one stands for those beyond it."""
        nest, numbers = self.k.nest, self.numbers
        number = numbers.binary("add", line, self.first)
        if not self.has_all_lines:
            last = self.most - 1 if isinstance(self.most, int) else nest.sub(self.most, 1)
            number = numbers.binary("min", number, rounded_down(nest, last, step))
        return numbers.place(number, [(self.k.extent(extent), stride) for extent, stride in self.layout.lines])

    def bytes_before(self, stop: Index, number: Operand) -> Operand:
        """How many bytes of pieces that begin at these numbers lie before a stop."""
        numbers = self.numbers
        left = self.k.nest.binary("sub", numbers.of(stop), number, LANE_INDICES)
        left = numbers.binary("max", numbers.binary("min", left, self.piece), 0)
        return numbers.binary("mul", left, self.dtype.size)

    def begin(self, start: Index, stage: Index) -> None:
        """Begin to copy the own pieces of the block of the sum from `start` on, to a stage."""
        nest = self.k.nest
        if self.count >= BLOCK_THREADS:
            self.begin_all(start, stage)
            return
        with nest.when(nest.compare("lt", self.group, self.count // LANES)):
            self.begin_all(start, stage)

    def begin_all(self, start: Index, stage: Index) -> None:
        nest, numbers, layout = self.k.nest, self.numbers, self.layout
        room = nest.pointer(self.room, nest.mul(stage, layout.size), self.dtype)
        known: dict[int, tuple[Operand, Operand]] = {}  # by the `id` of the first summed element
        for target, first, line in zip(self.targets, self.elements, self.places, strict=True):
            if id(first) not in known:
                known[id(first)] = self.summed(numbers.binary("add", first, start))
            place, kept = known[id(first)]
            source = nest.binary("add", line, place, LANE_INDICES)
            nest.copy_ahead(room, target, self.base, source, kept, self.dtype)

    def summed(self, element: Operand) -> tuple[Operand, Operand]:
        """Where pieces with this summed element lie in their lines, and how many bytes of them are there."""
        nest, numbers, layout = self.k.nest, self.numbers, self.layout
        place = numbers.place(element, [(self.k.extent(extent), stride) for extent, stride in layout.sums])
        if self.has_all_sums:
            return place, self.there
        zeros, is_there = numbers.of(0), nest.compare("lt", element, numbers.of(self.depth))
        place = nest.select(is_there, place, zeros)
        if layout.is_along_sum:
            return place, self.bytes_before(self.depth, element)
        return place, nest.select(is_there, self.there, zeros)

    # what threads read

    @property
    def staged(self) -> Staged:
        pitch = self.layout.pitch
        return Staged(pitch, 1) if self.layout.is_along_sum else Staged(1, pitch)

    def stage_from(self, stage: Index, element: Index) -> Value:
        """Where that summed element of a stage begins."""
        nest, layout = self.k.nest, self.layout
        along = nest.mul(element, 1 if layout.is_along_sum else layout.pitch)
        return nest.pointer(self.room, nest.add(nest.mul(stage, layout.size), along), self.dtype)

    def own_rows(self, stage: Index, element: Index) -> Value:
        """Where the first row of the group has it."""
        each = self.layout.pitch if self.layout.is_along_sum else self.layout.each
        return self.k.nest.pointer(self.stage_from(stage, element), self.k.nest.mul(self.group, each), self.dtype)

    def of_row(self, own: Value, elements: range, row: int) -> list[Value]:
        """The elements of a row of the group, whose first one is `own`: whole pieces, or a single one."""
        nest, layout, size = self.k.nest, self.layout, self.dtype.size
        scalar, places = vector(self.dtype, 1), [row * GROUPS * layout.pitch + element for element in elements]
        aligns = [
            ir.PIECE_BYTES if number == 0 and len(elements) == self.piece else size for number in range(len(elements))
        ]
        if not layout.is_along_sum:
            places = [element * layout.pitch + row for element in elements]
            aligns = [size * (min(PADDING, layout.each) if row % PADDING == 0 else 1)] * len(elements)
        return [
            nest.load(nest.pointer(own, place, self.dtype), scalar, align)
            for place, align in zip(places, aligns, strict=True)
        ]

    def of_columns(self, stage: Value, element: int, part: int) -> Value:
        """The elements of a vector of columns in a stage."""
        nest, layout = self.k.nest, self.layout
        if layout.is_along_sum:
            lanes = Constant(LANE_INDICES, tuple(lane * layout.pitch for lane in range(LANES)))
            every = Constant(vector(DType.BOOL, LANES), True)
            place = nest.pointer(stage, part * LANES * layout.pitch + element, self.dtype)
            return nest.gather(place, lanes, self.dtype, every)
        place = nest.pointer(stage, element * layout.pitch + part * LANES, self.dtype)
        return nest.load(place, vector(self.dtype, LANES), self.dtype.size)


def _operands(k: KernelNest, contract: TileContract, shape: BlockShape, place: Place) -> tuple[_Operand, _Operand]:
    nest, dtype = k.nest, contract.dtype
    rooms: list[Value] = []
    for layout in (layouts := _layouts(contract, shape)):
        start = STAGES * layouts[0].size * dtype.size if rooms else 0
        rooms.append(nest.define(ir.Shared, ADDRESS, start, STAGES * layout.size * dtype.size))
    has_all_sums = has_whole_blocks(contract, shape)
    lines = ((contract.lhs, place.left, place.row, place.rows), (contract.rhs, place.right, place.column, contract.n))
    left, right = (
        _Operand(
            k,
            layout,
            dtype,
            nest.pointer(k.bases[buffer], begin, dtype),
            room,
            first,
            most,
            place.depth,
            place.group,
            isinstance(most, int) and most % layout.height == 0,
            has_all_sums,
        )
        for layout, room, (buffer, begin, first, most) in zip(layouts, rooms, lines, strict=True)
    )
    left.prepare()
    right.prepare()
    return left, right


def summed_from_copies(
    k: KernelNest, contract: TileContract, shape: BlockShape, place: Place
) -> tuple[Sequence[Operand], Warps | None]:
    """The sums of a thread, row by row, or as the warps have them where factors are rounded."""
    nest, sides, walk = k.nest, _operands(k, contract, shape, place), SumWalk(k.nest, contract, shape, place)
    warps = warps_of(k, contract, shape, place, [side.staged for side in sides])
    stretches = walk.stretches()
    first, end = stretches[0].begin, stretches[-1].end
    zero = Constant(vector(contract.dtype, LANES), 0.0)

    def begin(number: Index, stage: Index) -> None:
        with nest.when(nest.compare("lt", number, end)):
            for side in sides:
                side.begin(nest.mul(number, shape.depth), stage)
        nest.body.append(ir.CommitCopies(nest.line))

    def block(number: Value, carried: list[Value], is_whole: bool) -> Sequence[Operand]:
        *sums, stage = carried
        nest.body.append(ir.AwaitCopies(nest.line, STAGES - 2))
        nest.body.append(ir.Barrier(nest.line))  # behind which no thread reads the stage of the block before
        free = nest.select(nest.compare("eq", stage, 0), STAGES - 1, nest.sub(stage, 1))
        begin(nest.add(number, STAGES - 1), free)
        if warps is None:
            add = partial(_added, k, shape, sides, stage)
            added = add(sums, 0, shape.depth, None) if is_whole else walk.partly(number, sums, add)
        else:
            added = warps.multiplied([side.stage_from(stage, 0) for side in sides], sums)
        following = nest.add(stage, 1)
        return [*added, nest.select(nest.compare("eq", following, STAGES), 0, following)]

    for stage in range(STAGES - 1):
        begin(nest.add(first, stage), stage)
    values: Sequence[Operand] = [*[zero] * (shape.rows * shape.vectors), 0]
    for stretch in stretches:
        values = nest.loop(stretch.begin, stretch.end, 1, values, partial(block, is_whole=stretch.is_whole))
    if warps is not None:
        nest.body.append(ir.Barrier(nest.line))  # the sums will lie where the last block is still read
    return values[:-1], warps


def _added(
    k: KernelNest,
    shape: BlockShape,
    sides: Sequence[_Operand],
    stage: Value,
    sums: Sequence[Operand],
    first: Index,
    count: int,
    counts: Counts | None,
) -> Sequence[Operand]:
    """The sums of a thread with so many elements of the block of the sum that lies in a stage."""
    nest, (left, right) = k.nest, sides
    own, columns = left.own_rows(stage, first), right.stage_from(stage, first)
    step = min(count, left.piece if any(side.layout.is_along_sum for side in sides) else 1)
    for start in range(0, count, step):
        elements, parts = range(start, start + step), range(shape.vectors)
        factors = [[right.of_columns(columns, element, part) for part in parts] for element in elements]
        rows = [partial(left.of_row, own, elements, row) for row in range(shape.rows)]
        sums = multiplied(nest, sums, factors, rows, counts)
    return sums
