"""The results of several runs as one, in which the rounds of the same job count together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from measurement import Measurement, from_json, full_speeds

Record: TypeAlias = dict[str, Any]


def pooled(files: Iterable[Record]) -> Record:
    """What the report tells, of the objects that `run.py` writes.

    ValueError where they are of different kinds of processors, or of the same job at different commits.
    """
    files = list(files)
    machines = [file["machine"] for file in files]
    kinds = _different(machine.get("kind", machine["processor"]) for machine in machines)
    if len(kinds) > 1:
        raise ValueError(f"the results are of different kinds of processors: {'; '.join(kinds)}")
    together = _together(files)
    full = full_speeds(together)
    return {
        "machine": {"kind": kinds[0]}
        | {name: _joined(machine.get(name) for machine in machines) for name in machines[0]},
        "plan": {
            "threads": max(file["plan"]["threads"] for file in files),
            "seconds": _extent(file["plan"]["seconds"] for file in files),
            "rounds": _extent(len(measurement.outcomes) for measurement in together),
        },
        "full_gflops": full,
        "measurements": [measurement.as_json(full) for measurement in together],
    }


def _together(files: Iterable[Record]) -> list[Measurement]:
    """One measurement for each job."""
    found: dict[tuple[object, ...], Measurement] = {}
    commits: dict[tuple[object, ...], str] = {}
    for file in files:
        commit: str = file["machine"]["commit"]
        for one in map(from_json, file["measurements"]):
            key = (one.mode, one.variant, one.job.model, one.job.peer, one.job.batch, one.job.threads)
            if commits.setdefault(key, commit) != commit:
                raise ValueError(
                    f"{one.mode} {one.job.model}, {one.job.peer} was measured at commits {commits[key]} and {commit}, "
                    "so the rounds do not count together"
                )
            found.setdefault(key, Measurement(one.mode, one.job, one.variant)).outcomes += one.outcomes
    return list(found.values())


def _different(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _joined(values: Iterable[Any]) -> Any:
    """What all have in common, or all that there is; for tables, name by name."""
    values = list(values)
    if isinstance(values[0], dict):
        return {name: _joined(value.get(name, "absent") for value in values) for name in values[0]}
    return " and ".join(_different(map(str, values)))


def _extent(values: Iterable[float]) -> str:
    values = list(values)
    least, most = min(values), max(values)
    return f"{least:g}" if least == most else f"{least:g}–{most:g}"
