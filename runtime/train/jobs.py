"""A checked program and loaded data to a training that is ready to run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from compiler import driver
from compiler.driver import (
    ALONE,
    EVALUATION,
    INITIALISATION,
    GraphKind,
    Options,
    Peers,
    Program,
    Purpose,
    Steps,
    Tensors,
    TrainingPlan,
)
from compiler.errors.diagnostics import UsageError
from compiler.support.record import record
from runtime.data.choices import refuse_outside
from runtime.data.loading import LoadedData, load_training_data
from runtime.data.part import Part, in_precision, lasting, numbered
from runtime.data.preparation import Preparation
from runtime.data.reading import source_at
from runtime.data.specs import Cuts
from runtime.data.streaming.reader import EpochRows, OwnShards
from runtime.inference import model
from runtime.inference.buckets import Buckets, chosen_sizes
from runtime.inference.evaluation import PartEvaluator, finisher_of
from runtime.runs.frozen_weights import put_frozen_weights
from runtime.runs.position import Length, Position
from runtime.runs.start_weights import WeightsReport
from runtime.support.memory import expect_room
from runtime.train.compiled_job import Job, NonfiniteFinder
from runtime.train.events import TrainingStarted
from runtime.train.keepers import Keeper, averages_of
from runtime.train.programs import compiled_step, following_of, kind_at

if TYPE_CHECKING:
    from compiler.diagnosis.reports import NonfiniteReport


@record
class DataParts:
    """The rows of a training by purpose."""

    train: Part
    validation: Part | None = None
    test: Part | None = None


def load_data(
    program: Program, path: Path | None, known: Preparation | None = None, cuts: Cuts | None = None
) -> LoadedData:
    """The data that `train` names, or that lies at `path`, with the tokenizers of a training that is `known`.

    `cuts` stand for those of the program. Raises UsageError where there is neither.
    """
    plan = model.training_of(program)
    source = plan.data if path is None else source_at(path, plan.data)
    if source is None:
        raise UsageError(f"{program.model} has no data to train on", "give --data PATH, or `data = …` in `train`")
    loaded = load_training_data(program.inputs, source, cuts or plan.cuts, known)
    parts = [part for part in (loaded.train, loaded.validation, loaded.test) if part is not None]
    remarks = (remark for part in parts for remark in refuse_outside(program, part))
    loaded = replace(loaded, notes=tuple(dict.fromkeys((*loaded.notes, *remarks))))
    return _with_buckets(program, loaded, known)


def _with_buckets(program: Program, loaded: LoadedData, known: Preparation | None) -> LoadedData:
    """The data with the sizes at which its batches are computed: those of a training that is `known`."""
    notes = list(loaded.notes)
    sizes = chosen_sizes(program, loaded.train, loaded.most_sizes, notes) if known is None else known.buckets
    if not sizes:
        return replace(loaded, notes=tuple(notes))
    preparation = replace(loaded.preparation, buckets=sizes)
    return replace(
        loaded,
        train=replace(loaded.train, buckets=sizes),
        preparation=preparation,
        summary={**loaded.summary, "preparation": preparation.to_json()},
        notes=tuple(notes),
    )


def compile_ahead(program: Program, parts: DataParts, options: Options, step: int = 0) -> int:
    """Compile at once what `fresh_tensors`, `job_of` and the training from `step` on will ask for.

    The result is how many programs were not in the cache. Raises ResourceError where they need too much memory.
    """
    length = model.length_of(model.training_of(program), len(parts.train.rows))
    first = kind_at(program, step // length.steps_per_epoch)
    kinds = [INITIALISATION, first]
    if parts.validation is not None or parts.test is not None:
        kinds.append(EVALUATION)
    plan = model.training_of(program)
    if plan.finished and EVALUATION in kinds:
        kinds.append(driver.finishing_kind(program, of_training=False))
    if plan.finished_metrics:
        kinds.append(driver.finishing_kind(program, of_training=True))
    if model.training_of(program).follower is not None:
        kinds.append(GraphKind(Purpose.FOLLOWING))
    options = replace(options, batch=length.batch)
    compiled = driver.compile_ahead(program, list(dict.fromkeys(kinds)), options)
    expect_room(program, [first], options, copies=1)
    return compiled


def fresh_tensors(program: Program, options: Options) -> Tensors:
    """All persistent tensors, with the start values that the seed gives."""
    tensors = driver.allocate(program, options)
    driver.initialise(program, tensors, program.plan.seed if program.plan else 0, options)
    return tensors


def first_tensors(program: Program, options: Options) -> Tensors:
    """The tensors with which a training begins: as `fresh_tensors`, with the weights of frozen layers."""
    tensors = fresh_tensors(program, options)
    put_frozen_weights(program, tensors)
    return tensors


def job_of(
    program: Program, parts: DataParts, tensors: Tensors, options: Options, keeper: Keeper, peers: Peers = ALONE
) -> Job:
    """Compile the programs of the training. Raises UsageError where nothing says how long to train."""
    plan = model.training_of(program)
    length = model.length_of(plan, len(parts.train.rows))
    settings = model.runtime_settings(program, length)
    options = replace(options, batch=length.batch)
    train = numbered(program, in_precision(parts.train, options.dtype))
    evaluator, buckets = None, Buckets(program, parts.train.buckets)
    if parts.validation is not None or parts.test is not None:
        executable = buckets.executable(lambda one: driver.compile_program(one, EVALUATION, options))
        evaluator = PartEvaluator(
            executable,
            plan.evaluated_rows(len(parts.train.rows)),
            settings,
            options.dtype,
            buckets,
            finisher_of(program, options),
            peers,
        )
    return Job(
        step=buckets.executable(lambda one: compiled_step(one, options, length.steps_per_epoch)),
        evaluator=evaluator,
        tensors=tensors,
        settings=settings,
        plan=plan,
        length=length,
        train=lasting(train),
        validation=None if parts.validation is None else lasting(parts.validation),
        test=None if parts.test is None else lasting(parts.test),
        rates=model.rate_names(program, settings) if plan.plateau is not None else (),
        keeper=keeper,
        finisher=finisher_of(program, options, of_training=True) if plan.finished_metrics else None,
        averages=averages_of(program),
        explain=_explanation(buckets, options, length.steps_per_epoch),
        reader=_reader(plan, train, length, peers),
        following=following_of(program, tensors, options),
        buckets=buckets,
        peers=peers,
        states=driver.owned_states(program, options, tensors, peers) if peers.size > 1 else None,
    )


def _reader(plan: TrainingPlan, train: Part, length: Length, peers: Peers) -> EpochRows | None:
    """Of rows that stay on disk: those of the shards that this process computes.

    At which length of texts a batch is computed follows from all of its rows, which every process reads then.
    """
    if train.stream is None:
        return None
    reads_all = peers.size == 1 or bool(train.buckets)
    own = None if reads_all else OwnShards(length.batch, plan.shards, peers.rank, peers.size)
    return EpochRows(train.stream, plan.seed, own, length.batch)


def _explanation(buckets: Buckets, options: Options, steps_per_epoch: int) -> NonfiniteFinder:
    def explain(step: Steps) -> NonfiniteReport | None:
        program, step = buckets.of_step(step)
        from compiler.diagnosis.nonfinite import explain_step  # every op of the reference, once a loss is not finite

        return explain_step(program, kind_at(program, step.first_step // steps_per_epoch), options, step)

    return explain


def start_of(program: Program, job: Job, position: Position, weights: WeightsReport | None = None) -> TrainingStarted:
    """The first event of a training; `weights` are those that it starts from."""
    parts = {"train": job.train, "validation": job.validation, "test": job.test}
    return TrainingStarted(
        model=program.model,
        run=job.keeper.run,
        parameters=model.parameter_count(program),
        rows={name: 0 if part is None else len(part.rows) for name, part in parts.items()},
        batch=job.length.batch,
        epochs=job.length.epochs,
        total_steps=job.length.total_steps,
        step=position.step,
        settings=model.resolved_settings(program, job.length, job.train.buckets),
        weights=weights,
    )
