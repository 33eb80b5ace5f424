"""Texts that are read block by block, one a row: those of memory, bit for bit."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from data_specs import source_of, spec
from streamed_data import BLOCK, both, expect_same, expect_same_rows

from compiler.errors.diagnostics import DataError
from runtime.data.loading import load_evaluation_data, load_training_data
from runtime.data.specs import Cut, Cuts


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path / "cache"))


TEXT_SPECS = [spec("tokens", "i32", row=(6,), low=0, high=99), spec("label", "i32", target=True, low=0, high=4)]


def write_texts(folder: Path) -> None:
    """Folders of two classes, whose files have texts of several lengths, blank lines and letters of several bytes."""
    drawn = random.Random(0)
    words = ["a", "be", "sea", "dé", "été", "Fließ", "gé", "λόγος", "eye", "jay"]
    for kind in ("good", "bad"):
        (folder / kind).mkdir()
        for number in range(7):
            lines = [" ".join(drawn.choices(words, k=drawn.randint(1, 9))) for _ in range(20)]
            ending = "\r\n" if number % 2 else "\n"
            (folder / kind / f"{number}.txt").write_text("\n".join([*lines, "", ""]), newline=ending)


@pytest.mark.parametrize(
    "options",
    [
        {"each": "file"},
        {"tokens": "char", "ends": True, "lower": True},
        {"tokens": "space", "min_frequency": 3, "vocabulary": 40, "longest": 3},
        {"label": "first", "vocabulary": 12},
    ],
)
@pytest.mark.parametrize("piece", [7, 1 << 20])
def test_folders_of_texts(tmp_path: Path, options: dict[str, Any], piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.data.formats.content._PIECE", piece)
    monkeypatch.setattr("runtime.data.formats.text_blocks._ROWS", 3)
    write_texts(tmp_path)
    path = str(tmp_path / "*" / "*.txt")
    if "label" in options:
        for file in tmp_path.glob("*/*.txt"):
            file.write_text("".join(f"{file.parent.name} {line}\n" for line in file.read_text().split("\n") if line))
    kept, streamed = both(path, "lines", Cuts(0.2, 0.1, seed=3), TEXT_SPECS, **options)
    unnamed: dict[str, Any] = {  # in memory, rows are counted over all files
        name: replace(getattr(kept, name), names={}) for name in ("train", "validation", "test")
    }
    expect_same(replace(kept, **unnamed), streamed)
    other = source_of("lines", tmp_path / "good" / "*.txt", **{"tokens": "word", **options})
    specs = TEXT_SPECS[:1]
    found = load_evaluation_data(specs, other, kept.preparation, BLOCK)
    wanted = load_evaluation_data(specs, other, kept.preparation)
    expect_same_rows(replace(wanted.part, names={}), found.part)


def test_texts_of_pairs_tables_and_language_models(tmp_path: Path) -> None:
    write_texts(tmp_path)
    lines = [line for file in sorted(tmp_path.glob("*/*.txt")) for line in file.read_text().split("\n") if line]
    (tmp_path / "en.txt").write_text("\n".join(lines))
    (tmp_path / "fr.txt").write_text("\n".join(reversed(lines)))
    (tmp_path / "both.txt").write_text("\n".join("\t".join(pair) for pair in zip(lines, reversed(lines), strict=True)))
    tokens = [spec(name, "i32", row=(8,), target=name == "next") for name in ("source", "target", "next")]
    for shared in (False, True):
        expect_same(*both(str(tmp_path / "both.txt"), "pairs", Cuts(0.1), tokens, shared=shared, min_frequency=2))
    masks = [*tokens, replace(spec("length", "bool", row=(8,)), mask_of="source")]
    source = source_of("pairs", tmp_path / "en.txt")
    source = replace(source, others=(("target", str(tmp_path / "fr.txt")),))
    expect_same(
        load_training_data(masks, source, Cuts(0.1)), load_training_data(masks, source, Cuts(0.1, stream=BLOCK))
    )
    (tmp_path / "fr.txt").write_text("\n".join(lines[:-3]))
    with pytest.raises(DataError, match=r"fr\.txt: 277 lines, but en\.txt has 280"):
        load_training_data(masks, source, Cuts(0.1, stream=BLOCK))
    modelled = [spec("tokens", "i32", row=(5,)), spec("next", "i32", row=(5,), target=True)]
    expect_same(*both(str(tmp_path / "en.txt"), "lines", Cuts(0.1), modelled, longest=5))
    (tmp_path / "t.csv").write_text("said,kind\n" + "".join(f"{line},{len(line) % 4}\n" for line in lines))
    cut = Cuts(Cut("stratified", 0.2), stream=4096)
    given: dict[str, Any] = {"text": "said", "label": "kind"}
    expect_same(*both(str(tmp_path / "t.csv"), "lines", Cuts(0.1), TEXT_SPECS, **given))
    loaded = load_training_data(TEXT_SPECS, source_of("lines", tmp_path / "t.csv", **given), cut)
    kept = load_training_data(TEXT_SPECS, source_of("lines", tmp_path / "t.csv", **given), replace(cut, stream=0))
    expect_same(kept, loaded)
