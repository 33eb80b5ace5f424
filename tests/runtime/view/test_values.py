"""Values of a page: what stands at each line for a row of the data, before and after changes, and gradients."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from repository import ROOT

from compiler.driver import PREDICTION, Array, Options, Steps, compile_program
from compiler.errors.diagnostics import DlcError, UsageError
from runtime.cli.main import main
from runtime.view.changes import Change, changes_of, made_to, place_in
from runtime.view.differences import difference_to_json
from runtime.view.run_part import run_to_json
from runtime.view.values import value_to_json
from runtime.view.values_part import Question, question_of, values_to_json
from runtime.view.viewed import Viewed, viewed_file, viewed_run
from runtime.view.watching import Watching, examples_of

DIGITS = ROOT / "examples" / "digits" / "model.dl"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run."""
    folder = tmp_path_factory.mktemp("digits") / "run"
    assert main(["train", str(DIGITS), "--epochs", "2", "--out", str(folder), "--threads", "1"]) == 0
    return folder


class Answers:
    """The answers of a page about one file or run."""

    def __init__(self, viewed: Viewed) -> None:
        self.reading = viewed.reading()
        self.watching = Watching(examples_of(viewed, self.reading), self.reading)

    def __call__(self, row: int, changes: list[Any] | None = None, backward: bool = False) -> Any:
        asked = Question(row, None, changes_of(changes or []), backward)
        return json.loads(json.dumps(values_to_json(self.watching, self.reading, asked), allow_nan=False))


@pytest.fixture(scope="module")
def of_run(digits: Path) -> Answers:
    return Answers(viewed_run(digits, Options(threads=1), ()))


@pytest.fixture(scope="module")
def of_file() -> Answers:
    return Answers(viewed_file(DIGITS, Options(threads=1), None, (), None))


def expected(watching: Watching, row: int, weights: dict[str, Array] | None = None) -> dict[str, Any]:
    """The layers of the digits' network in NumPy, and the gradient of the loss in each value and weight."""
    known = {**watching.weights(), **(weights or {})}
    pixels = watching.row(row)["pixels"][0].astype(np.float64)
    first, second = known["logits.dense.W"].astype(np.float64), known["logits.dense_2.W"].astype(np.float64)
    dense = pixels / 16 @ first + known["logits.dense.b"]
    relu = np.maximum(dense, 0)
    logits = relu @ second + known["logits.dense_2.b"]
    shares = np.exp(logits - logits.max())
    slope = shares / shares.sum()
    slope[watching.row(row)["label"][0]] -= 1
    behind = (second @ slope) * (dense > 0)
    slopes = {"logits": slope, "relu": second @ slope, "dense": behind, "pixels": first @ behind / 16}
    slopes |= {"logits.dense_2.W": np.outer(relu, slope), "logits.dense.W": np.outer(pixels / 16, behind)}
    return {"values": {"pixels": pixels, "dense": dense, "relu": relu, "logits": logits}, "slopes": slopes}


def expect_figures(found: Any, array: Array, name: str) -> None:
    assert found["low"] == pytest.approx(array.min(), rel=1e-3, abs=1e-5), name
    assert found["high"] == pytest.approx(array.max(), rel=1e-3, abs=1e-5), name
    assert found["mean"] == pytest.approx(array.mean(), rel=1e-3, abs=1e-5), name


def test_the_values_of_a_run_are_those_of_its_weights(of_run: Answers):
    assert "checkpoint" in of_run.watching.examples.said
    for row in (0, 5):
        found = of_run(row)
        assert found["rows"] == len(of_run.watching.examples.part.rows)
        values = {value["name"]: value for value in found["values"]}
        known = expected(of_run.watching, row)["values"]
        for name, array in known.items():
            expect_figures(values[name], array, name)
        assert values["logits"]["elements"] == pytest.approx(known["logits"].tolist(), rel=1e-3, abs=1e-5)
        assert values["logits"]["type"] == "f32[batch, 10]"
        assert values["relu"]["zeros"] == int((known["relu"] == 0).sum())
    with pytest.raises(UsageError, match="there is no row"):
        of_run(found["rows"])


def test_a_file_has_the_weights_with_which_a_training_starts(of_file: Answers):
    assert "first weights" in of_file.watching.examples.said
    values = {value["name"]: value for value in of_file(1)["values"]}
    known = expected(of_file.watching, 1)["values"]["logits"]
    assert values["logits"]["elements"] == pytest.approx(known.tolist(), rel=1e-3, abs=1e-5)


