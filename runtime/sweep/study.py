"""A search that several processes share: its trials in a journal in the folder of the sweep, or in a database.

Imports Optuna.

Akiba et al., "Optuna: A next-generation hyperparameter optimization framework", 2019. The journal is a file to which
each process appends (`optuna.storages.JournalStorage`), so that a folder of a network file system is enough.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from compiler.errors.diagnostics import CheckpointError, UsageError
from compiler.support.record import record
from runtime.reporting.terminal import say_labelled
from runtime.support.files import json_bytes, missing, replace_file
from runtime.support.restored import restored
from runtime.sweep.trials import RandomSampler, SearchDimension, SearchSpace, Trial, ValueList, as_values, space_of

try:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
    from optuna.trial import FrozenTrial, TrialState

    from runtime.sweep.tpe import distribution_of, written
except ImportError as error:
    raise missing("Optuna", "sweep", "a sweep of several workers") from error

PLAN, _JOURNAL, _WORKERS = "study.json", "journal.log", "workers"
_SECONDS_OF_A_BEAT, _SECONDS_OF_LIFE = 5.0, 60.0
_SECONDS_UNTIL_TOLD = 2.5  # what is waited for
_WORKER, _GIVEN_BACK = "worker", "given back"


@record
class StudyPlan:
    """What every worker of a search must know; `file` and `data` are whole paths. `fingerprint` is that of the text."""

    name: str  # of the search in its storage
    file: str
    fingerprint: str
    experiment: str | None
    settings: tuple[tuple[str, str], ...]
    within: str | None
    data: str | None
    epochs: int | None
    trials: int
    sampler: str
    seed: int
    pruner: str | None
    metric: str | None
    maximise: bool | None
    storage: str | None
    dtype: str

    @property
    def space(self) -> SearchSpace:
        return space_of(self.settings)


def write_plan(folder: Path, plan: StudyPlan) -> None:
    replace_file(folder / PLAN, json_bytes({name: getattr(plan, name) for name in StudyPlan.__annotations__}))


def read_plan(folder: Path) -> StudyPlan:
    """The plan of a search. Raises CheckpointError."""
    path = folder / PLAN
    try:
        return restored(StudyPlan, json.loads(path.read_bytes()))
    except FileNotFoundError:
        fix = "name the folder of a sweep that began with --workers, --pruner or --storage"
        raise CheckpointError("there is no search that others could join", folder, fix) from None
    except (ValueError, OSError, RecursionError) as error:
        raise CheckpointError(f"this is no plan of a search: {error}", path, "begin a new sweep") from None


class Study:
    """One process's view of a search: it takes trials, tells how they go, and gives back those of workers that died."""

    def __init__(self, folder: Path, plan: StudyPlan) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.folder, self.plan = folder, plan
        self._distributions: dict[str, BaseDistribution] = {d.key: distribution_of(d) for d in plan.space.dimensions}
        sampler = optuna.samplers.TPESampler(seed=_own_seed(plan.seed), constant_liar=True)
        self._storage = _storage(folder, plan)
        self._study = optuna.create_study(
            storage=self._storage,
            study_name=plan.name,
            load_if_exists=True,
            sampler=sampler,
            pruner=_pruner(plan.pruner),
        )
        self._beat: _Beat | None = None

    def begin(self) -> None:
        """Queue the trials of a random search, so that any number of workers makes the same ones."""
        if self.plan.sampler != "random":
            return
        space = self.plan.space
        sampler, tried = RandomSampler(space, self.plan.seed), set[object]()
        for _ in range(1000 * self.plan.trials):
            chosen = sampler.ask()
            if as_values(chosen) not in tried:
                tried.add(as_values(chosen))
                self._study.enqueue_trial(self._parameters(chosen))
            if len(tried) >= min(self.plan.trials, space.size):
                return

    def _parameters(self, chosen: Mapping[str, str]) -> dict[str, object]:
        dimensions = {d.key: d for d in self.plan.space.dimensions}
        return {key: _as_value(dimensions[key], text) for key, text in chosen.items()}

    def next(self) -> TakenTrial | None:
        """A trial that is now this worker's; None where all are made or being made."""
        if self._beat is None:
            self._beat = _Beat(self.folder / _WORKERS)
        self._give_back()
        if self.plan.sampler == "random" and not self._of(TrialState.WAITING):
            return None
        if len(self._counted()) >= self.plan.trials and not self._of(TrialState.WAITING):
            return None
        trial = self._study.ask(self._distributions)
        trial.set_user_attr(_WORKER, self._beat.name)
        before = [other for other in self._counted() if other.number < trial.number]
        if len(before) >= self.plan.trials:  # another worker asked at the same time
            trial.set_user_attr(_GIVEN_BACK, True)
            self._study.tell(trial, state=TrialState.FAIL)
            return None
        settings = {d.key: written(d, trial.params[d.key]) for d in self.plan.space.dimensions}
        return TakenTrial(self, self._study, trial, settings)

    def give_back(self, number: int, parameters: Mapping[str, object]) -> None:
        """Queue the settings of a trial once more; of several workers that try, one does."""
        name = self._storage.get_study_id_from_name(self.plan.name)
        trial = self._storage.get_trial_id_from_study_id_trial_number(name, number)
        with suppress(optuna.exceptions.UpdateFinishedTrialError):
            self._storage.set_trial_user_attr(trial, _GIVEN_BACK, True)
            self._storage.set_trial_state_values(trial, TrialState.FAIL)
            self._study.enqueue_trial(dict(parameters))

    def is_running(self) -> bool:
        """Whether other workers still train."""
        return bool(self._of(TrialState.RUNNING))

    def is_waiting(self) -> bool:
        """Whether trials wait for a worker."""
        return bool(self._of(TrialState.WAITING))

    def trials(self) -> list[Trial]:
        """All trials that have ended, by their numbers."""
        return [found for each in self._counted() if (found := _ended(each)) is not None]

    def leave(self) -> None:
        if self._beat is not None:
            self._beat.stop()

    def _of(self, *states: TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=states)

    def _counted(self) -> list[FrozenTrial]:
        """The trials that are not given back."""
        every = self._study.get_trials(deepcopy=False)
        return [trial for trial in every if not trial.user_attrs.get(_GIVEN_BACK)]

    def _give_back(self) -> None:
        """Queue the trials of workers that no longer live once more."""
        for trial in self._of(TrialState.RUNNING):
            worker, begun = trial.user_attrs.get(_WORKER), trial.datetime_start
            age = 0.0 if begun is None else (datetime.now() - begun).total_seconds()
            is_new = worker is None and age < _SECONDS_OF_LIFE
            if not is_new and not _lives(self.folder / _WORKERS, str(worker)):
                self.give_back(trial.number, trial.params)


