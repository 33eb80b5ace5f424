"""A trained model to the functions of a library."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from compiler import driver
from compiler.driver import ExportedLibrary, LibraryTensors, Tensors
from compiler.errors.diagnostics import UsageError
from compiler.types import OF_PRODUCTS
from runtime.inference.model import length_of, runtime_settings, training_of, weight_names
from runtime.runs.tensor_files import file_header
from runtime.runs.trained import Trained

PREFIX = "model"


def model_library(
    trained: Trained, with_training: bool, prefix: str = PREFIX, generates: bool = False
) -> tuple[ExportedLibrary, LibraryTensors]:
    """The prediction of a trained model, its training step where asked, and the tensors. Raises UsageError.

    Where it may be a function that `generates` the next token, a model has it that reads nothing but its sequence.
    """
    program, options = trained.program, trained.options
    generates = generates and driver.generates_alone(program)
    if not with_training:
        tensors = stored(trained.tensors, weight_names(program))
        settings = settings_of(trained)
        return driver.exported_library(program, tensors, settings, options, prefix, None, generates), tensors
    start, settings = training_start(trained)
    tensors = stored(start, start.names())
    seed = training_of(program).seed
    library = driver.exported_library(program, tensors, settings, options, prefix, seed, generates)
    expect_known(trained, (name for function in library.functions for name, _, _ in function.settings))
    return library, tensors


def training_start(trained: Trained) -> tuple[Tensors, Mapping[str, float]]:
    """The weights with the states from which an optimizer starts, and settings of run time. Raises UsageError."""
    plan = training_of(trained.program)
    if plan.batches > 1:
        message = f"a step of {trained.program.model} takes {plan.batches} batches, and an exported step takes one"
        raise UsageError(message, "leave out --training, or give each `update` `times = 1`")
    if plan.is_sharded:
        message = f"a step of {trained.program.model} is cut into {plan.shards} shards, which only `dlc train` adds up"
        raise UsageError(message, "leave out --training, or give --set shards=1 with the model file and weights")
    if plan.precision in OF_PRODUCTS:
        products = f"products in {plan.precision}, which are not compiled into libraries yet"
        message = f"a step of {trained.program.model} has {products}"
        raise UsageError(message, "leave out --training, or give --set precision=f32 with the model file and weights")
    settings = runtime_settings(trained.program, length_of(plan, trained.training_rows or 1))
    # those of this machine, whatever the library is for
    driver.initialise_states(trained.program, trained.tensors, plan.seed, replace(trained.options, machine=None))
    return trained.tensors, settings


def expect_known(trained: Trained, settings: Iterable[str]) -> None:
    """Refuse settings that depend on the length of a training that nobody knows. Raises UsageError."""
    known = runtime_settings(trained.program) if trained.training_rows is None else None
    unknown = [name for name in settings if known is not None and name not in known]
    if unknown:
        model = trained.program.model
        message = f"a step of {model} depends on `{unknown[0]}`, and nothing says how long the training is"
        raise UsageError(message, "name a run instead of the model file")


def settings_of(trained: Trained) -> Mapping[str, float]:
    """The settings of run time, with those that follow from the length of the training where it is known."""
    plan, rows = trained.program.plan, trained.training_rows
    if plan is None or rows is None or (plan.steps is None and plan.epochs is None):
        return runtime_settings(trained.program)
    return runtime_settings(trained.program, length_of(plan, rows))


def stored(tensors: Tensors, names: tuple[str, ...]) -> LibraryTensors:
    """Tensors as a safetensors file has them."""
    values = {name: tensors[name] for name in names}
    return LibraryTensors(values, file_header(values))
