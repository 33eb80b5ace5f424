"""The results of a trained model's layers in a step of training, and how large the gradients of its parameters are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from compiler import driver
from compiler.driver import Array, Steps
from compiler.errors.diagnostics import UsageError
from runtime.data.part import Part
from runtime.inference.model import length_of, runtime_settings, training_of
from runtime.inference.precision import in_precision
from runtime.runs.trained import Trained
from runtime.train.samples import at_epoch, numbered


def activations(trained: Trained, part: Part) -> Mapping[str, Array]:
    """The values of each layer that has parameters, by its path, for the first batch of `part`; no tensor changes."""
    program, plan, tensors = trained.program, training_of(trained.program), trained.tensors
    paths = list(dict.fromkeys(spec.path.rpartition(".")[0] for spec in program.parameters))
    if plan.accumulation is not None or not any(paths):
        message = "the activations of a step that accumulates, or of no layer, cannot be seen"
        raise UsageError(message, "plot another kind, such as `--what weights`")
    batch = min(plan.batch or len(part.rows), len(part.rows))
    settings = runtime_settings(program, length_of(plan, len(part.rows)))
    from compiler.diagnosis.inspected_step import inspected_step  # the whole compiler

    step = inspected_step(program, 0, replace(trained.options, batch=batch), [path for path in paths if path])
    data = at_epoch(numbered(program, in_precision(part, trained.options.dtype)).arrays, 0)
    before = {name: tensors[name].copy() for name in tensors.names()}
    results = step.executable.run(Steps(tensors, data, part.rows[:batch], batch, 0, plan.seed, settings))
    for name, array in before.items():
        tensors.write(name, array)
    return {name: results.arrays[name] for names in step.names.values() for name in names if name in results.arrays}


_BATCHES = 20


def gradient_flow(trained: Trained, part: Part) -> Mapping[str, float]:
    """The root mean square of the gradient's elements, by the path of the parameter, over some batches of `part`."""
    program, plan = trained.program, training_of(trained.program)
    batch = min(plan.batch or len(part.rows), len(part.rows))
    rows = part.rows[: _BATCHES * batch]
    settings = runtime_settings(program, length_of(plan, len(part.rows)))
    executable = driver.compile_gradients(program, replace(trained.options, batch=batch))
    data = at_epoch(numbered(program, in_precision(part, trained.options.dtype)).arrays, 0)
    results = executable.run(Steps(trained.tensors, data, rows, batch, 0, plan.seed, settings))
    return {path: math.sqrt(float(squares.mean())) for path, squares in results.scalars.items()}
