"""One sample as an epoch of training sees it: by the compiled augmentation, in the batch that the epoch gives it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from compiler import driver
from compiler.driver import Array, GraphKind, Options, Program, Purpose, Steps
from compiler.errors.diagnostics import UsageError
from compiler.support.record import record
from runtime.data.batching import rows_of_epoch
from runtime.data.loading import LoadedData
from runtime.data.preparation import Preparation
from runtime.inference.model import length_of, runtime_settings, training_of
from runtime.inference.precision import in_precision
from runtime.train.jobs import load_data
from runtime.train.samples import at_epoch, numbered


@record
class Preview:
    """`values` are those of one sample, by input and target; `changed` names what `augment` gives."""

    epoch: int
    sample: int
    values: Mapping[str, Array]
    changed: tuple[str, ...]
    preparation: Preparation
    notes: tuple[str, ...]


def preview(program: Program, path: Path | None, epoch: int, sample: int | None, options: Options) -> Preview:
    """The sample with number `sample` (from 0; by default the first) in epoch `epoch` (from 1).

    Raises UsageError where training has none.
    """
    plan = training_of(program)
    data = load_data(program, path)
    part = in_precision(data.train, options.dtype)
    batch = min(plan.batch or len(part.rows), len(part.rows))
    order = rows_of_epoch(part, plan.seed, epoch - 1, batch)
    sample = int(order.min()) if sample is None else sample
    found = np.flatnonzero(order == sample)
    if len(found) == 0:
        raise UsageError(f"epoch {epoch} of training has no sample {sample}", _where(data, sample, order))
    place = int(found[0])
    # The whole batch: a mixed-in row comes from those beside it.
    rows = order[place // batch * batch :][:batch]
    values = {name: array[sample] for name, array in part.arrays.items()}
    changed: dict[str, Array] = {}
    if program.augmentation is not None:
        arrays = at_epoch(numbered(program, part).arrays, epoch - 1)
        names = {entry.name for entry in program.augmentation.inputs}
        known = runtime_settings(program)
        if any(entry.role.value == "setting" and entry.name not in known for entry in program.augmentation.inputs):
            known = runtime_settings(program, length_of(plan, len(part.rows)))
        settings = {name: value for name, value in known.items() if name in names}
        executable = driver.compile_program(program, GraphKind(Purpose.AUGMENTATION), replace(options, batch=batch))
        tensors = driver.allocate(program, options)
        results = executable.run(Steps(tensors, arrays, rows, batch, seed=plan.seed, settings=settings))
        changed = {name: array[place % batch] for name, array in results.arrays.items()}
    return Preview(epoch, sample, {**values, **changed}, tuple(changed), data.preparation, data.notes)


def _where(data: LoadedData, sample: int, order: Array) -> str:
    for name, part in (("validation", data.validation), ("test", data.test)):
        if part is not None and part.arrays is data.train.arrays and sample in part.rows:
            return f"it belongs to the {name} part; take another, such as {data.train.rows[0]}"
    rows = len(next(iter(data.train.arrays.values())))
    if sample < rows:
        nearest = order[np.abs(order - sample).argmin()]
        return f"the windows of an epoch stand side by side; the nearest is {nearest}"
    return f"the data has {rows} samples, from 0 to {rows - 1}"
