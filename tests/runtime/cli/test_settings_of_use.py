"""`--set` where a trained model is used: what only its training read is refused, and never changes a number."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from runtime.cli.main import main

_GAME = """
layer net(units: int, outputs: int)(x: [batch, n]) -> [batch, outputs] = x |> dense(units) |> relu |> dense(outputs)

model Game(width = 4) {
    input x: f32[batch, 2]
    generator = net(8, 2)
    critic = net(8, 1)
    output made = generator(random(batch, width))
    output real_score = critic(x)[:, 0]
    output made_score = critic(made)[:, 0]
}

train Game {
    data = npz("points.npz")
    validation = 0.25
    batch = 32
    steps = 3
    update critic {
        parameters = "critic.*"
        loss = mean(softplus(-real_score)) + mean(softplus(made_score))
        optimizer = adam(lr = 1e-3)
        times = TIMES
    }
    update generator {
        parameters = "generator.*"
        loss = mean(softplus(-made_score))
        optimizer = adam(lr = 1e-3)
    }
}
"""

_FIT = """
model Fit(hidden = 4) {
    input x: f32[batch, 2]
    output y = x |> dense(hidden) |> relu |> dense(2)
}

train Fit {
    data = npz("points.npz")
    loss = mean(abs(y - x)) METRIC
    optimizer = adam(lr = 1e-2)
    epochs = 2
    batch = 32
}
"""


def _trained(folder: Path, text: str, *options: str) -> str:
    np.savez(folder / "points.npz", x=np.random.default_rng(0).normal(size=(128, 2)).astype(np.float32))
    (folder / "model.dl").write_text(text)
    place = str(folder / "run")
    assert main(["train", str(folder / "model.dl"), "--out", place, "--target", "reference", *options]) == 0
    return place


def _evaluated(capsys: pytest.CaptureFixture[str], place: str, *options: str) -> dict[str, float]:
    capsys.readouterr()
    assert main(["eval", place, "--json", "--target", "reference", *options]) == 0
    return json.loads(capsys.readouterr().out)


def _refused(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    capsys.readouterr()
    assert main([*command, "--target", "reference"]) != 0
    return " ".join(capsys.readouterr().err.split())


def test_an_evaluation_takes_the_batch_of_the_text_however_often_an_update_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A step of nine batches has fewer rows in each than `batch` says: the draws of an evaluation stay the same."""
    found: list[dict[str, float]] = []
    weights = ""
    for times in (1, 9):
        folder = tmp_path / str(times)
        folder.mkdir()
        place = _trained(folder, _GAME.replace("TIMES", str(times)))
        weights = weights or str(max(Path(place).glob("checkpoints/*/weights.safetensors")))
        model = (str(folder / "model.dl"), "--weights", weights)
        found.append(_evaluated(capsys, *model, "--part", "validation"))
    assert found[0] == found[1]
    model_file = str(tmp_path / "9" / "model.dl")
    other = _evaluated(capsys, model_file, "--weights", weights, "--part", "validation", "--set", "batch=8")
    assert other["critic.loss"] != found[0]["critic.loss"], "the batch decides draws, or this test would say nothing"


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("critic.times=9", "--set critic.times is about the training, and changes nothing here"),
        ("critic.optimizer.lr=1", "--set critic.optimizer.lr is about the training"),
        ("steps=7", "--set steps is about the training"),
        ("keep=2", "--set keep is about the training, and changes nothing here hint: leave it out"),
        ("widht=5", "did you mean `width`?"),
    ],
)
@pytest.mark.parametrize("command", ["eval", "predict"])
def test_settings_of_the_training_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, key: str, said: str
) -> None:
    place = _trained(tmp_path, _GAME.replace("TIMES", "2"))
    rows = ["--input", str(tmp_path / "points.npz")] if command == "predict" else []
    assert said in _refused(capsys, command, place, *rows, "--set", key)


def test_an_export_without_the_training_step_takes_no_settings_of_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = _trained(tmp_path, _FIT.replace("METRIC", ""))
    model = (str(tmp_path / "model.dl"), "--weights", str(max(Path(place).glob("checkpoints/*/weights.safetensors"))))
    out = ("-o", str(tmp_path / "library"))
    for form in ("c", "onnx"):
        for key in ("epochs=7", "optimizer.lr=1", "batch=8"):
            assert main(["export", *model, "--to", form, *out, "--set", key]) == 2
            said = f"--set {key.partition('=')[0]} is about the training, and changes nothing here"
            assert said in capsys.readouterr().err
    assert not (tmp_path / "library").exists()
    capsys.readouterr()
    assert main(["export", *model, "--to", "c", "--training", *out, "--set", "optimizer.lr=1"]) == 0


def test_what_an_evaluation_reads_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = _trained(tmp_path, _GAME.replace("TIMES", "2"))
    usual = _evaluated(capsys, place)
    for setting in ("seed=5", "validation=0.5", "batch=8"):
        assert _evaluated(capsys, place, "--set", setting) != usual, setting
    rows = ("--input", str(tmp_path / "points.npz"))
    assert "--set seed is about the training" in _refused(capsys, "predict", place, *rows, "--set", "seed=5")


def test_the_length_of_a_training_counts_where_the_loss_reads_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, more in (("plain", ""), ("long", "* total_steps")):
        folder = tmp_path / name
        folder.mkdir()
        place = _trained(folder, _FIT.replace("METRIC", more))
        if more:
            assert _evaluated(capsys, place, "--set", "epochs=4")["loss"] == pytest.approx(
                2 * _evaluated(capsys, place)["loss"]
            )
        else:
            assert "--set epochs is about the training" in _refused(capsys, "eval", place, "--set", "epochs=4")
        assert "--set seed is about the training" in _refused(capsys, "eval", place, "--set", "seed=4")
        rate = "optimizer.lr=1"  # formulas such as 1 - optimizer.beta2 are no names to mean
        assert "nothing here hint: leave it out" in _refused(capsys, "eval", place, "--set", rate)
