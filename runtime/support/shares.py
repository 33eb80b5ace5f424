"""Shares as text."""

from __future__ import annotations


def share(part: float) -> str:
    """A share in percent with a place, `12.5%`; only none is `0.0%`, and only all is `100.0%`."""
    if 0 < part < 0.0005:
        return "<0.1%"
    return ">99.9%" if 0.9995 <= part < 1 else f"{part:.1%}"
