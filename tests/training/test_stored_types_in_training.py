"""Data and states of types that are only stored in trainings: targets agree, and a resumed run has the same bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stored_states import MEMORY

from runtime.cli.main import main
from runtime.runs.tensor_files import element_types, read_tensors

TEXT = (
    MEMORY
    + """
model Stored {
    input x: f16[batch, 4]
    input words: u16[batch, 3] in 0..300
    input q: i8[batch, 4]
    e = words |> embedding(300, 4) |> mean(axis = 1)
    h = cast((x |> memory(4)) + e + q * 0.01 |> dense(8) |> tanh, f16)
    output score = (h |> dense(1))[:, 0]
    output half = h
}

train Stored {
    target y: f16[batch]
    data = npz("rows.npz")
    loss = mean((score - y) ^ 2)
    metrics = [mae(score, y)]
    optimizer = adam(lr = 0.01)
    validation = 0.25
    epochs = 4
    batch = 16
}
"""
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    drawn = np.random.default_rng(0)
    x = drawn.normal(size=(96, 4)).astype(np.float16)
    words = drawn.integers(0, 300, (96, 3), np.uint16)
    q = drawn.integers(-128, 128, (96, 4)).astype(np.int8)
    np.savez(tmp_path / "rows.npz", x=x, words=words, q=q, y=x.sum(1))
    (tmp_path / "model.dl").write_text(TEXT)
    return tmp_path / "model.dl"


def trained(model: Path, name: str, *options: str) -> Path:
    assert main(["train", str(model), "--out", str(model.parent / name), *options]) == 0
    return model.parent / name


def weights(run: Path) -> Path:
    return max(run.glob("checkpoints/*/weights.safetensors"))


def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(model: Path) -> None:
    whole, first = trained(model, "whole"), trained(model, "first", "--epochs", "2")
    assert main(["train", "--resume", str(first), "--epochs", "4"]) == 0
    assert weights(whole).read_bytes() == weights(first).read_bytes()
    types = element_types(weights(whole))
    assert {name: kind for name, kind in types.items() if kind != "f32"} == {
        "h.memory.seen": "f16",
        "h.memory.count": "u16",
    }


@pytest.mark.parametrize("options", [("--target", "reference"), ("--threads", "1", "--no-fuse")])
def test_other_ways_to_compute_agree(options: tuple[str, ...], model: Path) -> None:
    usual, other = (read_tensors(weights(trained(model, name, *more))) for name, more in (("a", ()), ("b", options)))
    for name, array in usual.items():
        if options[0] == "--target":
            np.testing.assert_allclose(other[name], array, rtol=1e-3, atol=1e-3, err_msg=name)
        else:
            assert other[name].tobytes() == array.tobytes(), name


def test_predictions_have_the_types_of_the_outputs(model: Path) -> None:
    run = trained(model, "run")
    out = model.parent / "out.npz"
    assert main(["predict", str(run), "--input", str(model.parent / "rows.npz"), "--output", str(out)]) == 0
    with np.load(out) as found:
        assert {name: found[name].dtype.name for name in found} == {"score": "float32", "half": "float16"}


def test_states_of_f16_have_no_mean_over_shards(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(model), "--set", "shards=2"]) == 1
    assert "has no mean over shards: its elements are f16" in capsys.readouterr().err
