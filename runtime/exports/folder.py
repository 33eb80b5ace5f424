"""The folder of an export: files of others in it stay as they are, unless they are to be replaced."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import field
from pathlib import Path

from compiler.errors.diagnostics import UsageError
from compiler.errors.suggestions import quoted
from compiler.support.record import record
from runtime.support.files import JsonValue, parse_json

MANIFEST = "manifest.json"
_FILES, _HASHES = "files", "hashes"
# What people adapt, and nothing else of an export depends on.
ADAPTED = ("example.c", "CMakeLists.txt", "index.html")


@record
class Before:
    """What earlier exports wrote into a folder: the names of all files, and hashes of those that people adapt."""

    names: tuple[str, ...] = ()
    hashes: Mapping[str, str] = field(default_factory=dict[str, str])


def written_before(folder: Path) -> Before:
    """The files that earlier exports wrote, as their manifest in the folder says."""
    try:
        manifest = parse_json((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return Before()
    match manifest:
        case {"abi": int() | str(), "files": list(names)}:
            hashes = manifest.get(_HASHES)
            known = hashes.items() if isinstance(hashes, dict) else ()
            return Before(
                tuple(name for name in names if isinstance(name, str)),
                {name: said for name, said in known if isinstance(said, str)},
            )
        case _:
            return Before()


def adapted_since(folder: Path, before: Before) -> tuple[str, ...]:
    """The files that somebody changed since an export wrote them, of those that may stay as they are."""
    return tuple(
        name
        for name, said in before.hashes.items()
        if name in ADAPTED and (folder / name).is_file() and _hash((folder / name).read_bytes()) != said
    )


def expect_own(folder: Path, names: Iterable[str], own: Collection[str], force: bool) -> None:
    """Raise UsageError where `names` would replace files that are not our `own`, unless by `force`."""
    others = [name for name in names if (folder / name).exists() and name not in own]
    if others and not force:
        message = f"{folder} has {quoted(others)} already, which no earlier command like this one wrote there"
        raise UsageError(message, "name another folder, or give --force to replace those files")


def with_files(manifest: bytes, names: Iterable[str], before: Before, written: Mapping[str, bytes]) -> bytes:
    """A manifest that says which files lie in its folder, and how those were that people adapt: `written` are new."""
    found: dict[str, JsonValue] = json.loads(manifest)
    new = {name: _hash(content) for name, content in written.items()}
    files: list[JsonValue] = [*sorted({*before.names, *names})]
    hashes: dict[str, JsonValue] = {**before.hashes, **new}
    return (json.dumps(found | {_FILES: files, _HASHES: hashes}, indent=2) + "\n").encode()


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
