"""The nest that runs: loops, guards and vector instructions over typed values, the same language for every target.

Everything is decided in it: which loops there are and in which order, what is packed, what is asked for ahead. A back
end is a walk over its statements. Each value is defined once, before its uses. `line` is the line of the printed kernel
whose work a statement does, 0 where it is nobody's.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from compiler.graph.op import Op
from compiler.nest.arguments import Argument
from compiler.support.record import record
from compiler.types import DType, Extent, Rounding

# types and operands


@record(eq=False)
class Type:
    """A scalar or a vector of `lanes` elements; an address has no element type. There is one record of each type."""

    name: str
    dtype: DType | None
    lanes: int


_ELEMENTS = tuple(dtype for dtype in DType if dtype is not DType.BF16)
_SCALARS = {dtype: Type(dtype.value, dtype, 1) for dtype in _ELEMENTS}
_VECTORS = {
    dtype: {1: _SCALARS[dtype], **{n: Type(f"{dtype.value}x{n}", dtype, n) for n in (2, 4, 8, 16, 32, 64)}}
    for dtype in _ELEMENTS
}
_SINGLES = {dtype: Type(f"{dtype.value}x1", dtype, 1) for dtype in _ELEMENTS}
ADDRESS = Type("address", None, 1)
INDEX = _SCALARS[DType.I64]
TRUTH = _SCALARS[DType.BOOL]
TYPES = {t.name: t for t in (ADDRESS, *_SINGLES.values(), *(t for of in _VECTORS.values() for t in of.values()))}


def vector(dtype: DType, lanes: int) -> Type:
    """The type of so many elements, a power of two; a scalar where it is one."""
    return _VECTORS[dtype][lanes]


def single(dtype: DType) -> Type:
    """A vector of one lane, which is no scalar."""
    return _SINGLES[dtype]


@record(eq=False)
class Value:
    """The result of a statement. Two values are the same when their number is."""

    number: int
    type: Type


@record(eq=False)
class Constant:
    """A number in every lane, or one for each; None where no lane is ever looked at."""

    type: Type
    value: float | int | bool | tuple[int | bool, ...] | None


@record(eq=False)
class Zeros:
    """A vector all of whose bits are 0."""

    type: Type


Index: TypeAlias = Value | int
Operand: TypeAlias = Index | Constant | Zeros  # an int is an index

# What a nest is given: the items that it is to do, from BEGIN to below END, and the memory of its thread.
BEGIN, END, SCRATCH = Value(0, INDEX), Value(1, INDEX), Value(2, ADDRESS)
GIVEN = (BEGIN, END, SCRATCH)


def type_of(operand: Operand) -> Type:
    if type(operand) is int:  # `isinstance` would be a call for each of many thousands
        return INDEX
    return operand.type  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]


def dtype_of(operand: Operand) -> DType:
    """The type of the elements of an operand that is no address."""
    if type(operand) is int:
        return DType.I64
    return operand.type.dtype  # pyright: ignore[reportAttributeAccessIssue, reportReturnType, reportUnknownMemberType, reportUnknownVariableType]


# statements

Arithmetic: TypeAlias = Literal["add", "sub", "mul", "div", "rem", "and", "or", "xor", "shift", "min", "max"]
Relation: TypeAlias = Literal["eq", "ne", "lt", "le", "gt", "ge", "below", "unordered"]


@record(eq=False)
class _Statement:
    line: int


@record(eq=False)
class _Definition:
    result: Value
    line: int


@record(eq=False)
class Given(_Definition):
    """The value of an argument: number `slot` of those of the nest."""

    slot: int


@record(eq=False)
class Scratch(_Definition):
    """The address of so many bytes of the thread's own memory, from byte `start` on."""

    start: int
    bytes: int


@record(eq=False)
class Binary(_Definition):
    """Arithmetic on two scalars or vectors; `div` and `rem` take numbers without a sign, `shift` goes to the right."""

    op: Arithmetic
    left: Operand
    right: Operand


@record(eq=False)
class Compare(_Definition):
    """`below` compares without a sign; `unordered` holds where either is NaN."""

    relation: Relation
    left: Operand
    right: Operand


@record(eq=False)
class Select(_Definition):
    """`yes` where the condition holds, which is a scalar or has a truth for each lane."""

    condition: Operand
    yes: Operand
    no: Operand


@record(eq=False)
class Convert(_Definition):
    """A conversion as NumPy's `astype`."""

    value: Operand


@record(eq=False)
class Bits(_Definition):
    """The bits of an integer, taken as another type of the same size."""

    value: Operand


