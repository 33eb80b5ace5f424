"""Draws the pictures of `dlc view` in `pictures/` anew, in a browser. It needs Chromium, playwright and Pillow.

Run it from the root of the repository: `python docs/make_page_pictures.py`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
COLOURS = 256  # of a picture: text and flat surfaces need no more
WIDTH = 1280

# Name, example, place in the page, light or dark, height.
SHOTS = (
    ("view-ledger", "resnet20", "line=0:11&tab=What%20it%20is", "light", 760),
    ("view-assembly", "lenet", "line=0:7&tab=Assembly", "dark", 760),
    ("view-graph", "gpt", "line=0:8&tab=Graph", "light", 760),
    ("view-memory", "resnet20", "view=Memory", "light", 760),
    ("view-lesson", "lenet", "", "light", 900),
    ("view-report", "digits", "", "dark", 900),
)
LIVE = ("view-live", "digits", 860)
"""A training that is shown while it runs: name, example, height."""
REPORTS = ("view-report",)
"""Pictures of a report, for which the example is trained."""


def page_of(example: str, is_report: bool, folder: Path) -> Path:
    """The page of an example, or of a run of it, written once."""
    out, run = folder / f"{example}{'-run' * is_report}.html", folder / example
    model, last = f"examples/{example}/model.dl", ["--target", "avx512"]
    if is_report and not out.exists():
        _run("train", model, "--out", str(run), *last)
        _run("report", str(run), "--out", str(out), *last)
    elif not out.exists():
        _run("view", model, "--html", str(out), *last)
    return out


def _run(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "runtime.cli", *words], cwd=ROOT, check=True)


def shoot(browser: Browser, page: Path, place: str, scheme: str, height: int, out: Path) -> None:
    """A picture of a part of a page, at two pixels for each of the page."""
    tab = browser.new_page(
        viewport={"width": WIDTH, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
        device_scale_factor=2,
    )
    tab.goto(f"{page.as_uri()}#{place}")
    tab.wait_for_selector(".row.head", state="attached")
    tab.wait_for_timeout(500)  # code is unpacked
    _take(tab, out)


def shoot_live(browser: Browser, example: str, height: int, folder: Path, out: Path) -> None:
    """A picture of a training some seconds after it began, which ends then."""
    words = ("train", f"examples/{example}/model.dl", "--epochs", "4000", "--view", "--out", str(folder / "live"))
    command = [sys.executable, "-m", "runtime.cli", *words]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as training:
        assert training.stderr is not None
        url = next(line.split()[1] for line in training.stderr if line.startswith("page: "))
        threading.Thread(target=training.stderr.read, daemon=True).start()
        tab = browser.new_page(viewport={"width": WIDTH, "height": height}, device_scale_factor=2)
        tab.goto(url)
        tab.keyboard.press("v")
        tab.wait_for_selector(".wrong-row", timeout=60_000)
        tab.wait_for_timeout(8000)
        _take(tab, out)
        training.terminate()


def _take(tab: Page, out: Path) -> None:
    tab.screenshot(path=str(out))
    tab.close()
    picture = Image.open(out).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(out, optimize=True)


def main(names: Sequence[str]) -> None:
    """Draw the pictures of these names, or all."""
    command = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=command, args=["--no-sandbox"])
        if not names or LIVE[0] in names:
            name, example, height = LIVE
            shoot_live(browser, example, height, Path(folder), PICTURES / f"{name}.png")
        for name, example, place, scheme, height in SHOTS:
            if not names or name in names:
                shoot(
                    browser,
                    page_of(example, name in REPORTS, Path(folder)),
                    place,
                    scheme,
                    height,
                    PICTURES / f"{name}.png",
                )


if __name__ == "__main__":
    main(sys.argv[1:])
