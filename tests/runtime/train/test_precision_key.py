"""`precision = f64` in `train`: the program computes in f64, in training and wherever its run is used."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from killing import write_project

import dlc
from runtime.cli.main import main
from runtime.runs.checkpoint import newest_checkpoint


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_project(tmp_path, epochs=2)
    monkeypatch.chdir(tmp_path)


def test_the_key_is_the_option_of_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "model.dl", "--set", "precision=f64", "--out", "key", "--json"]) == 0
    assert main(["train", "model.dl", "--dtype", "f64", "--out", "option", "--json"]) == 0
    found, wanted = (newest_checkpoint(Path(run) / "checkpoints").checkpoint for run in ("key", "option"))
    for name, values in found.weights.items():
        assert values.dtype == np.float64
        assert np.array_equal(values, wanted.weights[name])
    epochs = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert main(["eval", "key", "--part", "validation", "--json"]) == 0
    best = min(epoch["val_loss"] for epoch in epochs if epoch["event"] == "epoch")
    assert json.loads(capsys.readouterr().out)["loss"] == pytest.approx(best, rel=1e-12)


def test_a_model_of_the_library_has_it_too() -> None:
    text = Path("model.dl").read_text().replace("batch = 8", "batch = 8\n    precision = f64")
    Path("model.dl").write_text(text)
    assert all(values.dtype == np.float64 for values in dlc.load("model.dl").parameters.values())


def test_a_run_keeps_its_precision(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "model.dl", "--out", "narrow"]) == 0
    assert main(["train", "model.dl", "--set", "precision=f64", "--out", "wide"]) == 0
    assert main(["eval", "wide", "--dtype", "f64"]) == 0
    capsys.readouterr()
    assert main(["eval", "narrow", "--dtype", "f64"]) == 2
    assert "a run cannot change its element type, f32" in capsys.readouterr().err
    with pytest.raises(dlc.UsageError, match="cannot change its element type"):
        dlc.load("narrow", dtype="f64")
