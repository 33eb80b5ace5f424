"""`dlc lr`: the range test finds the rate of the steepest descent, and the schedule is that of the training."""

from __future__ import annotations

import builtins
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compiler import driver
from compiler.interface import Steps
from runtime.analysis.rate_range import RateRange, smooth, steepest_descent
from runtime.cli.main import main

MODEL = """
model Line {
    input x: f32[batch, 2]
    output y = (x |> dense(1))[:, 0]
}

train Line {
    data = csv("rows.csv")
    target height: f32[batch]
    loss = mse(y, height)
    optimizer = gradient_descent(lr = 0.1)
    schedule = cosine(T = total_steps, floor = 0.01)
    epochs = 4
    batch = 16
}
"""


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(2)
    rows = [(draw.gauss(0, 1), draw.gauss(0, 1)) for _ in range(250)]
    lines = [f"{a:.4f},{b:.4f},{2 * a - b + 0.3:.4f}" for a, b in rows]
    (tmp_path / "rows.csv").write_text("a,b,height\n" + "\n".join(lines) + "\n")
    (tmp_path / "model.dl").write_text(MODEL)
    monkeypatch.chdir(tmp_path)


def test_smoothing_weighs_falling_and_starts_unbiased() -> None:
    assert smooth([3.0, 3.0, 3.0]) == pytest.approx([3.0] * 3)
    first, second = smooth([0.0, 1.0])
    assert first == 0
    assert 0.5 < second < 0.6


def test_the_steepest_descent_is_where_the_slope_over_the_logarithm_is_least() -> None:
    rates = np.geomspace(1e-4, 1.0, 81)
    losses = [1 / (1 + math.exp(3 * (math.log10(rate) + 2))) for rate in rates]
    assert steepest_descent(rates, losses) == pytest.approx(1e-2)
    rising = [1 - loss for loss in losses]
    assert steepest_descent(rates, rising) is None


def test_the_noise_of_the_first_losses_is_no_descent() -> None:
    rates = np.geomspace(1e-6, 1.0, 200)
    losses = [3.5 + (0.3 * (-1) ** i) - 2 / (1 + math.exp(-3 * (math.log10(rate) + 2))) for i, rate in enumerate(rates)]
    found = steepest_descent(rates, smooth(losses))
    assert found is not None
    assert 3e-3 < found < 0.1


def test_a_suggestion_keeps_away_from_the_divergence() -> None:
    def suggested(steepest: float | None, divergence: float | None) -> float | None:
        return RateRange("lr", (), (), (), steepest, divergence).suggestion

    assert suggested(0.1, 0.5) == 0.05
    assert suggested(0.01, 0.5) == 0.01
    assert suggested(0.1, None) == 0.1
    assert suggested(None, 0.5) is None


