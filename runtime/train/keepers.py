"""The keepers of a training's results, such as memory and a run directory, and averaged weights (`ema` in `train`).

Beside each trained parameter, the step moves an average. While training, parameters hold the weights that the optimizer
moves. Whenever the model is measured or saved, averages stand in their place: a checkpoint holds the average as the
weight, and the weight in the place of the average.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from compiler import driver
from compiler.driver import Array, Program, Tensors
from compiler.errors.diagnostics import CheckpointError
from runtime.runs.checkpoint import Checkpoint, best_checkpoint, write_checkpoint
from runtime.runs.directory import RunDirectory
from runtime.runs.position import Position
from runtime.train.events import EpochEnded, event_as_json


class MemoryKeeper:
    """Copies the best weights; nothing touches a disk."""

    run: Path | None = None

    def __init__(self, tensors: Tensors, weights: Sequence[str], averages: Mapping[str, str] | None = None) -> None:
        self._tensors, self._weights, self._averages = tensors, weights, averages or {}
        self._best: dict[str, Array] = {}
        self.history: list[EpochEnded] = []

    def epoch_ended(self, position: Position, event: EpochEnded) -> None:
        del position
        self.history.append(event)
        if event.is_best:
            self._best = {name: self._tensors[self._averages.get(name, name)].copy() for name in self._weights}

    def save(self, position: Position) -> None:
        del position

    def give_up(self) -> bool:
        self.restore_best()
        return False

    def restore_best(self) -> None:
        for name, values in self._best.items():
            self._tensors.write(name, values)


class OthersKeeper:
    """Of a process beside the first, which keeps everything for all."""

    run: Path | None = None

    def epoch_ended(self, position: Position, event: EpochEnded) -> None:
        del position, event

    def save(self, position: Position) -> None:
        del position

    def give_up(self) -> bool:
        return False

    def restore_best(self) -> None:
        pass


class RunKeeper:
    """Writes checkpoints and metrics of a run.

    Saving may cost a twentieth of the time: where epochs are shorter than that, the best weights are copied and written
    later, and a crash loses at most the moments since the last saving.
    """

    def __init__(
        self,
        directory: RunDirectory,
        tensors: Tensors,
        weights: Sequence[str],
        seed: int,
        keep: int,
        averages: Mapping[str, str] | None = None,
        saves_each_epoch: bool = False,
    ) -> None:
        """`saves_each_epoch`: however short epochs are, so that no time decides which checkpoints there are."""
        self._saves_each_epoch = saves_each_epoch
        self._directory, self._tensors, self._weights = directory, tensors, weights
        self._exchanged = {**(averages or {}), **{average: path for path, average in (averages or {}).items()}}
        self._seed, self._keep = seed, keep
        self._put_off: Checkpoint | None = None  # the best so far, not yet on the disk
        self._written: Position | None = None
        self._may_save_at = 0.0

    @property
    def run(self) -> Path:
        return self._directory.path

    def epoch_ended(self, position: Position, event: EpochEnded) -> None:
        """Note the epoch; keep the weights if they are the best so far. Saving may be put off for a moment."""
        with self._resumable():
            self._directory.append_metrics(event_as_json(event))
        if self._saves_each_epoch or time.monotonic() >= self._may_save_at:
            if not event.is_best:
                self._write_put_off()
            self._write(self._checkpoint(position), event.is_best)
        elif event.is_best:
            live = self._checkpoint(position)
            self._put_off = replace(live, weights=_copies(live.weights), optimizer=_copies(live.optimizer))

    def save(self, position: Position) -> None:
        """Save everything now."""
        if position == self._written:
            return
        is_put_off = self._put_off is not None and self._put_off.position == position
        self._write_put_off()
        if not is_put_off:
            self._write(self._checkpoint(position), is_best=False)

    def give_up(self) -> bool:
        """The tensors are spoilt: write what was put off. Whether the run now holds a good state."""
        self._write_put_off()
        return self._written is not None

    def restore_best(self) -> None:
        """Put the best weights back into the tensors."""
        best = best_checkpoint(self._directory.checkpoints).checkpoint
        for name in self._weights:
            self._tensors.write(name, best.weights[name])

    def resumes_at(self, position: Position) -> None:
        """The run's newest checkpoint is that of `position`."""
        self._written = position

    def _write_put_off(self) -> None:
        if self._put_off is not None:
            self._write(self._put_off, is_best=True)

    def _write(self, checkpoint: Checkpoint, is_best: bool) -> None:
        begin = time.monotonic()
        with self._resumable():
            timeless = replace(checkpoint, position=checkpoint.position.timeless)
            write_checkpoint(self._directory.checkpoints, timeless, is_best, self._keep)
            self._directory.write_times(checkpoint.position)
        end = time.monotonic()
        self._may_save_at = end + 20 * (end - begin)
        self._written = checkpoint.position
        if is_best:
            self._put_off = None

    @contextmanager
    def _resumable(self) -> Generator[None]:
        """Where writing fails, the user is told how to go on from what was written before."""
        try:
            yield
        except CheckpointError as error:
            if self._written is not None:
                step = f"step {self._written.step}"
                error.fix = f"{error.fix}; then go on from {step}: dlc train --resume {self.run}"
            raise

    def _checkpoint(self, position: Position) -> Checkpoint:
        others = [name for name in self._tensors.names() if name not in self._weights]
        return Checkpoint(self._named(self._weights), self._named(others), position, self._seed)

    def _named(self, names: Sequence[str]) -> dict[str, Array]:
        return {name: self._tensors[self._exchanged.get(name, name)] for name in names}


def _copies(tensors: Mapping[str, Array]) -> dict[str, Array]:
    return {name: values.copy() for name, values in tensors.items()}


Keeper: TypeAlias = MemoryKeeper | RunKeeper | OthersKeeper
"""Keeps what must outlast a training: in memory, in a run directory, or leaves that to another process."""


def averages_of(program: Program) -> Mapping[str, str]:
    """The name of the average of each parameter that has one."""
    if program.plan is None:
        return {}
    own = (rule for rule in program.plan.every_rule if any(state.name == driver.AVERAGE for state in rule.states))
    return {rule.parameter: f"{rule.parameter}:{driver.AVERAGE}" for rule in own}


def exchange(tensors: Tensors, averages: Mapping[str, str]) -> None:
    """Parameters and averages take each other's content."""
    for path, average in averages.items():
        content = tensors[path].copy()
        tensors.write(path, tensors[average])
        tensors.write(average, content)


@contextmanager
def averaged(tensors: Tensors, averages: Mapping[str, str]) -> Generator[None, None, None]:
    """Averages stand in the place of the parameters, for a measurement."""
    exchange(tensors, averages)
    try:
        yield
    finally:
        exchange(tensors, averages)
