"""`precision` in `train`: f64, in which the program computes everywhere, and bf16, for products of a step."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import product_numbers
import pytest
from killing import write_project

import dlc
from compiler.errors.diagnostics import UsageError
from compiler.interface import Options
from compiler.machine import Bf16
from compiler.targets.registry import kernel_target_of, target_of
from runtime.cli.main import main
from runtime.runs.checkpoint import newest_checkpoint


def why_not() -> str | None:
    try:
        target_of(Options()).expect_products(Options(products="bf16"))
    except UsageError as error:
        return str(error)
    return None


WHY_NOT = why_not()
in_bf16 = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
WIDE = product_numbers.WIDE.replace("PRECISION", "bf16")


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


@in_bf16
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


@in_bf16
@pytest.mark.usefixtures("_wide")
def test_steps_have_the_bits_of_the_definition() -> None:
    """Where nothing but products rounds differently, NumPy computes the bits of native code, step by step."""
    exact = WIDE.replace("dense(width)", "dense(width, bias = false)").replace("dense(8)", "dense(8, bias = false)")
    exact = exact.replace("tanh", "relu").replace("adam(lr = 0.01)", "gradient_descent(lr = 0.0625)")
    Path("exact.dl").write_text(exact)
    train = ["train", "exact.dl", "--json", "--out"]
    assert main([*train, "named", "--target", "reference"]) == 0
    assert main([*train, "plain", "--target", "reference", "--set", "precision=f32"]) == 0
    named, plain = weights_of("named"), weights_of("plain")
    assert all(np.abs(values - plain[name]).max() > 1e-5 for name, values in named.items())
    for number, options in enumerate((["--threads", "1"], ["--threads", "2"], ["--no-fuse"])):
        assert main([*train, str(number), *options]) == 0
        assert all(np.array_equal(values, named[name]) for name, values in weights_of(str(number)).items())


@in_bf16
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
        (["--target", "avx2"], "`precision = bf16` is not possible: code for `avx2` has neither AMX nor AVX512-BF16"),
        (["--set", "precision=tf32"], "`precision = tf32` is not possible: no processor has products of tf32"),
        (["--set", "precision=tf32", "--dtype", "f64"], "`precision = tf32` and f64 exclude each other"),
        (["--set", "precision=tf32", "--target", "gpu"], "GPU"),
        (["--set", "precision=f16"], "`precision` is `f32`, `f64`, `bf16` or `tf32`"),
    ):
        assert main(["train", "wide.dl", "--out", "run", *options]) in (1, 2)
        assert message in capsys.readouterr().err
        assert not Path("run").exists()


@pytest.mark.usefixtures("_wide")
def test_the_name_of_a_precision_stands_without_quotes_in_a_model_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "wide.dl"]) == 0
    Path("quoted.dl").write_text(WIDE.replace("= bf16", '= "bf16"'))
    assert main(["check", "quoted.dl"]) == 1
    assert "the name stands without quotes" in capsys.readouterr().out
    assert dlc.load("wide.dl", precision="f64").parameters["y.dense.W"].dtype == np.float64


@in_bf16
@pytest.mark.usefixtures("_wide")
def test_another_instruction_set_is_what_the_hint_says_to_leave_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "wide.dl", "--epochs", "1", "--out", "run"]) == 0
    for command in (["wide.dl", "--out", "other"], ["--resume", "run", "--epochs", "2"]):
        capsys.readouterr()
        assert main(["train", *command, "--target", "avx2"]) == 2
        assert "hint: leave `--target` out" in capsys.readouterr().err


@in_bf16
@pytest.mark.usefixtures("_wide")
def test_a_measurement_says_what_it_computes_in(capsys: pytest.CaptureFixture[str]) -> None:
    for mode, precision in (("train", "f32, products in bf16"), ("infer", "f32")):
        capsys.readouterr()
        assert main(["bench", "wide.dl", "--mode", mode, "--seconds", "0.05", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["precision"] == precision


@in_bf16
@pytest.mark.usefixtures("_wide")
def test_stages_show_how_the_processor_multiplies(capsys: pytest.CaptureFixture[str]) -> None:
    said = {
        Bf16.TILES: {"tiles": "tiles of 16 x 16 sums", "loops": "tiles 2 x", "llvm": "tdpbf16ps", "asm": "tdpbf16ps"},
        Bf16.PAIRS: {"tiles": "2 vectors of 16 sums", "loops": "in pairs", "llvm": "dpbf16ps", "asm": "vdpbf16ps"},
    }
    how = kernel_target_of(Options()).machine(Options()).bf16
    assert how is not None
    for stage, words in said[how].items():
        capsys.readouterr()
        assert main(["show", "wide.dl", "--stage", stage]) == 0
        assert words in capsys.readouterr().out


@in_bf16
@pytest.mark.usefixtures("_wide")
def test_a_run_in_bf16_stays_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "wide.dl", "--epochs", "1", "--out", "run"]) == 0
    capsys.readouterr()
    assert main(["train", "--resume", "run", "--set", "precision=f32", "--epochs", "2"]) == 2
    assert "a run cannot change its `precision`" in capsys.readouterr().err
    assert main(["export", "run", "--to", "c", "--training", "--output", "library"]) == 2
    assert "products in bf16" in capsys.readouterr().err
    assert main(["replay", "run", "--step", "2"]) == 0
