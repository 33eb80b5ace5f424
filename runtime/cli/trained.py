"""The arguments that name a trained model: a run, or a model file with weights."""

from __future__ import annotations

from pathlib import Path

from compiler.errors.diagnostics import UsageError
from runtime.cli.common import compile_options, folder_of_imports, model_file
from runtime.cli.parser import Namespace
from runtime.reporting.terminal import say_notes
from runtime.runs.trained import Trained, open_model_file, open_trained_run


def trained_of(arguments: Namespace, data: Path | None = None) -> Trained:
    """The trained model, with remarks printed. Raises UsageError, SourceError and CheckpointError."""
    overrides, options = tuple(arguments.settings), compile_options(arguments)
    is_file = Path(arguments.model).suffix == ".dl" or Path(arguments.model).is_file()
    if is_file:
        file = model_file(arguments.model)
        if arguments.weights is None:
            raise UsageError(f"{arguments.model} alone has no weights", "give --weights W.safetensors, or name a run")
        if arguments.last:
            raise UsageError("--last goes with a run", "leave it out")
        weights, within = Path(arguments.weights), folder_of_imports(arguments)
        return open_model_file(file, weights, arguments.experiment, overrides, options, data, within)
    if arguments.weights is not None:
        raise UsageError("--weights goes with a model file", "a run has weights of its own; --last takes the newest")
    if arguments.experiment is not None:
        raise UsageError("--experiment goes with a model file", "a run is of one experiment")
    trained = open_trained_run(Path(arguments.model), arguments.last, overrides, options)
    say_notes(trained.notes)
    return trained
