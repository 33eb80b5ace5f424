"""A command in several processes that were started together: its exit code, and how a failure ends all of them.

Whoever trains waits for all that were started with it, so each of them says which command it runs before it does so.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from typing import TYPE_CHECKING

from runtime.cli.failure import report_failure
from runtime.cli.main import INTERRUPTED
from runtime.processes.joining import expect_agreement, joined_peers
from runtime.processes.launching import tell_launcher
from runtime.reporting.terminal import say

if TYPE_CHECKING:
    from runtime.processes.mpi import MpiPeers


TRAINING = "dlc train"


def run_together(command: Callable[[MpiPeers], int], name: str = TRAINING) -> int:
    """Run a command as one of the processes that `mpiexec` has started. What fails in one ends all of them, and so does
    a command that has not the `name` of the others.

    A mistake that all find, as in the text of a model, is told once.
    """
    peers = joined_peers()
    tell_launcher(peers, None)
    try:
        expect_agreement(peers, lambda: {"command": f"`{name}`"})
        code = command(peers)
    except (Exception, KeyboardInterrupt) as error:
        if peers.all_fail(f"{type(error).__name__}: {error}"):
            peers.close()
            return _reported(error) if peers.rank == 0 else _code_of(error)
        say(f"{peers.name_of(peers.rank)} ends all {peers.size} processes:")
        peers.abort(_reported(error))
    peers.close()
    return code


def fail_together(error: Exception) -> int:
    """The exit code of a process that fails before it has met the others, which would wait for it."""

    def failing(_: MpiPeers) -> int:
        raise error

    return run_together(failing)


def meet_others(name: str) -> int:
    """The exit code of a process that runs a command for itself, 0 where all others do that, too.

    Then it is one of several no longer: whoever fails or is killed later ends no other.
    """
    try:
        from runtime.processes.mpi import leave  # an extra
    except (ImportError, RuntimeError):  # without MPI, nobody waits
        return 0
    code = run_together(lambda _: 0, name)
    leave()
    return code


def _reported(error: BaseException) -> int:
    if isinstance(error, Exception):
        return report_failure(error)
    print("interrupted", file=sys.stderr)
    return INTERRUPTED


def _code_of(error: BaseException) -> int:
    """The exit code, and nothing is printed."""
    with redirect_stderr(io.StringIO()):
        return _reported(error)
