"""What all walks share: arguments, addresses, loads, stores, draws and lane reductions, as LLVM text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import wraps
from typing import Concatenate, ParamSpec, TypeAlias, TypeVar

from compiler.diagnostics import CompilerBug
from compiler.loops.ir import (
    Access,
    BatchCount,
    Combine,
    Compute,
    Instruction,
    Kernel,
    Literal,
    Load,
    Position,
    Random,
    Reduce,
    Statement,
    Store,
    Term,
)
from compiler.record import record
from compiler.targets.cpu.emit_compute import cast, compute, extreme
from compiler.targets.cpu.identity import ROWS, divisors_of, number_of
from compiler.targets.cpu.locations import FRAME, FUNCTION, location_nodes
from compiler.targets.cpu.machine import Machine
from compiler.targets.cpu.text import LANES, MEMORY, REGISTER, SUFFIX, Text, literal, splat_of
from compiler.targets.cpu.threefry import halves, threefry, unit
from compiler.targets.cpu.walks import has_free_columns, moves_only
from compiler.targets.cpu.watches import Watches, watched_stores
from compiler.types import BatchExtent, DType, Extent

IOTA = f"<{', '.join(f'i64 {k}' for k in range(LANES))}>"
_BATCH = BatchExtent(1)


@record
class BufferPointer:
    """The address of the instance's buffer number `position`."""

    position: int


@record
class ExtentNumber:
    extent: Extent


@record
class StreamNumber:
    """The stream of a random draw; it differs between instances of one kernel."""

    position: int


@record
class FlagPointer:
    """The byte that reports a NaN or Inf in watched store number `position`."""

    position: int


@record
class SharedPointer:
    """The block in which one kernel leaves packed panels for the next, for all threads."""


@record
class LiteralNumber:
    """The literal that is value number `result`: it differs between instances of one kernel."""

    result: int


@record
class TotalNumber:
    """The number of elements of a walk over rows whose last row is short."""


@record
class RowsNumber:
    """The rows of each block of a walk over columns."""


@record
class ColumnsNumber:
    """The columns of a walk whose code does not depend on their number."""


@record
class PlaceNumber:
    """An offset or a stride: number `position` of those that the code does not depend on."""

    position: int


@record
class FactorNumber:
    """What to multiply with, and then shift by `ShiftNumber`, for a division by number `position`: see `factor_of`."""

    position: int


@record
class ShiftNumber:
    """The bits to shift by in a division by number `position`."""

    position: int


Argument: TypeAlias = (
    BufferPointer
    | SharedPointer
    | FlagPointer
    | ExtentNumber
    | RowsNumber
    | ColumnsNumber
    | TotalNumber
    | PlaceNumber
    | FactorNumber
    | ShiftNumber
    | LiteralNumber
    | StreamNumber
)


@record
class Items:
    """`ceil(extent / chunk) * factor` items."""

    extent: Extent
    chunk: int = 1
    factor: int = 1


@record
class KernelCode:
    """A module with the function `@KERNEL(ptr args, i64 begin, i64 end, ptr scratch)`, and what its arguments are."""

    text: str
    arguments: tuple[Argument, ...]
    items: Items
    scratch_bytes: int
    scratch_batch_bytes: int
    before: KernelCode | None = None  # runs first, with a barrier between
    shared_bytes: int = 0
    lasts: bool = False  # `before` need not run again while the tensors stay as they are


