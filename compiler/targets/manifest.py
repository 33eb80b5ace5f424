"""A compiled program as plain data: its execution plan, memory plan and names. It can be stored and exported."""

from __future__ import annotations

from compiler.errors.diagnostics import CompilerBug, UsageError
from compiler.graph.ir import Role
from compiler.support.record import record
from compiler.types import DType, Extent

CONTROL_ARENA, STATIC_ARENA, BATCH_ARENA, SCRATCH_ARENA, SHARED_ARENA, FIRST_TENSOR = range(6)
LOOP, END = -1, -2  # in place of a function, where the entries of a loop begin, and behind them
CHAIN, CHAIN_END = -3, -4  # the same for chained kernels
ROUNDING = 16
LARGE_ROW = 64 << 10  # bytes of a row
FLAGS = -4  # kind of a relocation to a flag byte, resolved when the control arena is laid out


@record
class TensorSpec:
    """A persistent tensor: a parameter, a state of the model, or a state of the optimizer."""

    name: str
    role: Role
    dtype: DType
    shape: tuple[int, ...]


@record
class InputSlot:
    """A fed input: `row_bytes` of each row, or of the whole where it is static.

    The program reads it at the address in an arena slot of its own: that of the caller's rows, or `offset` bytes into
    the static arena, or `offset` times the capacity into the batch arena. Kernels may read, and never use, `reach`
    bytes behind its end.
    """

    name: str
    dtype: DType
    row_bytes: int
    batch_axis: int | None
    offset: int
    reach: int


@record
class ResultSlot:
    """A result. One with an `offset` is written at the address in an arena slot of its own, as inputs are read."""

    name: str
    dtype: DType
    shape: tuple[Extent, ...]
    offset: int | None


@record
class Entry:
    """One line of the execution plan; `function` is an index into the manifest's functions.

    It has `ceil(extent / chunk) * factor` items. Inside loops, its `arguments` move; elsewhere none do. A LOOP has its
    number of steps as its extent, and its END's place as its first argument; an END has the same, and its LOOP's place.
    So have CHAIN and CHAIN_END, with the number of shards.
    """

    function: int
    first_argument: int
    extent: Extent
    chunk: int
    factor: int
    flags: int
    arguments: int = 0


@record
class Touched:
    """A stretch of an arena that an entry reads or `writes`, in bytes, or in bytes of each row of the batch."""

    arena: int
    begin: int
    end: int
    writes: bool


@record
class LoopKernel:
    """A kernel that does all steps of the loop which begins at a `line` of the execution plan.

    Its words are `words` relocations from `first` on: those of each call in the loop as it has them in the first step,
    and behind those of a call its extent, where that depends on the batch. The last is the address of a counter for it
    alone. What stands `beside` each other in a step are the lines of calls.
    """

    line: int
    symbol: str
    first: int
    words: int
    beside: tuple[tuple[int, ...], ...]


@record
class Manifest:
    """A program. The arena slots are those named above, then one for each tensor, each input and each result.

    The first `once` entries need not run again while the tensors stay as they are. `batch` is the nominal one: kernels
    may read, and never use, the rows up to it; `row_bytes` are those of the largest. Where there are loops, `advances`
    has a line for each relocation: by how much its word grows with each step of each of the loops around it, the
    outermost first. A step has up to `most_rows` rows where pairs of rows have places for so many; 0 stands for any.
    `shared_rows` are the fewest of a step that pay for a second thread, or 0 where none do. Kernels divide the numbers
    of up to `divided` rows for each row of the batch, which is exact for `most_divided` of these. Where a target runs
    entries beside each other, `touched` has a line for each of them. It may have `loop_kernels` in place of loops;
    their relocations stand behind all others.
    """

    name: str
    batch: int
    functions: tuple[str, ...]
    entries: tuple[Entry, ...]
    once: int
    relocations: tuple[tuple[int, int, int], ...]
    tensors: tuple[TensorSpec, ...]
    writes_tensors: bool
    settings: tuple[str, ...]
    inputs: tuple[InputSlot, ...]
    results: tuple[ResultSlot, ...]
    checked_stores: tuple[str, ...]
    static_bytes: int
    batch_bytes: int
    row_bytes: int
    scratch_bytes: int
    scratch_batch_bytes: int
    shared_bytes: int
    setting_dtypes: tuple[DType, ...]
    advances: tuple[tuple[int, ...], ...] = ()
    most_rows: int = 0
    shared_rows: int = 0
    divided: int = 0
    touched: tuple[tuple[Touched, ...], ...] = ()
    loop_kernels: tuple[LoopKernel, ...] = ()


def ends_of_arguments(manifest: Manifest) -> dict[int, int]:
    """Behind the relocations of each entry, by the first of them."""
    firsts = sorted({entry.first_argument for entry in manifest.entries if entry.function >= 0})
    end = manifest.loop_kernels[0].first if manifest.loop_kernels else len(manifest.relocations)
    return dict(zip(firsts, [*firsts, end][1:], strict=True))


def lines_of_tensors(manifest: Manifest) -> dict[str, int]:
    """The last line of the execution plan that reads or writes each tensor; of loops and chains, the line of their END.

    A tensor of the result has its values when all lines up to that one are done.
    """
    ends = ends_of_arguments(manifest)
    found: dict[str, int] = {}
    outermost, depth = 0, 0
    for line, entry in enumerate(manifest.entries):
        if entry.function in (LOOP, CHAIN):
            outermost, depth = outermost if depth else entry.first_argument, depth + 1
        elif entry.function in (END, CHAIN_END):
            depth -= 1
        else:
            for kind, _, _ in manifest.relocations[entry.first_argument : ends[entry.first_argument]]:
                if FIRST_TENSOR <= kind < FIRST_TENSOR + len(manifest.tensors):
                    found[manifest.tensors[kind - FIRST_TENSOR].name] = outermost if depth else line
    return found


def most_divided(manifest: Manifest) -> int:
    """The rows of a step up to which divisions by a factor and a shift are exact: of numbers below 2^31."""
    return (1 << 31) // manifest.divided if manifest.divided else (1 << 63) - 1


def expect_rows(manifest: Manifest, rows: int) -> None:
    """Raise an error for a step of more rows than the code of a program is right for."""
    if 0 < manifest.most_rows < rows:
        raise CompilerBug("executable", f"{rows} rows, and pairs of rows have places for {manifest.most_rows}")
    if rows > (most := most_divided(manifest)):
        message = f"a step of {rows} rows has more positions than kernels of {manifest.name} can number"
        raise UsageError(message, f"use a smaller batch, of {most} rows at most")


def capacity_for(batch_bytes: int, rows: int) -> int:
    """For how many rows a program of so many bytes a row gets memory.

    It is rounded up, and more, so that all buffers are aligned; unless that would cost more than it gains.
    """
    return rows if batch_bytes >= LARGE_ROW else rounded_up(rows)


def rounded_up(rows: int) -> int:
    """Rows with room for panels that are written in whole blocks."""
    return -(-rows // ROUNDING) * ROUNDING + ROUNDING