@record(eq=False)
class Fma(_Definition):
    """`left * right + addend`, rounded once."""

    left: Operand
    right: Operand
    addend: Operand


@record(eq=False)
class Elementwise(_Definition):
    """An elementwise op of the graph, on scalars or vectors; a target expands it."""

    op: Op
    operands: tuple[Operand, ...]


@record(eq=False)
class DrawKey(_Statement):
    """The two words of the key of a stream of random numbers; the stream is argument number `slot`."""

    first: Value
    second: Value
    seed: Operand
    step: Operand
    slot: int


@record(eq=False)
class Draw(_Definition):
    """Numbers in [0, 1) for the elements `places`, by the key of their stream."""

    first: Value
    second: Value
    places: Operand


@record(eq=False)
class Broadcast(_Definition):
    """A scalar in every lane."""

    scalar: Operand


@record(eq=False)
class Shuffle(_Definition):
    """Lanes of two vectors, those of the right one counted on from the left one's."""

    left: Operand
    right: Operand | None
    picks: tuple[int, ...]


@record(eq=False)
class Lane(_Definition):
    """The only lane of a vector of one."""

    vector: Operand


@record(eq=False)
class Any(_Definition):
    """Whether any lane of a mask holds."""

    mask: Operand


@record(eq=False)
class Address(_Definition):
    """The address `index` elements behind `base`."""

    base: Value
    index: Index
    dtype: DType


@record(eq=False)
class Number(_Definition):
    """An address as a number of bytes."""

    address: Value


@record(eq=False)
class Load(_Definition):
    """A scalar, or neighbours in memory; the address is a multiple of `align` bytes."""

    address: Value
    align: int


@record(eq=False)
class Store(_Statement):
    """Write a scalar or neighbours in memory, of which a mask may choose. One that `streams` goes past the caches."""

    value: Operand
    address: Value
    align: int
    mask: Operand | None
    streams: bool


@record(eq=False)
class Gather(_Definition):
    """Elements at `places` behind an address, 0 in the lanes that the mask leaves out."""

    address: Value
    places: Operand
    mask: Operand


@record(eq=False)
class Scatter(_Statement):
    """Write elements to `places` behind an address, in the lanes of the mask."""

    value: Operand
    address: Value
    places: Operand
    mask: Operand


@record(eq=False)
class Prefetch(_Statement):
    """Ask for the line that will be read or written; `locality` is 3 for the first cache, 2 for the second."""

    address: Value
    writes: bool
    locality: int


@record(eq=False)
class LoadFence(_Statement):
    """No load moves across, where it would take a register that others need."""


@record(eq=False)
class StoreFence(_Statement):
    """Stores past the caches are done before what follows."""


# products of numbers of bf16, of a processor that has them


@record(eq=False)
class Rounded(_Definition):
    """The numbers of bf16 next to those of f32, of two the even one, as their bits; a subnormal one counts as 0."""

    value: Operand


@record(eq=False)
class RoundFactor(_Definition):
    """Numbers of f32 rounded to fewer digits, and still f32."""

    value: Operand
    rounding: Rounding


@record(eq=False)
class PairFma(_Definition):
    """Two fused multiply-adds in f32, one behind the other, for words that hold the bits of two numbers of bf16 each.

    The product of the upper halves is added to the addend, then that of the lower ones. A subnormal number counts as 0
    wherever it arises.
    """

    left: Operand
    right: Operand
    addend: Operand


@record(eq=False)
class OpenTiles(_Statement):
    """Tile registers are taken, of 16 rows of 64 bytes each; they are described in the 64 bytes at the address."""

    address: Value


@record(eq=False)
class MultiplyTiles(_Statement):
    """`sums += left @ right` for `rows` times `columns` tiles of 16 x 16 sums, in blocks of 32 summed elements.

    The sums are f32, row by row. For each block, a tile of the left operand has 16 rows of 32 elements of bf16, and one
    of the right operand 16 pairs of them for each of 16 columns. The blocks of a tile lie one behind the other, tiles
    `pitch` elements apart. In a block, one chain of fused multiply-adds takes the first elements of all pairs, from 0
    on, and one the second; both are added, then added to the sum. A subnormal number counts as 0 wherever it arises.
    """

    sums: Value
    left: Value
    right: Value
    blocks: Index
    pitch: int
    rows: int
    columns: int


@record(eq=False)
class CloseTiles(_Statement):
    """Tile registers are free again."""


# threads, of a target that has a block of them for some items


@record(eq=False)
class Ordinal(_Definition):
    """The number of this thread's block; of this thread, or of its LANES neighbours as a group, within the block."""

    of: Literal["block", "thread", "group"]