def test_a_range_test_compiles_one_program_and_stops_at_the_divergence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[float] = []
    compile_program = driver.compile_program

    def compiled(program: Any, kind: Any, options: Any) -> Any:
        executable = compile_program(program, kind, options)
        run = executable.run

        class Watched:
            def run(self, steps: Steps) -> Any:
                given.append(steps.settings["optimizer.lr"])
                return run(steps)

        compiles.append(program)
        return Watched()

    compiles: list[Any] = []
    monkeypatch.setattr(driver, "compile_program", compiled)
    assert main(["lr", "model.dl", "--from", "1e-4", "--to", "100", "--steps", "120", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(compiles) == 1
    assert found["setting"] == "optimizer.lr"
    assert found["rates"] == given
    assert len(given) < 120, "it stops where training falls apart"
    assert np.allclose(np.diff(np.log(given)), math.log(1e6) / 119)
    # For standardised inputs, the gradient of this loss is Lipschitz with a constant of about 2.
    assert 0.1 < found["divergence"] < 100
    assert found["suggestion"] <= found["divergence"] / 10
    assert not Path("runs").exists()


def test_the_suggested_rate_trains_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lr", "model.dl", "--set", "schedule.T=7"]) == 0
    output = capsys.readouterr()
    assert "optimizer.lr  smoothed loss" in output.out
    suggestion = output.err.rsplit("suggestion: --set ", 1)[1].strip()
    assert main(["train", "model.dl", "--set", suggestion, "--epochs", "40", "--json"]) == 0
    epochs = [json.loads(line) for line in capsys.readouterr().out.splitlines()][1:-1]
    assert epochs[-1]["loss"] < 0.02 * epochs[0]["loss"]


def test_the_schedule_is_that_of_the_training(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lr", "model.dl", "--schedule", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["total_steps"], found["steps_per_epoch"]) == (64, 16)
    assert found["steps"] == list(range(64))
    wanted = [0.01 + 0.5 * 0.09 * (1 + math.cos(math.pi * step / 64)) for step in range(64)]
    assert np.allclose(found["rates"], wanted, rtol=1e-5)
    assert main(["train", "model.dl", "--json"]) == 0
    epochs = [json.loads(line) for line in capsys.readouterr().out.splitlines()][1:-1]
    assert [epoch["rate"] for epoch in epochs] == [found["rates"][epoch["step"] - 1] for epoch in epochs]
    assert main(["lr", "model.dl", "--schedule"]) == 0
    assert capsys.readouterr().out.startswith("        step  optimizer.lr\n           0      0.1000  ████")


def test_the_longest_bar_is_that_of_the_largest_rate(capsys: pytest.CaptureFixture[str]) -> None:
    """A warm-up begins low: it is no measure of the others."""
    assert (
        main(["lr", "model.dl", "--schedule", "--set", "schedule=warmup(20, then = cosine(T = total_steps - 20))"]) == 0
    )
    bars = [line.count("█") for line in capsys.readouterr().out.splitlines()]
    assert bars.count(max(bars)) < 4


def test_a_long_schedule_is_sampled(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lr", "model.dl", "--schedule", "--set", "epochs=5000", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (len(found["steps"]), found["steps"][0], found["steps"][-1]) == (500, 0, 79_999)


def test_a_bare_model_has_no_rate(capsys: pytest.CaptureFixture[str]) -> None:
    Path("bare.dl").write_text(MODEL[: MODEL.index("train Line")])
    assert main(["lr", "bare.dl"]) == 2
    assert "Line has no `train`" in capsys.readouterr().err


def test_without_a_length_the_range_test_is_drawn_alone() -> None:
    text = Path("model.dl").read_text().replace("    epochs = 4\n", "").replace("total_steps", "64")
    Path("model.dl").write_text(text)
    assert main(["lr", "model.dl", "--steps", "20", "--plot"]) == 0
    drawn = Path("model-lr.svg").read_text()
    assert "range test</text>" in drawn
    assert "schedule" not in drawn.lower()


@pytest.mark.parametrize("arguments", [["--steps", "20"], ["--schedule"]])
def test_plots_are_files(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lr", "model.dl", *arguments, "--plot"]) == 0
    name = "model-schedule.svg" if "--schedule" in arguments else "model-lr.svg"
    assert f"plot in {name}" in capsys.readouterr().err
    first = Path(name).read_text()
    assert "optimizer.lr</text>" in first
    assert "schedule" in first.lower(), "a range test has the schedule below it"
    assert main(["lr", "model.dl", *arguments, "--plot", "again.svg"]) == 0
    assert Path("again.svg").read_text() == first, "the same figure is the same file"
    assert main(["lr", "model.dl", *arguments, "--plot", "x.png"]) == 0
    assert Path("x.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--from", "1", "--to", "0.1"], 2, "--from 1 is not below --to 0.1"),
        (["--from", "x"], 2, "--from: wants a number above 0, not `x`"),
        (["--schedule", "--plot", "x.jpg"], 2, "the format of x.jpg is not known"),
        (["--schedule", "--plot", "no/x.svg"], 2, "no/x.svg: there is no folder no"),
    ],
)
def test_mistakes_have_a_hint(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lr", "model.dl", *arguments]) == code
    assert message in capsys.readouterr().err


def test_without_matplotlib_the_message_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = builtins.__import__

    def without(name: str, *arguments: Any, **named: Any) -> Any:
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return original(name, *arguments, **named)

    for module in ("runtime.plots.figure", "runtime.plots.figure"):
        monkeypatch.delitem(__import__("sys").modules, module, raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    assert main(["lr", "model.dl", "--schedule", "--plot"]) == 2
    errors = capsys.readouterr().err
    assert "a plot needs matplotlib, which is not installed" in errors
    assert "hint: pip install 'dlc[plot]'" in errors
