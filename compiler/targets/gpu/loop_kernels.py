"""A program for a device gets a kernel for each of its loops, beside the kernels of the calls in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field, replace
from hashlib import sha256

from compiler.nest.ir import Nest
from compiler.support.record import mutable_record
from compiler.targets.cpu.lower import number
from compiler.targets.cpu.runner import BARRIER
from compiler.targets.gpu.loop_steps import Steps, outermost_loops
from compiler.targets.gpu.loop_text import COPY, LoopCall, LoopPlan
from compiler.targets.gpu.step_graph import MOST_WORDS
from compiler.targets.gpu.touched_bytes import with_touched_bytes
from compiler.targets.lowered import Lowered
from compiler.targets.manifest import (
    CHAIN,
    CHAIN_END,
    END,
    LOOP,
    STATIC_ARENA,
    Entry,
    LoopKernel,
    Manifest,
    ends_of_arguments,
)
from compiler.types import BatchExtent

_COUNTER_BYTES = 128  # a line of the cache, so that no other data stands in it


def with_loop_kernels(lowered: Lowered, nests: Mapping[str, Nest], text_of: Callable[[LoopPlan], str]) -> Lowered:
    """The program with kernels of its loops, by the nests of all kernels; a loop of too many words has none."""
    lowered = with_touched_bytes(lowered)
    given = lowered.manifest
    adding = _Adding(given, ends_of_arguments(given), [*given.relocations])
    texts = dict(lowered.texts)
    for line, steps in outermost_loops(given):
        first = len(adding.relocations)
        plan = adding.plan(steps, nests)
        if plan.words > MOST_WORDS:
            del adding.relocations[first:]
            continue
        text = text_of(plan)
        symbol = "k_" + sha256(text.encode()).hexdigest()[:20]
        texts[symbol] = text.replace("KERNEL", symbol)
        beside = tuple(lines for lines in steps.calls_beside if lines)
        adding.kernels.append(LoopKernel(line, symbol, first, plan.words, beside))
    return replace(lowered, manifest=adding.manifest(), texts=texts)


@mutable_record
class _Adding:
    given: Manifest
    ends: dict[int, int]
    relocations: list[tuple[int, int, int]]
    kernels: list[LoopKernel] = field(default_factory=list[LoopKernel])

    @property
    def counters(self) -> int:
        """Where the counters begin, behind all that lies in the static arena."""
        return -(-self.given.static_bytes // _COUNTER_BYTES) * _COUNTER_BYTES

    def plan(self, steps: Steps, nests: Mapping[str, Nest]) -> LoopPlan:
        """What a loop's text is made of; its words are added."""
        first, calls = len(self.relocations), dict[int, LoopCall]()
        for line in sorted(steps.lines):
            calls[line] = self.call(self.given.entries[line], len(self.relocations) - first, nests)
        self.relocations.append((STATIC_ARENA, self.counters + _COUNTER_BYTES * len(self.kernels), 0))
        return LoopPlan(steps, calls)

    def call(self, entry: Entry, first: int, nests: Mapping[str, Nest]) -> LoopCall:
        """A call whose words are added as number `first` and on."""
        symbol, begin = self.given.functions[entry.function], entry.first_argument
        end = self.ends[begin]
        advances = self.given.advances[begin:end]
        self.relocations += self.given.relocations[begin:end]
        if isinstance(entry.extent, BatchExtent):
            self.relocations.append(number(entry.extent))
        nest = None if symbol == COPY else nests[symbol]
        return LoopCall(entry.extent, entry.chunk, entry.factor, first, advances, nest)

    def manifest(self) -> Manifest:
        given = self.given
        if not self.kernels:
            return given
        still = ((0,) * len(given.advances[0]),) * (len(self.relocations) - len(given.relocations))
        return replace(
            given,
            relocations=tuple(self.relocations),
            advances=(*given.advances, *still),
            static_bytes=self.counters + _COUNTER_BYTES * len(self.kernels),
            loop_kernels=tuple(self.kernels),
        )


def with_loops_as_calls(manifest: Manifest) -> Manifest:
    """The execution plan with a call of each loop's kernel in its place, for a runner that makes calls one by one."""
    begins = {kernel.line: kernel for kernel in manifest.loop_kernels}
    if not begins:
        return manifest
    functions = dict.fromkeys((*manifest.functions, *(kernel.symbol for kernel in manifest.loop_kernels)))
    numbers = {symbol: number for number, symbol in enumerate(functions)}
    entries: list[Entry] = []
    places: list[int] = []  # of each line that is kept
    line, waits = 0, 0
    while line < len(manifest.entries):
        entry = manifest.entries[line]
        places += [len(entries)] * (line + 1 - len(places))
        if (kernel := begins.get(line)) is not None:
            line = entry.first_argument
            entries.append(Entry(numbers[kernel.symbol], kernel.first, 1, 1, 1, BARRIER))
            waits = BARRIER  # what follows may have been of the same thread
        else:
            is_call = entry.function >= 0
            entries.append(replace(entry, flags=entry.flags | waits) if is_call else entry)
            waits = 0 if is_call else waits
        line += 1
    marks = (LOOP, END, CHAIN, CHAIN_END)
    kept = (replace(e, first_argument=places[e.first_argument]) if e.function in marks else e for e in entries)
    return replace(manifest, functions=tuple(functions), entries=tuple(kept), touched=())
