"""The tuning that was measured for a processor: kept in the cache folder, read by each command, and forgotten.

Each processor has a file of JSON, by its name, its instruction set and its caches; it is written whole or not at all,
and read only where nobody else can have put it. To clear the cache of code does not remove it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from compiler.errors.diagnostics import DataError
from compiler.machine import Machine
from compiler.support.cache import default_folder
from compiler.support.record import record
from compiler.support.trusted_folder import TrustedFolder
from compiler.tuning import Tuning, tuning_of

VERSION = 1  # of the files
_FOLDER = "tuning"
_LARGEST = 1 << 16  # bytes of a file


@record
class KeptTuning:
    """The tuning of a processor, the file that holds it, the day when it was `measured`, and with how many `threads`.

    `gains` has, by the name of a number, how many times faster its workload became.
    """

    file: Path
    tuning: Tuning
    measured: str
    threads: int
    gains: Mapping[str, float]


def tuning_file(machine: Machine, folder: Path | None = None) -> Path:
    """Where the tuning of a machine is kept, in a cache folder, by default the user's."""
    known = repr(replace(machine, tuning=Tuning()))
    name = re.sub(r"[^a-z0-9-]+", "-", f"{machine.name}-{machine.cpu}".lower())
    return (folder or default_folder()) / _FOLDER / f"{name}-{sha256(known.encode()).hexdigest()[:8]}.json"


def has_tunings(folder: Path | None = None) -> bool:
    """Whether a tuning of any processor is kept, which takes none to know."""
    return ((folder or default_folder()) / _FOLDER).exists()


def kept_tuning(machine: Machine, folder: Path | None = None) -> KeptTuning | None:
    """The tuning kept for a machine. Raises DataError for a file that is damaged, or that others could have written."""
    file = tuning_file(machine, folder)
    try:
        with TrustedFolder(file.parent).open(file.name) as opened:
            text = opened.read(_LARGEST + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(file, error.strerror or str(error)) from None
    try:
        return _read(file, text)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise _unusable(file, f"no tuning: {error}" if type(error) is ValueError else "no tuning") from None


def keep_tuning(kept: KeptTuning) -> None:
    """Write the file of a processor, in place of what was there. Raises DataError."""
    content = {
        "version": VERSION,
        "measured": kept.measured,
        "threads": kept.threads,
        "numbers": kept.tuning.changes,
        "gains": dict(kept.gains),
    }
    try:
        TrustedFolder(kept.file.parent).write(kept.file.name, json.dumps(content, indent=2).encode() + b"\n")
    except OSError as error:
        problem = f"{error.filename or kept.file}: {error.strerror}: the tuning cannot be kept"
        raise DataError(problem, fix="check owners and permissions, or name another folder with --cache-dir") from None


def forget_tuning(machine: Machine, folder: Path | None = None) -> bool:
    """Remove the tuning kept for a machine, damaged or not; whether there was anything. Raises DataError."""
    file = tuning_file(machine, folder)
    try:
        TrustedFolder(file.parent).remove(file.name)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise DataError(f"{error.strerror}: it cannot be removed", file, fix="check owners and permissions") from None
    return True


def _read(file: Path, text: bytes) -> KeptTuning:
    """The content of a file. Raises ValueError, KeyError or TypeError."""
    if len(text) > _LARGEST:
        raise ValueError("it is too long")
    content = cast("dict[str, Any]", json.loads(text))
    if content["version"] != VERSION:
        raise ValueError(f"it has version {content['version']!r}, and {VERSION} is read")
    gains = {str(name): float(gain) for name, gain in content["gains"].items()}
    return KeptTuning(
        file, tuning_of(content["numbers"]), str(content["measured"])[:10], int(content["threads"]), gains
    )


def _unusable(file: Path, problem: str) -> DataError:
    return DataError(problem, file, fix="`dlc tune` measures anew, `dlc tune --forget` removes it")
