"""The calls of a step in order, and which of them must wait for which: those that touch the same bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from compiler.support.record import record
from compiler.targets.manifest import LOOP, Manifest, Touched


@record
class Call:
    """A line of the execution plan at a place of the loops around it: how many of their steps were made before."""

    entry: int
    counters: tuple[int, ...]


def calls_of(manifest: Manifest, first: int, last: int) -> Iterator[Call]:
    """The calls of the entries from `first` to below `last`, with loops unrolled."""
    yield from _unrolled(manifest, first, last, ())


def _unrolled(manifest: Manifest, first: int, last: int, counters: tuple[int, ...]) -> Iterator[Call]:
    number = first
    while number < last:
        entry = manifest.entries[number]
        if entry.function == LOOP:
            assert isinstance(entry.extent, int)
            for step in range(entry.extent):
                yield from _unrolled(manifest, number + 1, entry.first_argument, (*counters, step))
            number = entry.first_argument
        elif entry.function >= 0:
            yield Call(number, counters)
        number += 1


def dependences(touched: Sequence[Sequence[Touched]]) -> list[tuple[int, ...]]:
    """For each of the calls, in their order, those before it that it must wait for.

    Of two calls that touch the same byte, of which one writes it, the later one waits for the earlier one, or for
    others that do. No dependence follows from others.
    """
    segments = _segments(touched)
    writer: dict[tuple[int, int], int] = {}
    readers: dict[tuple[int, int], list[int]] = {}
    before: list[int] = []  # all calls that each one waits for, as bits
    found: list[tuple[int, ...]] = []
    for number, spans in enumerate(touched):
        wanted = set[int]()
        for span in spans:
            for segment in segments[span.arena, span.begin, span.end]:
                if span.writes:
                    wanted.update(readers.get(segment, ()))
                if segment in writer:
                    wanted.add(writer[segment])
        for span in spans:
            for segment in segments[span.arena, span.begin, span.end]:
                if span.writes:
                    writer[segment], readers[segment] = number, []
        for span in spans:
            for segment in segments[span.arena, span.begin, span.end]:
                if not span.writes and writer.get(segment) != number:
                    readers.setdefault(segment, []).append(number)
        kept, bits = list[int](), 0
        for other in sorted(wanted, reverse=True):
            if not bits >> other & 1:
                kept.append(other)
                bits |= before[other] | 1 << other
        before.append(bits)
        found.append(tuple(kept[::-1]))
    return found


def _segments(touched: Sequence[Sequence[Touched]]) -> dict[tuple[int, int, int], list[tuple[int, int]]]:
    """By arena, begin and end, the stretches that a span is made of: it begins and ends between them everywhere."""
    spans = {(t.arena, t.begin, t.end) for line in touched for t in line}
    bounds: dict[int, set[int]] = {}
    for arena, begin, end in spans:
        bounds.setdefault(arena, set()).update((begin, end))
    ordered = {arena: sorted(found) for arena, found in bounds.items()}
    place = {arena: {bound: k for k, bound in enumerate(found)} for arena, found in ordered.items()}
    return {
        (arena, begin, end): [(arena, k) for k in range(place[arena][begin], place[arena][end])]
        for arena, begin, end in spans
    }