def test_outputs_are_those_of_the_prediction_to_the_last_bit(of_run: Answers):
    examples = of_run.watching.examples
    rows = of_run.watching.row(4)
    found = compile_program(examples.program, PREDICTION, examples.options).run(
        Steps(examples.tensors, rows, np.zeros(1, np.int64), 1)
    )
    values = {one.name: array for one, array in of_run.watching.values(4).items()}
    assert np.array_equal(values["logits"], found.arrays["logits"])


def test_a_changed_weight_changes_what_depends_on_it_and_is_forgotten_afterwards(of_run: Answers):
    before = of_run(2)
    weights = of_run.watching.weights()["logits.dense.W"].copy()
    changes = [
        {"tensor": "logits.dense.W", "at": ":, 0:64", "scale": 0},
        {"tensor": "logits.dense.W", "at": "3, 70", "set": 2.5},
    ]
    found = of_run(2, changes)
    weights[:, :64] = 0
    weights[3, 70] = 2.5
    known = expected(of_run.watching, 2, {"logits.dense.W": weights})["values"]
    values = {value["name"]: value for value in found["values"]}
    for name in ("dense", "relu", "logits"):
        expect_figures(values[name]["after"], known[name], name)
    change = np.array(values["logits"]["after"]["elements"]) - values["logits"]["elements"]
    assert values["logits"]["difference"]["elements"] == pytest.approx(change.tolist(), abs=1e-5)
    differences = {row["name"]: row for row in found["differences"]}
    assert differences["pixels"]["changed"] == differences["label"]["changed"] == 0
    sizes = np.linalg.norm(change), np.linalg.norm(values["logits"]["elements"])
    assert differences["logits"]["relative"] == pytest.approx(sizes[0] / sizes[1], rel=1e-4)
    assert differences["logits"]["largest"] == pytest.approx(np.abs(change).max(), rel=1e-4)
    outputs = {output["output"]: output["elements"] for output in found["outputs"]}
    assert [after for *_, after in outputs["logits"]] == pytest.approx(values["logits"]["after"]["elements"])
    of_run.watching.__init__(of_run.watching.examples, of_run.reading)  # nothing is kept
    assert of_run(2) == before


def test_a_changed_pixel_changes_the_row_alone(of_run: Answers):
    found = of_run(2, [{"tensor": "pixels", "at": "9", "set": 16}])
    pixels = next(value for value in found["values"] if value["name"] == "pixels")
    now = of_run.watching.row(2)["pixels"][0]
    assert pixels["difference"]["high"] == pytest.approx(16 - now[9])
    assert next(row for row in found["differences"] if row["name"] == "pixels")["changed"] == 1


def test_gradients_are_those_of_the_loss_of_the_row(of_run: Answers):
    found = of_run(3, backward=True)
    slopes = expected(of_run.watching, 3)["slopes"]
    parts = {part["name"]: part for part in (*found["values"], *found["weights"])}
    for name, array in slopes.items():
        expect_figures(parts[name]["gradient"], array, name)
    norms = {row["name"]: row["norm"] for row in found["slopes"]}
    assert norms["logits.dense.W"] == pytest.approx(np.linalg.norm(slopes["logits.dense.W"]), rel=1e-4)
    assert "gradient" not in parts["label"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tensor": "pixel", "at": "0", "set": 1}, "there is no tensor `pixel`"),
        ({"tensor": "pixels", "at": "64", "set": 1}, "there is no element 64 along axis 0"),
        ({"tensor": "pixels", "at": "0, 0", "set": 1}, "has 2 indices"),
        ({"tensor": "pixels", "at": "-1", "set": 1}, "is no index"),
        ({"tensor": "pixels", "at": "5:5", "set": 1}, "there is no element 5:5"),
        ({"tensor": "pixels", "at": "0", "set": 10**400}, "beyond all floats"),
        ({"tensor": "pixels", "at": "0", "token": "a"}, "holds no tokens"),
        ({"tensor": "pixels", "at": "0"}, "this is no change"),
        ({"tensor": "label", "at": "", "set": 1}, "there is no tensor `label`"),
        ("pixels", "this is no change"),
    ],
)
def test_a_change_that_cannot_be_made_is_refused(of_run: Answers, change: Any, said: str):
    with pytest.raises(UsageError) as caught:
        of_run(0, [change])
    assert said in str(caught.value)
    assert caught.value.fix


