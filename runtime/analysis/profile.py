"""A step is measured with stamps and without, in turn, on made-up data in memory.

Behind it, the rows of a profile in its JSON form: their names, their times, and the comparison of two profiles.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compiler import driver
from compiler.driver import Executable, Options, Program
from compiler.errors.diagnostics import UsageError
from compiler.profiling.account import report_of, timeline_of
from compiler.profiling.report import Measured, ProfileReport, TimelineSpan
from compiler.profiling.simulation import SimulationReport, simulated_step, simulation_of
from compiler.profiling.step import ProfiledStep, profiled_step
from compiler.support.record import record
from runtime.analysis.made_up_steps import MadeUpSteps, Weights, kind_of, usual_batch
from runtime.runs.directory import cpu_name
from runtime.support import regular_files
from runtime.support.files import parse_json
from runtime.support.memory import expect_room

if TYPE_CHECKING:
    from compiler.targets.recording import Recording, Step

_SAMPLE_SECONDS = 0.015
_LEAST_SAMPLES = 5


@record(eq=False)
class Profile:
    """The report of a step, and what each thread did in one of median time."""

    report: ProfileReport
    timeline: tuple[TimelineSpan, ...]


def profile(
    program: Program,
    mode: str,
    batch: int | None,
    options: Options,
    seconds: float,
    weights: Weights | None = None,
    sampler: str = "",
) -> Profile:
    """Measure for about `seconds`, with the values of `weights` in place of first ones. Raises UsageError.

    As in `dlc bench`, training steps are made many in a call, and each inference or batch of a `sampler` is a call of
    its own.
    """
    mode, batch = _mode(mode, sampler), batch or usual_batch(program, mode, sampler)
    kind = kind_of(mode, sampler)
    step = profiled_step(program, kind, replace(options, batch=batch))
    expect_room(step.program, [kind], step.options)
    made = MadeUpSteps(step.program, mode, batch, step.options, weights, sampler)
    measured, taken = _measure(step, made, seconds)
    return Profile(report_of(step, taken, measured, mode), timeline_of(step, taken))


def _mode(mode: str, sampler: str) -> str:
    return f"sample {sampler}" if sampler else mode


def _measure(step: ProfiledStep, made: MadeUpSteps, seconds: float) -> tuple[Measured, list[list[Recording]]]:
    """Samples of both executables in turn, each after a step that fills the caches and the workspace for it."""
    per_sample = _warm_up(step, made, seconds / 6)
    plain: list[float] = []
    walls: list[float] = []
    outside: list[float] = []
    taken: list[list[Recording]] = [[] for _ in step.parts]
    gc.collect()
    begin = time.perf_counter()
    while len(plain) < _LEAST_SAMPLES or time.perf_counter() - begin < seconds:
        # whichever comes first finds caches that Python has used, so each does in turn
        for executable in (step.plain, step.stamped) if len(plain) % 2 else (step.stamped, step.plain):
            made.run(executable, 1)
            spent = made.run(executable, per_sample)
            if executable is step.plain:
                plain.append(spent / per_sample)
        found = [recordings[1:] for recordings in step.take()]  # the step that fills the caches calls each part once
        walls.append(sum(r.wall_ns for part in found for r in part) * 1e-9 / per_sample)
        outside.append(_outside(found) / per_sample)
        for part, recordings in zip(taken, found, strict=True):
            part += recordings
    # a sample is compared with the one beside it: other work on the machine then slows both
    ratios = [stamped / without for stamped, without in zip(walls, plain, strict=True)]
    return Measured(_middle(plain), _middle(ratios) - 1, max(0.0, _middle(outside))), taken


def _outside(found: list[list[Recording]]) -> float:
    """The seconds of calls that no step covers."""
    every = [recording for part in found for recording in part]
    if any(len(recording.steps) < recording.made for recording in every):
        every = [recording for recording in every if len(recording.steps) == recording.made]
    return sum(r.wall_ns - sum(s.nanoseconds for s in r.steps) for r in every) * 1e-9


def _middle(samples: list[float]) -> float:
    """The mean of the middle half."""
    ordered = sorted(samples)
    quarter = len(ordered) // 4
    return float(np.mean(ordered[quarter : len(ordered) - quarter]))


def _warm_up(step: ProfiledStep, made: MadeUpSteps, seconds: float) -> int:
    """Run both for a while; how many steps make a sample that is long enough and for whose events there is room."""
    made.run(step.stamped, 1)
    events = step.most_events(step.take())
    steps = 1
    begin = time.perf_counter()
    while True:
        each = made.run(step.plain, steps) / steps
        wanted = max(2, int(np.ceil(_SAMPLE_SECONDS / max(each, 1e-8))))  # a single step is not gathered from the data
        steps = max(1, min(wanted, step.room // (2 * events)))
        if time.perf_counter() - begin >= seconds:
            return steps


def weights_of(tensors: driver.Tensors, program: Program) -> Weights:
    """Copies of the parameters and states of a model."""
    return {spec.path: np.array(tensors[spec.path]) for spec in program.parameters}


def is_run(path: Path) -> bool:
    """Whether a path names a run rather than a model file."""
    return (path / "run.json").is_file()


def as_json(report: ProfileReport | SimulationReport) -> dict[str, Any]:
    """The report as plain data, with the name of the processor. A setting that is no finite number becomes a text."""
    return json.loads(json.dumps({**report.to_json(), "cpu": cpu_name()}), parse_constant=str)


_LEAST_ROUNDS = 5
_STEPS = 3  # of a round, for each number of threads


def simulate(
    program: Program,
    mode: str,
    batch: int | None,
    options: Options,
    threads: int,
    seconds: float,
    weights: Weights | None = None,
    barrier_us: float | None = None,
    bandwidth: float | None = None,
    sampler: str = "",
) -> SimulationReport:
    """The simulation of `threads` threads, measured for about `seconds`; see `simulation_of`. Raises UsageError."""
    mode, batch = _mode(mode, sampler), batch or usual_batch(program, mode, sampler)
    kind = kind_of(mode, sampler)
    step = simulated_step(program, kind, replace(options, batch=batch), threads)
    expect_room(step.program, [kind], step.options)
    made = MadeUpSteps(step.program, mode, batch, step.options, weights, sampler)
    taken: dict[int, list[list[Step]]] = {count: [[] for _ in step.parts] for count in step.in_turns}
    at_once: list[list[Step]] = [[] for _ in step.parts]
    real: list[float] = []
    gc.collect()
    begin = time.perf_counter()
    while len(taken[1][0]) < _LEAST_ROUNDS * _STEPS or time.perf_counter() - begin < seconds:
        for count, executable in step.in_turns.items():
            _record_round(made, executable, partial(step.take, count), taken[count])
        if step.at_once is not None:
            _record_round(made, step.at_once, partial(step.take, step.cores, in_turns=False), at_once)
        if step.real is not None:
            made.run(step.real, 1)
            real.append(made.run(step.real, _STEPS) / _STEPS)
        if time.perf_counter() - begin > 4 * seconds and taken[1][0]:
            break  # a large model: few rounds have to do
    measured = float(np.percentile(real, 25)) if real else None
    found = at_once if step.at_once is not None else []
    return simulation_of(step, taken, found, mode, barrier_us, bandwidth, measured)


def _record_round(
    made: MadeUpSteps, executable: Executable, take: Callable[[], list[list[Step]]], parts: list[list[Step]]
) -> None:
    """Add the steps of a round to those of each part, after one that fills the caches."""
    made.run(executable, 1)
    take()
    made.run(executable, _STEPS)
    for part, found in zip(parts, take(), strict=True):
        part += found


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
    found = {name: (_rounded(one), _rounded(other)) for name, (one, other) in found.items()}
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
