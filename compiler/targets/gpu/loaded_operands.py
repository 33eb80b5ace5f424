"""Operands of a product that a block's threads load to registers while they multiply, and leave in shared memory then.

Shared memory has two halves: a block of the sum is multiplied from one, the next one is put into the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from functools import partial

from compiler.loops.ir import TileContract
from compiler.nest import ir
from compiler.nest.builder import Builder
from compiler.nest.ir import ADDRESS, INDEX, Constant, Index, Operand, Value, vector
from compiler.support.numerics import LANES
from compiler.support.record import mutable_record
from compiler.targets.cpu.kernel_nest import KernelNest
from compiler.targets.cpu.tiles import divided
from compiler.targets.gpu.block_places import LANE_INDICES, Numbers, Place
from compiler.targets.gpu.block_shapes import PADDING, BlockShape, row_axes
from compiler.targets.gpu.block_sums import Counts, SumWalk, multiplied
from compiler.targets.gpu.matrix_products import Staged, Warps, warps_of
from compiler.targets.gpu.threads import GROUPS
from compiler.types import DType


def summed_from_registers(
    k: KernelNest, contract: TileContract, shape: BlockShape, place: Place
) -> tuple[Sequence[Operand], Warps | None]:
    """The sums of a thread, row by row, or as the warps have them where factors are rounded."""
    nest, sides, walk = k.nest, _operands(k, contract, shape, place), SumWalk(k.nest, contract, shape, place)
    warps = warps_of(k, contract, shape, place, [Staged(1, side.pitch) for side in sides])
    stretches = walk.stretches()
    first, end = stretches[0].begin, stretches[-1].end
    last = nest.sub(end, 1)
    zero = Constant(vector(contract.dtype, LANES), 0.0)
    for side in sides:
        side.put(side.loaded(nest.mul(first, shape.depth)), 0)
    nest.body.append(ir.Barrier(nest.line))

    def block(number: Value, carried: list[Value], is_whole: bool) -> Sequence[Operand]:
        *sums, half = carried
        following = nest.mul(nest.minimum(nest.add(number, 1), last), shape.depth)
        found = [side.loaded(following) for side in sides]
        if warps is None:
            add = partial(_added, k, shape, sides, half)
            added = add(sums, 0, shape.depth, None) if is_whole else walk.partly(number, sums, add)
        else:
            added = warps.multiplied([side.half_from(half, 0) for side in sides], sums)
        other = nest.binary("xor", half, 1)
        for side, values in zip(sides, found, strict=True):
            side.put(values, other)
        nest.body.append(ir.Barrier(nest.line))
        return [*added, other]

    values: Sequence[Operand] = [*[zero] * (shape.rows * shape.vectors), 0]
    for stretch in stretches:
        values = nest.loop(stretch.begin, stretch.end, 1, values, partial(block, is_whole=stretch.is_whole))
    return values[:-1], warps


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
        return GROUPS * self.each + self.shape.padding

    @property
    def size(self) -> int:
        return self.shape.depth * self.pitch

    def lane_numbers(self, start: Index) -> Operand:
        numbers = Numbers(self.k, LANE_INDICES)
        lanes = Constant(LANE_INDICES, tuple(range(LANES)))
        return self.k.nest.binary("add", numbers.of(start), lanes, LANE_INDICES)

    def prepare(self) -> None:
        """Find the lines once for all blocks of the sum; beyond the last one stands that one."""
        nest, last = self.k.nest, self.k.nest.sub(self.most, 1)
        if self.along_sum:
            numbers = Numbers(self.k, INDEX)
            for turn in range(self.each):
                line = nest.add(self.first, nest.add(self.group, turn * GROUPS))
                place = numbers.place(nest.minimum(line, last), self.lines)
                assert isinstance(place, Value | int)
                self.places.append(place)
            return
        wide = Numbers(self.k, LANE_INDICES)
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
            wide = Numbers(self.k, LANE_INDICES)
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
            place = Numbers(self.k, INDEX).place(element, self.axes)
            assert isinstance(place, Value | int)
            pointer = nest.pointer(self.base, nest.select(nest.compare("lt", element, self.depth), place, 0), dtype)
            found.append(nest.gather(pointer, self.of_lanes, dtype, inside))
        return found

    def put(self, values: Sequence[Value], half: Index) -> None:
        """Leave the own part in a half of shared memory."""
        nest, dtype = self.k.nest, self.dtype
        room = nest.pointer(self.room, nest.mul(half, self.size), dtype)
        if self.along_sum:
            lanes = Constant(LANE_INDICES, tuple(lane * self.pitch for lane in range(LANES)))
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

    # what threads read

    def half_from(self, half: Index, element: Index) -> Value:
        """Where that summed element of a half begins."""
        nest = self.k.nest
        place = nest.add(nest.mul(half, self.size), nest.mul(element, self.pitch))
        return nest.pointer(self.room, place, self.dtype)

    def of_row(self, own: Value, element: int, row: int) -> list[Value]:
        """The element of a row of the group, whose first one is `own`."""
        nest, size = self.k.nest, self.dtype.size
        align = size * (min(PADDING, self.each) if row % PADDING == 0 else 1)
        return [nest.load(nest.pointer(own, element * self.pitch + row, self.dtype), vector(self.dtype, 1), align)]

    def of_columns(self, half: Value, element: int, part: int) -> Value:
        """The elements of a vector of columns in a half."""
        place = self.k.nest.pointer(half, element * self.pitch + part * LANES, self.dtype)
        return self.k.nest.load(place, vector(self.dtype, LANES), self.dtype.size)


def _whole(nest: Builder, number: Index, divisor: int) -> Index:
    return divided(nest, number, divisor)[0]


def _rest(nest: Builder, number: Index, divisor: int) -> Index:
    return divided(nest, number, divisor)[1]


def _operands(k: KernelNest, contract: TileContract, shape: BlockShape, place: Place) -> tuple[_Operand, _Operand]:
    nest, dtype = k.nest, contract.dtype
    rows, head = row_axes(contract), contract.k[-1]
    left_bytes = 2 * shape.depth * (shape.height + shape.padding) * dtype.size
    right_bytes = 2 * shape.depth * (shape.width + shape.padding) * dtype.size
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


def _added(
    k: KernelNest,
    shape: BlockShape,
    sides: Sequence[_Operand],
    half: Value,
    sums: Sequence[Operand],
    first: Index,
    count: int,
    counts: Counts | None,
) -> Sequence[Operand]:
    """The sums of a thread with so many elements of the block of the sum that lies in a half of shared memory."""
    nest, (left, right) = k.nest, sides
    own = nest.pointer(left.half_from(half, first), nest.mul(left.group, shape.rows), left.dtype)
    columns = right.half_from(half, first)
    for element in range(count):
        factors = [right.of_columns(columns, element, part) for part in range(shape.vectors)]
        rows = [partial(left.of_row, own, element, row) for row in range(shape.rows)]
        sums = multiplied(nest, sums, [factors], rows, counts)
    return sums
