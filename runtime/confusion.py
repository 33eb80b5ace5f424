"""How often each class was taken for which: predictions of a trained model against the targets of its data."""

from __future__ import annotations

import numpy as np

from compiler.diagnostics import UsageError
from compiler.driver import Array
from compiler.record import record
from runtime.data.part import Part
from runtime.prediction import Predictor, class_outputs
from runtime.trained import Trained


@record
class Confusion:
    """`counts[i, j]`: rows of class i that were taken for class j."""

    target: str
    classes: tuple[str, ...]
    counts: Array

    @property
    def accuracy(self) -> float:
        return float(np.trace(self.counts) / max(self.counts.sum(), 1))


def confusion(trained: Trained, part: Part) -> Confusion:
    """The confusion matrix of the first target of classes. Raises UsageError where the model has none."""
    predictor = Predictor(trained.program, trained.options, trained.sizes)
    outputs = predictor.rows_first(predictor.predict(trained.tensors, part))
    targets = [spec for spec in trained.program.inputs if spec.is_target]
    pairs = class_outputs(outputs, targets)
    if not pairs:
        raise UsageError(
            f"{trained.program.model} has no output of classes",
            "a confusion matrix needs a target `in 0..n` and an output of n numbers a row",
        )
    spec, name = pairs[0]
    known = part.arrays[spec.name][part.rows].astype(np.int64).reshape(-1)
    guessed = outputs[name].argmax(axis=-1).reshape(-1)
    classes = outputs[name].shape[-1]
    counts = np.bincount(known * classes + guessed, minlength=classes * classes).reshape(classes, classes)
    words = trained.preparation.vocabulary_of(spec.name) if trained.preparation is not None else None
    named = words if words is not None and len(words) == classes else tuple(map(str, range(classes)))
    return Confusion(spec.name, named, counts)
