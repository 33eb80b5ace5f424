"""The processes that `mpiexec` started together, through mpi4py.

No call waits in MPI itself: each looks from time to time whether its messages have come, and sleeps between. A process
that stops answering is found by its neighbour (`pulse`), and one that fails ends all (`failed`), so that nothing hangs.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

import numpy as np
from mpi4py import MPI

from compiler.driver import Array
from runtime.processes.pulse import Pulse
from runtime.processes.shared_memory import NotSharedError, Offer, offered, opened

_Result = TypeVar("_Result")

_AWAKE = 5e-3  # seconds before a wait begins to sleep: MPI moves a few pieces of a large message at each look
_SHORTEST, _LONGEST = 20e-6, 2e-3  # seconds between two looks while it sleeps
_SECONDS_FOR_THE_SAME = 2.0  # within which a failure of all processes is one failure
_VERDICT = 512  # bytes of the words that are compared
_SECONDS_FOR_WORDS = 0.2  # that a launcher gets to pass on the last words, before it ends all and drops them
_ABORTED = 1


class MpiPeers:
    """See `compiler.interface.Peers`."""

    def __init__(self) -> None:
        world = MPI.COMM_WORLD
        self.rank, self.size = world.Get_rank(), world.Get_size()
        self._data, self._early, self._verdicts = world.Dup(), world.Dup(), world.Dup()
        self.overlaps = _may_use_threads()
        near = world.Split_type(MPI.COMM_TYPE_SHARED)
        self.is_first_of_host = near.Get_rank() == 0
        self._hosts: list[int] = self.gathered(near.bcast(self.rank))  # by rank, the first rank of its host
        self._has_told_refusal = False
        self.places: tuple[tuple[str, int], ...] = tuple(self.gathered((MPI.Get_processor_name(), os.getpid())))
        self._pulse = Pulse(world.Dup(), self.name_of, self._abort) if self.overlaps else None
        seen: list[set[int]] = near.allgather(set(_usable_numbers()))
        self.share_of_processors = max(1, len(set[int]().union(*seen)) // near.Get_size())

    def name_of(self, rank: int) -> str:
        """A process in messages."""
        return f"rank {rank} on {self.places[rank][0]}"

    @property
    def description(self) -> str:
        """The processes by rank, as launchers name them."""
        each = (f"{self.name_of(rank)} (process {number})" for rank, (_, number) in enumerate(self.places))
        return f"{self.size} processes: {', '.join(each)}"

    def begin(self, sent: Sequence[Sequence[Array]], received: Sequence[Sequence[Array]]) -> _Messages:
        return _Messages(self._early, sent, received)

    def swap(self, sent: Sequence[Sequence[Array]], received: Sequence[Sequence[Array]]) -> None:
        _wait(_Messages(self._data, sent, received).is_done)

    def gathered(self, value: Any) -> list[Any]:
        own = np.frombuffer(pickle.dumps(value, pickle.HIGHEST_PROTOCOL), np.uint8)
        sizes = np.empty(self.size, np.int64)
        request = self._data.Iallgather(np.array([len(own)], np.int64), sizes)
        _wait(request.Test)
        every = np.empty(int(sizes.sum()), np.uint8)
        request = self._data.Iallgatherv(own, (every, sizes.tolist()))
        _wait(request.Test)
        ends = np.cumsum(sizes)
        return [pickle.loads(every[end - size : end].tobytes()) for size, end in zip(sizes, ends, strict=True)]

    def shared(self, size: int) -> Mapping[int, Array]:
        if self.size == len(set(self._hosts)):
            return {}
        offer = _unless_refused(lambda: offered(size))
        offers: list[Offer | str] = self.gathered(offer)
        near = [rank for rank, host in enumerate(self._hosts) if host == self._hosts[self.rank]]
        seen = _unless_refused(lambda: {rank: opened(offers[rank]) for rank in near})
        refused: list[str | None] = self.gathered(seen if isinstance(seen, str) else None)
        if isinstance(offer, Offer):
            os.close(offer.descriptor)
        reason = next((refused[rank] for rank in near if refused[rank] is not None), None)
        if reason is None:
            return seen if isinstance(seen, dict) and len(near) > 1 else {}
        if self.is_first_of_host and not self._has_told_refusal:
            self._has_told_refusal = True
            print(f"note: processes of {self.places[self.rank][0]} exchange by messages ({reason})", file=sys.stderr)
        return {}

    def all_fail(self, what: str) -> bool:
        """Whether every process fails with these words at this time."""
        own, every = np.zeros(_VERDICT, np.uint8), np.zeros((self.size, _VERDICT), np.uint8)
        words = np.frombuffer(what.encode()[:_VERDICT], np.uint8)
        own[: len(words)] = words
        request = self._verdicts.Iallgather(own, every)
        end = time.monotonic() + _SECONDS_FOR_THE_SAME
        _wait(lambda: request.Test() or time.monotonic() > end)
        return bool(request.Test()) and bool((every == own).all())

    def abort(self, code: int) -> NoReturn:
        """End all processes at once."""
        sys.stdout.flush()
        sys.stderr.flush()
        time.sleep(_SECONDS_FOR_WORDS)
        MPI.COMM_WORLD.Abort(code)
        os._exit(code)  # MPICH goes on until its launcher has ended it

    def close(self) -> None:
        """Leave together with all others."""
        self.gathered(None)
        if self._pulse is not None:
            self._pulse.stop()

    def _abort(self, message: str) -> None:
        print(f"error: {message}", file=sys.stderr)
        self.abort(_ABORTED)


def leave() -> None:
    """Be no process of MPI any longer, once all peers are closed."""
    MPI.Finalize()


class _Messages:
    """Messages between two processes arrive in the order in which they are sent, as MPI promises, so none has a tag."""

    def __init__(
        self, communicator: MPI.Comm, sent: Sequence[Sequence[Array]], received: Sequence[Sequence[Array]]
    ) -> None:
        self._requests = [
            communicator.Irecv(_bytes(array), rank) for rank, arrays in enumerate(received) for array in arrays
        ]
        self._requests += [
            communicator.Isend(_bytes(array), rank) for rank, arrays in enumerate(sent) for array in arrays
        ]

    def is_done(self) -> bool:
        return MPI.Request.Testall(self._requests)


def _unless_refused(share: Callable[[], _Result]) -> _Result | str:
    """What is shared, or why it is not."""
    try:
        return share()
    except NotSharedError as error:
        return str(error)


def _usable_numbers() -> Iterable[int]:
    """The numbers of the processors that this process may use."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)


def _may_use_threads() -> bool:
    return MPI.Query_thread() == MPI.THREAD_MULTIPLE


def _bytes(array: Array) -> Array:
    return array.reshape(-1).view(np.uint8)


def _wait(is_done: Callable[[], bool]) -> None:
    end = time.perf_counter() + _AWAKE
    while time.perf_counter() < end:
        if is_done():
            return
        time.sleep(0)  # lets another process compute, where there are more of them than processors
    pause = _SHORTEST
    while not is_done():
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST)
