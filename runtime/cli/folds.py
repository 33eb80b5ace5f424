"""`dlc train --folds N`: the trainings of a cross-validation, told fold by fold, then together."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack, closing
from datetime import datetime
from pathlib import Path

from runtime.cli.main import INTERRUPTED
from runtime.reporting.tables import Column, laid_out
from runtime.reporting.terminal import say, say_laid_out, say_notes, styled, width_of
from runtime.reporting.units import measure
from runtime.runs.directory import clear_of_vain_runs, made_as, new_folder
from runtime.support.files import json_bytes, replace_file
from runtime.train.events import Event, Observer, print_event, told
from runtime.train.folds import FoldResult, cross_validated, folds_of, folds_to_json, spreads_of
from runtime.train.jobs import start_of
from runtime.train.session import TrainingRequest, TrainingSession

RESULTS = "folds.json"


def run_folds(request: TrainingRequest, count: int, as_json: bool) -> int:
    """Train each fold, write their results, and print them. Results of ended folds are kept where one fails."""
    cuts = folds_of(request, count)
    folder = _folder(request)
    results: list[FoldResult] = []
    was_interrupted = False
    with ExitStack() as opened:

        def observer_of(number: int, session: TrainingSession) -> Observer:
            say(f"fold {number} of {count}")
            say_notes(session.warnings, "warning")
            say_notes(session.notes if number == 1 else ())
            return _for_json if as_json else _for_people(number, session, opened)

        for result in cross_validated(request, folder, cuts, observer_of):
            was_interrupted = result.was_interrupted
            if was_interrupted:
                break
            results.append(result)
            replace_file(folder / RESULTS, json_bytes(folds_to_json(count, folder, results)))
    if as_json:
        print(json.dumps({"event": "folds", **folds_to_json(count, folder, results)}, allow_nan=False), flush=True)
    elif results:
        _print_results(results)
    if was_interrupted:
        before = f"; those before it are in {folder}" if results else f"; its run is {folder / 'fold-1'}"
        say(f"interrupted in fold {len(results) + 1} of {count}{before}")
        return INTERRUPTED
    say(f"saved in {folder}")
    return 0


def _folder(request: TrainingRequest) -> Path:
    if request.out is None:
        return new_folder(Path("runs"), f"folds-{request.file.stem}-{datetime.now():%Y%m%d-%H%M%S}")
    if count := clear_of_vain_runs(request.out):
        say(f"{request.out} held {count} folds without a checkpoint, which are replaced")
    return made_as(request.out)


def _for_json(event: Event) -> None:
    print_event(event)


def _for_people(number: int, session: TrainingSession, opened: ExitStack) -> Observer:
    """The first fold tells its settings and epochs, as a training does; the others show that they go on."""
    from runtime.reporting.training_text import SignsOfLife, TextReporter  # rich is slow to import

    if number == 1:
        return opened.enter_context(closing(TextReporter()))
    started = start_of(session.program, session.job, session.position, session.weights)
    return told([SignsOfLife(started, lambda line: say(f"fold {number}: {line}"))])


def _print_results(results: list[FoldResult]) -> None:
    """A row for each fold, then mean and deviation."""
    spreads = spreads_of(results)
    heads = [*(str(result.number) for result in results), "mean", "deviation"]
    columns = [Column("fold", heads), Column("epoch", [*(str(result.epoch) for result in results), "", ""])]
    for name, spread in spreads.items():
        deviation = "-" if spread.deviation is None else measure(spread.deviation)
        cells = [*(measure(result.metrics[name]) for result in results), measure(spread.mean), deviation]
        columns.append(Column(name, cells))
    header, *rows = laid_out(columns, width_of(sys.stderr))
    say_laid_out(styled(header, "bold", sys.stderr))
    say_laid_out("\n".join(rows))
    say("metrics are those of the epoch whose weights a fold kept; deviations divide by the number of folds - 1")
