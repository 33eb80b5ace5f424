"""Text that all walks share: single instructions, loads, stores, draws and lane reductions, as LLVM text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from compiler.diagnostics import CompilerBug
from compiler.loops.ir import (
    BatchCount,
    Combine,
    Compute,
    Instruction,
    Literal,
    Load,
    Position,
    Random,
    Reduce,
    Store,
    Term,
)
from compiler.targets.cpu.emit_compute import cast, compute, extreme
from compiler.targets.cpu.identity import divisors_of
from compiler.targets.cpu.kernel_code import (
    BufferPointer,
    ExtentNumber,
    FactorNumber,
    FlagPointer,
    Items,
    KernelCode,
    LiteralNumber,
    PlaceNumber,
    ShiftNumber,
    StreamNumber,
)
from compiler.targets.cpu.kernel_frame import KernelFrame
from compiler.targets.cpu.masks import store_masked
from compiler.targets.cpu.text import LANES, MEMORY, REGISTER, SUFFIX, literal, splat_of
from compiler.targets.cpu.walks import moves_only
from compiler.targets.cpu.watches import Watches, watched_stores
from compiler.targets.llvm.locations import FRAME, FUNCTION, location_nodes
from compiler.targets.llvm.threefry import halves, threefry, unit
from compiler.types import BatchExtent, DType

_BATCH = BatchExtent(1)
_Statement = TypeVar("_Statement", bound=Instruction)
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def _located(
    method: Callable[Concatenate[KernelText, _Statement, _Arguments], _Result],
) -> Callable[Concatenate[KernelText, _Statement, _Arguments], _Result]:
    """What the method writes belongs to the statement that it is given."""

    @wraps(method)
    def within(self: KernelText, of: _Statement, *rest: _Arguments.args, **named: _Arguments.kwargs) -> _Result:
        with self.of(of):
            return method(self, of, *rest, **named)

    return within


@dataclass(slots=True)
class KernelText(KernelFrame):
    """One kernel in the making."""

    watches: Watches = field(init=False)
    stream_keys: dict[int, tuple[str, str]] = field(default_factory=dict[int, tuple[str, str]])

    def __post_init__(self) -> None:
        self.text.locate(FRAME)
        self.text.is_fenced = self.machine.is_arm
        self.watches = Watches(self.text, self.lanes)

    def open(self) -> None:
        """Load the arguments, lay out scratch, and run the prologue."""
        for position, buffer in enumerate(self.kernel.buffers):
            if not buffer.is_scratch:
                self.bases[position] = self.argument(BufferPointer(position), "ptr")
            elif buffer.elements:
                self.reserve(position, buffer.elements * buffer.dtype.size)
        for position in range(self.free_numbers):
            self.argument(PlaceNumber(position))
            if moves_only(self.kernel):
                name = self.argument(PlaceNumber(position))
                self.splats[name] = self.text.splat(name, "i64")
        for position in sorted(divisors_of(self.kernel)):
            self.argument(FactorNumber(position))
            self.argument(ShiftNumber(position))
        stages = self.kernel.stages
        every = [*self.kernel.prologue, *(i for s in stages for i in (*s.body, *s.after))]
        places = iter(range(len(every)))
        for statements in (self.kernel.prologue, *(part for s in stages for part in (s.body, s.after))):
            stores = watched_stores(statements)
            self.watches.add(statements, [self.argument(FlagPointer(next(places)), "ptr") for _ in stores])
        for instruction in self.kernel.prologue:
            self.scalar(instruction, "0")
        for instruction in every:
            if isinstance(instruction, Random):
                self.stream_keys[id(instruction)] = self.stream_key(instruction)

    def close(self, items: Items) -> KernelCode:
        """End the function."""
        self.text.line("ret void")
        bits = self.machine.vector_bits
        attributes = f'nounwind "prefer-vector-width"="{bits}" "min-legal-vector-width"="{bits}"'
        if self.machine.tuning:
            attributes += f' "tune-cpu"="{self.machine.tuning}"'
        lines = [
            f"define void @KERNEL(ptr %args, i64 %begin, i64 %end, ptr %scratch) {attributes} {FUNCTION} {{",
            "entry:",
            *self.text.lines,
            "}",
            *location_nodes(self.text.places),
        ]
        return KernelCode(
            "\n".join(lines) + "\n", tuple(self.arguments), items, self.scratch_bytes, self.scratch_batch_bytes
        )

    # scalar instructions (rows, prologue)

    @_located
    def scalar(self, instruction: Instruction, row: str) -> None:
        text = self.text
        match instruction:
            case Literal(result=result, dtype=dtype) if result in self.free_literals:
                bits = self.argument(LiteralNumber(result))
                narrow = text.let(f"trunc i64 {bits} to i{8 * dtype.size}") if dtype.size < 8 else bits
                value = text.let(f"bitcast i{8 * dtype.size} {narrow} to {REGISTER[dtype]}")
                self.put(result, value, REGISTER[dtype], wide=False)
            case Literal(result=result, value=value, dtype=dtype):
                self.put(result, literal(value, dtype), REGISTER[dtype], wide=False)
            case BatchCount(result=result):
                from_batch = self.argument(ExtentNumber(_BATCH))
                self.put(result, from_batch, "i64", wide=False)
            case Load():
                pointer = self.pointer(instruction.access, row)
                if instruction.index is not None:
                    pointer = self.indexed(instruction, pointer)
                self.put(
                    instruction.result, self.load_scalar(pointer, instruction.dtype), REGISTER[instruction.dtype], False
                )
            case Position(result=result, offset=offset, rows=rows, dtype=dtype):
                place = text.add(self.number(rows, row), self.place_number(offset))
                self.put(result, cast(text, place, DType.I64, dtype, 1), REGISTER[dtype], wide=False)
            case Compute(result=result, dtype=dtype):
                operands = [self.get(o).name for o in instruction.operands]
                name = compute(text, self.machine, instruction.op, operands, instruction.operand_dtypes, dtype, 1)
                self.put(result, name, REGISTER[dtype], wide=False)
            case Random(result=result):
                place = self.get(instruction.position).name
                self.put(result, self.draw(instruction, place, 1), "float", wide=False)
            case Store():
                value = self.get(instruction.value).name
                pointer = self.stored_at(instruction, row)
                if instruction.dtype is DType.BOOL:
                    value = text.let(f"zext i1 {value} to i8")
                text.line(f"store {MEMORY[instruction.dtype]} {value}, ptr {pointer}, align {instruction.dtype.size}")
                self.watches.scalar(instruction, value)
            case Reduce():
                raise CompilerBug("emit", "a reduction outside a pass")

    def load_scalar(self, pointer: str, dtype: DType) -> str:
        value = self.text.let(f"load {MEMORY[dtype]}, ptr {pointer}, align {dtype.size}")
        return self.text.let(f"icmp ne i8 {value}, 0") if dtype is DType.BOOL else value

    def indexed(self, moved: Load | Store, pointer: str) -> str:
        """The address shifted by a scalar index, which is clamped into its range."""
        assert moved.index is not None
        register = self.get(moved.index)
        place = self.widened(register.name, register.type_, 1)
        if moved.index_extent:
            place = self.text.minimum(self.text.maximum(place, "0"), str(moved.index_extent - 1))
        return self.text.pointer(pointer, self.text.mul(place, moved.index_stride), MEMORY[moved.dtype])

    def stored_at(self, store: Store, row: str) -> str:
        pointer = self.pointer(store.access, row)
        return pointer if store.index is None else self.indexed(store, pointer)

    def widened(self, name: str, type_: str, lanes: int) -> str:
        if type_ == "i64":
            return name
        kind = "zext" if type_ == "i8" else "sext"
        source, target = (type_, "i64") if lanes == 1 else (f"<{lanes} x {type_}>", f"<{lanes} x i64>")
        return self.text.let(f"{kind} {source} {name} to {target}")

    # vector instructions

    @_located
    def vector(
        self, instruction: Instruction, row: str, column: str, mask: str | None, part: int | None = None
    ) -> None:
        """A FULL instruction (or a COLUMN one, in a walk over columns) for a vector of columns from `column` on."""
        text = self.text
        match instruction:
            case Load():
                self.vector_load(instruction, row, column, mask, part)
            case Position(result=result, offset=offset, rows=rows, columns=columns, dtype=dtype):
                lanes = self.lanes_number(columns, column)
                base = text.add(self.number(rows, row), self.place_number(offset))
                if base != "0":
                    shift = f"splat (i64 {base})" if not base.startswith("%") else text.splat(base, "i64", self.lanes)
                    lanes = text.let(f"add <{self.lanes} x i64> {lanes}, {shift}")
                self.put(result, cast(text, lanes, DType.I64, dtype, self.lanes), REGISTER[dtype], True, part)
            case Compute(result=result, dtype=dtype):
                operands = [self.wide(o, part) for o in instruction.operands]
                name = compute(
                    text, self.machine, instruction.op, operands, instruction.operand_dtypes, dtype, self.lanes
                )
                self.put(result, name, REGISTER[dtype], True, part)
            case Random(result=result):
                place = self.wide(instruction.position, part)
                self.put(result, self.draw(instruction, place, self.lanes), "float", True, part)
            case Store():
                self.vector_store(instruction, row, column, mask, part)
                self.watches.vector(instruction, self.wide(instruction.value, part), mask)
            case _:
                raise CompilerBug("emit", f"no vector form of {type(instruction).__name__}")

    def vector_load(self, load: Load, row: str, column: str, mask: str | None, part: int | None) -> None:
        access, dtype = load.access, load.dtype
        pointer = self.pointer(access, row)
        type_ = MEMORY[dtype]
        if load.edges:
            assert access.columns == (Term(1, None, 1),)
            inside = self.inside(load, row)
            pointer = self.text.let(f"select i1 {inside}, ptr {pointer}, ptr {self.bases[access.buffer]}")
            place = self.text.pointer(pointer, column, type_)
            found = self.text.let(f"load <{self.lanes} x {type_}>, ptr {place}, align {dtype.size}")
            zero = f"<{self.lanes} x {type_}> zeroinitializer"
            name = self.text.let(f"select i1 {inside}, <{self.lanes} x {type_}> {found}, {zero}")
            self.put(load.result, name, REGISTER[dtype], True, part)
            return
        index_wide = load.index is not None and self.get(load.index, part).wide
        if load.index is not None and not index_wide:
            pointer = self.indexed(load, pointer)
        if not access.columns and not index_wide:
            self.put(
                load.result,
                self.text.splat(self.load_scalar(pointer, dtype), REGISTER[dtype], self.lanes),
                REGISTER[dtype],
                True,
                part,
            )
            return
        if access.columns == (Term(1, None, 1),) and not index_wide:
            place = self.text.pointer(pointer, column, type_)
            name = self.text.let(f"load <{self.lanes} x {type_}>, ptr {place}, align {dtype.size}")
        elif not index_wide and not column.startswith("%"):
            places = [
                sum(_digit(t, int(column) + lane) * t.stride for t in access.columns) for lane in range(self.lanes)
            ]
            name = self.load_places(pointer, places, dtype, mask)
        else:
            places = self.lanes_number(access.columns, column) if access.columns else "splat (i64 0)"
            if index_wide:
                assert load.index is not None
                places = self.add_indices(load, places, part)
            name = self.gather(pointer, places, dtype, mask)
        if dtype is DType.BOOL:
            name = self.text.let(f"icmp ne <{self.lanes} x i8> {name}, zeroinitializer")
        self.put(load.result, name, REGISTER[dtype], True, part)

    def repeated(self, load: Load, row: str, vectors: int) -> None:
        """The vectors of a load that repeats along the row, from its beginning on."""
        ((_, modulus, _),) = ((t.divisor, t.modulus or self.lanes, t.stride) for t in load.access.columns)
        with self.of(load):
            pointer = self.pointer(load.access, row)
            for part in range(vectors):
                places = [(part * self.lanes + lane) % modulus for lane in range(self.lanes)]
                name = self.load_places(pointer, places, load.dtype, None)
                if load.dtype is DType.BOOL:
                    name = self.text.let(f"icmp ne <{self.lanes} x i8> {name}, zeroinitializer")
                self.put(load.result, name, REGISTER[load.dtype], True, part)

    def load_places(self, pointer: str, places: Sequence[int], dtype: DType, mask: str | None) -> str:
        """Elements at known places: one load where they are neighbours."""
        if list(places) == list(range(places[0], places[0] + self.lanes)):
            place = self.text.pointer(pointer, str(places[0]), MEMORY[dtype])
            return self.text.let(f"load <{self.lanes} x {MEMORY[dtype]}>, ptr {place}, align {dtype.size}")
        return self.gather(pointer, f"<{', '.join(f'i64 {place}' for place in places)}>", dtype, mask)

    def add_indices(self, load: Load, places: str, part: int | None) -> str:
        assert load.index is not None
        register, text, type_ = self.get(load.index, part), self.text, f"<{self.lanes} x i64>"
        index = self.widened(register.name, register.type_, self.lanes)
        if load.index_extent:
            last = f"splat (i64 {load.index_extent - 1})"
            index = text.let(f"call {type_} @llvm.smax.v{self.lanes}i64({type_} {index}, {type_} zeroinitializer)")
            index = text.let(f"call {type_} @llvm.smin.v{self.lanes}i64({type_} {index}, {type_} {last})")
        if load.index_stride != 1:
            index = text.let(f"mul {type_} {index}, splat (i64 {load.index_stride})")
        return text.let(f"add {type_} {places}, {index}")

    def gather(self, pointer: str, places: str, dtype: DType, mask: str | None) -> str:
        text, type_, lanes = self.text, MEMORY[dtype], self.lanes
        pointers = text.let(f"getelementptr {type_}, ptr {pointer}, <{lanes} x i64> {places}")
        test = mask or "splat (i1 true)"
        suffix = f"v{lanes}{SUFFIX[type_]}.v{lanes}p0"
        return text.let(
            f"call <{lanes} x {type_}> @llvm.masked.gather.{suffix}(<{lanes} x ptr> align {dtype.size} {pointers}, "
            f"<{lanes} x i1> {test}, <{lanes} x {type_}> zeroinitializer)"
        )

    def vector_store(self, store: Store, row: str, column: str, mask: str | None, part: int | None) -> None:
        text, dtype, lanes = self.text, store.dtype, self.lanes
        type_, value = MEMORY[dtype], self.wide(store.value, part)
        if dtype is DType.BOOL:
            value = text.let(f"zext <{lanes} x i1> {value} to <{lanes} x i8>")
        pointer = self.stored_at(store, row)
        if store.access.columns in ((), (Term(1, None, 1),)):
            self.store_vector(store, value, text.pointer(pointer, column, type_), mask)
            return
        places = self.lanes_number(store.access.columns, column)
        pointers = text.let(f"getelementptr {type_}, ptr {pointer}, <{lanes} x i64> {places}")
        text.line(
            f"call void @llvm.masked.scatter.v{lanes}{SUFFIX[type_]}.v{lanes}p0(<{lanes} x {type_}> {value}, "
            f"<{lanes} x ptr> align {dtype.size} {pointers}, <{lanes} x i1> {mask or 'splat (i1 true)'})"
        )

    def store_vector(self, store: Store, value: str, place: str, mask: str | None) -> None:
        """Write neighbours in memory."""
        store_masked(self.text, self.machine, value, place, store.dtype, mask, self.lanes)

    def mask_below(self, column: str, stop: str) -> str:
        """True in the lanes whose column lies before `stop`."""
        if not column.startswith("%") and not stop.startswith("%"):
            bits = ", ".join(f"i1 {'true' if int(column) + k < int(stop) else 'false'}" for k in range(self.lanes))
            return f"<{bits}>"
        left = self.text.let(f"sub i64 {stop}, {column}")
        left = self.text.let(f"trunc i64 {self.text.minimum(left, str(self.lanes))} to i32")
        lanes = ", ".join(f"i32 {k}" for k in range(self.lanes))
        return self.text.let(f"icmp slt <{self.lanes} x i32> <{lanes}>, {self.text.splat(left, 'i32', self.lanes)}")

    # reductions

    def identity(self, reduce: Reduce) -> str:
        """The value that a fold starts from."""
        if reduce.combine is Combine.SUM:
            return literal(-0.0 if reduce.dtype.is_float else 0, reduce.dtype)
        if reduce.dtype.is_float:
            return literal(float("-inf") if reduce.combine is Combine.MAX else float("inf"), reduce.dtype)
        if reduce.dtype is DType.BOOL:
            return "false" if reduce.combine is Combine.MAX else "true"
        bits = 8 * reduce.dtype.size
        if reduce.dtype is DType.U8:
            return "0" if reduce.combine is Combine.MAX else "255"
        return str(-(2 ** (bits - 1)) if reduce.combine is Combine.MAX else 2 ** (bits - 1) - 1)

    @_located
    def combined(self, reduce: Reduce, left: str, right: str, lanes: int = LANES, factor: str = "") -> str:
        """Two parts of a fold joined, or with a `factor`, its product with `right` added to `left`."""
        if factor:
            type_ = f"<{lanes} x {REGISTER[reduce.dtype]}>"
            suffix = f"v{lanes}{SUFFIX[REGISTER[reduce.dtype]]}"
            return self.text.let(f"call {type_} @llvm.fma.{suffix}({type_} {right}, {type_} {factor}, {type_} {left})")
        if reduce.combine is Combine.SUM:
            type_ = REGISTER[reduce.dtype] if lanes == 1 else f"<{lanes} x {REGISTER[reduce.dtype]}>"
            return self.text.let(f"{'fadd' if reduce.dtype.is_float else 'add'} {type_} {left}, {right}")
        return extreme(
            self.text, "maximum" if reduce.combine is Combine.MAX else "minimum", left, right, reduce.dtype, lanes
        )

    @_located
    def masked(self, reduce: Reduce, value: str, mask: str) -> str:
        type_ = f"<{LANES} x {REGISTER[reduce.dtype]}>"
        identity = splat_of(REGISTER[reduce.dtype], self.identity(reduce))
        return self.text.let(f"select <{LANES} x i1> {mask}, {type_} {value}, {type_} {identity}")

    @_located
    def folded(self, reduce: Reduce, value: str) -> str:
        """All lanes into one scalar, by halves."""
        type_ = REGISTER[reduce.dtype]
        lanes = LANES
        while lanes > 1:
            half = lanes // 2
            parts: list[str] = []
            for first in (0, half):
                picks = ", ".join(f"i32 {first + k}" for k in range(half))
                source = f"<{lanes} x {type_}>"
                parts.append(
                    self.text.let(f"shufflevector {source} {value}, {source} poison, <{half} x i32> <{picks}>")
                )
            if half == 1:
                scalars = [self.text.let(f"extractelement <1 x {type_}> {p}, i64 0") for p in parts]
                return self.combined(reduce, scalars[0], scalars[1], 1)
            value = self.combined(reduce, parts[0], parts[1], half)
            lanes = half
        raise CompilerBug("emit", "a vector of one lane")

    # draws

    def draw(self, random: Random, place: str, lanes: int) -> str:
        """A number in [0, 1) for the element number `place`."""
        key = [k if lanes == 1 else self.text.splat(k, "i32", self.lanes) for k in self.stream_keys[id(random)]]
        word, _ = threefry(self.text, key, halves(self.text, place, lanes), lanes)
        return unit(self.text, word, DType.F32, lanes)

    @_located
    def stream_key(self, random: Random) -> tuple[str, str]:
        """The key of this draw's stream at this step."""
        text = self.text
        seed, step = (self.get(value).name for value in (random.seed, random.step))
        words = halves(text, seed, 1)
        low = text.let(f"trunc i64 {step} to i32")
        stream = text.let(f"trunc i64 {self.argument(StreamNumber(len(self.stream_keys)))} to i32")
        return threefry(text, words, (low, stream), 1)


def _digit(term: Term, index: int) -> int:
    return index // term.divisor if term.modulus is None else index // term.divisor % term.modulus
