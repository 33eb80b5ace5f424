"""The folder of one training: its sources, settings, environment, data, metrics, events and checkpoints.

run.json            name, time, main source        environment.json  versions, processor, command line
source/             the program as it was           data.json         fingerprints, parts, preparation
settings.json       each value and its origin       metrics.jsonl     one line an epoch
checkpoints/        see `checkpoint`                events.log        what happened when
result.json         how it ended, with test metrics lock              see `RunLock`
time.json           how long it took up to a step   live/             while a page looks, see `live`
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import BinaryIO

from compiler.errors.diagnostics import CheckpointError, Source
from compiler.errors.suggestions import nearest
from compiler.support.record import record
from runtime.runs.checkpoint import checkpoints_in, read_json, read_mapping
from runtime.runs.position import Position
from runtime.support import locks, regular_files
from runtime.support.files import JsonObject, JsonValue, explained, json_bytes, json_text, parse_json, replace_file
from runtime.support.restored import restored

RESULT, LOCK, _TIMES = "result.json", "lock", "time.json"
_RUN, _VERSION = "run.json", 1
_MADE_FIRST = {  # all that a training writes before its first checkpoint
    *(
        _RUN,
        "environment.json",
        "source",
        "data.json",
        "settings.json",
        "init_from.json",
        "frozen.json",
        "metrics.jsonl",
    ),
    *("checkpoints", "events.log", "tensorboard", "live", LOCK),
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
        main = read_mapping(self.path / _RUN, _RESTORE).get("main")
        path = self.path / "source" / str(main)
        is_inside = isinstance(main, str) and not Path(main).is_absolute() and ".." not in Path(main).parts
        if not is_inside or not path.is_file():
            raise CheckpointError("the run has no copy of its program", self.path, "train again, or use another run")
        return path

    def write_json(self, name: str, value: JsonValue) -> None:
        """Put a JSON file in place in one step. Raises CheckpointError."""
        with explained(CheckpointError, self.path / name):
            replace_file(self.path / name, json_bytes(value))

    def read_json(self, name: str) -> JsonValue:
        """The value of a JSON file of the run. Raises CheckpointError."""
        return read_json(self.path / name, _RESTORE)

    def discard(self, name: str) -> None:
        """Remove a file that no longer holds true, if it is there. Raises CheckpointError."""
        with explained(CheckpointError, self.path / name):
            (self.path / name).unlink(missing_ok=True)

    def read_record(self, name: str) -> JsonObject:
        """The names and values of a JSON file; none where it is missing or damaged, as a run may end at any moment."""
        try:
            value = self.read_json(name)
        except CheckpointError:
            return {}
        return value if isinstance(value, Mapping) else {}

    def append_metrics(self, record: JsonObject) -> None:
        """Add one JSON object as a line, in a single write. Raises CheckpointError."""
        _append(self.metrics, (json_text(record) + "\n").encode())

    def read_metrics(self) -> list[JsonObject]:
        """Every whole line. Only the last may be torn; damage before it raises CheckpointError with its line."""
        records = [_record_of(line) for line in self._lines_of_metrics()]
        if None in records[:-1]:
            raise CheckpointError(f"line {records.index(None) + 1} is damaged", self.metrics, "remove the line")
        return [record for record in records if record is not None]

    def truncate_metrics(self, step: int) -> None:
        """Keep the whole lines up to `step`, where a resumed training goes on. Raises CheckpointError."""
        lines = self._lines_of_metrics()
        kept = [line for line in lines if (record := _record_of(line)) is not None and _step_of(record) <= step]
        with explained(CheckpointError, self.metrics):
            replace_file(self.metrics, b"".join(line + b"\n" for line in kept))

    def _lines_of_metrics(self) -> list[bytes]:
        with explained(CheckpointError, self.metrics), suppress(FileNotFoundError):
            return [line for line in regular_files.content(self.metrics).split(b"\n") if line.strip()]
        return []

    def log(self, message: str) -> None:
        """Add a line with the time to `events.log`."""
        line = f"{datetime.now().astimezone().isoformat(timespec='seconds')} {message}\n"
        _append(self.path / "events.log", line.encode("utf-8", "backslashreplace"))

    def write_times(self, position: Position) -> None:
        """Keep how long the training took up to its newest checkpoint, which itself holds no times."""
        times: JsonObject = {
            "step": position.step,
            "seconds": position.seconds,
            "epoch_seconds": position.epoch_seconds,
        }
        self.write_json(_TIMES, times)

    def with_times(self, position: Position) -> Position:
        """The position of the newest checkpoint with its times, as far as they are known."""
        kept = self.read_record(_TIMES)
        seconds, of_epoch = kept.get("seconds"), kept.get("epoch_seconds")
        if kept.get("step") != position.step or not isinstance(seconds, float) or not isinstance(of_epoch, float):
            return position
        return replace(position, seconds=seconds, epoch_seconds=of_epoch)

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
    with explained(CheckpointError, out or base):
        if out is not None and _is_begun_in_vain(out):
            path, lock = out, _emptied(out)
            notes = (f"{out} held a run without a checkpoint, which is replaced",)
        else:
            path = made_as(out) if out is not None else new_folder(base, f"{name}-{now:%Y%m%d-%H%M%S}")
    run = RunDirectory(path, lock, notes)
    try:
        with explained(CheckpointError, out or base):  # `run.json` comes first: it marks the remains of a full disk
            about: JsonValue = {"version": _VERSION, "name": name, "created": created, "main": next(iter(copies), None)}
            run.write_json(_RUN, about)
            run = run if lock is not None else RunDirectory(path, lock_run(path))
            run.checkpoints.mkdir()
            _write_copies(run.path / "source", copies)
    except CheckpointError:
        run.close()
        raise
    return run


def open_run(path: Path, for_writing: bool = False) -> RunDirectory:
    """A run that exists, locked where it is opened for writing. Raises CheckpointError, also where it is in use."""
    if not (path / _RUN).is_file():
        raise _no_run(path)
    version = read_mapping(path / _RUN, _RESTORE).get("version")
    if version != _VERSION:
        raise CheckpointError(f"version {version!r} of run directories is not known", path, "update dlc")
    if not for_writing:
        return RunDirectory(path, None)
    with explained(CheckpointError, path):
        lock = lock_run(path)
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


def _append(path: Path, line: bytes) -> None:
    with explained(CheckpointError, path), regular_files.appended(path) as file:
        file.write(line)


def _record_of(line: bytes) -> JsonObject | None:
    try:
        value = parse_json(line)
    except ValueError:
        return None
    return value if isinstance(value, Mapping) else None


def _step_of(record: JsonObject) -> float:
    step = record.get("step")
    return step if isinstance(step, int | float) else 0


_PACKAGES = ("dlc", "numpy", "llvmlite", "lark", "networkx", "safetensors")


def environment(
    command_line: Sequence[str], threads: int, tuning: Mapping[str, float], processes: int = 1
) -> dict[str, JsonValue]:
    """For `environment.json`. `threads` computed in each process; the processors are those this process may use.

    `tuning` has the numbers that are not the usual ones: they decide no bit, and how fast the run is.
    """
    return {
        "command_line": list(command_line),
        "folder": str(Path.cwd()),
        "python": platform.python_version(),
        "packages": {name: version_of(name) for name in _PACKAGES},
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": cpu_name(),
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": threads,
        "processes": processes,
        "tuning": tuning,
    }


def version_of(package: str) -> str | None:
    """The version of an installed package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def cpu_name() -> str:
    """The name that the processor gives itself."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@record
class Holder:
    """A process that writes to a run, or did."""

    pid: int
    host: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since.replace('T', ' ')}"

    @property
    def is_here(self) -> bool:
        return self.host == platform.node()


class RunLock:
    """A lock that is held: one process writes at a time, and a dead one's lock is taken over.

    The lock itself is the operating system's, so it ends with its process. The file holds who has it, and is emptied
    when the run is closed: a name there while nobody holds the lock is that of a process that was killed.
    `before` is that process, if there is one.
    """

    def __init__(self, file: BinaryIO, before: Holder | None) -> None:
        self._file, self.before = file, before

    @property
    def note(self) -> str | None:
        """A remark for the user where the lock was taken over."""
        if self.before is None:
            return None
        caution = "" if self.before.is_here else f"; make sure that it no longer runs on {self.before.host}"
        return f"the run was in use by {self.before}, which ended without closing it; its lock is taken over{caution}"

    def release(self) -> None:
        """Give the lock back, if that was not done."""
        if self._file.closed:
            return
        try:
            self._file.truncate(0)
        finally:
            self._file.close()


def lock_run(folder: Path) -> RunLock:
    """The lock of a run. Raises CheckpointError, which names the holder, where it is taken, and OSError."""
    file = regular_files.appended(folder / LOCK)
    try:
        locks.take(file)
    except BlockingIOError as error:
        holder = _holder_in(file)
        file.close()
        fix = f"wait until it ends, or stop it: kill {holder.pid}" if holder else "wait until it ends, or stop it"
        raise CheckpointError(f"the run is in use by {holder or 'another process'}", folder, fix) from error
    except OSError:
        file.close()
        raise
    before = _holder_in(file)
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    file.truncate(0)
    file.write(json_bytes({"pid": os.getpid(), "host": platform.node(), "since": now}))
    return RunLock(file, before)


def is_in_use(folder: Path) -> bool:
    """Whether a process writes to the run now."""
    try:
        with (folder / LOCK).open("rb") as file:
            locks.take(file, is_shared=True)
    except BlockingIOError:
        return True
    except OSError:  # no lock was ever taken here, or the file system has none
        return False
    return False


def holder_of(folder: Path) -> Holder | None:
    """The process that writes to the run now."""
    if not is_in_use(folder):
        return None
    with suppress(OSError), (folder / LOCK).open("rb") as file:
        return _holder_in(file)
    return None


def _holder_in(file: BinaryIO) -> Holder | None:
    file.seek(0)
    with suppress(ValueError):
        return restored(Holder, parse_json(file.read(1000)))
    return None
