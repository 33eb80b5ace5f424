"""`ema` in `train`: the average follows its formula, measures and predicts, and survives an interruption."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from killing import final_state, write_project

from compiler import driver
from compiler.driver import Options
from compiler.interface import Steps
from runtime.analysis.evaluation_data import evaluation_data
from runtime.cli.main import main
from runtime.data.part import Part
from runtime.inference.model import weight_names
from runtime.runs.checkpoint import newest_checkpoint
from runtime.runs.trained import open_trained_run
from runtime.train.jobs import DataParts, fresh_tensors, job_of, load_data
from runtime.train.keepers import MemoryKeeper

KEPT = 0.9


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_project(tmp_path, epochs=4)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("target", ["native", "reference"])
def test_the_average_of_each_step_is_that_of_the_formula(target: str) -> None:
    program = driver.load("model.dl", None, (("ema", str(KEPT)),))
    options = Options(target=target)
    data = load_data(program, None)
    tensors = fresh_tensors(program, options)
    keeper = MemoryKeeper(tensors, weight_names(program))
    job = job_of(program, DataParts(Part(data.train.arrays, data.train.rows[:40])), tensors, options, keeper)
    assert sorted(job.averages) == ["h.batch_norm.beta", "h.batch_norm.gamma", "h.dense.W", "h.dense.b",
                                    "logits.dense.W", "logits.dense.b"]  # fmt: skip
    wanted = {path: tensors[average].astype(np.float64) for path, average in job.averages.items()}
    for path, average in job.averages.items():
        assert np.array_equal(tensors[path], tensors[average]), "averages begin with the weights"
    for step in range(5):
        rows = job.train.rows[8 * step : 8 * step + 8]
        job.step.run(Steps(tensors, job.train.arrays, rows, 8, step, 0, job.settings))
        for path, average in job.averages.items():
            wanted[path] = KEPT * wanted[path] + (1 - KEPT) * tensors[path]
            np.testing.assert_allclose(tensors[average], wanted[path], rtol=1e-5, atol=1e-6)


def test_validation_and_checkpoints_use_the_averages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "model.dl", "--set", f"ema={KEPT}", "--out", "run", "--json"]) == 0
    epochs = [json.loads(line) for line in capsys.readouterr().out.splitlines()][1:-1]
    best = next(epoch for epoch in reversed(epochs) if epoch["best"])
    assert main(["eval", "run", "--part", "validation", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["loss"] == best["val_loss"]
    newest = newest_checkpoint(Path("run/checkpoints")).checkpoint
    assert set(newest.optimizer) >= {"h.dense.W:(average)"}
    assert not np.array_equal(newest.weights["h.dense.W"], newest.optimizer["h.dense.W:(average)"])
    assert main(["train", "model.dl", "--out", "plain", "--json"]) == 0
    plain = newest_checkpoint(Path("plain/checkpoints")).checkpoint
    raw = newest.optimizer["h.dense.W:(average)"]
    assert np.array_equal(raw, plain.weights["h.dense.W"]), "averages change nothing of the training itself"


def test_an_interrupted_training_ends_with_the_same_averages(capsys: pytest.CaptureFixture[str]) -> None:
    ema = ["--set", f"ema={KEPT}"]
    assert main(["train", "model.dl", *ema, "--out", "whole", "--json"]) == 0
    newest = newest_checkpoint(Path("whole/checkpoints")).path
    wanted = final_state(Path("whole"))
    (newest / "weights.safetensors").write_bytes(b"damaged")
    assert main(["train", "--resume", "whole", "--json"]) == 0
    assert "is passed over" in capsys.readouterr().err
    assert final_state(Path("whole")) == wanted


def test_a_run_with_averages_can_be_taken_over(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "model.dl", "--set", f"ema={KEPT}", "--out", "run", "--json"]) == 0
    trained = open_trained_run(Path("run"), False, (), Options())
    part = evaluation_data(trained, None, "validation").part
    assert len(part.rows) == 100
    assert main(["train", "model.dl", "--set", "ema=0.5", "--init-from", "run", "--epochs", "1", "--json"]) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[-2])
    assert first["loss"] < 0.6
