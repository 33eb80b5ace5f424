"""The recording of a target's threads in some steps: calls of kernels and waits at barriers, in nanoseconds."""

from __future__ import annotations

import numpy as np

from compiler.support.arrays import Array
from compiler.support.record import record

HEAD, TAIL = -2, -1  # in place of an entry: the barrier before a step, and that behind its last entry
WAITS = -1  # in place of the last item: a wait at a barrier, which has none
EVENT = np.dtype([(name, np.int64) for name in ("entry", "begin", "end", "first", "last", "shard")])
"""An event. `entry` is a line of the execution plan, or HEAD or TAIL: the barriers around a step.

`begin` and `end` are nanoseconds of the system's monotonic clock. A call of a kernel has the items from `first` to
below `last`, of the `shard` of a chain (0 outside of one); a wait has WAITS as its `last`.
"""


@record(eq=False)
class Step:
    """One step: for each thread its events in order, and when it left the barrier before the step and that behind it.

    The last two events of a thread are the waits TAIL and HEAD. `spans` is [threads, 2].
    """

    events: tuple[Array, ...]
    spans: Array

    @property
    def nanoseconds(self) -> float:
        """How long the step took: the mean of its threads, which leave barriers at almost the same time."""
        return float(np.mean(self.spans[:, 1] - self.spans[:, 0]))


@record(eq=False)
class Recording:
    """The steps of a call. `wall_ns` is the time of the call as its caller saw it; `lost` counts events without room.

    Where events were lost, the steps are those that are complete.
    """

    steps: tuple[Step, ...]
    wall_ns: int
    lost: int
    made: int  # steps that the call made


def is_wait(events: Array) -> Array:
    """Which events are waits at a barrier."""
    return events["last"] == WAITS


def steps_of(taken: list[Array]) -> list[Step]:
    """The complete steps of a call, from the events of each thread."""
    heads = [np.flatnonzero(events["entry"] == HEAD) for events in taken]
    found: list[Step] = []
    for number in range(min(len(places) for places in heads) - 1):
        events: list[Array] = []
        spans: list[tuple[int, int]] = []
        for own, places in zip(taken, heads, strict=True):
            begin, end = places[number], places[number + 1]
            events.append(own[begin + 1 : end + 1])
            spans.append((int(own["end"][begin]), int(own["end"][end])))
        found.append(Step(tuple(events), np.array(spans, np.int64)))
    return found
