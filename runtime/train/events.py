"""The events that a training sends to its observer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from compiler.driver import Setting
from compiler.support.record import record
from runtime.runs.start_weights import WeightsReport

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
    """`reason`: `finished`, `stopped early` or `interrupted`. `test` is empty where there is no test part."""

    reason: str
    run: Path | None
    step: int
    epochs: int
    best_epoch: int | None
    test: Scalars
    seconds: float


@record
class NonfiniteMet:
    """`output` of a step is not finite, and the training goes on: `action` is `skip` or `report`.

    `text` says where that comes from.
    """

    epoch: int
    step: int
    output: str
    text: str
    action: str


Event: TypeAlias = TrainingStarted | TrainingProgressed | EpochEnded | NonfiniteMet | TrainingEnded
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
