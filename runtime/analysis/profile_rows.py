"""Rows of a profile in its JSON form: their names, their times, and the comparison of two profiles."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compiler.errors.diagnostics import UsageError
from runtime.support import regular_files
from runtime.support.files import parse_json

ProfileRecord = Mapping[str, Any]
BY = ("line", "layer", "kernel", "op")
_MOST_MS = sys.float_info.max  # a whole number in JSON may be larger than any float
DATA = "(data)"  # time of no line: rows are fetched and handed over
_KEYS = ("step_ms", "threads", "lines", "kernels", "layers", "ops")
# facts that may differ between two profiles, and are worth a line where they do
_COMPARED = ("model", "mode", "batch", "threads", "dtype", "machine", "cpu", "step_ms", "barrier_ms", "idle_ms")


def ms_of(row: Mapping[str, Any]) -> float:
    """The milliseconds of a row, in all directions."""
    return row["ms"] if "ms" in row else row["forward_ms"] + row["backward_ms"] + row["update_ms"]


def label_of(row: Mapping[str, Any]) -> str:
    """The name of a row in a table."""
    if "file" in row:
        return f"{Path(row['file']).name}:{row['line']}" if row["file"] else DATA
    return str(row["path"] if "path" in row else row["name"])


def saved_profile(path: Path) -> ProfileRecord:
    """A profile that `--json` wrote. Raises UsageError."""
    try:
        found: Any = parse_json(regular_files.content(path))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", "name a model file, a run, or a saved profile") from error
    except ValueError as error:
        raise UsageError(f"{path} is not JSON text", "save a profile with --json") from error
    if not _is_profile(found):
        raise UsageError(f"{path} holds no profile", "save one with `dlc profile FILE --json`")
    return found


def _is_profile(found: Any) -> bool:
    """Whether a value has the rows of a profile, each with a name and its times, and settings by their names."""
    try:
        has_all = all(key in found for key in _KEYS)
        rows = [row for by in BY for row in found[f"{by}s"]] if has_all else []
        is_told = isinstance(found.get("settings", {}), Mapping)
        return has_all and is_told and all(label_of(row) and 0 <= ms_of(row) <= _MOST_MS for row in rows)
    except (LookupError, TypeError, AttributeError, OverflowError):
        return False


def difference(before: ProfileRecord, after: ProfileRecord, by: str) -> dict[str, Any]:
    """The changes, and the times of each row in both; lines are the same where their texts are."""
    one, other = _keyed(before[f"{by}s"]), _keyed(after[f"{by}s"])
    rows: list[dict[str, Any]] = []
    for key in dict.fromkeys((*other, *one)):
        first, second = one.get(key), other.get(key)
        named = second or first
        assert named is not None
        earlier, later = (None if row is None else ms_of(row) for row in (first, second))
        rows.append(
            {
                "label": label_of(named),
                "text": str(named.get("text", "")),
                "before_ms": earlier,
                "after_ms": later,
                "difference_ms": (later or 0.0) - (earlier or 0.0),
            }
        )
    return {"by": by, "changed": _changed(before, after), "rows": rows}


def _keyed(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, int], Mapping[str, Any]]:
    """Rows by their names, and those of one name in their order."""
    found: dict[tuple[str, int], Mapping[str, Any]] = {}
    met: Counter[str] = Counter()
    for row in rows:
        name = str(row.get("text") or label_of(row))
        found[name, met[name]] = row
        met[name] += 1
    return found


def _changed(before: ProfileRecord, after: ProfileRecord) -> dict[str, tuple[Any, Any]]:
    found = {name: (before.get(name), after.get(name)) for name in _COMPARED if before.get(name) != after.get(name)}
    found = {name: tuple(_rounded(v) for v in pair) for name, pair in found.items()}  # type: ignore[misc]
    settings: tuple[Mapping[str, Any], Mapping[str, Any]] = (before.get("settings", {}), after.get("settings", {}))
    for name in dict.fromkeys((*settings[0], *settings[1])):
        one, other = (given.get(name) for given in settings)
        if one != other:
            found[name] = (one, other)
    return found


def _rounded(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def trace_of(report: ProfileRecord, spans: Sequence[Any]) -> dict[str, Any]:
    """Chrome's trace format: one process, a row for each thread; times in microseconds."""
    name = f"{report['model']}, {report['mode']}, batch {report['batch']}"
    threads = sorted({span.thread for span in spans})
    events: list[dict[str, Any]] = [_named("process_name", name, 0)]
    events += [_named("thread_name", f"thread {thread}", thread) for thread in threads]
    for span in spans:
        told = {"items": span.items, "lines": ", ".join(span.lines)} if span.kind == "work" else {}
        events.append(
            {
                "name": span.name,
                "cat": span.kind,
                "ph": "X",
                "ts": round(span.begin, 3),
                "dur": round(span.lasted, 3),
                "pid": 1,
                "tid": span.thread,
                "args": told,
            }
        )
    return {"traceEvents": events, "displayTimeUnit": "ns"}


def _named(kind: str, name: str, thread: int) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": 1, "tid": thread, "args": {"name": name}}
