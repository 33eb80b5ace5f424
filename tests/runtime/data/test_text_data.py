"""Sources of text: lines with labels, running text and pairs, as arrays, masks, parts and dimensions."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_specs import source_of, spec, write

from compiler.driver import DataQuestion
from compiler.errors.diagnostics import DataError
from runtime.data.dimensions import dimensions_of
from runtime.data.loading import LoadedData, load_evaluation_data, load_rows, load_training_data
from runtime.data.part import Part, rows_of_epoch
from runtime.data.specs import Cuts, DataSource, InputSpec
from runtime.support.files import fingerprint

WORDS = ["good film", "a bad bad film", "fine", "not good", "bad", "a good one", "so fine", "not a good film"]


def tokens(name: str = "tokens", time: int = 6, **more: Any) -> InputSpec:
    return spec(name, "i32", (time,), **more)


def mask(of: str = "tokens", time: int = 6) -> InputSpec:
    return replace(spec(f"{of}_mask", "bool", (time,)), mask_of=of)


LABEL = spec("label", "u8", target=True, low=0, high=2)


def load(specs: Sequence[InputSpec], data: DataSource, **cuts: Any) -> LoadedData:
    return load_training_data(specs, data, Cuts(**cuts))


def shown(data: LoadedData, name: str = "tokens", row: int = 0) -> list[str]:
    tokenizer = data.preparation.tokenizer_of(name)
    assert tokenizer is not None
    return [tokenizer.tokens[number] for number in data.train.arrays[name][row]]


def sentences(tmp_path: Path) -> Path:
    return write(tmp_path / "s.txt", "".join(f"{int('good' in s)} {s}\n" for s in WORDS))


def test_lines_become_padded_rows_with_a_mask_and_a_label(tmp_path: Path) -> None:
    data = load([tokens(), mask(), LABEL], source_of("lines", sentences(tmp_path), label="first"))
    assert shown(data) == ["good", "film", *["<pad>"] * 4]
    assert data.train.arrays["tokens_mask"].sum(axis=1).tolist() == [len(s.split()) for s in WORDS]
    assert data.train.arrays["tokens_mask"].dtype == np.bool_
    assert data.train.arrays["label"].tolist() == [int("good" in s) for s in WORDS]
    assert data.preparation.vocabulary_of("label") == ("0", "1")


def test_filling_without_a_mask_is_told(tmp_path: Path) -> None:
    source = source_of("lines", sentences(tmp_path), label="first")
    assert load([tokens(), mask(), LABEL], source).notes == ()
    (note,) = load([tokens(time=4), LABEL], source).notes
    assert note.startswith("s.txt: 6 of 8 texts of `tokens` are shorter than 4 and are filled up")


def test_a_text_that_is_not_there_has_no_vocabulary(tmp_path: Path) -> None:
    words = replace(tokens("words"), range_name="vocab")
    question = DataQuestion(("vocab",), (words,), source_of("text", sentences(tmp_path)))
    with pytest.raises(DataError, match="there is no text `words`") as mistake:
        dimensions_of(None)(question)
    assert mistake.value.fix == "it has `tokens`, `next`, which may name inputs and targets"


def test_labels_stand_in_many_places(tmp_path: Path) -> None:
    write(tmp_path / "last.txt", "so good\tyes\nso bad\tno\n")
    write(tmp_path / "text.txt", "so good\n\nso bad\n")
    write(tmp_path / "kinds.txt", "yes\nno\n")
    write(tmp_path / "table.csv", 'stars,kind,review\n5,yes,"so good"\n1,no,so bad\n')
    write(tmp_path / "reviews.yes", "so good\n")
    write(tmp_path / "reviews.no", "so bad\n")
    write(tmp_path / "prefix.txt", "__label__yes so good\n__label__no so bad\n")
    sources = [
        source_of("lines", tmp_path / "last.txt", label="last"),
        source_of("lines", tmp_path / "prefix.txt", label="first"),
        replace(source_of("lines", tmp_path / "text.txt"), others=(("labels", str(tmp_path / "kinds.txt")),)),
        source_of("lines", tmp_path / "table.csv", text="review", label="kind"),
        source_of("lines", tmp_path / "table.csv", text=-1, label=1),
        source_of("lines", tmp_path / "reviews.*"),
        source_of("lines", tmp_path / "reviews.*", each="file"),
    ]
    for number, source in enumerate(sources):
        data = load([tokens(time=2), LABEL], source)
        words = data.preparation.vocabulary_of("label")
        assert words is not None
        assert words == ("no", "yes"), number
        found = {(tuple(shown(data, row=row)), words[data.train.arrays["label"][row]]) for row in range(2)}
        assert found == {(("so", "good"), "yes"), (("so", "bad"), "no")}, number


def test_broken_lines_are_reported_with_their_place(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "1 good\n\n0\n")
    with pytest.raises(DataError, match="`0` is one word") as caught:
        load([tokens(), LABEL], source_of("lines", path, label="first"))
    assert caught.value.row == 3
    labels = write(tmp_path / "labels.txt", "1\n")
    with pytest.raises(DataError, match=r"1 labels for the 2 texts of a\.txt"):
        load([tokens(), LABEL], replace(source_of("lines", path), others=(("labels", str(labels)),)))
    with pytest.raises(DataError, match="nothing says which label a line has"):
        load([tokens(), LABEL], source_of("lines", path))
    with pytest.raises(DataError, match="there is no text"):
        load([tokens()], source_of("lines", write(tmp_path / "b.txt", "\n \n")))
    with pytest.raises(DataError, match="which are a row of whole numbers"):
        load([spec("tokens", "f32", (4,))], source_of("lines", path))


def test_the_vocabulary_is_that_of_the_training_part(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "".join(f"word{number}\n" for number in range(40)))
    data = load([tokens(time=1)], source_of("lines", path), validation=0.5, seed=3)
    assert data.validation is not None
    assert data.train.arrays["tokens"][data.train.rows].min() >= 4
    assert (data.validation.arrays["tokens"][data.validation.rows] == 1).all()
    question = DataQuestion(("vocab",), (replace(tokens(time=1), range_name="vocab"),), source_of("lines", path))
    assert dimensions_of(None)(replace(question, cuts=Cuts(0.5, seed=3))) == {"vocab": 24}
    assert dimensions_of(None)(question) == {"vocab": 44}


def test_the_data_says_how_long_the_longest_text_is(tmp_path: Path) -> None:
    path = write(tmp_path / "names.txt", "anna\nbo\n")
    inputs = (replace(tokens(), dimension_names=("batch", "time"), range_name="vocab"),)

    def found(targets: tuple[str, ...] = (), **options: Any) -> dict[str, int]:
        source = source_of("lines", path, tokens="char", **options)
        return dict(dimensions_of(None)(DataQuestion(("time", "vocab"), inputs, source, Cuts(), targets)))

    assert found() == {"time": 4, "vocab": 8}
    assert found(("next",)) == {"time": 5, "vocab": 8}
    assert found(longest=3)["time"] == 3
    assert found(ends=True)["time"] == 6


def test_next_is_the_text_a_token_further_on(tmp_path: Path) -> None:
    path = write(tmp_path / "names.txt", "anna\nbo\n")
    data = load([tokens(time=5), mask(time=5), tokens("next", 5, target=True)], source_of("lines", path, tokens="char"))
    assert shown(data) == ["<start>", *"anna"]
    assert shown(data, "next") == [*"anna", "<end>"]
    assert shown(data, "next", 1) == ["b", "o", "<end>", "<pad>", "<pad>"]
    assert data.train.arrays["tokens_mask"].sum(axis=1).tolist() == [5, 3]
    short = load([tokens(time=3), tokens("next", 3, target=True)], source_of("lines", path, tokens="char"))
    assert (shown(short), shown(short, "next")) == (["<start>", "a", "n"], ["a", "n", "n"])
    assert any("1 of 2 texts of `tokens` are longer than 3 and are cut" in note for note in short.notes)


def test_a_range_too_small_for_the_vocabulary(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "a b c\n")
    with pytest.raises(DataError, match=r"the vocabulary has 7 tokens: `tokens` is declared i32 in 0\.\.6"):
        load([tokens(low=0, high=6)], source_of("lines", path))
    load([tokens(low=0, high=7)], source_of("lines", path))
    load([tokens(low=0, high=6)], source_of("lines", path, vocabulary=6))


def test_pairs_have_what_a_decoder_reads_and_what_it_says(tmp_path: Path) -> None:
    left, right = write(tmp_path / "a.de", "ein Hund\nja\n"), write(tmp_path / "a.en", "a dog\nyes\n")
    both = write(tmp_path / "both.tsv", "ein Hund\ta dog\nja\tyes\n")
    specs = [tokens("source", 4), tokens("target", 4), mask("target", 4), tokens("next", 4, target=True)]
    for source in (replace(source_of("pairs", left), others=(("target", str(right)),)), source_of("pairs", both)):
        data = load(specs, source)
        assert shown(data, "source") == ["<start>", "ein", "Hund", "<end>"]
        assert shown(data, "target") == ["<start>", "a", "dog", "<pad>"]
        assert shown(data, "next") == ["a", "dog", "<end>", "<pad>"]
        assert data.train.arrays["target_mask"].tolist() == [[True] * 3 + [False], [True] * 2 + [False] * 2]
        assert set(data.preparation.tokenizers) == {"source", "target"}
    shared = load(specs, source_of("pairs", both, shared=True))
    assert set(shared.preparation.tokenizers) == {"source"}
    for content, message, row in (("ein Hund\n", "1 lines, but a.de has 2", None), ("a\n\n", "the line is empty", 2)):
        write(right, content)
        with pytest.raises(DataError, match=message) as caught:
            load(specs, replace(source_of("pairs", left), others=(("target", str(right)),)))
        assert caught.value.row == row
    with pytest.raises(DataError, match=r"`\\t` does not stand between two texts") as caught:
        load(specs, source_of("pairs", left))
    assert caught.value.row == 1


def test_windows_of_a_text_are_views_of_it(tmp_path: Path) -> None:
    text = "".join(chr(97 + n % 7) for n in range(100))
    specs = [tokens(time=8), mask(time=8), tokens("next", 8, target=True)]
    data = load(specs, source_of("text", write(tmp_path / "t.txt", text)), validation=0.2, test=0.1)
    arrays = data.train.arrays
    assert arrays["tokens"].shape == (92, 8)
    assert np.shares_memory(arrays["tokens"], arrays["next"])
    assert arrays["tokens"].base is not None
    np.testing.assert_array_equal(arrays["tokens"][1:], arrays["next"][:-1])
    assert arrays["tokens_mask"].all()
    # The training part is the first: 70 characters; windows of 9 with the one that is told.
    assert data.train.rows.tolist() == [0, 8, 16, 24, 32, 40, 48]
    assert data.train.slack == 7
    assert data.validation is not None
    assert data.test is not None
    assert data.validation.rows.tolist() == [70, 78]
    assert data.test.rows.tolist() == [90]
    every = load(specs, source_of("text", tmp_path / "t.txt", stride=1), validation=0.2)
    assert (len(every.train.rows), every.train.slack) == (72, 0)
    few = load(specs, source_of("text", tmp_path / "t.txt", stride=1000))
    assert {int(*rows_of_epoch(few.train, 0, epoch, 4)) for epoch in range(1000)} == set(range(92))
    with pytest.raises(DataError, match="the validation part has 2 steps, and a window takes 9"):
        load(specs, source_of("text", tmp_path / "t.txt"), validation=0.02)


def test_files_of_one_name_have_fingerprints_of_their_own(tmp_path: Path) -> None:
    left, right = tmp_path / "de" / "a.txt", tmp_path / "en" / "a.txt"
    for file in (left, right):
        file.parent.mkdir()
        write(file, f"{file.parent.name} und\nso weiter\n")
    pairs = replace(source_of("pairs", left), others=(("target", str(right)),))
    for source in (source_of("text", tmp_path / "*" / "a.txt"), pairs):
        specs = [tokens(time=2)] if source is not pairs else [tokens("source", 2), tokens("target", 2)]
        found = [load(specs, source, **cuts).summary["fingerprints"] for cuts in ({}, {"stream": 4})]
        assert found[0] == found[1] == {"de/a.txt": fingerprint(left), "en/a.txt": fingerprint(right)}


def test_windows_move_from_epoch_to_epoch_within_their_part(tmp_path: Path) -> None:
    path = write(tmp_path / "t.txt", "abcdefg" * 30)
    data = load([tokens(time=8), tokens("next", 8, target=True)], source_of("text", path), validation=0.5)
    seen = {int(row) for epoch in range(60) for row in rows_of_epoch(data.train, 0, epoch, 4)}
    assert seen == set(range(96))
    for epoch in range(3):
        rows = np.sort(rows_of_epoch(data.train, 0, epoch, 4))
        assert (np.diff(rows) == 8).all()
        np.testing.assert_array_equal(rows, np.sort(rows_of_epoch(data.train, 0, epoch, 4)))


def test_words_of_a_text_are_not_cut_in_two(tmp_path: Path) -> None:
    path = write(tmp_path / "t.txt", "alpha beta gamma delta")
    data = load([tokens(time=1)], source_of("text", path, tokens="word"), validation=0.3)
    assert data.validation is not None
    assert data.train.arrays["tokens"][:, 0].tolist() == [4, 5, 6, 1], "of the training part are three words"
    assert [part.rows.tolist() for part in (data.train, data.validation)] == [[0, 1, 2], [3]]
    with pytest.raises(DataError, match="the test part has 0 steps"):
        load([tokens(time=1)], source_of("text", path, tokens="word"), test=0.1)


def test_batches_of_similar_length() -> None:
    random = np.random.default_rng(0)
    lengths = random.integers(1, 60, 1000)
    part = Part({}, np.arange(1000), lengths=lengths)
    for epoch in range(3):
        rows = rows_of_epoch(part, 5, epoch, 16)
        assert sorted(rows.tolist()) == list(range(1000))
        batches = lengths[rows[:992]].reshape(-1, 16)
        assert np.ptp(batches, axis=1).max() <= 4
        assert not (np.diff(batches.mean(axis=1)) > 0).all(), "batches come in any order"
        np.testing.assert_array_equal(rows, rows_of_epoch(part, 5, epoch, 16))
    assert (rows_of_epoch(part, 5, 0, 16) != rows_of_epoch(part, 5, 1, 16)).any()


def test_other_sources_use_the_tokenizer_of_the_training(tmp_path: Path) -> None:
    specs = [tokens(time=3), mask(time=3), LABEL]
    other = write(tmp_path / "other.txt", "1 a new film\n")
    source = source_of("lines", sentences(tmp_path), label="first")
    data = load(specs, source, validation=source_of("lines", other, label="first"))
    assert data.validation is not None
    assert data.validation.arrays["tokens"].tolist()[0][1] == 1
    again = load_evaluation_data(specs, source_of("lines", other, label="first"), data.preparation)
    np.testing.assert_array_equal(again.part.arrays["tokens"], data.validation.arrays["tokens"])
    rows = load_rows(write(tmp_path / "in.txt", "a bad film\n\nfine\n"), specs, data.preparation, {})
    assert set(rows.part.arrays) == {"tokens", "tokens_mask"}
    assert rows.part.arrays["tokens_mask"].sum(axis=1).tolist() == [3, 1]


def test_synonyms_stand_beside_each_token(tmp_path: Path) -> None:
    table = write(tmp_path / "table.txt", "good fine great\nfilm movie\n")
    source = source_of("lines", sentences(tmp_path), label="first")
    source = replace(source, others=(("synonyms", str(table)),))
    specs = [tokens(time=3), spec("synonyms", "i32", (3, 3), target=True), LABEL]
    data = load(specs, source)
    tokenizer = data.preparation.tokenizer_of("tokens")
    assert tokenizer is not None
    words = [[tokenizer.tokens[k] for k in place] for place in data.train.arrays["synonyms"][0]]
    assert words == [["fine", "great", "fine"], ["movie", "movie", "movie"], ["<pad>"] * 3]
    assert [tokenizer.tokens[k] for k in data.train.arrays["synonyms"][4][0]] == ["bad"] * 3
    other = load_evaluation_data(specs, source_of("lines", sentences(tmp_path), label="first"), data.preparation)
    np.testing.assert_array_equal(other.part.arrays["synonyms"][..., 0], other.part.arrays["tokens"])
    with pytest.raises(DataError, match="takes a row of numbers for each token"):
        load([tokens(time=3), spec("synonyms", "i32", (3,), target=True), LABEL], source)
    write(table, "good\n")
    with pytest.raises(DataError, match="a word without a synonym") as caught:
        load(specs, source)
    assert caught.value.row == 1
