"""List the runs of a folder, compare two of them, or remove old ones.

Without --keep, --prune removes the runs that have no checkpoint and so cannot be used. A run that a process
uses is never removed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from compiler.errors.diagnostics import UsageError, size
from compiler.support.numerics import NUMERICS
from runtime.cli.common import print_json
from runtime.cli.parser import Namespace, Parser
from runtime.reporting.tables import Column, print_table
from runtime.reporting.terminal import say, say_labelled
from runtime.reporting.units import measure, value_text
from runtime.runs.listing import RunDifferences, RunSummary, compared, prunable, remove_run, runs_below
from runtime.runs.numerics import compared_by_others, versions_as_cell
from runtime.support.files import JsonValue

EXAMPLES = (
    "dlc runs experiments",
    "dlc runs --diff Digits-20260101-120000 Digits-20260102-093000",
    "dlc runs --prune --keep 5 --dry-run",
)


def configure(parser: Parser) -> None:
    parser.add_argument(
        "folder", metavar="DIR", nargs="?", default="runs", help="the folder of the runs (default: runs)"
    )
    parser.add_argument(
        "--diff", nargs=2, metavar=("A", "B"), help="show the settings and metrics in which two runs differ"
    )
    parser.add_flag("--prune", "remove runs without a checkpoint, and older runs as --keep says")
    parser.add_whole("--keep", "with --prune: keep only the newest N runs of each model")
    parser.add_flag("--dry-run", "with --prune: list the runs to remove, and remove none")
    parser.add_json()


def run(arguments: Namespace) -> int:
    folder = Path(arguments.folder)
    _refuse_nonsense(arguments)
    if arguments.diff is not None:
        first, second = arguments.diff
        return _compare(_run_called(first, folder), _run_called(second, folder), arguments.json)
    if arguments.prune:
        return _prune(folder, arguments)
    runs = runs_below(folder)
    if arguments.json:
        print_json([found.to_json() for found in runs])
    elif runs:
        print_runs(runs)
    else:
        say(f"{folder} holds no runs")
    return 0


def _refuse_nonsense(arguments: Namespace) -> None:
    if arguments.diff is not None and arguments.prune:
        raise UsageError("--diff does not go with --prune", "leave one out")
    for option, given in (("--keep", arguments.keep is not None), ("--dry-run", arguments.dry_run)):
        if given and not arguments.prune:
            raise UsageError(f"{option} goes with --prune", "add --prune, or leave it out")


def _run_called(name: str, folder: Path) -> Path:
    """A run by its path, or by its name in the folder."""
    inside = folder / name
    return inside if inside.is_dir() and not Path(name).is_dir() else Path(name)


def _compare(first: Path, second: Path, as_json: bool) -> int:
    found = compared(first, second)
    warning = compared_by_others(*found.numerics)
    if warning is not None:
        say_labelled("warning", warning)
    if as_json:
        settings, metrics = ({name: list(pair) for name, pair in d.items()} for d in (found.settings, found.metrics))
        differing = {"settings": settings, "metrics": metrics, "other": found.parts}
        print_json({"runs": [str(first), str(second)], **differing, "numerics": found.numerics})
        return 0
    print_comparison(first, second, found)
    return 0


def _prune(folder: Path, arguments: Namespace) -> int:
    runs = runs_below(folder)
    going = prunable(runs, arguments.keep)
    for found in going:
        if not arguments.dry_run:
            remove_run(found.path)
        if not arguments.json:
            print(found.path)
    if arguments.json:
        print_json({"removed": [str(found.path) for found in going], "dry_run": arguments.dry_run})
    verb = "would be removed" if arguments.dry_run else "removed"
    say(f"{len(going)} of {len(runs)} runs {verb}, {size(sum(found.bytes for found in going))}")
    return 0


def print_runs(runs: Sequence[RunSummary]) -> None:
    """One line for each run, oldest first: when, how it ended, and the scalars of its best epoch.

    The version of the numerics is shown where some run has another one than this `dlc`.
    """
    scalars = ["  ".join(f"{n} {_value(v)}" for n, v in {**run.scalars, **run.test}.items()) for run in runs]
    columns = [
        Column("run", [str(run.path) for run in runs], is_text=True, least=24),
        Column("model", [run.model for run in runs], 3, is_text=True, least=12),
        Column("began", [run.created[:16].replace("T", " ") for run in runs], 5, is_text=True),
        Column("state", [run.state for run in runs], 1, is_text=True),
        Column("epochs", [str(run.epochs) for run in runs], 2),
        Column("best", ["" if run.best_epoch is None else str(run.best_epoch) for run in runs], 6),
        Column("of the best epoch", scalars, is_text=True, least=20, wraps=True),
        Column("size", [size(run.bytes) for run in runs], 4),
    ]
    if any(run.numerics not in ((), (NUMERICS,)) for run in runs):
        columns.append(Column("numerics", [versions_as_cell(run.numerics) for run in runs], 7))
    print_table("", columns)


def print_comparison(first: Path, second: Path, found: RunDifferences) -> None:
    """The differences, in columns for the two runs."""
    for name in found.parts:
        print(f"the {name} differs")
    for title, differences in (("settings", found.settings), ("metrics", found.metrics)):
        if not differences:
            print(f"{title}: the same")
            continue
        pairs = [tuple(map(_value, pair)) for pair in differences.values()]
        sides = [
            Column(run.name, [pair[side] for pair in pairs], least=12, wraps=True)
            for side, run in enumerate((first, second))
        ]
        print_table("", [Column(title, list(differences), is_text=True), *sides])


def _value(value: JsonValue) -> str:
    match value:
        case None | bool():
            return value_text(value)
        case float():
            return measure(value)
        case list() | tuple():
            return f"[{', '.join(map(_value, value))}]"
        case str():
            return value if value.isprintable() else json.dumps(value)
        case _:
            return str(value)
