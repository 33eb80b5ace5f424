"""List the runs of a folder, compare two of them, or remove old ones.

Without --keep, --prune removes the runs that have no checkpoint and so cannot be used. A run that a process
uses is never removed.
"""

from __future__ import annotations

from pathlib import Path

from compiler.errors.diagnostics import UsageError, size
from runtime.cli.common import print_json
from runtime.cli.parser import Namespace, Parser
from runtime.reporting.runs_text import print_comparison, print_runs
from runtime.reporting.terminal import say, say_labelled
from runtime.runs.listing import compared, prunable, remove_run, runs_below
from runtime.runs.numerics import compared_by_others

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
