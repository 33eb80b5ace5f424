"""Optimizers that return two values: the second stands for the parameter outside of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlc
from compiler import driver
from compiler.errors.diagnostics import SourceError
from runtime.cli.main import main
from runtime.runs.checkpoint import newest_checkpoint

TEXT = """
optimizer averaged(lr = 0.1)(p, g, t) {
    state mean = zeros
    new = p - lr * g
    mean = mean + (new - mean) / t
    return new, mean
}

model M {
    input x: f32[batch, 3]
    output y = x |> dense(1)
}

train M {
    data = npz("data.npz")
    target t: f32[batch]
    loss = mse(y[:, 0], t)
    optimizer = averaged()
    restore = false
    epochs = 4
    batch = 5
}
"""
RANDOM = np.random.default_rng(1)
ROWS: dict[str, Any] = {"x": RANDOM.random((15, 3), dtype=np.float32), "t": RANDOM.random(15, dtype=np.float32)}


def weights_after(text: str, steps: int) -> np.ndarray[Any, Any]:
    model = dlc.loads(text.replace("epochs = 4", f"steps = {steps}"))
    model.train(ROWS)
    return np.array(model.parameters["y.dense.W"])


def test_the_second_value_is_the_weight_of_the_model() -> None:
    plain = TEXT.replace("return new, mean", "return new + 0 * mean")
    followed = [weights_after(plain, steps) for steps in range(1, 5)]
    for steps in range(1, 5):
        np.testing.assert_allclose(weights_after(TEXT, steps), np.mean(followed[:steps], axis=0), rtol=1e-5, atol=1e-7)


def test_stochastic_weight_averaging_takes_every_so_many_updates() -> None:
    plain = TEXT.replace("averaged()", "momentum(lr = 0.05)")
    followed = [weights_after(plain, steps) for steps in range(1, 8)]
    averaged = TEXT.replace("averaged()", "swa(lr = 0.05, start = 2, every = 2)")
    for steps, taken in ((1, [1]), (2, [2]), (3, [3]), (4, [3]), (5, [3, 5]), (7, [3, 5, 7])):
        expected = np.mean([followed[step - 1] for step in taken], axis=0)
        np.testing.assert_allclose(weights_after(averaged, steps), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["averaged()", "schedule_free_adamw(lr = 0.1)", "swa(start = 3)"])
def test_a_resumed_training_has_the_same_bits(tmp_path: Path, optimizer: str) -> None:
    np.savez(tmp_path / "data.npz", **ROWS)
    file = tmp_path / "model.dl"
    file.write_text(TEXT.replace("averaged()", optimizer))
    found: list[dict[str, bytes]] = []
    for epochs in (["4"], ["2", "4"]):
        run = tmp_path / f"run{len(epochs)}"
        assert main(["train", str(file), "--out", str(run), "--epochs", epochs[0]]) == 0
        for more in epochs[1:]:
            assert main(["train", "--resume", str(run), "--epochs", more, "--threads", "2"]) == 0
        kept = newest_checkpoint(run / "checkpoints").checkpoint
        found.append({n: a.tobytes() for n, a in (*kept.weights.items(), *kept.optimizer.items())})
    assert found[0] == found[1]


def test_schedule_free_training_is_measured_at_its_average() -> None:
    """The loss at x is below that at y, where gradients are taken, once z has wandered."""
    model = dlc.loads(TEXT.replace("averaged()", "schedule_free_adamw(lr = 0.05)").replace("epochs = 4", "epochs = 60"))
    before = model.evaluate(ROWS)["loss"]
    model.train(ROWS)
    best = np.linalg.lstsq(np.c_[ROWS["x"], np.ones(15)], ROWS["t"], rcond=None)[1][0] / 15
    assert model.evaluate(ROWS)["loss"] < best + 0.1 * (before - best)


def test_two_averages_do_not_go_together() -> None:
    for text in (
        TEXT.replace("batch = 5", "batch = 5\n    ema = 0.9"),
        TEXT.replace("(p, g, t)", "(p, g, t, objective)"),
    ):
        with pytest.raises(SourceError) as caught:
            driver.load_text(text, "m.dl")
        assert [d.code for d in caught.value.diagnostics] == ["E0615"]
