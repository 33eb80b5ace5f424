"""Names that turn the direction of writing, or are very long, change nothing but themselves on a page."""

from __future__ import annotations

import re
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from view_pages import browser, opened

from runtime.cli.main import main

pytest.importorskip("PIL", reason="Pillow is not installed")

TURN = "\u202e"
LONG = "L" * 180
MODEL = f"""# {TURN} turned
model Hostile {{
    input image: u8[batch, 3, 8, 8]
    output logits = image / 255 |> flatten |> dense(3)
}}

train Hostile {{
    data = images("data")
    test = 0.3
    target label: i32[batch] in 0..3
    loss = cross_entropy(logits, label)
    metrics = [accuracy(logits, label)]
    optimizer = adam(lr = 0.01)
    epochs = 1
    batch = 8
}}
"""


@pytest.fixture(scope="module")
def running() -> Generator[Any]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    from PIL import Image

    folder = tmp_path_factory.mktemp("steering")
    draw = np.random.default_rng(0)
    for name in (f"cat{TURN}gnp", "plain", LONG):
        (folder / "data" / name).mkdir(parents=True)
        for number in range(8):
            picture = Image.fromarray(draw.integers(0, 255, (8, 8, 3), np.uint8))
            picture.save(folder / "data" / name / f"{number}{TURN}.png")
    (folder / "model.dl").write_text(MODEL, "utf-8")
    assert main(["train", str(folder / "model.dl"), "--out", str(folder / "run"), "--json"]) == 0
    assert main(["report", str(folder / "run"), "--out", str(folder / "report.html")]) == 0
    return Path(folder / "report.html").as_uri()


def test_no_name_turns_the_text_behind_it(running: Any, report: str):
    with opened(running, report) as tab:
        shown = tab.evaluate("document.body.textContent")
        written = re.sub(r"<script.*?</script>", "", tab.locator("main").inner_html(), flags=re.DOTALL)
        assert "cat\ufffdgnp" in shown
        assert "# \ufffd turned" in shown
        assert TURN not in written


def test_a_long_name_pushes_nothing_off_the_page(running: Any, report: str):
    with opened(running, report) as tab:
        assert "LLLL" in tab.inner_text("#report")
        assert tab.evaluate("document.getElementById('report').scrollWidth <= innerWidth")
        assert tab.locator(".report th", has_text="recall").bounding_box()["x"] < 1280


def test_a_line_with_such_a_mark_keeps_its_length(running: Any, report: str):
    with opened(running, report) as tab:
        tab.keyboard.press("l")
        assert len(tab.inner_text("#line-0-1 .t")) == len(MODEL.splitlines()[0])
