"""Checks the nests of a program: each by itself, and its bounds with the arguments of each call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import gcd

from compiler.loops.footprint import ElementBlock, blocks_of, stored_by
from compiler.loops.ir import (
    Kernel,
    Load,
    PrefixSumKernel,
    ScatterKernel,
    StagedKernel,
    Store,
    contraction_of,
    instructions_of,
)
from compiler.nest.arguments import BufferPointer, FlagPointer, SharedPointer
from compiler.nest.call import Call, Memory, Result
from compiler.nest.ir import Nest
from compiler.nest.verify import verify_nest
from compiler.nest.verify_memory import LINE, verify_memory
from compiler.schedule.addresses import count
from compiler.schedule.ir import Arena, Instance
from compiler.support.record import record
from compiler.targets.lowered import Lowered
from compiler.targets.manifest import FIRST_TENSOR
from compiler.tuning import MOST_TILE_ROWS
from compiler.types import BatchExtent, Extent

OF_RUNNER = "a call of the runner, which moves whole rows"
IN_BF16 = "a product in bf16, whose addresses stand in tables in scratch"
HAS_BLOCKS = "a nest with blocks of threads, which no proof about memory knows"


@record
class Verified:
    """So many different calls of nests are proved to stay inside of their memory; of others, `left_out`, the reason."""

    proved: int
    left_out: Mapping[str, int]


def verify_nests(found: Lowered, has_blocks: bool = False) -> Verified:
    """Check the nests that were kept. Raises CompilerBug.

    A nest that `has_blocks` of threads is checked by itself alone: no proof about its memory knows them.
    """
    for nest in found.nests.values():
        verify_nest(nest)
    calls = calls_of(found)
    if has_blocks:
        return Verified(0, {**left_out(found), HAS_BLOCKS: len(calls)})
    for symbol, call in calls:
        verify_memory(found.nests[symbol], call)
    return Verified(len(calls), left_out(found))


def left_out(found: Lowered) -> Mapping[str, int]:
    """How many lines of the execution plan `calls_of` leaves out, by the reason."""
    reasons = Counter[str]()
    for line, entry in enumerate(found.manifest.entries):
        if entry.function >= 0:
            symbol, instance = found.call_of(line)
            reasons.update([IN_BF16] if _is_in_bf16(instance) else [] if symbol in found.nests else [OF_RUNNER])
    return reasons


def _is_in_bf16(instance: Instance) -> bool:
    contract = contraction_of(instance.kernel)
    return contract is not None and contract.in_bf16


def calls_of(found: Lowered) -> Sequence[tuple[str, Call]]:
    """The calls of the nests that were kept, by symbol, without repeats.

    Those of products in bf16 are left out: their addresses stand in tables in scratch, of which nothing can be proved.
    """
    shared: dict[int, int] = {}  # bytes of packed panels, by the `id` of an instance
    for symbol, instance in found.instances:
        if symbol in found.nests:
            shared[id(instance)] = max(shared.get(id(instance), 0), found.nests[symbol].shared_bytes)
    calls: dict[tuple[str, Call], None] = {}
    latest: dict[int, Call] = {}  # by the `id` of an instance
    for line, entry in enumerate(found.manifest.entries):
        if entry.function < 0:  # a mark
            continue
        symbol, instance = found.call_of(line)
        if symbol in found.nests and not _is_in_bf16(instance):
            arguments = _arguments(found, symbol, instance, entry.first_argument, shared[id(instance)])
            before = latest.get(id(instance)) if found.nests[symbol].before is not None else None
            extents = entry.extent, entry.chunk, entry.factor
            results = results_of(instance.kernel, found.nests[symbol])
            indexed = indexed_by_program(instance.kernel, found.nests[symbol])
            call = latest[id(instance)] = Call(arguments, *extents, before, results, indexed)
            calls[symbol, call] = None
    return list(calls)


def results_of(kernel: Kernel, nest: Nest) -> tuple[Result, ...]:
    """The elements that a nest of the kernel stores; none of a nest that packs panels, nor those at an index."""
    if SharedPointer() in nest.arguments and nest.before is None:
        return ()
    blocks = blocks_of(kernel)[-1:] if isinstance(kernel, ScatterKernel | PrefixSumKernel) else []
    found: list[tuple[int, ElementBlock | None]] = [*blocks]
    if isinstance(kernel, StagedKernel):
        stores = (i for i in instructions_of(kernel) if isinstance(i, Store) and i.index is None)
        found += [
            (i.access.buffer, stored_by(i, kernel)) for i in stores if not kernel.buffers[i.access.buffer].is_scratch
        ]
    results: dict[Result, None] = {}
    for buffer, block in found:
        slot, size = nest.arguments.index(BufferPointer(buffer)), kernel.buffers[buffer].dtype.size
        axes = None if block is None else tuple((extent, stride * size) for extent, stride in block.axes)
        results[Result(slot, size, 0 if block is None else block.offset * size, axes)] = None
    return tuple(results)


def indexed_by_program(kernel: Kernel, nest: Nest) -> frozenset[int]:
    """The arguments whose elements are at an index that the program made."""
    every = instructions_of(kernel) if isinstance(kernel, StagedKernel) else ()
    moved = (i for i in every if isinstance(i, Load | Store) and i.index is not None and not i.index_extent)
    buffers = {BufferPointer(i.access.buffer) for i in moved}
    return frozenset(slot for slot, argument in enumerate(nest.arguments) if argument in buffers)


def _arguments(found: Lowered, symbol: str, instance: Instance, first: int, shared: int) -> tuple[Memory | Extent, ...]:
    given: list[Memory | Extent] = []
    for place, argument in enumerate(found.nests[symbol].arguments, first):
        match argument:
            case BufferPointer(position=position):
                given.append(_memory(found, instance, position, found.manifest.relocations[place]))
            case SharedPointer():
                given.append(Memory(shared))
            case FlagPointer():
                given.append(Memory(1))
            case _:
                _, base, slope = found.manifest.relocations[place]
                given.append(BatchExtent(slope) if slope else base)
    return tuple(given)


def _memory(found: Lowered, instance: Instance, position: int, relocation: tuple[int, int, int]) -> Memory:
    """A buffer, with how far loops around an instance move its address."""
    number = instance.arguments[position]
    buffer, first = found.plan.buffers[number], instance.arguments.index(number)
    size, extent = buffer.dtype.size, buffer.elements
    strides = instance.strides[position] if instance.strides else ()
    ends = [(found.plan.loops[k].steps - 1) * s * size for k, s in zip(instance.loops, strides, strict=False)]
    before, behind = -sum(end for end in ends if end < 0), sum(end for end in ends if end > 0)
    bytes_ = BatchExtent(extent.multiple * size) if isinstance(extent, BatchExtent) else extent * size
    inputs = FIRST_TENSOR + len(found.manifest.tensors)
    lent = _lent(found, relocation[0] - inputs) if relocation[0] >= inputs else None
    moves = *(stride * size for stride in strides), *_of_shards(found, number)
    align = gcd(_begin(found, number, lent is not None), *moves)
    return Memory(bytes_, before, behind, number in instance.writes, first, align, lent)


def _lent(found: Lowered, number: int) -> tuple[int, int] | None:
    """How many bytes behind an input in the caller's memory may be read, in steps of so many rows.

    In steps of fewer rows `NativeExecutable` copies it, as it does where too little may be read.
    """
    if number >= len(found.manifest.inputs):
        return None  # a result
    slot = found.manifest.inputs[number]
    return slot.reach, 1 if slot.batch_axis is None else min(found.manifest.batch, MOST_TILE_ROWS)


def _begin(found: Lowered, number: int, is_lent: bool) -> int:
    """Of what the begin of a buffer is a multiple; `verify_schedule` checks the places in arenas."""
    buffer, place = found.plan.buffers[number], found.plan.places[number]
    is_by_line = place.arena is Arena.STATIC or (place.arena is Arena.BATCH and place.offset % LINE == 0)
    return LINE if is_by_line and not is_lent else buffer.dtype.size


def _of_shards(found: Lowered, number: int) -> list[int]:
    """The bytes by which each shard of a chain moves a buffer that the chain passes on."""
    buffer = found.plan.buffers[number]
    chains = [c for c in found.plan.chains if number in c.passed_on]
    return [count(buffer.elements) // count(c.shards) * buffer.dtype.size for c in chains]
