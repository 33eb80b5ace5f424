"""`--data PATH`: every kind of source from the command line, and what is said where one path is not enough."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.cli.main import main

TEXTS = [f"{first} {second} words" for first in "abcde" for second in "vwxyz"]
OF_LINES = """model Lines(words = 4) {
    input tokens: i32[batch, time] in 0..vocab padded by mask
    output p = mean(tokens |> embedding(vocab, words), axis = 1, where = mask) |> dense(2)
}

train Lines {
    data = DATA
    target label: i32[batch] in 0..2
    loss = cross_entropy(p, label)
    optimizer = adam
    epochs = 1
    batch = 8
}
"""
OF_PAIRS = """model Pairs(words = 4) {
    input source: i32[batch, n] in 0..from padded by seen
    input target: i32[batch, m] in 0..to padded by said
    s = mean(source |> embedding(from, words), axis = 1, where = seen)
    output p = (target |> embedding(to, words)) + s[:, None] |> dense(to)
}

train Pairs {
    data = DATA
    target next: i32[batch, m] in 0..to
    loss = cross_entropy(p, next, where = said)
    optimizer = adam
    epochs = 1
    batch = 8
}
"""
OF_TEXT = """model Text(words = 4) {
    input tokens: i32[batch, 4] in 0..vocab
    output p = tokens |> embedding(vocab, words) |> dense(vocab)
}

train Text {
    data = DATA
    target next: i32[batch, 4] in 0..vocab
    loss = cross_entropy(p, next)
    optimizer = adam
    epochs = 1
    batch = 8
}
"""


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code_cache: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLC_CACHE_DIR", str(code_cache))
    for folder in (Path("old"), Path("new")):
        folder.mkdir()
        (folder / "a.de").write_text("\n".join(TEXTS))
        (folder / "a.en").write_text("\n".join(text.upper() for text in TEXTS))
        (folder / "both.tsv").write_text("\n".join(f"{text}\t{text.upper()}" for text in TEXTS))
        (folder / "book.txt").write_text("\n".join(TEXTS))
        (folder / "labels").write_text("\n".join("good" if text < "c" else "bad" for text in TEXTS))
        (folder / "first.txt").write_text("\n".join(f"{'good' if text < 'c' else 'bad'} {text}" for text in TEXTS))
        (folder / "good.part").write_text("\n".join(TEXTS[:9]))
        (folder / "bad.part").write_text("\n".join(TEXTS[9:]))


PAIRS = 'pairs("old/a.de", "old/a.en")'
LABELS = 'lines("old/a.de", labels = "old/labels")'
STARS = 'lines("old/*.part")'


@pytest.mark.parametrize(
    ("model", "source", "arguments"),
    [
        (OF_PAIRS, PAIRS, ["--data", "new/both.tsv"]),
        (OF_PAIRS, PAIRS, ["--set", 'data=pairs("new/a.de", "new/a.en")']),
        (OF_PAIRS, "", ["--set", 'data=pairs("new/a.de", "new/a.en")']),
        (OF_LINES, STARS, ["--data", "new/*.part"]),
        (OF_LINES, 'lines("old/first.txt", label = "first")', ["--data", "new/first.txt"]),
        (OF_LINES, LABELS, ["--set", 'data=lines("new/a.de", labels = "new/labels")']),
        (OF_TEXT, 'text("old/a.*")', ["--data", "new/a.*"]),
        (OF_TEXT, "", ["--set", 'data=text("new/book.txt")']),
    ],
)
def test_every_kind_of_texts_is_named_from_the_command_line(model: str, source: str, arguments: list[str]) -> None:
    lines = [line for line in model.splitlines() if source or "DATA" not in line]
    Path("model.dl").write_text("\n".join(lines).replace("DATA", source) + "\n")
    assert main(["train", "model.dl", "--dry-run", *arguments]) == 0


@pytest.mark.parametrize(
    ("model", "source", "path", "told"),
    [
        (OF_PAIRS, PAIRS, "new/a.de", "name both files in `data = pairs(…, …)`, on the command line by `--set 'data="),
        (OF_PAIRS, PAIRS, "new", "this is a folder, and `pairs` reads files\nhint: name its file\n"),
        (OF_LINES, LABELS, "new/a.de", """name them all: --set 'data=lines("new/a.de", labels="…")'"""),
        (OF_LINES, STARS, "new/good.part", 'say where it is: `label = "first"` or `"last"`, `labels = "FILE"`, or as'),
        (OF_TEXT, 'text("old/book.txt")', "new", "name a file, or several by a `*`: --data 'new/*'"),
        (OF_TEXT, "", "new/book.txt", """or --set 'data=text("book.txt")'"""),
        (OF_TEXT, "", "new/a.de", """or say the format: --set 'data=lines("a.de")'"""),
    ],
)
def test_where_one_path_is_not_enough_the_way_is_told(
    model: str, source: str, path: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [line for line in model.splitlines() if source or "DATA" not in line]
    Path("model.dl").write_text("\n".join(lines).replace("DATA", source) + "\n")
    assert main(["train", "model.dl", "--dry-run", "--data", path]) == 1
    assert told in capsys.readouterr().err


def test_a_trained_model_is_measured_on_other_files(capsys: pytest.CaptureFixture[str]) -> None:
    Path("model.dl").write_text(OF_LINES.replace("DATA", LABELS))
    assert main(["train", "model.dl", "--out", "run"]) == 0
    assert main(["eval", "run", "--data", "new/a.de"]) == 1
    assert """--set 'test=lines("new/a.de", labels="…")'""" in capsys.readouterr().err
    assert main(["eval", "run", "--set", 'test=lines("new/a.de", labels="new/labels")']) == 0
    assert "Lines on the test part, 25 rows" in capsys.readouterr().err