def _as_value(dimension: SearchDimension, text: str) -> object:
    if isinstance(dimension, ValueList):
        return text
    return int(text) if dimension.is_whole else float(text)


class TakenTrial:
    """A trial that this process makes: its number from 1, its settings as texts, and the telling of its values."""

    def __init__(self, shared: Study, study: optuna.Study, trial: optuna.Trial, settings: Mapping[str, str]) -> None:
        self._shared, self._study, self._trial = shared, study, trial
        self.number, self.settings = trial.number + 1, settings

    def give_back(self) -> None:
        """Leave the trial to another worker, or to this one later."""
        self._shared.give_back(self._trial.number, self._trial.params)

    def report(self, value: float, epoch: int) -> bool:
        """Tell the value of an epoch, the lower the better; whether the trial is hopeless beside the others."""
        self._trial.report(value, epoch)
        return self._trial.should_prune()

    def tell(self, made: Trial, pruned: bool) -> bool:
        """Tell how the trial ended; false where it was given to another worker meanwhile."""
        value = None if made.value is None else -made.value if made.maximise else made.value
        state = TrialState.FAIL if value is None else TrialState.PRUNED if pruned else TrialState.COMPLETE
        try:
            self._trial.set_user_attr("made", made.to_json() | {"metric": made.metric, "maximise": made.maximise})
            self._study.tell(self._trial, value if state is TrialState.COMPLETE else None, state=state)
        except (optuna.exceptions.UpdateFinishedTrialError, ValueError):
            return False
        return True


