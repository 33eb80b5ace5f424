"""The states of the optimizer where several processes train together: each owner has its elements of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from compiler.interface import Peers
from compiler.programs.shard_owners import UpdateLayout
from compiler.support.arrays import Array

if TYPE_CHECKING:  # a check of a text imports no NumPy
    from compiler.targets.memory import TensorStore


class OwnedStates:
    """`own` has for each state the elements that this process owns, in a row. Of the others, it knows nothing."""

    def __init__(self, layout: UpdateLayout, tensors: TensorStore, peers: Peers) -> None:
        self._layout, self._tensors, self._peers = layout, tensors, peers
        self.own: Mapping[str, Array] = {name: self._parts(name)[peers.rank] for name in layout.states}

    def place(self, name: str) -> range:
        """Which elements of a state this process owns, where it lies in a row."""
        path = self._layout.states[name]
        return self._layout.stretch(path, self._peers.rank)

    def put(self, name: str, values: Array) -> None:
        """Replace what this process owns of a state."""
        self.own[name][:] = values
        self._tensors.note_change()

    def _parts(self, name: str) -> list[Array]:
        """The elements of a state that each process owns."""
        layout, path = self._layout, self._layout.states[name]
        flat = self._tensors[name].reshape(-1)
        flat.flags.writeable = True
        owner = layout.owner(path)
        if owner is not None:
            return [flat if rank == owner else flat[:0] for rank in range(self._peers.size)]
        return [flat[own.start : own.stop] for own in layout.stretches[path]]

    def collect(self) -> None:
        """Give all states to the first process, which saves them."""
        self._send(self._layout.states, [0])

    def complete(self, names: Collection[str] | None = None) -> None:
        """Give all states, or these, to all processes."""
        self._send(self._layout.states if names is None else names, range(self._peers.size))

    def _send(self, names: Collection[str], targets: Collection[int]) -> None:
        rank, sent, received = self._peers.rank, list[list[Array]](), list[list[Array]]()
        parts = [self._parts(name) for name in names]
        for other in range(self._peers.size):
            goes, comes = other != rank and other in targets, other != rank and rank in targets
            sent.append([of_ranks[rank] for of_ranks in parts if goes and len(of_ranks[rank])])
            received.append([of_ranks[other] for of_ranks in parts if comes and len(of_ranks[other])])
        self._peers.swap(sent, received)
        self._tensors.note_change()

    def release(self) -> None:
        """Give the memory of what other processes own back to the system, as far as it is whole pages."""
        from compiler.targets.memory import release  # as above

        for name in self._layout.states:
            for rank, part in enumerate(self._parts(name)):
                if rank != self._peers.rank:
                    release(part)
        self._tensors.note_change()
