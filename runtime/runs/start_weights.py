"""The tensors of a file or a run as the start of a training: matched by name, after renaming, with a report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from compiler.driver import Array, Program, StartWeights, Tensors
from compiler.errors.diagnostics import CheckpointError, UsageError
from compiler.errors.suggestions import quoted
from compiler.support.record import record
from runtime.runs.checkpoint import WEIGHTS, best_checkpoint, newest_checkpoint
from runtime.runs.directory import RunDirectory, open_run
from runtime.runs.renames import pattern_of, renamed
from runtime.runs.tensor_files import TensorMatch, match_tensors, read_tensors
from runtime.support.files import JsonValue, fingerprint

INIT_FROM = "init_from.json"  # in a run: which weights it started from
_LATER = "put them back, or give a step after the first checkpoint"
_SHOWN = 30  # lines of a report in an error


@record
class WeightsReport:
    """`matched`: parameters and states that start from the file, with their names in it.

    All others keep their own start values: those of `fresh` because a pattern says so, and those that `match` names;
    it also has the names in the file that nothing takes. `fingerprint` is that of the file, or of the weights of the
    checkpoint.
    """

    source: str
    fingerprint: str
    matched: Mapping[str, str]
    fresh: tuple[str, ...]
    match: TensorMatch

    def lines(self) -> list[str]:
        """The report for a reader."""
        kept = len(self.fresh) + len(self.match.missing) + len(self.match.mismatched)
        renamed = sum(path != name for path, name in self.matched.items())
        how = f", {renamed} of them under another name" if renamed else ""
        first = f"{len(self.matched)} of {len(self.matched) + kept} tensors start from {self.source}{how}"
        return [first, *([f"fresh: {quoted(self.fresh)}"] if self.fresh else []), *self.match.lines()]

    def to_json(self) -> dict[str, JsonValue]:
        match = self.match
        return {
            "source": str(Path(self.source).absolute()),
            "fingerprint": self.fingerprint,
            "matched": dict(self.matched),
            "fresh": list(self.fresh),
            "missing": [m.name for m in match.missing],
            "mismatched": [{"name": m.name, "file": list(m.found), "model": list(m.wanted)} for m in match.mismatched],
            "unused": list(match.unused),
        }


def start_weights_of(program: Program) -> StartWeights | None:
    """The source of `init_from` of a program; a relative path counts from the folder of its text."""
    start = None if program.plan is None else program.plan.init_from
    if start is None:
        return None
    folder = Path(program.sources[-1].name).absolute().parent
    return replace(start, path=str(folder / Path(start.path).expanduser()))


def take_over_weights(program: Program, tensors: Tensors, start: StartWeights) -> WeightsReport:
    """Put the tensors of a safetensors file or a run (its best ones) in the place of start values.

    Raises CheckpointError where one is missing that must be there, and UsageError where there is no such file.
    """
    weights, source = weights_at(Path(start.path))
    names = _with_followers(program, renamed(tuple(weights), start.renames, source))
    patterns = [pattern_of(text) for text in start.fresh]
    fresh = [spec.path for spec in program.parameters if any(p.fullmatch(spec.path) for p in patterns)]
    own = (spec for spec in program.parameters if spec.path not in fresh and spec.stored is None)
    wanted = {spec.path: tensors[spec.path].shape for spec in own}
    match = match_tensors({path: weights[name] for path, name in names.items()}, wanted)
    report = WeightsReport(
        str(source),
        fingerprint(file_of(source)),
        {path: names[path] for path in match.matched},
        tuple(fresh),
        replace(match, unused=tuple(names[path] for path in match.unused)),
    )
    if not match.matched or (start.is_strict and not match.is_complete):
        raise _unfit(program, report, source)
    for path, name in report.matched.items():
        tensors.write(path, weights[name])
    return report


def put_recorded_weights(tensors: Tensors, recorded: JsonValue, place: Path) -> None:
    """Put the tensors that a run started from in the place of start values, as its `init_from.json` tells.

    Raises CheckpointError where they are gone, or are others now.
    """
    match recorded:
        case {"source": str(source), "fingerprint": str(known), "matched": Mapping() as matched}:
            file = file_of(Path(source))
        case _:
            raise CheckpointError("the file does not name the weights that the run started from", place, _LATER)
    if not file.is_file() or fingerprint(file) != known:
        raise CheckpointError("the run started from these weights, which are gone or have changed", file, _LATER)
    weights = read_tensors(file)
    for path, name in matched.items():
        tensors.write(str(path), weights[str(name)])


def _with_followers(program: Program, names: Mapping[str, str]) -> dict[str, str]:
    """An average that the file does not have starts from what it follows."""
    averages = {spec.path: spec.average.path for spec in program.parameters if spec.average is not None}
    missing = {path: names[other] for path, other in averages.items() if path not in names and other in names}
    return {**names, **missing}


def file_of(source: Path) -> Path:
    """The file of the weights, of a file or a checkpoint."""
    return source / WEIGHTS if source.is_dir() else source


def _restores(run: RunDirectory) -> bool:
    """Whether a run ends with its best weights; `restore = false` keeps the last."""
    match run.read_json("settings.json"):
        case {"settings": {"restore": {"value": False}}}:
            return False
        case _:
            return True


def weights_at(source: Path) -> tuple[Mapping[str, Array], Path]:
    """The tensors of a safetensors file, or of a run's best checkpoint, or last with `restore = false`; and where."""
    if source.is_dir():
        run = open_run(source)
        chosen = best_checkpoint if _restores(run) else newest_checkpoint
        found = chosen(run.checkpoints)
        return found.checkpoint.weights, found.path
    if not source.exists():
        raise UsageError(f"there is no file {source} to take weights from", "check the path")
    return read_tensors(source), source


def _unfit(program: Program, report: WeightsReport, source: Path) -> CheckpointError:
    lines = report.lines()
    listed = "\n".join(lines[: _SHOWN + 1])
    more = f"\nand {len(lines) - _SHOWN - 1} more" if len(lines) > _SHOWN + 1 else ""
    return CheckpointError(
        f"the weights do not fit {program.model}:\n{listed}{more}",
        source,
        'map names with `rename = ["name in the file -> name in the model"]`, name those that keep their start value in'
        ' `fresh = ["head.*"]`, or give `strict = false`: `init_from = weights("…", …)`',
    )
