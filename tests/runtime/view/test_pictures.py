"""The pictures of pages in the documentation are current: a browser draws them anew, and they are compared."""

from __future__ import annotations

import io
from collections.abc import Generator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from repository import ROOT, script_of_pages
from view_pages import browser, chromium

from compiler.support import palette

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

PICTURES = ROOT / "docs" / "pictures"
NAMES = ("view-ledger", "view-assembly", "view-graph", "view-memory", "view-lesson", "view-report")
_CELL = 16  # pixels: edges a pixel away differ little in the mean of a cell
_STEP = 12  # of 255
_SHARE = 0.02  # of the cells


@pytest.fixture(scope="module")
def running() -> Generator[Any]:
    with browser() as found:
        yield found


WIDTHS = """(families) => { const pen = document.createElement('canvas').getContext('2d');
    const wide = (family) => { pen.font = `100px ${family}`; return pen.measureText('Wide or narrow, illi').width; };
    return families.map((family) => Math.round(wide(family))); }"""
OURS = [936, 1204]
"""The widths of a line in the two families of letters with which the pictures are drawn."""


@pytest.fixture(scope="module")
def letters(running: Any) -> None:
    """Skips where a browser has other letters than those of the pictures, whose lines break elsewhere."""
    tab = running.new_page()
    widths = tab.evaluate(WIDTHS, [palette.TYPE[name] for name in ("sans", "mono")])
    tab.close()
    if widths != OURS:
        pytest.skip(f"lines are {widths} wide here: the pictures have other letters")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    chromium()
    return script_of_pages("make_page_pictures")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pages are written, each once."""
    return tmp_path_factory.mktemp("pages")


def cells_of(picture: bytes) -> np.ndarray:
    """The mean colours of cells [down, across, 3]."""
    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"), np.float64)
    height, width = (extent // _CELL * _CELL for extent in pixels.shape[:2])
    return pixels[:height, :width].reshape(height // _CELL, _CELL, width // _CELL, _CELL, 3).mean((1, 3))


def share_of_others(one: bytes, other: bytes) -> float:
    """The share of cells that two pictures of one size have in other colours."""
    differences = np.abs(cells_of(one) - cells_of(other)).max(axis=2)
    return float((differences > _STEP).mean())


@pytest.mark.usefixtures("letters")
@pytest.mark.parametrize("name", NAMES)
def test_a_picture_shows_the_page_as_it_is(
    name: str, script: ModuleType, running: Any, folder: Path, request: pytest.FixtureRequest
):
    drawn, kept = script.shoot(running, script.SHOTS[name], folder), PICTURES / f"{name}.png"
    if request.config.getoption("--update-golden"):
        kept.write_bytes(drawn)
    assert share_of_others(drawn, kept.read_bytes()) < _SHARE, "run python docs/make_page_pictures.py, and look at it"


def test_every_picture_is_drawn_by_the_script(script: ModuleType):
    assert tuple(script.SHOTS) == NAMES
    assert {path.stem for path in PICTURES.glob("view-*.png")} == {*NAMES, script.LIVE}


def test_pictures_that_differ_are_told_apart():
    kept = [(PICTURES / f"{name}.png").read_bytes() for name in ("view-ledger", "view-memory")]
    assert cells_of(kept[0]).shape == cells_of(kept[1]).shape
    assert share_of_others(kept[0], kept[1]) > 3 * _SHARE
