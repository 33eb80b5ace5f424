"""Tensors of shards to their sums over all shards, by the fixed tree, whichever processes have computed them.

Each process adds the shards that it computes. Of what then is left of the tree, each adds a slice of all elements, for
which it gets the slices of the others, and gives its sums to all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from compiler.graph.ir import Role
from compiler.interface import Executable, Peers, Steps
from compiler.programs.kinds import LEFT, RIGHT
from compiler.programs.shard_tree import children, deepest, nodes_of_processes
from compiler.support.arrays import Array, np
from compiler.targets.manifest import TensorSpec
from compiler.targets.memory import TensorStore
from compiler.types import DType, numpy_dtype

LINE = 64  # bytes; slices begin at whole lines
_NO_ROWS = np.zeros(1, np.int64)


def lines_of(rank: int, processes: int, lines: int) -> range:
    """Which lines of a row a process adds up."""
    return range(lines * rank // processes, lines * (rank + 1) // processes)


class SummandMemory:
    """Room for tensors that are added up: `tensors` by their names, and all of an element type as one row of it."""

    def __init__(self, specs: Sequence[TensorSpec]) -> None:
        ordered = sorted(specs, key=lambda spec: spec.dtype.value)
        store = TensorStore(ordered)
        self.tensors: Mapping[str, Array] = {name: store[name] for name in store.names()}
        self.rows: dict[DType, Array] = {}
        for dtype in dict.fromkeys(spec.dtype for spec in ordered):
            self.rows[dtype] = store.stretch([spec.name for spec in ordered if spec.dtype is dtype])


class ShardSums:
    """Of the tensors `specs`, over `shards` shards. `total` holds the sums after `add_up`."""

    def __init__(
        self, specs: Sequence[TensorSpec], shards: int, peers: Peers, adder: Callable[[DType, int], Executable]
    ) -> None:
        self._peers, self._adder, self._shards = peers, adder, shards
        self._nodes = nodes_of_processes(shards, peers.size)
        self.held = [SummandMemory(specs) for _ in range(deepest(self._nodes[peers.rank]))]
        self.total = self.held[0] if peers.size == 1 else SummandMemory(specs)
        self._pairs: dict[tuple[int, int, int], TensorStore] = {}
        self._slices = {dtype: self._room(row) for dtype, row in self.total.rows.items()}

    def add_up(self, present: int, compute: Callable[[int, int], None]) -> None:
        """Add up the first `present` shards, which have rows; `compute(shard, place)` puts one into `held[place]`."""
        for place, node in enumerate(self._nodes[self._peers.rank]):
            if node.start < present:
                self._compute(node, place, present, compute)
        if self._peers.size > 1:
            for dtype in self.total.rows:
                self._share(dtype, present)

    def _compute(self, node: range, place: int, present: int, compute: Callable[[int, int], None]) -> None:
        if len(node) == 1:
            compute(node.start, place)
            return
        left, right = children(node)
        self._compute(left, place, present, compute)
        if right.start < present:
            self._compute(right, place + 1, present, compute)
            for dtype, row in self.held[place].rows.items():
                self._add(row, self.held[place + 1].rows[dtype], dtype)

    def _room(self, row: Array) -> dict[range, Array]:
        """Room for this process's slice of each node, by the node; of its own ones the slice lies there already."""
        own = self._slice(self._peers.rank, row)
        found = {node: self.held[k].rows[_dtype_of(row)][own] for k, node in enumerate(self._nodes[self._peers.rank])}
        for rank, nodes in enumerate(self._nodes):
            if rank != self._peers.rank:
                found.update((node, _aligned(row[own])) for node in nodes)
        return found

    def _slice(self, rank: int, row: Array) -> slice:
        """The elements of a row that a process adds up."""
        line = LINE // row.itemsize
        lines = lines_of(rank, self._peers.size, len(row) // line)
        return slice(line * lines.start, line * lines.stop)

    def _share(self, dtype: DType, present: int) -> None:
        peers, row, room = self._peers, self.total.rows[dtype], self._slices[dtype]
        nodes = [[node for node in of_process if node.start < present] for of_process in self._nodes]
        others = [rank for rank in range(peers.size) if rank != peers.rank]
        own = [self.held[k].rows[dtype] for k in range(len(nodes[peers.rank]))]
        sent = [[part[self._slice(rank, row)] for part in own] if rank in others else [] for rank in range(peers.size)]
        received = [[room[node] for node in nodes[rank]] if rank in others else [] for rank in range(peers.size)]
        peers.swap(sent, received)
        summed = self._added(range(self._shards), room, dtype, present)
        mine = self._slice(peers.rank, row)
        row[mine] = summed
        slices = [row[self._slice(rank, row)] for rank in range(peers.size)]
        peers.swap(
            [[slices[peers.rank]] if rank in others else [] for rank in range(peers.size)],
            [[slices[rank]] if rank in others else [] for rank in range(peers.size)],
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
