"""`--watch`: what is wrong with a training is told by line, and no bit of it changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.cli.main import main
from runtime.runs.tensor_files import read_tensors

TEXT = """model M {{
    input x: f32[batch, 6]
    a = x |> dense(16) |> relu
    b = a |> dense(16) |> tanh
    c = {c}
    output y = c |> dense(1)
}}
train M {{
    data = npz("data.npz")
    target t: f32[batch, 1]
    loss = mse(y, t)
    optimizer = gradient_descent(lr = 0.01)
    epochs = 4
    batch = 8
}}
"""


@pytest.fixture(autouse=True)
def _in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code_cache: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLC_CACHE_DIR", str(code_cache))
    random = np.random.default_rng(0)
    x = random.normal(size=(32, 6)).astype(np.float32)
    np.savez("data.npz", x=x, t=x[:, :1])


def watched(capsys: pytest.CaptureFixture[str], *arguments: str, c: str = "b |> dense(8) |> sigmoid") -> dict[str, Any]:
    Path("model.dl").write_text(TEXT.format(c=c))
    assert main(["train", "model.dl", "--watch", "--json", "--threads", "1", *arguments]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def mistakes(event: dict[str, Any]) -> dict[str, str]:
    return {f"{s['line']} {s['path']}": s["mistake"] for s in event["sights"] if s["mistake"]}


def test_nothing_is_wrong_with_a_good_training(capsys: pytest.CaptureFixture[str]) -> None:
    event = watched(capsys)
    assert event["looks"] >= 3
    assert mistakes(event) == {}
    assert {(s["line"], s["kind"]) for s in event["sights"] if s["kind"] != "parameter"} == {
        ("model.dl:3", "dead"),
        ("model.dl:4", "saturated"),
        ("model.dl:5", "saturated"),
    }
    parameters = {s["path"]: s for s in event["sights"] if s["kind"] == "parameter"}
    assert parameters["a.dense.W"]["line"] == "model.dl:3"
    assert parameters["a.dense.W"]["units"] == 6 * 16
    assert 0 < parameters["a.dense.W"]["ratio"] < 0.1


@pytest.mark.parametrize(
    ("c", "line", "mistake"),
    [
        ("dense(8)(b) - 100 |> relu", "model.dl:5", "100% of 8 units are dead"),
        ("dense(8)(b) + 100 |> tanh", "model.dl:5", "100% of 8 units are saturated"),
        ("dense(8)(b) - 100 |> sigmoid", "model.dl:5", "100% of 8 units are saturated"),
        ("1e-7 * dense(8)(b) + dense(8)(x)", "model.dl:3 a.dense.W", "the gradient vanishes"),
    ],
)
def test_what_is_wrong_is_told_by_line(c: str, line: str, mistake: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = mistakes(watched(capsys, c=c))
    assert mistake in found[next(name for name in found if name.startswith(line))]


def test_what_softplus_adds_up_is_no_unit(capsys: pytest.CaptureFixture[str]) -> None:
    event = watched(capsys, c="dense(8)(b) - 100 |> softplus")
    assert ("model.dl:5", "dead") not in {(s["line"], s["kind"]) for s in event["sights"]}
    event = watched(capsys, c="relu(dense(8)(b) - 100) + dense(8)(b)")
    assert ("model.dl:5", "dead") in {(s["line"], s["kind"]) for s in event["sights"]}


def test_rates_that_do_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    high = mistakes(watched(capsys, "--set", "optimizer.lr=30", "--on-nan", "report"))
    assert any("the rate is too high" in text or "explodes" in text for text in high.values())
    low = mistakes(watched(capsys, "--set", "optimizer.lr=1e-9"))
    assert any("the rate is too low" in text for text in low.values())


def test_watching_changes_no_bit(capsys: pytest.CaptureFixture[str]) -> None:
    watched(capsys, "--out", "watched")
    assert main(["train", "model.dl", "--threads", "1", "--out", "plain"]) == 0
    assert "nothing of this looks wrong" not in capsys.readouterr().err
    newest = [sorted(Path(run).glob("checkpoints/*"))[-1] for run in ("watched", "plain")]
    ours, theirs = (read_tensors(path / "weights.safetensors") for path in newest)
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


def test_the_table_of_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Path("model.dl").write_text(TEXT.format(c="dense(8)(b) - 100 |> relu"))
    assert main(["train", "model.dl", "--watch", "--threads", "1"]) == 0
    error = capsys.readouterr().err
    assert "without effect" in error
    assert "warning: model.dl:5: 100% of 8 units are dead" in error
