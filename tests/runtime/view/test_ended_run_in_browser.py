"""The page of a run that has ended, on a server: what its curves, rows and lines are called."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Generator
from typing import Any

import numpy as np
import pytest
from view_pages import browser, opened

from runtime.cli.main import main

pytest.importorskip("starlette", reason="starlette is not installed")
pytest.importorskip("uvicorn", reason="uvicorn is not installed")

MODEL = """model Pair {
    input x: f32[batch, 2]
    near = x |> dense(4) |> tanh
    output first = near |> dense(1)
    output second = near |> dense(
        2,
        bias = false
    )
    for i in 1..3 { near = near |> dense(1000 * i) }
}

train Pair {
    data = csv("rows.csv", columns = ["a", "b"])
    loss = mean(first ^ 2) + mean(second ^ 2)
    optimizer = gradient_descent(lr = 0.00015)
    epochs = 2
    batch = 16
}
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Generator[Any]:
    folder = tmp_path_factory.mktemp("ended")
    rows = [f"{a:.3f},{b:.3f}" for a, b in np.random.default_rng(3).normal(size=(32, 2))]
    (folder / "rows.csv").write_text("a,b\n" + "\n".join(rows) + "\n")
    (folder / "model.dl").write_text(MODEL)
    assert main(["train", str(folder / "model.dl"), "--out", str(folder / "run"), "--threads", "1"]) == 0
    command = [sys.executable, "-m", "runtime.cli", "view", str(folder / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found is not None
        try:
            with browser() as running, opened(running, found[0]) as tab:
                yield tab
        finally:
            process.kill()


def test_rows_name_the_output_of_each_prediction(page: Any):
    page.keyboard.press("v")
    row = page.locator(".wrong-row").first
    row.wait_for(timeout=150_000)
    assert "predicted first" in row.inner_text()
    assert "predicted second" in row.inner_text()


def test_figures_of_a_run_that_ended_are_of_its_last_step(page: Any):
    page.keyboard.press("v")
    page.locator(".training-lines").wait_for(timeout=150_000)
    assert "By line, with the rows and the rate of the last step" in page.inner_text("#live")
    assert "Most wrong of 32 rows of the training part" in page.inner_text("#live")


def test_a_curve_is_read_out_at_steps_that_it_has(page: Any):
    page.keyboard.press("v")
    picture = page.locator(".trace svg").first
    picture.hover(position={"x": 250, "y": 60})
    assert set(re.findall(r"at step (\d+)", page.inner_text(".trace .tools >> nth=0"))) <= {"2", "4"}
    assert "at step" in page.inner_text(".trace .tools >> nth=0")


def test_no_number_of_an_axis_is_cut_off(page: Any):
    page.keyboard.press("v")
    places = page.evaluate(
        "[...document.querySelectorAll('.trace svg')].map((svg) => [svg.getBoundingClientRect().left,"
        " ...[...svg.querySelectorAll('text')].map((text) => text.getBoundingClientRect().left)])"
    )
    assert "0.00015" in page.inner_text("#live")
    for left, *texts in places:
        assert min(texts) >= left


def test_the_rate_is_no_training_part(page: Any):
    page.keyboard.press("r")
    charts = {chart.inner_text().split("\n")[0]: chart.inner_text() for chart in page.locator("#run .chart").all()}
    assert "training" in charts["loss"]
    assert "training" not in charts["rate"]


def test_types_of_rounds_are_whole(page: Any):
    page.keyboard.press("l")
    cell = page.locator("#line-0-9 .shape")
    assert cell.inner_text().split() == ["f32[batch,", "1000]", "…", "f32[batch,", "2000]"]
    assert cell.evaluate("(cell) => cell.scrollWidth <= cell.clientWidth")


def test_a_line_in_the_middle_of_a_call_leads_to_its_beginning(page: Any):
    page.keyboard.press("l")
    page.locator("#line-0-7").click()
    assert page.inner_text("#body .part") == "This line is part of what begins in line 5."
    page.locator("#body .part a").click()
    assert page.get_attribute(".row.chosen", "id") == "line-0-5"
    assert page.locator("#body .part").count() == 0
