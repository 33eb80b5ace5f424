"""`--processes N`: a training in several processes of this machine, and what to do when one is killed."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from compiler.errors.diagnostics import CheckpointError, DlcError
from runtime.processes.launching import launched
from runtime.runs.checkpoint import newest_checkpoint


class RunLostError(DlcError):
    """A process of several was killed, and with it the training."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self._advise(fix)


def launch(processes: int, words: Sequence[str]) -> int:
    """Run a training's command line in so many processes, and give the exit code. Raises RunLostError, UsageError."""
    code, killed = launched(processes, _of_each(words))
    if killed is None:
        return code
    message = (
        f"{killed.name} was ended by signal {killed.signal} ({killed.reason}), and with it all {processes} processes"
    )
    if killed.signal == signal.SIGKILL:
        message += "; the system kills where memory runs out"
    raise RunLostError(message, _way_on(killed.run or _resumed(words), processes))


def _way_on(run: Path | None, processes: int) -> str:
    """What to do with a run that has lost its processes."""
    if run is None:
        return "nothing was saved: begin the training again"
    try:
        newest_checkpoint(run / "checkpoints", reads_states=False)
    except CheckpointError:
        return f"{run} has no checkpoint yet: begin the training again"
    return f"its last checkpoint is whole: dlc train --resume {run} --processes {processes}"


def _resumed(words: Sequence[str]) -> Path | None:
    """The run that a command line resumes."""
    for word, following in pairwise([*words, ""]):
        if word == "--resume":
            return Path(following)
        if word.startswith("--resume="):
            return Path(word.partition("=")[2])
    return None


def _of_each(words: Sequence[str]) -> list[str]:
    """The command line of each process."""
    kept: list[str] = []
    left = iter(words)
    for word in left:
        if word == "--processes":
            next(left)
        elif not word.startswith("--processes="):
            kept.append(word)
    return kept
