"""The folder of one training: its sources, settings, environment, data, metrics, events and checkpoints.

run.json            name, time, main source        environment.json  versions, processor, command line
source/             the program as it was           data.json         fingerprints, parts, preparation
settings.json       each value and its origin       metrics.jsonl     one line an epoch
checkpoints/        see `checkpoint`                events.log        what happened when
result.json         how it ended, with test metrics lock              see `run_lock`
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from compiler.errors.diagnostics import CheckpointError, Source
from compiler.errors.suggestions import nearest
from runtime.runs.checkpoint import checkpoints_in
from runtime.runs.lock import LOCK, RunLock, is_in_use, lock_run
from runtime.runs.metrics_file import append_record, read_records, truncate_records
from runtime.support import regular_files
from runtime.support.files import JsonObject, JsonValue, explain, json_bytes, parse_json, replace_file

RESULT = "result.json"
_RUN, _VERSION = "run.json", 1
_MADE_FIRST = {  # all that a training writes before its first checkpoint
    *(_RUN, "environment.json", "source", "data.json", "settings.json", "init_from.json", "metrics.jsonl"),
    *("checkpoints", "events.log", "tensorboard", LOCK),
}
_RESTORE = "restore the file, or train again"


class RunDirectory:
    """An existing run. Writers hold its lock until `close`, the end of a `with`, or of the process."""

    def __init__(self, path: Path, lock: RunLock | None, notes: Sequence[str] = ()) -> None:
        """`notes` are remarks for the user on how the run was opened."""
        self.path, self._lock, self.notes = path, lock, tuple(notes)

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def program(self) -> Path:
        """The copy of the main `.dl` file. Raises CheckpointError."""
        main = _mapping(self.read_json(_RUN), self.path / _RUN).get("main")
        path = self.path / "source" / str(main)
        is_inside = isinstance(main, str) and not Path(main).is_absolute() and ".." not in Path(main).parts
        if not is_inside or not path.is_file():
            raise CheckpointError("the run has no copy of its program", self.path, "train again, or use another run")
        return path

    def write_json(self, name: str, value: JsonValue) -> None:
        """Put a JSON file in place in one step. Raises CheckpointError."""
        try:
            replace_file(self.path / name, json_bytes(value))
        except OSError as error:
            raise _failed(error, self.path / name) from error

    def read_json(self, name: str) -> JsonValue:
        """The value of a JSON file of the run. Raises CheckpointError."""
        path = self.path / name
        try:
            return parse_json(regular_files.content(path))
        except OSError as error:
            raise _failed(error, path) from error
        except ValueError as error:
            raise CheckpointError(f"this is not JSON text ({error})", path, _RESTORE) from error

    def discard(self, name: str) -> None:
        """Remove a file that no longer holds true, if it is there. Raises CheckpointError."""
        try:
            (self.path / name).unlink(missing_ok=True)
        except OSError as error:
            raise _failed(error, self.path / name) from error

    def append_metrics(self, record: JsonObject) -> None:
        append_record(self.metrics, record)

    def read_metrics(self) -> list[JsonObject]:
        return read_records(self.metrics)

    def truncate_metrics(self, step: int) -> None:
        truncate_records(self.metrics, step)

    def log(self, message: str) -> None:
        """Add a line with the time to `events.log`."""
        line = f"{datetime.now().astimezone().isoformat(timespec='seconds')} {message}\n"
        try:
            with regular_files.appended(self.path / "events.log") as file:
                file.write(line.encode("utf-8", "backslashreplace"))
        except OSError as error:
            raise _failed(error, self.path / "events.log") from error

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def create_run(name: str, out: Path | None, sources: Sequence[Source], base: Path = Path("runs")) -> RunDirectory:
    """A new, locked run: `out`, or `base`/NAME-YYYYMMDD-HHMMSS. `sources` begin with the main file.

    Raises CheckpointError.
    """
    now = datetime.now().astimezone()
    created = now.isoformat(timespec="seconds")
    copies = _copies([source for source in sources if not source.is_library])
    lock, notes = None, ()
    try:
        if out is not None and _is_begun_in_vain(out):
            path, lock = out, _emptied(out)
            notes = (f"{out} held a run without a checkpoint, which is replaced",)
        else:
            path = made_as(out) if out is not None else new_folder(base, f"{name}-{now:%Y%m%d-%H%M%S}")
    except OSError as error:
        raise _failed(error, out or base) from error
    run = RunDirectory(path, lock, notes)
    try:  # `run.json` comes first: it marks the remains of a full disk
        run.write_json(_RUN, {"version": _VERSION, "name": name, "created": created, "main": next(iter(copies), None)})
        run = run if lock is not None else RunDirectory(path, lock_run(path))
        run.checkpoints.mkdir()
        _write_copies(run.path / "source", copies)
    except OSError as error:
        run.close()
        raise _failed(error, out or base) from error
    except CheckpointError:
        run.close()
        raise
    return run


def open_run(path: Path, for_writing: bool = False) -> RunDirectory:
    """A run that exists, locked where it is opened for writing. Raises CheckpointError, also where it is in use."""
    if not (path / _RUN).is_file():
        raise _no_run(path)
    run = RunDirectory(path, None)
    version = _mapping(run.read_json(_RUN), path / _RUN).get("version")
    if version != _VERSION:
        raise CheckpointError(f"version {version!r} of run directories is not known", path, "update dlc")
    if not for_writing:
        return run
    try:
        lock = lock_run(path)
    except OSError as error:
        raise _failed(error, path) from error
    return RunDirectory(path, lock, () if lock.note is None else (lock.note,))


def _is_begun_in_vain(path: Path) -> bool:
    """Whether all that is at `path` is a run that ended before its first checkpoint, as where a disk was full."""
    run = RunDirectory(path, None)
    try:
        inside = {child.name for child in path.iterdir()}
        return (
            _RUN in inside
            and inside <= _MADE_FIRST
            and not is_in_use(path)
            and not ("checkpoints" in inside and checkpoints_in(run.checkpoints))
            and len(run.read_metrics()) <= 1  # a run with a second epoch had a checkpoint
        )
    except OSError:
        return False


def _emptied(path: Path) -> RunLock:
    """The lock of a run that is begun in vain, of which `run.json` stays. Raises OSError and CheckpointError."""
    lock = lock_run(path)
    for child in path.iterdir():
        if child.is_dir():
            shutil.rmtree(child)
        elif child.name not in (LOCK, _RUN):
            child.unlink()
    return lock


def runs_in(folder: Path) -> list[Path]:
    """The runs in a folder and in the folders in it, such as a sweep's."""
    found = [*folder.glob(f"*/{_RUN}"), *folder.glob(f"*/*/{_RUN}")]
    return sorted(file.parent for file in found if not file.parent.name.startswith("."))


