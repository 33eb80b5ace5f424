"""Long sums over several axes, cut into blocks that stay in cache: the operands of a block, and its walk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, prod

from compiler.loops.ir import ContractedAxis, TileContract
from compiler.record import record
from compiler.schedule.access import count
from compiler.targets.cpu.kernel_text import KernelText
from compiler.targets.cpu.multiply import DEEPEST_UNROLL, Ahead, SummedAxis
from compiler.targets.cpu.text import REGISTER, Text


@record
class Block:
    """How much of the sum is taken at once: indices of the first axis; or one, and so many of the second."""

    first: int
    second: int | None
    elements: int


def block_of(contract: TileContract, deep: int) -> Block:
    """Blocks of about `deep` summed elements."""
    _, *rest = contract.k
    inner = prod(count(axis.extent) for axis in rest)
    if inner <= deep or not rest:
        first = max(1, deep // inner)
        return Block(first, None, first * inner)
    extent, inside = (
        count(rest[0].extent),
        prod(count(axis.extent) for axis in rest[1:]),
    )
    most = max(1, deep // inside)
    second = ceil(extent / ceil(extent / most))  # blocks of equal size
    return Block(1, second, second * inside)


@record
class Operands:
    """Where a block of the sum starts in both operands."""

    left: str
    right: str


@dataclass(slots=True)
class LongSum:
    """The sum of a contraction, block by block."""

    k: KernelText
    contract: TileContract
    block: Block

    @property
    def type(self) -> str:
        return REGISTER[self.contract.dtype]

    def of_part(self, part: str, body: Callable[[list[SummedAxis], Operands, Operands], None]) -> None:
        """Run `body` for each block of a part: its axes, where it starts, and where the one after it does."""
        text, (head, *rest) = self.k.text, self.contract.k
        second, whole = self.block.second, self.k.extent(head.extent)
        begin, end = (
            text.let(f"udiv i64 {text.mul(text.add(part, step), whole)}, {self.contract.parts}") for step in (0, 1)
        )

        def outside(index: str, carried: list[str]) -> list[str]:
            here = self.bases(index, "0")
            if second is None:
                length = text.minimum(text.let(f"sub i64 {end}, {index}"), str(self.block.first))
                following = self.bases(text.add(index, self.block.first), "0")
                body(_summed(length, (head, *rest)), here, following)
                return []

            def inside(place: str, carried: list[str]) -> list[str]:
                length = text.minimum(text.let(f"sub i64 {rest[0].extent}, {place}"), str(second))
                beyond = text.add(place, length)
                wraps = text.let(f"icmp sge i64 {beyond}, {rest[0].extent}")
                later = text.add(index, text.let(f"zext i1 {wraps} to i64"))
                following = self.bases(later, text.let(f"select i1 {wraps}, i64 0, i64 {beyond}"))
                body(_summed(length, rest), self.bases(index, place), following)
                return []

            text.loop("0", str(rest[0].extent), second, [], inside)
            return []

        text.loop(begin, end, self.block.first, [], outside)

    def bases(self, index: str, place: str) -> Operands:
        """Where a block starts in both operands, from its index of the first axis and its place on the second."""
        k, text, contract, (head, *rest) = self.k, self.k.text, self.contract, self.contract.k
        left, right = text.mul(index, head.lhs_stride), text.mul(index, head.rhs_stride)
        if rest:
            left = text.add(left, text.mul(place, rest[0].lhs_stride))
            right = text.add(right, text.mul(place, rest[0].rhs_stride))
        return Operands(
            text.pointer(k.bases[contract.lhs], text.add(left, contract.lhs_offset), self.type),
            text.pointer(k.bases[contract.rhs], text.add(right, contract.rhs_offset), self.type),
        )

    def clear(self, elements: int) -> None:
        """Start the sums."""
        self.k.text.clear(self.k.bases[self.contract.tile], str(elements), self.type)

    def each(
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
                self.each(rest, here, stride, body, place)
            else:
                body(here, place)
            return []

        text.loop("0", axis.extent, 1, [], step)

    def ahead(
        self, axes: Sequence[SummedAxis], sums: str, size: int, following: Operands, turn: str, turns: int
    ) -> list[Ahead]:
        """What a tile asks for: the `size` sums behind its own, and its share, of `turns`, of what the following block
        takes of the operands."""
        line, steps = self.k.machine.line(self.contract.dtype), max(1, self.block.elements // DEEPEST_UNROLL)
        found = [self.spread(self.k.text.pointer(sums, str(size), self.type), "0", size // line, steps)]
        indices = self.block.second or self.block.first
        for start, stride in ((following.left, axes[0].lhs_stride), (following.right, axes[0].rhs_stride)):
            found.append(self.spread(start, turn, ceil(indices * abs(stride) / line / turns), steps))
        return found

    def spread(self, start: str, turn: str, lines: int, steps: int) -> Ahead:
        """So many lines one behind the other, spread over the steps of a tile."""
        text, line = self.k.text, self.k.machine.line(self.contract.dtype)
        each = ceil(lines / steps)
        pointer = text.pointer(start, text.mul(turn, lines * line), self.type)
        return Ahead(pointer, tuple(range(0, each * line, line)), each * line)


def _summed(first: str, axes: Sequence[ContractedAxis]) -> list[SummedAxis]:
    """The axes of a block, of which the outermost has `first` indices."""
    extents = [first, *(str(axis.extent) for axis in axes[1:])]
    return [SummedAxis(e, axis.lhs_stride, axis.rhs_stride) for e, axis in zip(extents, axes, strict=True)]


def walked(text: Text, axes: Sequence[SummedAxis], left: int = 0, right: int = 0, copy: int = 0) -> list[SummedAxis]:
    """The axes as tiles walk them, joined where one step serves; an operand that is copied has `left` or `right`
    elements of each element of the sum side by side, and `copy` of them are written."""
    found: list[SummedAxis] = []
    dense = 1
    for axis in reversed(axes):
        here = SummedAxis(axis.extent, left * dense or axis.lhs_stride, right * dense or axis.rhs_stride, copy * dense)
        if axis is not axes[0]:
            dense *= int(axis.extent)
        if found:
            inner, size = found[0], int(found[0].extent)
            strides = [s * size for s in (inner.lhs_stride, inner.rhs_stride, inner.copy_stride)]
            if strides == [here.lhs_stride, here.rhs_stride, here.copy_stride]:
                extent = text.mul(axis.extent, size) if axis is axes[0] else str(int(axis.extent) * size)
                found[0] = SummedAxis(extent, inner.lhs_stride, inner.rhs_stride, inner.copy_stride)
                continue
        found.insert(0, here)
    return found
