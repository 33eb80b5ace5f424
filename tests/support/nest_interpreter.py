"""The meaning of a nest, statement by statement in NumPy: tests compare kernels and native code with it, bit for bit.

Sums and products have the rounding of native code. Elementwise ops have their NumPy meaning, which for exp and its like
may differ from native code in the last bits. Every access must lie inside of the memory that it is to, and every
address be aligned as it says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeAlias, assert_never

import numpy as np

from compiler.errors.diagnostics import CompilerBug
from compiler.graph.op import Array
from compiler.nest import ir
from compiler.nest.ir import INDEX, Constant, Nest, Operand, Statement, Type, Value, Zeros
from compiler.nest.printer import name_of
from compiler.ops.rules import ROUNDINGS, round_to_bf16
from compiler.schedule.numerics.internal_ops import BLOCK, multiply_add_in_bf16, product_in_bf16, without_subnormal
from compiler.support.numerics import LANES
from compiler.support.record import record
from compiler.types import numpy_dtype

# The draws for a seed, a step, a stream and an array of element numbers.
Uniform: TypeAlias = Callable[[int, int, int, Array], Array]

APART = 1 << 40  # bytes between the addresses of two memories, as numbers


@record(eq=False)
class Memory:
    """Bytes of which addresses count from `origin` on; what lies before and behind is slack that may be touched."""

    name: str
    bytes: Array
    origin: int
    number: int = 0


@record(eq=False)
class Place:
    """An address: so many bytes from the origin of a memory."""

    memory: Memory
    offset: int


# An index or an i64 is a number of Python; other scalars are arrays of one element, as vectors are of several.
Content: TypeAlias = "int | Place | tuple[int, int, int] | Array"


def run_nest(
    nest: Nest, arguments: Sequence[int | Place], items: tuple[int, int], scratch: Memory, batch: int, uniform: Uniform
) -> None:
    """Do the items from the first up to the second. `arguments` are those of the nest, in order."""
    Run(nest, arguments, batch, uniform).items(items, scratch)


@dataclass(slots=True)
class Run:
    """A call of a nest. `bytes_at` is asked for every access."""

    nest: Nest
    arguments: Sequence[int | Place]
    batch: int
    uniform: Uniform
    values: list[Content] = field(default_factory=list[Content])

    def items(self, items: tuple[int, int], scratch: Memory) -> None:
        self.values = [*items, Place(scratch, 0), *[0] * (self.nest.values - 3)]
        with np.errstate(all="ignore"):
            self.all(self.nest.body)

    def all(self, statements: Sequence[Statement]) -> None:
        for statement in statements:
            match statement:
                case ir.Loop():
                    self.loop(statement)
                case ir.Guard():
                    if self.truth(statement.condition):
                        self.all(statement.body)
                case ir.Store() | ir.Scatter():
                    self.write(statement)
                case ir.DrawKey():
                    numbers = (self.index(statement.seed), self.index(statement.step), self.number(statement.slot))
                    self.values[statement.first.number] = numbers  # the whole key stands in its first word
                case ir.MultiplyTiles():
                    self.multiply_tiles(statement)
                case ir.Prefetch() | ir.LoadFence() | ir.StoreFence() | ir.OpenTiles() | ir.CloseTiles():
                    pass
                case ir.Meet() | ir.Barrier() | ir.CopyAhead() | ir.CommitCopies() | ir.AwaitCopies():
                    raise self.wrong("a thread of a device is no call")
                case ir.MultiplyMatrices():
                    raise self.wrong("a thread of a device is no call")
                case _:
                    self.values[statement.result.number] = self.computed(statement)

    def loop(self, loop: ir.Loop) -> None:
        index, stop = self.index(loop.start), self.index(loop.stop)
        carried: list[Content] = [self.content(initial) for initial in loop.initial]
        while True:
            for value, content in zip(loop.carried, carried, strict=True):
                self.values[value.number] = content
            if index >= stop:
                return
            self.values[loop.index.number] = index
            self.all(loop.body)
            carried = [self.content(following) for following in loop.following]
            index += loop.step

    # operands

    def content(self, operand: Operand) -> Content:
        match operand:
            case Value():
                return self.values[operand.number]
            case int():
                return operand
            case Zeros(type=type_):
                return np.zeros(type_.lanes, _numpy(type_))
            case Constant(type=type_, value=None):
                return np.full(type_.lanes, 0xA5).astype(_numpy(type_))
            case Constant(type=type_, value=value):
                return np.broadcast_to(np.asarray(value).astype(_numpy(type_)), type_.lanes)

    def array(self, operand: Operand) -> Array:
        content = self.content(operand)
        return np.array([content]) if isinstance(content, int) else self.expect(content, np.ndarray, operand)

    def index(self, operand: Operand) -> int:
        return self.expect(self.content(operand), int, operand)

    def place(self, operand: Operand) -> Place:
        return self.expect(self.content(operand), Place, operand)

    def number(self, slot: int) -> int:
        found = self.arguments[slot]
        return found if isinstance(found, int) else self.wrong(f"argument {slot} is no number")

    def truth(self, operand: Operand) -> bool:
        return bool(self.array(operand)[0])

    def expect(self, content: Content, kind: type[Any], operand: Operand) -> Any:
        if not isinstance(content, kind):
            name = name_of(operand) if isinstance(operand, Value) else str(operand)
            self.wrong(f"{name} is {type(content).__name__}, not {kind.__name__}")
        return content

    def wrong(self, message: str) -> Any:
        raise CompilerBug("run_nest", message)

    # memory

    def bytes_at(self, place: Place, size: int, align: int, writes: bool = False) -> slice:
        first = place.memory.origin + place.offset
        if not 0 <= first <= first + size <= len(place.memory.bytes):
            self.wrong(f"{size} bytes at {place.offset} lie outside of {place.memory.name}")
        if place.offset % align:
            self.wrong(f"byte {place.offset} of {place.memory.name} is no multiple of {align}")
        return slice(first, first + size)

    def read(self, place: Place, type_: Type, align: int) -> Content:
        dtype = _numpy(type_)
        found = place.memory.bytes[self.bytes_at(place, type_.lanes * dtype.itemsize, align)].copy().view(dtype)
        return int(found[0]) if type_ is INDEX else found

    def write(self, statement: ir.Store | ir.Scatter) -> None:
        value, place = self.array(statement.value), self.place(statement.address)
        mask = None if statement.mask is None else self.array(statement.mask)
        size = value.dtype.itemsize
        if isinstance(statement, ir.Store) and mask is None:
            place.memory.bytes[self.bytes_at(place, value.nbytes, statement.align, True)] = value.copy().view(np.uint8)
            return
        places = self.array(statement.places) if isinstance(statement, ir.Scatter) else np.arange(len(value))
        for lane in np.flatnonzero(mask if mask is not None else np.ones(len(value))):
            there = Place(place.memory, place.offset + int(places[lane]) * size)
            place.memory.bytes[self.bytes_at(there, size, size, True)] = value[lane : lane + 1].copy().view(np.uint8)

    def gathered(self, gather: ir.Gather) -> Array:
        place, places, mask = self.place(gather.address), self.array(gather.places), self.array(gather.mask)
        found = np.zeros(gather.result.type.lanes, _numpy(gather.result.type))
        for lane in np.flatnonzero(mask):
            there = Place(place.memory, place.offset + int(places[lane]) * found.itemsize)
            raw = place.memory.bytes[self.bytes_at(there, found.itemsize, found.itemsize)]
            found[lane] = raw.copy().view(found.dtype)[0]
        return found

    def multiply_tiles(self, statement: ir.MultiplyTiles) -> None:
        """Tile by tile, as products of blocks that are unpacked."""
        blocks = self.index(statement.blocks)
        size, shape = blocks * LANES * BLOCK, (blocks, LANES, BLOCK)

        def tile(operand: Value, number: int) -> Array:
            place = self.place(operand)
            place = Place(place.memory, place.offset + 2 * number * statement.pitch)
            bits = place.memory.bytes[self.bytes_at(place, 2 * size, 64)].copy().view(np.uint16)
            return (bits.astype(np.uint32) << 16).view(np.float32).reshape(shape)

        width = statement.columns * LANES
        place = self.place(statement.sums)
        where = self.bytes_at(place, 4 * statement.rows * LANES * width, 64, True)
        sums = place.memory.bytes[where].copy().view(np.float32).reshape(-1, width)
        for row in range(statement.rows):
            left = tile(statement.left, row).transpose(1, 0, 2).reshape(LANES, -1)
            for column in range(statement.columns):
                pairs = tile(statement.right, column).reshape(blocks, LANES, LANES, 2)
                right = pairs.transpose(0, 1, 3, 2).reshape(-1, LANES)
                part = sums[row * LANES : (row + 1) * LANES, column * LANES : (column + 1) * LANES]
                part[...] = product_in_bf16(left, right, part)
        place.memory.bytes[where] = sums.copy().view(np.uint8).reshape(-1)

    # values

    def computed(self, statement: ir.Definition) -> Content:
        match statement:
            case ir.Address(base=base, index=index, dtype=dtype):
                place = self.place(base)
                return Place(place.memory, place.offset + self.index(index) * dtype.size)
            case ir.Load(address=address, align=align):
                return self.read(self.place(address), statement.result.type, align)
            case ir.Gather():
                return self.gathered(statement)
            case ir.Given(slot=slot):
                return self.arguments[slot]
            case ir.Scratch(start=start):
                place = self.expect(self.values[ir.SCRATCH.number], Place, ir.SCRATCH)
                return Place(place.memory, place.offset + start)
            case ir.Number(address=address):
                place = self.place(address)
                return place.memory.number * APART + place.offset
            case ir.Select(condition=condition, yes=yes, no=no):
                if ir.type_of(condition).lanes == 1:
                    return self.content(yes if self.truth(condition) else no)
                return np.where(self.array(condition), self.array(yes), self.array(no))
            case ir.Draw(first=first, places=places):
                seed, step, stream = self.expect(self.values[first.number], tuple, first)
                return self.uniform(seed, step, stream, self.array(places))
            case ir.Ordinal() | ir.Shared() | ir.Exchange():
                raise self.wrong("a thread of a device is no call")
            case _:
                return _result(self.arithmetic(statement), statement.result.type)

    def rounded(self, statement: ir.Rounded | ir.RoundFactor) -> Array:
        values = self.array(statement.value)
        if isinstance(statement, ir.RoundFactor):
            return ROUNDINGS[statement.rounding](values)
        rounded = round_to_bf16(without_subnormal(values))
        return (np.ascontiguousarray(rounded).view(np.uint32) >> 16).astype(np.uint16)

    def arithmetic(self, statement: ir.Arithmetical) -> Array:
        match statement:
            case ir.Fma():
                return fused(self.array(statement.left), self.array(statement.right), self.array(statement.addend))
            case ir.Broadcast():
                return np.repeat(self.array(statement.scalar), statement.result.type.lanes)
            case ir.Binary():
                return _BINARY[statement.op](self.array(statement.left), self.array(statement.right))
            case ir.Compare():
                return _COMPARED[statement.relation](self.array(statement.left), self.array(statement.right))
            case ir.Elementwise():
                operands = [self.array(operand) for operand in statement.operands]
                if statement.op.name == "fma":
                    return fused(*operands)
                return statement.op.evaluate(operands, self.batch)[0]
            case ir.Shuffle():
                right = self.array(statement.left if statement.right is None else statement.right)
                return np.concatenate([self.array(statement.left), right])[list(statement.picks)]
            case ir.Convert():
                return self.array(statement.value)
            case ir.Rounded() | ir.RoundFactor():
                return self.rounded(statement)
            case ir.PairFma():
                left, right, found = (self.array(o) for o in (statement.left, statement.right, statement.addend))
                for shift in (0, 16):  # the upper halves, then the lower ones
                    first, second = (_upper_half(word << np.uint32(shift)) for word in (left, right))
                    found = multiply_add_in_bf16(first, second, found)
                return found
            case ir.Bits():
                return self.array(statement.value).view(_numpy(statement.result.type))
            case ir.Lane():
                return self.array(statement.vector)
            case ir.Any():
                return np.array([self.array(statement.mask).any()])
            case _:
                assert_never(statement)


def _upper_half(words: Array) -> Array:
    """The numbers of bf16 in the upper halves of words."""
    return without_subnormal((words & np.uint32(0xFFFF0000)).view(np.float32))


def _result(found: Array, type_: Type) -> Content:
    if type_ is INDEX:
        return int(found[0])
    return found.astype(_numpy(type_))


def _numpy(type_: Type) -> np.dtype[Any]:
    assert type_.dtype is not None
    return numpy_dtype(type_.dtype)


def _below(left: Array, right: Array) -> Array:
    return left.astype(np.uint64) < right.astype(np.uint64)


_BINARY: dict[ir.Arithmetic, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.floor_divide,  # of numbers that are not negative
    "rem": np.remainder,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "shift": np.right_shift,
    "min": np.minimum,
    "max": np.maximum,
}
_COMPARED: dict[ir.Relation, Callable[[Array, Array], Array]] = {
    **{"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal},
    **{"gt": np.greater, "ge": np.greater_equal, "below": _below},
    "unordered": lambda left, right: np.isnan(left) | np.isnan(right),
}


def fused(left: Array, right: Array, addend: Array) -> Array:
    """`left * right + addend`, rounded once, of f32 or f64."""
    if left.dtype == np.float64:
        return np.array([_fused_doubles(*map(float, lanes)) for lanes in zip(left, right, addend, strict=True)])
    product, third = left.astype(np.float64) * right.astype(np.float64), addend.astype(np.float64)  # exact
    total = product + third
    apart = total - product
    rest = (product - (total - apart)) + (third - apart)  # what rounding took off (Knuth's two-sum)
    # rounded to odd, a sum of f64 rounds to f32 as the exact one (Boldo and Melquiond 2008)
    is_even = total.view(np.int64) & 1 == 0
    odd = np.nextafter(total, np.where(rest > 0, np.inf, -np.inf))
    return np.where((rest != 0) & is_even & np.isfinite(total), odd, total).astype(np.float32)


def _fused_doubles(left: float, right: float, addend: float) -> float:
    plain = left * right + addend
    if not np.isfinite([left, right, addend]).all():
        return plain
    exact = Fraction(left) * Fraction(right) + Fraction(addend)
    try:
        return float(exact) if exact else plain
    except OverflowError:
        return float("inf") if exact > 0 else float("-inf")
