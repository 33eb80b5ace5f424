"""The observations of `--watch` as a table for a terminal, and the faults among them."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from runtime.reporting.tables import Column, print_table
from runtime.reporting.terminal import say, say_labelled
from runtime.train.watching import Sight


def print_sights(sights: Sequence[Sight], looks: int) -> None:
    """One row for each line of the text and each parameter, on standard error; then the mistakes."""
    what = [s.path if s.kind == "parameter" else f"{s.kind} units {s.path}".rstrip() for s in sights]
    columns = [
        Column("line", [sight.line for sight in sights], is_text=True),
        Column("what", what, is_text=True, least=16),
        Column("step", [str(sight.step) for sight in sights], 2),
        Column("units", [str(sight.units) for sight in sights], 1),
        Column("without effect", ["" if sight.share is None else f"{sight.share:.0%}" for sight in sights]),
        Column("gradient", [_number(sight.gradient) for sight in sights]),
        Column("update / weight", [_number(sight.ratio) for sight in sights]),
    ]
    print_table(f"watched {looks} times, at their worst", columns, sys.stderr)
    wrong = [sight for sight in sights if sight.mistake is not None]
    for sight in wrong:
        place = f"{sight.line}, {sight.path}" if sight.path else sight.line
        say_labelled("warning", f"{place}: {sight.mistake} (step {sight.step})")
    if not wrong:
        say("nothing of this looks wrong")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"
