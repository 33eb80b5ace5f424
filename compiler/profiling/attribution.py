"""The time of each line of an execution plan, divided among the lines of the text, the layers and the operations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field

from compiler.graph.ir import Direction, Origin
from compiler.inspection.code_view import margin_of
from compiler.inspection.parts import own_origins
from compiler.inspection.plan import layer_of
from compiler.profiling.kernel_entries import KernelEntry
from compiler.profiling.report import KernelTime, LayerTime, LineRow, OpRow
from compiler.schedule.work import Share
from compiler.support.record import mutable_record
from compiler.targets.target import Peaks

MEMORY, ARITHMETIC = "memory", "arithmetic"


@mutable_record
class Amounts:
    """The sums of a row: milliseconds by direction, bytes, operations."""

    ms: dict[Direction, float] = field(default_factory=lambda: dict.fromkeys(Direction, 0.0))
    bytes: float = 0.0
    flops: float = 0.0

    def add(self, direction: Direction, ms: float, moved: float, flops: float) -> None:
        self.ms[direction] += ms
        self.bytes += moved
        self.flops += flops


@mutable_record
class _Kernel:
    """The sums over the calls of one function; the possible work is that of the machine's peak in their time."""

    first: KernelEntry
    ms: float = 0.0
    calls: int = 0
    bytes: float = 0.0
    flops: float = 0.0
    possible_flops: float = 0.0
    possible_bytes: float = 0.0
    memory_ms: float = 0.0
    working_ms: float = 0.0
    threads_ms: list[float] = field(default_factory=list[float])
    origins: dict[Origin, None] = field(default_factory=dict[Origin, None])


class Attribution:
    """Takes table lines with their times; gives rows. `owners` are the layers that have rows of their own."""

    def __init__(self, peaks: Mapping[int, Peaks], threads: int, owners: Mapping[str, object]) -> None:
        self._peaks, self._threads, self._owners = peaks, threads, owners
        self._lines: dict[tuple[str, int], Amounts] = {}
        self._texts: dict[tuple[str, int], str] = {}
        self._layers: dict[str, Amounts] = {}
        self._ops: dict[str, Amounts] = {}
        self._kernels: dict[str, _Kernel] = {}

    def add(self, line: KernelEntry, threads_ms: Sequence[float], times: int) -> None:
        """Add a line whose threads took so long in a step, which runs its program `times`."""
        workers = max(1, sum(ms > 0 for ms in threads_ms))
        flops, moved = times * line.flops, times * line.bytes
        gflops, bandwidth = self._ceilings(workers, moved / max(1, times * line.calls) / workers)
        duration = sum(threads_ms) / workers  # while so many work on it
        share = sum(threads_ms) / len(threads_ms)
        is_bound_by_memory = moved / bandwidth >= flops / gflops
        kernel = self._kernels.setdefault(line.symbol, _Kernel(line, threads_ms=[0.0] * self._threads))
        kernel.ms += share
        kernel.calls += times * line.calls
        kernel.bytes += moved
        kernel.flops += flops
        kernel.working_ms += duration
        kernel.possible_flops += duration * 1e6 * gflops
        kernel.possible_bytes += duration * 1e6 * bandwidth
        kernel.memory_ms += share if is_bound_by_memory else 0.0
        kernel.origins.update(dict.fromkeys(line.instance.origins))
        for thread, ms in enumerate(threads_ms):
            kernel.threads_ms[thread] += ms
        for part, weight in _divided(line.shares, is_bound_by_memory):
            self._divide(part, weight * share, times)

    def _ceilings(self, workers: int, bytes_each: float) -> tuple[float, float]:
        """GFLOP/s and GB/s of so many threads, each of which goes through so many bytes in a call."""
        alone, all_ = self._peaks[1], self._peaks[max(self._peaks)]
        if workers == 1 or all_.threads == 1:
            return alone.gflops, alone.bandwidth(bytes_each)
        part = workers / all_.threads
        return all_.gflops * part, max(all_.bandwidth(bytes_each) * part, alone.bandwidth(bytes_each))

    def _divide(self, share: Share, ms: float, times: int) -> None:
        moved, flops = times * share.bytes, times * share.flops
        origins = own_origins(share.origins)
        places = dict.fromkeys((o.user_line, o.direction) for o in origins) or {(_NOWHERE, Direction.FORWARD): None}
        for origin in origins:
            span = origin.user_span
            self._texts.setdefault(origin.user_line, span.source.line(span.line).strip())
        for place, direction in places:
            part = 1 / len(places)
            self._lines.setdefault(place, Amounts()).add(direction, ms * part, moved * part, flops * part)
        paths = dict.fromkeys((layer_of(o.path, self._owners), o.direction) for o in share.origins)
        paths = paths or {(layer_of("", self._owners), Direction.FORWARD): None}
        for path, direction in paths:
            part = 1 / len(paths)
            self._layers.setdefault(path, Amounts()).add(direction, ms * part, moved * part, flops * part)
        self._ops.setdefault(share.op, Amounts()).add(Direction.FORWARD, ms, moved, flops)

    # rows, in the order of the text or of their time

    def lines(self) -> tuple[LineRow, ...]:
        return tuple(
            LineRow(file, line, self._texts.get((file, line), ""), *_by_direction(found), found.bytes, found.flops)
            for (file, line), found in sorted(self._lines.items())
        )

    def layers(self) -> tuple[LayerTime, ...]:
        return tuple(
            LayerTime(path, *_by_direction(found), found.bytes, found.flops) for path, found in self._layers.items()
        )

    def ops(self) -> tuple[OpRow, ...]:
        rows = [OpRow(name, sum(found.ms.values()), found.bytes, found.flops) for name, found in self._ops.items()]
        return tuple(sorted(rows, key=lambda row: -row.ms))

    def kernels(self) -> tuple[KernelTime, ...]:
        rows = [
            KernelTime(
                kernel.first.name,
                symbol,
                kernel.first.instance.kernel.kind,
                kernel.ms,
                kernel.calls,
                kernel.flops,
                kernel.bytes,
                kernel.flops / kernel.working_ms / 1e6 if kernel.working_ms else 0.0,
                kernel.flops / kernel.possible_flops if kernel.possible_flops else 0.0,
                kernel.bytes / kernel.possible_bytes if kernel.possible_bytes else 0.0,
                MEMORY if 2 * kernel.memory_ms >= kernel.ms else ARITHMETIC,
                tuple(kernel.threads_ms),
                lines_of(kernel.origins),
            )
            for symbol, kernel in self._kernels.items()
        ]
        return tuple(sorted(rows, key=lambda row: -row.ms))


_NOWHERE = ("", 0)


def lines_of(origins: Iterable[Origin]) -> tuple[str, ...]:
    """`model.dl:4`, `model.dl:4,5 backward`."""
    said = margin_of(tuple(origins))
    return tuple(said.split(", ")) if said else ()


def _divided(shares: Sequence[Share], by_bytes: bool) -> Iterator[tuple[Share, float]]:
    """Each share with its part of the time."""
    weights = [share.bytes if by_bytes else share.flops for share in shares]
    if not any(weights):
        weights = [share.flops if by_bytes else share.bytes for share in shares]
    if not any(weights):
        weights = [1.0] * len(shares)
    total = sum(weights)
    return ((share, weight / total) for share, weight in zip(shares, weights, strict=True))


def _by_direction(found: Amounts) -> tuple[float, float, float]:
    return found.ms[Direction.FORWARD], found.ms[Direction.BACKWARD], found.ms[Direction.UPDATE]
