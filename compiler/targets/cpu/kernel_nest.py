"""Single instructions of kernels as statements of a nest: loads, stores, draws and folds of lanes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from compiler.errors.diagnostics import CompilerBug
from compiler.loops import ir as loops
from compiler.loops.printer import FRAME
from compiler.nest import ir
from compiler.nest.arguments import (
    BufferPointer,
    ExtentNumber,
    FactorNumber,
    FlagPointer,
    LiteralNumber,
    PlaceNumber,
    ShiftNumber,
    StreamNumber,
)
from compiler.nest.ir import Index, Operand, Value, type_of, vector
from compiler.ops.elementwise import Abs, Cast, Maximum, Minimum
from compiler.support.numerics import LANES
from compiler.support.record import mutable_record
from compiler.targets.cpu.finite_checks import FiniteChecks, checked_stores
from compiler.targets.cpu.iteration_space import DENSE
from compiler.targets.cpu.kernel_frame import KernelFrame, in_memory
from compiler.targets.cpu.specialisation import divisors_of
from compiler.types import BatchExtent, DType

_BATCH = BatchExtent(1)
_Statement = TypeVar("_Statement", bound=loops.Instruction)
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def _located(
    method: Callable[Concatenate[KernelNest, _Statement, _Arguments], _Result],
) -> Callable[Concatenate[KernelNest, _Statement, _Arguments], _Result]:
    """The statements that the method builds do the work of the instruction that it is given."""

    @wraps(method)
    def within(self: KernelNest, of: _Statement, *rest: _Arguments.args, **named: _Arguments.kwargs) -> _Result:
        with self.of(of):
            return method(self, of, *rest, **named)

    return within


@mutable_record
class KernelNest(KernelFrame):
    """One kernel in the making."""

    finite_checks: FiniteChecks = field(init=False)
    stream_keys: dict[int, tuple[Value, Value]] = field(default_factory=dict[int, tuple[Value, Value]])

    def __post_init__(self) -> None:
        KernelFrame.__post_init__(self)
        self.nest.locate(FRAME)
        self.finite_checks = FiniteChecks(self.nest)

    def open(self) -> None:
        """Load the arguments, lay out scratch, and run the prologue."""
        for position, buffer in enumerate(self.kernel.buffers):
            if not buffer.is_scratch:
                self.bases[position] = self.argument(BufferPointer(position), ir.ADDRESS)
            elif buffer.elements:
                self.reserve(position, buffer.elements * buffer.dtype.size)
        for position, _ in enumerate(self.what.numbers):
            self.argument(PlaceNumber(position))
            if self.what.moves_only:
                name = self.argument(PlaceNumber(position))
                self.splats[name] = self.nest.splat(name, self.lanes)
        for position in sorted(map(self.what.numbers.index, divisors_of(self.what))):
            self.argument(FactorNumber(position))
            self.argument(ShiftNumber(position))
        prologue = self.kernel.prologue if isinstance(self.kernel, loops.StagedKernel) else ()
        every = loops.instructions_of(self.kernel)
        places = iter(range(len(every)))
        for statements in (prologue, *(part for s in self.stages for part in (s.body, s.after))):
            stores = checked_stores(statements)
            self.finite_checks.add(statements, [self.argument(FlagPointer(next(places)), ir.ADDRESS) for _ in stores])
        for instruction in prologue:
            self.scalar(instruction, 0)
        for instruction in every:
            if isinstance(instruction, loops.Random):
                self.stream_keys[id(instruction)] = self.stream_key(instruction)

    def close(self, items: ir.Items) -> ir.Nest:
        """The whole nest."""
        nest = self.nest
        return ir.Nest(
            tuple(self.arguments),
            items,
            nest.body,
            nest.count,
            frozenset(nest.lines),
            self.scratch_bytes,
            self.scratch_batch_bytes,
        )

    # scalar instructions (rows, prologue)

    @_located
    def scalar(self, instruction: loops.Instruction, row: Index) -> None:
        nest = self.nest
        match instruction:
            case loops.Literal(result=result, dtype=dtype) if result in self.what.literals:
                bits = self.argument(LiteralNumber(result))
                narrow = nest.converted(bits, DType.I32) if dtype.size < DType.I64.size else bits
                self.put(result, nest.from_bits(narrow, dtype))
            case loops.Literal(result=result, value=value, dtype=dtype):
                self.put(result, int(value) if dtype is DType.I64 else ir.Constant(vector(dtype, 1), value))
            case loops.BatchCount(result=result):
                self.put(result, self.argument(ExtentNumber(_BATCH)))
            case loops.Load():
                pointer = self.pointer(instruction.access, row)
                if instruction.index is not None:
                    pointer = self.indexed(instruction, pointer)
                self.put(instruction.result, self.load_scalar(pointer, instruction.dtype))
            case loops.Position(result=result, offset=offset, rows=rows, dtype=dtype):
                place = nest.add(self.number(rows, row), self.place_number(offset))
                self.put(result, nest.converted(place, dtype))
            case loops.Compute(result=result):
                operands = [self.get(operand) for operand in instruction.operands]
                self.put(result, self.computed(instruction, operands, 1))
            case loops.Random(result=result):
                key = self.stream_keys[id(instruction)]
                self.put(result, nest.draw(key, self.get(instruction.position)))
            case loops.Store():
                value, dtype = self.get(instruction.value), instruction.dtype
                pointer = self.stored_at(instruction, row)
                nest.store(nest.converted(value, in_memory(dtype)), pointer, dtype.size)
                self.finite_checks.scalar(instruction, value)
            case loops.Reduce():
                raise CompilerBug("emit", "a reduction outside a pass")

    def computed(self, compute: loops.Compute, operands: Sequence[Operand], lanes: int) -> Operand:
        """The result of an op; the operand itself where it changes nothing."""
        given, op = compute.operand_dtypes[0], compute.op
        if (isinstance(op, Cast) and op.dtype is given) or (isinstance(op, Abs) and given.is_unsigned):
            return operands[0]
        return self.nest.elementwise(op, operands, vector(compute.dtype, lanes))

    def load_scalar(self, pointer: Value, dtype: DType) -> Value:
        value = self.nest.load(pointer, vector(in_memory(dtype), 1), dtype.size)
        return self.truth(value) if dtype is DType.BOOL else value

    def truth(self, byte: Value) -> Value:
        """Whether a byte in memory, or each of a vector, stands for true."""
        type_ = byte.type
        return self.nest.compare("ne", byte, ir.Zeros(type_) if type_.lanes > 1 else ir.Constant(type_, 0))

    def indexed(self, moved: loops.Load | loops.Store, pointer: Value) -> Value:
        """The address shifted by a scalar index, which is clamped into its range."""
        assert moved.index is not None
        place = self.nest.converted(self.get(moved.index), DType.I64)
        assert isinstance(place, Value | int)
        if moved.index_extent:
            place = self.nest.minimum(self.nest.maximum(place, 0), moved.index_extent - 1)
        return self.nest.pointer(pointer, self.nest.mul(place, moved.index_stride), in_memory(moved.dtype))

    def stored_at(self, store: loops.Store, row: Index) -> Value:
        pointer = self.pointer(store.access, row)
        return pointer if store.index is None else self.indexed(store, pointer)

    # vector instructions

    @_located
    def vector(
        self, instruction: loops.Instruction, row: Index, column: Index, mask: Operand | None, part: int | None = None
    ) -> None:
        """A FULL instruction (or a COLUMN one, in a kernel over columns) for a vector of columns from `column` on."""
        nest = self.nest
        match instruction:
            case loops.Load(result=result):
                self.put(result, self.vector_load(instruction, row, column, mask, part), part)
            case loops.Position(result=result, offset=offset, rows=rows, columns=columns, dtype=dtype):
                lanes = self.lanes_number(columns, column)
                base = nest.add(self.number(rows, row), self.place_number(offset))
                if base != 0:
                    shift = self.indices(base) if isinstance(base, int) else nest.splat(base, self.lanes)
                    lanes = nest.binary("add", lanes, shift, shift.type)
                self.put(result, nest.converted(lanes, dtype), part)
            case loops.Compute(result=result):
                operands = [self.wide(operand, part) for operand in instruction.operands]
                self.put(result, self.computed(instruction, operands, self.lanes), part)
            case loops.Random(result=result):
                key = self.stream_keys[id(instruction)]
                self.put(result, nest.draw(key, self.wide(instruction.position, part)), part)
            case loops.Store():
                self.vector_store(instruction, row, column, mask, part)
                self.finite_checks.vector(instruction, self.wide(instruction.value, part), mask)
            case _:
                raise CompilerBug("emit", f"no vector form of {type(instruction).__name__}")

    def vector_load(
        self, load: loops.Load, row: Index, column: Index, mask: Operand | None, part: int | None
    ) -> Operand:
        access, dtype, nest = load.access, load.dtype, self.nest
        pointer, type_ = self.pointer(access, row), vector(in_memory(dtype), self.lanes)
        if load.edges:
            assert access.columns == DENSE
            inside = self.inside(load, row)
            pointer = nest.select(inside, pointer, self.bases[access.buffer])
            found = nest.load(nest.pointer(pointer, column, in_memory(dtype)), type_, dtype.size)
            return nest.select(inside, found, ir.Zeros(type_))
        index_wide = load.index is not None and type_of(self.get(load.index, part)).lanes > 1
        if load.index is not None and not index_wide:
            pointer = self.indexed(load, pointer)
        if not access.columns and not index_wide:
            return nest.splat(self.load_scalar(pointer, dtype), self.lanes)
        if access.columns == DENSE and not index_wide:
            found = nest.load(nest.pointer(pointer, column, in_memory(dtype)), type_, dtype.size)
        elif not index_wide and isinstance(column, int):
            listed = [sum(t.at(column + lane) for t in access.columns) for lane in range(self.lanes)]
            found = self.load_places(pointer, listed, dtype, mask)
        else:
            places = self.lanes_number(access.columns, column) if access.columns else self.indices(0)
            if index_wide:
                places = self.add_indices(load, places, part)
            found = self.gather(pointer, places, dtype, mask)
        return self.truth(found) if dtype is DType.BOOL else found

    def repeated(self, load: loops.Load, row: Index, vectors: int) -> None:
        """The vectors of a load that repeats along the row, from its beginning on."""
        ((_, modulus, _),) = ((t.divisor, t.modulus or self.lanes, t.stride) for t in load.access.columns)
        with self.of(load):
            pointer = self.pointer(load.access, row)
            for part in range(vectors):
                places = [(part * self.lanes + lane) % modulus for lane in range(self.lanes)]
                found = self.load_places(pointer, places, load.dtype, None)
                self.put(load.result, self.truth(found) if load.dtype is DType.BOOL else found, part)

    def load_places(self, pointer: Value, places: Sequence[int], dtype: DType, mask: Operand | None) -> Value:
        """Elements at known places: one load where they are neighbours."""
        if list(places) == list(range(places[0], places[0] + self.lanes)):
            place = self.nest.pointer(pointer, places[0], in_memory(dtype))
            return self.nest.load(place, vector(in_memory(dtype), self.lanes), dtype.size)
        return self.gather(pointer, ir.Constant(vector(DType.I64, self.lanes), tuple(places)), dtype, mask)

    def add_indices(self, load: loops.Load, places: Operand, part: int | None) -> Value:
        assert load.index is not None
        nest, type_ = self.nest, vector(DType.I64, self.lanes)
        index = nest.converted(self.get(load.index, part), DType.I64)
        if load.index_extent:
            index = nest.binary("max", index, ir.Zeros(type_), type_)
            index = nest.binary("min", index, self.indices(load.index_extent - 1), type_)
        if load.index_stride != 1:
            index = nest.binary("mul", index, self.indices(load.index_stride), type_)
        return nest.binary("add", places, index, type_)

    def gather(self, pointer: Value, places: Operand, dtype: DType, mask: Operand | None) -> Value:
        return self.nest.gather(pointer, places, in_memory(dtype), self.all_lanes if mask is None else mask)

    @property
    def all_lanes(self) -> ir.Constant:
        return ir.Constant(vector(DType.BOOL, self.lanes), True)

    def vector_store(
        self, store: loops.Store, row: Index, column: Index, mask: Operand | None, part: int | None
    ) -> None:
        nest, dtype = self.nest, in_memory(store.dtype)
        value = nest.converted(self.wide(store.value, part), dtype)
        pointer = self.stored_at(store, row)
        if store.access.columns in ((), DENSE):
            self.store_vector(value, nest.pointer(pointer, column, dtype), store.dtype, mask)
            return
        places = self.lanes_number(store.access.columns, column)
        nest.scatter(value, pointer, places, self.all_lanes if mask is None else mask)

    def store_vector(self, value: Operand, place: Value, dtype: DType, mask: Operand | None) -> None:
        """Write neighbours in memory, which have the type `dtype`."""
        self.nest.store(value, place, dtype.size, mask)

    def mask_below(self, column: Index, stop: Index) -> Operand:
        """True in the lanes whose column lies before `stop`."""
        if isinstance(column, int) and isinstance(stop, int):
            return ir.Constant(vector(DType.BOOL, self.lanes), tuple(column + k < stop for k in range(self.lanes)))
        left = self.nest.minimum(self.nest.sub(stop, column), self.lanes)
        left = self.nest.splat(self.nest.converted(left, DType.I32), self.lanes)
        return self.nest.compare("lt", ir.Constant(left.type, tuple(range(self.lanes))), left)

    # reductions

    def identity(self, reduce: loops.Reduce, lanes: int = LANES) -> ir.Constant:
        """The value that a fold starts from, in each lane."""
        return ir.Constant(vector(reduce.dtype, lanes), _identity(reduce))

    @_located
    def combined(self, reduce: loops.Reduce, left: Operand, right: Operand, factor: Operand | None = None) -> Value:
        """Two parts of a fold joined, or with a `factor`, its product with `right` added to `left`."""
        if factor is not None:
            return self.nest.fma(right, factor, left)
        if reduce.combine is loops.Combine.SUM:
            return self.nest.binary("add", left, right, type_of(left))
        op = Maximum() if reduce.combine is loops.Combine.MAX else Minimum()
        return self.nest.elementwise(op, (left, right), type_of(left))

    @_located
    def masked(self, reduce: loops.Reduce, value: Operand, mask: Operand) -> Value:
        return self.nest.select(mask, value, self.identity(reduce))

    @_located
    def folded(self, reduce: loops.Reduce, value: Operand) -> Operand:
        """All lanes into one scalar, by halves."""
        nest = self.nest
        for half in (LANES >> k for k in range(1, LANES.bit_length())):
            parts = [nest.lanes_of(value, first, half) for first in (0, half)]
            if half == 1:
                parts = [nest.lane(part) for part in parts]
            value = self.combined(reduce, *parts)
        return value

    def joined(self, reduce: loops.Reduce, lanes: Sequence[Operand]) -> Operand:
        """The accumulators of a fold, pair by pair."""
        while len(lanes) > 1:
            lanes = [self.combined(reduce, a, b) for a, b in zip(lanes[::2], lanes[1::2], strict=True)]
        return lanes[0]

    # draws

    @_located
    def stream_key(self, random: loops.Random) -> tuple[Value, Value]:
        """The key of this draw's stream at this step."""
        seed, step = (self.get(value) for value in (random.seed, random.step))
        self.arguments.append(StreamNumber(len(self.stream_keys)))
        return self.nest.draw_key(seed, step, len(self.arguments) - 1)


def _identity(reduce: loops.Reduce) -> float | int | bool:
    is_max = reduce.combine is loops.Combine.MAX
    if reduce.combine is loops.Combine.SUM:
        return -0.0 if reduce.dtype.is_float else 0
    if reduce.dtype.is_float:
        return float("-inf") if is_max else float("inf")
    if reduce.dtype is DType.BOOL:
        return not is_max
    least, greatest = reduce.dtype.limits
    return least if is_max else greatest
