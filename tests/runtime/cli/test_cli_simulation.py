"""`dlc profile --simulate-threads`: its parts add up, and what does not go with it is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime.cli.main import main

MODEL = """
model Two(hidden = 192) {
    input x: f32[batch, 128]
    h = x |> dense(hidden) |> relu
    output y = h |> dense(64)
}

train Two {
    data = csv("none.csv")
    target label: i32[batch] in 0..64
    loss = cross_entropy(y, label)
    optimizer = adam(lr = 1e-3)
    batch = 64
    epochs = 1
ACCUMULATION}
"""


@pytest.fixture
def model(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "two.dl"
    path.write_text(MODEL.replace("ACCUMULATION", getattr(request, "param", "")))
    return path


@pytest.mark.parametrize("model", ["", "    accumulate = 2\n"], indirect=True)
def test_the_parts_of_a_simulated_step_add_up(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", str(model), "--simulate-threads", "8", "--seconds", "0.1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    parts = sum(found[f"{name}_ms"] for name in ("even", "serial", "uneven", "barrier", "memory"))
    assert parts == pytest.approx(found["step_ms"])
    assert found["efficiency"] == pytest.approx(found["one_ms"] / found["step_ms"] / 8)
    assert found["barrier_ms"] == pytest.approx(found["barriers"] * found["barrier_us"] * 1e-3)
    assert found["barriers"] > 0
    kernels = found["kernels"]
    assert sum(row["ms"] for row in kernels) + found["barrier_ms"] == pytest.approx(found["step_ms"])
    assert any(1 < row["sharers"] <= 8 for row in kernels)
    assert [row["lost_ms"] for row in kernels] == sorted((row["lost_ms"] for row in kernels), reverse=True)


def test_what_a_barrier_takes_may_be_given(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["profile", str(model), "--simulate-threads", "64", "--seconds", "0.1", "--json"]
    assert main([*arguments, "--barrier-us", "100", "--bandwidth", "10"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["barrier_us"], found["barrier_is"], found["bandwidth_gbs"]) == (100, "given", 10)
    assert found["barrier_ms"] == pytest.approx(0.1 * found["barriers"])


def test_it_is_readable(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", str(model), "--simulate-threads", "4", "--mode", "infer", "--batch", "64"]) == 0
    text = capsys.readouterr().out
    assert all(len(row) <= 80 for row in text.splitlines())
    assert "efficiency" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["--simulate-threads", "0"],
        ["--simulate-threads", "4", "--trace", "x.json"],
        ["--simulate-threads", "4", "--threads", "2"],
        ["--simulate-threads", "4", "--by", "line"],
        ["--barrier-us", "1"],
        ["--bandwidth", "1"],
    ],
)
def test_what_does_not_go_together_is_misuse(
    model: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", str(model), *arguments]) == 2
    assert "Traceback" not in capsys.readouterr().err
