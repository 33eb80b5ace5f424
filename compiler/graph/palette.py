"""The colours of the kinds of boxes in drawings."""

from __future__ import annotations

_COLOURS = {
    "data": "#fdf3c8",
    "parameter": "#cfe8cf",
    "new parameter": "#cfe8cf",
    "state": "#dcebd0",
    "new state": "#dcebd0",
    "optimizer_state": "#e3ecd8",
    "new optimizer_state": "#e3ecd8",
    "setting": "#eeeeee",
    "seed": "#eeeeee",
    "step": "#eeeeee",
    "output": "#fbd9c0",
    "contraction": "#b9cdf0",
    "forward": "#e4ecfa",
    "backward": "#f8dfe6",
    "update": "#e9e0f5",
}


def colour_of(kind: str) -> str:
    """The fill of a box; white for a kind without a colour."""
    return _COLOURS.get(kind, "#ffffff")
