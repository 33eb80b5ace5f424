"""Checkpoints: folders of weights, optimizer states and position, each of which appears whole or not at all.

A checkpoint is written under another name, forced to the disk, and renamed; its manifest, with the SHA-256 of each
file, is written last. Folders are called `SERIAL-step-STEP`, with `-best` where the model was the best so far; a later
checkpoint has a higher serial, whatever its step.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from compiler.driver import Array
from compiler.errors.diagnostics import CheckpointError
from compiler.support.numerics import NUMERICS
from compiler.support.record import record
from runtime.runs.numerics import UNKNOWN
from runtime.runs.position import Position
from runtime.runs.tensor_files import StoredTensors, read_tensors, write_tensors
from runtime.runs.totals import NOTHING, Totals, totals_from_json
from runtime.support import files, regular_files
from runtime.support.restored import restored

WEIGHTS, OPTIMIZER = "weights.safetensors", "optimizer.safetensors"
POSITION, MANIFEST = "position.json", "manifest.json"
_FILES = (WEIGHTS, OPTIMIZER, POSITION)
_VERSION = 1
_NAME = re.compile(r"(\d{6,})-step-(\d+)(-best)?")
_BEST = "-best"
_WRITING, _REMOVING = ".writing-", ".removing-"


@record
class Checkpoint:
    """All that a training needs to go on. `weights` are parameters and states by path.

    `numerics` is the version of the numerics that computed the last step before it, 0 where it is not known.
    """

    weights: Mapping[str, Array]
    optimizer: Mapping[str, Array]
    position: Position
    seed: int
    numerics: int = NUMERICS


@record
class FoundCheckpoint:
    """A checkpoint that was read, its folder, and remarks on damaged ones that were passed over."""

    checkpoint: Checkpoint
    path: Path
    notes: tuple[str, ...] = ()


def write_checkpoint(folder: Path, checkpoint: Checkpoint, is_best: bool, keep: int = 2) -> Path:
    """Add a checkpoint to `folder`, then remove all but the newest `keep` and the newest best one.

    Raises CheckpointError where it cannot be written; earlier checkpoints are then as they were.
    """
    with files.explained(
        CheckpointError, folder, f"the checkpoint of step {checkpoint.position.step} cannot be written: "
    ):
        folder.mkdir(parents=True, exist_ok=True)
        _clear_leftovers(folder)
        temporary = folder / f"{_WRITING}{os.getpid()}"
        try:
            temporary.mkdir()
            _write_files(temporary, checkpoint)
            serial = max((_serial_of(path) for path in checkpoints_in(folder)), default=0) + 1
            final = folder / f"{serial:06d}-step-{checkpoint.position.step}{_BEST if is_best else ''}"
            os.rename(temporary, final)
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        files.sync_folder(folder)
    _remove_old(folder, keep)
    return final


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoints of a folder, oldest first. Raises OSError where it cannot be listed."""
    return sorted((p for p in folder.iterdir() if _NAME.fullmatch(p.name) and p.is_dir()), key=_serial_of)


def read_checkpoint(path: Path, reads_states: bool = True) -> Checkpoint:
    """One checkpoint, each file compared with its checksum first. Raises CheckpointError.

    Without `reads_states`, the states of the optimizer are StoredTensors, of which the caller reads what it needs.
    """
    manifest = read_mapping(path / MANIFEST, _EARLIER)
    if manifest.get("version") != _VERSION:
        raise CheckpointError(f"version {manifest.get('version')!r} of the format is not known", path, _UPDATE)
    sums = manifest.get("sha256")
    for name in _FILES:
        wanted = sums.get(name) if isinstance(sums, Mapping) else None
        with files.explained(CheckpointError, path / name, fix=_EARLIER):
            found = files.sha256_of(path / name)
        if wanted != found:
            raise CheckpointError("the content does not match its checksum: the file is damaged", path / name, _EARLIER)
    position = read_mapping(path / POSITION, _EARLIER)
    weights = read_tensors(path / WEIGHTS)
    optimizer = read_tensors(path / OPTIMIZER) if reads_states else StoredTensors(path / OPTIMIZER)
    try:
        seed, numerics = restored(int, position.get("seed")), restored(int, position.get("numerics", UNKNOWN))
        at = restored(Position, position, _LATER, {Totals: totals_from_json})
        return Checkpoint(weights, optimizer, at, seed, numerics)
    except ValueError as error:
        raise CheckpointError(f"the position cannot be read: {error}", path / POSITION, _EARLIER) from error


