"""Functions whose numbers only the data of a training says."""

from __future__ import annotations

from compiler.errors.diagnostics import hint
from compiler.frontend.builtins.table import Builtin, built_in
from compiler.frontend.data_parts import rows_of_class
from compiler.frontend.elaborator import Elaborator
from compiler.frontend.program import InputSpec
from compiler.frontend.settings import OF_THE_DATA
from compiler.frontend.values import TensorValue, Value

_MOST_CLASSES = 1000


def _balanced(elaborator: Elaborator, target: TensorValue) -> Value:
    """In `train`: a weight for each class of an integer target, `rows / (classes * rows of the class)` over the rows to
    train on, as `class_weights` of a loss; all classes weigh the same then.
    """
    spec = _target_of(elaborator, target)
    if spec is None or spec.low != 0 or spec.high is None:
        advice = hint("declare it with its range: `target label: u8[batch] in 0..10`")
        elaborator.fail("E0312", "`balanced` takes a target of classes from 0 on, whose number is known", advice)
    if spec.high > _MOST_CLASSES:
        elaborator.fail("E0312", f"`balanced` takes up to {_MOST_CLASSES} classes, and `{spec.name}` has {spec.high}")
    session = elaborator.session
    names = [rows_of_class(spec.name, k) for k in range(spec.high)]
    for name in (name for name in names if name not in session.dimensions):
        session.open_dimensions.setdefault(name, elaborator.here)
    if session.open_dimensions:
        advice = hint("add the data, or write the weights: `class_weights = [1.0, 3.0]`")
        elaborator.fail("E0415", f"nothing says how many rows of each class `{spec.name}` has", advice)
    counts = [session.dimensions[name] for name in names]
    if 0 in counts:
        message = f"no weight balances class {counts.index(0)} of `{spec.name}`, which no row to train on has"
        elaborator.fail("E0312", message, hint("take more data, a smaller range, or write the weights"))
    for name, count in zip(names, counts, strict=True):
        session.settings.record(name, count, OF_THE_DATA)
    return tuple(sum(counts) / (len(counts) * count) for count in counts)


def _target_of(elaborator: Elaborator, target: TensorValue) -> InputSpec | None:
    """The target that a tensor is."""
    named = (entry.name for entry in elaborator.builder.inputs if entry.value is target.value)
    spec = elaborator.session.inputs.get(next(named, ""))
    return spec if spec is not None and spec.is_target else None


DATA: tuple[Builtin, ...] = (built_in(_balanced),)
