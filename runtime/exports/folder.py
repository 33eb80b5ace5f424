"""The folder of an export: files of others in it stay as they are, unless they are to be replaced."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from pathlib import Path

from compiler.errors.diagnostics import UsageError
from compiler.errors.suggestions import quoted
from runtime.support.files import JsonValue, parse_json

MANIFEST = "manifest.json"
_FILES = "files"


def written_before(folder: Path) -> tuple[str, ...]:
    """The files that earlier exports wrote, as their manifest in the folder says."""
    try:
        manifest = parse_json((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return ()
    match manifest:
        case {"abi": int() | str(), "files": list(names)}:
            return tuple(name for name in names if isinstance(name, str))
        case _:
            return ()


def expect_own(folder: Path, names: Iterable[str], own: Collection[str], force: bool) -> None:
    """Raise UsageError where `names` would replace files that are not our `own`, unless by `force`."""
    others = [name for name in names if (folder / name).exists() and name not in own]
    if others and not force:
        message = f"{folder} has {quoted(others)} already, which no earlier command like this one wrote there"
        raise UsageError(message, "name another folder, or give --force to replace what is there")


def with_files(manifest: bytes, names: Iterable[str]) -> bytes:
    """A manifest that says which files lie in its folder."""
    found: dict[str, JsonValue] = json.loads(manifest)
    return (json.dumps(found | {_FILES: sorted({*names})}, indent=2) + "\n").encode()