def new_folder(base: Path, name: str) -> Path:
    """The first of NAME, NAME-2, … in `base` that does not exist; made here, so that two trainings never share one."""
    base.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        path = base / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir()
            return path
        except FileExistsError:
            number += 1


def _no_run(path: Path) -> CheckpointError:
    if path.is_dir():
        inside = sorted(child.parent.name for child in path.glob(f"*/{_RUN}"))
        if inside:
            return CheckpointError("this folder holds runs, but is none", path, f"name one: {path / inside[-1]}")
        return CheckpointError(f"this is not a run directory: it has no {_RUN}", path, "name the folder of a run")
    near = [path.parent] if path.parent != Path() else [Path("runs"), Path()]
    known = {child.parent.name: child.parent for folder in near for child in folder.glob(f"*/{_RUN}")}
    found = nearest(path.name, known)
    fix = f"did you mean {known[found]}?" if found is not None else "check the path; runs are kept under runs/"
    return CheckpointError("there is no such run", path, fix)


def made_as(path: Path) -> Path:
    """The folder, made or empty. Raises OSError, and CheckpointError where something is in it."""
    path.mkdir(parents=True, exist_ok=True)
    if any(path.iterdir()):
        if (path / _RUN).exists():
            fix = f"choose another --out, or go on with --resume {path}"
            raise CheckpointError("the folder holds a run", path, fix)
        raise CheckpointError("the folder is not empty", path, "choose another --out")
    return path


def clear_of_vain_runs(folder: Path) -> int:
    """Remove the runs in a folder that holds nothing but runs that ended before their first checkpoint, or empty ones.

    The result is how many there were. Where there is anything else, nothing is removed.
    """
    inside = list(folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else []
    is_vain = [c.is_dir() and not c.is_symlink() and (not any(c.iterdir()) or _is_begun_in_vain(c)) for c in inside]
    if not all(is_vain):
        return 0
    for child in inside:
        shutil.rmtree(child)
    return len(inside)


def _copies(sources: Sequence[Source]) -> dict[str, Source]:
    """Where in the run the copies lie: with the folders between them, so that imports still work."""
    if not sources:
        return {}
    paths = [Path(os.path.abspath(source.name)) for source in sources]
    common = Path(os.path.commonpath([path.parent for path in paths]))
    return {str(path.relative_to(common)): source for source, path in zip(sources, paths, strict=True)}


def _write_copies(folder: Path, copies: Mapping[str, Source]) -> None:
    folder.mkdir()
    for name, source in copies.items():
        copy = folder / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(source.text.encode())


def _mapping(value: JsonValue, path: Path) -> JsonObject:
    if isinstance(value, Mapping):
        return value
    raise CheckpointError("this does not hold names and values", path, _RESTORE)


def _failed(error: OSError, path: Path) -> CheckpointError:
    message, fix = explain(error)
    return CheckpointError(message, path, fix)
