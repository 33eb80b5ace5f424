"""A run, or a model file with weights, to a program whose tensors hold those weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, field, replace
from pathlib import Path
from typing import TypeAlias

from compiler import driver
from compiler.driver import Array, DataSource, DimensionsOf, Options, PartSource, Program, Tensors
from compiler.errors.diagnostics import CheckpointError, UsageError
from compiler.support.record import record
from compiler.targets.registry import KERNEL_TARGETS, target_in
from compiler.types import OF_PRODUCTS
from runtime.data.dimensions import dimensions_if_there, dimensions_of
from runtime.data.preparation import Preparation, preparation_from_json
from runtime.runs.checkpoint import best_checkpoint, is_marked_best, newest_checkpoint
from runtime.runs.directory import RunDirectory, open_run
from runtime.runs.tensor_files import match_tensors, read_tensors
from runtime.support.files import JsonValue
from runtime.support.memory import expect_room_for_weights
from runtime.support.restored import restored

Overrides: TypeAlias = tuple[tuple[str, str], ...]


@record
class Choices:
    """The user's choices on the command line for a run: all that makes its program and data again."""

    experiment: str | None
    overrides: Overrides
    data: str | None  # an absolute path, where --data named one
    folder: str  # of the model file: relative paths in it count from here
    dtype: str = "f32"
    target: str = "native"  # as `word_of` says it: of a GPU, with the kind that its code was made for
    dimensions: Mapping[str, int] = field(default_factory=dict[str, int])  # decided by the data

    def to_json(self) -> JsonValue:
        return asdict(self)


@record
class Trained:
    """`preparation` and `training_rows` are of the training's data, None without one; `notes` are for the user.

    `step` is the update after which a run had these weights, and `is_best` whether they were its best so far; `weights`
    is the checkpoint, or the file.
    """

    program: Program
    tensors: Tensors
    options: Options
    choices: Choices | None
    preparation: Preparation | None
    notes: tuple[str, ...]
    training_rows: int | None = None
    step: int | None = None
    is_best: bool = False
    weights: Path | None = None

    @property
    def checkpoint(self) -> str:
        """`the best checkpoint, after 400 steps`."""
        steps = "1 step" if self.step == 1 else f"{self.step or 0:,} steps"
        return f"the {'best' if self.is_best else 'last'} checkpoint, after {steps}"

    @property
    def sizes(self) -> tuple[Mapping[str, int], ...]:
        """At which batches of texts are computed; none where they have one length."""
        return () if self.preparation is None else self.preparation.buckets


def choices_of(run: RunDirectory) -> Choices:
    """The choices that `settings.json` of a run holds. Raises CheckpointError."""
    settings = run.read_json("settings.json")
    saved = settings.get("choices") if isinstance(settings, Mapping) else None
    try:
        return restored(Choices, saved, ("dimensions",))
    except ValueError as error:
        place = run.path / "settings.json"
        raise CheckpointError("the settings of the run are damaged", place, "train again") from error


def program_of(run: RunDirectory, choices: Choices, more: Overrides = ()) -> Program:
    """The program of a run, from its own copy of the text; data lies where it lay when the run began."""
    program = driver.load(
        run.program, choices.experiment, choices.overrides + more, lambda _: choices.dimensions, run.path / "source"
    )
    program = driver.with_wide_inputs(program, Options(dtype=choices.dtype))
    return with_option(located_in(program, Path(choices.folder)), "data", choices.data)


def program_of_run(path: Path, more: Overrides) -> Program:
    """The program of the run at `path`, with further settings. Raises CheckpointError."""
    run = open_run(path)
    return program_of(run, choices_of(run), more)


def with_option(program: Program, name: str, value: str | None) -> Program:
    """The program whose settings say that an option of the command line, such as `--data`, gave one of them."""
    if value is None:
        return program
    given = driver.Setting(name, value, "command line")
    settings = tuple(given if setting.name == name else setting for setting in program.settings)
    return replace(program, settings=settings if given in settings else (*settings, given))


def located_in(program: Program, folder: Path) -> Program:
    """The program with relative paths counted from `folder`, whichever place its text was read from."""
    plan = program.plan
    if plan is None:
        return program

    def located(source: DataSource | None) -> DataSource | None:
        if source is None:
            return None
        others = tuple((role, str(folder / Path(other).expanduser())) for role, other in source.others)
        return replace(source, path=str(folder / Path(source.path).expanduser()), others=others)

    def located_part(part: PartSource) -> PartSource:
        return located(part) if isinstance(part, DataSource) else part

    plan = replace(
        plan, data=located(plan.data), validation=located_part(plan.validation), test=located_part(plan.test)
    )
    return replace(program, plan=plan)


