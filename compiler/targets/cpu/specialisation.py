"""The specialisation of a kernel: which of its numbers are arguments of its code, and the key of kernels that share it.

Names, streams of draws, literals, extents, and where it costs no speed offsets, strides and divisors, are no part of
the code.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from compiler.errors.diagnostics import CompilerBug
from compiler.loops import ir as loops
from compiler.machine import Machine
from compiler.nest.arguments import (
    Argument,
    ColumnsNumber,
    ElementsNumber,
    ExtentNumber,
    FactorNumber,
    ItemsNumber,
    LiteralNumber,
    PlaceNumber,
    RowsNumber,
    ShiftNumber,
)
from compiler.support.numerics import LANES, LONG_SUM_COLUMNS
from compiler.support.record import record
from compiler.targets.cpu.iteration_space import (
    has_free_columns,
    is_row_blocked,
    moves_only,
    period,
    repeating_loads,
    row_block_of,
    transposed_rows,
)
from compiler.tuning import Tuning
from compiler.types import BatchExtent, DType, Extent, elements

PLAIN_NUMBERS = (0.0, 1.0, -1.0, 0.5, 2.0, float("inf"), float("-inf"))  # better known to the code than shared
FIXED = (0, 1)  # offsets, strides and divisors that are part of the code

Key: TypeAlias = tuple[object, ...]


@record
class Specialisation:
    """A kernel with those of its numbers that are arguments of its code.

    `literals` are the results of those literals that are. `numbers` are the offsets and the strides of rows that are,
    each once, in the order of the arguments; where `has_free_columns` holds, the divisors of rows too, and where it
    `moves_only`, the strides along the columns. The operands of a product that `is_in_pieces` begin at multiples of 16
    bytes. Kernels with equal keys have the same code.
    """

    kernel: loops.Kernel
    key: Key
    literals: frozenset[int] = frozenset()
    numbers: tuple[int, ...] = ()
    has_free_columns: bool = False
    moves_only: bool = False
    is_in_pieces: bool = False


def is_outer(term: loops.IndexTerm, kernel: loops.Kernel) -> bool:
    """Whether a term of rows in the body of a stage is the number of the outer block."""
    is_divided = isinstance(kernel, loops.ColumnKernel) and kernel.rows != 1 and term.divisor == kernel.rows
    return is_divided and term.modulus is None


def is_within_block(term: loops.IndexTerm, kernel: loops.Kernel) -> bool:
    """Whether a term of rows in the body of a stage is the number of the row within its outer block."""
    is_rest = isinstance(kernel, loops.ColumnKernel) and kernel.rows != 1 and term.modulus == kernel.rows
    return is_rest and term.divisor == 1


def divisors_of(what: Specialisation) -> set[int]:
    """The numbers above 1 by which the index of a row is divided, where they are arguments."""
    if not what.has_free_columns:
        return set()
    every = loops.instructions_of(what.kernel)
    terms = [t for i in every if isinstance(i, loops.Load | loops.Store) for t in i.access.rows]
    terms += [t for i in every if isinstance(i, loops.Position) for t in i.rows]
    return {number for t in terms for number in (t.divisor, t.modulus) if number is not None and number not in FIXED}


def rows_divided(what: Specialisation) -> int:
    """How many rows a kernel whose code divides their numbers by arguments has for each row of the batch."""
    match what.kernel:
        case loops.RowKernel(rows=BatchExtent() as rows) | loops.FlatKernel(elements=BatchExtent() as rows):
            pass
        case loops.ColumnKernel(outer=outer, rows=inner) if isinstance(elements((outer, inner)), BatchExtent):
            rows = elements((outer, inner))
        case _:
            return 0
    return rows.multiple if divisors_of(what) and isinstance(rows, BatchExtent) else 0


def factor_of(divisor: int) -> tuple[int, int]:
    """A factor and a shift: `index * factor >> shift` is `index // divisor` for 0 <= index < 2^31.

    With shift = 31 + ceil(log2(divisor)), the factor exceeds 2^shift / divisor by less than 2^(shift - 31) / divisor,
    and the product stays below 2^63 (Granlund and Montgomery 1994, theorem 4.2).
    """
    shift = 31 + (divisor - 1).bit_length()
    return -(-(1 << shift) // divisor), shift


def number_of(argument: Argument, what: Specialisation) -> Extent:
    """The number that code is given for an argument that is no address and no stream of draws."""
    match argument, what.kernel:
        case ExtentNumber(extent=extent), _:
            return extent
        case RowsNumber(), loops.ColumnKernel(rows=rows):
            return rows
        case ColumnsNumber(), loops.RowKernel(columns=columns) | loops.ColumnKernel(columns=columns):
            return columns
        case ElementsNumber(), loops.FlatKernel(elements=elements):
            return elements
        case ItemsNumber(), loops.RowKernel(rows=extent) | loops.FlatKernel(elements=extent):
            return extent
        case ItemsNumber(), loops.ColumnKernel(outer=outer):
            return outer
        case LiteralNumber(result=result), kernel:
            every = (i for i in loops.instructions_of(kernel) if isinstance(i, loops.Literal))
            return next(bits_of(literal) for literal in every if literal.result == result)
        case PlaceNumber(position=position), _:
            return what.numbers[position]
        case FactorNumber(position=position), _:
            return factor_of(what.numbers[position])[0]
        case ShiftNumber(position=position), _:
            return factor_of(what.numbers[position])[1]
        case _:
            raise CompilerBug("lower", f"the kernel has no {argument}")


def bits_of(literal: loops.Literal) -> int:
    """The bits of a float literal, as the number that an argument holds."""
    size, number = ("<d", "<q") if literal.dtype is DType.F64 else ("<f", "<i")
    with np.errstate(over="ignore"):
        value = float(np.float32(literal.value)) if literal.dtype is DType.F32 else float(literal.value)
    return int(struct.unpack(number, struct.pack(size, value))[0])


def specialisation(kernel: loops.Kernel, machine: Machine) -> Specialisation:
    """The specialisation of a kernel for a machine."""
    buffers = tuple(loops.BufferArgument("", b.dtype, b.is_scratch, b.elements) for b in kernel.buffers)
    if not isinstance(kernel, loops.StagedKernel):
        return Specialisation(kernel, (type(kernel), replace(kernel, name="", buffers=buffers)))
    fills = all(isinstance(i, loops.Store) for stage in kernel.stages for i in (*stage.body, *stage.after))
    literals = frozenset(
        i.result
        for i in kernel.prologue
        if isinstance(i, loops.Literal)
        and i.dtype in (DType.F32, DType.F64)
        and (fills or i.value not in PLAIN_NUMBERS)
    )
    found = _Numbering(kernel, literals, machine.tuning)
    stages = tuple(
        (tuple(found.instruction(i, in_body=True) for i in stage.body), tuple(map(found.instruction, stage.after)))
        for stage in kernel.stages
    )
    prologue = tuple(map(found.instruction, kernel.prologue))
    rows = found.number(transposed_rows(kernel)) if found.is_numbered else transposed_rows(kernel)
    key = (type(kernel), buffers, literals, prologue, stages, rows, _extents(kernel, machine))
    return Specialisation(kernel, key, literals, tuple(found.numbers), found.divides, found.only_moves)


class _Numbering:
    """Numbers the offsets, strides and divisors of a kernel; the key of an instruction has these in their place."""

    def __init__(self, kernel: loops.StagedKernel, literals: frozenset[int], tuning: Tuning) -> None:
        self.kernel, self.literals = kernel, literals
        self.numbers: dict[int, int] = {}
        # Flat kernels are all alike without their numbers being arguments.
        is_over_rows = isinstance(kernel, loops.RowKernel | loops.ColumnKernel)
        self.is_numbered = is_over_rows and not is_row_blocked(kernel, tuning)
        self.divides, self.only_moves = has_free_columns(kernel, tuning), moves_only(kernel, tuning)

    def instruction(self, i: loops.Instruction, in_body: bool = False) -> object:
        match i:
            case loops.Random():
                return replace(i, stream=0)
            case loops.Literal(result=result) if result in self.literals:
                return replace(i, value=0.0)
            case loops.Load():
                access = self.access(i.access, in_body)
                return loops.Load, i.result, access, i.dtype, i.space, i.index, i.index_stride, i.index_extent, i.edges
            case loops.Store():
                access, is_checked = self.access(i.access, in_body), i.check is not None
                return type(i), access, i.value, i.dtype, i.space, is_checked, i.index, i.index_stride, i.index_extent
            case loops.Position() if self.is_numbered:
                return i.result, self.number(i.offset), self.rows(i.rows, in_body), i.columns, i.dtype, i.space
            case _:
                return i

    def access(self, access: loops.Access, in_body: bool) -> object:
        if not self.is_numbered:
            return access
        columns: Key = access.columns
        if self.only_moves:
            columns = tuple((t.divisor, t.modulus, self.number(t.stride)) for t in access.columns)
        return access.buffer, self.number(access.offset), self.rows(access.rows, in_body), columns

    def rows(self, terms: tuple[loops.IndexTerm, ...], in_body: bool) -> Key:
        return tuple((*self.digit(term, in_body), self.number(term.stride)) for term in terms)

    def digit(self, term: loops.IndexTerm, in_body: bool) -> Key:
        if self.divides:
            return self.number(term.divisor), None if term.modulus is None else self.number(term.modulus)
        if in_body and is_outer(term, self.kernel):
            return "outer", None
        if in_body and is_within_block(term, self.kernel):
            return "row", None
        return term.divisor, term.modulus

    def number(self, value: int) -> Key:
        """The value itself, or which argument it is."""
        return ("value", value) if value in FIXED else ("argument", self.numbers.setdefault(value, len(self.numbers)))


def _extents(kernel: loops.StagedKernel, machine: Machine) -> Key:
    """The properties of its extents, and of the blocks of rows that they allow, that the code of a kernel has."""
    match kernel:
        case loops.ContractionKernel(contraction=contraction):
            return (contraction,)
        case loops.FlatKernel(columns=columns):
            return (columns,)
        case loops.RowKernel(columns=columns):
            block = row_block_of(kernel, machine.tuning, machine.registers)
            if not has_free_columns(kernel, machine.tuning):
                return block, columns
            assert isinstance(columns, int)
            is_long = columns >= LONG_SUM_COLUMNS and any(
                isinstance(i, loops.Reduce) for i in loops.instructions_of(kernel)
            )
            repeating = repeating_loads(kernel)
            return block, period(repeating) if repeating else (is_long, columns % LANES > 0)
        case loops.ColumnKernel(rows=rows, columns=columns):
            block = row_block_of(kernel, machine.tuning, machine.registers)
            if block.rows > 1:
                return block, rows, columns
            assert isinstance(columns, int)
            return block, (columns % LANES > 0,) if columns > LANES else columns
