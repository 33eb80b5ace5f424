"""Checks the nests of a program: each by itself, and its bounds with the arguments of each call."""

from __future__ import annotations

from collections.abc import Sequence

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
from compiler.nest.verify_memory import verify_memory
from compiler.schedule.ir import Instance
from compiler.targets.lowered import Lowered
from compiler.types import BatchExtent, Extent


def verify_nests(found: Lowered, has_blocks: bool = False) -> None:
    """Check the nests that were kept. Raises CompilerBug.

    A nest that `has_blocks` of threads is checked by itself alone: no proof about its memory knows them.
    """
    for nest in found.nests.values():
        verify_nest(nest)
    for symbol, call in () if has_blocks else calls_of(found):
        verify_memory(found.nests[symbol], call)


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
        contract = contraction_of(instance.kernel)
        if symbol in found.nests and not (contract is not None and contract.in_bf16):
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
                given.append(_memory(found, instance, position))
            case SharedPointer():
                given.append(Memory(shared))
            case FlagPointer():
                given.append(Memory(1))
            case _:
                _, base, slope = found.manifest.relocations[place]
                given.append(BatchExtent(slope) if slope else base)
    return tuple(given)


def _memory(found: Lowered, instance: Instance, position: int) -> Memory:
    """A buffer, with how far loops around an instance move its address."""
    number = instance.arguments[position]
    buffer, first = found.plan.buffers[number], instance.arguments.index(number)
    size, extent = buffer.dtype.size, buffer.elements
    strides = instance.strides[position] if instance.strides else ()
    ends = [(found.plan.loops[k].steps - 1) * s * size for k, s in zip(instance.loops, strides, strict=False)]
    before, behind = -sum(end for end in ends if end < 0), sum(end for end in ends if end > 0)
    bytes_ = BatchExtent(extent.multiple * size) if isinstance(extent, BatchExtent) else extent * size
    return Memory(bytes_, before, behind, number in instance.writes, first)
