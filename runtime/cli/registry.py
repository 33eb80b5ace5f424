"""The list of commands. Each names the module that is imported only when the command is chosen."""

from __future__ import annotations

from typing import NamedTuple


class Command(NamedTuple):
    """`module` offers `configure(parser)` and `run(arguments) -> int`, the exit code."""

    name: str
    summary: str
    module: str


COMMANDS = (
    Command("new", "Start a project: a small model with data that trains at once", "runtime.cli.new"),
    Command("check", "Report every mistake in model files", "runtime.cli.check"),
    Command("test", "Check derivatives, and run the tests in model files", "runtime.cli.test"),
    Command("lr", "Find a learning rate, or show the schedule of one", "runtime.cli.learning_rate"),
    Command("train", "Train a model and save the run", "runtime.cli.train"),
    Command("sweep", "Search for good settings over many trainings", "runtime.cli.sweep"),
    Command("eval", "Measure loss and metrics of a trained model", "runtime.cli.evaluate"),
    Command("predict", "Apply a trained model to a file of inputs", "runtime.cli.predict"),
    Command("generate", "Extend a text with a trained model, token by token", "runtime.cli.generate"),
    Command("runs", "List, compare and prune runs", "runtime.cli.runs"),
    Command("replay", "Compute tensors of a past step of a run again", "runtime.cli.replay"),
    Command("data", "Show a sample as training sees it", "runtime.cli.data"),
    Command("plot", "Plot curves, confusion, weights, gradients or filters of a run", "runtime.cli.plot"),
    Command("report", "Write one HTML file about a run", "runtime.cli.report"),
    Command("show", "Print a stage of compilation, whole or for one line", "runtime.cli.show"),
    Command("pass", "Run one pass of the compiler on the text of a graph", "runtime.cli.one_pass"),
    Command("plan", "Tabulate layers, parameters, work and memory", "runtime.cli.plan"),
    Command("profile", "Profile a step by line, layer or kernel", "runtime.cli.profile"),
    Command("bench", "Time training steps or inference on made-up data", "runtime.cli.benchmark"),
    Command("tune", "Measure the sizes and thresholds that suit this processor, and keep them", "runtime.cli.tune"),
    Command("explain", "Explain an error code at length", "runtime.cli.explain"),
    Command("fmt", "Format model files", "runtime.cli.format"),
    Command("cache", "Show or clear the cache of compiled code", "runtime.cli.cache"),
)
