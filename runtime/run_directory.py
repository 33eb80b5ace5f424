"""The folder of one training: its sources, settings, environment, data, metrics, events and checkpoints.

run.json            name, time, main source        environment.json  versions, processor, command line
source/             the program as it was           data.json         fingerprints, parts, preparation
settings.json       each value and its origin       metrics.jsonl     one line an epoch
checkpoints/        see `checkpoint`                events.log        what happened when
result.json         how it ended, with test metrics lock              see `run_lock`
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from compiler.diagnostics import CheckpointError, Source
from runtime.files import JsonValue, explain, json_bytes, parse_json, replace_file
from runtime.metrics_file import Record, append_record, read_records, truncate_records
from runtime.run_lock import RunLock, lock_run
from runtime.suggestions import nearest

RESULT = "result.json"
_RUN, _VERSION = "run.json", 1
_RESTORE = "restore the file, or train again"


class RunDirectory:
    """An existing run. Writers hold its lock until `close`, the end of a `with`, or of the process."""

    def __init__(self, path: Path, lock: RunLock | None) -> None:
        self.path, self._lock = path, lock

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks for the user on how the run was opened."""
        note = None if self._lock is None else self._lock.note
        return () if note is None else (note,)

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
        if not isinstance(main, str) or ".." in Path(main).parts or not path.is_file():
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
            return parse_json(path.read_bytes())
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

    def append_metrics(self, record: Record) -> None:
        append_record(self.metrics, record)

    def read_metrics(self) -> list[Record]:
        return read_records(self.metrics)

    def truncate_metrics(self, step: int) -> None:
        truncate_records(self.metrics, step)

    def log(self, message: str) -> None:
        """Add a line with the time to `events.log`."""
        line = f"{datetime.now().astimezone().isoformat(timespec='seconds')} {message}\n"
        try:
            with (self.path / "events.log").open("ab", buffering=0) as file:
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
    try:
        path = made_as(out) if out is not None else new_folder(base, f"{name}-{now:%Y%m%d-%H%M%S}")
        (path / "checkpoints").mkdir()
        main = _copy_sources(path / "source", [source for source in sources if not source.is_library])
        run = RunDirectory(path, lock_run(path))
    except OSError as error:
        raise _failed(error, out or base) from error
    created = now.isoformat(timespec="seconds")
    try:
        run.write_json(_RUN, {"version": _VERSION, "name": name, "created": created, "main": main})
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
        return RunDirectory(path, lock_run(path))
    except OSError as error:
        raise _failed(error, path) from error


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


def _copy_sources(folder: Path, sources: Sequence[Source]) -> str | None:
    """Copies with the folders between them, so that imports still work; gives the name of the first."""
    folder.mkdir()
    if not sources:
        return None
    paths = [Path(os.path.abspath(source.name)) for source in sources]
    common = Path(os.path.commonpath([path.parent for path in paths]))
    for source, path in zip(sources, paths, strict=True):
        copy = folder / path.relative_to(common)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(source.text.encode())
    return str(paths[0].relative_to(common))


def _mapping(value: JsonValue, path: Path) -> Mapping[str, JsonValue]:
    if isinstance(value, Mapping):
        return value
    raise CheckpointError("this does not hold names and values", path, _RESTORE)


def _failed(error: OSError, path: Path) -> CheckpointError:
    message, fix = explain(error)
    return CheckpointError(message, path, fix)
