"""Words, texts and scaled columns: a server prepares them as the training did, and answers as `dlc predict` does."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("orjson", reason="the extra `serve` is not installed")

from compiler.driver import Options
from runtime.cli.main import main
from runtime.runs.trained import open_trained_run
from runtime.serving.batching import Answer, Batcher, Limits
from runtime.serving.metrics import Metrics
from runtime.serving.model import ServedModel
from runtime.serving.refusals import Refusal
from runtime.serving.requests import inference_request
from runtime.serving.responses import response_body

TABLE = """
model Table {
    input size: f32[batch, 2]
    input colour: i32[batch] in 0..3
    output scores = (size |> dense(4) |> relu |> dense(2)) + (colour |> embedding(3, 2))
}

train Table {
    data = csv("table.csv", normalise = true, missing = "mean", categories = ["colour", "kind"],
               columns = ["width", "height", "colour"], target = "kind")
    target kind: i32[batch] in 0..2
    loss = cross_entropy(scores, kind)
    optimizer = adam(lr = 0.01)
    epochs = 1
    batch = 8
}
"""
TEXTS = """
model Texts {
    input tokens: i32[batch, time] in 0..words padded by mask
    h = lstm(5)(tokens |> embedding(words, 6), where = mask)
    output logits = max(h, axis = 1, where = mask) |> dense(2)
}

train Texts {
    data = lines("texts.txt", label = "first", tokens = "space", bucket = 3)
    target label: i32[batch] in 0..2
    loss = cross_entropy(logits, label)
    optimizer = adam(lr = 0.01)
    epochs = 1
    batch = 8
}
"""
WORDS = ("a", "good", "bad", "long", "film", "play", "and", "very")


def asked(run: Path, documents: list[dict[str, Any]]) -> list[dict[str, Any] | Refusal]:
    """The outputs of each request by name, all computed in batches of up to 16 rows."""
    model = ServedModel(open_trained_run(run, False, (), Options(threads=1)), "one")
    interface = model.interface(64)
    requests = [inference_request(json.dumps(document).encode(), None, interface) for document in documents]

    async def run_all() -> list[dict[str, Any] | Refusal]:
        batcher = Batcher(model, Limits(0.001, 16, 1000), Metrics())
        answers = await asyncio.gather(*map(batcher.submit, requests), return_exceptions=True)
        await batcher.close()
        found: list[dict[str, Any] | Refusal] = []
        for request, answer in zip(requests, answers, strict=True):
            if isinstance(answer, Answer):
                outputs = json.loads(response_body("", "", request, answer.columns)[0])["outputs"]
                found.append({output["name"]: output["data"] for output in outputs})
            else:
                assert isinstance(answer, Refusal)
                found.append(answer)
        return found

    return asyncio.run(run_all())


def predicted(run: Path, file: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What `dlc predict` prints, with each value in a list, as a response has it."""
    capsys.readouterr()
    assert main(["predict", str(run), "--input", str(file), "--threads", "1"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [{name: value if isinstance(value, list) else [value] for name, value in line.items()} for line in lines]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("table")
    drawn = np.random.default_rng(2)
    rows = ["width,height,colour,kind"]
    for number in range(40):
        width = "" if number == 7 else f"{drawn.normal(20, 5):.3f}"
        colour, kind = drawn.choice(["red", "green", "blue"]), drawn.choice(["cup", "plate"])
        rows.append(f"{width},{drawn.normal(3, 1):.3f},{colour},{kind}")
    (folder / "table.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "model.dl").write_text(TABLE, encoding="utf-8")
    assert main(["train", str(folder / "model.dl"), "--out", str(folder / "run"), "--threads", "1"]) == 0
    return folder


def row_of_table(line: str) -> dict[str, Any]:
    width, height, colour, _ = line.split(",")
    size = [float(width) if width else None, float(height)]
    return {
        "inputs": [
            {"name": "size", "shape": [1, 2], "datatype": "FP64", "data": size},
            {"name": "colour", "shape": [1], "datatype": "BYTES", "data": [colour]},
        ]
    }


def test_columns_are_given_as_the_table_had_them(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (table / "table.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert asked(table / "run", [row_of_table(line) for line in lines]) == predicted(
        table / "run", table / "table.csv", capsys
    )


def test_a_word_that_the_training_did_not_have_is_refused(table: Path) -> None:
    (found,) = asked(table / "run", [row_of_table("1,2,pink,cup")])
    assert isinstance(found, Refusal)
    assert (found.status, found.where) == (422, "inputs, row 1")
    assert "`pink`, which the training data does not have" in found.error


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    drawn = np.random.default_rng(3)
    lines = [" ".join(drawn.choice(WORDS, drawn.integers(1, 9))) for _ in range(60)]
    (folder / "lines.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert len({len(line.split()) for line in lines}) > 5
    labelled = [f"{drawn.choice(['yes', 'no'])} {line}" for line in [*lines, " ".join(WORDS)]]
    (folder / "texts.txt").write_text("\n".join(labelled) + "\n", encoding="utf-8")
    (folder / "model.dl").write_text(TEXTS, encoding="utf-8")
    assert main(["train", str(folder / "model.dl"), "--out", str(folder / "run"), "--threads", "1"]) == 0
    return folder


def text(line: str) -> dict[str, Any]:
    return {"inputs": [{"name": "tokens", "shape": [1], "datatype": "BYTES", "data": [line]}]}


def test_texts_of_all_lengths_have_the_answer_that_they_have_alone(texts: Path) -> None:
    lines = (texts / "lines.txt").read_text(encoding="utf-8").splitlines()
    together = asked(texts / "run", [text(line) for line in lines])
    assert together[::7] == [asked(texts / "run", [text(line)])[0] for line in lines[::7]]
    assert all(isinstance(answer, dict) for answer in together)


def test_texts_have_the_answers_of_a_prediction(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (texts / "lines.txt").read_text(encoding="utf-8").splitlines()
    found = asked(texts / "run", [text(line) for line in lines])
    assert found == predicted(texts / "run", texts / "lines.txt", capsys)


def test_a_text_that_would_be_cut_is_refused(texts: Path) -> None:
    (found,) = asked(texts / "run", [text("good " * 9)])
    assert isinstance(found, Refusal)
    assert "has 9 tokens, and the model reads at most 8" in found.error
