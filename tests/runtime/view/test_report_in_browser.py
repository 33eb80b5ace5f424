"""Reports in a real browser: every section of several kinds of runs opens without a complaint, curves are read out."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from repository import ROOT
from view_pages import browser, chromium, opened

from runtime.cli.main import main

SECTIONS = ("Result", "Curves", "Predictions", "Samples", "Weights", "Settings", "Records")
MOST_BYTES = 400_000

NUMBERS = """
model Net {
    input x: f32[batch, 2]
    output estimate = dense(1)(x)[:, 0]
}

train Net {
    data = csv("%s")
    test = 0.3
    target value: f32[batch]
    loss = mse(estimate, value)
    metrics = [mean_absolute_error(estimate, value)]
    optimizer = adam(lr = 0.1)
    epochs = %d
    batch = 16
    seed = 0
}
"""
HOSTILE = "<script>document.title='taken'<!--"


@pytest.fixture(scope="module")
def running() -> Generator[Any]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs on data whose file, columns and place have a name that would be a script."""
    chromium()
    folder = tmp_path_factory.mktemp("hostile")
    rows = "\n".join(f"{n % 7},{n % 5},{n % 7 - 0.5 * (n % 5)}" for n in range(120))
    (folder / f"{HOSTILE}.csv").write_text(f'"<img src=x onerror=alert(1)>",b,value\n{rows}\n')
    for name, epochs in ((HOSTILE, 5), ("other", 3)):
        model = folder / f"{epochs}.dl"
        model.write_text(NUMBERS % (f"{HOSTILE}.csv", epochs))
        assert main(["train", str(model), "--out", str(folder / name), "--json"]) == 0
    return folder


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["digits", "tagging", "wine"])
def test_every_section_of_an_example_opens(name: str, scheme: str, running: Any, tmp_path: Path):
    run, out = tmp_path / "run", tmp_path / "report.html"
    assert main(["train", str(ROOT / "examples" / name / "model.dl"), "--epochs", "1", "--out", str(run)]) == 0
    assert main(["report", str(run), "--out", str(out), "--rows", "60"]) == 0
    assert out.stat().st_size < MOST_BYTES
    with opened(running, out.as_uri(), scheme) as tab:
        for section in SECTIONS:
            tab.get_by_role("navigation").get_by_role("button", name=section, exact=True).click()
            assert tab.locator(f"#report-{section} h2").is_visible()
            assert len(tab.inner_text(f"#report-{section}")) > len(section) + 10
        for view in ("Graph", "Memory", "Ledger"):
            tab.locator("#views").get_by_role("tab", name=view, exact=True).click()
            assert tab.locator(f"#{view.lower()}").is_visible()
        too_wide = tab.evaluate("[...document.querySelectorAll('#report h2')].some((e) => e.scrollWidth > innerWidth)")
        assert not too_wide


def test_names_that_would_be_scripts_are_text(running: Any, hostile: Path):
    out = hostile / "r.html"
    assert main(["report", str(hostile / HOSTILE), "--out", str(out)]) == 0
    with opened(running, out.as_uri()) as tab:
        assert tab.title().endswith("– dlc")
        assert HOSTILE in tab.inner_text("#report-Settings")
        assert "<img src=x" in tab.inner_text("#report-Samples")
        assert tab.locator("#report img").count() == 0
        assert tab.locator("#report-Predictions .square").count() == 2, "predicted over true, and errors"


def test_curves_of_two_runs_are_read_out_smoothed_and_hidden(running: Any, hostile: Path):
    out = hostile / "both.html"
    assert main(["report", str(hostile / HOSTILE), str(hostile / "other"), "--out", str(out)]) == 0
    with opened(running, out.as_uri()) as tab:
        loss = tab.locator("#report-Curves .chart").first
        lines = loss.locator("path").count()
        assert lines == 2
        read = loss.locator(".read").inner_text()
        assert "last epochs" in read, "the runs do not end together"
        assert "—" not in read
        loss.locator("svg").focus()
        tab.keyboard.press("ArrowRight")
        tab.keyboard.press("ArrowRight")
        read = loss.locator(".read").inner_text()
        assert "epoch 2" in read
        assert "other" in read
        box = loss.locator("svg").bounding_box()
        tab.mouse.move(box["x"] + 60, box["y"] + 50)
        assert "epoch 1" in loss.locator(".read").inner_text()
        before = loss.locator("path").first.get_attribute("d")
        tab.get_by_label("smoothing").fill("0.8")
        assert tab.locator("label", has_text="smoothing").inner_text().split() == ["smoothing", "0.80"]
        assert loss.locator("path").count() == 2 * lines, "the values themselves stay, faintly"
        assert loss.locator("path").nth(1).get_attribute("d") != before
        logarithmic = loss.get_by_label("logarithmic")
        logarithmic.set_checked(not logarithmic.is_checked())
        assert loss.locator("path").first.get_attribute("d") != before
        tab.get_by_role("button", name="other").click()
        assert loss.locator("path").count() == lines
        assert tab.locator("#report-Result").get_by_text("epochs", exact=True).count() >= 1


def test_the_keyboard_goes_from_the_report_to_a_line_and_back(running: Any, hostile: Path):
    out = hostile / "r.html"
    assert main(["report", str(hostile / HOSTILE), "--out", str(out)]) == 0
    with opened(running, out.as_uri()) as tab:
        assert tab.locator("#report").is_visible()
        tab.keyboard.press("l")
        assert tab.locator("#ledger").is_visible()
        tab.keyboard.press("j")
        tab.keyboard.press("r")
        assert tab.locator("#report").is_visible()
        assert not tab.locator("#ledger").is_visible()


BEST = """() => [...document.querySelectorAll('.chart svg')].map((svg) => {
    const word = [...svg.querySelectorAll('text')].find((text) => text.textContent === 'best').getBBox();
    return [...svg.querySelectorAll('path')].some((path) => [...Array(101).keys()].some((n) => {
        const { x, y } = path.getPointAtLength((path.getTotalLength() * n) / 100);
        return word.x < x && x < word.x + word.width && word.y < y && y < word.y + word.height;
    }));
})"""
"""Of each chart, whether its curve goes through the word at the best epoch."""


def test_the_word_at_the_best_epoch_stands_where_no_curve_passes(running: Any, tmp_path: Path):
    folder, out = tmp_path / "run", tmp_path / "r.html"
    digits = ROOT / "examples" / "digits" / "model.dl"
    assert main(["train", str(digits), "--epochs", "8", "--out", str(folder), "--threads", "1"]) == 0
    assert main(["report", str(folder), "--out", str(out)]) == 0
    with opened(running, out.as_uri()) as tab:
        tab.wait_for_selector(".chart svg")
        assert tab.evaluate(BEST) == [False, False, False]
