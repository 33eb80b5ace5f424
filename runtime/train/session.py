"""From a request to a training that is ready: the program, its data, compiled code and the run directory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from compiler import driver
from compiler.driver import ALONE, Alone, Array, Options, OwnedStates, Program, StartWeights, Tensors
from compiler.errors.diagnostics import CheckpointError, UsageError
from compiler.support.numerics import NUMERICS
from compiler.support.record import record
from compiler.targets.registry import target_in, word_of
from runtime.data.dimensions import dimensions_of
from runtime.data.loading import LoadedData
from runtime.inference.model import length_remarks, resolved_settings, training_of, weight_names
from runtime.processes.joining import Processes, expect_agreement, expect_shards, in_turn
from runtime.runs import trained
from runtime.runs.checkpoint import MANIFEST, Checkpoint, newest_checkpoint
from runtime.runs.directory import RunDirectory, create_run, environment, open_run, version_of
from runtime.runs.frozen_weights import FROZEN, FrozenLayer, put_frozen_weights
from runtime.runs.numerics import NEW, VersionSpans, continued, resumed_by_another, stretches_of, stretches_to_json
from runtime.runs.position import Position
from runtime.runs.start_weights import INIT_FROM, WeightsReport, start_weights_of, take_over_weights
from runtime.runs.tensor_files import StoredTensors
from runtime.support.files import JsonValue, sha256_of
from runtime.train.compiled_job import Job
from runtime.train.jobs import DataParts, compile_ahead, fresh_tensors, job_of, load_data
from runtime.train.keepers import MemoryKeeper, OthersKeeper, RunKeeper, averages_of, exchange
from runtime.train.steering import RunSteering

_CHECKPOINTS_TO_KEEP = 2
# Of the data, and of its validation and test parts that have sources of their own.
_FINGERPRINTS = ("fingerprints", "fingerprints_of_parts")
_PROCESSES_TOLD = 16  # of more, `events.log` tells
_TARGET = "target"  # a setting of the command line
# Another value would mean other rows in a position, or other bits.
_FIXED = ("batch", "seed", "data", "shards", "precision")


@record
class TrainingRequest:
    """A new training. `out` is the run directory; without it, one is made below `runs`."""

    file: Path
    experiment: str | None
    overrides: trained.Overrides
    options: Options
    data: Path | None = None
    out: Path | None = None
    init_from: StartWeights | None = None
    command_line: Sequence[str] = ()
    within: Path | None = None  # where imported files lie; None for the folder of `file`
    peers: Processes = ALONE


@record
class TrainingSession:
    """A training that is ready to run from `position`; `notes` and `warnings` are remarks for the user.

    `compiled` is how many programs it did not find in the cache.
    """

    program: Program
    job: Job
    position: Position
    notes: tuple[str, ...]
    directory: RunDirectory | None = None
    weights: WeightsReport | None = None  # the start of a new training
    compiled: int = 0
    warnings: tuple[str, ...] = ()
    frozen: tuple[FrozenLayer, ...] = ()


def prepared(request: TrainingRequest) -> TrainingSession:
    """Everything but the run directory, as for `--dry-run`. Nothing is written."""
    return _prepared(*program_of(request))[0]


def begun(request: TrainingRequest) -> TrainingSession:
    """A new training with its run directory. The directory is made last, when everything else has succeeded."""
    program, request = program_of(request)
    session, data = _prepared(program, request)
    expect_agreement(request.peers, lambda: _facts(program, data, session.job))
    if session.job.states is not None:
        session.job.states.release()
    if request.peers.rank:
        return replace(session, job=replace(session.job, keeper=OthersKeeper()))
    *imported, main = program.sources
    directory = create_run(program.name, request.out, (main, *imported))
    choices = trained.Choices(
        request.experiment,
        request.overrides,
        None if request.data is None else str(request.data.absolute()),
        str(request.file.absolute().parent),
        request.options.dtype,
        word_of(request.options),
        driver.data_dimensions(program),
    )
    try:
        directory.write_json("settings.json", _settings(program, choices, session.job, NEW))
        options = request.options
        said = environment(request.command_line, options.threads, options.tuning.changes, request.peers.size)
        directory.write_json("environment.json", said)
        directory.write_json("data.json", data.summary)
        if session.weights is not None:
            directory.write_json(INIT_FROM, session.weights.to_json())
        if session.frozen:
            directory.write_json(FROZEN, [layer.to_json() for layer in session.frozen])
        directory.log(f"training began{_on(request.options)}{_among(request.peers)}")
    except CheckpointError:
        directory.close()
        raise
    keeper = _keeper(directory, program, session.job.tensors)
    notes = (*_on_processes(request.peers), *directory.notes, *session.notes)
    job = replace(session.job, keeper=keeper, steering=RunSteering(directory.path))
    return replace(session, job=job, notes=notes, directory=directory)


def resumed(
    run: Path,
    file: Path | None,
    overrides: trained.Overrides,
    options: Options,
    peers: Processes = ALONE,
    keeps_target: bool = True,
) -> TrainingSession:
    """A training that goes on from the newest checkpoint of a run, with the same data, bit for bit.

    `file` may name the model file again; it must not have changed. It goes on with the target of the run if it
    `keeps_target`, or else with that of the options, which must give the same bits. Raises CheckpointError, UsageError.
    """
    for key in (key for key, _ in overrides if key in _FIXED):
        message = f"a run cannot change its `{key}`"
        raise UsageError(message, f"leave it out to go on, or begin a new training with --init-from {run}")
    directory = open_run(run, for_writing=peers.rank == 0)
    try:
        return _resumed(directory, file, overrides, options, peers, keeps_target)
    except BaseException:
        directory.close()
        raise


def _resumed(
    directory: RunDirectory,
    file: Path | None,
    overrides: trained.Overrides,
    options: Options,
    peers: Processes,
    keeps_target: bool,
) -> TrainingSession:
    if file is not None and file.read_bytes() != directory.program.read_bytes():
        fix = f"leave the file out to go on, or begin a new training: dlc train {file} --init-from {directory.path}"
        raise UsageError(f"{file} has changed since the run began, and a run goes on with its own copy", fix)
    program, choices, options = _program_of_run(directory, overrides, options, keeps_target)
    data = data_of_run(directory, program, choices)
    found = newest_checkpoint(directory.checkpoints, reads_states=peers.size == 1)
    parts = DataParts(data.train, data.validation, data.test)
    expect_shards(training_of(program), peers.size)
    in_turn(peers, lambda: compile_ahead(program, parts, options, found.checkpoint.position.step))
    tensors = fresh_tensors(program, options)
    trained.put_weights(program, tensors, found.checkpoint.weights, found.path)
    owned = driver.owned_states(program, options, tensors, peers) if peers.size > 1 else None
    put_optimizer_states(program, tensors, found.checkpoint, found.path, owned)
    position = directory.with_times(found.checkpoint.position)
    job = job_of(program, parts, tensors, options, OthersKeeper(), peers)
    expect_agreement(peers, lambda: _facts(program, data, job, found.path))
    if job.states is not None:
        job.states.release()
    if peers.rank:
        return TrainingSession(program, job, position, ())
    keeper = _keeper(directory, program, tensors)
    keeper.resumes_at(position)
    job = replace(job, keeper=keeper, steering=RunSteering(directory.path))
    choices = replace(choices, overrides=choices.overrides + overrides)
    warning = _note_resumption(directory, program, choices, job, position, f"{_on(options)}{_among(peers)}")
    notes = [*_on_processes(peers), *directory.notes, *data.notes, *found.notes]
    if position.step >= job.length.total_steps:
        notes.append(f"the run had already finished at step {position.step}; give --epochs N for more")
    return TrainingSession(
        program, job, position, tuple(notes), directory, warnings=() if warning is None else (warning,)
    )


def _program_of_run(
    directory: RunDirectory, overrides: trained.Overrides, options: Options, keeps_target: bool
) -> tuple[Program, trained.Choices, Options]:
    """The program of a run, with its choices and options. Raises UsageError where the bits would be others."""
    choices = trained.choices_of(directory)
    program = trained.program_of(directory, choices, overrides)
    trained.refuse_other_precision(program, choices, options)
    target = target_in(choices.target) if keeps_target else options.target
    if trained.target_with_bits_of(program, choices, replace(options, target=target)) != target:
        raise UsageError("a run cannot change its target", "leave --target out to go on")
    options = replace(options, dtype=choices.dtype, target=target)
    return _with_target(program, options), replace(choices, target=word_of(options)), options


def _note_resumption(
    directory: RunDirectory, program: Program, choices: trained.Choices, job: Job, position: Position, where: str
) -> str | None:
    """Write to the run from which step it goes on. The result is a warning where another version began it."""
    directory.truncate_metrics(position.step)
    stretches = stretches_of(directory.read_json("settings.json"))
    warning = resumed_by_another(stretches, position.step)
    now = continued(stretches, position.step)
    directory.write_json("settings.json", _settings(program, choices, job, now))
    directory.log(f"training resumed at step {position.step}{where}" + (f": {warning}" if warning else ""))
    return warning


def program_of(request: TrainingRequest) -> tuple[Program, TrainingRequest]:
    """The program, and the request with the precision that it asks for."""
    program = driver.load(
        request.file, request.experiment, request.overrides, dimensions_of(request.data), request.within
    )
    program = trained.with_option(program, "data", None if request.data is None else str(request.data))
    program = trained.with_option(program, "init_from", None if request.init_from is None else request.init_from.path)
    options = driver.options_of(program, request.options)
    program = _with_target(driver.with_wide_inputs(program, options), options)
    return program, replace(request, options=options)


def _with_target(program: Program, options: Options) -> Program:
    """The program whose settings name the target, where it is not the usual one."""
    return trained.with_option(program, _TARGET, None if options.target == Options().target else word_of(options))


def _prepared(program: Program, request: TrainingRequest) -> tuple[TrainingSession, LoadedData]:
    data = load_data(program, request.data)
    parts = DataParts(data.train, data.validation, data.test)
    expect_shards(training_of(program), request.peers.size)
    compiled = in_turn(request.peers, lambda: compile_ahead(program, parts, request.options))
    tensors = fresh_tensors(program, request.options)
    frozen = put_frozen_weights(program, tensors)
    start = request.init_from or start_weights_of(program)
    weights = None if start is None else take_over_weights(program, tensors, start)
    notes = [*data.notes, *map(str, frozen), *(() if weights is None else weights.lines())]
    keeper = MemoryKeeper(tensors, weight_names(program), averages_of(program))
    job = job_of(program, parts, tensors, request.options, keeper, request.peers)
    notes += [remark.text for remark in length_remarks(program, job.length)]
    if not job.plan.best:
        notes.append("no `best` says by which metric epochs are compared: the last weights are taken")
    return TrainingSession(
        program, job, Position(), tuple(notes), weights=weights, compiled=compiled, frozen=frozen
    ), data


def _on_processes(peers: Processes) -> tuple[str, ...]:
    """A remark on the processes: a launcher names one that was killed by its number alone."""
    return () if isinstance(peers, Alone) or peers.size > _PROCESSES_TOLD else (peers.description,)


def _on(options: Options) -> str:
    return "" if options.target == Options().target else f" with target {word_of(options)}"


def _among(peers: Processes) -> str:
    return "" if isinstance(peers, Alone) else f" in {peers.description}"


def _facts(program: Program, data: LoadedData, job: Job, checkpoint: Path | None = None) -> Mapping[str, str]:
    """All that processes which train together have in common, by its names.

    Of a `checkpoint`, each has read the states that it owns.
    """
    texts = [source.text for source in program.sources if not source.is_library]
    settings = resolved_settings(program, job.length, job.train.buckets)
    weights = hashlib.blake2b()
    own: Mapping[str, Array] = job.states.own if job.states is not None and checkpoint is not None else {}
    for name in (name for name in job.tensors.names() if name not in own):
        weights.update(job.tensors[name].tobytes())
    return {
        "version of dlc": f"{version_of('dlc')}, numerics {NUMERICS}",
        "model file": repr(texts),
        **{f"`{setting.name}`": repr(setting.value) for setting in settings if setting.name != _TARGET},
        "data": repr([data.summary[name] for name in _FINGERPRINTS]),
        "division of data": repr([None if p is None else len(p.rows) for p in (job.train, job.validation, job.test)]),
        "start of weights": weights.hexdigest(),
        "checkpoint": "" if checkpoint is None else sha256_of(checkpoint / MANIFEST),
    }


def _keeper(directory: RunDirectory, program: Program, tensors: Tensors) -> RunKeeper:
    plan = training_of(program)
    keep = plan.keep or _CHECKPOINTS_TO_KEEP
    return RunKeeper(directory, tensors, weight_names(program), plan.seed, keep, averages_of(program), plan.is_sharded)


def _settings(program: Program, choices: trained.Choices, job: Job, numerics: VersionSpans) -> JsonValue:
    return {
        "model": program.model,
        "numerics": stretches_to_json(numerics),
        "choices": choices.to_json(),
        "settings": {
            setting.name: {"value": setting.value, "from": setting.origin}
            for setting in resolved_settings(program, job.length, job.train.buckets)
            if setting.origin != "derived"
        },
    }


def put_optimizer_states(
    program: Program, tensors: Tensors, checkpoint: Checkpoint, place: Path, owned: OwnedStates | None = None
) -> None:
    """Fill every state of the optimizer, after the weights, or what this process owns of them. Averages become weights,
    so that all need them whole. Raises CheckpointError."""
    weights = set(weight_names(program))
    states = {name for name in tensors.names() if name not in weights}
    if states != set(checkpoint.optimizer):
        fix = "resume without changing the optimizer, or begin a new training with --init-from"
        raise CheckpointError("the optimizer's state does not fit the optimizer of the program", place, fix)
    stored, averages = checkpoint.optimizer, averages_of(program)
    for name in states:
        shape = stored.shape(name) if isinstance(stored, StoredTensors) else stored[name].shape
        if tensors[name].shape != shape:
            raise CheckpointError(f"the state `{name}` has another shape", place, "use an earlier checkpoint")
        if owned is None or name not in owned.own or name in averages.values() or not isinstance(stored, StoredTensors):
            tensors.write(name, stored[name])
        else:
            owned.put(name, stored.stretch(name, owned.place(name)))
    exchange(tensors, averages)


def data_of_run(directory: RunDirectory, program: Program, choices: trained.Choices) -> LoadedData:
    """The data of a run. Raises CheckpointError unless it is what the run began with."""
    path = None if choices.data is None else Path(choices.data)
    data = load_data(program, path, trained.saved_preparation(directory))
    saved = directory.read_json("data.json")
    before = {"fingerprints": None, **(saved if isinstance(saved, Mapping) else {})}
    # An older run on several files of texts has none, and none of a part that has a source of its own.
    known = [name for name in _FINGERPRINTS if name in before and before[name] != {}]
    if any(before[name] != data.summary[name] for name in known):
        fix = f"restore it, or begin a new training with --init-from {directory.path}"
        raise CheckpointError("the data has changed since the run began", directory.path, fix)
    return data
