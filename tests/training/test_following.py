"""Schedules of `(lr, t, metric)`: their states move at the end of each epoch, and a resumed training has them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from elaboration import codes, mistakes
from killing import final_state, write_project

from runtime.cli.main import main
from runtime.runs.checkpoint import newest_checkpoint

SETTINGS = "factor = 0.5, patience = 1, min_change = 0.02, floor = 0.1"


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_project(tmp_path, epochs=8)
    monkeypatch.chdir(tmp_path)


def epochs(capsys: pytest.CaptureFixture[str], *settings: str) -> list[dict[str, float]]:
    options = [part for setting in settings for part in ("--set", setting)]
    assert main(["train", "model.dl", *options, "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()][1:-1]


@pytest.mark.parametrize("target", ["native", "reference"])
def test_the_schedule_of_the_library_is_the_plateau_of_the_runtime(
    target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    on = f"schedule=reduce_on_plateau({SETTINGS})"
    options = ["--target", target]
    assert main(["train", "model.dl", "--set", on, "--json", *options]) == 0
    followed = [json.loads(line) for line in capsys.readouterr().out.splitlines()][1:-1]
    plateau = ["--set", "schedule=constant", "--set", f"plateau=reduce({SETTINGS})"]
    assert main(["train", "model.dl", *plateau, "--json", *options]) == 0
    reduced = [json.loads(line) for line in capsys.readouterr().out.splitlines()][1:-1]
    assert len({epoch["rate"] for epoch in followed}) > 2, "the rate falls several times"
    for one, other in zip(followed, reduced, strict=True):
        assert one["rate"] == pytest.approx(other["rate"], rel=1e-6)
        assert one["val_loss"] == pytest.approx(other["val_loss"], rel=1e-4)


def test_states_and_the_metric_hold_between_epochs(capsys: pytest.CaptureFixture[str]) -> None:
    """The rate of a step is the body's result with the states of the last epoch, at whose end they moved."""
    text = Path("model.dl").read_text()
    schedule = """
schedule counted(lr, t, metric) {
    state ended = zeros
    state seen = ones
    ended = ended + 1
    seen = metric
    return lr * (1 + ended) + 0 * t + where(metric == seen, 0, 1)
}
"""
    Path("model.dl").write_text(schedule + text)
    found = epochs(capsys, "schedule=counted", "optimizer.lr=0.001")
    assert [epoch["rate"] for epoch in found] == pytest.approx([1.001, *(0.001 * k for k in range(2, 9))], rel=1e-5)


def test_an_interrupted_training_goes_on_with_the_same_states(capsys: pytest.CaptureFixture[str]) -> None:
    on = ["--set", f"schedule=reduce_on_plateau({SETTINGS})"]
    assert main(["train", "model.dl", *on, "--out", "whole", "--json"]) == 0
    newest = newest_checkpoint(Path("whole/checkpoints"))
    assert newest.checkpoint.position.kept["(schedule).share"] < 1
    wanted = final_state(Path("whole"))
    (newest.path / "weights.safetensors").write_bytes(b"damaged")
    assert main(["train", "--resume", "whole", "--json"]) == 0
    assert "is passed over" in capsys.readouterr().err
    assert final_state(Path("whole")) == wanted


def test_the_schedule_is_shown_as_it_starts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lr", "model.dl", "--schedule", "--set", "schedule=reduce_on_plateau()", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rates"] == pytest.approx([0.01] * 400)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("state s = zeros\n    s = s + metric\n    return lr / (1 + s)", []),
        ("return lr * metric", []),
        ("state s = uniform()\n    s = s + metric\n    return lr * s", ["E0503"]),
        ("state s: [3] = zeros\n    s = s + metric\n    return lr * sum(s)", ["E0503"]),
    ],
)
def test_a_state_is_a_number_that_is_known(body: str, code: list[str]) -> None:
    text = Path("model.dl").read_text().replace("EPOCHS", "3")
    found = mistakes(f"schedule follow(lr, t, metric) {{\n    {body} + 0 * t\n}}\n{text}", ("schedule", "follow"))
    assert codes(found) == code
