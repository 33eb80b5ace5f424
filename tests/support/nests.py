"""Kernels as the nests that run, interpreted on the buffers of a schedule."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from nest_interpreter import Memory, Place, Uniform, run_nest

from compiler.loops.ir import ColumnKernel, FlatKernel, Kernel, Random, RowKernel, instructions_of
from compiler.machine import Machine
from compiler.nest.arguments import Argument, BufferPointer, FlagPointer, SharedPointer, StreamNumber
from compiler.nest.call import Call
from compiler.nest.call import Memory as Room
from compiler.nest.ir import Nest
from compiler.targets.cpu.emit import emit
from compiler.targets.cpu.iteration_space import items_of
from compiler.targets.cpu.specialisation import Specialisation, number_of, specialisation
from compiler.targets.verify_nests import results_of
from compiler.types import Extent, size_at

SLACK = 1 << 14  # bytes before and behind a buffer that code may touch
UNUSED = 0xFF  # every byte of slack: a float of these is NaN


def memory_of(name: str, content: np.ndarray, number: int) -> Memory:
    """A copy of a buffer with slack around it."""
    bytes_ = np.full(content.nbytes + 2 * SLACK, UNUSED, np.uint8)
    bytes_[SLACK : SLACK + content.nbytes] = content.copy().view(np.uint8)
    return Memory(name, bytes_, SLACK, number)


class KernelAsNest:
    """In place of `kernel_interpreter.run_kernel`: a kernel as `machine` runs it, with the nests that were made."""

    def __init__(self, machine: Machine, nominal: int, lasts: bool = False, parts: int = 1) -> None:
        self.machine, self.nominal, self.lasts, self.parts = machine, nominal, lasts, parts
        self.nests: list[Nest] = []

    def __call__(self, kernel: Kernel, views: Sequence[np.ndarray], batch: int, uniform: Uniform) -> None:
        what = specialisation(kernel, self.machine)
        nest = emit(what, self.machine, self.nominal, self.lasts)
        self.nests.append(nest)
        memories = [memory_of(f"buffer {k}", view, k) for k, view in enumerate(views)]
        shared = Memory("panels", np.full(nest.shared_bytes + 2 * SLACK, UNUSED, np.uint8), SLACK, len(views))
        places, flags = [Place(memory, 0) for memory in memories], Memory("flags", np.zeros(64, np.uint8), 0)
        for part in (nest.before, nest):
            if part is not None:
                given = [argument_of(a, what, places, shared, flags, batch) for a in part.arguments]
                number = number_of_items(kernel, part, self.machine, batch)
                size = part.scratch_bytes + part.scratch_batch_bytes * batch + 2 * SLACK
                scratch = Memory("scratch", np.full(size, UNUSED, np.uint8), SLACK, len(views) + 1)
                for k in range(self.parts):  # as so many threads would
                    share = number * k // self.parts, number * (k + 1) // self.parts
                    run_nest(part, given, share, scratch, batch, uniform)
        for view, memory in zip(views, memories, strict=True):
            view[:] = memory.bytes[SLACK : SLACK + view.nbytes].view(view.dtype)


def number_of_items(kernel: Kernel, part: Nest, machine: Machine, batch: int) -> int:
    """How many items a kernel has, or what runs before it; nests are shared by kernels of other extents."""
    items = items_of(kernel, machine) if isinstance(kernel, RowKernel | FlatKernel | ColumnKernel) else part.items
    return -(-size_at(items.extent, batch) // items.chunk) * items.factor


def call_of(what: Specialisation, part: Nest, machine: Machine, sizes: Sequence[Extent], shared: int) -> Call:
    """What a nest is given; `sizes` are bytes of the buffers, `shared` those of panels."""

    def of(argument: Argument) -> Extent | Room:
        match argument:
            case BufferPointer(position=position):
                return Room(sizes[position])
            case SharedPointer():
                return Room(shared)
            case FlagPointer():
                return Room(1)
            case StreamNumber():
                return 0
            case _:
                return number_of(argument, what)

    kernel, items = what.kernel, part.items
    if isinstance(kernel, RowKernel | FlatKernel | ColumnKernel):  # kernels of other extents share its nest
        items = items_of(kernel, machine)
    extents = items.extent, items.chunk, items.factor
    return Call(tuple(map(of, part.arguments)), *extents, None, results_of(kernel, part))


def argument_of(
    argument: Argument, what: Specialisation, places: Sequence[Place], shared: Memory, flags: Memory, batch: int
) -> int | Place:
    """An argument of a nest, whose buffers lie at `places`, and whose finite checks set bytes of `flags`."""
    match argument:
        case BufferPointer(position=position):
            return places[position]
        case SharedPointer():
            return Place(shared, 0)
        case FlagPointer(position=position):
            return Place(flags, position)
        case StreamNumber(position=position):
            return [i.stream for i in instructions_of(what.kernel) if isinstance(i, Random)][position]
        case _:
            return size_at(number_of(argument, what), batch)
