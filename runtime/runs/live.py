"""The exchange of pages with a training in another process: small files in the folder `live` of its run.

asked.json         by pages: for which training, a number that changes while somebody looks, the tensors that are wanted
order.json         by pages: what the training shall do, for which training, with a number of its own
status.json        by the training, while somebody looks: how far it is
state.safetensors  by the training, when it is asked: its tensors between two steps

Nothing is here unless a page is open. Each file appears in one step; none is forced to the disk, for none has to
survive. Who trains is told by the lock of the run, so that files for another training mean nothing to this one.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from compiler.driver import Array
from compiler.errors.diagnostics import CheckpointError, DataError
from compiler.support.open_flags import flags
from compiler.support.record import record
from runtime.runs.directory import holder_of
from runtime.runs.tensor_files import notes_of, read_tensors, tensor_pieces
from runtime.support import regular_files
from runtime.support.files import JsonObject, explained, parse_json
from runtime.support.restored import restored

FOLDER = "live"
ASKED, ORDER, STATUS, STATE = "asked.json", "order.json", "status.json", "state.safetensors"
PAUSE, GO_ON, STOP, KEEP_ON = "pause", "go on", "stop after the epoch", "do not stop"
ORDERS = (PAUSE, GO_ON, STOP, KEEP_ON)
_POSITION = "position"
_MOST_BYTES = 1 << 16  # of a file of JSON
_Kind = TypeVar("_Kind")


@record
class Asked:
    """`beat` is another whenever a page has looked again, and `tensors` the number of the copy that is wanted."""

    training: str
    beat: int
    tensors: int


@record
class Order:
    """One of `ORDERS` to the training of this name; `number` tells two alike orders apart."""

    training: str
    number: int
    what: str


@record
class LivePosition:
    """The position of a copy of the tensors: what decides the numbers of the step that follows."""

    step: int
    rate_factor: float
    kept: Mapping[str, float]


def training_of(run: Path) -> str | None:
    """The name of the process that has the run, which no other training has; None where there is none."""
    holder = holder_of(run)
    return None if holder is None else str(holder)


def live_folder(run: Path) -> Path | None:
    """The folder of the files, if it is there: never one that a link leads to."""
    folder = run / FOLDER
    try:
        return folder if stat.S_ISDIR(folder.lstat().st_mode) else None
    except OSError:
        return None


def write_asked(run: Path, asked: Asked) -> None:
    """Raises DataError where the run cannot be written to."""
    _write_for_training(run, ASKED, asdict(asked))


def write_order(run: Path, order: Order) -> None:
    """Raises DataError where the run cannot be written to."""
    _write_for_training(run, ORDER, asdict(order))


def read_asked(folder: Path) -> Asked | None:
    """None for a file that is not there or not whole."""
    return _read(Asked, folder / ASKED)


def read_order(folder: Path) -> Order | None:
    """None for a file that is not there or not whole."""
    found = _read(Order, folder / ORDER)
    return found if found is not None and found.what in ORDERS else None


def write_status(folder: Path, status: JsonObject) -> None:
    """Raises OSError."""
    _put(folder / STATUS, json.dumps(status).encode())


def read_status(run: Path) -> JsonObject | None:
    """None for a file that is not there or not whole."""
    folder = live_folder(run)
    return None if folder is None else _object_in(folder / STATUS)


def write_state(folder: Path, tensors: Mapping[str, Array], position: LivePosition) -> None:
    """Raises OSError."""
    notes = {_POSITION: json.dumps({**asdict(position), "kept": dict(position.kept)})}
    _put(folder / STATE, *tensor_pieces(tensors, notes))


def read_state(run: Path) -> tuple[dict[str, Array], LivePosition] | None:
    """The copy of a training's tensors and where it was taken; None where there is none, or not a whole one."""
    folder = live_folder(run)
    if folder is None:
        return None
    with suppress(OSError, ValueError, CheckpointError):
        tensors = read_tensors(folder / STATE)
        found = parse_json(notes_of(folder / STATE).get(_POSITION, "").encode())
        return tensors, restored(LivePosition, found)
    return None


def remove(run: Path, *names: str) -> None:
    """Remove files of these names, and the folder if nothing is left in it."""
    folder = live_folder(run)
    if folder is None:
        return
    for name in names:
        with suppress(OSError):
            (folder / name).unlink()
    with suppress(OSError):
        folder.rmdir()


def _write_for_training(run: Path, name: str, content: JsonObject) -> None:
    with explained(
        DataError,
        run / FOLDER,
        "the training cannot be told: ",
        "run it on the machine and as the user that the training runs as, or stop it by Ctrl-C",
    ):
        if live_folder(run) is None:
            (run / FOLDER).mkdir()
        _put(run / FOLDER / name, json.dumps(content).encode())


def _put(path: Path, *pieces: bytes | memoryview) -> None:
    """Put a file in place in one step, without waiting for the disk. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.writing")
    temporary.unlink(missing_ok=True)  # of a process that was killed
    try:
        how = os.O_WRONLY | os.O_CREAT | os.O_EXCL | flags("O_CLOEXEC")
        with os.fdopen(os.open(temporary, how, 0o600), "wb") as file:
            file.writelines(pieces)
        os.replace(temporary, path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise


def _read(kind: type[_Kind], path: Path) -> _Kind | None:
    found = _object_in(path)
    with suppress(ValueError):
        return None if found is None else restored(kind, found)
    return None


def _object_in(path: Path) -> JsonObject | None:
    with suppress(OSError, ValueError):
        with regular_files.opened(path) as file:
            found = parse_json(file.read(_MOST_BYTES))
        return found if isinstance(found, Mapping) else None
    return None
