"""A product as a tree of loops over whole tiles: which loops there are, what is packed, copied, kept and asked for.

It begins as the definition, `for row, column: sum = 0; sum += left * right; finish`, and passes turn it (`passes`)
until each statement is what runs. `build` then writes it as a nest of single instructions and decides nothing.
"""

from __future__ import annotations

from enum import Enum
from typing import TypeAlias

from compiler.loops.ir import TileContract
from compiler.machine import Machine
from compiler.support.numerics import LANES
from compiler.support.record import record
from compiler.targets.cpu.long_sums import Block
from compiler.targets.cpu.packing import Packing
from compiler.targets.cpu.tiles import TileShape, Tiling
from compiler.tuning import Tuning

ZEROS, LEFT, RIGHT, TRANSPOSED = -1, -2, -3, -4  # stretches of scratch, beside those of the kernel's buffers
ALIGNMENT = 64  # bytes of which such stretches begin at a multiple


class Axis(Enum):
    """The axis of a loop: before tiling, tiles and panels are single rows and columns."""

    SPLIT = "split"
    OUTER = "outer"
    TILE = "tile"
    STRIP = "strip"  # a tile of all outer indices
    PANEL = "panel"
    SUM = "sum"


class Kind(Enum):
    """How a loop goes over its axis."""

    ITEMS = "items"  # neighbouring loops of items are one, in the digits of the item's number
    PLAIN = "for"
    FROM_ZERO = "for, counted within its block"
    BUT_FIRST = "for, but the first"
    EVENLY = "for, in equal shares"
    AT_MOST = "for, fewer of them at the end"
    OF_SPLIT = "for, within a split"


@record
class Loop:
    """A loop over an axis, or over the block of it that a loop around has taken, `step` of them in each round.

    A long sum over several axes is taken in blocks of them.
    """

    axis: Axis
    kind: Kind
    body: tuple[Statement, ...]
    step: int = 1
    block: Block | None = None  # of a sum over several axes


@record
class Join:
    """The items of a thread together; the loops of items stand around it.

    They are taken as rectangles of tiles and panels, or strips split by split.
    """

    body: tuple[Statement, ...]


@record
class When:
    """In the last block of the sum, or in the others."""

    is_last: bool
    body: tuple[Statement, ...]


class Entry(Enum):
    """Preparations of a call, once before its items."""

    EXTENTS = "load extents"
    ZEROS = "clear a tile of zeros"
    OWN_PANEL = "room for a panel of the thread's own"
    REPEATED = "load what repeats along the rows of the result"


@record
class Clear:
    """The sums of all tiles of the block begin as 0: so many `elements`, or as the block has."""

    elements: int | None = None


