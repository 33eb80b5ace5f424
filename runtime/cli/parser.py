"""Command-line arguments to a namespace; every mistake becomes a `UsageError` with a hint."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn

from compiler.errors.diagnostics import UsageError, wrapped
from compiler.errors.suggestions import did_you_mean
from runtime.cli.outputs import refuse_own_input
from runtime.reporting.terminal import width_of

Namespace = argparse.Namespace
_WIDEST_HELP = 100
_PATHS = ("FILE", "DIR", "PATH")  # in place of values of options


def _path(names: str, text: str) -> str:
    """The text of a path. Raises UsageError for an empty one."""
    if not text:
        raise UsageError(f"{names.rpartition(', ')[2]} takes a path, and the text is empty", "name a file or a folder")
    return text


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

    def add_flag(self, name: str, help: str) -> None:
        self.add_argument(name, action="store_true", help=help)

    def add_option(self, names: str, metavar: str, help: str, **more: Any) -> None:
        """An option with a value; `-o, --output` has two names. `more` is as in `add_argument`.

        An empty text is no path: Python would take it for the folder that the process is in.
        """
        if metavar in _PATHS:
            more = {"type": partial(_path, names)} | more
        self.add_argument(*names.split(", "), metavar=metavar, help=help, **more)

    def add_repeated(
        self, name: str, metavar: str, help: str, dest: str | None = None, type: Callable[[str], object] = str
    ) -> None:
        """An option that may be repeated; its values are a list."""
        self.add_option(name, metavar, help, dest=dest, type=type, action="append", default=[])

    def add_whole(
        self,
        name: str,
        help: str,
        least: int = 1,
        most: int | None = None,
        default: int | None = None,
        metavar: str = "N",
        required: bool = False,
    ) -> None:
        """An option with a whole number."""
        self.add_option(name, metavar, help, type=whole_number(least, most), default=default, required=required)

    def add_positive(
        self, name: str, metavar: str, help: str, default: float | None = None, dest: str | None = None
    ) -> None:
        """An option with a number above 0."""
        self.add_option(name, metavar, help, type=positive_number, default=default, dest=dest)

    def add_program(self) -> None:
        """FILE with the choice of an experiment and settings."""
        self.add_argument("file", metavar="FILE", help="the model file (.dl)")
        self.add_settings()

    def add_settings(self) -> None:
        self.add_option("-e, --experiment", "NAME", "the 'train NAME: …' to use, of a file with several")
        said = "change a setting: hidden=64, optimizer.lr=0.01; may be repeated"
        self.add_repeated("--set", "KEY=VALUE", said, dest="settings", type=key_value)
        self.add_flag("--allow-imports-outside", "let imports leave the folder of the model file")

    def add_trained(self, runs: bool = True) -> None:
        """The arguments that name a trained model: a run, or a model file with weights."""
        self.add_argument("model", metavar="RUN|FILE", help="the folder of a run, or a model file with --weights")
        self.add_option("--weights", "W", "a safetensors file, for a model file")
        self.add_last()
        self.add_settings()
        self.add_compilation(runs)

    def add_last(self) -> None:
        self.add_flag("--last", "use the run's last weights instead of its best")

    def add_measurement(self) -> None:
        """Which step is measured on made-up data, and for how long."""
        said = "run a training step, or the model alone (default: train)"
        self.add_argument("--mode", choices=["train", "infer"], default="train", help=said)
        self.add_whole("--batch", "rows of a step (default: that of `train`; 1 for infer)")
        self.add_positive("--seconds", "S", "the duration of the measurement (default: 3)", default=3.0)

    def add_compilation(self, runs: bool = True) -> None:
        """How to compile: the fields of the compiler's `Options`; a command that runs nothing takes fewer."""
        group = self.add_argument_group("compilation")
        if runs:
            said = "the number of threads (default: one for each core that this process may use)"
            group.add_argument("--threads", type=whole_number(1, MOST_THREADS), metavar="N", help=said)
        group.add_argument(
            "--dtype", choices=["f32", "f64"], default="f32", help="compute with this type wherever the text says f32"
        )
        said = "compile each operation to a kernel of its own; results keep their bits"
        group.add_argument("--no-fuse", action="store_true", help=said)
        said = "switch one fusion off, such as residual; may be repeated; results keep their bits"
        group.add_argument("--no-fusion", dest="without", action="append", default=[], metavar="NAME", help=said)
        lacking = "code with instructions that it lacks cannot run"
        said = (
            "generate code for avx512, avx2, avx2-windows, generic, neon, apple-m1, rvv, cortex-m4 or wasm, or for a "
            "triple of LLVM such as aarch64-linux-gnu (default: this processor); "
            + (lacking if runs else "it need not run here")
            + ". `gpu` is a GPU of NVIDIA, `gpu-emulator` runs its kernels on this processor; both have the same bits"
            + "; `gpu-sm_75` and `gpu-sm_80` are its kernels for compute capability 7.5, or 8.0, and later"
            + ("; `auto` is a GPU if one is there; `reference` computes with NumPy" if runs else "")
        )
        group.add_argument("--target", metavar="NAME", help=said)
        said = "compile with the usual sizes and thresholds, not those that `dlc tune` kept; results keep their bits"
        group.add_argument("--no-tuning", action="store_true", help=said)
        said = (
            "on a GPU, run all steps of a scan as one kernel, not one kernel after the other; results keep their bits"
        )
        group.add_argument("--persistent-loops", action="store_true", help=said)
        group.add_argument("--verify", action="store_true", help="verify the graph after each pass, schedule and code")
        if runs:
            group.add_argument(
                "--cache-dir", metavar="DIR", help="keep compiled code in DIR (default: the user's cache folder)"
            )
        else:
            self.set_defaults(threads=1, cache_dir=None)
        self.set_defaults(runs_code=runs)

    def add_json(self, help: str = "print JSON") -> None:
        self.add_flag("--json", help)

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
        refuse_own_input(namespace)
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


def number(wanted: str, fits: Callable[[float], bool]) -> Callable[[str], float]:
    """An argument type: a finite number that fits, as `wanted` says in words."""

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and fits(value)):
            raise argparse.ArgumentTypeError(f"wants {wanted}, not `{text}`")
        return value

    return convert


positive_number = number("a number above 0", lambda value: value > 0)


def key_value(text: str) -> tuple[str, str]:
    """An argument type: `key=value`."""
    key, equals, value = text.partition("=")
    if not (equals and key.strip() and value.strip()):
        raise argparse.ArgumentTypeError(f"wants key=value, such as optimizer.lr=0.01, not `{text}`")
    return key.strip(), value.strip()
