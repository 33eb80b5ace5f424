"""The Python API over a small model in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_driver

import dlc
from runtime.cli.main import main
from runtime.runs.checkpoint import best_checkpoint


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    small_driver.install(monkeypatch)


def arrays(count: int, seed: int = 1) -> dict[str, Any]:
    x, label = small_driver.rows_of(count, seed)
    return {"x": x, "label": label}


def test_train_evaluate_predict() -> None:
    model = dlc.loads("", epochs=2)
    before = model.evaluate(arrays(60, 2))
    settings: dict[str, Any] = {"optimizer.lr": 0.05}
    result = model.train(arrays(100), test=arrays(30, 3), epochs=8, **settings)
    assert (result.reason, len(result.history), result.steps) == ("finished", 8, 8 * 25)
    after = model.evaluate(arrays(60, 2))
    assert after["loss"] < before["loss"]
    assert result.test["accuracy"] > 0.9
    x = arrays(7)["x"]
    logits = model.predict(x)["logits"]
    assert logits.shape == (7, 2)
    assert np.array_equal(logits, model.predict({"x": x})["logits"])
    assert np.array_equal(logits, model.predict(x.tolist())["logits"])  # type: ignore[arg-type]


def test_training_goes_on_from_the_present_weights() -> None:
    model = dlc.loads("")
    model.train(arrays(100), epochs=5)
    reached = model.evaluate(arrays(100))["loss"]
    result = model.train(arrays(100), epochs=1)
    assert result.history[0].scalars["loss"] < 2 * reached < dlc.loads("").evaluate(arrays(100))["loss"]


def test_parameters_are_assigned_by_path() -> None:
    model = dlc.loads("")
    model.parameters["dense.W"] = 0
    model.parameters["dense.b"] = np.array([1, 2])
    assert model.predict(np.ones((1, 3), np.float32))["logits"].tolist() == [[1.0, 2.0]]
    assert {name: values.shape for name, values in model.parameters.items()} == {"dense.W": (3, 2), "dense.b": (2,)}
    assert "dense.c" not in model.parameters
    with pytest.raises(dlc.UsageError, match=r"no parameter `dense\.w`; did you mean `dense\.W`"):
        model.parameters["dense.w"] = 0
    for values in (np.zeros((2, 3)), [1, 2, 3], "three"):
        with pytest.raises(dlc.UsageError, match=r"`dense\.W` is f32\["):
            model.parameters["dense.W"] = values  # type: ignore[assignment]


def test_load_from_a_file_with_its_data(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", **arrays(50))
    (tmp_path / "model.dl").write_text('data = "rows.npz"\nepochs = 1\nvalidation = 0.2\n')
    result = dlc.load(tmp_path / "model.dl").train()
    assert result.steps == 10
    assert set(result.history[0].validation) == {"loss", "accuracy"}


def test_a_run_of_the_command_line_is_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("rows.npz", **arrays(50))
    Path("model.dl").write_text('data = "rows.npz"\nepochs = 3\ntest = 0.2\n')
    assert main(["train", "model.dl", "--out", "run", "--json"]) == 0
    weights = best_checkpoint(Path("run/checkpoints")).checkpoint.weights
    model = dlc.load("run")
    assert {name: values.tobytes() for name, values in model.parameters.items()} == {
        name: values.tobytes() for name, values in weights.items()
    }
    model.save("weights.safetensors")
    assert main(["eval", "model.dl", "--weights", "weights.safetensors", "--json"]) == 0
    assert model.evaluate().keys() == {"loss", "accuracy"}
    assert model.evaluate("rows.npz")["loss"] == model.evaluate(arrays(50))["loss"]
    assert model.train(epochs=1).steps == 10


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"x": np.zeros((3, 3))}, "`label` missing"),
        ({"x": np.zeros((3, 3)), "label": np.zeros(2, np.uint8)}, "the numbers of rows differ"),
        ({"x": np.zeros((2, 3), np.complex64), "label": np.zeros(2, np.uint8)}, "`x` has the dtype complex64"),
        ({"x": [[1.0, 2.0, 3.0], [1.0]], "label": np.zeros(2, np.uint8)}, "`x` is no array"),
        ({"x": np.zeros((3, 3)), "labels": np.zeros(3, np.uint8)}, "no input `labels`; did you mean `label`?"),
        ({"x": np.zeros((3, 4)), "label": np.zeros(3, np.uint8)}, r"`x` has rows of shape \[4\]"),
        ({"x": np.zeros((2, 3)), "label": np.array([0, 2])}, "out of range"),
    ],
)
def test_wrong_arrays_are_data_errors(data: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(dlc.DataError, match=message):
        dlc.loads("").train(data)


def test_no_data_is_a_usage_error() -> None:
    with pytest.raises(dlc.UsageError, match="no data"):
        dlc.loads("").train()


def test_another_file_than_a_model(tmp_path: Path) -> None:
    (tmp_path / "fruit.csv").write_text("width,kind\n1.5,apple\n")
    with pytest.raises(dlc.UsageError, match=r"fruit\.csv is no model file") as caught:
        dlc.load(tmp_path / "fruit.csv")
    assert f"--data {tmp_path / 'fruit.csv'}" in caught.value.fix


FLOWERS = """
model Flowers {
    input lengths: f32[batch, 2]
    output logits = lengths |> dense(2)
}

