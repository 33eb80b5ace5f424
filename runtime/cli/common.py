"""Arguments that several commands share, and the options of the compiler that they set."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from compiler.errors.diagnostics import DataError, UsageError
from compiler.errors.suggestions import did_you_mean
from compiler.support.processors import usable_cores
from runtime.cli.parser import MOST_THREADS, Namespace, Parser, key_value, whole_number
from runtime.reporting.terminal import say_labelled

if TYPE_CHECKING:
    from compiler.driver import DataQuestion, Options
    from compiler.tuning import Tuning

Overrides: TypeAlias = tuple[tuple[str, str], ...]


def add_program(parser: Parser) -> None:
    """FILE with the choice of an experiment and settings."""
    parser.add_argument("file", metavar="FILE", help="the model file (.dl)")
    add_settings(parser)


def add_settings(parser: Parser) -> None:
    parser.add_argument("-e", "--experiment", metavar="NAME", help="the 'train NAME: …' to use, of a file with several")
    parser.add_argument(
        "--set",
        dest="settings",
        type=key_value,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a setting: hidden=64, optimizer.lr=0.01; may be repeated",
    )
    add_imports(parser)


def add_compilation(parser: Parser, runs: bool = True) -> None:
    """How to compile: the fields of the compiler's `Options`; a command that runs nothing takes fewer."""
    group = parser.add_argument_group("compilation")
    if runs:
        group.add_argument(
            "--threads",
            type=whole_number(1, MOST_THREADS),
            metavar="N",
            help="the number of threads (default: one for each core that this process may use)",
        )
        group.add_argument(
            "--target",
            default="native",
            metavar="NAME",
            help="native machine code, or the NumPy reference (default: native)",
        )
    group.add_argument(
        "--dtype", choices=["f32", "f64"], default="f32", help="compute with this type wherever the text says f32"
    )
    group.add_argument(
        "--no-fuse", action="store_true", help="compile each operation to a kernel of its own; results keep their bits"
    )
    group.add_argument(
        "--no-fusion",
        dest="without",
        action="append",
        default=[],
        metavar="NAME",
        help="switch one fusion off, such as residual; may be repeated; results keep their bits",
    )
    group.add_argument(
        "--machine",
        metavar="NAME",
        help="generate code for avx512, avx2, generic, neon or apple-m1 (default: this processor); "
        + ("code with instructions that it lacks cannot run" if runs else "any of them"),
    )
    group.add_argument(
        "--no-tuning",
        action="store_true",
        help="compile with the usual sizes and thresholds, not those that `dlc tune` kept; results keep their bits",
    )
    group.add_argument("--verify", action="store_true", help="verify the graph after each pass, the schedule and the code")
    if runs:
        group.add_argument(
            "--cache-dir", metavar="DIR", help="keep compiled code in DIR (default: the user's cache folder)"
        )
    else:
        parser.set_defaults(threads=1, target="native", cache_dir=None)
    parser.set_defaults(runs_code=runs)


def compile_options(arguments: Namespace, batch: int | None = None) -> Options:
    """The compiler's options; `batch` is the hint for tile sizes. Raises UsageError for a machine that is none."""
    from compiler import driver  # heavy; `--help` must not pay for it
    from compiler.targets.registry import KERNEL_TARGETS, expect_target

    expect_target(arguments.target)
    if arguments.machine is not None and arguments.target not in KERNEL_TARGETS:
        message = f"--target {arguments.target} makes no code of its own, and is the same on every machine"
        raise UsageError(message, "leave out --machine")
    options = driver.Options(
        target=arguments.target,
        threads=arguments.threads or usable_cores(),
        without=tuple(driver.FUSIONS) if arguments.no_fuse else tuple(arguments.without),
        dtype=arguments.dtype,
        batch=batch or driver.Options().batch,
        cache=Path(arguments.cache_dir) if arguments.cache_dir else None,
        machine=arguments.machine,
        verify=arguments.verify,
    )
    if options.machine is not None:
        from compiler.targets.registry import kernel_target_of  # loads LLVM

        kernel_target_of(options).machine(options, arguments.runs_code)
    return replace(options, tuning=_tuning(arguments, options))


def _tuning(arguments: Namespace, options: Options) -> Tuning:
    """The tuning that `dlc tune` kept for the machine of the options. A file that cannot be used is told of once."""
    from compiler.kept_tuning import has_tunings, kept_tuning  # loaded with the compiler

    if getattr(arguments, "tuning", None) is None:
        arguments.tuning = options.tuning
        if options.target == "native" and not arguments.no_tuning and has_tunings(options.cache):
            from compiler.targets.registry import kernel_target_of  # loads LLVM

            try:
                machine = kernel_target_of(options).machine(options, arguments.runs_code)
                kept = kept_tuning(machine, options.cache)
                arguments.tuning = kept.tuning if kept else options.tuning
            except DataError as error:
                say_labelled("warning", f"{error}; the numbers of every processor are used")
                say_labelled("hint", error.fix)
    return arguments.tuning


def add_imports(parser: Parser) -> None:
    parser.add_argument(
        "--allow-imports-outside", action="store_true", help="let imports leave the folder of the model file"
    )


def folder_of_imports(arguments: Namespace) -> Path | None:
    """Where all imported files lie; None for the folder of the model file."""
    return Path("/") if arguments.allow_imports_outside else None


def add_json(parser: Parser, help: str = "print JSON") -> None:
    parser.add_argument("--json", action="store_true", help=help)


def print_json(value: object, indent: int | None = 2) -> None:
    """One JSON value; without `indent` in one line, for logs of one value a line."""
    json.dump(value, sys.stdout, indent=indent, allow_nan=False)
    print()


def model_file(text: str) -> Path:
    """The path of one model file. Raises UsageError for another file, and for a missing one, with the nearest there."""
    path = Path(text)
    if path.is_file():
        if path.suffix != ".dl":
            from runtime.support.regular_files import (
                expect_model,  # loads the compiler, and hardly a model file has another name
            )

            expect_model(path)
        return path
    if path.is_dir():
        inside = sorted(path.glob("*.dl"))
        raise UsageError(f"{path} is a folder", f"name a model file: {inside[0]}" if inside else "it has no .dl file")
    siblings = [str(other) for other in path.parent.glob("*.dl")] if path.parent.is_dir() else []
    raise UsageError(f"there is no file {path}", did_you_mean(str(path), siblings) or "check the path")


def model_files(texts: Iterable[str]) -> list[Path]:
    """Each file as given, and for each folder every `.dl` file below it."""
    found: list[Path] = []
    for text in texts:
        if not Path(text).is_dir():
            found.append(model_file(text))
            continue
        below = sorted(Path(text).rglob("*.dl"))
        if not below:
            raise UsageError(f"there is no .dl file below {text}", "name a folder that has some, or a file")
        found.extend(below)
    return found


def dimensions_if_there(question: DataQuestion) -> Mapping[str, int]:
    """Asks what `train` names, where that exists."""
    from runtime.data import dimensions  # loads NumPy and every format of data, and few models ask

    return dimensions.dimensions_if_there(question)
