"""What a report says of predictions and weights, against NumPy written anew and against the metrics of the language."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from repository import ROOT
from view_pages import data_in

from compiler import driver
from compiler.driver import Array, Options
from compiler.programs import comparisons
from runtime.analysis.evaluation_data import evaluation_data
from runtime.analysis.examined.examination import pairs_of, rows_within
from runtime.analysis.examined.samples import RIGHT, WRONG
from runtime.cli.main import main
from runtime.data.part import Part
from runtime.inference.prediction import Predictor
from runtime.reporting.run_facts import ReportSelection, facts_of, report_json
from runtime.runs.trained import open_trained_run

_ROWS = 240

HEADS = """
model Heads {
    input point: f32[batch, 2]
    output logits = point |> dense(3)
    output estimate = dense(1)(point)[:, 0]
    output score = dense(1)(point)[:, 0]
}

train Heads {
    data = csv("rows.csv", normalise = true)
    test = 0.4
    target kind: i32[batch] in 0..3
    target value: f32[batch]
    target good: f32[batch]
    loss = cross_entropy(logits, kind) + mse(estimate, value) + binary_cross_entropy_with_logits(score, good)
    metrics = [
        accuracy(logits, kind), macro_precision(logits, kind), macro_recall(logits, kind), macro_f1(logits, kind),
        balanced_accuracy(logits, kind), class_precision(logits, kind, class = 2),
        class_recall(logits, kind, class = 2), class_f1(logits, kind, class = 2), mean_absolute_error(estimate, value),
        root_mean_squared_error(estimate, value), r2(estimate, value), binary_accuracy(score, good, threshold = 0.0),
        precision(score, good, threshold = 0.0), recall(score, good, threshold = 0.0), f1(score, good, threshold = 0.0)
    ]
    optimizer = adam(lr = 0.1)
    epochs = 1
    batch = 16
    seed = 0
}
"""

TEXTS = """
model Texts {
    input tokens: i32[batch, time] in 0..vocabulary padded by mask
    output logits = tokens |> embedding(vocabulary, 8) |> dense(vocabulary)
}