def newest_checkpoint(folder: Path, reads_states: bool = True) -> FoundCheckpoint:
    """The newest checkpoint that is whole; notes say which damaged ones were passed over. Raises CheckpointError.

    `reads_states` is that of `read_checkpoint`.
    """
    return _first_whole(list(reversed(_listed(folder))), folder, reads_states)


def best_checkpoint(folder: Path) -> FoundCheckpoint:
    """The newest checkpoint marked best; where none is whole, the newest one. Raises CheckpointError."""
    newest_first = list(reversed(_listed(folder)))
    return _first_whole(sorted(newest_first, key=lambda path: not is_marked_best(path)), folder)


def is_marked_best(path: Path) -> bool:
    """Whether the model was the best so far when the checkpoint was written."""
    return path.name.endswith(_BEST)


def _first_whole(candidates: list[Path], folder: Path, reads_states: bool = True) -> FoundCheckpoint:
    notes: list[str] = []
    for path in candidates:
        try:
            return FoundCheckpoint(read_checkpoint(path, reads_states), path, tuple(notes))
        except CheckpointError as error:
            notes.append(f"checkpoint {path.name} is passed over: {error}")
    if notes:
        raise CheckpointError("every checkpoint is damaged:\n" + "\n".join(notes), folder, "train again")
    raise CheckpointError(
        "there is no checkpoint yet", folder, "train again: the run ended before its first checkpoint"
    )


def _listed(folder: Path) -> list[Path]:
    with files.explained(CheckpointError, folder):
        return checkpoints_in(folder)


def _serial_of(path: Path) -> int:
    return int(path.name.split("-")[0])


def _write_files(folder: Path, checkpoint: Checkpoint) -> None:
    others: dict[str, files.JsonValue] = {"seed": checkpoint.seed, "numerics": checkpoint.numerics}
    position: dict[str, files.JsonValue] = {**asdict(replace(checkpoint.position, totals=NOTHING)), **others}
    position["sums"], position["kept"] = dict(checkpoint.position.sums), dict(checkpoint.position.kept)
    position["totals"] = checkpoint.position.totals.to_json()
    sums = {
        WEIGHTS: write_tensors(folder / WEIGHTS, checkpoint.weights),
        OPTIMIZER: write_tensors(folder / OPTIMIZER, checkpoint.optimizer),
    }
    files.write_bytes(folder / POSITION, files.json_bytes(position))
    sums[POSITION] = files.sha256_of(folder / POSITION)
    files.write_bytes(folder / MANIFEST, files.json_bytes({"version": _VERSION, "sha256": sums}))
    files.sync_folder(folder)


def _clear_leftovers(folder: Path) -> None:
    """Remove checkpoints that a killed process left half written or half removed. The run's lock keeps others out."""
    for path in folder.iterdir():
        if path.name.startswith((_WRITING, _REMOVING)):
            shutil.rmtree(path, ignore_errors=True)


def _remove_old(folder: Path, keep: int) -> None:
    """Renamed first, so that a half-removed checkpoint is never taken for a damaged one. Failure costs only space."""
    try:
        every = checkpoints_in(folder)
        best = [path for path in every if is_marked_best(path)][-1:]
        for path in every[: -max(keep, 1)]:
            if path not in best:
                going = path.with_name(_REMOVING + path.name)
                os.rename(path, going)
                shutil.rmtree(going, ignore_errors=True)
    except OSError:
        return


def read_json(path: Path, fix: str) -> files.JsonValue:
    """The value of a JSON file; `fix` says what to do where it is damaged. Raises CheckpointError."""
    try:
        with files.explained(CheckpointError, path):
            return files.parse_json(regular_files.content(path))
    except ValueError as error:
        raise CheckpointError(f"this is not JSON text ({error})", path, fix) from error


def read_mapping(path: Path, fix: str) -> files.JsonObject:
    """The names and values of a JSON file. Raises CheckpointError."""
    value = read_json(path, fix)
    if isinstance(value, Mapping):
        return value
    raise CheckpointError("the file does not hold names with values", path, fix)


_LATER = ("rate_factor", "kept", "totals")  # of a position: added after the first version
_EARLIER = "use an earlier checkpoint, or train again"
_UPDATE = "it was written by a later version of dlc: update dlc"
