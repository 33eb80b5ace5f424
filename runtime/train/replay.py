"""A past step of a run once more, bit for bit: from the nearest checkpoint before it, or from the start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from compiler.driver import Array, Options, Program, Results, Tensors
from compiler.errors.diagnostics import CheckpointError, UsageError
from compiler.support.record import record
from runtime.data.loading import LoadedData
from runtime.inference.model import training_of, weight_names
from runtime.runs.checkpoint import Checkpoint, checkpoints_in, read_checkpoint
from runtime.runs.directory import RunDirectory, open_run
from runtime.runs.frozen_weights import FROZEN, put_recorded_layers
from runtime.runs.numerics import replayed_by_another, stretches_of, versions_in
from runtime.runs.position import Position
from runtime.runs.start_weights import INIT_FROM, put_recorded_weights
from runtime.runs.trained import choices_of, program_of, put_weights, target_with_bits_of
from runtime.train.compiled_job import Job, steps_at
from runtime.train.jobs import DataParts, compile_ahead, fresh_tensors, job_of
from runtime.train.keepers import MemoryKeeper, averages_of
from runtime.train.programs import kind_at
from runtime.train.session import data_of_run, put_optimizer_states
from runtime.train.training import replay_to


@record
class Replay:
    """The tensors that were asked for, by their names, as they were after `step` updates; `start` is where from.

    They have `same_bits` as in the run unless `notes` or `warnings` say why not. `numerics` are the versions that
    computed them in the run.
    """

    step: int
    start: int
    epoch: int
    tensors: Mapping[str, Array]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    numerics: tuple[int, ...]
    same_bits: bool


def replay(run: Path, step: int, paths: Sequence[str], options: Options) -> Replay:
    """Train again up to `step` updates and look at `paths`. The run is not changed.

    A path is a tensor of the run (`PATH`, or `PATH:STATE` of its optimizer), the gradient of a parameter
    (`PATH:gradient`), a result such as `loss`, a layer, or `FILE:LINE`; the last four are of the step that follows.
    Raises UsageError and CheckpointError.
    """
    directory = open_run(run)
    choices = choices_of(directory)
    program = program_of(directory, choices)
    target = target_with_bits_of(program, choices, options)
    options = replace(options, dtype=choices.dtype, target=target)
    data = data_of_run(directory, program, choices)
    compile_ahead(program, DataParts(data.train, data.validation, None), options, step)
    job = _job(program, data, options)
    if not 0 <= step <= job.length.total_steps:
        raise UsageError(f"the run has no step {step}", f"give one from 0 to {job.length.total_steps}")
    start = _put_start(directory, program, job.tensors, step)
    position = replay_to(job, start, step)
    found = {name: job.tensors[name].copy() for name in paths if name in job.tensors.names()}
    others = [name for name in paths if name not in found]
    notes, same_bits = list(data.notes), True
    if others:
        if step >= job.length.total_steps:
            raise UsageError(f"the run ends at step {step}, so no step follows", f"give --step {step - 1}")
        computed, same_bits = _computed(program, job, position, others, options)
        found.update(computed)
        if not same_bits:
            notes.append("with the gradients as results, the step rounds otherwise: they are not those bits")
    epoch = step // job.length.steps_per_epoch + 1
    stretches, end = stretches_of(directory.read_json("settings.json")), step + bool(others)
    warning = replayed_by_another(stretches, start.step, end)
    return Replay(
        step,
        start.step,
        epoch,
        {n: found[n] for path in paths for n in found if n == path or n.startswith(f"{path}#")},
        tuple(notes),
        () if warning is None else (warning,),
        versions_in(stretches, start.step, end),
        same_bits and warning is None,
    )


def _job(program: Program, data: LoadedData, options: Options) -> Job:
    """The training without what changes no tensor: only plateaus and schedules look at the validation part."""
    tensors = fresh_tensors(program, options)
    keeper = MemoryKeeper(tensors, weight_names(program), averages_of(program))
    job = job_of(program, DataParts(data.train, data.validation, None), tensors, options, keeper)
    looks = job.plan.plateau is not None or job.following is not None
    return replace(job, plan=replace(job.plan, early_stop=None), validation=job.validation if looks else None)


def _put_start(directory: RunDirectory, program: Program, tensors: Tensors, step: int) -> Position:
    """Fill the tensors from the last checkpoint that is not after `step`; else they are as a training begins."""
    found: tuple[Checkpoint, Path] | None = None
    for path in reversed(checkpoints_in(directory.checkpoints)):
        try:
            checkpoint = read_checkpoint(path)
        except CheckpointError:
            continue  # a damaged one serves as little as none
        position = checkpoint.position
        if position.step <= step and (found is None or position.step > found[0].position.step):
            found = checkpoint, path
    if found is not None:
        put_weights(program, tensors, found[0].weights, found[1])
        put_optimizer_states(program, tensors, found[0], found[1])
        return found[0].position
    if (directory.path / FROZEN).exists():
        put_recorded_layers(tensors, directory.read_json(FROZEN), directory.path / FROZEN)
    if (directory.path / INIT_FROM).exists():
        put_recorded_weights(tensors, directory.read_json(INIT_FROM), directory.path / INIT_FROM)
    return Position()


def _computed(
    program: Program, job: Job, position: Position, paths: Sequence[str], options: Options
) -> tuple[dict[str, Array], bool]:
    """The results of the next step, and whether it leaves the tensors with the bits of the plain step."""
    phase = kind_at(program, position.step // job.length.steps_per_epoch).phase
    cut = whole = steps_at(job, position)
    if training_of(program).accumulation is not None:
        return _results_of(job.step.run(whole), paths), True
    if job.buckets is not None:
        program, cut = job.buckets.of_step(whole)
    from compiler.diagnosis.inspected_step import inspected_step  # the whole compiler

    step = inspected_step(program, phase, replace(options, batch=job.length.batch), paths)
    before = {name: job.tensors[name].copy() for name in job.tensors.names()}
    results = step.executable.run(cut)
    after = {name: job.tensors[name].copy() for name in before}
    for name, array in before.items():
        job.tensors.write(name, array)
    job.step.run(whole)
    is_same = all(np.array_equal(job.tensors[name], array, equal_nan=True) for name, array in after.items())
    found: dict[str, Array] = {}
    for names in step.names.values():
        for name in names:
            found[name] = results.arrays[name] if name in results.arrays else results.scalars[name].reshape(())
    return found, is_same


def _results_of(results: Results, paths: Sequence[str]) -> dict[str, Array]:
    """The results of a plain step of several programs, none of which keeps anything else."""
    for name in paths:
        if name not in results.scalars:
            known = ", ".join(results.scalars)
            message = f"a step of batches or shards is made of several programs, and none of them shows `{name}`"
            raise UsageError(message, f"name parameters, states, or the results {known}")
    return {name: results.scalars[name].reshape(()) for name in paths}
