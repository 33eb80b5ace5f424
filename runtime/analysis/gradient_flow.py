"""How large the gradients of each parameter are at the weights of a trained model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from compiler import driver
from compiler.driver import Steps
from compiler.programs.kinds import GraphKind, Purpose
from runtime.data.part import Part
from runtime.inference.model import length_of, runtime_settings, training_of
from runtime.inference.precision import in_precision
from runtime.runs.trained import Trained
from runtime.train.samples import at_epoch, numbered

_BATCHES = 20


def gradient_flow(trained: Trained, part: Part) -> Mapping[str, float]:
    """The root mean square of the gradient's elements, by the path of the parameter, over some batches of `part`."""
    program, plan = trained.program, training_of(trained.program)
    batch = min(plan.batch or len(part.rows), len(part.rows))
    rows = part.rows[: _BATCHES * batch]
    settings = runtime_settings(program, length_of(plan, len(part.rows)))
    options = replace(trained.options, batch=batch)
    executable = driver.compile_program(program, GraphKind(Purpose.GRADIENTS), options)
    data = at_epoch(numbered(program, in_precision(part, trained.options.dtype)).arrays, 0)
    results = executable.run(Steps(trained.tensors, data, rows, batch, 0, plan.seed, settings))
    return {path: math.sqrt(float(squares.mean())) for path, squares in results.scalars.items()}
