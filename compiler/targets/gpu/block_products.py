"""Products by blocks of threads: a block takes a tile of the result, and its operands come through shared memory.

A block of the sum is loaded by all threads while they multiply the one before it, which lies in the other half of
shared memory. LANES neighbours have rows of the tile, each thread a column of every vector; sums stay in registers, and
each is one chain in the order of the sum. Beyond the ends of the operands zeros are read: to add +0 changes no sum that
began with +0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from math import prod

from compiler.loops.ir import ContractionKernel, Instruction, Load, OuterAxis, TileContract
from compiler.nest import ir
from compiler.nest.builder import Builder
from compiler.nest.ir import ADDRESS, INDEX, Constant, Index, Operand, Value, vector
from compiler.schedule.addresses import count
from compiler.support.numerics import LANES
from compiler.support.record import mutable_record, record
from compiler.targets.cpu.kernel_nest import KernelNest
from compiler.targets.cpu.tiles import ceiling, divided, outer_offsets
from compiler.targets.gpu.threads import GROUPS
from compiler.types import BatchExtent, DType, Extent, elements, size_at

MULTIPROCESSORS = 132  # of a large device, each of which should have a block
PADDING = 4  # elements behind each row of shared memory: rows begin at other banks, and pieces of 16 bytes are aligned
STAGE_IN_REGISTERS = 6  # instructions of a stage, up to which it is written for each element
SHARED_BYTES = 48 << 10


@record
class BlockShape:
    """Rows and vectors of columns of a thread, and the summed elements that are in shared memory at once."""

    rows: int
    vectors: int
    depth: int

    @property
    def height(self) -> int:
        return GROUPS * self.rows

    @property
    def width(self) -> int:
        return LANES * self.vectors

    def bytes(self, dtype: DType) -> int:
        """Shared memory for both halves."""
        return 2 * self.depth * (self.height + self.width + 2 * PADDING) * dtype.size

    def description(self, dtype: DType) -> str:
        """For a reader."""
        tile = f"{self.height} rows x {self.width} columns a block, {self.rows} x {self.vectors} a thread"
        return f"{tile}; {self.depth} summed elements at once, {self.bytes(dtype)} bytes of shared memory\n"


SHAPES = (BlockShape(8, 4, 16), BlockShape(4, 4, 16), BlockShape(4, 2, 32), BlockShape(2, 2, 32), BlockShape(2, 1, 32))


@record
class RowAxis:
    """An axis along which rows of a product follow each other, all with the same right operand."""

    extent: Extent
    left: int
    row: int


def row_axes(contract: TileContract) -> tuple[RowAxis, ...]:
    """The axes of rows, outermost first: also those outer ones that share the right operand."""
    outer = (RowAxis(a.extent, a.lhs_stride, a.row_step) for a in contract.outer if a.rhs_stride == 0)
    return (*outer, RowAxis(contract.m, contract.lhs_m_stride, contract.row_m_step))


def shape_for(contract: TileContract, batch: int) -> BlockShape | None:
    """The largest tile that leaves few threads without work and every multiprocessor a block; None where none pays."""
    rows = [axis.extent for axis in row_axes(contract)]
    others = [axis.extent for axis in contract.outer if axis.rhs_stride != 0]
    inner = [axis.extent for axis in contract.k[1:]]
    if contract.triangle is not None or any(isinstance(extent, BatchExtent) for extent in inner):
        return None
    if sum(isinstance(extent, BatchExtent) for extent in (*rows, *others)) > 1:
        return None  # blocks would be counted by the square of the batch
    m, n = prod(size_at(extent, batch) for extent in rows), contract.n
    depth = prod(size_at(axis.extent, batch) for axis in contract.k) // contract.splits
    if m < 2 * GROUPS or n < LANES or depth < LANES:
        return None
    outside = prod(size_at(extent, batch) for extent in others) * contract.splits
    fitting = [shape for shape in SHAPES if shape.bytes(contract.dtype) <= SHARED_BYTES]
    waste = {s: -(-m // s.height) * s.height * -(-n // s.width) * s.width / (m * n) for s in fitting}
    even = [shape for shape in fitting if waste[shape] <= 1.5 * min(waste.values())]
    blocks = {s: -(-m // s.height) * -(-n // s.width) * outside for s in even}
    return next((shape for shape in even if blocks[shape] >= MULTIPROCESSORS), even[-1])


def build_block_product(k: KernelNest, kernel: ContractionKernel, shape: BlockShape) -> ir.Nest:
    """The nest of a product over vectors, whose items are blocks."""
    contract = kernel.contraction
    in_registers = sum(len(stage.body) for stage in kernel.stages) <= STAGE_IN_REGISTERS
    if not in_registers:
        k.reserve(contract.tile, shape.rows * shape.width * contract.dtype.size)
    k.open()
    with k.of(contract):
        place = _place_of(k, contract, shape)
        sums = _summed(k, contract, shape, place)
        if not in_registers:
            for slot, value in enumerate(sums):
                k.nest.store(value, k.nest.pointer(k.bases[contract.tile], slot * LANES, contract.dtype), LANES)
    finish = _Finish(k, kernel, shape, place)
    if in_registers:
        finish.each_row(sums)
    else:
        finish.row_by_row()
    return k.close(_blocks(contract, shape))


def _others(contract: TileContract) -> list[OuterAxis]:
    """The axes whose indices have right operands of their own."""
    return [axis for axis in contract.outer if axis.rhs_stride != 0]


def _blocks(contract: TileContract, shape: BlockShape) -> ir.Items:
    """How many blocks there are, of which at most one axis depends on the batch."""
    panels, extents = -(-contract.n // shape.width), [axis.extent for axis in row_axes(contract)]
    others = [axis.extent for axis in _others(contract)]
    rows, outside = (prod(count(extent) for extent in some) for some in (extents, others))
    if any(isinstance(extent, BatchExtent) for extent in extents):
        return ir.Items(BatchExtent(rows), shape.height, panels * contract.splits * outside)
    tiles = -(-rows // shape.height) * panels * contract.splits
    return ir.Items(elements(tuple(others)), 1, tiles)


@record
class _Place:
    """The tile of this block: its first row and column of so many rows, where its operands and its rows begin, and how
    many elements it sums."""

    group: Value
    rows: Index
    row: Index
    column: Index
    left: Index
    right: Index
    base: Index
    depth: Index


def _place_of(k: KernelNest, contract: TileContract, shape: BlockShape) -> _Place:
    nest = k.nest
    number: Index = nest.define(ir.Ordinal, INDEX, "block")
    rows = _product(nest, [k.extent(axis.extent) for axis in row_axes(contract)])
    number, panel = divided(nest, number, -(-contract.n // shape.width))
    number, tile = divided(nest, number, ceiling(nest, rows, shape.height))
    outer, split = divided(nest, number, contract.splits)
    left, right, base = outer_offsets(k, tuple(_others(contract)), outer)
    head, *rest = contract.k
    whole, inner = k.extent(head.extent), prod(count(axis.extent) for axis in rest)
    first, beyond = (nest.binary("div", nest.mul(nest.add(split, s), whole), contract.splits) for s in (0, 1))
    return _Place(
        nest.define(ir.Ordinal, INDEX, "group"),
        rows,
        nest.mul(tile, shape.height),
        nest.mul(panel, shape.width),
        nest.add(nest.add(left, contract.lhs_offset), nest.mul(first, head.lhs_stride)),
        nest.add(nest.add(right, contract.rhs_offset), nest.mul(first, head.rhs_stride)),
        nest.add(base, nest.mul(split, contract.split_step)),
        nest.mul(nest.sub(beyond, first), inner) if contract.splits > 1 else nest.mul(whole, inner),
    )


def _product(nest: Builder, numbers: Sequence[Index]) -> Index:
    total: Index = 1
    for number in numbers:
        total = total * number if isinstance(total, int) and isinstance(number, int) else nest.mul(total, number)
    return total


@record
class _Numbers:
    """Arithmetic on an index, or on one of each lane."""

    k: KernelNest
    type_: ir.Type

    def of(self, number: Index) -> Operand:
        """The number in each lane."""
        if self.type_ is INDEX:
            return number
        return self.k.indices(number) if isinstance(number, int) else self.k.nest.splat(number, LANES)

    def binary(self, op: ir.Arithmetic, left: Operand, right: Index) -> Operand:
        return self.k.nest.binary(op, left, self.of(right), self.type_)

    def place(self, number: Operand, axes: Sequence[tuple[Index, int]]) -> Operand:
        """The sum of its digits in these extents, each times a stride; the first digit has no limit."""
        total: Operand | None = None
        for position in range(len(axes) - 1, -1, -1):
            extent, stride = axes[position]
            digit = number
            if position:
                digit, number = self.binary("rem", number, extent), self.binary("div", number, extent)
            part = digit if stride == 1 else self.binary("mul", digit, stride)
            total = part if total is None else self.k.nest.binary("add", total, part, self.type_)
        assert total is not None
        return total


@mutable_record
class _Operand:
    """An operand on its way to shared memory: so many lines (rows or columns) of LANES groups, along the sum.

    Neighbouring threads read along the sum or along the lines, whichever lies together. `axes` lead along the sum,
    `lines` along the lines, of which there are `most` behind the `first`.
    """

    k: KernelNest
    shape: BlockShape
    base: Value
    dtype: DType
    each: int  # lines of a group
    axes: Sequence[tuple[Index, int]]
    lines: Sequence[tuple[Index, int]]
    first: Index
    most: Index
    depth: Index
    group: Value
    room: Value
    along_sum: bool
    places: list[Index] = field(default_factory=list[Index])  # of the own lines, where threads read along the sum
    of_lanes: Operand | None = None  # of the lines of the lanes, otherwise

    @property
    def pitch(self) -> int:
        """Elements of shared memory for each summed one."""
        return GROUPS * self.each + PADDING

    @property
    def size(self) -> int:
        return self.shape.depth * self.pitch

    def lane_numbers(self, start: Index) -> Operand:
        numbers = _Numbers(self.k, _LANE_INDICES)
        lanes = Constant(_LANE_INDICES, tuple(range(LANES)))
        return self.k.nest.binary("add", numbers.of(start), lanes, _LANE_INDICES)

    def prepare(self) -> None:
        """Find the lines once for all blocks of the sum; beyond the last one stands that one."""
        nest, last = self.k.nest, self.k.nest.sub(self.most, 1)
        if self.along_sum:
            numbers = _Numbers(self.k, INDEX)
            for turn in range(self.each):
                line = nest.add(self.first, nest.add(self.group, turn * GROUPS))
                place = numbers.place(nest.minimum(line, last), self.lines)
                assert isinstance(place, Value | int)
                self.places.append(place)
            return
        wide = _Numbers(self.k, _LANE_INDICES)
        start = nest.add(self.first, nest.mul(self.vector_of_lines(), LANES))
        self.of_lanes = wide.place(wide.binary("min", self.lane_numbers(start), last), self.lines)

    def vector_of_lines(self) -> Index:
        """Which LANES lines a group reads: `each` divides the number of groups."""
        return _rest(self.k.nest, self.group, self.each)

    def step(self, turn: int) -> Index:
        """Which of the summed elements of a block a group reads at a turn."""
        return self.k.nest.add(_whole(self.k.nest, self.group, self.each), turn * GROUPS // self.each)

    @property
    def turns(self) -> int:
        return self.shape.depth * self.each // GROUPS

    def loaded(self, start: Index) -> list[Value]:
        """The own part of the block of the sum from `start` on."""
        nest, dtype, found = self.k.nest, self.dtype, list[Value]()
        if self.along_sum:
            wide = _Numbers(self.k, _LANE_INDICES)
            for part in range(0, self.shape.depth, LANES):
                lanes = self.lane_numbers(nest.add(start, part))
                inside = nest.compare("lt", lanes, wide.of(self.depth))
                places = wide.place(lanes, self.axes)
                found += [nest.gather(nest.pointer(self.base, p, dtype), places, dtype, inside) for p in self.places]
            return found
        assert self.of_lanes is not None
        for turn in range(self.turns):
            element = nest.add(start, self.step(turn))
            inside = nest.splat(nest.compare("lt", element, self.depth), LANES)
            place = _Numbers(self.k, INDEX).place(element, self.axes)
            assert isinstance(place, Value | int)
            pointer = nest.pointer(self.base, nest.select(nest.compare("lt", element, self.depth), place, 0), dtype)
            found.append(nest.gather(pointer, self.of_lanes, dtype, inside))
        return found

    def put(self, values: Sequence[Value], half: Index) -> None:
        """Leave the own part in a half of shared memory."""
        nest, dtype = self.k.nest, self.dtype
        room = nest.pointer(self.room, nest.mul(half, self.size), dtype)
        if self.along_sum:
            lanes = Constant(_LANE_INDICES, tuple(lane * self.pitch for lane in range(LANES)))
            every = Constant(vector(DType.BOOL, LANES), True)
            for number, value in enumerate(values):
                part, turn = divmod(number, self.each)
                place = nest.add(self.group, part * LANES * self.pitch + turn * GROUPS)
                nest.scatter(value, nest.pointer(room, place, dtype), lanes, every)
            return
        column = nest.mul(self.vector_of_lines(), LANES)
        for turn, value in enumerate(values):
            place = nest.add(nest.mul(self.step(turn), self.pitch), column)
            nest.store(value, nest.pointer(room, place, dtype), dtype.size)


_LANE_INDICES = vector(DType.I64, LANES)


def _whole(nest: Builder, number: Index, divisor: int) -> Index:
    return divided(nest, number, divisor)[0]


def _rest(nest: Builder, number: Index, divisor: int) -> Index:
    return divided(nest, number, divisor)[1]


def _operands(k: KernelNest, contract: TileContract, shape: BlockShape, place: _Place) -> tuple[_Operand, _Operand]:
    nest, dtype = k.nest, contract.dtype
    rows, head = row_axes(contract), contract.k[-1]
    left_bytes = 2 * shape.depth * (shape.height + PADDING) * dtype.size
    right_bytes = 2 * shape.depth * (shape.width + PADDING) * dtype.size
    rooms = [
        nest.define(ir.Shared, ADDRESS, start, size) for start, size in ((0, left_bytes), (left_bytes, right_bytes))
    ]
    extents = [k.extent(axis.extent) for axis in contract.k]
    left = _Operand(
        k,
        shape,
        nest.pointer(k.bases[contract.lhs], place.left, dtype),
        dtype,
        shape.rows,
        [(extent, axis.lhs_stride) for extent, axis in zip(extents, contract.k, strict=True)],
        [(k.extent(axis.extent), axis.left) for axis in rows],
        place.row,
        place.rows,
        place.depth,
        place.group,
        rooms[0],
        along_sum=head.lhs_stride == 1 or rows[-1].left != 1,
    )
    right = _Operand(
        k,
        shape,
        nest.pointer(k.bases[contract.rhs], place.right, dtype),
        dtype,
        shape.vectors,
        [(extent, axis.rhs_stride) for extent, axis in zip(extents, contract.k, strict=True)],
        [(contract.n, contract.rhs_n_stride)],
        place.column,
        contract.n,
        place.depth,
        place.group,
        rooms[1],
        along_sum=head.rhs_stride == 1 and contract.rhs_n_stride != 1,
    )
    left.prepare()
    right.prepare()
    return left, right


def _summed(k: KernelNest, contract: TileContract, shape: BlockShape, place: _Place) -> Sequence[Operand]:
    """The sums of a thread, row by row."""
    nest, sides = k.nest, _operands(k, contract, shape, place)
    blocks = ceiling(nest, place.depth, shape.depth)
    last = nest.sub(blocks, 1)
    zero = Constant(vector(contract.dtype, LANES), 0.0)
    for side in sides:
        side.put(side.loaded(0), 0)
    nest.body.append(ir.Barrier(nest.line))

    def block(number: Value, carried: list[Value]) -> Sequence[Operand]:
        *sums, half = carried
        following = nest.mul(nest.minimum(nest.add(number, 1), last), shape.depth)
        found = [side.loaded(following) for side in sides]
        sums = _multiplied(k, shape, sides, half, sums)
        other = nest.binary("xor", half, 1)
        for side, values in zip(sides, found, strict=True):
            side.put(values, other)
        nest.body.append(ir.Barrier(nest.line))
        return [*sums, other]

    values = nest.loop(0, blocks, 1, [*[zero] * (shape.rows * shape.vectors), 0], block)
    return values[:-1]


def _multiplied(
    k: KernelNest, shape: BlockShape, sides: Sequence[_Operand], half: Value, sums: Sequence[Operand]
) -> list[Operand]:
    """The sums of a thread with the block of the sum that lies in a half of shared memory."""
    nest, (left, right) = k.nest, sides
    dtype, found = left.dtype, list(sums)
    scalar, wide = vector(dtype, 1), vector(dtype, LANES)
    rows = nest.add(nest.mul(half, left.size), nest.mul(left.group, shape.rows))
    own = nest.pointer(left.room, rows, dtype)
    columns = nest.pointer(right.room, nest.mul(half, right.size), dtype)
    for element in range(shape.depth):
        factors = [
            nest.load(nest.pointer(columns, element * right.pitch + part * LANES, dtype), wide, dtype.size)
            for part in range(shape.vectors)
        ]
        for row in range(shape.rows):
            align = dtype.size * (min(PADDING, shape.rows) if row % PADDING == 0 else 1)
            factor = nest.load(nest.pointer(own, element * left.pitch + row, dtype), scalar, align)
            factor = nest.splat(factor, LANES)
            for part in range(shape.vectors):
                slot = row * shape.vectors + part
                found[slot] = nest.fma(factor, factors[part], found[slot])
    return found


@record(eq=False)
class _Finish:
    """The elementwise stage on the sums of a block."""

    k: KernelNest
    kernel: ContractionKernel
    shape: BlockShape
    place: _Place

    @property
    def body(self) -> list[Instruction]:
        return [instruction for stage in self.kernel.stages for instruction in stage.body]

    @property
    def first(self) -> Index:
        """The first row of a group."""
        return self.k.nest.add(self.place.row, self.k.nest.mul(self.place.group, self.shape.rows))

    def each_row(self, sums: Sequence[Operand]) -> None:
        """In registers, row after row."""
        nest, first, vectors = self.k.nest, self.first, self.shape.vectors
        for row in range(self.shape.rows):
            number = nest.add(first, row)
            with nest.when(nest.compare("lt", number, self.place.rows)):
                self.row(number, sums[row * vectors : (row + 1) * vectors])

    def row_by_row(self) -> None:
        """From scratch, in a loop over the rows."""
        k, nest, first, contract = self.k, self.k.nest, self.first, self.kernel.contraction
        left = nest.minimum(nest.sub(self.place.rows, first), self.shape.rows)
        wide = vector(contract.dtype, LANES)
        with nest.each(0, left, 1, self.shape.rows) as row:
            with k.of(contract):
                kept = nest.pointer(k.bases[contract.tile], nest.mul(row, self.shape.width), contract.dtype)
                sums = [
                    nest.load(nest.pointer(kept, part * LANES, contract.dtype), wide, contract.dtype.size)
                    for part in range(self.shape.vectors)
                ]
            self.row(nest.add(first, row), sums)

    def row(self, number: Index, sums: Sequence[Operand]) -> None:
        k, nest, contract = self.k, self.k.nest, self.kernel.contraction
        axes = [(k.extent(axis.extent), axis.row) for axis in row_axes(contract)]
        found = _Numbers(k, INDEX).place(number, axes)
        assert isinstance(found, Value | int)
        place = nest.add(found, self.place.base)
        others = [i for i in self.body if not (isinstance(i, Load) and i.access.buffer == contract.tile)]
        k.new_row(place, others)
        narrow = [i for i in others if isinstance(i, Load) and not i.access.columns and i.index is None]
        for instruction in narrow:
            k.scalar(instruction, place)
        for part, value in enumerate(sums):
            here = nest.add(self.place.column, part * LANES)
            if contract.n % self.shape.width == 0:
                self.columns(place, here, value, None, narrow)
                continue
            with nest.when(nest.compare("lt", here, contract.n)):
                mask = k.mask_below(here, contract.n) if contract.n % LANES else None
                self.columns(place, here, value, mask, narrow)

    def columns(
        self, place: Index, here: Index, value: Operand, mask: Operand | None, narrow: Sequence[Instruction]
    ) -> None:
        """The stage for a vector of columns."""
        for instruction in self.body:
            if isinstance(instruction, Load) and instruction.access.buffer == self.kernel.contraction.tile:
                self.k.put(instruction.result, value)
            elif instruction not in narrow:
                self.k.vector(instruction, place, here, mask)