@record(eq=False)
class Shared(_Definition):
    """The address of so many bytes of the memory of the block, from byte `start` on."""

    start: int
    bytes: int


@record(eq=False)
class Barrier(_Statement):
    """All threads of the block wait for each other; behind it each sees what the others have written before."""


PIECE_BYTES = 16  # that a device copies at once


@record(eq=False)
class CopyAhead(_Statement):
    """Begin to copy a piece to the memory of the block, in each lane; zeros follow behind the bytes that are `kept`.

    A piece goes from `sources` to `targets`, in elements behind an address, and both are multiples of PIECE_BYTES. It
    is there for the thread that has awaited it, and behind a barrier for the others.
    """

    target: Value
    targets: Operand
    source: Value
    sources: Operand
    kept: Operand
    dtype: DType


@record(eq=False)
class CommitCopies(_Statement):
    """The copies that this thread has begun since the last such statement are a group."""


@record(eq=False)
class AwaitCopies(_Statement):
    """Wait until all groups of copies of this thread are there but for the last ones, `remaining` of them."""

    remaining: int


@record(eq=False)
class MultiplyMatrices(_Statement):
    """`left @ right + sums` for matrices that the 32 threads of two neighbouring groups hold; all of them meet here.

    The left one has 16 rows, the right one 8 columns; `compiler.nest.matrices` says which elements a thread holds. They
    are rounded first. Each sum is one chain of fused multiply-adds, in the order of the summed elements, behind the
    sum that is given; but a device has an order of its own within a statement.
    """

    results: tuple[Value, ...]
    left: tuple[Operand, ...]
    right: tuple[Operand, ...]
    sums: tuple[Operand, ...]
    rounding: Rounding


@record(eq=False)
class Exchange(_Definition):
    """The value that the thread `lane` has, of the LANES neighbours among which this one is; all of them meet here."""

    value: Value
    lane: Index


@record(eq=False)
class Meet(_Statement):
    """The LANES neighbours wait for each other; behind it each sees what the others have written before."""


@record(eq=False)
class Loop(_Statement):
    """`for index = start; index < stop; index += step`, over items of the kernel or in turn.

    A carried value holds its initial value in the first round, then what `following` had at the end of the round
    before; behind the loop it holds the last of them. How many `rounds` to expect helps a target to share registers.
    """

    index: Value
    start: Index
    stop: Index
    step: int
    carried: tuple[Value, ...]
    initial: tuple[Operand, ...]
    following: tuple[Operand, ...]
    body: list[Statement]
    rounds: int | None
    over_items: bool


@record(eq=False)
class Guard(_Statement):
    """Do the body where the condition holds. A rare one stands out of the way."""

    condition: Operand
    body: list[Statement]
    is_rare: bool


Arithmetical: TypeAlias = (
    Fma
    | Broadcast
    | Binary
    | Elementwise
    | Compare
    | Shuffle
    | Convert
    | Lane
    | Any
    | Bits
    | Rounded
    | RoundFactor
    | PairFma
)
Computation: TypeAlias = Arithmetical | Select | Number | Draw
Definition: TypeAlias = Computation | Address | Load | Gather | Given | Scratch | Shared | Ordinal | Exchange
OnTiles: TypeAlias = OpenTiles | MultiplyTiles | CloseTiles
Copying: TypeAlias = CopyAhead | CommitCopies | AwaitCopies
OfBlock: TypeAlias = Ordinal | Shared | Exchange | Meet | Barrier | Copying | MultiplyMatrices
Effect: TypeAlias = Store | Scatter | Prefetch | LoadFence | StoreFence | Meet | Barrier | Copying | OnTiles
Instruction: TypeAlias = Definition | DrawKey | MultiplyMatrices | Effect
Statement: TypeAlias = Instruction | Loop | Guard


@record(eq=False)
class Items:
    """`ceil(extent / chunk) * factor` items."""

    extent: Extent
    chunk: int = 1
    factor: int = 1


@record(eq=False)
class Nest:
    """A function of the arguments, a range of items and a thread's scratch memory.

    `values` counts its values, the given ones included. `lines` are those of the printed kernel whose work it does.
    With `before`, that one runs first and leaves packed panels in `shared_bytes`; where they last, it need not run
    again while the tensors stay as they are. `scratch_batch_bytes` are those for each row of the batch.
    """

    arguments: tuple[Argument, ...]
    items: Items
    body: list[Statement]
    values: int
    lines: frozenset[int]
    scratch_bytes: int
    scratch_batch_bytes: int
    before: Nest | None = None
    shared_bytes: int = 0
    lasts: bool = False
