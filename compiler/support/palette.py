"""The visual language of everything that is drawn: colours for light and dark, type, and the style sheets of both.

Page, report, notebook, plots, pictures of graphs, exported pages and the documentation site take them from here, and
nothing else names a colour. `tests/layout/test_palette.py` checks contrasts, and that series of colours are told apart
with any sight of colours.
"""

from __future__ import annotations

from collections.abc import Mapping

Pair = tuple[str, str]
"""A colour on a light and on a dark page."""

SURFACES: Mapping[str, Pair] = {
    "paper": ("#fcfbf9", "#15171b"),
    "panel": ("#f5f3ee", "#1b1e23"),
    "raised": ("#ffffff", "#22262c"),
    "hover": ("#f2f0ea", "#1f2329"),
    "chosen": ("#eef1fd", "#242c44"),
    "own": ("#fdf3d3", "#352e16"),
    "line": ("#e7e3db", "#2b2f36"),
    "own-edge": ("#d9a514", "#d6ad3a"),
}
TEXT: Mapping[str, Pair] = {
    "ink": ("#1e2126", "#e3e5e8"),
    "quiet": ("#656a73", "#9097a1"),
    "accent": ("#3653b5", "#8fa8f7"),
    "error": ("#b8322a", "#f0847a"),
    "warning": ("#8c5e00", "#e2b04a"),
    "word": ("#6a3fa0", "#c2a2f0"),
    "call": ("#0b6a8c", "#6cc1dd"),
    "number": ("#9b4f12", "#e6a76f"),
    "text": ("#3f7a30", "#9ccb83"),
    "comment": ("#696e75", "#8f96a1"),
    "named": ("#6a6557", "#b3ab98"),
}
"""Colours of letters, those of words of the language among them."""
FAINT: Mapping[str, Pair] = {"faint": ("#868a92", "#747b86")}
"""For what need not be read: numbers of lines, and lines between boxes."""
SERIES: Mapping[str, Pair] = {
    "forward": ("#1d5fa8", "#74a9ea"),
    "backward": ("#c97200", "#f2a74c"),
    "update": ("#10a18c", "#7ee8c6"),
    "fourth": ("#662c60", "#b3619c"),
    "fifth": ("#95484c", "#e8796e"),
}
"""Colours that stand for something, by their first meaning: of lines and bars beside each other, in this order."""
COLOURS: Mapping[str, Pair] = {**SURFACES, **TEXT, **FAINT, **SERIES}

TYPE: Mapping[str, str] = {
    "mono": 'ui-monospace, "SF Mono", "Cascadia Code", "JetBrains Mono", Consolas, "DejaVu Sans Mono", monospace',
    "sans": 'system-ui, -apple-system, "Segoe UI", Inter, Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif',
    "tiny": "11px",
    "small": "12px",
    "body": "13px",
    "lead": "15px",
    "title": "19px",
}
"""Families of letters, and the five sizes."""

POSITIVE, NEGATIVE = "forward", "backward"
"""Of values above and below zero, where the strength of the colour is their size."""


def style(light: str = ":root", dark: str = ':root[data-theme="dark"]') -> str:
    """The variables of a page; `light` selects the element that has them, `dark` the same while it is dark."""
    return f"{light} {{ {_variables(0, TYPE)} }}\n{dark} {{ {_variables(1)} }}\n"


def style_as_system(selector: str) -> str:
    """The variables of a page, or of a drawing in a file, that is as dark as its surroundings."""
    dark = f"{selector} {{ {_variables(1)} }}"
    return f"{selector} {{ {_variables(0, TYPE)} }}\n@media (prefers-color-scheme: dark) {{ {dark} }}\n"


def _variables(number: int, more: Mapping[str, str] | None = None) -> str:
    named = {name: pair[number] for name, pair in COLOURS.items()} | dict(more or {})
    return " ".join(f"--{name}: {value};" for name, value in named.items())


def colour(name: str) -> str:
    """A colour by its name, for what is light in any surroundings."""
    return COLOURS[name][0]


def tint(name: str, share: float, is_dark: bool = False) -> str:
    """A colour on a raised surface, white where it is light, of which `share` is left."""
    return mixed(COLOURS["raised"][is_dark], COLOURS[name][is_dark], share)


def mixed(one: str, other: str, share: float) -> str:
    """The colour that lies `share` of the way from one to the other."""
    pairs = zip(channels(one), channels(other), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


def channels(colour: str) -> tuple[int, int, int]:
    """Red, green and blue of `#rrggbb`, from 0 to 255."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
