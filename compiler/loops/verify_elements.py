"""Checks which elements a kernel touches, for every size of the batch: all are there, and none is stored twice.

A batch of one row more repeats the pattern of an address further on, so that what holds of one period, and of the step
from each to the next, holds of all.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fractions import Fraction
from math import floor
from typing import TypeAlias, TypeGuard

from compiler.errors.diagnostics import CompilerBug
from compiler.loops import ir
from compiler.loops.footprint import Along, blocks_of, count, indices_of
from compiler.loops.printer import print_kernel, statement_lines
from compiler.loops.verify import Broken
from compiler.support.arrays import np
from compiler.support.record import record
from compiler.types import BatchExtent, Extent, elements

ENDLESS = 1 << 62  # elements, beyond all buffers

Limit: TypeAlias = tuple[int, Fraction | int]  # for a batch of one row, and by how much each further row moves it


@record
class Room:
    """The elements of an argument, whether data decides them, and how far a loop around the kernel moves it."""

    extent: Extent
    is_data: bool
    before: int = 0
    behind: int = 0


def verify_elements(kernel: ir.Kernel, rooms: Sequence[Room | None]) -> None:
    """Raise `CompilerBug` unless all elements that a kernel touches lie in the room of its arguments, each stored once.

    `rooms` has one for each buffer, None for scratch.
    """
    try:
        if isinstance(kernel, ir.StagedKernel):
            _check_staged(kernel, rooms)
        if isinstance(kernel, ir.ContractionKernel):
            _check_rows(kernel.contraction)
        for argument, block in blocks_of(kernel):
            ends = [((count(extent) - 1) * stride, _slope(extent) * stride) for extent, stride in block.axes]
            low, high = ((sum(pick(e, 0) for e, _ in ends), sum(pick(s, 0) for _, s in ends)) for pick in (min, max))
            place = (block.offset + low[0], low[1]), (block.offset + high[0], high[1])
            _check_room(kernel, argument, *place, rooms)
    except Broken as broken:
        raise CompilerBug("to_loops", f"kernel {kernel.name}: {broken}", print_kernel(kernel)) from None


def _check_rows(contract: ir.TileContract) -> None:
    """The rows of a product number its results from 0 on, each once."""
    axes = [(axis.row_step, axis.extent) for axis in contract.outer]
    axes += [(contract.row_m_step, contract.m), (contract.split_step, contract.splits)]
    expected: Extent = 1
    for step, extent in sorted((a for a in axes if a[1] != 1), key=lambda axis: axis[0]):
        if step != expected:
            raise Broken(f"rows of the product that are {step} apart leave rows out, or are computed twice")
        expected = elements((expected, extent))


# instructions


def limits_of(along: Along) -> tuple[Limit, Limit]:
    """The least and the greatest that an index adds; either may lie further out where a batch has parts of periods."""
    size, rate = count(along.extent), Fraction(along.step, along.period)
    if along.periods is not None:
        last = along.step * (along.periods - 1)
        low, high = int(along.first.min()) + min(last, 0), int(along.first.max()) + max(last, 0)
    else:
        level = along.first * along.period - along.index * along.step
        low = -floor(-(Fraction(int(level.min()), along.period) + min(rate, 0) * (size - 1)))
        high = floor(Fraction(int(level.max()), along.period) + max(rate, 0) * (size - 1))
    slope = rate * size if isinstance(along.extent, BatchExtent) else 0
    return (low, min(slope, 0)), (high, max(slope, 0))


def _check_staged(kernel: ir.StagedKernel, rooms: Sequence[Room | None]) -> None:
    lines = statement_lines(kernel)
    filled: dict[int, set[int]] = {}
    known: set[int] = set()  # values that no data decides
    for instruction in ir.instructions_of(kernel):
        try:
            if isinstance(instruction, ir.Load | ir.Store):
                _check_moved(kernel, instruction, rooms, known, filled)
            if _is_known(instruction, rooms, known):
                known.add(instruction.result)
        except (Broken, ValueError) as broken:
            raise Broken(f"line {lines[id(instruction)]}: {broken}") from None


def _is_known(
    instruction: ir.Instruction, rooms: Sequence[Room | None], known: Collection[int]
) -> TypeGuard[ir.Literal | ir.BatchCount | ir.Position | ir.Compute | ir.Load]:
    match instruction:
        case ir.Literal() | ir.BatchCount() | ir.Position():
            return True
        case ir.Compute(operands=operands):
            return all(operand in known for operand in operands)
        case ir.Load(access=access, index=index):
            room = rooms[access.buffer]
            return room is not None and not room.is_data and (index is None or index in known)
        case _:
            return False


def _check_moved(
    kernel: ir.StagedKernel,
    moved: ir.Load | ir.Store,
    rooms: Sequence[Room | None],
    known: Collection[int],
    filled: dict[int, set[int]],
) -> None:
    buffer = moved.access.buffer
    if buffer == _tile_of(kernel):
        return
    rows, columns = indices_of(moved, kernel)
    if kernel.buffers[buffer].is_scratch:
        _check_scratch(kernel, moved, columns, filled)
        return
    if moved.index is not None and not moved.index_extent and moved.index not in known:
        raise Broken(f"v{moved.index} is data that chooses an element of {kernel.buffers[buffer].name} without a clamp")
    if rows.first.size and columns.first.size:
        _check_room(kernel, buffer, *_limits(moved, rows, columns), rooms)
    if isinstance(moved, ir.Store) and not is_once(rows, columns):
        raise Broken(f"elements of {kernel.buffers[buffer].name} are stored more than once")


def _tile_of(kernel: ir.StagedKernel) -> int | None:
    return kernel.contraction.tile if isinstance(kernel, ir.ContractionKernel) else None


def _limits(moved: ir.Load | ir.Store, rows: Along, columns: Along) -> tuple[Limit, Limit]:
    shift = max(moved.index_extent - 1, 0) * moved.index_stride if moved.index is not None else 0
    (low, low_step), (high, high_step) = limits_of(rows)
    (least, least_step), (most, most_step) = limits_of(columns)
    offset = moved.access.offset
    return (offset + low + least + min(shift, 0), low_step + least_step), (
        offset + high + most + max(shift, 0),
        high_step + most_step,
    )


def _check_room(kernel: ir.Kernel, argument: int, low: Limit, high: Limit, rooms: Sequence[Room | None]) -> None:
    room, name = rooms[argument], kernel.buffers[argument].name
    assert room is not None
    if low[0] + room.before < 0 or low[1] < 0:
        raise Broken(f"element {_said(low[0] + room.before, low[1])} of {name} lies before it")
    if high[0] + room.behind >= count(room.extent) or high[1] > _slope(room.extent):
        raise Broken(f"element {_said(high[0] + room.behind, high[1])} of {name} lies behind its {room.extent}")


def _check_scratch(kernel: ir.Kernel, moved: ir.Load | ir.Store, columns: Along, filled: dict[int, set[int]]) -> None:
    buffer = kernel.buffers[moved.access.buffer]
    places = set((columns.at_one() + moved.access.offset).tolist())
    if moved.access.rows or columns.batch_step or not places <= set(range(buffer.elements)):
        raise Broken(f"scratch of {buffer.elements} elements is left")
    if isinstance(moved, ir.Store):
        filled.setdefault(moved.access.buffer, set()).update(places)
    elif not places <= filled.get(moved.access.buffer, set()):
        raise Broken(f"element {min(places - filled.get(moved.access.buffer, set()))} of scratch was not stored")


def is_once(rows: Along, columns: Along) -> bool:
    """Whether no two rows and columns have the same element, however large the batch is."""
    levels: list[tuple[int, int]] = []  # the least distance of two addresses, and the greatest
    for index in (rows, columns):
        places = np.sort(index.first)
        if places.size > 1:
            levels.append((int(np.diff(places).min()), int(places[-1] - places[0])))
        if isinstance(index.extent, BatchExtent):
            levels.append((abs(index.step), abs(index.step) * count(index.extent) + ENDLESS))
        elif index.period < index.extent:
            levels.append((abs(index.step), abs(index.step) * (index.extent // index.period - 1)))
    reach = 0
    for distance, length in sorted(levels):
        if distance == 0:
            return False
        if distance <= reach:
            return _is_once_by_trial(rows, columns)
        reach += length
    return True


def _is_once_by_trial(rows: Along, columns: Along) -> bool:
    first = np.sort(np.add.outer(rows.at_one(), columns.at_one()).reshape(-1))
    step = abs(rows.batch_step + columns.batch_step)
    later = (int(first[-1]) - int(first[0])) // step if step else 0
    repeated = (np.intersect1d(first, first + n * step, True).size for n in range(1, later + 1))
    return not (first[1:] == first[:-1]).any() and not any(repeated)


def _said(first: int, slope: Fraction | int) -> str:
    return f"{slope}*batch + {first - slope}".replace("+ -", "- ") if slope else str(first)


def _slope(extent: Extent) -> int:
    return extent.multiple if isinstance(extent, BatchExtent) else 0
