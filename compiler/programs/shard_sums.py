"""Tensors of shards to their sums over all shards, by the fixed tree, whichever processes have computed them.

Each process adds the shards that it computes. Of what then is left of the tree, each adds a slice of all elements, for
which it gets the slices of the others. It gives its sums to all, unless they belong to it: gradients do, of which it
makes new weights, and gives these. Gradients go in buckets while the last of the shards is still computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from compiler.graph.ir import Role
from compiler.interface import Executable, Peers, Steps
from compiler.programs.kinds import LEFT, RIGHT
from compiler.programs.shard_exchange import Bucket, Exchange
from compiler.programs.shard_owners import LINE, Owned
from compiler.programs.shard_tree import children, deepest, nodes_of_processes
from compiler.support.arrays import Array, np
from compiler.support.record import record
from compiler.targets.manifest import TensorSpec
from compiler.targets.memory import TensorStore
from compiler.types import DType, numpy_dtype

_NO_ROWS = np.zeros(1, np.int64)


@record
class Row:
    """Tensors of an element type that lie one behind the other, in whole lines. They are those of a bucket, in the
    order of the processes to which they belong, or belong to none."""

    dtype: DType
    bucket: int | None


def rows_of(specs: Sequence[TensorSpec], owned: Mapping[str, Owned]) -> dict[Row, list[TensorSpec]]:
    """The tensors of each row, in their order; rows of buckets come last, and in the order of these."""
    places = {name: (own.bucket, place) for place, (name, own) in enumerate(owned.items())}
    found: dict[Row, list[TensorSpec]] = {}
    for spec in sorted(specs, key=lambda spec: (*places.get(spec.name, (-1, 0)), spec.dtype.value)):
        bucket = owned[spec.name].bucket if spec.name in owned else None
        found.setdefault(Row(spec.dtype, bucket), []).append(spec)
    return found


def lines_of(spec: TensorSpec) -> int:
    """How many lines a tensor takes."""
    return -(-max(1, int(np.prod(spec.shape, dtype=np.int64))) * spec.dtype.size // LINE)


def cuts_of(specs: Sequence[TensorSpec], owned: Mapping[str, Owned], processes: int) -> list[int]:
    """At which lines the slices of processes begin in a row, and the end of the last."""
    lines = [lines_of(spec) for spec in specs]
    if not all(spec.name in owned for spec in specs):
        return [sum(lines) * rank // processes for rank in range(processes + 1)]
    cuts = [0] * (processes + 1)
    for spec, count, begin in zip(specs, lines, (sum(lines[:k]) for k in range(len(lines))), strict=True):
        for rank, own in enumerate(owned[spec.name].stretches):
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
    """Of the tensors `specs`, over `shards` shards. `total` holds the sums after `finish`.

    Of tensors that are `owned`, each process has the sums of its own elements alone.
    """

    def __init__(
        self,
        specs: Sequence[TensorSpec],
        shards: int,
        exchange: Exchange,
        peers: Peers,
        adder: Callable[[DType, int], Executable],
        owned: Mapping[str, Owned] | None = None,
    ) -> None:
        self._exchange, self._peers, self._adder, self._shards = exchange, peers, adder, shards
        self._nodes = nodes_of_processes(shards, peers.size)
        rows = rows_of(specs, owned or {})
        self._names = {row: tuple(spec.name for spec in own) for row, own in rows.items()}
        self._cuts = {row: cuts_of(own, owned or {}, peers.size) for row, own in rows.items()}
        self.held = [SummandMemory(rows) for _ in range(deepest(self._nodes[peers.rank]))]
        self.total = self.held[0] if peers.size == 1 else SummandMemory(rows)
        self._pieces: dict[tuple[int, int, int], list[tuple[Executable, Steps]]] = {}
        self._slices = {row: self._room(row) for row in rows}
        self._buckets = [row for row in rows if row.bucket is not None]
        self._others = [row for row in rows if row.bucket is None]

    def add_up(self, present: int, program: Executable, compute: Callable[[int, int], None]) -> None:
        """Add up the first `present` shards, which have rows; `compute(shard, place)` puts one into `held[place]` by a
        step of `program`. What is owned is on its way then."""
        self._receive(present)
        for number, node in enumerate(self._nodes[self._peers.rank]):
            if node.start < present:
                self._add_node(node, number, present, program, compute)
        if self._peers.size > 1:
            for row in self._others:
                self._share(row, present)

    def _add_node(
        self, node: range, number: int, present: int, program: Executable, compute: Callable[[int, int], None]
    ) -> None:
        """The sum of a node into `held[number]`; its buckets are sent while its last shard is computed."""
        steps = steps_of_node(node, number, present)
        last = max(k for k, (_, shard) in enumerate(steps) if shard is not None)
        behind = [place for place, _ in steps[last + 1 :]]
        for place, shard in steps[:last]:
            if shard is None:
                self._add_rows([place], self.total.rows)
            else:
                compute(shard, place)
        place, shard = steps[last]
        assert shard is not None
        buckets = [Bucket(self._names[row], partial(self._send, row, number, behind)) for row in self._buckets]
        with self._exchange.during(program, buckets):
            compute(shard, place)
        self._add_rows(behind, self._others)

    def _add_rows(self, places: Sequence[int], rows: Iterable[Row]) -> None:
        """Add to what is held at each place that which is held behind it."""
        for place in places:
            for row in rows:
                self._add(self.held[place].rows[row], self.held[place + 1].rows[row], row.dtype)

    def _send(self, row: Row, number: int, behind: Sequence[int]) -> None:
        """Send the bucket of a node to those who own it, when its last sums are made."""
        self._add_rows(behind, [row])
        self._exchange.begin(self._sent(row, [number]), self._nothing())

    def _receive(self, present: int) -> None:
        """Expect the buckets of the nodes of all others, in the order in which they send them."""
        if self._buckets:
            received = [
                [self._slices[row][node] for node in nodes if node.start < present for row in self._buckets]
                for nodes in self._nodes
            ]
            received[self._peers.rank] = []
            self._exchange.begin(self._nothing(), _filled(received))

    def _nothing(self) -> list[list[Array]]:
        return [[] for _ in range(self._peers.size)]

    def _sent(self, row: Row, numbers: Sequence[int]) -> list[list[Array]]:
        """The slice of each other process in a row of some of this process's nodes."""
        own = [self.held[number].rows[row] for number in numbers]
        slices = [[part[self._slice(rank, row)] for part in own] for rank in range(self._peers.size)]
        slices[self._peers.rank] = []
        return _filled(slices)

    def finish(self, present: int) -> None:
        """Have the sums of what this process owns, for which it waits."""
        if self._buckets:
            self._exchange.wait()
        for row in self._buckets:
            self._add_slice(row, present)

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
        """The sums of a row that belongs to none, which all need at once."""
        nodes = [[node for node in of_process if node.start < present] for of_process in self._nodes]
        received = [[self._slices[row][node] for node in of_process] for of_process in nodes]
        received[self._peers.rank] = []
        self._peers.swap(self._sent(row, range(len(nodes[self._peers.rank]))), _filled(received))
        self._add_slice(row, present)
        self._give([row])

    def _add_slice(self, row: Row, present: int) -> None:
        own = self._slice(self._peers.rank, row)
        self.total.rows[row][own] = self._added(range(self._shards), self._slices[row], row.dtype, present)

    def give(self) -> None:
        """Give what lies in `total` of the tensors that belong to this process to all, and get that of others."""
        self._give(self._buckets)

    def _give(self, rows: Sequence[Row]) -> None:
        peers = self._peers
        slices = [[self.total.rows[row][self._slice(rank, row)] for row in rows] for rank in range(peers.size)]
        others = [rank != peers.rank for rank in range(peers.size)]
        peers.swap(
            _filled([slices[peers.rank] if is_other else [] for is_other in others]),
            _filled([slices[rank] if is_other else [] for rank, is_other in enumerate(others)]),
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
        key = left.ctypes.data, right.ctypes.data, len(left)
        if key not in self._pieces:
            self._pieces[key] = [
                (
                    self._adder(dtype, end - begin),
                    Steps(TensorStore(()).beside({LEFT: left[begin:end], RIGHT: right[begin:end]}), {}, _NO_ROWS, 1),
                )
                for begin, end in _pieces(len(left), LINE // dtype.size)
            ]
        for adder, steps in self._pieces[key]:
            adder.run(steps)


def steps_of_node(node: range, place: int, present: int) -> list[tuple[int, int | None]]:
    """How the sum of a node comes into a place: shards that are computed into places, and, where it is None, what lies
    behind a place, which is added to it."""
    if len(node) == 1:
        return [(place, node.start)]
    left, right = children(node)
    found = steps_of_node(left, place, present)
    if right.start < present:
        found += [*steps_of_node(right, place + 1, present), (place, None)]
    return found


def _pieces(elements: int, line: int) -> Iterator[tuple[int, int]]:
    """Begin and end of pieces that have few sizes in all rows, so that few programs add them: powers of 4 lines."""
    begin = 0
    while begin < elements:
        lines = (elements - begin) // line
        size = line << ((lines.bit_length() - 1) // 2 * 2)
        yield begin, begin + size
        begin += size


def _filled(arrays: Sequence[Sequence[Array]]) -> list[list[Array]]:
    """Without arrays that have no element, of which no message is made."""
    return [[array for array in of_process if len(array)] for of_process in arrays]


def _aligned(like: Array) -> Array:
    """Room for an array of this size that begins at a line."""
    store = TensorStore([TensorSpec("", Role.OPTIMIZER_STATE, _dtype_of(like), like.shape)])
    return store.stretch([""])[: len(like)]


def _dtype_of(array: Array) -> DType:
    return next(dtype for dtype in DType if numpy_dtype(dtype) == array.dtype)
