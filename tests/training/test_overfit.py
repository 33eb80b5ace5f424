"""`--overfit`: the loss of a guess and the floor of any loss, and whether a few rows are learnt by heart."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.cli.main import main

ROWS, CLASSES = 40, 5
TEXT = """model M(width = 32) {{
    input x: f32[batch, 6]
    h = {hidden}
    output y = {output}
}}
train M {{
    data = npz("data.npz")
    target label: u8[batch] in 0..5
    target t: f32[batch, 1]
    loss = {loss}
    optimizer = adam(lr = 0.02)
    epochs = 3
    batch = 16
}}
"""


@pytest.fixture(autouse=True)
def _in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code_cache: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLC_CACHE_DIR", str(code_cache))
    random = np.random.default_rng(0)
    np.savez(
        "data.npz",
        x=random.normal(size=(ROWS, 6)).astype(np.float32),
        label=random.integers(0, CLASSES, ROWS).astype(np.uint8),
        t=(3 + 2 * random.normal(size=(ROWS, 1))).astype(np.float32),
    )


def overfit(
    capsys: pytest.CaptureFixture[str],
    loss: str,
    output: str = "h |> dense(5)",
    hidden: str = "x |> dense(width) |> tanh",
    rows: int = 8,
) -> tuple[int, dict[str, Any], str]:
    Path("model.dl").write_text(TEXT.format(loss=loss, output=output, hidden=hidden))
    before = set(Path().iterdir())
    capsys.readouterr()
    code = main(["train", "model.dl", "--overfit", str(rows), "--json", "--threads", "1"])
    assert set(Path().iterdir()) == before
    out, err = capsys.readouterr()
    return code, json.loads(out), err


def smoothed_floor(smoothing: float) -> float:
    right, wrong = 1 - smoothing + smoothing / CLASSES, smoothing / CLASSES
    return -right * math.log(right) - (CLASSES - 1) * wrong * math.log(wrong)


@pytest.mark.parametrize(
    ("loss", "output", "guess", "floor"),
    [
        ("cross_entropy(y, label)", "h |> dense(5)", math.log(5), 0.0),
        ("cross_entropy(y, label, smoothing = 0.2)", "h |> dense(5)", math.log(5), smoothed_floor(0.2)),
        ("nll(log(y), label)  # dlc: ignore[W0106, W0108]", "h |> dense(5) |> softmax", math.log(5), 0.0),
        ("binary_cross_entropy_with_logits(y, t * 0 + 1)", "h |> dense(1)", math.log(2), 0.0),
        ("binary_cross_entropy(y, t * 0 + 1)", "h |> dense(1) |> sigmoid", math.log(2), 0.0),
        ("mse(y, t)", "h |> dense(1)", None, 0.0),
        ("mse(y, t) + 7", "h |> dense(1)", None, 7.0),
    ],
)
def test_guess_and_floor_follow_from_the_loss(
    loss: str, output: str, guess: float | None, floor: float, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found, _ = overfit(capsys, loss, output)
    if guess is not None:
        assert found["guess"] == pytest.approx(guess, rel=1e-6)
    assert found["floor"] == pytest.approx(floor, abs=5e-3)
    assert code == 0
    assert found["reached"]
    assert found["last"] <= found["floor"] + 0.011 * found["guess"]


def test_a_model_that_cannot_learn_them_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    code, found, err = overfit(capsys, "cross_entropy(y, label)", hidden="0 * x |> dense(width) |> tanh", rows=16)
    assert code == 1
    assert not found["reached"]
    assert "the loss did not reach its floor\nhint: first try it without dropout" in err


def test_outputs_that_begin_too_large_are_remarked(capsys: pytest.CaptureFixture[str]) -> None:
    _, found, err = overfit(capsys, "cross_entropy(y, label)", output="50 * dense(5)(h)")
    assert found["first"] > 2 * found["guess"]
    assert "far above that of a guess" in err


def test_more_rows_than_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    Path("model.dl").write_text(TEXT.format(loss="mse(y, t)", output="h |> dense(1)", hidden="x"))
    assert main(["train", "model.dl", "--overfit", "100"]) == 2
    assert "there are 40 rows to train on, not 100" in capsys.readouterr().err
