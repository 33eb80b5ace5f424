"""A barrier stands before each instance that touches memory which another thread may have written, or still reads."""

from __future__ import annotations

from dataclasses import replace

from compiler.schedule.ir import Schedule, spans_of_loops


def set_barriers(schedule: Schedule) -> Schedule:
    """The schedule with its barriers.

    None is needed behind the instances that run once: the runner sets one there. A loop whose work is shared has one at
    the start of each step; a chain has none inside.
    """
    instances = schedule.instances
    ends = {chain.first: chain.last for chain in schedule.chains}
    inside = {k for chain in schedule.chains for k in range(chain.first + 1, chain.last + 1)}
    spans = spans_of_loops(instances)
    starts = {first for first, last in spans if any(i.parallel for i in instances[first : last + 1])}
    found: list[bool] = []
    written: dict[int, bool] = {}  # by buffer, whether by several threads
    read: dict[int, bool] = {}
    behind_once = sum([i.once for i in instances])
    for number, instance in enumerate(instances):
        if number == behind_once:
            written, read = {}, {}
        wide = instance.parallel
        together = instances[number : ends.get(number, number) + 1]
        reads, writes = [b for i in together for b in i.reads], [b for i in together for b in i.writes]
        meets = [b for b in (*reads, *writes) if b in written and (wide or written[b])]
        meets += [b for b in writes if b in read and (wide or read[b])]
        is_met = (bool(meets) or number in starts) and number not in inside
        if is_met:
            written, read = {}, {}
        found.append(is_met)
        for buffers, used in ((instance.writes, written), (instance.reads, read)):
            for b in buffers:
                used[b] = wide or (b in used and used[b])
    return replace(schedule, barriers=tuple(found))
