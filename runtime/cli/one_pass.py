"""Run one pass of the compiler on the text of a graph, a fused graph or a kernel, and print its result.

The text is what `dlc show FILE --stage step`, `--stage tiles` and `--stop-after` print. It is checked before the
pass and after it.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path

from compiler.driver import Options
from compiler.errors.diagnostics import DataError, UsageError, size
from runtime.cli.common import print_json
from runtime.cli.parser import Namespace, Parser
from runtime.reporting.terminal import exact
from runtime.support.files import write_output
from runtime.support.regular_files import opened

EXAMPLES = (
    "dlc pass simplify < graph.txt",
    "dlc show model.dl --stop-after narrow | dlc pass eliminate_dead",
    "dlc pass --list",
)
_MOST = 1 << 24  # bytes of a text, some hundred times those of the largest network
_STANDARD_INPUT = "<stdin>"


def configure(parser: Parser) -> None:
    parser.add_argument("name", metavar="PASS", nargs="?", help="the name of the pass")
    parser.add_argument("file", metavar="FILE", nargs="?", help="the text of a graph (default or `-`: standard input)")
    parser.add_flag("--list", "list the names of the passes in their order")
    said = "rows for which a pass weighs memory (default: %(default)s); a fused graph says its own"
    parser.add_whole("--batch", said, default=Options().batch)
    said = "that of the passes over kernels: a processor, as for `dlc show`, or gpu (default: this processor)"
    parser.add_option("--target", "NAME", said)
    parser.add_flag("--json", "print JSON")
    parser.add_option("-o, --output", "FILE", "write to a file")


def run(arguments: Namespace) -> int:
    from compiler.inspection import one_pass, passes  # every pass; `--help` must not pay for them

    options = _options(arguments)
    names = passes.pass_names(options)
    if arguments.list:
        if arguments.name is not None:
            raise UsageError(f"--list goes without `{arguments.name}`", "leave out one of them")
        print_json(list(names)) if arguments.json else print("\n".join(names))
        return 0
    if arguments.name is None:
        raise UsageError("PASS is missing", "`dlc pass --list` names the passes")
    passes.expect_pass(arguments.name, names)
    file = None if arguments.file == "-" else arguments.file
    text, source = _text(file), file or _STANDARD_INPUT
    result = one_pass.run_pass(arguments.name, text, source, options, "json" if arguments.json else "text")
    result = result.rstrip("\n") + "\n"
    if arguments.output:
        write_output(Path(arguments.output), result.encode())
    else:
        exact(sys.stdout).write(result)
    return 0


def _options(arguments: Namespace) -> Options:
    """Those of a target that has kernels. Raises UsageError for others."""
    from compiler.targets.registry import KERNEL_TARGETS, named_target

    target, machine = named_target(arguments.target or Options().target)
    if target not in KERNEL_TARGETS:
        raise UsageError(f"the target {target} has no kernels", "leave out --target, or name a processor or gpu")
    return Options(target, batch=arguments.batch, machine=machine)


def _text(file: str | None) -> str:
    """The text of a file or of standard input. Raises DataError where it is too long or no text."""
    if file is None and sys.stdin.isatty():
        raise UsageError("standard input is a terminal", "name a file, or give a graph: `dlc pass PASS < graph.txt`")
    try:
        # bytes, since in some locales the interpreter decodes standard input with surrogates in place of wrong bytes
        with nullcontext(sys.stdin.buffer) if file is None else opened(Path(file)) as stream:
            content = stream.read(_MOST + 1)
        if len(content) > _MOST:
            raise DataError(f"has more than {size(_MOST)}", file or _STANDARD_INPUT, fix="give the text of one graph")
        return content.decode()
    except UnicodeDecodeError:
        raise DataError("is not UTF-8 text", file or _STANDARD_INPUT, fix="give the text of a graph") from None