def refuse_other_precision(program: Program, choices: Choices, options: Options) -> None:
    """Raise UsageError where another type than that of its training, which is a part of a run, is asked for."""
    own, now, before = choices.dtype, dict(program.overrides), dict(choices.overrides)
    is_asked = now.get("precision") != before.get("precision")
    wanted = driver.options_of(program, options).dtype if is_asked else options.dtype
    if wanted != own and (is_asked or wanted == "f64"):
        raise UsageError(f"a run cannot change its element type, {own}", "give the model file and the weights instead")


def target_with_bits_of(program: Program, choices: Choices, options: Options) -> str:
    """The target that computes a run's bits: that of the options, where kernels compute both, or else the run's own.

    Each target adds up products of rounded factors in an order of its own.
    """
    own = target_in(choices.target)
    has_own_order = program.plan is not None and program.plan.precision in OF_PRODUCTS
    is_same = not has_own_order and {options.target, own} <= set(KERNEL_TARGETS)
    return options.target if is_same else own


def open_trained_run(path: Path, use_last: bool, overrides: Overrides, options: Options) -> Trained:
    """A run with the weights of its best checkpoint, or of its last, as where `restore = false` asks for them.

    Raises CheckpointError.
    """
    run = open_run(path)
    choices = choices_of(run)
    program = program_of(run, choices, overrides)
    refuse_other_precision(program, choices, options)
    options = replace(options, dtype=choices.dtype)
    use_last = use_last or (program.plan is not None and not program.plan.restores)
    expect_room_for_weights(program, options)
    found = newest_checkpoint(run.checkpoints) if use_last else best_checkpoint(run.checkpoints)
    tensors = driver.allocate(program, options)
    put_weights(program, tensors, found.checkpoint.weights, found.path)
    step, is_best = found.checkpoint.position.step, is_marked_best(found.path)
    prepared, rows = saved_preparation(run), _training_rows(run)
    return Trained(program, tensors, options, choices, prepared, found.notes, rows, step, is_best, found.path)


def open_model_file(
    file: Path,
    weights: Path,
    experiment: str | None,
    overrides: Overrides,
    options: Options,
    data: Path | None = None,
    within: Path | None = None,
    dimensions: DimensionsOf | None = None,
) -> Trained:
    """The program of a model file with the weights of a safetensors file, which must fit it exactly.

    `data` decides dimensions that the text leaves open, in place of what `train` names, or `dimensions` does; `within`
    as in `driver.load`.
    """
    known = dimensions or (dimensions_if_there if data is None else dimensions_of(data))
    program = driver.load(file, experiment, overrides, known, within)
    program, options = driver.with_wide_inputs(program, options), driver.options_of(program, options)
    expect_room_for_weights(program, options)
    tensors = driver.allocate(program, options)
    put_weights(program, tensors, read_tensors(weights), weights)
    return Trained(program, tensors, options, None, None, (), weights=weights)


def saved_preparation(run: RunDirectory) -> Preparation:
    """How the run's data was prepared. Raises CheckpointError."""
    data = run.read_json("data.json")
    return preparation_from_json(data.get("preparation") if isinstance(data, Mapping) else None)


def _training_rows(run: RunDirectory) -> int | None:
    match run.read_json("data.json"):
        case {"rows": {"train": int(rows)}} if rows > 0:
            return rows
        case _:
            return None


def put_weights(program: Program, tensors: Tensors, weights: Mapping[str, Array], place: Path) -> None:
    """Fill every parameter and state. Raises CheckpointError unless the names and shapes are the same.

    States of the program's optimizer, which a library with the training step saves beside them, are left out.
    """
    wanted = {spec.path: tensors[spec.path].shape for spec in program.parameters}
    states = {*tensors.names()} - {*wanted}
    match = match_tensors({name: array for name, array in weights.items() if name not in states}, wanted)
    if match.lines():
        message = f"the weights do not fit {program.model}:\n" + "\n".join(match.lines())
        raise CheckpointError(message, place, "use the model file and the settings that the weights were trained with")
    for name in wanted:
        tensors.write(name, weights[name])
