"""The update of a step that several processes divide: each updates its own part, and gives the weights to all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from compiler.frontend.update_rules import Accumulation
from compiler.interface import Peers, Results, Steps
from compiler.programs.kinds import GIVEN, STRETCH
from compiler.programs.shard_owners import OwnedUpdate
from compiler.programs.shard_sums import ShardSums
from compiler.support.arrays import Array, np
from compiler.targets.memory import TensorStore

_NO_ROWS = np.zeros(1, np.int64)


class DividedUpdate:
    """`totals` are the sums over shards, by the names of their tensors, which lie in `sums`."""

    def __init__(
        self,
        owned: OwnedUpdate,
        tensors: TensorStore,
        totals: Mapping[str, Array],
        sums: Sequence[ShardSums],
        peers: Peers,
    ) -> None:
        self._owned, self._layout, self._tensors, self._sums, self._peers = owned, owned.layout, tensors, sums, peers
        self._given = TensorStore(owned.given)
        every = {**totals, **{name: self._given[name] for name in self._given.names()}}
        self._store = tensors.beside({**every, **self._stretches(totals)})
        self._totals = {name: _writeable(array) for name, array in totals.items()}

    def _stretches(self, totals: Mapping[str, Array]) -> dict[str, Array]:
        """The parts of tensors that this process owns, of those that are cut."""
        layout, found = self._layout, dict[str, Array]()
        belonging = {**{path: path for path in layout.shapes}, **layout.states, **layout.followers}
        for name, path in belonging.items():
            if layout.is_cut(path) and self._tensors[name].shape == layout.shapes[path]:
                found[f"{name}{STRETCH}"] = self._own(self._tensors[name], path)
        for path in layout.shapes:
            name = Accumulation.gradient(path)
            if layout.is_cut(path) and name in totals:
                found[f"{name}{STRETCH}"] = self._own(totals[name], path)
        return found

    def _own(self, array: Array, path: str) -> Array:
        own = self._layout.stretch(path, self._peers.rank)
        return array.reshape(-1)[own.start : own.stop]

    def run(self, update: Steps) -> Results:
        """Make the update; what is not finite is told of this process's share."""
        broken: list[tuple[str, int]] = []
        scalars = dict[str, Array]()
        for level, part in enumerate(self._owned.parts):
            if 0 < level < self._layout.parts - 1:
                self._give_to_all(level - 1)
            if part is None:
                continue
            results = part.run(replace(update, tensors=self._store, rows=_NO_ROWS, batch=1))
            scalars |= results.scalars
            told = ((name.removesuffix(STRETCH), step) for name, step in results.nonfinite)
            broken += [(name, step) for name, step in told if not name.startswith(GIVEN)]
        for number, names in enumerate(self._layout.rounds):
            if number:  # all have taken what was given before
                self._sums[0].meet()
            self._give_weights(names)
        self._tensors.note_change()
        return Results(scalars, {}, tuple(broken))

    def _give_to_all(self, level: int) -> None:
        """Values that owners have found in the part of a level, packed to one message for each process."""
        peers, layout = self._peers, self._layout
        of_ranks: list[list[Array]] = [[] for _ in range(peers.size)]
        for one in layout.given:
            if one.level == level:
                of_ranks[layout.owner(one.path) or 0].append(_writeable(self._given[one.name]))
        packed = [np.empty(sum(array.nbytes for array in arrays), np.uint8) for arrays in of_ranks]
        for place, array in _places(of_ranks[peers.rank]):
            packed[peers.rank][place] = array.view(np.uint8)
        is_other = [rank != peers.rank and len(packed[rank]) > 0 for rank in range(peers.size)]
        sends = len(packed[peers.rank]) > 0
        sent = [[packed[peers.rank]] if sends and rank != peers.rank else [] for rank in range(peers.size)]
        peers.swap(sent, [[packed[rank]] if is_other[rank] else [] for rank in range(peers.size)])
        for rank in range(peers.size):
            for place, array in _places(of_ranks[rank]) if is_other[rank] else ():
                array.view(np.uint8)[:] = packed[rank][place]

    def _give_weights(self, names: Mapping[str, str]) -> None:
        """The new tensors of parameters, by the paths of these, in the place of their gradients."""
        rank, processes = self._peers.rank, range(self._peers.size)
        for sums in self._sums:
            pairs = [
                (path, self._totals[gradient], _writeable(self._tensors[name]))
                for path, name in names.items()
                if (gradient := Accumulation.gradient(path)) in sums.total.tensors
            ]
            for path, total, values in pairs:
                own = self._layout.stretch(path, rank)
                total[own.start : own.stop] = values[own.start : own.stop]
            sums.give()
            for other in processes:
                given = sums.given(other)
                for path, _, values in pairs if other != rank else ():
                    own = self._layout.stretch(path, other)
                    values[own.start : own.stop] = given[Accumulation.gradient(path)].reshape(-1)[own.start : own.stop]


def _places(arrays: Sequence[Array]) -> list[tuple[slice, Array]]:
    """Where each of some arrays lies, one behind the other, in bytes."""
    ends = np.cumsum([0, *(array.nbytes for array in arrays)]).tolist()
    return [(slice(low, high), array) for low, high, array in zip(ends, ends[1:], arrays, strict=False)]


def _writeable(array: Array) -> Array:
    """The elements in a row, of an array that is shown as one that only programs write."""
    flat = array.reshape(-1)
    flat.flags.writeable = True
    return flat
