"""`precision = bf16` and `tf32` in `train` on an emulated GPU: beside f32, beside the reference, and elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import product_numbers
import pytest

from runtime.cli.main import main
from runtime.runs.checkpoint import newest_checkpoint

WIDE = product_numbers.WIDE.replace("PRECISION", "tf32")
EMULATED = ["--target", "gpu-emulator"]
TRAIN = ["train", "wide.dl", "--json", "--out"]
BOTH = pytest.mark.parametrize("precision", ["bf16", "tf32"])


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(1)
    x = random.normal(size=(128, 24)).astype(np.float32)
    np.savez("rows.npz", x=x, z=np.tanh(x @ random.normal(size=(24, 8)) / 4).astype(np.float32))
    Path("wide.dl").write_text(WIDE)


def weights_of(run: str) -> dict[str, np.ndarray]:
    return dict(newest_checkpoint(Path(run) / "checkpoints").checkpoint.weights)


@BOTH
def test_a_training_is_near_that_in_f32_and_has_one_result(precision: str) -> None:
    train, chosen = [*TRAIN], ["--set", f"precision={precision}", *EMULATED]
    assert main([*train, "whole", *chosen, "--verify"]) == 0
    assert main([*train, "alone", *chosen, "--no-fuse"]) == 0
    assert main([*train, "parts", *chosen, "--epochs", "1"]) == 0
    assert main(["train", "--resume", "parts", *EMULATED, "--epochs", "3", "--json"]) == 0
    assert main([*train, "plain", "--set", "precision=f32"]) == 0
    whole, plain = weights_of("whole"), weights_of("plain")
    for name, values in whole.items():
        assert values.dtype == np.float32
        assert all(np.array_equal(weights_of(run)[name], values) for run in ("alone", "parts"))
    largest = max(np.abs(plain[name] - values).max() for name, values in whole.items())
    assert (1e-5 if precision == "bf16" else 1e-6) < largest < (0.05 if precision == "bf16" else 0.01)


def test_steps_in_tf32_have_the_bits_of_the_definition() -> None:
    """Where nothing but products rounds differently, NumPy computes the bits of the emulator, step by step."""
    exact = WIDE.replace("dense(width)", "dense(width, bias = false)").replace("dense(8)", "dense(8, bias = false)")
    exact = exact.replace("tanh", "relu").replace("adam(lr = 0.01)", "gradient_descent(lr = 0.0625)")
    Path("wide.dl").write_text(exact)
    assert main([*TRAIN, "named", "--target", "reference"]) == 0
    assert main([*TRAIN, "plain", "--target", "reference", "--set", "precision=f32"]) == 0
    assert main([*TRAIN, "emulated", *EMULATED]) == 0
    named, plain, emulated = map(weights_of, ("named", "plain", "emulated"))
    for name, values in named.items():
        assert np.array_equal(values, emulated[name])
        assert np.abs(values - plain[name]).max() > 1e-6


@BOTH
def test_what_is_no_step_of_a_training_computes_in_f32(precision: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TRAIN, "run", *EMULATED, "--set", f"precision={precision}", "--epochs", "1"]) == 0
    np.savez("asked.npz", x=np.load("rows.npz")["x"][:5])
    found: list[np.ndarray] = []
    for options in ([], EMULATED):
        assert main(["predict", "run", "--input", "asked.npz", "--output", "found.npz", *options]) == 0
        found.append(np.load("found.npz")["y"])
    assert np.array_equal(found[0], found[1])
    assert main(["eval", "run", "--part", "validation"]) == 0
    assert main(["export", "run", "--to", "c", "--output", "library"]) == 0
    capsys.readouterr()
    assert main(["export", "run", "--to", "c", "--training", "--output", "other"]) == 2
    assert f"products in {precision}" in capsys.readouterr().err


@BOTH
def test_a_run_goes_on_with_its_own_target_alone(precision: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each target adds up these products in its own order."""
    assert main([*TRAIN, "run", *EMULATED, "--set", f"precision={precision}", "--epochs", "1"]) == 0
    for target in ("native", "gpu", "reference"):
        capsys.readouterr()
        assert main(["train", "--resume", "run", "--epochs", "2", "--target", target]) == 2
        assert "a run cannot change its target" in capsys.readouterr().err
    assert main(["train", "--resume", "run", "--set", "precision=f32", "--epochs", "2"]) == 2
    assert "a run cannot change its `precision`" in capsys.readouterr().err
    assert main(["train", "--resume", "run", "--epochs", "2"]) == 0
    assert main(["replay", "run", "--step", "2"]) == 0


def test_a_processor_refuses_tf32_before_anything_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TRAIN, "run"]) == 2
    said = capsys.readouterr().err
    assert "no processor has products of tf32" in said
    assert "train with `--target gpu`" in said
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("stage", "target", "words"),
    [
        ("tiles", "gpu", "multiplied by warps in tf32"),
        ("loops", "gpu", "] in tf32 + ["),
        ("llvm", "gpu", "@llvm.nvvm.mma.m16n8k8.row.col.tf32"),
        ("llvm", "gpu-emulator", "chain_tf32"),
        ("ptx", "gpu", "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32"),
        ("schedule", "gpu", "tf32_contraction"),
    ],
)
def test_stages_show_how_a_gpu_multiplies(
    stage: str, target: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", "wide.dl", "--stage", stage, "--target", target]) == 0
    assert words in capsys.readouterr().out
    assert main(["show", "wide.dl", "--stage", stage]) == 2
    assert "no processor has products of tf32" in capsys.readouterr().err


def test_a_plan_is_that_of_the_device(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "wide.dl", "--target", "gpu"]) == 0
    assert "tf32_contraction" in capsys.readouterr().out
    assert main(["plan", "wide.dl"]) == 2
    assert "no processor has products of tf32" in capsys.readouterr().err


@BOTH
def test_older_devices_are_refused(precision: str, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = ["--set", f"precision={precision}", "--target", "gpu-sm_75"]
    for command in (["show", "wide.dl", "--stage", "ptx", *chosen], ["plan", "wide.dl", *chosen]):
        assert main(command) == 2
        said = capsys.readouterr().err
        assert f"`precision = {precision}` needs a GPU of compute capability 8.0 or later, not sm_75" in said
