"""The console that prints tables."""

from __future__ import annotations

from typing import TextIO

from rich.console import Console

from runtime.reporting.terminal import wants_colour

WIDTH = 10_000
"""As wide as any table is: cells that are cut or broken could be neither read nor searched."""


def table_console(stream: TextIO) -> Console:
    return Console(file=stream, no_color=not wants_colour(stream), highlight=False, markup=False, width=WIDTH)
