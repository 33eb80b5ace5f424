"""Tensors of shards to their sums over all shards, by the fixed tree, whichever processes have computed them.

Each process adds the shards that it computes. Of what then is left of the tree, each adds a slice of all elements, for
which it gets the slices of the others. It gives its sums to all, unless they belong to it: gradients do, of which it
makes new weights, and gives these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from compiler.graph.ir import Role
from compiler.interface import Executable, Peers, Steps
from compiler.programs.kinds import LEFT, RIGHT
from compiler.programs.shard_owners import LINE
from compiler.programs.shard_tree import children, deepest, nodes_of_processes
from compiler.support.arrays import Array, np
from compiler.support.record import record
from compiler.targets.manifest import TensorSpec
from compiler.targets.memory import TensorStore
from compiler.types import DType, numpy_dtype

_NO_ROWS = np.zeros(1, np.int64)
Stretches: TypeAlias = Mapping[str, Sequence[range]]  # of each tensor that belongs to processes, the elements of each


@record
class Row:
    """Tensors of an element type that lie one behind the other, in whole lines; those that belong to processes do so
    in the order of these."""

    dtype: DType
    belongs: bool


def rows_of(specs: Sequence[TensorSpec], stretches: Stretches) -> dict[Row, list[TensorSpec]]:
    """The tensors of each row, in their order."""
    places = {name: place for place, name in enumerate(stretches)}
    found: dict[Row, list[TensorSpec]] = {}
    for spec in sorted(specs, key=lambda spec: (spec.dtype.value, places.get(spec.name, -1))):
        found.setdefault(Row(spec.dtype, spec.name in places), []).append(spec)
    return found


def lines_of(spec: TensorSpec) -> int:
    """How many lines a tensor takes."""
    return -(-max(1, int(np.prod(spec.shape, dtype=np.int64))) * spec.dtype.size // LINE)


def cuts_of(specs: Sequence[TensorSpec], stretches: Stretches, processes: int) -> list[int]:
    """At which lines the slices of processes begin in a row, and the end of the last."""
    lines = [lines_of(spec) for spec in specs]
    if not all(spec.name in stretches for spec in specs):
        return [sum(lines) * rank // processes for rank in range(processes + 1)]
    cuts = [0] * (processes + 1)
    for spec, count, begin in zip(specs, lines, (sum(lines[:k]) for k in range(len(lines))), strict=True):
        for rank, own in enumerate(stretches[spec.name]):
            if own:
                cuts[rank + 1] = begin + min(count, -(-own.stop * spec.dtype.size // LINE))
    for rank in range(processes):
        cuts[rank + 1] = max(cuts[rank + 1], cuts[rank])
    return [*cuts[:-1], sum(lines)]


class SummandMemory:
    """Room for tensors that are added up: `tensors` by their names, and each row of them as one array."""

    def __init__(self, rows: Mapping[Row, Sequence[TensorSpec]]) -> None:
        store = TensorStore([spec for specs in rows.values() for spec in specs])
        self.tensors: Mapping[str, Array] = {name: store[name] for name in store.names()}
        self.rows = {row: store.stretch([spec.name for spec in specs]) for row, specs in rows.items()}


class ShardSums:
    """Of the tensors `specs`, over `shards` shards. `total` holds the sums after `add_up`.

    Of tensors with `stretches`, each process has the sums of its own elements alone.
    """

    def __init__(
        self,
        specs: Sequence[TensorSpec],
        shards: int,
        peers: Peers,
        adder: Callable[[DType, int], Executable],
        stretches: Stretches | None = None,
    ) -> None:
        self._peers, self._adder, self._shards = peers, adder, shards
        self._nodes = nodes_of_processes(shards, peers.size)
        rows = rows_of(specs, stretches or {})
        self._cuts = {row: cuts_of(own, stretches or {}, peers.size) for row, own in rows.items()}
        self.held = [SummandMemory(rows) for _ in range(deepest(self._nodes[peers.rank]))]
        self.total = self.held[0] if peers.size == 1 else SummandMemory(rows)
        self._pairs: dict[tuple[int, int, int], TensorStore] = {}
        self._slices = {row: self._room(row) for row in rows}

    def add_up(self, present: int, compute: Callable[[int, int], None]) -> None:
        """Add up the first `present` shards, which have rows; `compute(shard, place)` puts one into `held[place]`."""
        for place, node in enumerate(self._nodes[self._peers.rank]):
            if node.start < present:
                self._compute(node, place, present, compute)
        if self._peers.size > 1:
            for row in self.total.rows:
                self._share(row, present)

    def _compute(self, node: range, place: int, present: int, compute: Callable[[int, int], None]) -> None:
        if len(node) == 1:
            compute(node.start, place)
            return
        left, right = children(node)
        self._compute(left, place, present, compute)
        if right.start < present:
            self._compute(right, place + 1, present, compute)
            for row, values in self.held[place].rows.items():
                self._add(values, self.held[place + 1].rows[row], row.dtype)

    def _room(self, row: Row) -> dict[range, Array]:
        """Room for this process's slice of each node, by the node; of its own ones the slice lies there already."""
        own = self._slice(self._peers.rank, row)
        found = {node: self.held[k].rows[row][own] for k, node in enumerate(self._nodes[self._peers.rank])}
        for rank, nodes in enumerate(self._nodes):
            if rank != self._peers.rank:
                found.update((node, _aligned(self.total.rows[row][own])) for node in nodes)
        return found

    def _slice(self, rank: int, row: Row) -> slice:
        """The elements of a row that a process adds up."""
        line, cuts = LINE // row.dtype.size, self._cuts[row]
        return slice(line * cuts[rank], line * cuts[rank + 1])

    def _share(self, row: Row, present: int) -> None:
        peers, values, room = self._peers, self.total.rows[row], self._slices[row]
        nodes = [[node for node in of_process if node.start < present] for of_process in self._nodes]
        others = [rank for rank in range(peers.size) if rank != peers.rank]
        own = [self.held[k].rows[row] for k in range(len(nodes[peers.rank]))]
        sent = [[part[self._slice(rank, row)] for part in own] if rank in others else [] for rank in range(peers.size)]
        received = [[room[node] for node in nodes[rank]] if rank in others else [] for rank in range(peers.size)]
        peers.swap(sent, received)
        values[self._slice(peers.rank, row)] = self._added(range(self._shards), room, row.dtype, present)
        if not row.belongs:
            self._give(row)

    def give(self) -> None:
        """Give what lies in `total` of the tensors that belong to this process to all, and get that of others."""
        for row in self.total.rows:
            if row.belongs and self._peers.size > 1:
                self._give(row)

    def _give(self, row: Row) -> None:
        peers = self._peers
        slices = [self.total.rows[row][self._slice(rank, row)] for rank in range(peers.size)]
        others = [rank != peers.rank for rank in range(peers.size)]
        peers.swap(
            [[slices[peers.rank]] if is_other else [] for is_other in others],
            [[slices[rank]] if is_other else [] for rank, is_other in enumerate(others)],
        )

    def _added(self, node: range, room: Mapping[range, Array], dtype: DType, present: int) -> Array:
        """The sum of a node in this process's slice."""
        if node in room:
            return room[node]
        left, right = children(node)
        summed = self._added(left, room, dtype, present)
        if right.start < present:
            self._add(summed, self._added(right, room, dtype, present), dtype)
        return summed

    def _add(self, left: Array, right: Array, dtype: DType) -> None:
        if not len(left):
            return
        key = left.ctypes.data, right.ctypes.data, len(left)
        if key not in self._pairs:
            self._pairs[key] = TensorStore(()).beside({LEFT: left, RIGHT: right})
        self._adder(dtype, len(left)).run(Steps(self._pairs[key], {}, _NO_ROWS, 1))


def _aligned(like: Array) -> Array:
    """Room for an array of this size that begins at a line."""
    store = TensorStore([TensorSpec("", Role.OPTIMIZER_STATE, _dtype_of(like), like.shape)])
    return store.stretch([""])[: len(like)]


def _dtype_of(array: Array) -> DType:
    return next(dtype for dtype in DType if numpy_dtype(dtype) == array.dtype)
