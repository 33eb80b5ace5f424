"""Draws the pictures of `dlc view` in `pictures/` anew, in a browser. It needs Chromium, playwright and Pillow.

Tests draw them too, and compare.

Run it from the root of the repository: `python docs/make_page_pictures.py`.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
COLOURS = 256  # of a picture: text and flat surfaces need no more
WIDTH = 1280


class Shot(NamedTuple):
    """An example's page at a place, light or dark, in a window of a height; of a `run`, the example is trained."""

    example: str
    place: str
    scheme: Literal["light", "dark"] = "light"
    height: int = 760
    is_run: bool = False


SHOTS = {
    "view-ledger": Shot("resnet20", "line=0:11&tab=What%20it%20is"),
    "view-assembly": Shot("lenet", "line=0:7&tab=Assembly", "dark"),
    "view-graph": Shot("gpt", "line=0:8&tab=Graph"),
    "view-memory": Shot("resnet20", "view=Memory"),
    "view-lesson": Shot("lenet", "", height=900),
    "view-report": Shot("digits", "", "dark", 900, is_run=True),
}
LIVE, LIVE_SHOT = "view-live", Shot("digits", "", height=860)
"""A training that is shown while it runs."""


def page_of(shot: Shot, folder: Path) -> Path:
    """The page of an example, or the report of a run of it, written once."""
    out, run = folder / f"{shot.example}{'-run' * shot.is_run}.html", folder / shot.example
    model, last = f"examples/{shot.example}/model.dl", ["--target", "avx512"]
    if shot.is_run and not out.exists():
        _run("train", model, "--out", str(run), *last)
        _run("report", str(run), "--out", str(out), *last)
    elif not out.exists():
        _run("view", model, "--html", str(out), *last)
    return out


def _run(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "runtime.cli", *words], cwd=ROOT, check=True)


def shoot(browser: Browser, shot: Shot, folder: Path) -> bytes:
    """A picture of a part of a page, at two pixels for each of the page, as PNG."""
    tab = _window(browser, shot)
    tab.goto(f"{page_of(shot, folder).as_uri()}#{shot.place}")
    tab.wait_for_selector(".row.head", state="attached")
    tab.wait_for_timeout(500)  # code is unpacked
    return _taken(tab)


def shoot_live(browser: Browser, shot: Shot, folder: Path) -> bytes:
    """A picture of a training some seconds after it began, which ends then."""
    words = ("train", f"examples/{shot.example}/model.dl", "--epochs", "4000", "--view", "--out", str(folder / "live"))
    command = [sys.executable, "-m", "runtime.cli", *words]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as training:
        assert training.stderr is not None
        try:
            url = next(line.split()[1] for line in training.stderr if line.startswith("page: "))
            threading.Thread(target=training.stderr.read, daemon=True).start()
            tab = _window(browser, shot)
            tab.goto(url)
            tab.keyboard.press("v")
            tab.wait_for_selector(".wrong-row", timeout=60_000)
            tab.wait_for_timeout(8000)
            return _taken(tab)
        finally:
            training.terminate()


def _window(browser: Browser, shot: Shot) -> Page:
    size = ViewportSize(width=WIDTH, height=shot.height)
    return browser.new_page(viewport=size, color_scheme=shot.scheme, device_scale_factor=2)


def _taken(tab: Page) -> bytes:
    picture = Image.open(io.BytesIO(tab.screenshot())).convert("RGB")
    tab.close()
    out = io.BytesIO()
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(out, "png", optimize=True)
    return out.getvalue()


def main(names: Sequence[str]) -> None:
    """Draw the pictures of these names, or all."""
    command = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=command, args=["--no-sandbox"])
        for name in names or (*SHOTS, LIVE):
            take, shot = (shoot_live, LIVE_SHOT) if name == LIVE else (shoot, SHOTS[name])
            (PICTURES / f"{name}.png").write_bytes(take(browser, shot, Path(folder)))


if __name__ == "__main__":
    main(sys.argv[1:])
