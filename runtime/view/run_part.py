"""The curves of a run, from the lines that its training writes epoch by epoch."""

from __future__ import annotations

from pathlib import Path

from runtime.runs.directory import open_run
from runtime.runs.listing import curves_of, epochs_of, summary_of
from runtime.support.files import JsonObject, JsonValue, finite


def run_to_json(folder: Path) -> JsonObject:
    """Each scalar with its lines of points (epoch, value), the epochs with their times, and the state of the run.

    NaN and Inf are null. Raises CheckpointError where there is no run.
    """
    summary, epochs = summary_of(folder), epochs_of(open_run(folder))
    curves: dict[str, JsonValue] = {
        name: {line: [[epoch, finite(value)] for epoch, value in points] for line, points in lines.items()}
        for name, lines in curves_of(epochs).items()
    }
    times: list[JsonValue] = [epoch.get("seconds") for epoch in epochs]
    return {
        "state": summary.state,
        "best": summary.best_epoch,
        "step": summary.step,
        "curves": curves,
        "seconds": times,
    }
