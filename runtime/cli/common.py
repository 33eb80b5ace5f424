"""Arguments that several commands share, and the options of the compiler that they set."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from compiler.errors.diagnostics import DataError, UsageError
from compiler.errors.suggestions import did_you_mean
from compiler.support.processors import usable_cores
from compiler.support.train_keys import AFTER_TRAINING, KEYS, OF_STEPS
from runtime.cli.parser import Namespace
from runtime.reporting.terminal import say_labelled, say_notes
from runtime.support.files import missing

if TYPE_CHECKING:
    from compiler.driver import DataQuestion, DimensionsOf, Options, Program
    from compiler.tuning import Tuning
    from runtime.runs.trained import Trained

Overrides: TypeAlias = tuple[tuple[str, str], ...]


def compile_options(arguments: Namespace, batch: int | None = None) -> Options:
    """The compiler's options; `batch` is the hint for tile sizes. Raises UsageError for a machine that is none."""
    from compiler import driver  # heavy; `--help` must not pay for it
    from compiler.targets.registry import KERNEL_TARGETS, named_target

    target, machine = named_target(_target_word(arguments))
    if target not in KERNEL_TARGETS and not arguments.runs_code:
        raise UsageError(f"target {target} makes no code", "leave out --target, or name a processor")
    if arguments.verify and find_spec("islpy") is None:
        raise missing("islpy", "verify", "`--verify`")
    options = driver.Options(
        target=target,
        threads=arguments.threads or usable_cores(),
        without=tuple(driver.FUSIONS) if arguments.no_fuse else tuple(arguments.without),
        dtype=arguments.dtype,
        batch=batch or driver.Options().batch,
        cache=Path(arguments.cache_dir) if arguments.cache_dir else None,
        machine=machine,
        persistent_loops=_has_persistent_loops(arguments, target),
        verify=arguments.verify,
    )
    if options.machine is not None:
        from compiler.targets.registry import kernel_target_of  # loads LLVM

        kernel_target_of(options).machine(options, arguments.runs_code)
    return replace(options, tuning=_tuning(arguments, options))


def _has_persistent_loops(arguments: Namespace, target: str) -> bool:
    """Whether scans are kernels of their own; where `auto` found no GPU, they are not."""
    is_gpu = target.startswith("gpu")
    if arguments.persistent_loops and not is_gpu and not arguments.is_any_target:
        raise UsageError("`--persistent-loops` is for kernels of a GPU", "leave it out, or add --target gpu")
    return arguments.persistent_loops and is_gpu


def _target_word(arguments: Namespace) -> str:
    """The target that the command line names; `auto` is a GPU, or else this processor, which is told."""
    arguments.is_any_target = getattr(arguments, "is_any_target", False) or arguments.target == "auto"
    if arguments.target != "auto":
        return arguments.target or "native"
    from compiler.targets.registry import why_no_gpu  # loads the driver

    reason = why_no_gpu()
    if reason is not None:
        say_labelled("note", f"this processor computes, as no GPU does: {reason}")
    arguments.target = "gpu" if reason is None else "native"  # which is told once
    return arguments.target


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


def chosen_program(
    arguments: Namespace, dimensions: DimensionsOf, file: Path | None = None, overrides: Overrides | None = None
) -> Program:
    """The program of FILE, or of another file, with its experiment and settings, or with others."""
    from compiler import driver  # heavy; `--help` must not pay for it

    chosen = tuple(arguments.settings) if overrides is None else overrides
    path = model_file(arguments.file) if file is None else file
    return driver.load(path, arguments.experiment, chosen, dimensions, folder_of_imports(arguments))


