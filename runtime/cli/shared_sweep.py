"""`dlc sweep` with several workers: the processes that share a search, and its table, which grows as trials end."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from compiler.errors.diagnostics import UsageError
from compiler.errors.suggestions import counted
from compiler.support.processors import usable_cores
from runtime.cli.common import compile_options
from runtime.cli.main import INTERRUPTED
from runtime.cli.parser import Namespace
from runtime.reporting.terminal import say
from runtime.support.files import fingerprint
from runtime.sweep.study import PLAN, Study, StudyPlan, read_plan, write_plan
from runtime.sweep.trials import Trial
from runtime.sweep.worker import work
from runtime.train.session import TrainingRequest

_SECONDS_BETWEEN_LOOKS = 0.3


def plan_of(arguments: Namespace, request: TrainingRequest, maximise: bool | None) -> StudyPlan:
    """What the workers of a search must know."""
    return StudyPlan(
        name=f"{request.file.stem}-{secrets.token_hex(4)}",
        file=str(request.file.absolute()),
        fingerprint=fingerprint(request.file),
        experiment=request.experiment,
        settings=tuple(arguments.settings),
        within=None if request.within is None else str(request.within.absolute()),
        data=None if request.data is None else str(request.data.absolute()),
        epochs=arguments.epochs,
        trials=arguments.trials,
        sampler=arguments.sampler,
        seed=arguments.seed,
        pruner=arguments.pruner,
        metric=arguments.metric,
        maximise=maximise,
        storage=arguments.storage,
        dtype=arguments.dtype,
    )


def begun(folder: Path, plan: StudyPlan) -> Study:
    """A new search in an empty folder."""
    study = Study(folder, plan)
    study.begin()
    write_plan(folder, plan)
    return study


def joined(folder: Path, arguments: Namespace) -> tuple[Study, TrainingRequest]:
    """A search that goes on, and its trainings, which compute in its type. Raises CheckpointError and UsageError."""
    plan = read_plan(folder)
    if arguments.dtype not in ("f32", plan.dtype):
        raise UsageError(f"the search computes in {plan.dtype}", "leave out --dtype, or begin a new sweep")
    arguments.dtype = plan.dtype
    file = Path(plan.file)
    if not file.exists():
        raise UsageError(f"{file} is not there, which the search trains", "join from where the folder is seen alike")
    if fingerprint(file) != plan.fingerprint:
        raise UsageError(f"{file} has changed since the search began", "begin a new sweep")
    request = TrainingRequest(
        file=file,
        experiment=plan.experiment,
        overrides=() if plan.epochs is None else (("epochs", str(plan.epochs)),),
        data=None if plan.data is None else Path(plan.data),
        options=compile_options(arguments),
        command_line=sys.argv,
        within=None if plan.within is None else Path(plan.within),
    )
    return Study(folder, plan), request


def work_alone(study: Study, request: TrainingRequest, told: Callable[[list[Trial]], None]) -> int:
    """Be a worker of the search; `told` is given all trials that have ended. The result is the exit code."""
    try:
        work(study, request, say, lambda: told(study.trials()))
    except KeyboardInterrupt:
        say(f"interrupted; go on with dlc sweep --join {study.folder}")
        return INTERRUPTED
    finally:
        told(study.trials())
    return 0


def work_together(study: Study, arguments: Namespace, told: Callable[[list[Trial]], None]) -> int:
    """Start workers, and tell what they do until all have ended. The result is the exit code."""
    threads = arguments.threads or max(1, usable_cores() // arguments.workers)
    command = [*(sys.executable, "-m", "runtime.cli", "sweep", "--join", str(study.folder), "--threads", str(threads))]
    command += _compilation(arguments)
    logs = [study.folder / f"worker-{k}.log" for k in range(1, arguments.workers + 1)]
    say(f"{counted(arguments.workers, 'worker')} with {counted(threads, 'thread')} each; more: {_join(study.folder)}")
    workers = [_started(command, log) for log in logs]
    was_interrupted = False
    while any(worker.poll() is None for worker in workers):
        try:
            told(study.trials())
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        except KeyboardInterrupt:  # the workers were told too, and save
            was_interrupted = True
    told(study.trials())
    return _code(workers, logs, study, was_interrupted)


def _compilation(arguments: Namespace) -> list[str]:
    """The options of compilation that a worker is given; its threads are its share, and its type is the search's."""
    words = [f"--no-fusion={name}" for name in arguments.without]
    flags = ("no_fuse", "no_tuning", "persistent_loops", "verify")
    words += [f"--{name.replace('_', '-')}" for name in flags if getattr(arguments, name)]
    named = ((name, getattr(arguments, name)) for name in ("target", "cache_dir"))
    return words + [f"--{name.replace('_', '-')}={value}" for name, value in named if value]


def _started(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as stream:
        return subprocess.Popen(command, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL)


def _code(workers: list[subprocess.Popen[bytes]], logs: list[Path], study: Study, was_interrupted: bool) -> int:
    """The exit code; what a worker said that failed is told, and how the search goes on."""
    if was_interrupted:
        say(f"interrupted; go on with {_join(study.folder)}")
        return INTERRUPTED
    failed = [(worker, log) for worker, log in zip(workers, logs, strict=True) if worker.returncode]
    for worker, log in failed:
        died = f"was killed by signal {-worker.returncode}" if worker.returncode < 0 else "failed"
        say(f"a worker {died}; it said, in {log}:")
        say(log.read_text(encoding="utf-8", errors="replace")[-2000:].strip())
    if study.is_running() or study.is_waiting():
        say(f"trials are left; go on with {_join(study.folder)}")
        return 1
    return 1 if any(worker.returncode > 0 for worker in workers) else 0


def _join(folder: Path) -> str:
    return f"dlc sweep --join {folder}"


def expect_join_alone(arguments: Namespace) -> None:
    """Raise UsageError where --join is given what the search itself says."""
    names = ("file", "settings", "experiment", "metric", "data", "epochs", "out", "storage", "pruner", "workers")
    given = [name for name in names if getattr(arguments, name)]
    if given:
        said = "FILE" if given[0] == "file" else "--set" if given[0] == "settings" else f"--{given[0]}"
        raise UsageError(f"{said} does not go with --join", f"the search says it, in {PLAN}")
