"""The results of each segment of a shard's step, known without its graph once it was cut."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import TypeVar

from compiler.graph.ir import Graph, Role
from compiler.programs.kinds import KEPT_FOR_LATER
from compiler.support.cache import ObjectCache
from compiler.support.record import record
from compiler.targets.manifest import TensorSpec
from compiler.types import TensorType, depends_on_batch, static_elements

_Made = TypeVar("_Made")


@record
class ShardSegment:
    """`sums` are the tensors that are added up over all shards when the segment is done, by their names.

    `kept` names the values that later segments are fed with, of this segment and of earlier ones, which take
    `bytes_of_row` for each row; `fed` the inputs and targets that this segment reads rows of.
    """

    sums: tuple[tuple[str, TensorType], ...]
    kept: tuple[str, ...] = ()
    fed: tuple[str, ...] = ()
    bytes_of_row: int = 0


@record
class SumsOfShards:
    """The tensors that are added up over shards: counts before all, and those of each segment."""

    counts: Sequence[TensorSpec]
    of_segments: Sequence[Sequence[TensorSpec]]
    segments: Sequence[ShardSegment]

    @property
    def every(self) -> list[TensorSpec]:
        return [*self.counts, *(spec for specs in self.of_segments for spec in specs)]


def segments_of(graphs: Sequence[Graph]) -> tuple[ShardSegment, ...]:
    """Of the graphs of a step, in their order."""
    found: list[ShardSegment] = []
    for place, graph in enumerate(graphs):
        made = [output for earlier in graphs[: place + 1] for output in earlier.outputs]
        needed = {entry.name for later in graphs[place + 1 :] for entry in later.inputs}
        kept = [output for output in made if output.name.startswith(KEPT_FOR_LATER) and output.name in needed]
        sums = tuple((o.name, o.value.type) for o in graph.outputs if o.role is Role.OPTIMIZER_STATE)
        rows = [i for i in graph.inputs if i.role is Role.DATA and depends_on_batch(i.value.type.shape)]
        several = len(graphs) > 1  # one alone gathers its rows itself
        fed = tuple(i.name for i in rows if several and not i.name.startswith(KEPT_FOR_LATER))
        of_rows = [o.value.type for o in kept if depends_on_batch(o.value.type.shape)]
        size = sum(static_elements(type_.shape) * type_.dtype.size for type_ in of_rows)
        found.append(ShardSegment(sums, tuple(output.name for output in kept), fed, size))
    return tuple(found)


def known(cache: ObjectCache, name: str, make: Callable[[], _Made]) -> _Made:
    """What the cache keeps under a name, made where it has nothing."""
    content = cache.get(name)
    try:
        if content is not None:
            return pickle.loads(content)  # our own file: checksummed, in a folder that only this user can write
    except Exception:  # of another version, in spite of its name: anything can be wrong with it
        pass
    made = make()
    cache.put(name, pickle.dumps(made, pickle.HIGHEST_PROTOCOL))
    return made
