"""The events that a training sends to its observer, and their form in JSON, one object a line."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TypeAlias, assert_never

from compiler.driver import Setting
from compiler.support.record import record
from runtime.runs.start_weights import WeightsReport
from runtime.support.files import JsonValue, finite

Scalars: TypeAlias = Mapping[str, float]


@record
class TrainingStarted:
    """`step` is where a resumed training goes on, 0 for a new one. `run` is None where nothing is saved."""

    model: str
    run: Path | None
    parameters: int
    rows: Mapping[str, int]  # of each part: train, validation, test
    batch: int
    epochs: float
    total_steps: int
    step: int
    settings: tuple[Setting, ...]
    weights: WeightsReport | None = None  # where other weights than those of the seed are the start


@record
class TrainingProgressed:
    """Scalars are means over the epoch so far; `part` is the part of the data that is trained on or measured."""

    epoch: int
    step: int
    scalars: Scalars
    rate: float | None
    samples_per_second: float
    seconds_left: float
    part: str = "train"  # or validation, test


@record
class EpochEnded:
    """`epoch` counts from 1. `validation` is empty where there is no validation part."""

    epoch: int
    step: int
    scalars: Scalars
    validation: Scalars
    rate: float | None
    samples_per_second: float
    seconds: float
    is_best: bool


@record
class TrainingEnded:
    """`reason`: `finished`, `stopped early` or `interrupted`. `test` is empty where there is no test part.

    `waited` is the share of the time of all steps in which these waited for rows, None where all are in memory.
    """

    reason: str
    run: Path | None
    step: int
    epochs: int
    best_epoch: int | None
    test: Scalars
    seconds: float
    waited: float | None = None


@record
class NonfiniteMet:
    """`output` of a step is not finite, and the training goes on: `action` is `skip` or `report`.

    `text` says where that comes from.
    """

    epoch: int
    step: int
    output: str
    action: str
    text: str


@record
class TrainingPaused:
    """A page has paused the training, or lets it go on."""

    epoch: int
    step: int
    is_paused: bool


Event: TypeAlias = TrainingStarted | TrainingProgressed | EpochEnded | NonfiniteMet | TrainingPaused | TrainingEnded
# Is told of each event, in the thread that trains.
Observer: TypeAlias = Callable[[Event], None]


def ignore(event: Event) -> None:
    """The observer of a silent training."""
    del event


def told(observers: Sequence[Observer]) -> Observer:
    """The observer that tells each of several, in their order."""

    def tell(event: Event) -> None:
        for observer in observers:
            observer(event)

    return tell


def print_event(event: Event) -> None:
    """The observer of `dlc train --json`. Progress within an epoch is left out."""
    if isinstance(event, TrainingProgressed):
        return
    print(json.dumps(event_as_json(event), allow_nan=False), flush=True)


def event_as_json(
    event: TrainingStarted | EpochEnded | NonfiniteMet | TrainingPaused | TrainingEnded,
) -> dict[str, JsonValue]:
    """Metrics stand beside the other keys: `accuracy`, `val_accuracy`, `test_accuracy`; NaN and Inf are null."""
    match event:
        case TrainingStarted():
            return {
                "event": "start",
                "model": event.model,
                "run": _path(event.run),
                "parameters": event.parameters,
                "rows": dict(event.rows),
                "batch": event.batch,
                "epochs": event.epochs,
                "steps": event.total_steps,
                "step": event.step,
                "settings": {
                    s.name: {"value": s.value, "from": s.origin} for s in event.settings if s.origin != "derived"
                },
                **({} if event.weights is None else {"init_from": event.weights.to_json()}),
            }
        case EpochEnded():
            return {
                "event": "epoch",
                "epoch": event.epoch,
                "step": event.step,
                **prefixed("", event.scalars),
                **prefixed("val_", event.validation),
                "rate": event.rate,
                "samples_per_second": round(event.samples_per_second, 1),
                "seconds": round(event.seconds, 4),
                "best": event.is_best,
            }
        case NonfiniteMet():
            return {"event": "nonfinite", **asdict(event)}
        case TrainingPaused():
            return {"event": "pause" if event.is_paused else "go on", "epoch": event.epoch, "step": event.step}
        case TrainingEnded():
            return {
                "event": "end",
                "reason": event.reason,
                "run": _path(event.run),
                "step": event.step,
                "epochs": event.epochs,
                "best_epoch": event.best_epoch,
                **prefixed("test_", event.test),
                "seconds": round(event.seconds, 4),
                **({} if event.waited is None else {"waited": round(event.waited, 4)}),
            }
        case _:
            assert_never(event)


def prefixed(prefix: str, scalars: Mapping[str, float]) -> dict[str, JsonValue]:
    return {prefix + name: finite(value) for name, value in scalars.items()}


def _path(path: object) -> str | None:
    return None if path is None else str(path)
