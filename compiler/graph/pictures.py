"""A drawing as text in a format for people or other programs; graphviz lays out pictures where it is installed."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace

from compiler.graph.boxes import Drawing
from compiler.graph.dot import print_dot
from compiler.graph.svg import print_svg
from compiler.support.harmless import harmless

# Beyond so many boxes graphviz takes longer than anybody waits.
_MOST_BOXES, _SECONDS = 1000, 20.0


def drawn(drawing: Drawing, format: str) -> str:
    """The drawing as `dot`, `graphml` or `svg`."""
    drawing = _harmless(drawing)
    match format:
        case "dot":
            return print_dot(drawing)
        case "graphml":
            from compiler.graph.network import print_graphml  # networkx is slow to import, and only this needs it

            return print_graphml(drawing)
        case _:
            return _by_graphviz(drawing) or print_svg(drawing)


def _harmless(drawing: Drawing) -> Drawing:
    """XML has no control characters, not even escaped."""
    boxes = tuple(
        replace(box, lines=tuple(map(harmless, box.lines)), remark=harmless(box.remark)) for box in drawing.boxes
    )
    return replace(drawing, name=harmless(drawing.name), boxes=boxes)


def _by_graphviz(drawing: Drawing) -> str:
    """The picture, or nothing where graphviz is not installed or does not manage."""
    program = shutil.which("dot")
    if program is None or len(drawing.boxes) > _MOST_BOXES:
        return ""
    try:
        done = subprocess.run(
            [program, "-Tsvg"], input=print_dot(drawing).encode(), capture_output=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return "" if done.returncode else done.stdout.decode(errors="replace")
