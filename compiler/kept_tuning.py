"""The tuning that was measured for a processor: kept in the cache folder, read by each command, and forgotten.

Each processor has a file of JSON, by its name, its instruction set and its caches; it is written whole or not at all,
and read only where nobody else can have put it. To clear the cache of code does not remove it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from math import inf
from pathlib import Path
from reprlib import repr as shortened
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
_USUAL = 1 << 11  # bytes of a file, about
_PERMISSIONS = "check owners and permissions, or choose another folder with --cache-dir or DLC_CACHE_DIR"


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
    with suppress(OSError), os.scandir((folder or default_folder()) / _FOLDER) as files:
        return any(files)
    return False


def kept_tuning(machine: Machine, folder: Path | None = None) -> KeptTuning | None:
    """The tuning kept for a machine. Raises DataError for a file that is damaged, or that others could have written."""
    file = tuning_file(machine, folder)
    try:
        with TrustedFolder(file.parent).open(file.name) as opened:
            text = opened.read(_LARGEST + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _failed("no tuning can be read", file, error) from None
    try:
        return _read(file, text)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        problem = f"no tuning: {error}" if type(error) is ValueError else "no tuning"
        raise DataError(problem, file, fix="remove this file, or let `dlc tune` measure anew") from None


def expect_keepable(file: Path) -> None:
    """Raises DataError where the file of a processor could not be written."""
    folder, trial = TrustedFolder(file.parent), f"{file.name}.trial"
    try:
        folder.write(trial, bytes(_USUAL))
        folder.remove(trial)
    except OSError as error:
        raise _failed("no tuning can be kept", file, error) from None


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
        raise _failed("the tuning cannot be kept", kept.file, error) from None


def forget_tuning(machine: Machine, folder: Path | None = None) -> bool:
    """Remove the tuning kept for a machine, damaged or not; whether there was anything. Raises DataError."""
    file = tuning_file(machine, folder)
    try:
        TrustedFolder(file.parent).remove(file.name)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _failed("the tuning cannot be removed", file, error) from None
    return True


def _read(file: Path, text: bytes) -> KeptTuning:
    """The content of a file. Raises ValueError, KeyError, TypeError or AttributeError."""
    if len(text) > _LARGEST:
        raise ValueError("it is too long")
    try:
        content = cast("dict[str, Any]", json.loads(text))
    except ValueError:
        raise ValueError("it is no JSON") from None
    if content["version"] != VERSION:
        raise ValueError(f"it has version {shortened(content['version'])}, and {VERSION} is read")
    measured, threads = content["measured"], content["threads"]
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", measured):
        raise ValueError(f"`measured` cannot be {shortened(measured)}")
    if type(threads) is not int or threads < 1:
        raise ValueError(f"`threads` cannot be {shortened(threads)}")
    for name, gain in content["gains"].items():
        if type(gain) not in (int, float) or not 0 < gain < inf:
            raise ValueError(f"the gain of {shortened(name)} cannot be {shortened(gain)}")
    return KeptTuning(file, tuning_of(content["numbers"]), measured, threads, content["gains"])


def _failed(problem: str, file: Path, error: OSError) -> DataError:
    """The error of a file, or of the folder above it that is at fault."""
    place = Path(error.filename or file)
    return DataError(f"{error.strerror}: {problem}", place if place.is_absolute() else file, fix=_PERMISSIONS)
