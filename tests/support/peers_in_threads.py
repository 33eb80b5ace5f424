"""Processes that train together, as threads of one process: what they exchange passes through queues."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, TypeVar

import numpy as np

from compiler.interface import Array

_Result = TypeVar("_Result")


class ThreadPeers:
    """See `compiler.interface.Peers`."""

    def __init__(self, rank: int, queues: Sequence[Sequence[SimpleQueue[Any]]]) -> None:
        self.rank, self.size, self._queues = rank, len(queues), queues
        self.sent_bytes = self.messages = 0

    def swap(self, sent: Sequence[Sequence[Array]], received: Sequence[Sequence[Array]]) -> None:
        for rank, arrays in enumerate(sent):
            for array in arrays:
                self._queues[self.rank][rank].put(array.copy())
                self.sent_bytes += array.nbytes
                self.messages += 1
        for rank, arrays in enumerate(received):
            for array in arrays:
                np.copyto(array, self._queues[rank][self.rank].get(timeout=60))

    def gathered(self, value: Any) -> list[Any]:
        for rank in range(self.size):
            self._queues[self.rank][rank].put(value)
        return [self._queues[rank][self.rank].get(timeout=60) for rank in range(self.size)]


def together(count: int, work: Callable[[ThreadPeers], _Result]) -> list[_Result]:
    """The results of `work` in so many threads that are peers of each other."""
    queues = [[SimpleQueue[Any]() for _ in range(count)] for _ in range(count)]
    results: dict[int, _Result] = {}

    def run(rank: int) -> None:
        results[rank] = work(ThreadPeers(rank, queues))

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[rank] for rank in range(count)]
