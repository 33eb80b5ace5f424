"""Command-line arguments to a namespace; every mistake becomes a `UsageError` with a hint."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from compiler.errors.diagnostics import UsageError, wrapped
from compiler.errors.suggestions import did_you_mean
from runtime.reporting.terminal import width_of

Namespace = argparse.Namespace
_WIDEST_HELP = 100


class Parser(argparse.ArgumentParser):
    """argparse with whole option names only and errors that are raised, not printed."""

    def __init__(self, program: str, description: str, examples: Sequence[str] = ()) -> None:
        super().__init__(
            prog=program,
            description=description,
            epilog="examples:\n" + "\n".join(f"  {example}" for example in examples) if examples else None,
            formatter_class=_HelpFormatter,
            allow_abbrev=False,
            add_help=False,
        )
        self.add_argument("-h", "--help", action="help", help="show this help")
        self.add_argument("--traceback", action="store_true", help=argparse.SUPPRESS)

    def error(self, message: str) -> NoReturn:
        raise UsageError(*self._explained(message))

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """The namespace of `arguments`; an unknown word is an error that names the nearest option."""
        namespace, unknown = self.parse_known_args(arguments)
        if unknown:  # argparse looks for all places before the first option: `dlc pass simplify --json FILE`
            namespace, unknown = self.parse_known_intermixed_args(arguments)
        if unknown:
            word = unknown[0].split("=")[0]
            options = [name for name in self._option_string_actions if name not in ("--traceback", "-h")]
            from compiler.errors.other_names import OF_OPTIONS, advice  # only a mistake needs them

            hint = advice(word, options, OF_OPTIONS) if word.startswith("-") else None
            raise UsageError(f"unexpected argument `{word}`", hint or f"see `{self.prog} --help`")
        given = [key for key, _ in getattr(namespace, "settings", [])]
        if twice := next((key for key in given if given.count(key) > 1), None):
            raise UsageError(f"--set gives `{twice}` twice", "leave one out")
        return namespace

    def usage_line(self) -> str:
        """`dlc plan [options] FILE`."""
        places = {"?": "[{}]", "+": "{} …"}
        words = [places.get(str(a.nargs), "{}").format(a.metavar) for a in self._get_positional_actions()]
        return " ".join([self.prog, "[options]", *words])

    def format_help(self) -> str:
        self.usage = self.usage_line()
        return super().format_help()

    def _explained(self, message: str) -> tuple[str, str]:
        help_hint = f"see `{self.prog} --help`"
        if required := re.match(r"the following arguments are required: (.*)", message):
            return f"{required[1]} is missing", f"usage: {self.usage_line()}"
        if choice := re.match(r"argument (.+): invalid choice: '(.*)' \(choose from (.*)\)", message):
            known = [word.strip(" '") for word in choice[3].split(",")]
            fix = did_you_mean(choice[2], known) or f"one of {', '.join(known)}"
            return f"{choice[1]} cannot be `{choice[2]}`", fix
        if argument := re.match(r"argument (.+?): (.*)", message):
            return f"{argument[1]}: {argument[2]}", help_hint
        return message, help_hint


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help as wide as the terminal, at most 100 columns; words stay whole."""

    def __init__(self, prog: str) -> None:
        self._columns = width_of(sys.stdout)
        super().__init__(prog, max_help_position=30, width=min(self._columns or _WIDEST_HELP, _WIDEST_HELP))

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        # the description and the examples, which stand as they are but for what is too long
        if self._columns is None:
            return super()._fill_text(text, width, indent)
        paragraphs = text.split("\n\n") if not text.startswith("examples:") else text.split("\n")
        joined = [" ".join(paragraph.split("\n")) for paragraph in paragraphs]
        between = "\n" if text.startswith("examples:") else "\n\n"
        return between.join("\n".join(wrapped(line, width, "    " if line.startswith(" ") else "")) for line in joined)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return wrapped(" ".join(text.split()), width)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        # `-o, --output FILE` where argparse repeats the value: `-o FILE, --output FILE`
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(action.option_strings)} {value}"


MOST_THREADS = 1024  # each has a stack, scratch and, in a simulation, events of its own


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """An argument type: an integer of at least `least`, and of at most `most`."""
    wanted = f"of at least {least}" if most is None else f"from {least} to {most}"

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or value < least or (most is not None and value > most):
            raise argparse.ArgumentTypeError(f"wants a whole number {wanted}, not `{text}`")
        return value

    return convert


def rows_of_a_step(text: str) -> int | str:
    """An argument type: a whole number of at least 1, or `all`."""
    try:
        return text if text == "all" else whole_number(1)(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"wants a whole number of at least 1, or `all`, not `{text}`") from None


def positive_number(text: str) -> float:
    """An argument type: a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"wants a number above 0, not `{text}`")
    return value


def key_value(text: str) -> tuple[str, str]:
    """An argument type: `key=value`."""
    key, equals, value = text.partition("=")
    if not (equals and key.strip() and value.strip()):
        raise argparse.ArgumentTypeError(f"wants key=value, such as optimizer.lr=0.01, not `{text}`")
    return key.strip(), value.strip()
