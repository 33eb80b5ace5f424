"""Room for tensors of shards that are added up, which processes of one machine see of each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from compiler.interface import Peers
from compiler.programs.shard_tree import deepest
from compiler.support.arrays import Array
from compiler.support.record import record
from compiler.targets.manifest import TensorSpec
from compiler.targets.memory import TensorStore, size_of_arena
from compiler.types import DType


@record
class Row:
    """Tensors of an element type that lie one behind the other, in whole lines. They are those of a bucket, in the
    order of the processes to which they belong, or belong to none."""

    dtype: DType
    bucket: int | None


class SummandMemory:
    """Room for tensors that are added up: `tensors` by their names, and each row of them as one array."""

    def __init__(self, rows: Mapping[Row, Sequence[TensorSpec]], arena: Array | None = None) -> None:
        store = TensorStore(_specs_of(rows), arena)
        self.tensors: Mapping[str, Array] = {name: store[name] for name in store.names()}
        self.rows = {row: store.stretch([spec.name for spec in specs]) for row, specs in rows.items()}


@record(eq=False)
class ProcessMemory:
    """The memory of a process: the sums over all shards, and those of nodes of their tree, by their places."""

    total: SummandMemory
    held: Sequence[SummandMemory]


def memories_of(
    rows: Mapping[Row, Sequence[TensorSpec]], nodes: Sequence[Sequence[range]], peers: Peers
) -> dict[int, ProcessMemory]:
    """The memory of this process and of all those whose memory it sees, by their ranks."""
    counts = [deepest(of_process) for of_process in nodes]
    if peers.size == 1:
        held = [SummandMemory(rows) for _ in range(counts[0])]
        return {0: ProcessMemory(held[0], held)}
    size = size_of_arena(_specs_of(rows))
    seen = peers.shared(size * (1 + counts[peers.rank]))
    found: dict[int, ProcessMemory] = {}
    for rank in seen or [peers.rank]:
        places = range(1 + counts[rank])
        arenas = [seen[rank][size * k : size * (k + 1)] if seen else None for k in places]
        total, *held = [SummandMemory(rows, arena) for arena in arenas]
        found[rank] = ProcessMemory(total, held)
    return found


def _specs_of(rows: Mapping[Row, Sequence[TensorSpec]]) -> list[TensorSpec]:
    return [spec for specs in rows.values() for spec in specs]
