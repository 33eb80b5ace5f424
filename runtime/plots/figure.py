"""Figures in the style of all plots, and the files that they become."""

# Keyword arguments have no types in matplotlib's stubs.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

from compiler.errors.diagnostics import UsageError
from compiler.support.harmless import harmless
from runtime.support.files import write_output
from runtime.support.optional import missing

try:
    from matplotlib import rc_context  # pyright: ignore[reportUnknownVariableType]
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
except ImportError as error:
    raise missing("matplotlib", "plot", "a plot") from error

__all__ = ["FORMATS", "Axes", "Axis", "Figure", "new_axes", "new_figure", "shown", "write_figure"]

FORMATS = (".png", ".svg", ".pdf")
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "dlc",  # the same figure gives the same file
}


def new_figure(width: float = 7.0, height: float = 4.2) -> Figure:
    """An empty figure; sizes in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def new_axes(figure: Figure, title: str, across: str, up: str, row: int = 0, rows: int = 1) -> Axes:
    """The axes of a figure, or of one of its rows, with their labels."""
    axes = figure.add_subplot(rows, 1, row + 1)
    axes.set_title(shown(title), fontsize="medium")
    axes.set_xlabel(shown(across))
    axes.set_ylabel(shown(up))
    axes.grid(alpha=0.3)
    return axes


def shown(text: str) -> str:
    """A name of others as a part of a figure: matplotlib reads what stands between `$` as a formula."""
    return harmless(text).replace("$", r"\$")


def write_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the path's ending. Raises UsageError, and OSError where the disk is at fault."""
    if path.suffix not in FORMATS:
        raise UsageError(f"the format of {path} is not known", f"give a name that ends in {', '.join(FORMATS)}")
    metadata = {"Date": None} if path.suffix == ".svg" else {"CreationDate": None} if path.suffix == ".pdf" else {}
    content = io.BytesIO()
    with rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # a sign that no font has is a box
        figure.savefig(content, format=path.suffix[1:], dpi=150, metadata=metadata)
    write_output(path, content.getvalue())  # and never to where a link in a folder of others leads
