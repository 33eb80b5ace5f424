"""The properties of a kernel on which its code depends, without names, streams, literals and most numbers.

Two instances whose kernels have equal identities are one function; what was left out becomes its arguments.
"""

from __future__ import annotations

from dataclasses import replace

from compiler.loops.ir import (
    REGISTER_COLUMNS,
    Access,
    BufferArgument,
    ColumnKernel,
    Compute,
    FlatKernel,
    Instruction,
    Kernel,
    Literal,
    Load,
    Position,
    Random,
    Reduce,
    RowKernel,
    Stage,
    StagedKernel,
    Store,
    Term,
    instructions_of,
)
from compiler.record import record
from compiler.targets.cpu.text import LANES
from compiler.targets.cpu.walks import (
    Block,
    block_of,
    has_free_columns,
    is_together,
    moves_only,
    period,
    repeating_loads,
    transposed_rows,
)
from compiler.types import BatchExtent, Extent

PLAIN_NUMBERS = (0.0, 1.0, -1.0, 0.5, 2.0, float("inf"), float("-inf"))  # better known to the code than shared
LONG = 256  # columns from which a row has several accumulators
ROWS = -1  # in a term: as many as the kernel's rows


@record
class Identity:
    """A kernel as its code knows it. `literals` are the results of those that are arguments.

    Where it `is_numbered`, offsets and what stands in terms of rows are no numbers but say which of `numbers` is meant,
    except that 0 and 1 are themselves: see `number_of`. Divisors are numbers still where `has_free_columns` does not
    hold; strides along the columns are none where it `moves_only`. `line` says in the same way how many are the
    `transposed_rows`.
    """

    kernel: Kernel
    literals: frozenset[int]
    numbers: tuple[int, ...]
    line: int = 0


def number_of(code: int) -> int | None:
    """The number of the argument that an offset or stride of a numbered kernel stands for; None for 0 and 1."""
    return None if code in (0, 1) else code - 2


def divisors_of(kernel: Kernel) -> set[int]:
    """Which of the numbers the index of a row is divided by."""
    if not has_free_columns(kernel):
        return set()
    every = instructions_of(kernel)
    terms = [t for i in every if isinstance(i, Load | Store) for t in i.access.rows]
    terms += [t for i in every if isinstance(i, Position) for t in i.rows]
    return {code - 2 for t in terms for code in (t.divisor, t.modulus) if code is not None and code > 1}


