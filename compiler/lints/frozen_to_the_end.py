"""W0116: a training in which everything is frozen, or that ends before frozen parameters begin to train."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.errors.diagnostics import Diagnostic, Span, hint
from compiler.frontend.trace import Subject
from compiler.graph.ir import Role


def find_frozen_to_the_end(subject: Subject) -> Iterator[Diagnostic]:
    """As far as the text says how long the run is."""
    plan, train = subject.program.plan, subject.train
    if plan is None or train is None:
        return
    places = {entry.key: entry.value.span for entry in train.entries}
    owns = any(spec.role is Role.PARAMETER for spec in subject.program.parameters)
    if owns and not plan.every_rule and "freeze" in places:
        advice = "leave the parameters to train out of `freeze`, or end it with `unfreeze`"
        yield _warning("`freeze` selects every parameter, so nothing is trained", places["freeze"], advice)
    late = max((phase.first_epoch for phase in plan.phases), default=0)
    if plan.epochs is not None and late >= plan.epochs:
        message = f"parameters that `unfreeze` trains after {late} epochs stay frozen: the run has {plan.epochs}"
        yield _warning(message, places.get("unfreeze", train.head), "unfreeze it earlier, or train for more epochs")


def _warning(message: str, place: Span, advice: str) -> Diagnostic:
    return Diagnostic("W0116", message, place, (hint(advice),), "warning")
