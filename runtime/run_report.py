"""A run directory to the facts of its report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from compiler import driver
from compiler.diagnostics import CheckpointError
from compiler.driver import Options, View
from runtime import regular_files
from runtime.files import JsonValue
from runtime.model import training_of
from runtime.reporting.run_page import RunFacts
from runtime.run_directory import RunDirectory, open_run
from runtime.runs import curves_of, epochs_of, summary_of
from runtime.trained import choices_of, program_of

Record = Mapping[str, JsonValue]


def facts_of(path: Path, options: Options) -> RunFacts:
    """What a report shows of a run. The graph is that of the model without its loss. Raises CheckpointError."""
    run = open_run(path)
    choices = choices_of(run)
    program = program_of(run, choices)
    options = replace(options, dtype=choices.dtype, batch=training_of(program).batch)
    view = View(
        run.program,
        mode="infer",
        format="svg",
        experiment=choices.experiment,
        overrides=choices.overrides,
        within=run.path / "source",
    )
    epochs = epochs_of(run)
    times = [epoch.get("seconds") for epoch in epochs]
    data = _record(run, "data.json")
    return RunFacts(
        summary=summary_of(path),
        curves=curves_of(epochs),
        seconds=sum(time for time in times if isinstance(time, int | float)) if times else None,
        settings=_mapping(_record(run, "settings.json").get("settings")),
        plan=driver.plan(program, options).to_json(),
        graph=driver.show(view, options, lambda _: choices.dimensions),
        data={name: data[name] for name in ("rows", "fingerprints") if name in data},
        environment=_record(run, "environment.json"),
        texts=_texts(run),
    )


def _texts(run: RunDirectory) -> dict[str, str]:
    """The main file first, then what it imports."""
    folder, main = run.path / "source", run.program
    files = (main, *sorted(path for path in folder.rglob("*.dl") if path != main))
    return {str(path.relative_to(folder)): regular_files.content(path).decode("utf-8", "replace") for path in files}


def _record(run: RunDirectory, name: str) -> Record:
    try:
        return _mapping(run.read_json(name))
    except CheckpointError:  # the run ended early, or the file is damaged; the rest can be shown
        return {}


def _mapping(value: JsonValue) -> Record:
    return value if isinstance(value, Mapping) else {}
