"""This process as one of several that `mpiexec` has started, and the check that all agree."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from compiler.driver import Alone
from compiler.errors.diagnostics import DlcError, UsageError
from runtime.support.files import missing

if TYPE_CHECKING:
    from compiler.driver import TrainingPlan
    from runtime.processes.mpi import MpiPeers

Processes: TypeAlias = "MpiPeers | Alone"
_Result = TypeVar("_Result")

_SHOWN = 40  # letters of what differs
# How many processes there are, as MPICH, Open MPI, and Slurm's `srun` tell each of them.
_COUNTS = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")


class DisagreementError(DlcError):
    """Processes that were started together would not train the same model in the same way."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self._advise(fix)


def started_together() -> int:
    """How many processes were started together with this one, 1 where it is alone."""
    return next((int(os.environ[name]) for name in _COUNTS if os.environ.get(name, "").isdigit()), 1)


def joined_peers() -> MpiPeers:
    """The processes that were started together. Raises UsageError without mpi4py."""
    try:
        from runtime.processes.mpi import MpiPeers  # an extra
    except ImportError as error:
        raise missing("mpi4py", "mpi", "training in several processes") from error
    return MpiPeers()


def share_of_processors(peers: Processes) -> int:
    """How many threads a process has where nothing says it: all processes of a host use its processors once."""
    return 0 if isinstance(peers, Alone) else peers.share_of_processors


def expect_shards(plan: TrainingPlan, processes: int) -> None:
    """Raise UsageError where there are fewer shards than processes, or a step that is not cut into shards."""
    if processes > 1 and plan.updates:
        message = f"{processes} processes were started, and a step of `update` blocks is made by one"
        raise UsageError(message, "start one process; its threads share the work")
    shards = plan.shards
    if processes > shards:
        has = "a batch is one shard" if shards == 1 else f"a batch has {shards} shards"
        raise UsageError(
            f"{processes} processes were started, and {has}",
            f"cut it with `shards = {processes}` or more in `train`, which decides the bits, or start fewer processes",
        )


def in_turn(peers: Processes, work: Callable[[], _Result]) -> _Result:
    """Do some work whose results are cached: the first process of each host does it before the others look for them."""
    if isinstance(peers, Alone):
        return work()
    if not peers.is_first_of_host:
        peers.gathered(None)
        return work()
    made = work()
    peers.gathered(None)
    return made


def expect_agreement(peers: Processes, facts: Callable[[], Mapping[str, str]]) -> None:
    """Compare what each process has, by the names of it. Raises DisagreementError in all of them."""
    if isinstance(peers, Alone):
        return
    every: list[Mapping[str, str]] = peers.gathered(dict(facts()))
    for what in dict.fromkeys(what for told in every for what in told):
        for rank, told in enumerate(every):
            both = told.get(what, "none"), every[0].get(what, "none")
            if both[0] != both[1]:
                shown = f": {both[0]} and {both[1]}" if max(map(len, both)) <= _SHOWN else ""
                message = f"{peers.name_of(rank)} has another {what} than {peers.name_of(0)}{shown}"
                raise DisagreementError(message, "start all processes with the same version, files, settings and data")
