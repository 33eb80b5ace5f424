"""`dlc predict --attention`: the weights that are drawn are those with which the model sums."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from compiler import driver
from compiler.driver import Options
from compiler.errors.diagnostics import UsageError
from compiler.interface import Steps
from compiler.programs.kinds import GraphKind, Purpose
from compiler.programs.load import complete
from compiler.programs.steps.attention_weights import attention_graph
from compiler.types import BatchExtent
from runtime.cli.main import main

SOURCE = """
model Looks(width = 4) {
    input x: f32[batch, 3, width]
    output y = mean(attention(2, causal = true)(x, x, x), axis = 1)
}

train Looks {
    data = npz("data.npz")
    target t: f32[batch, width]
    loss = mse(y, t)
    optimizer = adam
    steps = 2
    batch = 4
}
"""

STEPS = """
model Reads(width = 4) {
    input x: f32[batch, 3, width]
    input z: f32[batch, 5, width]
    look = bahdanau(6)
    ys, s = scan step in z over 1 carry s = zeros(batch, width) {
        context, a = look(s, x)
        s = tanh(context + step)
        emit s
    }
    output y = ys
}
"""


def weights_of(text: str, name: str) -> dict[str, tuple[object, ...]]:
    graph = attention_graph(complete(driver.load_text(text, name)))
    return {output.name: output.value.type.shape for output in graph.outputs}


def test_every_softmax_that_weights_a_sum_is_found() -> None:
    batch = BatchExtent()
    assert weights_of(SOURCE, "looks.dl") == {"y.attention": (batch, 2, 3, 3)}
    assert weights_of(STEPS, "reads.dl") == {"look": (batch, 5, 3)}


def test_a_classifier_has_none() -> None:
    text = "model Plain() {\n    input x: f32[batch, 3]\n    output y = x |> dense(2) |> softmax\n}\n"
    with pytest.raises(UsageError, match="has no attention weights"):
        weights_of(text, "plain.dl")


@pytest.mark.parametrize("target", ["native", "reference"])
def test_weights_are_a_causal_distribution(target: str) -> None:
    program = driver.load_text(SOURCE, "looks.dl")
    options = Options(batch=1, target=target)
    tensors = driver.allocate(program, options)
    driver.initialise(program, tensors, 0, options)
    x = np.random.default_rng(0).normal(size=(1, 3, 4)).astype(np.float32)
    found = driver.compile_program(program, GraphKind(Purpose.ATTENTION), options).run(
        Steps(tensors, {"x": x}, np.arange(1), 1)
    )
    (weights,) = found.arrays.values()
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-6)
    assert not np.triu(weights, 1).any()


def test_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(1)
    x, t = random.normal(size=(8, 3, 4)).astype("f4"), random.normal(size=(8, 4)).astype("f4")
    np.savez("data.npz", x=x, t=t)
    (tmp_path / "model.dl").write_text(SOURCE)
    assert main(["train", "model.dl", "--out", "run"]) == 0
    assert main(["predict", "run", "--input", "data.npz", "--attention", "look.svg", "--row", "5"]) == 0
    assert "y.attention" in (tmp_path / "look.svg").read_text()
    assert main(["predict", "run", "--input", "data.npz", "--attention", "look.svg", "--row", "8"]) == 2
    assert "there are 8 rows" in capsys.readouterr().err


def texts_in(picture: Path) -> list[str]:
    """What is written beside the panels: keys first, then queries."""
    return [unescape(text) for text in re.findall(r">([^<>]*)</text>", picture.read_text(encoding="utf-8"))]


PAIRS = """
model Answers(width = 4) {
    input source: i32[batch, time] in 0..letters padded by mask
    input target: i32[batch, length] in 0..signs padded by target_mask
    memory = source |> embedding(letters, width)
    words = target |> embedding(signs, width)
    seen, _ = luong("dot")(words, memory, mask)
    output logits = concat(words, seen) |> dense(signs)
}

train Answers {
    data = pairs("pairs.tsv", separator = ";", tokens = "char")
    target next: i32[batch, length] in 0..signs
    loss = cross_entropy(logits, next, where = target_mask)
    optimizer = adam
    steps = 2
    batch = 2
}
"""


def test_both_texts_of_a_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs.tsv").write_text("abc;xy\nbca;yx\ncab;x\n")
    (tmp_path / "model.dl").write_text(PAIRS)
    assert main(["train", "model.dl", "--out", "run", "--target", "reference"]) == 0
    (tmp_path / "new.tsv").write_text("ab;yx\nc;x\n")
    ask = ["predict", "run", "--target", "reference", "--input"]
    assert main([*ask, "new.tsv", "--attention", "look.svg", "--row", "1"]) == 0
    keys, queries = ["<start>", "c", "<end>", "<pad>", "<pad>"], ["<start>", "x", "<pad>"]
    assert texts_in(tmp_path / "look.svg") == [*keys, "key", *queries, "query", "seen.luong"]
    capsys.readouterr()
    assert main([*ask, "new.tsv"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    (tmp_path / "new.tsv").write_text("ab;yx\nc\n")
    assert main([*ask, "new.tsv"]) == 1
    told = capsys.readouterr().err
    assert "row 2: `;` does not stand between two texts" in told
    assert "write `;` between the texts" in told


def test_tokens_stand_where_their_input_is_looked_at_though_lengths_are_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs.tsv").write_text("中$;x y\nbc;yx\n$c;x\n", encoding="utf-8")
    (tmp_path / "model.dl").write_text(PAIRS)
    ask = ["predict", "run", "--target", "reference", "--input", "pairs.tsv", "--attention", "look.svg"]
    assert main(["train", "model.dl", "--out", "run", "--target", "reference", "--set", "batch=3"]) == 0
    assert main(ask) == 0
    keys, queries = ["<start>", "中", "$", "<end>"], ["<start>", "x", "␣", "y"]
    assert texts_in(tmp_path / "look.svg")[:-2] == [*keys, "key", *queries]
    one_length = PAIRS.replace("length", "time")  # nothing tells whose places they are
    (tmp_path / "model.dl").write_text(one_length)
    assert main(["train", "model.dl", "--out", "run2", "--target", "reference"]) == 0
    assert main([ask[0], "run2", *ask[2:]]) == 0
    assert "<start>" not in texts_in(tmp_path / "look.svg")