def test_integers_are_neither_rounded_nor_wrapped():
    image = np.zeros((1, 2, 3), np.uint8)
    assert made_to([Change("image", "1, 2", 255.0, False)], {}, {"image": image}, None)["image"][0, 1, 2] == 255
    assert not image.any()
    for value in (256.0, -1.0, 0.5, float("nan")):
        with pytest.raises(UsageError, match="whole numbers from 0 to 255"):
            made_to([Change("image", "1, 2", value, False)], {}, {"image": image}, None)
    assert place_in(Change("image", "", 0.0, False), (2, 3)) == ()


def test_a_token_is_given_as_text_and_must_be_known():
    answers = Answers(viewed_file(ROOT / "examples" / "gpt" / "model.dl", Options(threads=1), None, (), None))
    found = answers(0)
    (name,) = [tensor["name"] for tensor in found["tensors"] if tensor["tokens"]]
    tokens = next(tensor["tokens"] for tensor in found["tensors"] if tensor["name"] == name)
    other = next(token for token in tokens if token != tokens[0] and len(token) == 1 and token.isalpha())
    changed = answers(0, [{"tensor": name, "at": "0", "token": other}])
    difference = {row["name"]: row for row in changed["differences"]}
    assert difference[name]["changed"] == 1
    assert difference["loss" if "loss" in difference else "cross_entropy"]["changed"] == 1
    for token, said in (("☃", "not in the vocabulary"), ("ab", "is 2 tokens")):
        with pytest.raises(DlcError, match=said):
            answers(0, [{"tensor": name, "at": "0", "token": token}])
    with pytest.raises(DlcError, match="is in 0"):
        answers(0, [{"tensor": name, "at": "0", "set": 9999}])


@pytest.mark.parametrize(
    "asked", [None, [], {"row": 0}, {"row": 0, "file": 0, "line": 1, "changes": 3, "backward": True}]
)
def test_what_is_no_question_is_refused(asked: Any):
    with pytest.raises(UsageError):
        question_of(asked)


def test_pictures_keep_elements_and_mark_what_is_not_finite():
    array = np.zeros((1, 3, 4, 5), np.float32)
    array[0, 0] = np.arange(20).reshape(4, 5)
    array[0, 1, 2, 2] = -20
    array[0, 1, 0, 0] = np.nan
    found: Any = value_to_json(array, "f32[batch, 3, 4, 5]")
    assert (found["maps"], found["height"], found["width"], found["of"], found["dead"]) == (3, 4, 5, 3, 1)
    levels = np.frombuffer(base64.b64decode(found["levels"]), np.uint8).reshape(3, 4, 5)
    back = found["low"] + levels / 255 * (found["high"] - found["low"])
    assert np.abs(np.nan_to_num(back - array[0]))[0].max() <= 39 / 255
    assert (found["low"], found["high"], found["not_finite"]) == (-20, 19, 1)
    assert sum(found["histogram"]) == 59
    assert np.flatnonzero(missing_in(found)).tolist() == [20]
    assert value_to_json(np.zeros((1, 2, 3)), "f64[batch, 2, 3]")["missing"] == ""
    assert value_to_json(np.array([[1.0, np.inf]]), "f64[batch, 2]")["elements"] == [1.0, "inf"]
    long: Any = value_to_json(np.arange(100.0)[None], "f64[batch, 100]")
    assert long["width"] * long["height"] >= 100
    long = value_to_json(np.arange(101.0)[None], "f64[batch, 101]")
    assert np.flatnonzero(missing_in(long))[:9].tolist() == list(range(101, 110))  # the last row is not full


def missing_in(found: Any) -> Array:
    """A bit for each element of the pictures, and those that fill the last byte."""
    return np.unpackbits(np.frombuffer(base64.b64decode(found["missing"]), np.uint8))


def test_classes_differ_by_how_many_and_not_by_how_much():
    before, after = np.array([2, 7, 1, 1], np.int32), np.array([5, 7, 1, 0], np.int32)
    found = difference_to_json(before, after)
    assert (found["relative"], found["changed"], found["count"]) == (0.5, 2, 4)
    found = difference_to_json(before.astype(np.uint8), after.astype(np.uint8))
    assert found["relative"] == pytest.approx(np.sqrt(10 / 55))


def test_a_run_has_its_curves(digits: Path):
    found: Any = run_to_json(digits)
    assert [epoch for epoch, _ in found["curves"]["loss"]["training"]] == [1, 2]
    assert found["curves"]["loss"]["training"][1][1] < found["curves"]["loss"]["training"][0][1]
    assert len(found["seconds"]) == 2
    document: Any = viewed_run(digits, Options(threads=1), ())
    assert document.page(document.reading(), None, with_code=False).document["run"] == found
