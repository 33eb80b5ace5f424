"""A trained model to the functions of a library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from compiler import driver
from compiler.driver import ExportedLibrary, LibraryTensors, Tensors
from compiler.errors.diagnostics import UsageError
from runtime.inference.model import length_of, runtime_settings, training_of, weight_names
from runtime.runs.tensor_files import file_header
from runtime.runs.trained import Trained


def model_library(trained: Trained, with_training: bool) -> tuple[ExportedLibrary, LibraryTensors]:
    """The prediction of a trained model, its training step where asked, and the tensors. Raises UsageError."""
    library, tensors = _made(trained, with_training)
    if "-apple-" in library.machine.triple:
        raise UsageError("libraries for macOS cannot be written yet", "take another machine: avx2, neon, rvv")
    return library, tensors


def _made(trained: Trained, with_training: bool) -> tuple[ExportedLibrary, LibraryTensors]:
    program, options = trained.program, trained.options
    if not with_training:
        tensors = stored(trained.tensors, weight_names(program))
        return driver.exported_library(program, tensors, _settings(trained), options), tensors
    plan = training_of(program)
    if plan.accumulation is not None:
        raise UsageError(f"a step of {program.model} accumulates gradients", "leave out --training, or `accumulate`")
    rows = trained.training_rows
    with_states = _with_fresh_states(trained)
    tensors = stored(with_states, with_states.names())
    settings = runtime_settings(program, length_of(plan, rows or 1))
    library = driver.exported_library(program, tensors, settings, options, plan.seed)
    known = runtime_settings(program) if rows is None else settings
    unknown = [name for function in library.functions for name, _, _ in function.settings if name not in known]
    if unknown:
        message = f"a step of {program.model} depends on `{unknown[0]}`, and nothing says how long the training is"
        raise UsageError(message, "name a run instead of the model file")
    return library, tensors


def _settings(trained: Trained) -> Mapping[str, float]:
    """The settings of run time, with those that follow from the length of the training where it is known."""
    plan, rows = trained.program.plan, trained.training_rows
    if plan is None or rows is None or (plan.steps is None and plan.epochs is None):
        return runtime_settings(trained.program)
    return runtime_settings(trained.program, length_of(plan, rows))


def stored(tensors: Tensors, names: tuple[str, ...]) -> LibraryTensors:
    """Tensors as a safetensors file has them."""
    values = {name: tensors[name] for name in names}
    return LibraryTensors(values, file_header(values))


def _with_fresh_states(trained: Trained) -> Tensors:
    """The weights with the states from which an optimizer starts, which are computed on this machine."""
    program, options = trained.program, replace(trained.options, machine=None)
    tensors = driver.allocate(program, options)
    driver.initialise(program, tensors, training_of(program).seed, options)
    for name in weight_names(program):
        tensors.write(name, trained.tensors[name])
    return tensors
