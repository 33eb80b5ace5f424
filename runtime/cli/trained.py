"""The arguments that name a trained model: a run, or a model file with weights."""

from __future__ import annotations

from pathlib import Path

from compiler.errors.diagnostics import UsageError
from runtime.cli.common import add_compilation, add_settings, compile_options, folder_of_imports, model_file
from runtime.cli.parser import Namespace, Parser
from runtime.reporting.terminal import say_labelled
from runtime.runs.trained import Trained, open_model_file, open_trained_run


def add_trained(parser: Parser, runs: bool = True) -> None:
    parser.add_argument("model", metavar="RUN|FILE", help="the folder of a run, or a model file with --weights")
    parser.add_argument("--weights", metavar="W", help="a safetensors file, for a model file")
    parser.add_argument("--last", action="store_true", help="use the run's last weights instead of its best")
    add_settings(parser)
    add_compilation(parser, runs)


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
    for note in trained.notes:
        say_labelled("note", note)
    return trained
