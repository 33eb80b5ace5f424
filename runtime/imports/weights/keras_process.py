"""A file of Keras, read in a process of its own: on a damaged file, the library of HDF5 may crash or never end."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, field
from pathlib import Path

import numpy as np

from compiler.errors.diagnostics import CheckpointError, DlcError, UsageError
from compiler.support.record import record
from runtime.imports.weights.keras_archive import KerasTensors, read_keras
from runtime.support.files import parse_json
from runtime.support.restored import restored

_PATIENCE = 20.0  # seconds, beside those for the bytes
_BYTES_IN_A_SECOND = 10_000_000  # which a slow disk and packed data reach
_AGAIN = "fetch the file again, or save it again"
_CHILD = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from runtime.imports.weights.keras_process import answer; answer(*sys.argv[2:])"
)


@record
class _Answer:
    """The names of the variables, whose arrays stand in another file, and the rest of `KerasTensors`; or an error."""

    names: tuple[str, ...] = ()
    classes: Mapping[str, str] = field(default_factory=dict[str, str])
    epsilons: Mapping[str, float] = field(default_factory=dict[str, float])
    notes: tuple[str, ...] = ()
    error: str = ""
    fix: str = ""
    is_misuse: bool = False


def read_keras_apart(path: Path) -> KerasTensors:
    """As `read_keras`, for a file of any content. Raises CheckpointError, and UsageError without h5py."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", _CHILD, json.dumps(sys.path), str(path), folder]
        patience = _PATIENCE + path.stat().st_size / _BYTES_IN_A_SECOND
        nothing = subprocess.DEVNULL
        try:
            subprocess.run(command, stdin=nothing, stdout=nothing, stderr=nothing, timeout=patience, check=False)
        except subprocess.TimeoutExpired:
            message = f"reading it did not end in {patience:.0f} s, as of a damaged file"
            raise CheckpointError(message, path, _AGAIN) from None
        said = Path(folder, "answer.json")
        if not said.is_file():
            raise CheckpointError("the library of HDF5 crashed on it: the file is damaged", path, _AGAIN)
        return _understood(restored(_Answer, parse_json(said.read_bytes())), Path(folder, "arrays.npz"))


def _understood(said: _Answer, arrays: Path) -> KerasTensors:
    if said.error:
        raise UsageError(said.error, said.fix) if said.is_misuse else CheckpointError(said.error, fix=said.fix)
    with np.load(arrays) as stored:
        tensors = {name: stored[f"arr_{number}"] for number, name in enumerate(said.names)}
    return KerasTensors(tensors, said.classes, said.epsilons, said.notes)


def answer(path: str, folder: str) -> None:
    """The other process: read the file, and leave its variables, or the error, in the folder."""
    try:
        with Path(path).open("rb") as file:
            found = read_keras(Path(path), file)
        np.savez(Path(folder, "arrays.npz"), *found.tensors.values())
        said = _Answer(tuple(found.tensors), found.classes, found.epsilons, found.notes)
    except DlcError as error:
        said = _Answer(error=str(error), fix=error.fix, is_misuse=isinstance(error, UsageError))
    Path(folder, "answer.json").write_text(json.dumps(asdict(said)))
