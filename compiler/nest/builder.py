"""Makes the statements of a nest, one after the other: fresh values, folded index arithmetic, loops and guards."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import field
from typing import Concatenate, ParamSpec, overload

from compiler.graph.op import Op
from compiler.nest import ir
from compiler.nest.ir import ADDRESS, GIVEN, INDEX, TRUTH, Index, Operand, Statement, Type, Value, type_of, vector
from compiler.support.record import mutable_record
from compiler.types import DType, Rounding

_Fields = ParamSpec("_Fields")
LINE = 64  # bytes that the largest vectors are aligned to


@mutable_record
class Builder:
    """The body of a nest in the making. `line` is that of the statement whose work is written, `lines` are all."""

    body: list[Statement] = field(default_factory=list[Statement])
    count: int = len(GIVEN)
    line: int = 0
    lines: set[int] = field(default_factory=set[int])

    def fresh(self, type_: Type) -> Value:
        value = Value(self.count, type_)
        self.count += 1
        return value

    def locate(self, line: int) -> None:
        """From here on, statements do the work of that line of the printed kernel."""
        self.line = line
        self.lines.add(line)

    def at(self, line: int) -> AtLine:
        """Within, statements do the work of that line of the printed kernel."""
        return AtLine(self, line)

    def define(
        self,
        kind: Callable[Concatenate[Value, int, _Fields], ir.Definition],
        type_: Type,
        *fields: _Fields.args,
        **named: _Fields.kwargs,
    ) -> Value:
        """The value of a statement of that kind."""
        result = self.fresh(type_)
        self.body.append(kind(result, self.line, *fields, **named))
        return result

    # arithmetic

    def binary(self, op: ir.Arithmetic, left: Operand, right: Operand, type_: Type = INDEX) -> Value:
        result = Value(self.count, type_)
        self.count += 1
        self.body.append(ir.Binary(result, self.line, op, left, right))
        return result

    def add(self, left: Index, right: Index) -> Index:
        """The sum of two indices; nothing is written for a zero."""
        if right == 0:
            return left
        if left == 0:
            return right
        return self.binary("add", left, right)

    def sub(self, left: Index, right: Index) -> Value:
        return self.binary("sub", left, right)

    def mul(self, left: Index, right: Index) -> Index:
        """The product of two indices; nothing is written for a one."""
        if right == 1:
            return left
        if left == 0 or right == 0:
            return 0
        return self.binary("mul", left, right)

    def minimum(self, left: Index, right: Index) -> Value:
        return self.binary("min", left, right)

    def maximum(self, left: Index, right: Index) -> Value:
        return self.binary("max", left, right)

    def compare(self, relation: ir.Relation, left: Operand, right: Operand) -> Value:
        return self.define(ir.Compare, vector(DType.BOOL, type_of(left).lanes), relation, left, right)

    def select(self, condition: Operand, yes: Operand, no: Operand) -> Value:
        return self.define(ir.Select, type_of(yes), condition, yes, no)

    def negated(self, condition: Operand) -> Value:
        return self.binary("xor", condition, ir.Constant(TRUTH, True), TRUTH)

    @overload
    def converted(self, value: Value, dtype: DType) -> Value: ...

    @overload
    def converted(self, value: Operand, dtype: DType) -> Operand: ...

    def converted(self, value: Operand, dtype: DType) -> Operand:
        """As NumPy's `astype`; the value itself where it has that type."""
        given = type_of(value)
        if given.dtype is dtype:
            return value
        return self.define(ir.Convert, vector(dtype, given.lanes), value)

    def from_bits(self, value: Operand, dtype: DType) -> Value:
        return self.define(ir.Bits, vector(dtype, 1), value)

    def fma(self, left: Operand, right: Operand, addend: Operand) -> Value:
        result = Value(self.count, type_of(addend))
        self.count += 1
        self.body.append(ir.Fma(result, self.line, left, right, addend))
        return result

    def elementwise(self, op: Op, operands: Sequence[Operand], type_: Type) -> Value:
        return self.define(ir.Elementwise, type_, op, tuple(operands))

    # vectors

    def splat(self, scalar: Operand, lanes: int) -> Value:
        """A scalar in each lane."""
        result = Value(self.count, vector(ir.dtype_of(scalar), lanes))
        self.count += 1
        self.body.append(ir.Broadcast(result, self.line, scalar))
        return result

    def shuffle(self, left: Operand, right: Operand | None, picks: Sequence[int]) -> Value:
        dtype = ir.dtype_of(left)
        type_ = vector(dtype, len(picks)) if len(picks) > 1 else ir.single(dtype)
        return self.define(ir.Shuffle, type_, left, right, tuple(picks))

    def lanes_of(self, value: Operand, first: int, lanes: int) -> Value:
        """So many of the lanes of a vector."""
        return self.shuffle(value, None, range(first, first + lanes))

    def joined(self, pieces: Sequence[Operand]) -> Operand:
        """Vectors of the same length, a power of two of them, one behind the other."""
        if len(pieces) == 1:
            return pieces[0]
        both = range(2 * type_of(pieces[0]).lanes)
        pairs = zip(pieces[::2], pieces[1::2], strict=True)
        return self.joined([self.shuffle(low, high, both) for low, high in pairs])

    def lane(self, value: Operand) -> Value:
        """The only lane of a vector of one."""
        return self.define(ir.Lane, vector(ir.dtype_of(value), 1), value)

    def any(self, mask: Operand) -> Value:
        return self.define(ir.Any, TRUTH, mask)

    # memory

    def given(self, slot: int, type_: Type) -> Value:
        return self.define(ir.Given, type_, slot)

    def scratch(self, start: int, size: int) -> Value:
        return self.define(ir.Scratch, ADDRESS, start, size)

    def pointer(self, base: Value, index: Index, dtype: DType) -> Value:
        """The address of element `index`."""
        if index == 0:
            return base
        result = Value(self.count, ADDRESS)
        self.count += 1
        self.body.append(ir.Address(result, self.line, base, index, dtype))
        return result

    def number_of(self, address: Value) -> Value:
        """An address as a number of bytes."""
        return self.define(ir.Number, INDEX, address)

    def load(self, address: Value, type_: Type, align: int) -> Value:
        result = Value(self.count, type_)
        self.count += 1
        self.body.append(ir.Load(result, self.line, address, align))
        return result

    def store(
        self, value: Operand, address: Value, align: int, mask: Operand | None = None, streams: bool = False
    ) -> None:
        self.body.append(ir.Store(self.line, value, address, align, mask, streams))

    def gather(self, address: Value, places: Operand, dtype: DType, mask: Operand) -> Value:
        return self.define(ir.Gather, vector(dtype, type_of(places).lanes), address, places, mask)

    def scatter(self, value: Operand, address: Value, places: Operand, mask: Operand) -> None:
        self.body.append(ir.Scatter(self.line, value, address, places, mask))

    def copy_ahead(
        self, target: Value, targets: Operand, source: Value, sources: Operand, kept: Operand, dtype: DType
    ) -> None:
        """Begin to copy pieces to the memory of the block."""
        self.body.append(ir.CopyAhead(self.line, target, targets, source, sources, kept, dtype))

    def prefetch(self, address: Value, writes: bool = False, locality: int = 3) -> None:
        self.body.append(ir.Prefetch(self.line, address, writes, locality))

    def clear(self, base: Value, elements: Index, type_: Type) -> None:
        """Zeros in so many elements, whole vectors of the type, from an aligned place on."""
        dtype = type_.dtype
        assert dtype is not None
        with self.each(0, elements, type_.lanes) as index:
            self.store(ir.Zeros(type_), self.pointer(base, index, dtype), LINE)

    def fence(self) -> None:
        """No load moves across, where it would take a register that others need."""
        self.body.append(ir.LoadFence(self.line))

    def store_fence(self) -> None:
        self.body.append(ir.StoreFence(self.line))

    # products in bf16

    def rounded(self, value: Operand) -> Value:
        """The bits of the numbers of bf16 next to those of f32."""
        return self.define(ir.Rounded, vector(DType.U16, type_of(value).lanes), value)

    def round_factor(self, value: Operand, rounding: Rounding) -> Value:
        """Numbers of f32 with fewer digits."""
        return self.define(ir.RoundFactor, type_of(value), value, rounding)

    def positive_zero(self, value: Operand) -> Value:
        """Numbers as they are, with 0 for -0."""
        return self.binary("add", value, ir.Constant(type_of(value), 0.0), type_of(value))

    def multiply_matrices(
        self, left: Sequence[Operand], right: Sequence[Operand], sums: Sequence[Operand], rounding: Rounding
    ) -> list[Value]:
        """The sums of this thread with the product of matrices that 32 threads hold."""
        results = [self.fresh(type_of(operand)) for operand in sums]
        made = ir.MultiplyMatrices(self.line, tuple(results), tuple(left), tuple(right), tuple(sums), rounding)
        self.body.append(made)
        return results

    def as_words(self, halves: Value) -> Value:
        """Pairs of 16 bits, each as 32 bits."""
        return self.define(ir.Bits, vector(DType.U32, halves.type.lanes // 2), halves)

    def pair_fma(self, left: Operand, right: Operand, addend: Operand) -> Value:
        return self.define(ir.PairFma, type_of(addend), left, right, addend)

    def open_tiles(self, address: Value) -> None:
        self.body.append(ir.OpenTiles(self.line, address))

    def multiply_tiles(
        self, sums: Value, left: Value, right: Value, blocks: Index, pitch: int, shape: tuple[int, int]
    ) -> None:
        self.body.append(ir.MultiplyTiles(self.line, sums, left, right, blocks, pitch, *shape))

    def close_tiles(self) -> None:
        self.body.append(ir.CloseTiles(self.line))

    # random numbers

    def draw_key(self, seed: Operand, step: Operand, slot: int) -> tuple[Value, Value]:
        first, second = (self.fresh(vector(DType.I32, 1)) for _ in range(2))
        self.body.append(ir.DrawKey(self.line, first, second, seed, step, slot))
        return first, second

    def draw(self, key: tuple[Value, Value], places: Operand) -> Value:
        return self.define(ir.Draw, vector(DType.F32, type_of(places).lanes), *key, places)

    # control

    def loop(
        self,
        start: Index,
        stop: Index,
        step: int,
        carries: Sequence[Operand],
        body: Callable[[Value, list[Value]], Sequence[Operand]],
        rounds: int | None = None,
    ) -> list[Value]:
        """`for i = start; i < stop; i += step`.

        `body` gets the index and the carried values, which begin as `carries`, and gives the next. The result is
        the values after the loop.
        """
        index = self.fresh(INDEX)
        carried = [self.fresh(type_of(initial)) for initial in carries]
        with self._inside() as inside:
            following = body(index, carried)
        carry = tuple(carried), tuple(carries), tuple(following)
        over_items = start is ir.BEGIN and stop is ir.END
        self.body.append(ir.Loop(self.line, index, start, stop, step, *carry, inside, rounds, over_items))
        return carried

    @contextmanager
    def each(self, start: Index, stop: Index, step: int = 1, rounds: int | None = None) -> Generator[Value]:
        """A loop that carries no values, with its index; statements that are made within are its body."""
        index = self.fresh(INDEX)
        with self._inside() as inside:
            yield index
        over_items = start is ir.BEGIN and stop is ir.END
        self.body.append(ir.Loop(self.line, index, start, stop, step, (), (), (), inside, rounds, over_items))

    @contextmanager
    def when(self, condition: Value, is_rare: bool = False) -> Generator[None]:
        """Statements that are made within run where the condition holds; rare ones stand out of the way."""
        with self._inside() as inside:
            yield
        self.body.append(ir.Guard(self.line, condition, inside, is_rare))

    @contextmanager
    def _inside(self) -> Generator[list[Statement]]:
        around, self.body = self.body, list[Statement]()
        yield self.body
        self.body = around


class AtLine:
    """A context in which a builder writes the work of a line."""

    __slots__ = ("_around", "_builder", "_line")

    def __init__(self, builder: Builder, line: int) -> None:
        self._builder, self._line, self._around = builder, line, builder.line

    def __enter__(self) -> None:
        self._builder.locate(self._line)

    def __exit__(self, *_: object) -> None:
        self._builder.line = self._around
