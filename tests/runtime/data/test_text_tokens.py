"""Texts to token numbers and back: units, vocabularies, special tokens, byte pairs, and files that are no text."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compiler.errors.diagnostics import CheckpointError, DataError
from runtime.data.dataset import Reading
from runtime.data.formats.format import SourceOptions
from runtime.data.formats.lines import rules_of
from runtime.data.preparation import Preparation, preparation_from_json
from runtime.data.text.files import lines_of, text_files
from runtime.data.text.tokenizer import (
    END,
    PAD,
    SPECIAL,
    START,
    UNKNOWN,
    Tokenizer,
    TokenRules,
    learnt,
    tokenizer_from_json,
)

TEXTS = ["the cat (a small one) sat.", "the dog didn't sit!", "the the well-known cat"]


def tokens(unit: str, text: str, **rules: object) -> list[str]:
    tokenizer = learnt(TokenRules(unit, **rules), [text])  # type: ignore[arg-type]
    return [tokenizer.tokens[number] for number in tokenizer.encode([text])[0]]


def test_units_cut_as_they_say() -> None:
    assert tokens("char", "ab a") == ["a", "b", " ", "a"]
    assert tokens("space", "It's  a well-known\tfact .") == ["It's", "a", "well-known", "fact", "."]
    assert tokens("word", "It's a well-known fact(1)...") == ["It's", "a", "well-known", "fact", "(", "1", ")", *"..."]
    assert tokens("word", "Größe X", lower=True) == ["größe", "x"]


def test_a_vocabulary_has_what_is_frequent_in_a_fixed_order() -> None:
    words = learnt(TokenRules("word"), TEXTS)
    assert words.tokens[: len(SPECIAL)] == ("<pad>", "<unknown>", "<start>", "<end>")
    assert words.tokens[4:7] == ("the", "cat", "!")
    assert learnt(TokenRules("word", min_frequency=2), TEXTS).tokens[4:] == ("the", "cat")
    assert learnt(TokenRules("word", most=5), TEXTS).tokens == (*SPECIAL, "the")
    assert learnt(TokenRules("char"), ["cab", "ab"]).tokens == (*SPECIAL, "a", "b", "c")
    assert learnt(TokenRules("space"), ["<pad> <end> x"]).tokens == (*SPECIAL, "x"), "a text cannot say a special token"
    assert (PAD, UNKNOWN, START, END) == (0, 1, 2, 3)


def test_what_the_vocabulary_has_not_is_unknown() -> None:
    tokenizer = learnt(TokenRules("space"), ["a b"])
    assert tokenizer.encode(["b c <pad> a", ""])[0].tolist() == [5, UNKNOWN, UNKNOWN, 4]
    assert [len(numbers) for numbers in tokenizer.encode(["", "a"])] == [0, 1]
    assert tokenizer.encode(["a"])[0].dtype == np.int32


@pytest.mark.parametrize("unit", ["char", "word", "space", "bpe"])
def test_decoding_gives_the_text_back(unit: str) -> None:
    tokenizer = learnt(TokenRules(unit, most=300 if unit == "bpe" else None), TEXTS)
    for text, numbers in zip(TEXTS, tokenizer.encode(TEXTS), strict=True):
        assert tokenizer.decode([START, *numbers, END, 4, 5]) == text
        assert tokenizer.decode([*numbers, PAD, PAD]) == text
    saved = json.loads(json.dumps(Preparation({}, tokenizers={"tokens": tokenizer}).to_json()))
    again = preparation_from_json(saved).tokenizers["tokens"]
    assert again == tokenizer
    assert isinstance(again, Tokenizer)
    saved["tokenizers"]["tokens"]["rules"]["unit"] = "letter"
    with pytest.raises(CheckpointError, match="where a tokenizer should be"):
        preparation_from_json(saved)


def test_a_reading_needs_its_tokenizer() -> None:
    tokenizer = learnt(TokenRules("char"), TEXTS)
    given = Preparation({}, tokenizers={"tokens": tokenizer}, readings={"tokens": Reading("tokens")})
    saved = json.loads(json.dumps(given.to_json()))
    assert preparation_from_json(saved) == given
    saved["tokenizers"] = {}
    with pytest.raises(CheckpointError, match="without its tokenizer"):
        preparation_from_json(saved)


def test_byte_pairs_know_every_text() -> None:
    tokenizer = learnt(TokenRules("bpe", most=280), TEXTS * 3)
    assert len(tokenizer) == 280
    assert "Ġcat" in tokenizer.tokens
    (numbers,) = tokenizer.encode(["ein Kätzchen 🐈"])
    assert numbers.min() >= len(SPECIAL)
    assert tokenizer.decode(numbers) == "ein Kätzchen 🐈"
    assert len(tokenizer.encode(["the cat"])[0]) < len("the cat")
    assert learnt(TokenRules("bpe", most=280), TEXTS * 3) == tokenizer


def test_options_of_a_vocabulary_are_checked() -> None:
    assert rules_of(SourceOptions({"lower": True, "vocabulary": 9}), "word") == TokenRules("word", True, 1, 9)
    assert rules_of(SourceOptions({"tokens": "bpe", "vocabulary": 260}), "word").most == 260
    for wrong, message in (
        ({"tokens": "words"}, "cannot be `words`; did you mean `word`"),
        ({"vocabulary": 4}, "special meaning"),
        ({"tokens": "bpe"}, "need the size of their vocabulary"),
        ({"tokens": "bpe", "vocabulary": 259}, "byte pairs have the 256 bytes and 4 special tokens"),
        ({"min_frequency": 0}, "must be a positive whole number"),
    ):
        with pytest.raises(DataError, match=message):
            rules_of(SourceOptions(wrong), "word")


def test_a_mistake_in_a_file_has_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("eins\nzwei Bären\n".encode("latin-1"))
    with pytest.raises(DataError, match="byte 0xe4 is not UTF-8 text") as caught:
        text_files(path, SourceOptions({}))
    assert caught.value.row == 2
    assert 'encoding = "latin-1"' in caught.value.fix
    (file,) = text_files(path, SourceOptions({"encoding": "latin-1"}))
    assert lines_of(file) == [(1, "eins"), (2, "zwei Bären")]
    path.write_bytes(b"one\ntwo\0\n")
    with pytest.raises(DataError, match="a zero byte") as caught:
        text_files(path, SourceOptions({}))
    assert caught.value.row == 2
    with pytest.raises(DataError, match="names no encoding: `latin-99`"):
        text_files(path, SourceOptions({"encoding": "latin-99"}))


def test_a_star_stands_for_a_part_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "x[1]").mkdir()
    for name in ("b", "a"):
        (tmp_path / "x[1]" / f"{name}.txt").write_text(f"{name}\r\n\r\nmore\n")
    (tmp_path / "x[1]" / "c.txt.gz").write_bytes(gzip.compress(b"packed"))
    found = text_files(tmp_path / "x[1]" / "*.txt", SourceOptions({}))
    assert [(file.star, lines_of(file)) for file in found] == [
        ("a", [(1, "a"), (3, "more")]),
        ("b", [(1, "b"), (3, "more")]),
    ]
    (packed,) = text_files(tmp_path / "x[1]" / "*.txt.gz", SourceOptions({}))
    assert (packed.star, packed.text) == ("c", "packed")
    assert [file.star for file in text_files(tmp_path / "*" / "a.txt", SourceOptions({}))] == ["x[1]"]
    with pytest.raises(DataError, match="no file fits"):
        text_files(tmp_path / "*.md", SourceOptions({}))
    with pytest.raises(DataError, match="this is a folder"):
        text_files(tmp_path, SourceOptions({}))


def _with(pairs: str, **parts: object) -> str:
    return json.dumps({**json.loads(pairs), **parts})


@pytest.mark.parametrize(
    "damage",
    [
        lambda pairs: "garbage",
        lambda pairs: "[" * 100_000,
        lambda pairs: _with(pairs, normalizer={"type": "Prepend", "prepend": "x" * 1000}),
        lambda pairs: _with(
            pairs,
            pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False},
        ),
        lambda pairs: _with(
            pairs,
            model={
                **json.loads(pairs)["model"],
                "vocab": {token: 9 + number for token, number in json.loads(pairs)["model"]["vocab"].items()},
            },
        ),
    ],
)
def test_byte_pairs_of_others_are_of_the_form_of_ours(damage: Callable[[str], str]) -> None:
    """Numbers past the vocabulary would be looked up where there is nothing; an expression could take for ever."""
    pytest.importorskip("tokenizers")
    tokenizer = learnt(TokenRules("bpe", most=280), ["hello world"] * 20)
    saved = dict(tokenizer.to_json())
    assert tokenizer_from_json(saved) == tokenizer
    with pytest.raises(ValueError, match="where a tokenizer should be"):
        tokenizer_from_json({**saved, "pairs": damage(str(saved["pairs"]))})
