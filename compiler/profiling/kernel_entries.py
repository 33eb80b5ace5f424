"""The lines of an execution plan as a profile sees them: each with its kernel, the work it has to do, and its calls."""

from __future__ import annotations

from dataclasses import replace

from compiler.loops.ir import CollectKernel, FetchKernel
from compiler.schedule.ir import Instance
from compiler.schedule.work import PACKING, Share, kernel_name, packing_of, work_of
from compiler.support.record import record
from compiler.targets.lowered import Lowered
from compiler.targets.manifest import END, LOOP, Manifest


@record(eq=False)
class KernelEntry:
    """A line that calls a kernel: `calls` and the shares are of a step."""

    number: int
    symbol: str
    name: str
    instance: Instance
    calls: int
    shares: tuple[Share, ...]

    @property
    def flops(self) -> float:
        return sum(share.flops for share in self.shares)

    @property
    def bytes(self) -> float:
        return sum(share.bytes for share in self.shares)


def kernel_entries(lowered: Lowered, batch: int, in_place: bool = False) -> list[KernelEntry]:
    """The lines that run in each step of `batch` rows, in order; not those that run once for many.

    Where a call makes one step, rows are read and written `in_place`, and transfers move nothing.
    """
    calls, manifest = _calls(lowered.manifest), lowered.manifest
    places = {first: number for number, first in enumerate(lowered.firsts)}
    found: list[KernelEntry] = []
    for number, entry in enumerate(manifest.entries):
        if entry.function < 0 or number < manifest.once:
            continue
        place = places[entry.first_argument]
        symbol, instance = lowered.instances[place]
        behind = lowered.instances[place + 1][1] if place + 1 < len(lowered.instances) else None
        name = kernel_name(instance.kernel)
        if behind is instance:  # the first of two calls: it packs an operand of the second
            packed = packing_of(instance, lowered.plan, batch)
            shares = tuple(Share(0, calls[number] * s.bytes, s.origins, s.op) for s in packed)
            found.append(KernelEntry(number, symbol, f"{PACKING}_{name}", instance, calls[number], shares))
        else:
            shares = work_of(instance, lowered.plan, batch)
            if in_place and isinstance(instance.kernel, FetchKernel | CollectKernel):
                shares = tuple(replace(share, bytes=0.0) for share in shares)
            found.append(KernelEntry(number, symbol, name, instance, calls[number], shares))
    return found


def _calls(manifest: Manifest) -> list[int]:
    """How often a step comes to each line; the shards of a chain are one call."""
    found: list[int] = []
    around = [1]
    for entry in manifest.entries:
        if entry.function == END:
            around.pop()
        found.append(around[-1])
        if entry.function == LOOP:
            assert isinstance(entry.extent, int)
            around.append(around[-1] * entry.extent)
    return found
