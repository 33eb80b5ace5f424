"""What was watched during a training, as a table for a terminal, and what is wrong with it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich import box
from rich.table import Table

from runtime.reporting.tables import table_console
from runtime.reporting.terminal import say, say_labelled
from runtime.watching import Sight


def print_sights(sights: Sequence[Sight], looks: int) -> None:
    """One row for each line of the text and each parameter, on standard error; then the mistakes."""
    table = Table(box=box.SIMPLE, pad_edge=False, title=f"watched {looks} times, at their worst", title_justify="left")
    for heading in ("line", "what", "step", "units", "without effect", "gradient", "update / weight"):
        table.add_column(heading, justify="left" if heading in ("line", "what") else "right")
    for sight in sights:
        what = sight.path if sight.kind == "parameter" else f"{sight.kind} units {sight.path}".rstrip()
        share = "" if sight.share is None else f"{sight.share:.0%}"
        numbers = ("" if number is None else f"{number:.2g}" for number in (sight.gradient, sight.ratio))
        table.add_row(sight.line, what, str(sight.step), str(sight.units), share, *numbers)
    table_console(sys.stderr).print(table)
    wrong = [sight for sight in sights if sight.mistake is not None]
    for sight in wrong:
        place = f"{sight.line}, {sight.path}" if sight.path else sight.line
        say_labelled("warning", f"{place}: {sight.mistake} (step {sight.step})")
    if not wrong:
        say("nothing of this looks wrong")
