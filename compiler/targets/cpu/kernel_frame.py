"""The frame of a kernel's instructions: arguments, values, and the addresses of rows, as statements of a nest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field

from compiler.loops import ir as loops
from compiler.loops.printer import FRAME
from compiler.nest import ir
from compiler.nest.arguments import Argument, ExtentNumber, FactorNumber, PlaceNumber, ShiftNumber
from compiler.nest.builder import AtLine, Builder
from compiler.nest.ir import Index, Operand, Value, vector
from compiler.support.numerics import LANES
from compiler.support.record import mutable_record
from compiler.targets.cpu.specialisation import FIXED, Specialisation, is_outer, is_within_block
from compiler.types import DType, Extent


@mutable_record
class KernelFrame:
    """The frame of one kernel. `lines` says where its statements stand in the printed loops (`statement_lines`)."""

    what: Specialisation
    lines: Mapping[int, int]
    lanes: int = LANES  # of its vectors
    nest: Builder = field(default_factory=Builder)
    arguments: list[Argument] = field(default_factory=list[Argument])
    slots: dict[Argument, Value] = field(default_factory=dict[Argument, Value])
    bases: dict[int, Value] = field(default_factory=dict[int, Value])
    values: dict[object, Operand] = field(default_factory=dict[object, Operand])
    splats: dict[Operand, Value] = field(default_factory=dict[Operand, Value])
    row_pointers: dict[tuple[object, ...], Value] = field(default_factory=dict[tuple[object, ...], Value])
    row_digits: dict[loops.IndexTerm, Index] = field(default_factory=dict[loops.IndexTerm, Index])
    digits: dict[Operand, tuple[Index, Index]] = field(  # of a row: outer, in it
        default_factory=dict[Operand, tuple[Index, Index]]
    )
    scratch_bytes: int = 0
    scratch_batch_bytes: int = 0
    kernel: loops.Kernel = field(init=False)

    def __post_init__(self) -> None:
        self.kernel = self.what.kernel

    def of(self, statement: loops.Statement) -> AtLine:
        """Within, what is built does the work of a statement of the kernel; a literal's is nobody's."""
        return self.nest.at(self.lines.get(id(statement), FRAME))

    # frame

    @property
    def stages(self) -> tuple[loops.Stage, ...]:
        """The stages of the kernel, where it has any."""
        return self.kernel.stages if isinstance(self.kernel, loops.StagedKernel) else ()

    def argument(self, what: Argument, type_: ir.Type = ir.INDEX) -> Value:
        """The value of an argument, loaded once at the entry."""
        found = self.slots.get(what)
        if found is None:
            found = self.slots[what] = self.nest.given(len(self.arguments), type_)
            self.arguments.append(what)
        return found

    def extent(self, extent: Extent) -> Index:
        """An extent as an index: a constant, or an argument where it depends on the batch."""
        return extent if isinstance(extent, int) else self.argument(ExtentNumber(extent))

    def reserve(self, position: int, size: int) -> None:
        self.bases[position] = self.nest.scratch(self.scratch_bytes, size)
        self.scratch_bytes += -(-(size + 64) // 64) * 64

    # values

    def get(self, value: int, part: int | None = None) -> Operand:
        """A value of the kernel; `part` numbers the vectors of an unrolled row."""
        found = self.values.get((value, part)) if part is not None else None
        return self.values[value] if found is None else found

    def wide(self, value: int, part: int | None = None) -> Operand:
        """The value in each lane."""
        found = self.get(value, part)
        if isinstance(found, Value):
            return found if found.type.lanes > 1 else self.splats[found]
        return ir.Constant(vector(ir.dtype_of(found), self.lanes), found if isinstance(found, int) else _number(found))

    def put(self, value: int, found: Operand, part: int | None = None) -> None:
        self.values[value if part is None else (value, part)] = found
        if isinstance(found, Value) and found.type.lanes == 1 and found not in self.splats:
            # Here, where every use is reached; the code of an unused one vanishes.
            self.splats[found] = self.nest.splat(found, self.lanes)

    # addresses

    def place_number(self, number: int) -> Index:
        """An offset, or the stride of a term of rows."""
        if number in FIXED or not self.what.numbers:
            return number
        return self.argument(PlaceNumber(self.what.numbers.index(number)))

    def number(self, terms: Sequence[loops.IndexTerm], index: Index) -> Index:
        """The sum of terms of a scalar index."""
        total: Index = 0
        for term in terms:
            product = self.nest.mul(self.digit(term, index), self.place_number(term.stride))
            total = product if total == 0 else self.nest.add(total, product)
        return total

    def digit(self, term: loops.IndexTerm, index: Index) -> Index:
        """The digit that a term takes of an index, without its stride."""
        if index in self.digits and is_outer(term, self.kernel):
            return self.digits[index][0]
        if index in self.digits and is_within_block(term, self.kernel):
            return self.digits[index][1]
        digit = self.quotient(index, term.divisor)
        if term.modulus is None:
            return digit
        if not self.what.has_free_columns:
            return self.nest.binary("rem", digit, term.modulus)
        whole = self.nest.mul(self.quotient(digit, term.modulus), self.place_number(term.modulus))
        return self.nest.sub(digit, whole)

    def quotient(self, index: Index, divisor: int) -> Index:
        """The index of a row divided; by an argument, that is a multiplication and a shift."""
        if divisor == 1:
            return index
        if not self.what.has_free_columns:
            return self.nest.binary("div", index, divisor)
        position = self.what.numbers.index(divisor)
        product = self.nest.mul(index, self.argument(FactorNumber(position)))
        return self.nest.binary("shift", product, self.argument(ShiftNumber(position)))

    def lanes_number(self, terms: Sequence[loops.IndexTerm], column: Index) -> Operand:
        """The sum of terms of the column, in each lane (i64)."""
        nest, type_ = self.nest, vector(DType.I64, self.lanes)
        base = self.indices(column) if isinstance(column, int) else nest.splat(column, self.lanes)
        lanes = nest.binary("add", base, ir.Constant(type_, tuple(range(self.lanes))), type_)
        total: Operand | None = None
        for term in terms:
            digit = lanes
            if term.divisor != 1:
                digit = nest.binary("div", digit, self.indices(term.divisor), type_)
            if term.modulus is not None:
                digit = nest.binary("rem", digit, self.indices(term.modulus), type_)
            if term.stride != 1:
                is_free = self.what.moves_only
                stride = self.splats[self.place_number(term.stride)] if is_free else self.indices(term.stride)
                digit = nest.binary("mul", digit, stride, type_)
            total = digit if total is None else nest.binary("add", total, digit, type_)
        return self.indices(0) if total is None else total

    def indices(self, number: int) -> ir.Constant:
        """The same index in every lane."""
        return ir.Constant(vector(DType.I64, self.lanes), number)

    def pointer(self, access: loops.Access, row: Index) -> Value:
        """The address of the row's column 0, remembered until `new_row`."""
        key = (access.buffer, access.offset, access.rows)
        found = self.row_pointers.get(key)
        if found is None:
            start = self.nest.add(self.number(access.rows, row), self.place_number(access.offset))
            dtype = in_memory(self.kernel.buffers[access.buffer].dtype)
            found = self.row_pointers[key] = self.nest.pointer(self.bases[access.buffer], start, dtype)
        return found

    def inside(self, load: loops.Load, row: Index) -> Value:
        """Whether a row lies within all edges of a load, remembered until `new_row`."""
        key = ("edges", load.edges)
        if key not in self.row_pointers:
            tests: list[Value] = []
            for edge in load.edges:
                place: Index = edge.offset
                for term in edge.terms:
                    if term not in self.row_digits:
                        self.row_digits[term] = self.digit(term, row)
                    place = self.nest.add(place, self.nest.mul(self.row_digits[term], term.stride))
                tests.append(self.nest.compare("below", place, edge.extent))  # what is negative is large
            for test in tests[1:]:
                tests[0] = self.nest.binary("and", tests[0], test, ir.TRUTH)
            self.row_pointers[key] = tests[0]
        return self.row_pointers[key]

    def new_row(self, row: Index, instructions: Sequence[loops.Instruction]) -> None:
        """Compute the addresses that depend on the row, before the loops that use them."""
        self.row_pointers, self.row_digits = {}, {}
        for instruction in instructions:
            if isinstance(instruction, loops.Load | loops.Store):
                with self.of(instruction):
                    self.pointer(instruction.access, row)
                    if isinstance(instruction, loops.Load) and instruction.edges:
                        self.inside(instruction, row)


def in_memory(dtype: DType) -> DType:
    """The type that an element has in memory: a truth is a byte."""
    return DType.U8 if dtype is DType.BOOL else dtype


def _number(operand: Operand) -> float | int | bool:
    assert isinstance(operand, ir.Constant)
    assert isinstance(operand.value, float | int)
    return operand.value
