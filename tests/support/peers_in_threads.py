"""Processes that train together, as threads of one process: what they exchange passes through queues."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue
from typing import Any, TypeAlias, TypeVar

import numpy as np

from compiler.interface import Array, Transfer

_Result = TypeVar("_Result")
Queues: TypeAlias = Sequence[Sequence["SimpleQueue[Any]"]]


class _Transfer:
    def __init__(self, peers: ThreadPeers, arrays: Sequence[int]) -> None:
        self._peers, self._arrays = peers, arrays

    def is_done(self) -> bool:
        return self._peers.still_awaited().isdisjoint(self._arrays)


class ThreadPeers:
    """See `compiler.interface.Peers`. There are `near` processes on each machine."""

    def __init__(self, rank: int, queues: Queues, early: Queues, near: int = 1) -> None:
        self.rank, self.size, self.queues, self.early, self.near = rank, len(queues), queues, early, near
        self.sent_bytes = self.messages = 0
        self.overlaps = True
        self._awaited: list[deque[Array]] = [deque() for _ in queues]

    def begin(self, sent: Sequence[Sequence[Array]], received: Sequence[Sequence[Array]]) -> Transfer:
        for rank, arrays in enumerate(sent):
            for array in arrays:
                self.early[self.rank][rank].put(array.copy())
                self.sent_bytes += array.nbytes
                self.messages += 1
        for awaited, arrays in zip(self._awaited, received, strict=True):
            awaited.extend(arrays)
        return _Transfer(self, [id(array) for arrays in received for array in arrays])

    def still_awaited(self) -> set[int]:
        """Fill with what has come the arrays that were begun to be received, in order; those that are left."""
        for rank, awaited in enumerate(self._awaited):
            while awaited and not self.early[rank][self.rank].empty():
                np.copyto(awaited.popleft(), self.early[rank][self.rank].get())
        return {id(array) for awaited in self._awaited for array in awaited}

    def swap(self, sent: Sequence[Sequence[Array]], received: Sequence[Sequence[Array]]) -> None:
        for rank, arrays in enumerate(sent):
            for array in arrays:
                self.queues[self.rank][rank].put(array.copy())
                self.sent_bytes += array.nbytes
                self.messages += 1
        for rank, arrays in enumerate(received):
            for array in arrays:
                np.copyto(array, self.queues[rank][self.rank].get(timeout=60))

    def shared(self, size: int) -> Mapping[int, Array]:
        if self.near == 1:
            return {}
        room = np.zeros(size + 64, np.uint8)
        every = self.gathered(room[-room.ctypes.data % 64 :][:size])
        return {rank: seen for rank, seen in enumerate(every) if rank // self.near == self.rank // self.near}

    def gathered(self, value: Any) -> list[Any]:
        for rank in range(self.size):
            self.queues[self.rank][rank].put(value)
        return [self.queues[rank][self.rank].get(timeout=60) for rank in range(self.size)]


def together(count: int, work: Callable[[ThreadPeers], _Result], near: int = 1) -> list[_Result]:
    """The results of `work` in so many threads that are peers of each other, `near` on each machine."""
    queues, early = ([[SimpleQueue[Any]() for _ in range(count)] for _ in range(count)] for _ in range(2))
    results: dict[int, _Result] = {}

    def run(rank: int) -> None:
        results[rank] = work(ThreadPeers(rank, queues, early, near))

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[rank] for rank in range(count)]
