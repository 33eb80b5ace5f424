"""A trained model to the functions of a library."""

from __future__ import annotations

from dataclasses import replace

from compiler import driver
from compiler.driver import ExportedLibrary, Program, Tensors
from compiler.errors.diagnostics import UsageError
from runtime.inference.model import length_of, runtime_settings, training_of, weight_names
from runtime.runs.trained import Trained


def model_library(trained: Trained, with_training: bool) -> ExportedLibrary:
    """The prediction of a trained model, and its training step where asked. Raises UsageError."""
    program, options = trained.program, trained.options
    if not with_training:
        return driver.exported_library(program, trained.tensors, runtime_settings(program), options)
    plan = training_of(program)
    if plan.accumulation is not None:
        raise UsageError(f"a step of {program.model} accumulates gradients", "leave out --training, or `accumulate`")
    length = None if trained.training_rows is None else length_of(plan, trained.training_rows)
    settings = runtime_settings(program, length)
    tensors = _with_fresh_states(program, trained.tensors, trained)
    return driver.exported_library(program, tensors, settings, options, plan.seed)


def _with_fresh_states(program: Program, weights: Tensors, trained: Trained) -> Tensors:
    """The weights with the states from which an optimizer starts, which are computed on this machine."""
    options = replace(trained.options, machine=None)
    tensors = driver.allocate(program, options)
    driver.initialise(program, tensors, training_of(program).seed, options)
    for name in weight_names(program):
        tensors.write(name, weights[name])
    return tensors