train Flowers {
    data = csv("flowers.csv", normalise = true)
    target species: i32[batch] in 0..2
    loss = cross_entropy(logits, species)
    optimizer = adam(lr = 0.1)
    epochs = 5
    batch = 8
}
"""


def test_arrays_are_prepared_like_the_columns_of_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.undo()
    lengths = np.stack([100 + np.arange(24.0), 1000 - 3 * np.arange(24.0)], axis=1)
    species = np.where(np.arange(24) < 12, "aster", "rose")
    lines = [f"{a},{b},{kind}" for (a, b), kind in zip(lengths, species, strict=True)]
    (tmp_path / "flowers.csv").write_text("\n".join(["wide,long,species", *lines, ""]))
    (tmp_path / "model.dl").write_text(FLOWERS)
    model = dlc.load(tmp_path / "model.dl")
    model.train()
    measured = model.evaluate()
    assert model.evaluate({"lengths": lengths, "species": species}) == measured
    assert model.evaluate({"lengths": lengths, "species": np.arange(24) // 12}) == measured
    run = tmp_path / "run"
    assert main(["train", str(tmp_path / "model.dl"), "--out", str(run)]) == 0
    assert main(["predict", str(run), "--input", str(tmp_path / "flowers.csv"), "-o", str(tmp_path / "p.npz")]) == 0
    capsys.readouterr()
    told = np.load(tmp_path / "p.npz")["logits"]
    np.testing.assert_array_equal(dlc.load(run).predict(lengths)["logits"], told)


def test_what_a_training_learnt_of_its_data_is_not_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that were copied in say nothing of means and deviations; a training on arrays says there are none."""
    monkeypatch.undo()
    rows = {"lengths": np.arange(48.0).reshape(24, 2), "species": np.arange(24) // 12}
    for options in ("normalise = true", 'missing = "mean"'):
        (tmp_path / "model.dl").write_text(FLOWERS.replace("normalise = true", options))
        model = dlc.load(tmp_path / "model.dl")
        model.parameters["logits.dense.W"] = 1
        for use in (lambda model=model: model.predict(rows["lengths"]), lambda model=model: model.evaluate(rows)):
            with pytest.raises(
                dlc.UsageError, match=r"the arrays must be prepared .* weights alone do not say"
            ) as caught:
                use()
            assert caught.value.fix == "name the run instead of the model file"
        model.train(rows)
        assert model.predict(rows["lengths"])["logits"].shape == (24, 2)


def test_settings_of_a_training_that_failed_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    model = dlc.loads(FLOWERS)
    rows = {"lengths": np.ones((24, 2)), "species": np.arange(24) % 2}
    with pytest.raises(dlc.SourceError, match="there is no setting `epoch`"):
        model.train(rows, epoch=3)
    assert model.train(rows, epochs=1).steps == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "tpu"}, "`target` cannot be 'tpu'"),
        ({"dtype": "f16"}, "`dtype` cannot be 'f16'"),
        ({"threads": 0}, "`threads` cannot be 0"),
        ({"threads": "2"}, "`threads` cannot be '2'"),
        ({"hidden": np.ones(3)}, "the setting `hidden` cannot be ndarray"),
    ],
)
def test_options_that_there_are_not(options: dict[str, Any], message: str) -> None:
    for call in (lambda: dlc.loads("", **options), lambda: dlc.function("fn f(x) = x", "f", **options)):
        with pytest.raises(dlc.UsageError, match=message):
            call()


def test_weights_that_cannot_be_saved_leave_what_was_there(tmp_path: Path) -> None:
    model = dlc.loads("")
    with pytest.raises(dlc.CheckpointError, match="there is no such file"):
        model.save(tmp_path / "nowhere" / "w.safetensors")
    (tmp_path / "folder").mkdir()
    with pytest.raises(dlc.CheckpointError, match="is a folder"):
        model.save(tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


SQUARES = """
fn scaled(scale = 2.0)(x: [n], y: [n]) = scale * x * y

layer own(x: [n]) {
    param w: [n] = ones
    return w * x
}
"""
THREE = np.arange(3, dtype=np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dlc.function(SQUARES, "scald"), "no function or layer `scald`"),
        (lambda: dlc.function(SQUARES, "scaled", factor=3.0), "`scaled` has no setting `factor`"),
        (lambda: dlc.function(SQUARES, "own")(THREE), "`own` owns `w`"),
        (lambda: dlc.function(SQUARES, "scaled")(THREE, THREE, THREE), "takes 2 tensors, but 3 are given"),
        (lambda: dlc.function(SQUARES, "scaled")(THREE[:0], THREE[:0]), "an array without elements"),
        (
            lambda: dlc.function(SQUARES, "scaled").gradient(THREE, THREE, cotangents=THREE[:2]),
            r"is \[2\], but .* \[3\]",
        ),
        (
            lambda: dlc.function(SQUARES, "scaled").gradient(THREE, THREE, cotangents=[THREE, THREE]),
            "1 results, but got 2",
        ),
    ],
)
def test_calls_of_functions_that_do_not_fit(call: Callable[[], object], message: str) -> None:
    with pytest.raises(dlc.UsageError, match=message):
        call()


def test_a_function_with_mistakes_is_refused_at_once() -> None:
    with pytest.raises(dlc.SourceError, match="there is no `z`"):
        dlc.function("fn f(x) = x + z", "f")
