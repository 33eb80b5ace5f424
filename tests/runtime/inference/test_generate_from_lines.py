"""`dlc generate --input-file`: a line of output for each line, the one that the line alone would get."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime.cli.main import main

_MODEL = """
model Turned(width = 8) {
    input source: i32[batch, read] in 0..letters padded by mask
    input target: i32[batch, written] in 0..signs
    memory = embedding(letters, width)(source)
    x = embedding(signs, width)(target) |> sinusoidal_positions
    x = x + attention(2, causal = true)(x, x, x)
    x = x + attention(2)(x, memory, memory, where = mask)
    output logits = x |> dense(signs)
}

train Turned {
    data = pairs("both.tsv", tokens = "char", bucket = 2)
    target next: i32[batch, written] in 0..signs
    loss = cross_entropy(logits, next)
    optimizer = adam(lr = 0.03)
    epochs = 6
    batch = 8
}

generate Turned {
    feed target from logits
    length = 6
    sample = greedy
}
"""
_WORDS = ["ab", "bca", "c", "abcab", "cc", "bab", "acacb", "b", "caab", "abc"] * 4


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("turned")
    (folder / "both.tsv").write_text("".join(f"{word}\t{word[::-1]}\n" for word in _WORDS))
    (folder / "model.dl").write_text(_MODEL)
    place = folder / "run"
    assert main(["train", str(folder / "model.dl"), "--out", str(place), "--target", "reference"]) == 0
    (folder / "in.txt").write_text("".join(f"{word}\n" for word in _WORDS[:10]))
    return place


def _generated(run: Path, capsys: pytest.CaptureFixture[str], *options: str) -> list[str]:
    capsys.readouterr()
    assert main(["generate", str(run), "--target", "reference", *options]) == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("way", [(), ("--beam", "2")])
def test_each_line_gets_what_it_gets_alone(run: Path, way: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    together = _generated(run, capsys, "--input-file", f"source={run.parent / 'in.txt'}", *way)
    assert len(together) == 10
    assert len(set(together)) > 2
    for word, answer in list(zip(_WORDS, together, strict=False))[:4]:
        assert _generated(run, capsys, "--input", f"source={word}", *way) == [answer]


def test_json_has_an_object_for_each_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = _generated(run, capsys, "--input-file", f"source={run.parent / 'in.txt'}", "--json")
    assert [set(json.loads(line)) for line in lines] == [{"text", "prompt", "tokens"}] * 10


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("ab\n\nc\n", (), "in.txt, row 2: the line is empty"),
        (
            "ab\n" + "c" * 40 + "\n",
            (),
            "row 2: the text for `source` has 42 tokens with its ends, and the model reads 7",
        ),
        ("ab\n", ("--n", "2"), "--input-file gives one sequence for each line"),
        ("ab\n", ("--input", "source=a"), "--input-file gives one sequence for each line"),
    ],
)
def test_mistakes(
    run: Path, tmp_path: Path, content: str, options: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "in.txt"
    path.write_text(content)
    assert main(["generate", str(run), "--target", "reference", "--input-file", f"source={path}", *options]) in (1, 2)
    assert message in capsys.readouterr().err
