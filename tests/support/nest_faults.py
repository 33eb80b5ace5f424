"""Runs kernels as nests in memory that is watched, and says what is wrong with them.

A nest runs once whole, and once in calls of an item each, from the last to the first, with other bytes in all memory
that nobody has written. Results must be the same to the bit, and those of the kernel. So whoever reads what was not
written, or what another item writes, or leaves an element out, is found by what comes of it; and no call may touch
bytes that are no buffer's, nor write others where another call has written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from kernel_interpreter import run_kernel
from nest_interpreter import Memory, Place, Run, Uniform
from nests import argument_of, number_of_items

from compiler.errors.diagnostics import CompilerBug
from compiler.graph.op import Array
from compiler.loops.footprint import touched_by
from compiler.loops.ir import Kernel, StagedKernel, Store, instructions_of
from compiler.machine import Machine
from compiler.nest.ir import Nest, Statement
from compiler.targets.cpu.specialisation import specialisation

SLACK = 1 << 17  # bytes around a memory, so that what leaves it is found where it is
BEHIND = 128  # bytes behind a buffer that may be read: a vector of 16 lanes of 8 bytes
POISONS = (0xFF, 0x3C)  # bytes that nobody has written: NaN, or small numbers
# Of the largest element, and times what other last places of the operands make of it: sums have another order.
RELATIVE, AMPLIFIED = 2e-6, 100
MOST_STATEMENTS = 40_000  # of a run, beyond which a kernel is left out
MOST_CALLS = 40  # beyond which a call has several items


BEHIND_MEMORY = "what lies behind it or another buffer"


class TooLong(Exception):
    """A kernel is too large to be interpreted."""


@dataclass(slots=True)
class WatchedRun(Run):
    """A call whose accesses must lie inside, and which writes no other bytes than calls before it where these wrote."""

    call: int = 0
    writers: dict[int, Array] = field(default_factory=dict[int, Array])  # by the number of a memory, for each byte
    readable: dict[int, int] = field(default_factory=dict[int, int])  # bytes behind a memory
    left: int = 0  # statements
    rewritten: list[tuple[Memory, slice, Array]] = field(default_factory=list[tuple[Memory, slice, Array]])

    def all(self, statements: Sequence[Statement]) -> None:
        self.left -= len(statements)
        if self.left < 0:
            raise TooLong
        Run.all(self, statements)

    def bytes_at(self, place: Place, size: int, align: int, writes: bool = False) -> slice:
        memory, end = place.memory, len(place.memory.bytes) - 2 * SLACK
        if (
            not 0
            <= place.offset
            <= place.offset + size
            <= end + (0 if writes else self.readable.get(memory.number, BEHIND))
        ):
            verb = "written" if writes else "read"
            self.wrong(f"bytes {place.offset} to {place.offset + size} are {verb}, of {end} of {memory.name}")
        found = Run.bytes_at(self, place, size, align, writes)
        if writes and memory.number in self.writers:
            writers = self.writers[memory.number][found]
            if ((writers >= 0) & (writers != self.call)).any():
                self.rewritten.append((memory, found, memory.bytes[found].copy()))
            writers[:] = self.call
        return found

    def end(self) -> None:
        for memory, there, before in self.rewritten:
            if not np.array_equal(memory.bytes[there], before):
                first = there.start - SLACK
                self.wrong(f"bytes {first} on of {memory.name} are written by two items, which do not agree")


class Case:
    """A kernel with the contents of its buffers, before and behind it. Views of the same memory have one group."""

    def __init__(self, kernel: Kernel, machine: Machine, batch: int, uniform: Uniform, views: Sequence[Array]) -> None:
        self.kernel, self.machine, self.batch, self.uniform = kernel, machine, batch, uniform
        self.what = specialisation(kernel, machine)
        starts = [view.__array_interface__["data"][0] for view in views]
        self.dtypes, self.sizes = [view.dtype for view in views], [view.nbytes for view in views]
        self.groups: list[tuple[int, int]] = []  # first and last address
        for start, size in sorted(zip(starts, self.sizes, strict=True)):
            if self.groups and start < self.groups[-1][1]:
                self.groups[-1] = self.groups[-1][0], max(self.groups[-1][1], start + size)
            else:
                self.groups.append((start, start + size))
        self.places = [
            next((k, s - g[0]) for k, g in enumerate(self.groups) if g[0] <= s < max(g[1], g[0] + 1)) for s in starts
        ]
        self.before = [view.tobytes() for view in views]
        shaken = [_shaken(view) for view in views]
        run_kernel(kernel, shaken, batch, uniform)
        run_kernel(kernel, views, batch, uniform)
        self.behind = [view.copy() for view in views]
        watched = [i for i in instructions_of(kernel) if isinstance(i, Store) and i.check is not None]
        self.flagged = [_has_infinite(i, kernel, views[i.access.buffer], batch) for i in watched]  # type: ignore[arg-type]
        self.allowed = [_allowed(view, other) for view, other in zip(self.behind, shaken, strict=True)]
        room = batch + 16 + -batch % 16  # rows for which there is memory: tiles read beyond the batch
        self.readable = {
            k: max(BEHIND, (end - start) // batch * (room - batch)) for k, (start, end) in enumerate(self.groups)
        }

    def fault_of(self, nest: Nest, most: int = MOST_STATEMENTS) -> str | None:
        """What is wrong with a nest of the kernel. Raises `TooLong` for more statements than `most`."""
        try:
            whole, apart = self.run(nest, True, POISONS[0], most), self.run(nest, False, POISONS[1], most)
        except (CompilerBug, IndexError, OverflowError) as error:
            return str(error).split("\n")[0]
        for number, (one, other, wanted) in enumerate(zip(whole, apart, self.behind, strict=True)):
            if one.tobytes() != other.tobytes():
                place = int(np.flatnonzero(one.view(np.uint8) != other.view(np.uint8))[0]) // one.itemsize
                alike = self.run(nest, False, POISONS[1], most, POISONS[0])[number]
                on = BEHIND_MEMORY if alike.tobytes() == one.tobytes() else "unwritten memory, or on the order of items"
                return f"element {place} of buffer {number} depends on {on}"
            if not _is_near(one, wanted, self.allowed[number]):
                return f"buffer {number} is not what the kernel makes of it"
        return None

    def run(self, nest: Nest, is_whole: bool, poison: int, most: int, around: int | None = None) -> list[Array]:
        """The contents behind the nest, in one call or in many from the last to the first.

        Memory that nobody has written holds `poison`, but that `around` buffers another one.
        """
        around = poison if around is None else around
        memories = [_memory(f"memory {k}", end - start, k, around) for k, (start, end) in enumerate(self.groups)]
        shared = _memory("panels", nest.shared_bytes, len(memories), poison)
        flags = _memory("flags", len(self.flagged), -1, 0)
        places = [Place(memories[group], start) for group, start in self.places]
        stretches = [slice(SLACK + p.offset, SLACK + p.offset + n) for p, n in zip(places, self.sizes, strict=True)]
        for place, there, content in zip(places, stretches, self.before, strict=True):
            place.memory.bytes[there] = np.frombuffer(content, np.uint8)
        for part in (nest.before, nest):
            if part is None:
                continue
            writers = {memory.number: np.full(len(memory.bytes), -1, np.int16) for memory in (*memories, shared)}
            given = [argument_of(a, self.what, places, shared, flags, self.batch) for a in part.arguments]
            count = number_of_items(self.kernel, part, self.machine, self.batch)
            calls = 1 if is_whole else min(count, MOST_CALLS)
            for call in reversed(range(calls)):
                size = part.scratch_bytes + part.scratch_batch_bytes * self.batch
                run = WatchedRun(part, given, self.batch, self.uniform, [], call, writers, self.readable, most)
                items = count * call // calls, count * (call + 1) // calls
                run.items(items, _memory("scratch", size, len(memories) + 1, poison))
                run.end()
        for position, flagged in enumerate(self.flagged):
            if bool(flags.bytes[SLACK + position]) is not flagged:
                raise CompilerBug("run_nest", f"the check of watched store {position} is wrong")
        parts = zip(places, stretches, self.dtypes, strict=True)
        return [place.memory.bytes[there].view(dtype) for place, there, dtype in parts]


def _has_infinite(store: Store, kernel: StagedKernel, content: Array, batch: int) -> bool:
    """Whether what a store wrote has a NaN or Inf."""
    found = touched_by(store, kernel)
    assert found is not None
    places = np.add.outer(np.arange(batch if found.step else 1) * found.step, found.first)
    return not np.isfinite(content[places]).all()


def _shaken(view: Array) -> Array:
    """The contents with other last places."""
    if view.dtype.kind != "f":
        return view.copy()
    signs = np.random.default_rng(1).choice((-1.0, 1.0), view.shape)
    with np.errstate(all="ignore"):
        return (view * (1 + signs * 4 * np.finfo(view.dtype).eps)).astype(view.dtype)


def _allowed(wanted: Array, shaken: Array) -> float:
    if wanted.dtype.kind != "f":
        return 0.0
    with np.errstate(all="ignore"):
        apart = np.abs(shaken - wanted)
    scale = np.abs(wanted[np.isfinite(wanted)]).max(initial=0.0)
    return float(RELATIVE * scale + AMPLIFIED * apart[np.isfinite(apart)].max(initial=0.0))


def _is_near(found: Array, wanted: Array, allowed: float) -> bool:
    if wanted.dtype.kind != "f":
        return np.array_equal(found, wanted)
    with np.errstate(all="ignore"):
        near = np.abs(found - wanted) <= allowed
    return bool(np.all(near | (found == wanted) | (np.isnan(found) & np.isnan(wanted))))


def _memory(name: str, size: int, number: int, poison: int) -> Memory:
    return Memory(name, np.full(size + 2 * SLACK, poison, np.uint8), SLACK, number)
