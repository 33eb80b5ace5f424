"""The visual language has one home: nothing else names a colour, and everyone reads and tells apart its colours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
from repository import ROOT, files

from compiler.support.palette import FAINT, SERIES, SURFACES, TEXT, channels, style, style_as_system

HOME = ROOT / "compiler" / "support" / "palette.py"
_HEX = r"#(?:[0-9a-fA-F]{6}|[0-9a-fA-F]{8}|[0-9a-fA-F]{3})(?![\w-])"
NAMED = re.compile(_HEX + r"""|\[\d{2,3}, \d{2,3}, \d{2,3}\]|rgba?\(\s*\d|"tab:|cmap="|color="(?!\{)\w""")
BLACK = re.compile(r"rgb\(0 0 0 / [\d.]+\)")  # a shadow, which any light throws

# From linear sRGB: what people without one kind of cones see. Machado, Oliveira and Fernandes, "A physiologically-based
# model for simulation of color vision deficiency", 2009, table 1, severity 1.
SIGHTS = {
    "all cones": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
# Linear sRGB to OKLab: Ottosson, "A perceptual color space for image processing", 2020.
TO_CONES = [
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
]
TO_LAB = [
    [0.2104542553, 0.793617785, -0.0040720468],
    [1.9779984951, -2.428592205, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.808675766],
]


def linear(colour: str) -> np.ndarray:
    """Red, green and blue as amounts of light, from 0 to 1 (IEC 61966-2-1)."""
    values = np.array(channels(colour)) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """Of 1 to 21, by WCAG 2.2."""
    low, high = sorted(float(linear(colour) @ [0.2126, 0.7152, 0.0722]) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def distance(one: str, other: str, sight: Sequence[Sequence[float]]) -> float:
    """In OKLab, where black and white are 1 apart."""
    seen = [np.clip(np.array(sight) @ linear(colour), 0, 1) for colour in (one, other)]
    first, second = (np.array(TO_LAB) @ np.cbrt(np.array(TO_CONES) @ light) for light in seen)
    return float(np.linalg.norm(first - second))


@pytest.mark.parametrize("number", [0, 1], ids=["light", "dark"])
def test_letters_are_read_on_every_surface(number: int) -> None:
    grounds = {name: SURFACES[name][number] for name in ("paper", "panel", "raised", "hover", "chosen", "own")}
    weak = [
        (name, ground)
        for name, pair in TEXT.items()
        for ground, behind in grounds.items()
        if contrast(pair[number], behind) < 4.5
    ]
    assert weak == []
    for name in ("hover", "chosen", "own"):
        assert contrast(TEXT["ink"][number], SURFACES[name][number]) >= 7
    assert all(contrast(FAINT["faint"][number], behind) >= 3 for behind in grounds.values())
    assert contrast(SURFACES["chosen"][number], SURFACES["paper"][number]) > 1.08  # a chosen line is seen
    assert all(contrast(pair[number], grounds["paper"]) >= 3 for pair in SERIES.values())


@pytest.mark.parametrize("number", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("sight", SIGHTS)
def test_series_are_told_apart_with_any_sight_of_colours(sight: str, number: int) -> None:
    matrix = SIGHTS[sight]
    near = {
        (one, other): distance(SERIES[one][number], SERIES[other][number], matrix)
        for one, other in combinations(SERIES, 2)
    }
    assert min(near.values()) > (0.08 if sight == "tritanopia" else 0.085), near


def test_no_other_file_names_a_colour() -> None:
    found: list[str] = []
    places = (ROOT / name for name in ("compiler", "runtime", "docs"))
    for path in (file for place in places for file in files(".py", ".js", ".css", ".html", below=place)):
        text = "" if path == HOME else BLACK.sub("", path.read_text(encoding="utf-8"))
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in NAMED.finditer(text)]
    assert found == []


def test_style_sheets_use_only_names_of_the_palette() -> None:
    sheets = [*files(".css", below=ROOT / "runtime"), ROOT / "docs" / "site.css"]
    assert sheets
    named = set(re.findall(r"(--[\w-]+):", style()))
    for sheet in sheets:
        text = sheet.read_text(encoding="utf-8")
        own = set(re.findall(r"(--[\w-]+):", text)) | {"--share", "--hang", "--size"}
        assert set(re.findall(r"var\((--[\w-]+)", text)) - named - own == set(), sheet


def test_both_forms_of_the_style_have_the_same_names() -> None:
    assert sorted(re.findall(r"--[\w-]+", style())) == sorted(re.findall(r"--[\w-]+", style_as_system("svg")))
