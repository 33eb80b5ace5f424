"""`precision` in `train`: f64, in which the program computes everywhere, and bf16, for products of a step."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from killing import write_project

import dlc
from compiler.errors.diagnostics import UsageError
from compiler.interface import Options
from compiler.targets.registry import target_of
from runtime.cli.main import main
from runtime.runs.checkpoint import newest_checkpoint


def why_not() -> str | None:
    try:
        target_of(Options()).expect_products(Options(products="bf16"))
    except UsageError as error:
        return str(error)
    return None


WHY_NOT = why_not()
in_tiles = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
WIDE = """
model Wide(width = 48) {
    input x: f32[batch, 24]
    output y = x |> dense(width) |> tanh |> dense(width) |> tanh |> dense(8)
}

train Wide {
    data = npz("rows.npz")
    validation = 0.25
    target z: f32[batch, 8]
    loss = mean((y - z) ^ 2)
    optimizer = adam(lr = 0.01)
    precision = bf16
    batch = 32
    epochs = 3
}
"""


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


@pytest.fixture
def _wide() -> None:
    random = np.random.default_rng(1)
    x = random.normal(size=(128, 24)).astype(np.float32)
    np.savez("rows.npz", x=x, z=np.tanh(x @ random.normal(size=(24, 8)) / 4).astype(np.float32))
    Path("wide.dl").write_text(WIDE)


def weights_of(run: str) -> dict[str, np.ndarray]:
    return dict(newest_checkpoint(Path(run) / "checkpoints").checkpoint.weights)


@in_tiles
@pytest.mark.usefixtures("_wide")
def test_products_in_bf16_have_one_result(capsys: pytest.CaptureFixture[str]) -> None:
    """Threads, fusion, and an interruption change no bit; the reference and f32 differ by rounding."""
    train = ["train", "wide.dl", "--json", "--out"]
    assert main([*train, "whole", "--threads", "1"]) == 0
    assert main([*train, "alone", "--threads", "2", "--no-fuse"]) == 0
    assert main([*train, "parts", "--epochs", "1"]) == 0
    assert main(["train", "--resume", "parts", "--epochs", "3", "--json"]) == 0
    assert main([*train, "named", "--target", "reference"]) == 0
    assert main([*train, "plain", "--set", "precision=f32"]) == 0
    whole = weights_of("whole")
    for name, values in whole.items():
        assert values.dtype == np.float32
        assert all(np.array_equal(weights_of(run)[name], values) for run in ("alone", "parts"))
        np.testing.assert_allclose(weights_of("named")[name], values, rtol=0, atol=2e-3)
    largest = max(np.abs(weights_of("plain")[name] - values).max() for name, values in whole.items())
    assert 1e-5 < largest < 0.05
    capsys.readouterr()


@in_tiles
@pytest.mark.usefixtures("_wide")
def test_what_is_no_step_of_a_training_computes_in_f32(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "wide.dl", "--out", "run", "--json"]) == 0
    np.savez("asked.npz", x=np.load("rows.npz")["x"][:5])
    assert main(["predict", "run", "--input", "asked.npz", "--output", "found.npz"]) == 0
    weights, x = weights_of("run"), np.load("asked.npz")["x"]
    for layer in ("dense", "dense_2", "dense_3"):
        x = x @ weights[f"y.{layer}.W"] + weights[f"y.{layer}.b"]
        x = x if layer == "dense_3" else np.tanh(x)
    np.testing.assert_allclose(np.load("found.npz")["y"], x, rtol=0, atol=3e-6)
    capsys.readouterr()
    assert main(["eval", "run", "--part", "validation", "--target", "gpu-emulator"]) == 0


@pytest.mark.usefixtures("_wide")
def test_precisions_that_cannot_be_are_refused_before_anything_runs(capsys: pytest.CaptureFixture[str]) -> None:
    for options, message in (
        (["--dtype", "f64"], "`precision = bf16` and f64 exclude each other"),
        (["--target", "avx2"], "`precision = bf16` is not possible"),
        (["--target", "gpu-emulator"], "not compiled for a GPU yet"),
        (["--set", "precision=tf32"], "`precision = tf32` is not compiled yet"),
        (["--set", "precision=f16"], "`precision` is `f32`, `f64` or `bf16`"),
    ):
        assert main(["train", "wide.dl", "--out", "run", *options]) in (1, 2)
        assert message in capsys.readouterr().err
        assert not Path("run").exists()


@in_tiles
@pytest.mark.usefixtures("_wide")
def test_a_run_in_bf16_stays_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "wide.dl", "--epochs", "1", "--out", "run"]) == 0
    capsys.readouterr()
    assert main(["train", "--resume", "run", "--set", "precision=f32", "--epochs", "2"]) == 2
    assert "a run cannot change its `precision`" in capsys.readouterr().err
    assert main(["export", "run", "--to", "c", "--training", "--output", "library"]) == 2
    assert "products in bf16" in capsys.readouterr().err
    assert main(["replay", "run", "--step", "2"]) == 0
