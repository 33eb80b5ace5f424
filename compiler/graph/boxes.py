"""A picture as boxes and arrows, from which `dot` and `svg` draw any stage."""

from __future__ import annotations

from compiler.support.record import record


@record
class Box:
    """One thing in a picture: its text by lines, the kind that decides its colour, and the text under a pointer.

    With `content`, it is drawn around that.
    """

    key: str
    lines: tuple[str, ...]
    kind: str
    remark: str = ""
    content: Drawing | None = None


@record
class Arrow:
    """From one box to another, by their keys. `name` is how the target's text may refer to the source."""

    source: str
    target: str
    name: str = ""


@record
class Drawing:
    """Boxes in an order in which arrows point forward."""

    name: str
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