@record
class Register:
    """An SSA value: `wide` has LANES lanes."""

    name: str
    type_: str
    wide: bool


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
class KernelText:
    """One kernel in the making. `lines` says where its statements stand in the printed loops (`statement_lines`)."""

    kernel: Kernel
    machine: Machine
    lines: Mapping[int, int]
    free_literals: frozenset[int] = frozenset()
    free_numbers: int = 0  # offsets and strides that are arguments
    passing: frozenset[int] = frozenset()  # buffers that are stored to past the caches
    text: Text = field(default_factory=Text)
    arguments: list[Argument] = field(default_factory=list[Argument])
    slots: dict[Argument, str] = field(default_factory=dict[Argument, str])
    bases: dict[int, str] = field(default_factory=dict[int, str])
    registers: dict[object, Register] = field(default_factory=dict[object, Register])
    splats: dict[str, str] = field(default_factory=dict[str, str])
    row_pointers: dict[tuple[object, ...], str] = field(default_factory=dict[tuple[object, ...], str])
    watches: Watches = field(init=False)
    digits: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])  # of a row: outer, in it
    stream_keys: dict[int, tuple[str, str]] = field(default_factory=dict[int, tuple[str, str]])
    scratch_bytes: int = 0
    scratch_batch_bytes: int = 0

    def __post_init__(self) -> None:
        self.text.locate(FRAME)
        self.watches = Watches(self.text)

    def of(self, statement: Statement) -> AbstractContextManager[None]:
        """Within, instructions belong to a statement of the kernel; those of a literal to none."""
        return self.text.at(self.lines.get(id(statement), FRAME))

    # frame

    def argument(self, what: Argument, type_: str = "i64") -> str:
        """The value of an argument, loaded once at the entry."""
        if what not in self.slots:
            place = self.text.let(f"getelementptr i64, ptr %args, i64 {len(self.arguments)}", "a")
            self.slots[what] = self.text.let(f"load {type_}, ptr {place}, align 8", "a")
            self.arguments.append(what)
        return self.slots[what]

    def extent(self, extent: Extent) -> str:
        """An extent as an i64: a constant, or an argument where it depends on the batch."""
        return str(extent) if isinstance(extent, int) else self.argument(ExtentNumber(extent))

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

    def reserve(self, position: int, size: int) -> None:
        self.bases[position] = self.text.let(f"getelementptr i8, ptr %scratch, i64 {self.scratch_bytes}", "p")
        self.scratch_bytes += -(-(size + 64) // 64) * 64

    def close(self, items: Items) -> KernelCode:
        """End the function."""
        self.text.line("ret void")
        bits = self.machine.vector_bits
        attributes = f'nounwind "prefer-vector-width"="{bits}" "min-legal-vector-width"="{bits}"'
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

    # registers

    def get(self, value: int, part: int | None = None) -> Register:
        """The register of a value; `part` numbers the vectors of an unrolled row."""
        found = self.registers.get((value, part)) if part is not None else None
        return found or self.registers[value]

    def wide(self, value: int, part: int | None = None) -> str:
        """The value in each lane."""
        register = self.get(value, part)
        if register.wide:
            return register.name
        if not register.name.startswith("%"):
            return splat_of(register.type_, register.name)
        return self.splats[register.name]

    def put(self, value: int, name: str, type_: str, wide: bool, part: int | None = None) -> None:
        self.registers[value if part is None else (value, part)] = Register(name, type_, wide)
        if not wide and name.startswith("%") and name not in self.splats:
            # Here, where every use is reached; the code of an unused one vanishes.
            self.splats[name] = self.text.splat(name, type_)

    # addresses

    def place_number(self, code: int) -> str:
        """An offset, or the stride of a term of rows."""
        position = number_of(code) if self.free_numbers else None
        return str(code) if position is None else self.argument(PlaceNumber(position))

    def number(self, terms: Sequence[Term], index: str) -> str:
        """The sum of terms of a scalar index."""
        total = "0"
        for term in terms:
            product = self.text.mul(self.digit(term, index), self.place_number(term.stride))
            total = product if total == "0" else self.text.add(total, product)
        return total

    def digit(self, term: Term, index: str) -> str:
        """What a term takes of an index, without its stride."""
        if term.divisor == ROWS:
            return self.digits[index][0]
        if term.modulus == ROWS:
            return self.digits[index][1]
        digit = self.quotient(index, term.divisor)
        if term.modulus is None:
            return digit
        if not has_free_columns(self.kernel):
            return self.text.let(f"urem i64 {digit}, {term.modulus}")
        whole = self.text.mul(self.quotient(digit, term.modulus), self.place_number(term.modulus))
        return self.text.let(f"sub i64 {digit}, {whole}")

    def quotient(self, index: str, divisor: int) -> str:
        """The index of a row divided; by an argument, that is a multiplication and a shift."""
        if divisor == 1:
            return index
        position = number_of(divisor) if has_free_columns(self.kernel) else None
        if position is None:
            return self.text.let(f"udiv i64 {index}, {divisor}")
        product = self.text.mul(index, self.argument(FactorNumber(position)))
        return self.text.let(f"lshr i64 {product}, {self.argument(ShiftNumber(position))}")

    def lanes_number(self, terms: Sequence[Term], column: str) -> str:
        """The sum of terms of the column, in each lane (i64)."""
        type_ = f"<{LANES} x i64>"
        base = f"splat (i64 {column})" if not column.startswith("%") else self.text.splat(column, "i64")
        lanes = self.text.let(f"add {type_} {base}, {IOTA}")
        total = ""
        for term in terms:
            digit = lanes
            if term.divisor != 1:
                digit = self.text.let(f"udiv {type_} {digit}, splat (i64 {term.divisor})")
            if term.modulus is not None:
                digit = self.text.let(f"urem {type_} {digit}, splat (i64 {term.modulus})")
            if term.stride != 1:
                stride = f"splat (i64 {term.stride})"
                if moves_only(self.kernel):
                    stride = self.splats[self.place_number(term.stride)]
                digit = self.text.let(f"mul {type_} {digit}, {stride}")
            total = digit if not total else self.text.let(f"add {type_} {total}, {digit}")
        return total or "splat (i64 0)"

    def pointer(self, access: Access, row: str) -> str:
        """The address of the row's column 0, remembered until `new_row`."""
        key = (access.buffer, access.offset, access.rows)
        if key not in self.row_pointers:
            start = self.text.add(self.number(access.rows, row), self.place_number(access.offset))
            type_ = MEMORY[self.kernel.buffers[access.buffer].dtype]
            self.row_pointers[key] = self.text.pointer(self.bases[access.buffer], start, type_)
        return self.row_pointers[key]

    def inside(self, load: Load, row: str) -> str:
        """Whether a row lies within all edges of a load, remembered until `new_row`."""
        key = ("edges", load.edges)
        if key not in self.row_pointers:
            tests: list[str] = []
            for edge in load.edges:
                place = self.row_pointers.get(("digit", edge.term)) or self.digit(edge.term, row)
                self.row_pointers["digit", edge.term] = place
                place = self.text.mul(place, edge.term.stride)
                shifted = self.text.let(f"add i64 {place}, {edge.offset}")
                tests.append(self.text.let(f"icmp ult i64 {shifted}, {edge.extent}"))  # what is negative is large
            for test in tests[1:]:
                tests[0] = self.text.let(f"and i1 {tests[0]}, {test}")
            self.row_pointers[key] = tests[0]
        return self.row_pointers[key]

    def new_row(self, row: str, instructions: Sequence[Instruction]) -> None:
        """Compute the addresses that depend on the row, before the loops that use them."""
        self.row_pointers = {}
        for instruction in instructions:
            if isinstance(instruction, Load | Store):
                with self.of(instruction):
                    self.pointer(instruction.access, row)
                    if isinstance(instruction, Load) and instruction.edges:
                        self.inside(instruction, row)

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
        """A FULL instruction (or a COLUMN one, in a walk over columns) for the LANES columns from `column`."""
        text = self.text
        match instruction:
            case Load():
                self.vector_load(instruction, row, column, mask, part)
            case Position(result=result, offset=offset, rows=rows, columns=columns, dtype=dtype):
                lanes = self.lanes_number(columns, column)
                base = text.add(self.number(rows, row), self.place_number(offset))
                if base != "0":
                    shift = f"splat (i64 {base})" if not base.startswith("%") else text.splat(base, "i64")
                    lanes = text.let(f"add <{LANES} x i64> {lanes}, {shift}")
                self.put(result, cast(text, lanes, DType.I64, dtype, LANES), REGISTER[dtype], True, part)
            case Compute(result=result, dtype=dtype):
                operands = [self.wide(o, part) for o in instruction.operands]
                name = compute(text, self.machine, instruction.op, operands, instruction.operand_dtypes, dtype, LANES)
                self.put(result, name, REGISTER[dtype], True, part)
            case Random(result=result):
                place = self.wide(instruction.position, part)
                self.put(result, self.draw(instruction, place, LANES), "float", True, part)
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
            found = self.text.let(f"load <{LANES} x {type_}>, ptr {place}, align {dtype.size}")
            zero = f"<{LANES} x {type_}> zeroinitializer"
            name = self.text.let(f"select i1 {inside}, <{LANES} x {type_}> {found}, {zero}")
            self.put(load.result, name, REGISTER[dtype], True, part)
            return
        index_wide = load.index is not None and self.get(load.index, part).wide
        if load.index is not None and not index_wide:
            pointer = self.indexed(load, pointer)
        if not access.columns and not index_wide:
            self.put(
                load.result,
                self.text.splat(self.load_scalar(pointer, dtype), REGISTER[dtype]),
                REGISTER[dtype],
                True,
                part,
            )
            return
        if access.columns == (Term(1, None, 1),) and not index_wide:
            place = self.text.pointer(pointer, column, type_)
            name = self.text.let(f"load <{LANES} x {type_}>, ptr {place}, align {dtype.size}")
        elif not index_wide and not column.startswith("%"):
            places = [sum(_digit(t, int(column) + lane) * t.stride for t in access.columns) for lane in range(LANES)]
            name = self.load_places(pointer, places, dtype, mask)
        else:
            places = self.lanes_number(access.columns, column) if access.columns else "splat (i64 0)"
            if index_wide:
                assert load.index is not None
                places = self.add_indices(load, places, part)
            name = self.gather(pointer, places, dtype, mask)
        if dtype is DType.BOOL:
            name = self.text.let(f"icmp ne <{LANES} x i8> {name}, zeroinitializer")
        self.put(load.result, name, REGISTER[dtype], True, part)

    def repeated(self, load: Load, row: str, vectors: int) -> None:
        """The vectors of a load that repeats along the row, from its beginning on."""
        ((_, modulus, _),) = ((t.divisor, t.modulus or LANES, t.stride) for t in load.access.columns)
        with self.of(load):
            pointer = self.pointer(load.access, row)
            for part in range(vectors):
                places = [(part * LANES + lane) % modulus for lane in range(LANES)]
                name = self.load_places(pointer, places, load.dtype, None)
                if load.dtype is DType.BOOL:
                    name = self.text.let(f"icmp ne <{LANES} x i8> {name}, zeroinitializer")
                self.put(load.result, name, REGISTER[load.dtype], True, part)

    def load_places(self, pointer: str, places: Sequence[int], dtype: DType, mask: str | None) -> str:
        """Elements at known places: one load where they are neighbours."""
        if list(places) == list(range(places[0], places[0] + LANES)):
            place = self.text.pointer(pointer, str(places[0]), MEMORY[dtype])
            return self.text.let(f"load <{LANES} x {MEMORY[dtype]}>, ptr {place}, align {dtype.size}")
        return self.gather(pointer, f"<{', '.join(f'i64 {place}' for place in places)}>", dtype, mask)

    def add_indices(self, load: Load, places: str, part: int | None) -> str:
        assert load.index is not None
        register, text, type_ = self.get(load.index, part), self.text, f"<{LANES} x i64>"
        index = self.widened(register.name, register.type_, LANES)
        if load.index_extent:
            last = f"splat (i64 {load.index_extent - 1})"
            index = text.let(f"call {type_} @llvm.smax.v{LANES}i64({type_} {index}, {type_} zeroinitializer)")
            index = text.let(f"call {type_} @llvm.smin.v{LANES}i64({type_} {index}, {type_} {last})")
        if load.index_stride != 1:
            index = text.let(f"mul {type_} {index}, splat (i64 {load.index_stride})")
        return text.let(f"add {type_} {places}, {index}")

    def gather(self, pointer: str, places: str, dtype: DType, mask: str | None) -> str:
        text, type_ = self.text, MEMORY[dtype]
        pointers = text.let(f"getelementptr {type_}, ptr {pointer}, <{LANES} x i64> {places}")
        test = mask or "splat (i1 true)"
        suffix = f"v{LANES}{SUFFIX[type_]}.v{LANES}p0"
        return text.let(
            f"call <{LANES} x {type_}> @llvm.masked.gather.{suffix}(<{LANES} x ptr> align {dtype.size} {pointers}, "
            f"<{LANES} x i1> {test}, <{LANES} x {type_}> zeroinitializer)"
        )

    def vector_store(self, store: Store, row: str, column: str, mask: str | None, part: int | None) -> None:
        text, dtype = self.text, store.dtype
        type_, value = MEMORY[dtype], self.wide(store.value, part)
        if dtype is DType.BOOL:
            value = text.let(f"zext <{LANES} x i1> {value} to <{LANES} x i8>")
        pointer = self.stored_at(store, row)
        if store.access.columns in ((), (Term(1, None, 1),)):
            place = text.pointer(pointer, column, type_)
            if mask is None:
                text.line(f"store <{LANES} x {type_}> {value}, ptr {place}, align {dtype.size}")
            else:
                text.line(
                    f"call void @llvm.masked.store.v{LANES}{SUFFIX[type_]}.p0(<{LANES} x {type_}> {value}, "
                    f"ptr align {dtype.size} {place}, <{LANES} x i1> {mask})"
                )
            return
        places = self.lanes_number(store.access.columns, column)
        pointers = text.let(f"getelementptr {type_}, ptr {pointer}, <{LANES} x i64> {places}")
        text.line(
            f"call void @llvm.masked.scatter.v{LANES}{SUFFIX[type_]}.v{LANES}p0(<{LANES} x {type_}> {value}, "
            f"<{LANES} x ptr> align {dtype.size} {pointers}, <{LANES} x i1> {mask or 'splat (i1 true)'})"
        )

    def mask_below(self, column: str, stop: str) -> str:
        """True in the lanes whose column lies before `stop`."""
        if not column.startswith("%") and not stop.startswith("%"):
            bits = ", ".join(f"i1 {'true' if int(column) + k < int(stop) else 'false'}" for k in range(LANES))
            return f"<{bits}>"
        left = self.text.let(f"sub i64 {stop}, {column}")
        left = self.text.let(f"trunc i64 {self.text.minimum(left, str(LANES))} to i32")
        lanes = ", ".join(f"i32 {k}" for k in range(LANES))
        return self.text.let(f"icmp slt <{LANES} x i32> <{lanes}>, {self.text.splat(left, 'i32')}")

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
        key = [k if lanes == 1 else self.text.splat(k, "i32") for k in self.stream_keys[id(random)]]
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
