"""A step that is not finite: where it comes from, what is kept, and what `--on-nan` does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.cli.main import main
from runtime.runs.checkpoint import newest_checkpoint
from runtime.runs.tensor_files import read_tensors

TEXT = """model M {{
    input x: f32[batch, 4]
    h = x |> dense(6) |> tanh
    z = {z}
    output y = z |> dense(1)
}}
train M {{
    data = npz("data.npz")
    target t: f32[batch, 1]
    loss = {loss}
    optimizer = {optimizer}
    epochs = 3
    batch = 8
}}
"""
ROWS, BAD = 64, 37


@pytest.fixture(autouse=True)
def _in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code_cache: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLC_CACHE_DIR", str(code_cache))
    random = np.random.default_rng(0)
    t = np.abs(random.normal(size=(ROWS, 1))).astype(np.float32) + 0.1
    t[BAD] = -1
    np.savez("data.npz", x=random.normal(size=(ROWS, 4)).astype(np.float32), t=t)


def train(
    *arguments: str, z: str = "2 * h", loss: str = "mean((y - sqrt(t)) ^ 2)", optimizer: str = "adam(lr = 0.01)"
) -> int:
    Path("model.dl").write_text(TEXT.format(z=z, loss=loss, optimizer=optimizer))
    return main(["train", "model.dl", "--threads", "1", *arguments])


def events(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_stop_names_the_line_the_row_and_the_operand(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--out", "run") == 1
    error = capsys.readouterr().err
    assert "error: `loss` became NaN or infinite at step 6 (epoch 1)" in error
    assert "model.dl:10, forward: `sqrt` gives nan at [batch 2 (row 37 of the data), 0]" in error
    assert "loss = mean((y - sqrt(t)) ^ 2)" in error
    assert "from -1" in error
    assert "run keeps the last good state" in error


def test_what_is_kept_is_the_state_before_the_step() -> None:
    """The same bits as a training that ends there."""
    assert train("--out", "stopped") == 1
    assert train("--set", "steps=6", "--out", "ended") == 0
    kept, ended = (newest_checkpoint(Path(run, "checkpoints")) for run in ("stopped", "ended"))
    assert kept.checkpoint.position.step == ended.checkpoint.position.step == 6
    for part in ("weights", "optimizer"):
        ours, theirs = (getattr(found.checkpoint, part) for found in (kept, ended))
        assert ours.keys() == theirs.keys()
        assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_skip_leaves_out_the_step_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--on-nan", "skip", "--json", "--out", "run") == 0
    found = events(capsys)
    skipped = [event for event in found if event["event"] == "nonfinite"]
    assert [(event["epoch"], event["step"]) for event in skipped] == [(1, 6), (2, 15), (3, 19)]
    assert all("(row 37 of the data)" in event["text"] for event in skipped)
    epochs = [event for event in found if event["event"] == "epoch"]
    assert len(epochs) == 3
    assert all(event["loss"] is not None for event in epochs)
    weights = read_tensors(newest_checkpoint(Path("run/checkpoints")).path / "weights.safetensors")
    assert all(np.isfinite(array).all() for array in weights.values())


def test_no_state_is_reached_again_through_a_step_that_was_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where copying is dear, so that the only copies are those of the steps that are gone back to."""
    assert train("--on-nan", "skip", "--out", "often") == 0
    monkeypatch.setattr("runtime.train.snapshots._SHARE", 1e-12)
    assert train("--on-nan", "skip", "--out", "seldom") == 0
    often, seldom = (
        read_tensors(newest_checkpoint(Path(run, "checkpoints")).path / "weights.safetensors")
        for run in ("often", "seldom")
    )
    assert all(np.array_equal(often[name], seldom[name]) for name in often)


def test_steps_that_are_all_spoilt_end_the_training(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--on-nan", "skip", loss="mean(log(y - 100))") == 1
    assert "`loss` became NaN or infinite at step 10" in capsys.readouterr().err


def test_report_tells_it_once_and_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--on-nan", "report", "--json", "--out", "run") == 0
    found = events(capsys)
    assert [event["step"] for event in found if event["event"] == "nonfinite"] == [6]
    assert found[-1]["event"] == "end"
    speeds = [event["samples_per_second"] for event in found if event["event"] == "epoch"]
    assert max(speeds) < 1e9, "steps that are not finite take their time, too"


def test_the_first_cause_stands_before_what_became_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert train(z="exp(60 * x) / sum(exp(60 * x), axis = 1, keepdims = true)[:, 0:1]") == 1
    error = capsys.readouterr().err
    assert "model.dl:4, forward: " in error
    assert "the first cause: model.dl:4, forward: `exp` gives inf at [batch" in error


def test_a_gradient_is_laid_to_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The root of 0 is finite, and its slope is not."""
    assert train(z="sqrt(abs(h) * 0.0 + 0.0 * abs(x[:, 0:1]))", loss="mean((y - t) ^ 2)") == 1
    assert "model.dl:4, backward: " in capsys.readouterr().err


def test_weights_that_explode_are_found_in_the_update(capsys: pytest.CaptureFixture[str]) -> None:
    assert train(loss="mean((y - t) ^ 2)", optimizer="gradient_descent(lr = 1e37)") == 1
    error = capsys.readouterr().err
    assert "became NaN or infinite at step" in error
    assert ", update" in error or "forward" in error or "backward" in error


def test_data_that_is_no_number_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    data = dict(np.load("data.npz"))
    data["x"][11, 2] = np.nan
    np.savez("data.npz", x=data["x"], t=np.abs(data["t"]))
    assert train() == 1
    error = capsys.readouterr().err
    assert "the input x is nan at [batch" in error or "row 12" in error
