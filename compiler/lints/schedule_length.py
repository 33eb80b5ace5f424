"""W0110: a schedule that ends before the run does, or would end after it."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.errors.diagnostics import Diagnostic, hint
from compiler.frontend.trace import Subject


def find_schedule_length(subject: Subject) -> Iterator[Diagnostic]:
    """As far as the text says how long the run is; `dlc train` compares again, when the data is known."""
    plan, train = subject.program.plan, subject.train
    if plan is None or train is None:
        return
    message = ""
    if plan.steps is not None and (end := plan.other_end(plan.steps)) is not None:
        message = f"the schedule ends at update {end:g}, the run at update {plan.steps}"
    # An epoch has one update at least.
    if plan.epochs is not None and (end := plan.other_end(plan.epochs)) is not None and end < plan.epochs:
        message = f"the schedule ends at update {end:g}, and {plan.epochs} epochs have more updates than that"
    if message:
        place = next((entry.value.span for entry in train.entries if entry.key == "schedule"), train.head)
        advice = hint("`total_steps` is the length of the run: `T = total_steps`")
        yield Diagnostic("W0110", message, place, (advice,), "warning")