def expect_settings_of_use(
    given: Sequence[tuple[str, str]], program: Program, own: str = "", read: Sequence[str] = ()
) -> None:
    """Raise UsageError for a setting that only trainings read, or that belongs to another way of making rows.

    Those of a trained model count, of the generation or sampler `own`, and of the keys `read`, also in an `update`.
    """
    plan = program.plan
    blocks = () if plan is None else tuple(block.name for block in plan.updates)
    others = ("generate", *(sampler.name for sampler in program.samplers))
    has = {setting.name for setting in program.settings if "(" not in setting.name}  # without formulas

    def is_of_use(key: str, value: str = "") -> bool:
        first, _, rest = key.partition(".")
        within = rest.partition(".")[0] if first in blocks else first
        is_of_model = key in AFTER_TRAINING and (key, value) not in OF_STEPS
        return first == own or is_of_model or within in read or first not in (*KEYS, *blocks, *others)

    for key, value in given:
        if is_of_use(key, value):
            continue
        way = "another way to make rows" if own else "a way to make rows"
        whose = way if key.partition(".")[0] in others else "the training"
        fix = did_you_mean(key, filter(is_of_use, has - {key})) or "leave it out"
        if f"{own}.{key}" in has:
            fix = f"the setting of {own} is --set {own}.{key}={value}"
        elif key == "seed" and own:
            fix = f"draws follow --seed {value}"
        said = f"{key}={value}" if (key, value) in OF_STEPS else key
        raise UsageError(f"--set {said} is about {whose}, and changes nothing here", fix)


def chosen_sampler(program: Program, name: str | None) -> str:
    """The sampler that --sampler names; none, and so a step is meant, where it is not given. Raises UsageError."""
    if name is None:
        return ""
    from runtime.inference.sampling import sampler_of  # NumPy

    return sampler_of(program, name).name


def folder_of_imports(arguments: Namespace) -> Path | None:
    """Where all imported files lie; None for the folder of the model file."""
    return Path("/") if arguments.allow_imports_outside else None


def print_json(value: object, indent: int | None = 2) -> None:
    """One JSON value; without `indent` in one line, for logs of one value a line."""
    json.dump(value, sys.stdout, indent=indent, allow_nan=False)
    print()


def model_file(text: str) -> Path:
    """The path of one model file. Raises UsageError for another file, and for a missing one, with the nearest there."""
    path = Path(text)
    if path.is_file():
        if path.suffix != ".dl":
            # loads the compiler, and hardly a model file has another name
            from runtime.support.regular_files import expect_model

            expect_model(path)
        return path
    if path.is_dir():
        is_run = (path / "run.json").is_file()
        inside = sorted(path.glob("source/*.dl" if is_run else "*.dl"))
        kind = "a run, and this command takes a model file" if is_run else "a folder"
        raise UsageError(f"{path} is {kind}", f"name a model file: {inside[0]}" if inside else "it has no .dl file")
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


def trained_of(arguments: Namespace, data: Path | None = None, dimensions: DimensionsOf | None = None) -> Trained:
    """The trained model, with remarks printed; `dimensions` answers for a model file, in place of `data`.

    Raises UsageError, SourceError and CheckpointError.
    """
    from runtime.runs.trained import open_model_file, open_trained_run  # heavy; `--help` must not pay for it

    overrides, options = tuple(arguments.settings), compile_options(arguments)
    is_file = Path(arguments.model).suffix == ".dl" or Path(arguments.model).is_file()
    if is_file:
        file = model_file(arguments.model)
        if arguments.weights is None:
            raise UsageError(f"{arguments.model} alone has no weights", "give --weights W.safetensors, or name a run")
        if arguments.last:
            raise UsageError("--last goes with a run", "leave it out")
        weights, within = Path(arguments.weights), folder_of_imports(arguments)
        return open_model_file(file, weights, arguments.experiment, overrides, options, data, within, dimensions)
    if arguments.weights is not None:
        raise UsageError("--weights goes with a model file", "a run has weights of its own; --last takes the newest")
    if arguments.experiment is not None:
        raise UsageError("--experiment goes with a model file", "a run is of one experiment")
    trained = open_trained_run(Path(arguments.model), arguments.last, overrides, options)
    say_notes(trained.notes)
    return trained
