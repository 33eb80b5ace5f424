"""Search for good settings: train with many choices of them, and report the best.

--set takes a range, `optimizer.lr=1e-4..1e-1:log` (of whole numbers without the last: `layers=1..4`), or a list of
choices, `hidden=[32,64]`; any other value holds for every trial. No two trials have the same settings. Trials that
differ only in settings of run time (rates, decays, the probability of a dropout) share one compiled program. Each trial
has a run of its own in the folder of the sweep.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from compiler.errors.diagnostics import UsageError
from compiler.errors.suggestions import counted
from runtime.cli.common import compile_options, folder_of_imports, model_file, print_json
from runtime.cli.main import INTERRUPTED
from runtime.cli.parser import Namespace, Parser
from runtime.reporting.tables import GAP, Column, laid_out, wrapped_parts
from runtime.reporting.terminal import say, say_labelled, say_laid_out, styled, width_of
from runtime.reporting.units import measure
from runtime.runs.directory import clear_of_vain_runs, made_as, new_folder
from runtime.support.files import JsonValue, json_bytes, replace_file
from runtime.sweep.trials import (
    Goal,
    RandomSampler,
    Sampler,
    SearchSpace,
    Trial,
    best_of,
    expect_program,
    space_of,
    trials,
)
from runtime.train.session import TrainingRequest

EXAMPLES = (
    "dlc sweep model.dl --set optimizer.lr=1e-4..1e-1:log --set hidden=[32,64] --trials 20",
    "dlc sweep model.dl --set dropout=0.0..0.5 --sampler tpe --metric val_accuracy --trials 50",
    "dlc sweep model.dl --set hidden=[32,64,128] --workers 2 --pruner median --out study",
    "dlc sweep --join study",
)
_SAMPLERS = ("random", "tpe")
PRUNERS = ("median", "hyperband")


def configure(parser: Parser) -> None:
    parser.add_argument("file", metavar="FILE", nargs="?", help="the model file (.dl); not needed with --join")
    parser.add_settings()
    parser.add_whole("--trials", "the number of trials (default: 20)", default=20)
    parser.add_option("--sampler", "NAME", "random (the default), or Optuna's tpe", choices=_SAMPLERS, default="random")
    parser.add_option("--metric", "NAME", "the metric to optimise (default: val_loss, or loss without validation)")
    parser.add_flag("--maximise", "prefer larger values of the metric (default: as the metric says)")
    parser.add_flag("--minimise", "prefer smaller values of the metric (default: as the metric says)")
    parser.add_option("--data", "PATH", "train on this data instead of the file's own")
    parser.add_whole("--epochs", "passes over the data in each trial")
    parser.add_whole("--seed", "the seed of the search (default: 0)", least=0, default=0)
    parser.add_option("--out", "DIR", "the folder of the sweep (default: a new one below runs)")
    parser.add_whole("--workers", "processes of this machine that share the trials (needs Optuna)")
    parser.add_option("--join", "STUDY", "be one more worker of a sweep in this folder, from any machine that sees it")
    parser.add_option("--pruner", "NAME", "end hopeless trials early: median, or hyperband", choices=PRUNERS)
    parser.add_option("--storage", "URL", "keep the trials in a database, not in the folder: postgresql://…")
    parser.add_compilation()
    parser.add_json("print one JSON object: every trial, and the best")


def run(arguments: Namespace) -> int:
    if arguments.maximise and arguments.minimise:
        raise UsageError("--maximise does not go with --minimise", "leave one out")
    if arguments.join is not None:
        return _join(arguments)
    if arguments.file is None:
        raise UsageError("FILE is missing", "usage: dlc sweep FILE --set KEY=A..B, or dlc sweep --join STUDY")
    space = space_of(arguments.settings)
    file = model_file(arguments.file)
    maximise = True if arguments.maximise else False if arguments.minimise else None
    request = _request(arguments, file)
    _expect_device(request)
    if arguments.workers or arguments.pruner or arguments.storage:
        return _shared(arguments, request, space, maximise)
    sampler = _sampler(arguments.sampler, space, arguments.seed)
    folder = _folder(arguments, file)
    goal = Goal(arguments.metric, maximise)
    found: list[Trial] = []
    lines = TrialLines([dimension.key for dimension in space.dimensions], arguments.trials)
    was_interrupted = False
    try:
        for trial in trials(space, sampler, request, folder, goal, arguments.trials, say):
            found.append(trial)
            best = best_of(found)
            lines.tell(trial, is_best=trial is best)
            replace_file(folder / "sweep.json", json_bytes(_as_json(found, best)))
        if len(found) < arguments.trials:
            every = len(found) == space.size
            what = "every combination is tried" if every else "the sampler comes to no other settings"
            say(f"the search ends after {len(found)} of {arguments.trials} trials: {what}")
    except KeyboardInterrupt:
        was_interrupted = True
        say(f"interrupted after {len(found)} of {arguments.trials} trials, which are in {folder}")
    if arguments.json:
        print_json(_as_json(found, best_of(found)))
    if found:
        _say_best(best_of(found), arguments, space)
    return INTERRUPTED if was_interrupted else _failed(found)


def _failed(found: list[Trial]) -> int:
    """The exit code of a search, which has failed where every trial has."""
    return 1 if found and best_of(found) is None else 0


def _shared(arguments: Namespace, request: TrainingRequest, space: SearchSpace, maximise: bool | None) -> int:
    """A search of several workers, or one that prunes."""
    from runtime.cli import shared_sweep  # Optuna is slow to import, and need not be there

    goal = Goal(arguments.metric, maximise)
    expect_program(space, request, goal, arguments.seed)  # before there is a folder, and workers that would all tell it
    folder = _folder(arguments, request.file)
    study = shared_sweep.begun(folder, shared_sweep.plan_of(arguments, request, maximise))
    table = _SharedTable(arguments, folder, space, study.plan.trials)
    if (arguments.workers or 1) > 1:
        code = shared_sweep.work_together(study, arguments, table.tell)
    else:
        code = shared_sweep.work_alone(study, request, table.tell)
    return table.end(code)


def _join(arguments: Namespace) -> int:
    from runtime.cli import shared_sweep

    shared_sweep.expect_join_alone(arguments)
    folder = Path(arguments.join)
    study, request = shared_sweep.joined(folder, arguments)
    _expect_device(request)
    table = _SharedTable(arguments, folder, study.plan.space, study.plan.trials)
    return table.end(shared_sweep.work_alone(study, request, table.tell))


class _SharedTable:
    """The table of a search whose trials end in any order, and its `sweep.json`."""

    def __init__(self, arguments: Namespace, folder: Path, space: SearchSpace, trials: int) -> None:
        self._arguments, self._folder, self._space = arguments, folder, space
        self._lines = TrialLines([dimension.key for dimension in space.dimensions], trials)
        self._found: list[Trial] = []

    def tell(self, found: Sequence[Trial]) -> None:
        """Tell the trials that have ended since the last time."""
        known = {trial.number for trial in self._found}
        self._found = list(found)
        best = best_of(self._found)
        for trial in found:
            if trial.number not in known:
                self._lines.tell(trial, is_best=trial is best)
        if len(found) > len(known):
            replace_file(self._folder / "sweep.json", json_bytes(_as_json(found, best)))

    def end(self, code: int) -> int:
        best = best_of(self._found)
        if self._arguments.json:
            print_json(_as_json(self._found, best))
        if self._found and not self._arguments.join:
            _say_best(best, self._arguments, self._space)
        return code or _failed(self._found)


def _sampler(name: str, space: SearchSpace, seed: int) -> Sampler:
    if name == "random":
        return RandomSampler(space, seed)
    from runtime.sweep.tpe import TpeSampler  # Optuna is slow to import, and need not be there

    return TpeSampler(space, seed)


def _folder(arguments: Namespace, file: Path) -> Path:
    if arguments.out is None:
        return new_folder(Path("runs"), f"sweep-{file.stem}-{datetime.now():%Y%m%d-%H%M%S}")
    out = Path(arguments.out)
    if count := clear_of_vain_runs(out):
        say(f"{out} held {count} trials without a checkpoint, which are replaced")
    return made_as(out)


def _expect_device(request: TrainingRequest) -> None:
    """Raise what is wrong with the GPU before a trial begins, as no trial could do without."""
    from compiler.targets.registry import expect_device  # heavy; `--help` must not pay for it

    expect_device(request.options.target)


def _request(arguments: Namespace, file: Path) -> TrainingRequest:
    return TrainingRequest(
        file=file,
        experiment=arguments.experiment,
        overrides=() if arguments.epochs is None else (("epochs", str(arguments.epochs)),),
        data=None if arguments.data is None else Path(arguments.data),
        options=compile_options(arguments),
        command_line=sys.argv,
        within=folder_of_imports(arguments),
    )


def _as_json(found: Sequence[Trial], best: Trial | None) -> JsonValue:
    aim = None if best is None else {"metric": best.metric, "direction": "maximise" if best.maximise else "minimise"}
    trials = [trial.to_json() for trial in found]
    return {"trials": trials, "best": None if best is None else best.number, "goal": aim}


def _say_best(best: Trial | None, arguments: Namespace, space: SearchSpace) -> None:
    if best is None:
        say("every trial failed: look at the first failure, and at the ranges")
        return
    way = "largest" if best.maximise else "smallest"
    say(f"best: trial {best.number}, in {best.run}, by the {way} {best.metric}")
    if best.kept not in (best.epoch, None):
        say_labelled(
            "note",
            f"the weights that the run kept are those of epoch {best.kept}, and its {best.metric} is that of epoch "
            f"{best.epoch}; `best` in `train` says which are kept",
        )
    named = (
        ("--experiment", arguments.experiment),
        ("--data", arguments.data),
        ("--epochs", arguments.epochs),
        ("--dtype", None if arguments.dtype == "f32" else arguments.dtype),
        ("--target", arguments.target),
    )
    settings = (*best.settings.items(), *space.fixed)
    pairs = [(option, str(value)) for option, value in named if value is not None]
    pairs += [("--set", f"{key}={text}") for key, text in settings]
    _say_command("again: dlc train", [shlex.quote(arguments.file), *map(shlex.join, pairs)])


def _say_command(begin: str, words: Sequence[str]) -> None:
    """A command that can be copied as a whole, also where it takes several lines."""
    width, lines = width_of(sys.stderr), [begin]
    for word in words:
        if width is None or len(f"{lines[-1]} {word} \\") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(f"    {word}")
    say_laid_out(" \\\n".join(lines))


_SETTING = 9  # columns of a setting's value: `0.0001234`
_VALUE = 10


class TrialLines:
    """Tells each trial on standard error as it ends."""

    def __init__(self, settings: Sequence[str], trials: int) -> None:
        headings = ["trial", *settings, "value", "epoch"]
        self._room = [len("trial"), *(max(len(name), _SETTING) for name in settings), _VALUE, len("epoch")]
        self._room[0] = max(self._room[0], len(str(trials)))
        self._headings = headings
        self._has_header = False

    def tell(self, trial: Trial, is_best: bool) -> None:
        width = width_of(sys.stderr)
        if width is None:
            say_laid_out(GAP.join([*_named(trial), *_remarks(trial, is_best)]))
        elif sum(self._room) + len(GAP) * len(self._room) + len("best") > width or trial.value is None:
            # settings do not fit side by side, or a failure says more than a row holds
            say_laid_out("\n".join(wrapped_parts(GAP.join([*_named(trial), *_remarks(trial, is_best)]), width, "  ")))
        else:
            self._tell_row(trial, is_best, width)

    def _tell_row(self, trial: Trial, is_best: bool, width: int) -> None:
        cells = [str(trial.number), *map(short, trial.settings.values()), measure(trial.value or 0.0), str(trial.epoch)]
        columns = [
            Column(heading.rjust(room), [cell])
            for heading, room, cell in zip(self._headings, self._room, cells, strict=True)
        ]
        remarks = Column("", [GAP.join(_remarks(trial, is_best))], is_text=True, least=0, wraps=True)
        header, *row = laid_out([*columns, remarks], width)
        if not self._has_header:
            self._has_header = True
            say_laid_out(styled(header, "bold", sys.stderr))
        say_laid_out("\n".join(row))


def short(text: str) -> str:
    """A setting's value with four digits."""
    try:
        return f"{float(text):.4g}"
    except ValueError:
        return text


def _named(trial: Trial) -> list[str]:
    first, *rest = [f"{key}={short(text)}" for key, text in trial.settings.items()] or [""]
    if trial.value is None:
        said = f"failed: {trial.failure or 'no epoch ended'}"
    else:
        said = f"{measure(trial.value)} (epoch {trial.epoch})"
    return [f"trial {trial.number}: {first}", *rest, said]


def _remarks(trial: Trial, is_best: bool) -> list[str]:
    best = ["best"] if is_best and trial.value is not None else []
    best += ["pruned"] if trial.is_pruned else []
    return [*best, f"{counted(trial.compiled, 'program')} compiled"] if trial.compiled else best