@record
class Strips:
    """Copies of `deep` summed elements of an operand: `most` strips of `width` elements of each.

    A strip has `room` for each summed element, in vectors of `lanes`; `pitch` lies between strips, which is no power of
    two, so that they do not compete for lines.
    """

    width: int
    most: int
    deep: int
    lanes: int
    room: int
    pitch: int

    @staticmethod
    def of(width: int, most: int, deep: int) -> Strips:
        lanes = min(LANES, 1 << (width - 1).bit_length())
        room = -(-width // lanes) * lanes
        return Strips(width, most, deep, lanes, room, deep * room + LANES)


@record
class CopyStrips:
    """Copy the part of an operand that a block of the sum takes to scratch, some strips `together` in a step."""

    to: int
    strips: Strips
    together: int


@record
class CopyColumns:
    """Copy the columns of a block of the sum, each `width` of them to their own stretch of scratch, `pitch` elements
    apart, where stores are aligned to so many bytes."""

    pitch: int
    width: int
    align: int
    is_unrolled: bool = False  # over the panels


@record
class FindSums:
    """Where the sums of a tile are kept that were kept by `KeepSums` with that pitch."""

    pitch: int


@record
class TransposeSums:
    """Transpose the sums of a strip, whose vectors run along the rows, to rows one behind the other, in `pieces` as
    `Packing` does."""

    pieces: int


@record
class LetSteps:
    """The axes of a sum over several, joined where one step serves, for tiles that read the left operand at `left`.

    Of each element of the sum so many are side by side in the copy of what a tile broadcasts, of its vectors, and of
    what it copies meanwhile; 0 for an operand that is read as it lies.
    """

    left: Place
    broadcast: int = 0
    vectors: int = 0
    copied: int = 0


@record
class LetShare:
    """A tile's share of what the next block of the sum copies: one of so many stretches of each row of the operands."""

    stretches: int


class Let(Enum):
    """Values that are computed where they stand, and not where they are used first."""

    TILE = "row and column of the tile"
    HANGING_TILE = "row of the tile, which may reach beyond the last one"
    COLUMN = "column of the panel"
    FIRST_NUMBER = "number of the first tile of the outer index"
    GROUPED_TILE = "row of the tile, and its number in the item"
    STRIP = "row of the strip"
    STRIP_SUMS = "where the sums of the strip are kept"
    PANEL_SUMS = "where those of its panel are kept"
    BASE = "rows of the split"
    NUMBER = "number of the tile in its block"
    OPERANDS = "the tile's rows and columns where they lie"
    BLOCK_OPERANDS = "the tile's rows and columns in the block of the sum"
    PANEL = "where the packed panel lies"
    NEW_PANEL = "whether the panel is another one than that of the item before"
    BLOCK = "length of the block of the sum, and whether it is the last"
    TILES_END = "end of the block of tiles"
    FIRST_PANEL = "whether the panel is the first of the thread"


@record
class KeepSums:
    """The sums of each tile have a place in scratch: those of a panel begin `pitch` tiles behind those of the panel
    before, or as many as the block has; all tiles share one place where that is 0."""

    pitch: int | None


class Place(Enum):
    """Where an operand is read."""

    ITSELF = "as it lies"
    OWN = "own panel"  # in the thread's scratch
    SHARED = "shared panels"  # packed by a function of its own
    COPY = "copy"  # of the tile's rows, in the thread's scratch
    STRIPS = "strips"  # of a block of the sum, in the thread's scratch


@record
class PackAllPanels:
    """A function of its own packs all panels of the right operand, before items begin."""

    packing: Packing


@record
class PackPanel:
    """Pack the panel where it is another one than that of the item before."""

    packing: Packing


@record
class CopyRows:
    """Copy a tile's rows of the block of the sum, at the first panel of a thread; each gets `pitch` elements."""

    pitch: int


class Sums(Enum):
    """How the sums of a tile begin."""

    ZERO = "0"
    KEPT = "those kept in scratch"
    KEPT_LATER = "0 in the first block, then those kept in scratch"


class Asked(Enum):
    """The memory that a tile may ask for while it is multiplied."""

    RESULTS = "what the next tile's stage reads and writes"
    ROWS = "the next tile's rows"
    ROWS_OF_FIRST_PANEL = "the next tile's rows, at a thread's first panel"
    SUMS = "the next tile's sums"
    LEFT_OF_NEXT_BLOCK = "a share of the left operand in the next block"
    RIGHT_OF_NEXT_BLOCK = "a share of the right operand in the next block"
    SUMS_OR_RESULTS = "the next tile's sums; in the last block, what its stage writes too"
    PANEL = "a share of the next panel"


@record
class Ask:
    """Ask for memory while a tile is multiplied: `lines` of the caches in each unrolled step, or all of a row's in turn
    while `depth` elements are summed. `number` says of how many rows, or tiles that share the work, or the lines of
    a tile's share."""

    what: Asked
    depth: int = 0
    lines: int = 0
    number: int = 0


class Copying(Enum):
    """Whether the right operand is written to its panel while it is read."""

    NEVER = "no"
    WHEN_NEW = "where the panel is new"
    STRIP = "the strip of the left one instead"


@record
class Multiply:
    """Add the block of the sum that loops around have taken, or all of it, to the sums of a tile in registers.

    `lanes` of the right operand are taken at once; it `streams` where it comes from far away. What it `asks` for comes
    in lines of `line_bytes`. So many steps of the sum are `unrolled`. A tile asks for what it reads so many
    `steps_ahead`: for lines of the right operand where it, or the part of it within a triangle, has up to `ahead_rows`;
    and for the left operand. Where it `is_fenced`, no operand is loaded before its step, nor, where a tile has a single
    row, before the vector is used that was loaded before it.
    """

    left: Place = Place.ITSELF
    right: Place = Place.ITSELF
    sums: Sums = Sums.ZERO
    lanes: int = LANES
    streams: bool = False
    copying: Copying = Copying.NEVER
    asks: tuple[Ask, ...] = ()
    line_bytes: int = 0
    unrolled: int = 1
    steps_ahead: int = 0
    ahead_rows: int = 0
    ahead_left: bool = False
    is_fenced: bool = False


@record
class AskForResults:
    """Ask for operands and results of the elementwise stage, all at once."""


@record
class Put:
    """Keep the sums of the tile in scratch."""


@record
class Finish:
    """The elementwise stage on the sums: in registers, or row by row on those in scratch."""

    in_registers: bool = False
    is_unrolled: bool = False  # over the columns of a tile


Compound: TypeAlias = Loop | Join | When
Letting: TypeAlias = Let | KeepSums | FindSums | LetShare | LetSteps
Filling: TypeAlias = Clear | PackPanel | CopyRows | CopyStrips | CopyColumns | TransposeSums  # of scratch
Statement: TypeAlias = Compound | Entry | Letting | Filling | PackAllPanels | Multiply | AskForResults | Put | Finish


@record
class Epilogue:
    """The facts about the elementwise stage that decide where it finds its sums."""

    statements: int
    overwrites: bool  # a buffer that it reads
    repeats: bool  # something along the rows of the result


@record
class ProductLoops:
    """A product: its operands, its elementwise stage, how it is cut into register tiles, and its loops.

    The right operand may last over calls. A tile is a strip where vectors run `along_rows`: a register tile then takes
    so many of its columns. `scratch` are the bytes of each stretch of scratch, in order. Panels that are shared are
    packed before by a function of its own.
    """

    contract: TileContract
    epilogue: Epilogue
    lasts: bool
    tiling: Tiling | None
    body: tuple[Statement, ...]
    along_rows: TileShape | None = None
    scratch: tuple[tuple[int, int], ...] = ()

    @property
    def cut(self) -> Tiling:
        """How it is cut into tiles, which is the first thing that is decided."""
        assert self.tiling is not None
        return self.tiling

    @property
    def register_tile(self) -> TileShape:
        return self.cut.shape if self.along_rows is None else self.along_rows

    @property
    def panels(self) -> int:
        """Panels of a tile, or of all tiles."""
        return self.cut.panels if self.along_rows is None else -(-self.contract.n // self.along_rows.rows)


def places_of_rows(product: ProductLoops, left: Place, pitch: int) -> tuple[int, ...]:
    """Where each row of a register tile lies in the left operand, from the first; copied ones lie a `pitch` apart."""
    rows = product.register_tile.rows
    if product.along_rows is not None or left is Place.STRIPS:
        return tuple(range(rows))
    if left is Place.COPY:
        return tuple(row * pitch for row in range(rows))
    return product.cut.row_steps.places(product.contract, rows)


@record
class Circumstances:
    """The circumstances that decide beside the product itself: the machine, and the nominal batch."""

    machine: Machine
    batch: int

    @property
    def tuning(self) -> Tuning:
        return self.machine.tuning