train Texts {
    data = lines("texts.txt", tokens = "char")
    validation = 0.5
    target next: i32[batch, time] in 0..vocabulary
    loss = cross_entropy(logits, next, where = mask)
    metrics = [accuracy(logits, next, where = mask), macro_f1(logits, next, where = mask)]
    optimizer = adam(lr = 0.1)
    epochs = 1
    batch = 8
    seed = 0
}
"""


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a model with classes that have names, numbers, and yes or no."""
    folder = tmp_path_factory.mktemp("heads")
    draw = random.Random(3)
    lines = ["width,height,kind,value,good"]
    for _ in range(_ROWS):
        x, y = draw.gauss(50, 20), draw.gauss(-3, 2)
        kind = ("ash", "beech", "<oak>")[int(x > 40) + int(x + draw.gauss(0, 30) > 75)]
        lines.append(f"{x:.3f},{y:.3f},{kind},{x / 20 + draw.gauss(0, 0.5):.3f},{int(y > draw.gauss(-3, 1))}")
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    (folder / "heads.dl").write_text(HEADS)
    assert main(["train", str(folder / "heads.dl"), "--out", str(folder / "run"), "--json"]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    draw = random.Random(5)
    words = ["".join(draw.choice("ab<&") for _ in range(draw.randrange(2, 7))) for _ in range(40)]
    (folder / "texts.txt").write_text("\n".join(words) + "\n")
    (folder / "texts.dl").write_text(TEXTS)
    assert main(["train", str(folder / "texts.dl"), "--out", str(folder / "run"), "--json"]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def heads_report(heads: Path) -> Mapping[str, Any]:
    return report_json(facts_of(heads, Options(), ReportSelection()))


@pytest.fixture(scope="module")
def heads_found(heads_report: Mapping[str, Any]) -> Mapping[str, Any]:
    return heads_report["evaluation"]


@pytest.fixture(scope="module")
def texts_found(texts: Path) -> Mapping[str, Any]:
    found: Any = report_json(facts_of(texts, Options(), ReportSelection()))
    return found["evaluation"]


def report_of(run: Path, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["report", str(run), "--json", *more]) == 0
    return json.loads(capsys.readouterr().out)


def predicted(run: Path) -> tuple[Mapping[str, Array], Mapping[str, Array]]:
    """The outputs for the rows that are measured, and the data of these."""
    trained = open_trained_run(run, False, (), Options())
    part = evaluation_data(trained, None, None).part
    predictor = Predictor(trained.program, trained.options, trained.sizes)
    outputs = predictor.rows_first(predictor.predict(trained.tensors, part))
    return outputs, {name: array[part.rows] for name, array in part.arrays.items()}


def test_classes_are_counted_as_numpy_counts_them(heads: Path, heads_found: Mapping[str, Any]) -> None:
    outputs, data = predicted(heads)
    (kinds, _) = heads_found["classes"]
    truth, guess = data["kind"], outputs["logits"].argmax(axis=1)
    names = ["<oak>", "ash", "beech"]
    assert [row["class"] for row in kinds["classes"]] == names, "in the order of the vocabulary"
    matrix = [[int(((truth == i) & (guess == j)).sum()) for j in range(3)] for i in range(3)]
    assert kinds["matrix"] == matrix
    for number, row in enumerate(kinds["classes"]):
        hits, taken, present = matrix[number][number], sum(line[number] for line in matrix), sum(matrix[number])
        precision, recall = hits / taken if taken else 0, hits / present if present else 0
        assert (row["count"], row["predicted"], row["right"]) == (present, taken, hits)
        assert (row["precision"], row["recall"]) == (precision, recall)
        assert row["f1"] == pytest.approx(2 * precision * recall / (precision + recall) if hits else 0)
    first = max(((i, j) for i in range(3) for j in range(3) if i != j), key=lambda pair: matrix[pair[0]][pair[1]])
    shown = kinds["most_confused"][0]
    assert (shown["class"], shown["taken_for"]) == (names[first[0]], names[first[1]])
    assert shown["share"] == matrix[first[0]][first[1]] / sum(matrix[first[0]])


def test_scores_agree_with_the_metrics_of_the_language(
    heads: Path, heads_found: Mapping[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    found = heads_found
    capsys.readouterr()
    assert main(["eval", str(heads), "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert found["data"] == "the test part"
    assert found["rows"] == found["measured"] == measured["rows"] == 0.4 * _ROWS
    assert found["scalars"] == {name: measured[name] for name in found["scalars"]}, "the very numbers of dlc eval"
    kinds, good = found["classes"]
    for name in ("accuracy", "macro_precision", "macro_recall", "macro_f1", "balanced_accuracy"):
        assert kinds[name] == pytest.approx(measured[name], rel=1e-12)
    for name in ("precision", "recall", "f1"):
        assert kinds["classes"][2][name] == pytest.approx(measured[f"class_{name}"], rel=1e-12)
        assert good["classes"][1][name] == pytest.approx(measured[name], rel=1e-12)
    assert (good["target"], good["output"], good["threshold"]) == ("good", "score", 0.0)
    assert good["accuracy"] == measured["binary_accuracy"]
    (value,) = found["numbers"]
    assert (value["target"], value["output"]) == ("value", "estimate"), "the heads are not mixed up"
    for name in ("mean_absolute_error", "root_mean_squared_error", "r2"):
        assert value[name] == pytest.approx(measured[name], rel=1e-6)


def test_samples_are_rows_of_the_file_with_their_own_loss(heads: Path, heads_found: Mapping[str, Any]) -> None:
    outputs, data = predicted(heads)
    samples = heads_found["samples"]
    lines = (heads.parent / "rows.csv").read_text().splitlines()

    def loss_of(place: int) -> float:
        logits, score = (outputs[name][place].astype(np.float64) for name in ("logits", "score"))
        own = np.log(np.exp(logits).sum()) - logits[data["kind"][place]]
        error = outputs["estimate"][place] - data["value"][place]
        return float(own + error**2 + np.log1p(np.exp(score)) - data["good"][place] * score)

    losses = [loss_of(place) for place in range(len(data["kind"]))]
    is_right = (outputs["logits"].argmax(axis=1) == data["kind"]) & ((outputs["score"] > 0) == (data["good"] > 0))
    wrong = [row for row in samples if row["kind"] == WRONG]
    worst = sorted((loss for loss, right in zip(losses, is_right, strict=True) if not right), reverse=True)
    assert [row["loss"] for row in wrong] == pytest.approx(worst[:8], rel=1e-5)
    assert sum(row["kind"] == RIGHT for row in samples) == 4
    for row in samples:
        number = int(row["row"].removeprefix("rows.csv, row "))
        width, height, kind, value, _ = lines[number - 1].split(",")
        assert float(row["inputs"]["point"]["width"]) == pytest.approx(float(width), rel=1e-4), "not normalised"
        assert float(row["inputs"]["point"]["height"]) == pytest.approx(float(height), rel=1e-4)
        assert row["targets"]["kind"] == kind
        assert float(row["targets"]["value"]) == pytest.approx(float(value))
        assert row["predictions"]["logits"].startswith(kind) or row["kind"] == WRONG


def test_fewer_rows_are_spread_and_said(heads: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page = tmp_path / "r.html"
    found = report_of(heads, capsys, "--rows", "10", "--part", "train", "--out", str(page))["evaluation"]
    assert (found["data"], found["rows"], found["measured"]) == ("the train part", 144, 10)
    assert sum(sum(row) for row in found["classes"][0]["matrix"]) == 10
    text = page.read_text()
    assert "<oak>" not in text
    shown = data_in(text, "document")["report"]
    assert shown["checkpoint"].startswith("the best checkpoint")
    assert (shown["evaluation"]["rows"], shown["evaluation"]["measured"]) == (144, 10)
    assert [row["class"] for row in shown["evaluation"]["classes"][0]["classes"]] == ["<oak>", "ash", "beech"]
    assert [rows_within(work) for work in (0.0, 1e6, 1e8, 1e12)] == [10_000, 10_000, 3_000, 100]


def test_padding_of_texts_is_not_counted(texts: Path, texts_found: Mapping[str, Any]) -> None:
    outputs, data = predicted(texts)
    (classes,) = texts_found["classes"]
    keep = data["mask"]
    guess = outputs["logits"].argmax(axis=-1)
    assert classes["total"] == keep.sum() < keep.size
    assert classes["accuracy"] == pytest.approx((guess == data["next"])[keep].mean())
    for name in ("accuracy", "macro_f1"):
        assert classes[name] == pytest.approx(texts_found["scalars"][name], rel=1e-12)


def test_tokens_have_the_probabilities_that_the_model_gives(texts: Path, texts_found: Mapping[str, Any]) -> None:
    outputs, data = predicted(texts)
    lines = (texts.parent / "texts.txt").read_text().splitlines()
    shares = np.exp(outputs["logits"].astype(np.float64))
    shares /= shares.sum(axis=-1, keepdims=True)
    own = np.take_along_axis(shares, data["next"][..., None].astype(np.int64), axis=-1)[..., 0]
    losses = {sample["row"]: sample["loss"] for sample in texts_found["samples"]}
    assert len(texts_found["texts"]) == 3
    assert texts_found["texts"][2]["mean_loss"] == pytest.approx(max(losses.values()), rel=1e-5)
    for text in texts_found["texts"]:
        assert not text["are_classes"]
        line = lines[int(text["row"].removeprefix("texts.txt, row ")) - 1]
        tokens = text["tokens"]
        assert "".join(token["text"] for token in tokens) == line + "<end>"
        given = [token["probability"] for token in tokens]
        rows = [row for row in range(len(own)) if own[row, : len(given)] == pytest.approx(given, rel=1e-6)]
        assert len({line_of(data, row) for row in rows}) == 1, "the probabilities are of this text"
        best = shares[rows[0], : len(given)].max(axis=-1)
        assert best == pytest.approx([token["likeliest_probability"] for token in tokens], rel=1e-6)
        assert [token["loss"] for token in tokens] == pytest.approx(-np.log(given))
        assert text["mean_loss"] == pytest.approx(losses[text["row"]], rel=1e-5)


def test_classes_at_places_are_no_tokens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The nodes of a graph have sides, and no text."""
    model = ROOT / "examples" / "karate" / "model.dl"
    assert main(["train", str(model), "--epochs", "2", "--out", str(tmp_path / "run"), "--threads", "1"]) == 0
    (found,) = report_of(tmp_path / "run", capsys)["evaluation"]["texts"]
    assert found["are_classes"]
    assert found["target"] == "side"
    assert [one["place"] for one in found["tokens"]] == list(range(34))
    assert {one["text"] for one in found["tokens"]} == {"0", "1"}


def line_of(data: Mapping[str, Array], row: int) -> bytes:
    return data["next"][row].tobytes()


def test_weights_are_those_of_the_checkpoint(heads: Path, heads_report: Mapping[str, Any]) -> None:
    trained = open_trained_run(heads, False, (), Options())
    found = {one["path"]: one for one in heads_report["weights"]}
    assert list(found) == [spec.path for spec in trained.program.parameters]
    for path, one in found.items():
        values = trained.tensors[path].astype(np.float64)
        assert (one["shape"], one["count"]) == (list(values.shape), values.size)
        assert one["mean"] == pytest.approx(values.mean())
        assert one["std"] == pytest.approx(values.std(), abs=1e-12)
        assert (one["min"], one["max"]) == (values.min(), values.max())
        assert one["norm"] == pytest.approx(np.sqrt((values**2).sum()))
        assert sum(one["histogram"]) == values.size


def test_data_that_has_gone_or_changed_is_said(heads: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data, page = heads.parent / "rows.csv", tmp_path / "r.html"
    before = data.read_text()
    try:
        data.write_text(before + before.splitlines()[1] + "\n")
        assert report_of(heads, capsys)["evaluation"]["notes"][0] == "the data has changed since the run began"
        data.rename(tmp_path / "elsewhere.csv")
        found = report_of(heads, capsys, "--out", str(page))
        assert found["evaluation"] is None
        assert "rows.csv" in found["missing"]
        assert found["weights"]
        shown = data_in(page.read_text(), "document")["report"]
        assert "The rows could not be measured" in shown["missing"]
        assert shown["weights"]
        assert main(["report", str(heads), "--part", "test"]) == 1, "what was asked for cannot be given"
        assert report_of(heads, capsys, "--data", str(tmp_path / "elsewhere.csv"))["evaluation"]["rows"] == _ROWS + 1
    finally:
        data.write_text(before)
    (heads / "checkpoints").rename(tmp_path / "checkpoints")
    try:
        found = report_of(heads, capsys)
        assert (found["evaluation"], found["weights"], found["checkpoints"]) == (None, [], 0)
        assert "no weights that can be read" in found["missing"]
    finally:
        (tmp_path / "checkpoints").rename(heads / "checkpoints")
    assert main(["report", str(heads), "--part", "validation"]) == 2
    assert "the data has no validation part" in capsys.readouterr().err


def test_thresholds_are_those_of_metrics_or_of_a_sigmoid() -> None:
    text = """
model M {
    input x: f32[batch, 2]
    h = dense(3)(x)
    output a = h[:, 0]
    output b = sigmoid(h[:, 1])
    output c = h[:, 2]
    output d = sigmoid(h)
}

train M {
    target t: f32[batch]
    target u: bool[batch]
    loss = mse(a, t) + binary_cross_entropy_with_logits(c, cast(u, f32))
    metrics = [precision(a, t, threshold = 0.3), recall(a, t, threshold = 0.3)]
    optimizer = gradient_descent(lr = 0.1)
    epochs = 1
    batch = 4
}
"""
    program = driver.load_text(text, "text")
    assert comparisons.thresholds(program) == {"a": pytest.approx(0.3), "b": 0.5, "d": 0.5}
    assert comparisons.judged_outputs(program) == {"t": ("a",), "u": ("c",)}


def test_what_only_weighs_or_chooses_terms_is_compared_with_no_output() -> None:
    text = """
model M {
    input x: f32[batch, 2]
    output y = dense(1)(x)[:, 0]
}

train M {
    target t: f32[batch]
    target w: f32[batch]
    target keep: bool[batch]
    loss = mse(y, t, weights = w)
    metrics = [mean_absolute_error(y, t, where = keep), r2(y, t)]
    optimizer = gradient_descent(lr = 0.1)
    epochs = 1
    batch = 4
}
"""
    program = driver.load_text(text, "text")
    judged = comparisons.judged_outputs(program)
    assert judged == {"t": ("y",), "w": (), "keep": ()}
    values = np.zeros(3, np.float32)
    part = Part({"x": np.zeros((3, 2)), "t": values, "w": values, "keep": values > 0}, np.arange(3))
    found = pairs_of(program.inputs, {"y": values}, part, judged, {})
    assert [(pair.target.name, pair.output) for pair in found] == [("t", "y")]


def test_labels_without_places_are_paired_with_no_scores() -> None:
    text = """
model M {
    input x: f32[batch, 6, 2]
    output logits = x |> dense(3)
}

train M {
    target labels: i32[batch, 4] in 0..3
    loss = ctc_loss()(logits, labels)
    optimizer = gradient_descent(lr = 0.1)
    epochs = 1
    batch = 4
}
"""
    program = driver.load_text(text, "text")
    part = Part({"x": np.zeros((2, 6, 2), np.float32), "labels": np.ones((2, 4), np.int32)}, np.arange(2))
    outputs = {"logits": np.zeros((2, 6, 3), np.float32)}
    assert pairs_of(program.inputs, outputs, part, comparisons.judged_outputs(program), {}) == []
    of_steps = {"logits": np.zeros((2, 4, 3), np.float32)}
    assert len(pairs_of(program.inputs, of_steps, part, {"labels": ("logits",)}, {})) == 1
