"""A newer checkpoint of a run, a newer run of a folder, or another file of weights, to the model that is served."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from compiler.errors.diagnostics import CheckpointError, DlcError, UsageError
from compiler.support.record import record
from runtime.reporting.terminal import say, say_labelled
from runtime.runs.checkpoint import checkpoints_in
from runtime.runs.directory import RunDirectory, runs_in
from runtime.runs.trained import Trained
from runtime.serving.batching import Batcher
from runtime.serving.metrics import Metrics
from runtime.serving.model import Compiled, ServedModel
from runtime.serving.requests import Interface


@record
class Sighting:
    """The newest that there is to serve: `place` is a run or a model file, and `mark` differs when its weights do."""

    place: Path
    mark: tuple[object, ...]


Opener: TypeAlias = Callable[[Path], Trained]


def newest(place: Path, weights: Path | None) -> Sighting:
    """What is at a path: a run with its checkpoints, the newest run of a folder, or a model file with its weights.

    Raises OSError, and CheckpointError for a folder whose runs have no checkpoint.
    """
    if weights is not None or not place.is_dir():
        return Sighting(place, () if weights is None else _mark_of(weights))
    inside = runs_in(place)
    if _is_run(place) or not inside:
        return Sighting(place, _checkpoints(place))
    begun = [(str(RunDirectory(run, None).read_record("run.json").get("created")), run) for run in inside]
    for _, run in sorted(begun, reverse=True):
        if found := _checkpoints(run):
            return Sighting(run, found)
    raise CheckpointError("no run in this folder has a checkpoint yet", place, "wait for the first, or train again")


def _is_run(place: Path) -> bool:
    return (place / "run.json").is_file()


def _checkpoints(run: Path) -> tuple[str, ...]:
    try:
        return tuple(path.name for path in checkpoints_in(RunDirectory(run, None).checkpoints))
    except OSError:
        return ()


def _mark_of(weights: Path) -> tuple[object, ...]:
    found = weights.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def version_of(trained: Trained) -> str:
    """`digits-20261123-1702@000002-step-1035-best`, or the file of weights with its time."""
    weights = trained.weights
    assert weights is not None
    if weights.is_dir():
        return f"{weights.resolve().parent.parent.name}@{weights.name}"
    written = time.strftime("%Y%m%d-%H%M%S", time.localtime(weights.stat().st_mtime))
    return f"{weights.name}@{written}"


class Reloader:
    """Looks every `seconds` for something newer than `seen`, and lets the batcher go on with it."""

    def __init__(
        self, source: tuple[Path, Path | None], opened: Opener, seen: Sighting, seconds: float, metrics: Metrics
    ) -> None:
        self._source, self._opened, self._seen = source, opened, seen
        self._seconds, self._metrics = seconds, metrics

    async def watch(self, batcher: Batcher, interface: Interface) -> None:
        """Until it is cancelled. What cannot take the place of the model is told of, and the model stays."""
        while True:
            await asyncio.sleep(self._seconds)
            try:
                seen = await asyncio.to_thread(newest, *self._source)
            except (DlcError, OSError):
                continue  # a folder or file that is being replaced; what is served does not need it
            if seen == self._seen:
                continue
            self._seen = seen
            try:
                await self._take_over(seen, batcher, interface)
            except Exception as error:
                self._metrics.reloads.labels("refused").inc()
                say_labelled("warning", f"{_now()} {seen.place} is not served: {error}")
                say(f"{_now()} {batcher.model.name} {batcher.model.version} is served as before")

    async def _take_over(self, seen: Sighting, batcher: Batcher, interface: Interface) -> None:
        """Load and compile beside the model that is served, try one row between two batches, and change places."""
        before = batcher.model
        model = await asyncio.to_thread(self._loaded, seen, before.version, before.compiled)
        if model is None:
            return
        found = await batcher.between_batches(lambda: model.interface(interface.most_rows))
        if (model.name, found) != (before.name, interface):
            message = f"{model.name} has other inputs or outputs than {before.name}, which is served"
            raise UsageError(message, "start another server for it")
        batcher.model = model
        self._metrics.serves(model.name, model.version)
        self._metrics.reloads.labels("done").inc()
        say(f"{_now()} {model.name} {model.version} is served")

    def _loaded(self, seen: Sighting, version: str, known: Compiled) -> ServedModel | None:
        """The model that was sighted; None where it is the one that is served."""
        trained = self._opened(seen.place)
        found = version_of(trained)
        return None if found == version else ServedModel(trained, found, known)


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")
