"""Doubles of the data reach a program of f64 as they are, from every source that has them; one of f32 rounds them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import dlc
from runtime.cli.main import main

_MODEL = """
model Same() {
    input x: f32[batch, 2]
    param b: [2] = zeros
    output y = x + b
}

train Same {
    data = SOURCE
    target t: f32[batch, 2]
    loss = mean((y - t) ^ 2)
    optimizer = adam(lr = 0.0)
    epochs = 1
    batch = 8
}
"""
_X = np.random.default_rng(0).random((20, 2))
_T = _X * (1 + 1e-10)  # which f32 cannot tell from _X
_SOURCES = {"csv": 'csv("d.csv", target = ["c", "d"])', "npz": 'npz("d.npz")'}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    np.savez(tmp_path / "d.npz", x=_X, t=_T)
    np.save(tmp_path / "x.npy", _X)
    for name, columns, table in (("d", "a,b,c,d", np.hstack([_X, _T])), ("x", "a,b", _X)):
        np.savetxt(tmp_path / f"{name}.csv", table, "%.17g", ",", header=columns, comments="")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _trained(folder: Path, source: str, *options: str) -> str:
    (folder / "model.dl").write_text(_MODEL.replace("SOURCE", source))
    assert main(["train", "model.dl", "--out", "run", "--target", "reference", *options]) == 0
    return "run"


def _predicted(capsys: pytest.CaptureFixture[str], run: str, file: str) -> list[list[float]]:
    capsys.readouterr()
    assert main(["predict", run, "--input", file, "--target", "reference"]) == 0
    return [json.loads(line)["y"] for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    "more", [("--dtype", "f64"), ("--set", "precision=f64"), ("--dtype", "f64", "--set", "stream=8")]
)
@pytest.mark.parametrize("source", list(_SOURCES))
def test_a_run_of_f64_reads_doubles(
    folder: Path, capsys: pytest.CaptureFixture[str], source: str, more: tuple[str, ...]
) -> None:
    run = _trained(folder, _SOURCES[source], *more)
    assert "rounded" not in capsys.readouterr().err
    for file in ("x.csv", "x.npy", "d.npz"):
        assert _predicted(capsys, run, file) == _X.tolist(), file
    assert main(["eval", run, "--json", "--target", "reference"]) == 0
    assert json.loads(capsys.readouterr().out)["loss"] == pytest.approx(np.mean((_X - _T) ** 2), rel=1e-6)


def test_a_run_of_f32_rounds_them_and_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = _trained(folder, _SOURCES["npz"])
    assert "`x` is f64 and was rounded to f32" in capsys.readouterr().err
    rounded = np.asarray(_predicted(capsys, run, "x.csv"), np.float32)
    np.testing.assert_array_equal(rounded, _X.astype(np.float32))


def test_scaled_columns_are_not_rounded_either(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The means and deviations are those that they ever were: of the doubles of the table."""
    run = _trained(folder, 'csv("d.csv", target = ["c", "d"], normalise = true)', "--dtype", "f64")
    scaled = (_X - _X.mean(0)) / _X.std(0)
    np.testing.assert_allclose(_predicted(capsys, run, "x.csv"), scaled, rtol=1e-12, atol=1e-14)


def test_arrays_from_python(folder: Path) -> None:
    (folder / "model.dl").write_text(_MODEL.replace("SOURCE", _SOURCES["npz"]))
    wide = dlc.load("model.dl", dtype="f64", target="reference")
    np.testing.assert_array_equal(wide.predict({"x": _X})["y"], _X)
    assert wide.evaluate({"x": _X, "t": _T})["loss"] == pytest.approx(np.mean((_X - _T) ** 2), rel=1e-6)
    result = wide.train({"x": _X, "t": _T}, epochs=1)
    assert result.history[0].scalars["loss"] == pytest.approx(np.mean((_X - _T) ** 2), rel=1e-6)
    narrow = dlc.load("model.dl", target="reference")
    np.testing.assert_array_equal(narrow.predict({"x": _X})["y"], _X.astype(np.float32))


def test_a_resumed_run_and_a_model_file_read_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = _trained(folder, _SOURCES["npz"], "--dtype", "f64")
    assert main(["train", "--resume", run, "--epochs", "2"]) == 0
    losses = [json.loads(line)["loss"] for line in (folder / run / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] == pytest.approx(np.mean((_X - _T) ** 2), rel=1e-6)
    weights = str(max((folder / run).glob("checkpoints/*/weights.safetensors")))
    capsys.readouterr()
    model = ("model.dl", "--weights", weights, "--dtype", "f64", "--target", "reference")
    assert main(["predict", *model, "--input", "x.npy"]) == 0
    assert [json.loads(line)["y"] for line in capsys.readouterr().out.splitlines()] == _X.tolist()
