"""Batch descent, mini-batches and single examples are settings of `batch`; each is what NumPy makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from elaboration import codes, mistakes

from runtime.cli.main import main
from runtime.data.orders import epoch_order
from runtime.runs.checkpoint import newest_checkpoint

TEXT = """
model Line {
    input x: f32[batch, 2]
    output z = dense(1, weights = zeros)(x)[:, 0]
}

train Line {
    data = csv("rows.csv")
    target y: f32[batch]
    loss = sum((z - y) ^ 2) / batch
    optimizer = gradient_descent(lr = 0.1)
    early_stop = patience(9, restore = false)
    batch = all
    epochs = 3
}
"""
ROWS = np.round(np.random.default_rng(5).normal(size=(40, 3)), 3)


@pytest.mark.parametrize(("batch", "rows", "nominal"), [("all", 40, None), ("1", 1, 1), ("16", 16, 16), ("64", 40, 64)])
def test_an_update_takes_the_rows_that_batch_says(
    batch: str, rows: int, nominal: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the loss, `batch` is the number that `train` gives, and with `all` that of all rows."""
    monkeypatch.chdir(tmp_path)
    Path("model.dl").write_text(TEXT)
    np.savetxt("rows.csv", ROWS, "%.3f", ",", header="x0,x1,y", comments="")
    assert main(["train", "model.dl", "--set", f"batch={batch}", "--out", "run", "--json"]) == 0
    found = newest_checkpoint(Path("run/checkpoints")).checkpoint
    w = np.zeros(3)
    wide = np.c_[ROWS[:, :2], np.ones(40)]
    for epoch in range(3):
        order = epoch_order(40, 0, epoch)
        for first in range(0, 40, rows):
            x, y = wide[order[first : first + rows]], ROWS[order[first : first + rows], 2]
            w = w - 0.1 * 2 * x.T @ (x @ w - y) / (nominal or 40)
    weights = np.concatenate([found.weights["z.dense.W"].ravel(), found.weights["z.dense.b"]])
    np.testing.assert_allclose(weights, w, rtol=1e-4, atol=1e-5)
    assert found.position.step == 3 * -(-40 // rows)
    assert main(["train", "model.dl", "--batch", batch, "--out", "again", "--json"]) == 0
    again = newest_checkpoint(Path("again/checkpoints")).checkpoint
    assert all(np.array_equal(again.weights[name], values) for name, values in found.weights.items())


@pytest.mark.parametrize("key", ["restore = false", "early_stop = patience(9, restore = false)", ""])
def test_the_last_weights_are_taken_where_nothing_is_restored(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rate is so large that the first epoch is the best one."""
    monkeypatch.chdir(tmp_path)
    text = TEXT.replace("early_stop = patience(9, restore = false)", key).replace("lr = 0.1", "lr = 1.5")
    Path("model.dl").write_text(text)
    np.savetxt("rows.csv", ROWS, "%.3f", ",", header="x0,x1,y", comments="")
    assert main(["train", "model.dl", "--set", "test=0.2", "--out", "run", "--json"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["best"] for event in told if event["event"] == "epoch"] == [True, False, False]
    losses: list[float] = []
    for options in ((), ("--last",)):
        assert main(["eval", "run", "--json", *options]) == 0
        losses.append(json.loads(capsys.readouterr().out)["loss"])
    assert (losses[0] == losses[1]) == bool(key)
    assert told[-1]["test_loss"] == losses[0]


def test_all_rows_are_one_batch() -> None:
    assert codes(mistakes(TEXT, ("accumulate", "2"))) == ["E0603"]
    assert codes(mistakes(TEXT, ("batch", "none"))) == ["E0603"]
    assert codes(mistakes(TEXT, ("epochs", "all"))) == ["E0603"]
