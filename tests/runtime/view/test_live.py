"""The page of a run that trains: figures by line, the most wrong rows; a browser pauses and stops it."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from repository import ROOT
from view_pages import browser, opened

from compiler.driver import Options
from compiler.errors.diagnostics import DataError, UsageError
from runtime.cli.main import INTERRUPTED, main
from runtime.runs import live
from runtime.runs.checkpoint import newest_checkpoint
from runtime.runs.listing import summary_of
from runtime.view.live_figures import LiveFigures
from runtime.view.live_run import LiveRun

pytest.importorskip("starlette", reason="starlette is not installed")
pytest.importorskip("uvicorn", reason="uvicorn is not installed")

MODEL = """model Dead(hidden = 4) {
    input x: f32[batch, 2]
    h = relu((x |> dense(hidden)) - 1000)
    output y = h |> dense(1)
}

train Dead {
    data = csv("rows.csv")
    target t: f32[batch, 1]
    loss = mse(y, t)
    optimizer = gradient_descent(lr = 0.01)
    epochs = 2
    batch = 8
}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of which every hidden unit is dead, so that only the last bias moves."""
    folder = tmp_path_factory.mktemp("live")
    draw = np.random.default_rng(3)
    rows = [f"{a:.3f},{b:.3f},{a - b:.3f}" for a, b in draw.normal(size=(40, 2))]
    (folder / "rows.csv").write_text("a,b,t\n" + "\n".join(rows) + "\n")
    (folder / "model.dl").write_text(MODEL)
    assert main(["train", str(folder / "model.dl"), "--out", str(folder / "run"), "--threads", "1"]) == 0
    return folder / "run"


def figures_of(run: Path) -> LiveFigures:
    source = run / "source" / "model.dl"
    return LiveFigures(run, Options(threads=1), {str(source): 0})


def test_figures_of_lines_are_those_of_the_step_that_follows(run: Path):
    figures = figures_of(run)
    at = figures.put_checkpoint()
    lines: Any = figures.lines(at)
    found = {row["line"]: row for row in lines}
    assert found[3] == {"file": 0, "line": 3, "gradient": 0.0, "ratio": 0.0, "dead": 4, "saturated": 0, "units": 4}
    # of the last layer, the weights get no gradient, and the bias twice the mean error of the next batch
    assert found[4]["ratio"] == 0.0
    bias = newest_checkpoint(run / "checkpoints").checkpoint.weights
    name = next(name for name, values in bias.items() if values.shape == (1,))
    targets = [float(line.split(",")[2]) for line in (run.parent / "rows.csv").read_text().splitlines()[1:]]
    assert 0 < found[4]["gradient"] <= 2 * max(abs(float(bias[name][0]) - t) for t in targets)


def test_the_most_wrong_rows_are_those_with_the_highest_losses(run: Path):
    figures = figures_of(run)
    figures.put_checkpoint()
    found: Any = figures.samples()
    losses = [row["loss"] for row in found["rows"]]
    assert len(losses) == 8
    assert losses == sorted(losses, reverse=True)
    assert found["measured"] == 40
    assert figures.text() is None


def test_orders_need_a_training_and_a_folder_that_can_be_written(run: Path, monkeypatch: pytest.MonkeyPatch):
    following = LiveRun(run, Options(threads=1), {}, lambda kind, data: None)
    try:
        with pytest.raises(UsageError, match="not training"):
            following.order(live.PAUSE)
        with pytest.raises(UsageError, match="no order"):
            following.order("delete everything")
        monkeypatch.setattr(live, "training_of", lambda run: "process 1")
        monkeypatch.setattr(live, "live_folder", lambda run: None)
        (run / live.FOLDER).write_text("in the way")
        with pytest.raises(DataError, match="cannot be told"):
            following.order(live.PAUSE)
    finally:
        (run / live.FOLDER).unlink(missing_ok=True)
        following.close()


def test_nothing_is_computed_unless_a_page_asks(run: Path):
    told: list[str] = []
    following = LiveRun(run, Options(threads=1), {}, lambda kind, data: told.append(kind))
    following.close()
    assert told == []
    assert not (run / live.FOLDER).exists()


@contextmanager
def training(folder: Path, *arguments: str) -> Generator[tuple[subprocess.Popen[str], str]]:
    """A training of the digits with a page, which is ended however the test ends."""
    model = ROOT / "examples" / "digits" / "model.dl"
    command = [sys.executable, "-m", "runtime.cli", "train", str(model), "--view", "--threads", "1", *arguments]
    with subprocess.Popen([*command, "--out", str(folder)], cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        url = next(line.split()[1] for line in lines if line.startswith("page: "))
        threading.Thread(target=process.stderr.read, daemon=True).start()
        try:
            yield process, url
        finally:
            process.kill()


def step_in(text: str) -> str:
    found = re.search(r"step ([\d,]+) of", text)
    assert found is not None
    return found[1]


def test_a_browser_pauses_a_training_lets_it_go_on_and_stops_it(tmp_path: Path):
    def state(tab: Any, said: str) -> None:
        tab.locator(".training-state", has_text=re.compile(f"^{said}")).wait_for(timeout=150_000)

    folder = tmp_path / "run"
    with training(folder, "--epochs", "200000") as (process, url), browser() as running, opened(running, url) as tab:
        assert tab.locator("#live").is_visible()
        state(tab, "Training")
        tab.locator(".training-lines tbody tr").first.wait_for(timeout=150_000)
        tab.locator(".wrong-row canvas").first.wait_for(timeout=150_000)
        assert "of 128" in tab.inner_text(".training-lines")
        expect_reading_that_stays(tab)
        tab.keyboard.press("Space")
        state(tab, "Paused")
        paused = tab.inner_text(".training-head")
        tab.wait_for_timeout(1500)
        assert step_in(tab.inner_text(".training-head")) == step_in(paused)
        tab.get_by_role("button", name="Go on").click()
        state(tab, "Training")
        tab.locator(".training-lines .goes").first.click()
        assert tab.locator("#ledger").is_visible()
        tab.keyboard.press("v")
        tab.get_by_role("button", name="Stop after the epoch").click()
        state(tab, "Not training")  # the page ends with the training, as there is no terminal
        assert process.wait(150) == INTERRUPTED
    summary = summary_of(folder)
    assert summary.state == "interrupted"
    assert summary.epochs > 0
    assert not (tmp_path / "run" / live.FOLDER).exists()


def expect_reading_that_stays(tab: Any) -> None:
    """A curve that is read out by keys keeps the focus and its step while it grows."""
    trace = tab.locator(".trace").first
    trace.locator("svg").focus()
    tab.keyboard.press("Home")
    read, curve = trace.locator("[aria-live]").inner_text(), trace.locator("path").first.get_attribute("d")
    assert "at step" in read
    trace.locator(f'path:nth-of-type(1):not([d="{curve}"])').first.wait_for(state="attached")
    assert trace.locator("svg").evaluate("picture => picture === document.activeElement")
    assert trace.locator("[aria-live]").inner_text().split(",")[0] == read.split(",")[0]
    tab.keyboard.press("Escape")


def test_a_killed_training_ends_its_page(tmp_path: Path):
    with training(tmp_path / "run", "--epochs", "200000") as (process, url):
        process.send_signal(signal.SIGKILL)
        process.wait(20)
    port = int(url.split(":")[2].split("/")[0])
    for _ in range(200):
        with socket.socket() as asked:
            if asked.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.1)
    raise AssertionError("the page is still served")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port", "0"], "--port goes with --view"),
        (["--view", "--overfit", "4"], "--overfit does not go with --view"),
        (["--view", "--dry-run"], "--dry-run does not go with --view"),
    ],
)
def test_a_page_needs_a_run(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]):
    assert main(["train", str(ROOT / "examples" / "xor" / "model.dl"), *arguments]) == 2
    assert said in capsys.readouterr().err


def test_json_tells_the_address(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model = ROOT / "examples" / "xor" / "model.dl"
    assert main(["train", str(model), "--view", "--json", "--epochs", "1", "--out", str(tmp_path / "run")]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events][:2] == ["page", "start"]
    assert events[0]["url"].startswith("http://127.0.0.1:")