def _ended(trial: FrozenTrial) -> Trial | None:
    """A trial as its worker told it."""
    if "made" not in trial.user_attrs or not trial.state.is_finished():
        return None
    made: dict[str, Any] = trial.user_attrs["made"]
    run = made["run"]
    return Trial(
        trial.number + 1,
        made["settings"],
        made["value"],
        made["epoch"],
        None if run is None else Path(run),
        made["failure"] or "",
        made["compiled"],
        made["metric"],
        made["maximise"],
        made["best_epoch"],
        is_pruned=trial.state is TrialState.PRUNED,
    )


def _pruner(name: str | None) -> optuna.pruners.BasePruner:
    """Optuna's pruners with their usual settings. Hyperband: Li et al., 2018; the median rule: Golovin et al., 2017."""
    if name == "median":
        return optuna.pruners.MedianPruner()
    return optuna.pruners.HyperbandPruner() if name == "hyperband" else optuna.pruners.NopPruner()


def _storage(folder: Path, plan: StudyPlan) -> optuna.storages.BaseStorage:
    """The journal in the folder, or the database.

    Raises UsageError where that cannot be reached, and CheckpointError where the journal is damaged.
    """
    if plan.storage is not None:
        try:
            return optuna.storages.get_storage(plan.storage)
        except Exception as error:  # of whichever library speaks to the database
            message = f"--storage cannot be opened: {str(error).splitlines()[0]}"
            raise UsageError(message, "give a URL such as sqlite:////shared/study.db or postgresql://…") from error
    journal = folder / _JOURNAL
    lock = _ToldLock(str(journal))
    _cut_unfinished_line(journal, lock)
    try:
        return optuna.storages.JournalStorage(JournalFileBackend(str(journal), lock))
    except ValueError as error:
        raise CheckpointError(f"the journal of the search is damaged: {error}", journal, "begin a new sweep") from None


class _ToldLock(JournalFileOpenLock):
    """Says what it waits for, once it has waited for some seconds."""

    def acquire(self) -> bool:
        if not os.path.exists(self._lock_file):
            return super().acquire()
        telling = threading.Timer(_SECONDS_UNTIL_TOLD, self._tell)
        telling.daemon = True
        telling.start()
        try:
            return super().acquire()
        finally:
            telling.cancel()

    def _tell(self) -> None:
        after = "" if self.grace_period is None else f" {self.grace_period} s after it was made"
        say_labelled("note", f"waiting for {self._lock_file}, by which another worker keeps the journal to itself")
        say_labelled("hint", f"if that worker is dead, the lock is taken from it{after}; or remove the file")


def _cut_unfinished_line(journal: Path, lock: JournalFileOpenLock) -> None:
    """Take away the end of a line that a full disk or a loss of power left behind, or the next entry would join it."""
    if not journal.is_file():
        return
    lock.acquire()
    try:
        content = journal.read_bytes()
        if not content.endswith(b"\n"):
            os.truncate(journal, content.rfind(b"\n") + 1)
    finally:
        lock.release()


def _own_seed(seed: int) -> int:
    """Another seed for each worker of a search by values, or all would try the same."""
    return (seed * 1_000_003 + os.getpid()) % 2**32


# Life of workers


class _Beat:
    """A file that says this worker lives: its time changes every few seconds. Its name says host and process."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.name = f"{socket.gethostname()}-{os.getpid()}"
        self._file, self._ends = folder / self.name, threading.Event()
        self._file.touch()
        threading.Thread(target=self._go_on, daemon=True).start()

    def _go_on(self) -> None:
        while not self._ends.wait(_SECONDS_OF_A_BEAT):
            with suppress(OSError):  # of a folder that is gone or full
                os.utime(self._file)

    def stop(self) -> None:
        self._ends.set()
        self._file.unlink(missing_ok=True)


def _lives(folder: Path, worker: str) -> bool:
    """Whether a worker lives: by its process on this host, by its beat on others, in the time of the file system."""
    host, _, process = worker.rpartition("-")
    if host == socket.gethostname() and process.isdigit():
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
    try:
        now = folder / f".now-{os.getpid()}"
        now.touch()
        age = now.stat().st_mtime - (folder / worker).stat().st_mtime
        now.unlink(missing_ok=True)
    except FileNotFoundError:
        return False
    return age < _SECONDS_OF_LIFE
