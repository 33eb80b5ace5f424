"""What the pointer reads out on the page, keys read out as well: values, histograms and curves."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Generator
from typing import Any

import pytest
from repository import ROOT
from view_pages import browser, opened

from runtime.cli.main import main

pytest.importorskip("starlette", reason="starlette is not installed")
pytest.importorskip("uvicorn", reason="uvicorn is not installed")

WIDTH, UNITS = 12, 128  # a vector of 128 stands in rows of 12


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Generator[Any]:
    folder = tmp_path_factory.mktemp("keys") / "run"
    digits = ROOT / "examples" / "digits" / "model.dl"
    assert main(["train", str(digits), "--epochs", "4", "--out", str(folder), "--threads", "1"]) == 0
    command = [sys.executable, "-m", "runtime.cli", "view", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found is not None
        try:
            with browser() as running, opened(running, found[0]) as tab:
                yield tab
        finally:
            process.kill()


@pytest.fixture
def values(page: Any) -> Any:
    """The biases of the hidden layer in the tab Values."""
    page.keyboard.press("l")
    page.locator("#line-0-4").click()
    page.keyboard.press("8")
    box = page.locator(".value", has_text="logits.dense.b").first
    box.wait_for()
    return box


def pressed(page: Any, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def is_ringed(page: Any) -> bool:
    """Whether a ring is drawn around what has the focus."""
    style = page.evaluate(
        "(({outlineStyle, outlineWidth}) => [outlineStyle, outlineWidth])(getComputedStyle(document.activeElement))"
    )
    return style == ["solid", "2px"]


def test_elements_of_a_picture_are_read_out_by_keys(page: Any, values: Any):
    canvas, read = values.locator("canvas").first, values.locator(".read")
    assert read.get_attribute("aria-live") == "polite"
    assert read.inner_text() == ""
    canvas.focus()
    pressed(page, "ArrowRight")
    first = read.inner_text()
    assert re.fullmatch(r"row 0, column 0: about -?[\d.e-]+", first)
    pressed(page, "End")
    assert read.inner_text().startswith(f"row 0, column {WIDTH - 1}: ")
    pressed(page, "ArrowDown", "Home")
    assert read.inner_text().startswith("row 1, column 0: ")
    pressed(page, "Control+End", "ArrowRight", "ArrowDown")
    assert read.inner_text().startswith(f"row {UNITS // WIDTH}, column {UNITS % WIDTH - 1}: ")
    assert page.inner_text("#tabs [aria-selected=true]") == "Values"
    assert "chosen" in page.get_attribute("#line-0-4", "class")
    pressed(page, "Control+Home")
    assert read.inner_text() == first
    canvas.hover(position={"x": 3, "y": 3})
    assert read.inner_text() == first, "keys read what the pointer reads"


def test_a_frame_stands_around_the_element_that_is_read(page: Any, values: Any):
    box = values.locator(".framed").first
    scale = box.locator("canvas").bounding_box()["width"] / WIDTH
    box.locator("canvas").focus()
    pressed(page, "Home", "ArrowDown", "ArrowRight", "ArrowRight")
    whole, frame = box.bounding_box(), box.locator(".at").bounding_box()
    assert (frame["x"] - whole["x"], frame["y"] - whole["y"]) == pytest.approx((2 * scale, scale), abs=0.01)
    assert frame["width"] == pytest.approx(scale)
    pressed(page, "Escape")
    assert not box.locator(".at").is_visible()


def test_an_element_that_keys_reach_is_chosen_for_a_change(page: Any, values: Any):
    values.locator("canvas").first.focus()
    pressed(page, "Control+Home", "ArrowDown", "ArrowRight", "Enter")
    page.locator("select[aria-label=tensor] option:checked", has_text="logits.dense.b").wait_for(state="attached")
    assert page.get_by_label("which elements").input_value() == str(WIDTH + 1)
    assert page.get_by_label("value", exact=True).evaluate("box => box === document.activeElement")


def test_a_list_of_elements_is_one_stop(page: Any, values: Any):
    box = page.locator(".value", has_text="logits.dense_2.b").first
    box.locator(".elements").focus()
    pressed(page, "ArrowDown", "ArrowDown", "ArrowDown")
    said = box.locator(".read").inner_text()
    assert said.startswith("element 2: ")
    assert box.locator(".pointed").inner_text().split()[0] == "2"
    assert said.endswith(box.locator(".pointed").inner_text().split()[-1])
    pressed(page, "End")
    assert box.locator(".pointed").inner_text().split()[0] == "9"


def test_bars_of_a_histogram_are_read_out(page: Any, values: Any):
    histogram, read = values.locator("canvas").nth(1), values.locator(".read")
    histogram.focus()
    total, bars = 0, set[str]()
    for _ in range(32):
        pressed(page, "ArrowRight")
        found = re.fullmatch(r"from (\S+) to (\S+): ([\d,]+) elements?", read.inner_text())
        assert found is not None
        bars.add(found[1])
        total += int(found[3])
    assert (len(bars), total) == (32, UNITS)
    histogram.hover(position={"x": 1, "y": 20})
    pointed = read.inner_text()
    pressed(page, "Home")
    assert read.inner_text() == pointed


def test_what_has_the_focus_has_a_ring(page: Any, values: Any):
    page.get_by_role("button", name="Change", exact=True).focus()
    seen = []
    for _ in range(6):
        pressed(page, "Tab")
        seen.append((page.evaluate("document.activeElement.tagName"), is_ringed(page)))
    assert seen.count(("CANVAS", True)) >= 3
    assert all(ringed for _, ringed in seen)


def test_curves_are_read_out_from_end_to_end(page: Any, values: Any):
    pressed(page, "r")
    chart = page.locator("#run .chart").first
    read = chart.locator(".read")
    assert read.get_attribute("aria-live") == "polite"
    chart.locator("svg").focus()
    for key, epoch in (("End", 4), ("ArrowLeft", 3), ("Home", 1), ("ArrowRight", 2), ("ArrowDown", 2)):
        pressed(page, key)
        assert read.inner_text().startswith(f"epoch {epoch}")
    assert page.locator("#run").is_visible()


def test_curves_of_a_training_are_read_out_at_its_steps(page: Any):
    pressed(page, "v")
    trace = page.locator(".trace", has_text="loss").first
    trace.wait_for()
    read = trace.locator("[aria-live=polite]")
    plain = trace.inner_text()
    assert read.inner_text() == ""
    trace.locator("svg").focus()
    pressed(page, "End")
    last = read.inner_text()
    assert "at step" in last
    pressed(page, "Home")
    assert read.inner_text() != last
    pressed(page, "End")
    assert read.inner_text() == last
    pressed(page, "Escape")
    assert trace.inner_text() == plain


def test_arrows_scroll_where_no_line_can_be_chosen(page: Any, values: Any):
    before = page.locator(".row.chosen").get_attribute("id")
    pressed(page, "v", "j", "ArrowDown", "l")
    assert page.locator(".row.chosen").get_attribute("id") == before
