"""The console that prints tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from compiler.harmless import harmless_lines
from runtime.reporting.outlets import unfiltered
from runtime.reporting.terminal import wants_colour

WIDTH = 10_000
"""As wide as any table is: cells that are cut or broken could be neither read nor searched."""


class HarmlessConsole(Console):
    """Shows text of others without what could steer the terminal; what steers it here is rich's own."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else harmless_lines(text), style, control)


def table_console(stream: TextIO) -> Console:
    colourless = not wants_colour(stream)
    return HarmlessConsole(file=unfiltered(stream), no_color=colourless, highlight=False, markup=False, width=WIDTH)
