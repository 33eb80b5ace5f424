"""Tensors of shards to their sums over all shards, by the fixed tree, whichever processes have computed them.

Each process adds the shards that it computes. Of what then is left of the tree, each adds a slice of all elements. It
reads summands of others where it sees their memory; else these send them, gradients in buckets, while the last of their
shards is still computed. It gives its sums to all, unless they belong to it: gradients do, of which it makes new
weights, and gives these. A row of few bytes is added by all: that takes one exchange, not two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from compiler.graph.ir import Role
from compiler.interface import Executable, Peers, Steps
from compiler.programs.kinds import LEFT, RIGHT, SUM
from compiler.programs.shard_exchange import Bucket, Exchange
from compiler.programs.shard_memory import Row, memories_of
from compiler.programs.shard_owners import LINE, Owned
from compiler.programs.shard_tree import children, nodes_of_processes
from compiler.support.arrays import Array, np
from compiler.targets.manifest import TensorSpec
from compiler.targets.memory import TensorStore, address_of
from compiler.types import DType, numpy_dtype

_NO_ROWS = np.zeros(1, np.int64)
_FEW = 256  # lines of a row that all add up


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


def is_added_by_all(row: Row, specs: Sequence[TensorSpec]) -> bool:
    """Whether every process adds a whole row."""
    return row.bucket is None and sum(map(lines_of, specs)) <= _FEW


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
        self._whole = [row for row, own in rows.items() if is_added_by_all(row, own)]
        self._cuts = {row: cuts_of(own, owned or {}, peers.size) for row, own in rows.items()}
        self._memories = memories_of(rows, self._nodes, peers)
        self.held, self.total = self._memories[peers.rank].held, self._memories[peers.rank].total
        self._near = [rank for rank in self._memories if rank != peers.rank]
        self._far = [rank for rank in range(peers.size) if rank not in self._memories]
        self._pieces: dict[tuple[int, int, int, int], list[tuple[Executable, Steps]]] = {}
        self._summands = {row: self._room(row) for row in rows}
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
            self._share(present)

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
        sent = self._buckets if self._far else []
        buckets = [Bucket(self._names[row], partial(self._send, row, number, behind)) for row in sent]
        with self._exchange.during(program, buckets):
            compute(shard, place)
        self._add_rows(behind, self._others if sent else self.total.rows)

    def _add_rows(self, places: Sequence[int], rows: Iterable[Row]) -> None:
        """Add to what is held at each place that which is held behind it."""
        for place in places:
            for row in rows:
                left, right = self.held[place].rows[row], self.held[place + 1].rows[row]
                self._add(left, right, left, row.dtype)

    def _send(self, row: Row, number: int, behind: Sequence[int]) -> None:
        """Send the bucket of a node to those who own it and do not see it, when its last sums are made."""
        self._add_rows(behind, [row])
        self._exchange.begin(self._sent([row], [number]), self._for_far(lambda _: []))

    def _receive(self, present: int) -> None:
        """Expect the buckets of the nodes of others, in the order in which they send them."""
        if self._buckets and self._far:
            self._exchange.begin(
                self._for_far(lambda _: []),
                self._for_far(
                    lambda rank: [
                        self._summands[row][node] for node in self._present(rank, present) for row in self._buckets
                    ]
                ),
            )

    def _present(self, rank: int, present: int) -> list[range]:
        return [node for node in self._nodes[rank] if node.start < present]

    def _for_far(self, arrays: Callable[[int], Sequence[Array]]) -> list[list[Array]]:
        """Arrays for each process whose memory is not seen, but for those without an element, of which no message is
        made."""
        return [
            [array for array in arrays(rank) if len(array)] if rank in self._far else []
            for rank in range(self._peers.size)
        ]

    def _sent(self, rows: Sequence[Row], numbers: Sequence[int]) -> list[list[Array]]:
        """The slices of others in rows of some of this process's nodes."""
        return self._for_far(
            lambda rank: [self.held[number].rows[row][self._slice(rank, row)] for row in rows for number in numbers]
        )

    def finish(self, present: int) -> None:
        """Have the sums of what this process owns, for which it waits."""
        if self._buckets:
            self._exchange.wait()
        for row in self._buckets:
            self._add_slice(row, present)

    def _room(self, row: Row) -> dict[range, Array]:
        """This process's slice of each node, by the node: where others hold it if it sees that, and else room for it.

        What all add up lies in room of its own, since others read what is held.
        """
        own = self._slice(self._peers.rank, row)
        found: dict[range, Array] = {}
        for rank, nodes in enumerate(self._nodes):
            for place, node in enumerate(nodes):
                is_seen = rank in self._memories and (row not in self._whole or self._peers.size == 1)
                seen = self._memories[rank].held[place].rows[row][own] if is_seen else None
                found[node] = _aligned(self.total.rows[row][own]) if seen is None else seen
        return found

    def _slice(self, rank: int, row: Row) -> slice:
        """The elements of a row that a process adds up."""
        if row in self._whole:
            return slice(None)
        line, cuts = LINE // row.dtype.size, self._cuts[row]
        return slice(line * cuts[rank], line * cuts[rank + 1])

    def _share(self, present: int) -> None:
        """The sums of the rows that belong to none, which all need at once. Others have computed their shards then."""
        rows = self._others
        numbers = range(len(self._present(self._peers.rank, present)))
        self._swap(
            self._sent(rows, numbers),
            self._for_far(
                lambda rank: [self._summands[row][node] for row in rows for node in self._present(rank, present)]
            ),
        )
        for row in self._whole:
            for rank, memory in self._memories.items():
                for place, node in enumerate(self._present(rank, present)):
                    self._summands[row][node][:] = memory.held[place].rows[row]
        for row in rows:
            self._add_slice(row, present)
        cut = [row for row in rows if row not in self._whole]
        if cut:
            self._give(cut)
            for rank in self._near:
                for row in cut:
                    of_rank = self._slice(rank, row)
                    self.total.rows[row][of_rank] = self._memories[rank].total.rows[row][of_rank]

    def _swap(self, sent: list[list[Array]], received: list[list[Array]]) -> None:
        """Exchange messages with those whose memory is not seen, and wait until all others have come here."""
        for rank in self._near:
            sent[rank], received[rank] = [np.zeros(1, np.uint8)], [np.empty(1, np.uint8)]
        if any(sent) or any(received):
            self._peers.swap(sent, received)

    def meet(self) -> None:
        """Wait for those who see this process's memory."""
        nothing = self._for_far(lambda _: [])
        self._swap(nothing, [*nothing])

    def _add_slice(self, row: Row, present: int) -> None:
        total = self.total.rows[row][self._slice(self._peers.rank, row)]
        summed = self._added(range(self._shards), self._summands[row], row.dtype, present, total)
        if summed is not total:
            total[:] = summed

    def give(self) -> None:
        """Give what lies in `total` of the tensors that belong to this process to all. That of others then lies in
        `given`."""
        self._give(self._buckets)

    def given(self, rank: int) -> Mapping[str, Array]:
        """The tensors with the elements that a process has given."""
        return self._memories.get(rank, self._memories[self._peers.rank]).total.tensors

    def _give(self, rows: Sequence[Row]) -> None:
        def slices(rank: int) -> list[Array]:
            return [self.total.rows[row][self._slice(rank, row)] for row in rows]

        own = slices(self._peers.rank)
        self._swap(self._for_far(lambda _: own), self._for_far(slices))

    def _added(self, node: range, room: Mapping[range, Array], dtype: DType, present: int, into: Array | None) -> Array:
        """The sum of a node in this process's slice, which is made `into` an array, or in the place of a summand."""
        if node in room:
            return room[node]
        left, right = children(node)
        summed = self._added(left, room, dtype, present, None)
        if right.start >= present:
            return summed
        into = summed if into is None else into
        self._add(summed, self._added(right, room, dtype, present, None), into, dtype)
        return into

    def _add(self, left: Array, right: Array, into: Array, dtype: DType) -> None:
        key = address_of(left), address_of(right), address_of(into), len(left)
        if key not in self._pieces:
            self._pieces[key] = [
                (
                    self._adder(dtype, end - begin),
                    Steps(
                        TensorStore(()).beside({LEFT: left[begin:end], RIGHT: right[begin:end], SUM: into[begin:end]}),
                        {},
                        _NO_ROWS,
                        1,
                    ),
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


def _aligned(like: Array) -> Array:
    """Room for an array of this size that begins at a line."""
    store = TensorStore([TensorSpec("", Role.OPTIMIZER_STATE, _dtype_of(like), like.shape)])
    return store.stretch([""])[: len(like)]


def _dtype_of(array: Array) -> DType:
    return next(dtype for dtype in DType if numpy_dtype(dtype) == array.dtype)
