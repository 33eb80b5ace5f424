"""`metrics.jsonl`: one JSON object a line, appended as a training goes; a line torn by a crash is passed over."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from compiler.errors.diagnostics import CheckpointError
from runtime.support import regular_files
from runtime.support.files import JsonObject, explain, json_text, parse_json, replace_file


def append_record(path: Path, record: JsonObject) -> None:
    """Add one line in a single write. Raises CheckpointError."""
    line = (json_text(record) + "\n").encode()
    try:
        with regular_files.appended(path) as file:
            file.write(line)
    except OSError as error:
        raise _failed(error, path) from error


def read_records(path: Path) -> list[JsonObject]:
    """Every whole line. Only the last may be torn; damage before it raises CheckpointError with its line."""
    lines = _lines_of(path)
    records = [_record_of(line) for line in lines]
    for number, record in enumerate(records, 1):
        if record is None and number < len(records):
            raise CheckpointError(f"line {number} is damaged", path, "remove the line")
    return [record for record in records if record is not None]


def truncate_records(path: Path, step: int) -> None:
    """Keep the whole lines up to `step`, where a resumed training goes on. Raises CheckpointError."""
    lines = _lines_of(path)
    kept = [line for line in lines if (record := _record_of(line)) is not None and _step_of(record) <= step]
    try:
        replace_file(path, b"".join(line + b"\n" for line in kept))
    except OSError as error:
        raise _failed(error, path) from error


def _lines_of(path: Path) -> list[bytes]:
    try:
        return [line for line in regular_files.content(path).split(b"\n") if line.strip()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _failed(error, path) from error


def _record_of(line: bytes) -> JsonObject | None:
    try:
        value = parse_json(line)
    except ValueError:
        return None
    return value if isinstance(value, Mapping) else None


def _step_of(record: JsonObject) -> float:
    step = record.get("step")
    return step if isinstance(step, int | float) else 0


def _failed(error: OSError, path: Path) -> CheckpointError:
    message, fix = explain(error)
    return CheckpointError(message, path, fix)
