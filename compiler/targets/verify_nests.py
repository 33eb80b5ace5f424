"""Checks the nests of a program: each by itself, and its bounds with the arguments of each call."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.nest.call import Call, Memory
from compiler.nest.ir import BufferPointer, FlagPointer, SharedPointer
from compiler.nest.verify import verify_nest
from compiler.nest.verify_bounds import verify_bounds
from compiler.schedule.ir import Instance
from compiler.targets.lowered import Lowered
from compiler.types import BatchExtent, Extent


def verify_nests(found: Lowered) -> None:
    """Check the nests that were kept. Raises CompilerBug."""
    for nest in found.nests.values():
        verify_nest(nest)
    for symbol, call in calls_of(found):
        verify_bounds(found.nests[symbol], call)


def calls_of(found: Lowered) -> Sequence[tuple[str, Call]]:
    """The calls of the nests that were kept, by symbol, without repeats."""
    shared: dict[int, int] = {}  # bytes of packed panels, by the `id` of an instance
    for symbol, instance in found.instances:
        if symbol in found.nests:
            shared[id(instance)] = max(shared.get(id(instance), 0), found.nests[symbol].shared_bytes)
    calls: dict[tuple[str, Call], None] = {}
    for line, entry in enumerate(found.manifest.entries):
        if entry.function < 0:  # a mark
            continue
        symbol, instance = found.call_of(line)
        if symbol in found.nests:
            arguments = _arguments(found, symbol, instance, entry.first_argument, shared[id(instance)])
            calls[symbol, Call(arguments, entry.extent, entry.chunk, entry.factor)] = None
    return list(calls)


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
    buffer = found.plan.buffers[instance.arguments[position]]
    size, extent = buffer.dtype.size, buffer.elements
    strides = instance.strides[position] if instance.strides else ()
    ends = [(found.plan.loops[k].steps - 1) * s * size for k, s in zip(instance.loops, strides, strict=False)]
    before, behind = -sum(end for end in ends if end < 0), sum(end for end in ends if end > 0)
    bytes_ = BatchExtent(extent.multiple * size) if isinstance(extent, BatchExtent) else extent * size
    return Memory(bytes_, before, behind, instance.arguments[position] in instance.writes)
