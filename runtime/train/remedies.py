"""Advice where a training met a number that is not finite."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compiler.driver import TrainingPlan

if TYPE_CHECKING:
    from compiler.diagnosis.reports import NonfiniteReport

_GUARDS = {
    "log": "a logarithm needs an argument above 0: guard it, `log(max(x, 1e-7))`, or take the loss of logits",
    "log1p": "`log1p` needs an argument above -1: guard it, `log1p(max(x, -0.9999999))`",
    "sqrt": "a root needs an argument of at least 0: guard it, `sqrt(max(x, 0))`",
    "rsqrt": "`rsqrt` needs an argument above 0: guard it, `rsqrt(max(x, 1e-12))`",
    "div": "a division by 0 is not finite: add a small number to the divisor, or choose with `where`",
    "pow": "a power of a negative number, or a negative power of 0, is not finite: guard it, `max(x, 1e-7) ^ y`",
}
"""Advice for an operation whose result is not finite for its operands."""


def remedy(report: NonfiniteReport | None, step: int, plan: TrainingPlan | None = None) -> str:
    """The remedy for a value that is not finite: a rate is at fault only after an update has been made."""
    blocks = () if plan is None else plan.updates
    name, place = (f"{blocks[0].name}.optimizer.lr", "its `update`") if blocks else ("optimizer.lr", "`train`")
    rate = f"lower the rate (--set {name}=…) or clip the gradients (`clip = norm(1.0)` in {place})"
    guard = None if report is None else _GUARDS.get(report.born.operation)
    if guard is None:
        return rate if step else "no update has been made yet: look at the data, the start of the weights, and the loss"
    return f"{guard}; or {rate}" if step else guard
