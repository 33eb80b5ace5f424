"""A training that is compiled and loaded, and its steps from a position on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Protocol, TypeAlias

from compiler.driver import ALONE, Array, Executable, OwnedStates, Peers, Steps, Tensors, TrainingPlan
from compiler.support.record import record
from runtime.data.part import Part, at_epoch, rows_of_epoch
from runtime.data.streaming.reader import EpochRows
from runtime.inference.buckets import Buckets
from runtime.inference.evaluation import PartEvaluator
from runtime.runs.position import Length, Position
from runtime.runs.totals import Finisher
from runtime.train.events import Observer
from runtime.train.interruption import Interruption
from runtime.train.keepers import Keeper
from runtime.train.programs import Following

if TYPE_CHECKING:
    from compiler.diagnosis.reports import NonfiniteReport

LOSS = "loss"


class Steering(Protocol):
    """Lets others follow and steer a training."""

    wants_states: bool

    def meet(self, job: Job, position: Position, interruption: Interruption, observer: Observer) -> None:
        """Is called between two calls of the step; may wait, and may ask for an interruption. Changes nothing else."""
        ...

    def take_states(self, job: Job, position: Position) -> None:
        """Is called when it `wants_states` of the optimizer that lie with several processes, which are there then."""
        ...

    def leave(self) -> None:
        """Is called when the training has ended."""
        ...


NonfiniteFinder: TypeAlias = "Callable[[Steps], NonfiniteReport | None]"  # of a single step


@record
class Job:
    """Everything that a training needs, compiled and loaded."""

    step: Executable
    evaluator: PartEvaluator | None  # needed where there is a validation or test part
    tensors: Tensors
    settings: Mapping[str, float]  # of run time
    plan: TrainingPlan
    length: Length
    train: Part
    validation: Part | None
    test: Part | None
    rates: tuple[str, ...]  # the settings that hold the rates of the optimizers
    keeper: Keeper
    averages: Mapping[str, str] = field(default_factory=dict[str, str])  # the name of that of each parameter
    on_nan: str = "stop"  # or `skip` the step, or `report` the first one and go on
    explain: NonfiniteFinder | None = None
    watch: Callable[[Job, Position], None] | None = None  # is shown the training before each call
    following: Following | None = None
    finisher: Finisher | None = None  # of the metrics of an epoch; without it they are means, as the loss is
    steering: Steering | None = None
    reader: EpochRows | None = None  # of the rows of `train`, where these stay on disk
    buckets: Buckets | None = None  # the programs by the lengths of texts, of which `step` and `evaluator` are made
    peers: Peers = ALONE  # the processes that train together, each of which has a job of its own
    states: OwnedStates | None = None  # those of the optimizer, where there are several processes

    @property
    def scalars(self) -> tuple[str, ...]:
        """The loss and the metrics."""
        return (LOSS, *self.plan.metrics)


def scaled(settings: Mapping[str, float], names: Sequence[str], factor: float) -> dict[str, float]:
    """The settings, with some of them multiplied."""
    return {**settings, **{name: settings[name] * factor for name in names}}


def steps_at(
    job: Job, position: Position, count: int = 1, order: Array | None = None, of_process: bool = False
) -> Steps:
    """So many steps from `position` on, all of one epoch; `order` is that of the epoch's rows, if it is known.

    Where rows stay on disk, the arrays are good until the next call, and with `of_process` they need only have those
    that this process computes.
    """
    epoch, number = divmod(position.step, job.length.steps_per_epoch)
    arrays, batch = job.train.arrays, job.length.batch
    reader = None if job.train.stream is None or order is not None else job.reader
    if reader is not None and (of_process or reader.is_whole):
        arrays, rows = reader.take(epoch, number * batch, count * batch)
    else:
        order = rows_of_epoch(job.train, job.plan.seed, epoch, batch) if order is None else order
        rows = order[number * batch : (number + count) * batch]
    data = at_epoch(arrays, epoch)
    settings, seed = settings_at(job, position), job.plan.seed
    return Steps(job.tensors, data, rows, batch, position.step, seed, settings, job.peers, job.train.lasting)


def settings_at(job: Job, position: Position) -> Mapping[str, float]:
    """The settings of run time, with the rates that plateaus have left."""
    factor, kept = position.rate_factor, position.kept
    settings = job.settings if factor == 1.0 else scaled(job.settings, job.rates, factor)
    return {**settings, **kept} if kept else settings
