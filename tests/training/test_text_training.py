"""Training on text: padding changes nothing, means over an epoch go by kept tokens, and a run remembers its words."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlc
from compiler import driver
from compiler.interface import Steps
from compiler.programs.kinds import PREDICTION
from runtime.cli.main import main
from runtime.data.dimensions import dimensions_of
from runtime.inference.evaluation import evaluator_of
from runtime.runs.checkpoint import newest_checkpoint
from runtime.train.jobs import load_data

TAGGER = """model M(units = 5) {
    input tokens: i32[batch, time] in 0..vocab padded by mask
    output logits = tokens |> embedding(vocab, units) |> dense(units) |> tanh |> dense(vocab)
}

train M {
    data = lines("names.txt", tokens = "char", bucket = true)
    validation = 0.3
    target next: i32[batch, time] in 0..vocab
    loss = cross_entropy(logits, next, where = mask)
    metrics = [accuracy(logits, next, where = mask)]
    optimizer = adam(lr = 0.05)
    epochs = 3
    batch = 4
}
"""
NAMES = ["anna", "bo", "christopher", "eve", "oli", "maximiliane", "jo", "ada", "gottfried", "emma", "ben", "max", "li"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names.txt").write_text("\n".join(NAMES * 3) + "\n")
    (tmp_path / "tagger.dl").write_text(TAGGER)
    return tmp_path


def log_softmax(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def test_means_over_an_epoch_go_by_kept_tokens(project: Path) -> None:
    program = driver.load("tagger.dl", None, (), dimensions_of(None))
    data = load_data(program, None)
    options = driver.Options(batch=4)
    tensors = driver.allocate(program, options)
    driver.initialise(program, tensors, 0, options)
    assert data.validation is not None
    found = evaluator_of(program, options, len(data.train.rows)).evaluate(tensors, data.validation)
    rows, arrays = data.validation.rows, data.validation.arrays
    results = driver.compile_program(program, PREDICTION, options).run(Steps(tensors, arrays, rows, len(rows)))
    scores = log_softmax(results.arrays["logits"].astype(np.float64))
    kept, told = arrays["mask"][rows], arrays["next"][rows]
    assert not kept.all()
    own = np.take_along_axis(scores, told[..., None], -1)[..., 0]
    assert found is not None
    assert set(found) == {"loss", "accuracy"}
    assert found["loss"] == pytest.approx(-own[kept].mean(), rel=1e-5)
    assert found["accuracy"] == pytest.approx((scores.argmax(-1) == told)[kept].mean(), rel=1e-6)


def test_more_padding_changes_nothing(project: Path) -> None:
    """The same texts in longer rows: the same losses and the same weights."""
    found: list[dict[str, np.ndarray[Any, Any]]] = []
    for name, time in (("short", "12"), ("long", "19")):
        assert main(["train", "tagger.dl", "--out", name, "--set", f"time={time}"]) == 0
        found.append({path: np.asarray(array) for path, array in dlc.load(name).parameters.items()})
    for path, array in found[0].items():
        np.testing.assert_allclose(array, found[1][path], rtol=1e-4, atol=1e-6)
    losses = [
        [json.loads(line)["loss"] for line in (project / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("short", "long")
    ]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


def test_a_resumed_training_takes_the_same_batches(project: Path) -> None:
    assert main(["train", "tagger.dl", "--out", "whole"]) == 0
    assert main(["train", "tagger.dl", "--out", "parts", "--epochs", "1"]) == 0
    assert main(["train", "--resume", "parts", "--epochs", "3"]) == 0
    whole, parts = (newest_checkpoint(project / name / "checkpoints").checkpoint for name in ("whole", "parts"))
    assert whole.position.step == parts.position.step
    assert all(whole.weights[path].tobytes() == parts.weights[path].tobytes() for path in whole.weights)


CLASSIFIER = """model M(units = 8) {
    input tokens: i32[batch, time] in 0..vocab padded by mask
    text = tokens |> embedding(vocab, units) |> mean(axis = time, where = mask)
    output logits = text |> dense(2)
}

