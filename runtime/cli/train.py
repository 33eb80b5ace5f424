"""Train a model and save the run. Ctrl-C saves too, and says how to go on."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from compiler import driver
from compiler.driver import ALONE, Alone, Program, StartWeights
from compiler.errors.diagnostics import SourceError, UsageError
from runtime.cli.common import Overrides, compile_options, folder_of_imports, model_file, print_json
from runtime.cli.main import INTERRUPTED
from runtime.cli.parser import Namespace, Parser, rows_of_a_step
from runtime.cli.together import run_together
from runtime.processes.joining import Processes, expect_agreement, share_of_processors, started_together
from runtime.reporting.terminal import say, say_labelled, say_laid_out, say_notes, wants_colour, width_of, width_of_page
from runtime.reporting.units import measure
from runtime.runs.directory import RESULT
from runtime.train.events import Observer, event_as_json, ignore, print_event, told
from runtime.train.jobs import start_of
from runtime.train.session import TrainingRequest, TrainingSession, begun, prepared, resumed
from runtime.train.steering import RunSteering
from runtime.train.training import ON_NAN, run_training

if TYPE_CHECKING:
    import socket

    from runtime.train.watching import Watcher
    from runtime.view.beside import PageBeside

EXAMPLES = (
    "dlc train model.dl",
    "dlc train model.dl --data data/mnist --epochs 20 --set hidden=256",
    "dlc train --resume runs/Digits-20260101-120000",
    "dlc train model.dl --view",
)
LOGS = ("tensorboard",)
PROFILE_SECONDS, PROFILE_ROWS = 2.0, 20


def configure(parser: Parser) -> None:
    parser.add_argument("file", metavar="FILE", nargs="?", help="the model file (.dl); not needed with --resume")
    parser.add_option("--data", "PATH", "train on this data instead of the file's own")
    parser.add_whole("--epochs", "passes over the data")
    parser.add_option("--batch", "N", "rows in a step; `all`: every row", type=rows_of_a_step)
    parser.add_whole("--seed", "the seed of start values, shuffling and dropout", least=0)
    parser.add_option("--out", "DIR", "the folder of the run (default: a new one below runs)")
    parser.add_whole("--shards", "cut each batch into N parts, which any number of processes compute alike")
    parser.add_whole("--processes", "train in N processes of this machine, which divide the shards among them")
    parser.add_option("--resume", "RUN", "go on with an interrupted run, or for more epochs")
    parser.add_option(
        "--init-from", "WEIGHTS", "start from the tensors of a safetensors file or a run, matched by name"
    )
    parser.add_repeated("--rename", "RULE", "rename tensors of WEIGHTS: 'module.* -> *'; may be repeated")
    parser.add_repeated("--fresh", "PATTERN", "parameters that keep their own start values: 'head.*'; may be repeated")
    said = "how to treat a step with NaN or Inf: stop, skip it, or report it and go on (default: stop)"
    parser.add_option("--on-nan", "WHAT", said, choices=ON_NAN, default="stop")
    parser.add_whole(
        "--overfit", "train on N rows alone, compare the loss with its least possible value, and write nothing"
    )
    parser.add_flag(
        "--watch", "report dead and saturated units, vanishing and exploding gradients, and updates too large or small"
    )
    parser.add_flag("--profile", "profile a step on made-up data at the end, as `dlc profile` does")
    parser.add_flag("--dry-run", "check, load and compile; train and write nothing")
    parser.add_flag("--view", "serve a page that follows the training: curves, figures by line, pause and stop")
    parser.add_whole("--port", "the port of that page (default: a free one)", least=0, most=65535)
    parser.add_whole("--folds", "cross-validate: train so often, each fold of the data validating once", least=2)
    parser.add_option("--log", "KIND", "also log to the run's folder: tensorboard", choices=LOGS)
    parser.add_settings()
    parser.add_compilation()
    parser.add_json("print one JSON object a line: start, each epoch, end")


def run(arguments: Namespace) -> int:
    if arguments.folds is not None:
        from runtime.cli.folds import run_folds  # a single training does without

        others = ("resume", "overfit", "dry_run", "view", "log", "watch", "profile", "processes")
        _refuse(arguments, others, "--folds", "it makes several trainings")
        if started_together() > 1:
            raise UsageError("--folds does not go with mpiexec", "it makes several trainings")
        return run_folds(_request(arguments, ALONE), arguments.folds, arguments.json)
    if (arguments.processes or 1) > 1:
        from runtime.cli.several_processes import launch  # a single process does without

        return launch(arguments.processes, sys.argv[1:])
    if started_together() == 1:
        return _run_session(arguments, ALONE)
    return run_together(lambda peers: _run_session(arguments, peers))


def _run_session(arguments: Namespace, peers: Processes) -> int:
    if peers.size > 1:
        for option in ("overfit", "profile"):
            _refuse(arguments, (option,), "several processes", "leave one of them out")
        arguments.threads = arguments.threads or share_of_processors(peers)
        expect_agreement(peers, lambda: _options_of_all(arguments))
    if arguments.profile:
        from compiler.profiling.step import expect_measurable  # the whole compiler, which a training does without

        expect_measurable(compile_options(arguments))
    listening = _listening_for_page(arguments, peers.rank)
    session = _session(arguments, peers)
    if not isinstance(peers, Alone):
        from runtime.processes.launching import tell_launcher  # as above

        tell_launcher(peers, None if session.directory is None else session.directory.path)
    watcher = _watcher(session, arguments) if arguments.watch and not peers.rank else None
    session = replace(session, job=replace(session.job, on_nan=arguments.on_nan, watch=watcher))
    try:
        if arguments.overfit is not None:
            return _overfit(session, arguments)
        return _follow(session, arguments.dry_run) if peers.rank else _run(session, arguments, listening)
    finally:
        if watcher is not None and watcher.looks:
            _print_sights(watcher, arguments.json)
        if arguments.profile:
            _print_profile(session, arguments)
        if session.directory is not None:
            session.directory.close()


def _options_of_all(arguments: Namespace) -> dict[str, str]:
    """What all processes of a training have in common of its command line, beside what their programs say."""
    options = compile_options(arguments)
    return {
        "target": options.target,
        "precision": options.dtype,
        "`--on-nan`": arguments.on_nan,
        "`--dry-run`": str(arguments.dry_run).lower(),
        "`--resume`": str(arguments.resume),
    }


def _listening_for_page(arguments: Namespace, rank: int) -> socket.socket | None:
    """A socket for the page, if there shall be one: the first process of several serves it. Raises UsageError."""
    if not arguments.view:
        if arguments.port is not None:
            raise UsageError("--port goes with --view", "add --view, or leave --port out")
        return None
    _refuse(arguments, ("overfit", "dry_run"), "--view", "there is no run to follow")
    if rank:
        return None
    from runtime.cli.listening import listening_on_loopback  # sockets, which a training without a page does without

    return listening_on_loopback(arguments.port or 0, "--view")


def _follow(session: TrainingSession, dry_run: bool) -> int:
    """Train as a process beside the first, which tells everything."""
    if dry_run:
        return 0
    return INTERRUPTED if run_training(session.job, session.position, ignore).reason == "interrupted" else 0


def _run(session: TrainingSession, arguments: Namespace, listening: socket.socket | None) -> int:
    if session.program.warnings:
        from compiler.errors.rendering import render  # only a mistake in a model needs it

        warnings = SourceError(session.program.warnings)
        say_laid_out(render(warnings, wants_colour(sys.stderr), width_of(sys.stderr)))
    say_notes(session.warnings, "warning")
    notes = session.notes
    if arguments.tuning.changes:
        notes = (*notes, f"code for this processor is {arguments.tuning.description}")
    say_notes(notes)
    with ExitStack() as opened:
        observers = [_reporter(arguments, opened)]
        if arguments.log == "tensorboard" and session.directory is not None:
            from runtime.reporting.tensorboard import TensorBoardLog  # slow to import, and need not be there

            observers.append(opened.enter_context(closing(TensorBoardLog(session.directory.path / "tensorboard"))))
        page = _page(session, arguments, listening, opened)
        code = _train(session, told(observers), arguments.dry_run)
        if page is not None and _stays(session, code, arguments):
            say(f"the page stays until Ctrl-C: {page.url}")
            page.stay()
        return code


def _page(
    session: TrainingSession, arguments: Namespace, listening: socket.socket | None, opened: ExitStack
) -> PageBeside | None:
    """Begin to serve the page, and tell its address."""
    if listening is None or session.directory is None:
        return None
    from runtime.view.beside import PageBeside  # a training without a page does without

    page = opened.enter_context(PageBeside(session.directory.path, listening))
    if arguments.json:
        print(json.dumps({"event": "page", "url": page.url}), flush=True)
    else:
        say(f"page: {page.url}")
    return page


def _stays(session: TrainingSession, code: int, arguments: Namespace) -> bool:
    """Whether the page outlives the training: where somebody sits at a terminal and has not ended it by Ctrl-C."""
    steering = session.job.steering
    by_page = isinstance(steering, RunSteering) and steering.has_stopped
    return (code == 0 or by_page) and not arguments.json and sys.stderr.isatty()


def _watcher(session: TrainingSession, arguments: Namespace) -> Watcher:
    from runtime.train.watching import Watcher  # the whole compiler, which a training does without

    options = compile_options(arguments, session.job.length.batch)
    return Watcher(session.program, driver.options_of(session.program, options))


def _print_sights(watcher: Watcher, as_json: bool) -> None:
    if as_json:
        sights = [asdict(sight) for sight in watcher.sights()]
        print(json.dumps({"event": "watch", "looks": watcher.looks, "sights": sights}), flush=True)
        return
    from runtime.reporting.training_text import print_sights  # JSON does without

    print_sights(watcher.sights(), watcher.looks)


def _print_profile(session: TrainingSession, arguments: Namespace) -> None:
    from runtime.analysis.profile import as_json, profile  # the whole compiler, which a training does without

    batch = session.job.length.batch
    options = compile_options(arguments, batch)
    report = as_json(profile(session.program, "train", batch, options, PROFILE_SECONDS).report)
    if arguments.json:
        print(json.dumps({"event": "profile", **report}), flush=True)
        return
    from runtime.reporting.profile_text import profile_text

    say_laid_out(profile_text(report, "line", PROFILE_ROWS, width_of_page(sys.stderr)))


def _overfit(session: TrainingSession, arguments: Namespace) -> int:
    from runtime.train.overfit import overfit  # the whole compiler, which a training does without

    found = overfit(session, arguments.overfit, compile_options(arguments, session.job.length.batch))
    if arguments.json:
        print_json({**asdict(found), "reached": found.is_reached})
    else:
        say(f"before training: loss {measure(found.first)}")
        if found.guess is not None and found.floor is not None:
            say(f"loss of a guess: {measure(found.guess)}; least possible loss: {measure(found.floor)}")
        say(f"after {found.steps} steps on {found.rows} rows: loss {measure(found.last)}")
    if found.remark is not None:
        say_labelled("note", found.remark)
    if found.is_reached:
        say("the loss reached its floor")
        return 0
    say("the loss did not reach its floor")
    say_labelled(
        "hint",
        "first try it without dropout, penalty, clip, schedule and `augment`, and with other rates; if that does not "
        "help, look for a mistake in the model, or for rows that contradict each other",
    )
    return 1


def _reporter(arguments: Namespace, opened: ExitStack) -> Observer:
    if arguments.json:
        return print_event
    from runtime.reporting.training_text import TextReporter  # rich is slow to import, and JSON does without

    return opened.enter_context(closing(TextReporter()))


def _session(arguments: Namespace, peers: Processes) -> TrainingSession:
    overrides = _overrides(arguments)
    if arguments.overfit is not None:
        others = ("resume", "out", "epochs", "log", "dry_run")
        _refuse(arguments, others, "--overfit", "it ends by itself and writes nothing")
    file = None if arguments.file is None else model_file(arguments.file)
    options = compile_options(arguments, None if arguments.batch == "all" else arguments.batch)
    if arguments.resume is not None:
        others = ("data", "out", "init_from", "rename", "fresh", "experiment", "dry_run")
        _refuse(arguments, others, "--resume", "a resumed training keeps its model, data and folder")
        keeps_target = arguments.target is None
        return resumed(Path(arguments.resume), file, overrides, options, peers, keeps_target)
    request = _request(arguments, peers)
    return prepared(request) if arguments.dry_run or arguments.overfit is not None else begun(request)


def _request(arguments: Namespace, peers: Processes) -> TrainingRequest:
    """A new training. Raises UsageError."""
    if arguments.file is None:
        raise UsageError("FILE is missing", "usage: dlc train FILE, or dlc train --resume RUN")
    return TrainingRequest(
        file=model_file(arguments.file),
        experiment=arguments.experiment,
        overrides=_overrides(arguments),
        data=_path(arguments.data),
        out=_path(arguments.out),
        init_from=_start_weights(arguments),
        options=compile_options(arguments, None if arguments.batch == "all" else arguments.batch),
        command_line=sys.argv,
        within=folder_of_imports(arguments),
        peers=peers,
    )


def _train(session: TrainingSession, observer: Observer, dry_run: bool) -> int:
    observer(start_of(session.program, session.job, session.position, session.weights))
    if dry_run:
        say("dry run: everything is ready; nothing was trained or written")
        return 0
    if session.directory is not None:
        session.directory.discard(RESULT)
    end = run_training(session.job, session.position, observer)
    if session.directory is not None:
        session.directory.write_json(RESULT, event_as_json(end))
        session.directory.log(f"training {end.reason} at step {end.step}")
    if end.reason == "interrupted":
        say(f"resume: dlc train --resume {end.run}")
        return INTERRUPTED
    say(f"next: dlc eval {end.run}\n  or: {_use_of(session.program, str(end.run))}")
    return 0


def _use_of(program: Program, run: str) -> str:
    """The command that shows what a model of this kind does."""
    if program.generation is not None:
        return f"dlc generate {run}"
    if program.samplers:
        name = program.samplers[0].name
        return f"dlc sample {run}" if len(program.samplers) == 1 else f"dlc sample {run} --sampler {name}"
    return f"dlc predict {run} --input FILE"


def _overrides(arguments: Namespace) -> Overrides:
    options = ("epochs", "batch", "seed", "shards")
    given = {key: str(value) for key in options if (value := getattr(arguments, key)) is not None}
    if twice := next((key for key, _ in arguments.settings if key in given), None):
        raise UsageError(f"--{twice} and --set give `{twice}` twice", "leave one out")
    return (*arguments.settings, *given.items())


def _start_weights(arguments: Namespace) -> StartWeights | None:
    if arguments.init_from is None:
        if arguments.rename or arguments.fresh:
            raise UsageError("--rename and --fresh go with --init-from", "give --init-from WEIGHTS")
        return None
    return StartWeights(arguments.init_from, tuple(arguments.rename), tuple(arguments.fresh))


def _refuse(arguments: Namespace, options: Sequence[str], beside: str, why: str) -> None:
    for option in options:
        if getattr(arguments, option):
            raise UsageError(f"--{option.replace('_', '-')} does not go with {beside}", why)


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