def factor_of(divisor: int) -> tuple[int, int]:
    """A factor and a shift: `index * factor >> shift` is `index // divisor` for 0 <= index < 2^31.

    With shift = 31 + ceil(log2(divisor)), the factor exceeds 2^shift / divisor by less than 2^(shift - 31) / divisor,
    and the product stays below 2^63 (Granlund and Montgomery 1994, theorem 4.2).
    """
    shift = 31 + (divisor - 1).bit_length()
    return -(-(1 << shift) // divisor), shift


def identity(kernel: Kernel, registers: int) -> Identity:
    """What stays of a kernel, and what does not, on a machine with so many registers."""
    buffers = tuple(BufferArgument("", b.dtype, b.is_scratch, b.elements) for b in kernel.buffers)
    kernel = replace(kernel, name="", buffers=buffers)
    if not isinstance(kernel, StagedKernel):
        return Identity(kernel, frozenset(), ())
    fills = all(isinstance(i, Store) for stage in kernel.stages for i in (*stage.body, *stage.after))
    literals = frozenset(
        i.result
        for i in kernel.prologue
        if isinstance(i, Literal) and i.dtype.is_float and (fills or i.value not in PLAIN_NUMBERS)
    )
    numbers: dict[int, int] = {}
    plain = _Plain(kernel, literals, numbers)
    stages = tuple(
        Stage(tuple(plain.instruction(i, True) for i in stage.body), tuple(map(plain.instruction, stage.after)))
        for stage in kernel.stages
    )
    prologue = tuple(map(plain.instruction, kernel.prologue))
    block, line = block_of(kernel, registers), plain.number(transposed_rows(kernel))
    kernel = replace(kernel, stages=stages, prologue=prologue)
    return Identity(_without_extents(kernel, block), literals, tuple(numbers), line)


def is_numbered(kernel: Kernel) -> bool:
    """Whether offsets and the strides of rows are arguments. Flat kernels are all alike without that."""
    return isinstance(kernel, RowKernel | ColumnKernel) and not is_together(kernel)


class _Plain:
    def __init__(self, kernel: StagedKernel, literals: frozenset[int], numbers: dict[int, int]) -> None:
        self.literals, self.numbers = literals, numbers
        self.is_numbered = is_numbered(kernel)
        self.rows: Extent | None = kernel.rows if isinstance(kernel, ColumnKernel) else None
        self.divides, self.only_moves = has_free_columns(kernel), moves_only(kernel)

    def instruction(self, i: Instruction, in_body: bool = False) -> Instruction:
        match i:
            case Compute() | Reduce():
                return i
            case Random():
                return replace(i, stream=0)
            case Literal(result=result) if result in self.literals:
                return replace(i, value=0.0)
            case Load():
                access = self.access(i.access, in_body)
                return replace(i, access=access)
            case Store():
                watch, access = "" if i.watch is not None else None, self.access(i.access, in_body)
                return Store(access, i.value, i.dtype, i.space, watch, i.index, i.index_stride, i.index_extent)
            case Position() if self.is_numbered:
                return replace(i, offset=self.number(i.offset), rows=self.terms(i.rows, in_body))
            case _:
                return i

    def access(self, access: Access, in_body: bool) -> Access:
        if not self.is_numbered:
            return access
        columns = access.columns
        if self.only_moves:
            columns = tuple(Term(t.divisor, t.modulus, self.number(t.stride)) for t in columns)
        return Access(access.buffer, self.number(access.offset), self.terms(access.rows, in_body), columns)

    def terms(self, terms: tuple[Term, ...], in_body: bool) -> tuple[Term, ...]:
        return tuple(self.term(t, in_body) for t in terms)

    def term(self, term: Term, in_body: bool) -> Term:
        divisor, modulus = term.divisor, term.modulus
        if self.divides:
            divisor, modulus = self.number(divisor), None if modulus is None else self.number(modulus)
        elif in_body and self.rows is not None and self.rows != 1:
            divisor = ROWS if divisor == self.rows and modulus is None else divisor
            modulus = ROWS if modulus == self.rows and divisor == 1 else modulus
        return Term(divisor, modulus, self.number(term.stride))

    def number(self, value: int) -> int:
        return value if value in (0, 1) else 2 + self.numbers.setdefault(value, len(self.numbers))


def _without_extents(kernel: StagedKernel, block: Block) -> StagedKernel:
    """Extents that only count become the least that the same code fits, which computes such blocks of rows."""
    match kernel:
        case FlatKernel():
            return replace(kernel, elements=1)
        case RowKernel(columns=columns):
            if has_free_columns(kernel):
                assert isinstance(columns, int)
                repeating = repeating_loads(kernel)
                is_long = columns >= LONG and any(isinstance(i, Reduce) for stage in kernel.stages for i in stage.body)
                least = (LONG if is_long else REGISTER_COLUMNS + LANES) + (columns % LANES > 0)
                columns = LONG * period(repeating) if repeating else least
            return replace(kernel, rows=block.stretch, columns=columns, shards=1)
        case ColumnKernel() if block.rows > 1:
            return replace(kernel, outer=BatchExtent(1))
        case ColumnKernel(columns=columns):
            assert isinstance(columns, int)
            if columns > LANES:
                columns = 2 * LANES + (columns % LANES > 0)
            return replace(kernel, rows=1, columns=columns, outer=1)
        case _:
            return kernel
