"""`dlc`: finds the command, runs it, and turns every failure into a message and an exit code.

Exit codes: 0 done; 1 findings or failure; 2 a command line that makes no sense; 130 interrupted; 141 reader gone.
Imports stand where they are needed, so that `dlc --help` answers at once.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import NamedTuple

from compiler.errors.diagnostics import wrapped
from runtime.reporting.terminal import harmless_outlets, styled, width_of

INTERRUPTED = 130
READER_GONE = 141
_PURPOSE = "A compiler for neural networks: from a small text language to native training and inference."
# Objects of the compiler mostly stay: to look for cycles in it every 700 objects takes a tenth of its time. The
# training step of ResNet-20 makes 200,000.
_COLLECTIONS = (1_000_000, 2, 2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (by default the process's own) and give the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    with harmless_outlets():
        return _exit_code_of(words)


def _exit_code_of(words: list[str]) -> int:
    collect_seldom()
    try:
        if words[:1] != ["train"] and _has_others():
            from runtime.cli.together import meet_others  # MPI, in which those wait that train

            different = meet_others(" ".join(["dlc", *words[:1]]))
            if different:
                return different
        code = _dispatch(words)
        sys.stdout.flush()
        return code
    except SystemExit as exit_request:  # argparse leaves this way after --help
        code = int(exit_request.code or 0)
        if words[:1] == ["train"] and _has_others():
            from runtime.cli.together import run_together  # as above

            return run_together(lambda _: code, "dlc train --help")
        return code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The interpreter flushes standard output once more at exit and would complain about the closed pipe.
        with suppress(OSError):  # standard output is not a file, as under a test
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE
    except Exception as error:
        if _is_interrupt(error):
            print("interrupted", file=sys.stderr)
            return INTERRUPTED
        if "--traceback" in words:
            raise
        if words[:1] == ["train"] and _has_others():
            from runtime.cli.together import fail_together  # MPI, which others wait in

            return fail_together(error)
        from runtime.cli.failure import report_failure

        return report_failure(error)


def _has_others() -> bool:
    from runtime.processes.joining import started_together

    return started_together() > 1


def _is_interrupt(error: BaseException | None) -> bool:
    """Whether Ctrl-C is what became an error: a library of C that is being imported makes it an ImportError."""
    seen = set[int]()  # a cause may have been raised while its effect was handled
    while error is not None and id(error) not in seen:
        if isinstance(error, KeyboardInterrupt):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def collect_seldom() -> None:
    """Let this process look for cycles as seldom as a command does."""
    if gc.get_threshold() == _COLLECTIONS:
        gc.collect()  # objects that an earlier call left in the process
    gc.set_threshold(*_COLLECTIONS)


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return 0 if words else 2
    if words[0] in ("-V", "--version"):
        print(f"dlc {version()}")
        return 0
    if words[0] == "help":
        return _dispatch([*words[1:2], "--help"])
    from runtime.cli.parser import Parser

    command = _command(words[0])
    module = import_module(command.module)
    parser = Parser(f"dlc {command.name}", module.__doc__ or command.summary, module.EXAMPLES)
    module.configure(parser)
    arguments = parser.parse(words[1:])
    if not getattr(arguments, "verify", False):
        return module.run(arguments)
    from compiler.support.verified import forget_verified, said_of_verified  # few commands verify
    from runtime.reporting.terminal import say_labelled

    forget_verified()
    code = module.run(arguments)
    say_labelled("verified", said_of_verified())
    return code


def _command(word: str) -> Command:
    for command in COMMANDS:
        if command.name == word:
            return command
    from compiler.errors.diagnostics import UsageError
    from compiler.errors.suggestions import did_you_mean

    if word.startswith("-"):
        hint = did_you_mean(word, ["--help", "--version"])
        raise UsageError(f"unexpected argument `{word}` before the command", hint or "see `dlc --help`")
    hint = did_you_mean(word, [command.name for command in COMMANDS])
    raise UsageError(f"there is no command `{word}`", hint or "see `dlc --help` for the commands")


def _overview() -> str:
    def heading(text: str) -> str:
        return styled(text, "bold", sys.stdout)

    width = max(len(command.name) for command in COMMANDS)
    lines: list[str] = []
    for command in COMMANDS:
        name = f"  {command.name:{width}}"
        first, *rest = wrapped(f"{name}  {command.summary}", width_of(sys.stdout), " " * (width + 4))
        lines += [styled(name, "green", sys.stdout) + first.removeprefix(name), *rest]
    return "\n".join(
        [
            *wrapped(_PURPOSE, width_of(sys.stdout)),
            "",
            f"{heading('Usage:')} dlc COMMAND [ARGUMENTS]",
            "",
            heading("Commands:"),
            *lines,
            "",
            heading("Options:"),
            "  -h, --help     show this help",
            "  -V, --version  show the version",
            "",
            *wrapped("`dlc COMMAND --help` explains a command. `dlc new DIR` is a good start.", width_of(sys.stdout)),
        ]
    )


def version() -> str:
    """The version of this installation, and that of its numerics."""
    from importlib.metadata import PackageNotFoundError, version  # slow to import, and seldom needed

    from compiler.support.numerics import NUMERICS

    try:
        found = version("dlc")
    except PackageNotFoundError:
        found = "(not installed)"
    return f"{found}, numerics {NUMERICS}"


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
    Command(
        "import", "Turn an ONNX model into a model file, or take weights of others into one", "runtime.cli.import_model"
    ),
    Command("export", "Write a trained model as a library for C, Python or the web, or as ONNX", "runtime.cli.export"),
    Command("serve", "Serve a trained model over HTTP", "runtime.cli.serve"),
    Command("generate", "Extend a text with a trained model, token by token", "runtime.cli.generate"),
    Command("sample", "Make new rows, such as pictures, with a trained model", "runtime.cli.sample"),
    Command("runs", "List, compare and prune runs", "runtime.cli.runs"),
    Command("replay", "Compute tensors of a past step of a run again", "runtime.cli.replay"),
    Command("data", "Show a sample as training sees it", "runtime.cli.data"),
    Command("plot", "Plot curves, confusion, weights, gradients or filters of a run", "runtime.cli.plot"),
    Command("report", "Write one HTML file about a run", "runtime.cli.report"),
    Command("view", "Show the cost and compiled form of each line, on one page", "runtime.cli.view"),
    Command("show", "Print a stage of compilation, whole or for one line", "runtime.cli.show"),
    Command("pass", "Run one pass of the compiler on the text of a graph", "runtime.cli.one_pass"),
    Command("plan", "Tabulate layers, parameters, work and memory", "runtime.cli.plan"),
    Command("profile", "Profile a step by line, layer or kernel", "runtime.cli.profile"),
    Command("bench", "Time training steps or inference on made-up data", "runtime.cli.benchmark"),
    Command("tune", "Measure the sizes and thresholds that suit this processor, and keep them", "runtime.cli.tune"),
    Command("explain", "Explain an error code at length", "runtime.cli.explain"),
    Command("fmt", "Format model files", "runtime.cli.format"),
    Command("lsp", "Answer an editor's questions by the Language Server Protocol", "runtime.cli.lsp"),
    Command("cache", "Show or clear the cache of compiled code", "runtime.cli.cache"),
)
