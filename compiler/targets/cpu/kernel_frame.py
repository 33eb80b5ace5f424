"""The frame of a kernel's instructions: arguments, registers, and the addresses of rows, as LLVM text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from compiler.loops.ir import Access, Instruction, Kernel, Load, Statement, Store, Term
from compiler.machine import Machine
from compiler.record import record
from compiler.targets.cpu.identity import ROWS, number_of
from compiler.targets.cpu.kernel_code import Argument, ExtentNumber, FactorNumber, PlaceNumber, ShiftNumber
from compiler.targets.cpu.text import LANES, MEMORY, Text, splat_of
from compiler.targets.cpu.walks import has_free_columns, moves_only
from compiler.targets.llvm.locations import FRAME
from compiler.types import Extent


@record
class Register:
    """An SSA value: `wide` has as many lanes as the vectors of its kernel."""

    name: str
    type_: str
    wide: bool


@dataclass(slots=True)
class KernelFrame:
    """The frame of one kernel. `lines` says where its statements stand in the printed loops (`statement_lines`)."""

    kernel: Kernel
    machine: Machine
    lines: Mapping[int, int]
    free_literals: frozenset[int] = frozenset()
    free_numbers: int = 0  # offsets and strides that are arguments
    passing: frozenset[int] = frozenset()  # buffers that are stored to past the caches
    lanes: int = LANES  # of its vectors
    text: Text = field(default_factory=Text)
    arguments: list[Argument] = field(default_factory=list[Argument])
    slots: dict[Argument, str] = field(default_factory=dict[Argument, str])
    bases: dict[int, str] = field(default_factory=dict[int, str])
    registers: dict[object, Register] = field(default_factory=dict[object, Register])
    splats: dict[str, str] = field(default_factory=dict[str, str])
    row_pointers: dict[tuple[object, ...], str] = field(default_factory=dict[tuple[object, ...], str])
    digits: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])  # of a row: outer, in it
    scratch_bytes: int = 0
    scratch_batch_bytes: int = 0

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

    def reserve(self, position: int, size: int) -> None:
        self.bases[position] = self.text.let(f"getelementptr i8, ptr %scratch, i64 {self.scratch_bytes}", "p")
        self.scratch_bytes += -(-(size + 64) // 64) * 64

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
            return splat_of(register.type_, register.name, self.lanes)
        return self.splats[register.name]

    def put(self, value: int, name: str, type_: str, wide: bool, part: int | None = None) -> None:
        self.registers[value if part is None else (value, part)] = Register(name, type_, wide)
        if not wide and name.startswith("%") and name not in self.splats:
            # Here, where every use is reached; the code of an unused one vanishes.
            self.splats[name] = self.text.splat(name, type_, self.lanes)

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
        type_, places = f"<{self.lanes} x i64>", ", ".join(f"i64 {k}" for k in range(self.lanes))
        base = f"splat (i64 {column})" if not column.startswith("%") else self.text.splat(column, "i64", self.lanes)
        lanes = self.text.let(f"add {type_} {base}, <{places}>")
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
                place = str(edge.offset)
                for term in edge.terms:
                    key_of_digit = ("digit", term)
                    if key_of_digit not in self.row_pointers:
                        self.row_pointers[key_of_digit] = self.digit(term, row)
                    place = self.text.add(place, self.text.mul(self.row_pointers[key_of_digit], term.stride))
                tests.append(self.text.let(f"icmp ult i64 {place}, {edge.extent}"))  # what is negative is large
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