train M {
    data = lines("reviews.*.txt", tokens = "UNIT")
    validation = 0.2
    target label: u8[batch] in 0..2
    loss = cross_entropy(logits, label)
    metrics = [accuracy(logits, label)]
    optimizer = adam(lr = 0.05)
    epochs = 12
    batch = 8
}
"""


@pytest.mark.parametrize("unit", ["word", "bpe"])
def test_a_classifier_of_lines_from_the_command_line(
    project: Path, unit: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = 'bpe", vocabulary = 300, lower = true, longest = 20, encoding = "utf-8' if unit == "bpe" else unit
    (project / "m.dl").write_text(CLASSIFIER.replace("UNIT", options))
    for kind, words in (("good", ["fine", "lovely", "great"]), ("bad", ["awful", "dull", "poor"])):
        texts = [f"this {noun} is {word}" for word in words for noun in ("film", "book", "song", "play", "piece")]
        (project / f"reviews.{kind}.txt").write_text("\n".join(texts) + "\n")
    assert main(["check", "m.dl"]) == 0
    assert main(["train", "m.dl", "--out", "run"]) == 0
    capsys.readouterr()
    (project / "in.txt").write_text("a great play\nan awful book\n")
    (project / "reviews.good.txt").rename(project / "gone.txt")
    assert main(["predict", "run", "--input", "in.txt"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["label"] for line in lines] == ["good", "bad"]
    (project / "gone.txt").rename(project / "reviews.good.txt")
    assert main(["eval", "run", "--data", "reviews.*.txt"]) == 0
    assert "accuracy  1" in capsys.readouterr().out


def test_predictions_take_every_file_that_fits(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "m.dl").write_text(CLASSIFIER.replace("UNIT", "word"))
    (project / "each.dl").write_text(CLASSIFIER.replace('tokens = "UNIT"', 'each = "file"').replace(".*.txt", "/*/*"))
    for kind in ("good", "bad"):
        (project / f"reviews.{kind}.txt").write_text("".join(f"this film is {kind} {n}\n" for n in range(12)))
        (project / "reviews" / kind).mkdir(parents=True)
        for n in range(6):
            (project / "reviews" / kind / f"{n}.txt").write_text(f"this film {n}\nis {kind}\n")
    (project / "new").mkdir()
    (project / "new" / "a.txt").write_text("this film\nis bad\n")
    (project / "new" / "b.txt").write_text("this is good\n")
    expected = {"m": ["new/a.txt", "new/a.txt", "new/b.txt"], "each": ["new/a.txt", "new/b.txt"]}
    for model, files in expected.items():
        assert main(["train", f"{model}.dl", "--out", model]) == 0
        capsys.readouterr()
        assert main(["predict", model, "--input", "new/*.txt"]) == 0
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert ["new/" + row["file"] for row in rows] == files
        assert [row["label"] for row in rows][-2:] == ["bad", "good"]
    assert main(["predict", "each", "--input", "reviews/*/*"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["file"] == "bad/0.txt"


def test_texts_of_a_column_are_predicted_from_that_column(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines of the table would be other texts, with the numbers and the label of the row in them."""
    rows = [f'{n},"a film, so {word}",{kind}' for n in range(12) for word, kind in (("fine", "good"), ("poor", "bad"))]
    (project / "films.csv").write_text("\n".join(["id,review,kind", *rows, ""]))
    (project / "m.dl").write_text(
        CLASSIFIER.replace('"reviews.*.txt", tokens = "UNIT"', '"films.csv", text = "review", label = "kind"')
    )
    assert main(["train", "m.dl", "--out", "run", "--set", "validation=0.0"]) == 0
    capsys.readouterr()
    (project / "in.csv").write_text('review,id\n"a film, so fine",9\n"a film, so poor",9\n')
    (project / "in.txt").write_text("a film, so fine\na film, so poor\n")
    found: list[str] = []
    for name in ("in.csv", "in.txt"):
        assert main(["predict", "run", "--input", name]) == 0
        found.append(capsys.readouterr().out)
    assert found[0] == found[1]
    assert [json.loads(line)["label"] for line in found[0].splitlines()] == ["good", "bad"]
    (project / "in.csv").write_text("text\na film\n")
    assert main(["predict", "run", "--input", "in.csv"]) == 1
    assert "there is no column `review`" in capsys.readouterr().err


def test_texts_change_in_augment_in_training_only(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = (
        "    target synonyms: i32[batch, time, k] in 0..vocab\n    augment {\n"
        "        tokens, mask = (tokens, mask, synonyms) |> synonym_replacement(0.5)\n"
        "        tokens, mask = (tokens, mask) |> random_deletion(0.3)\n    }\n"
    )
    text = CLASSIFIER.replace('tokens = "UNIT"', 'synonyms = "table.txt"').replace("    loss", changes + "    loss")
    (project / "m.dl").write_text(text)
    (project / "table.txt").write_text("good fine\nfilm movie picture\n")
    for kind in ("good", "bad"):
        (project / f"reviews.{kind}.txt").write_text("".join(f"this film is {kind} {n}\n" for n in range(12)))
    shown: set[str] = set()
    for epoch in range(1, 7):
        assert main(["data", "preview", "m.dl", "--epoch", str(epoch), "--sample", "3", "--json"]) == 0
        shown.add(json.dumps(json.loads(capsys.readouterr().out)["values"]["tokens"]))
    assert len(shown) > 3
    assert main(["data", "preview", "m.dl"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert any(line.startswith("synonyms     i32[") and ", 2]" in line for line in told), "k is that of the table"
    assert main(["train", "m.dl", "--out", "run"]) == 0
    (project / "in.txt").write_text("this film is bad 1\n" * 3)
    capsys.readouterr()
    assert main(["predict", "run", "--input", "in.txt"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(set(lines)) == 1
    assert json.loads(lines[0])["label"] == "bad"
