"""`dlc generate`: text from a run, the same for the same seed, and what is wrong with a prompt."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import pytest

from runtime.cli.generate import GrowingText, TokenPace
from runtime.cli.main import main
from runtime.data.text.tokenizer import END, UNITS, Tokenizer, TokenRules, learnt
from runtime.inference.wording import Wording

_MODEL = """
model Letters(width = 8, context = 8) {
    input tokens: i32[batch, context] in 0..vocab
    x = tokens |> embedding(vocab, width)
    x = x + attention(2, causal = true)(x, x, x)
    output logits = x |> dense(vocab)
}

train Letters {
    data = text("letters.txt")
    target next: i32[batch, context] in 0..vocab
    loss = cross_entropy(logits, next)
    optimizer = adam(lr = 0.02)
    steps = 4
    batch = 16
}

generate Letters {
    feed tokens from logits
    start = "ab"
    length = 10
    sample = temperature(1.0)
}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("letters")
    (folder / "letters.txt").write_text("abcdefgh\n" * 40)
    (folder / "model.dl").write_text(_MODEL)
    place = folder / "run"
    assert main(["train", str(folder / "model.dl"), "--out", str(place), "--target", "reference"]) == 0
    return place


def _generated(run: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    capsys.readouterr()
    assert main(["generate", str(run), "--target", "reference", *options]) == 0
    return capsys.readouterr().out


def test_text_begins_with_the_prompt(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _generated(run, capsys).startswith("ab")
    assert _generated(run, capsys, "--prompt", "fgh", "--max", "3").startswith("fgh")


def test_a_seed_gives_the_same_text(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, again, other = (_generated(run, capsys, "--seed", seed) for seed in ("1", "1", "2"))
    assert first == again
    assert first != other
    assert _generated(run, capsys, "--seed", "1", "--whole") == first


def test_each_sequence_is_a_line_of_json(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [json.loads(line) for line in _generated(run, capsys, "--n", "3", "--json").splitlines()]
    assert len(lines) == 3
    assert {len(line["tokens"]) for line in lines} == {10}
    assert all(line["text"].startswith("ab") for line in lines)
    alone = json.loads(_generated(run, capsys, "--json"))
    assert alone["tokens"] == lines[0]["tokens"]


def test_several_prompts_are_extended_as_each_alone(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second one is as long as what the first has become and a token more."""
    prompts = ("ab", "abcdef", "h")
    for options in (("--max", "3", "--n", "2"), ("--beam", "2", "--max", "3"), ("--whole", "--max", "3")):
        given = [part for prompt in prompts for part in ("--prompt", prompt)]
        together = _generated(run, capsys, *given, *options, "--json").splitlines()
        alone = [_generated(run, capsys, "--prompt", prompt, *options, "--json").splitlines() for prompt in prompts]
        assert together == [line for lines in alone for line in lines]
    both = _generated(run, capsys, "--prompt-ids", "1,2", "--prompt-ids", "3", "--max", "1", "--json").splitlines()
    assert [json.loads(line)["prompt"] for line in both] == [[1, 2], [3]]
    assert _generated(run, capsys, "--prompt", "ab", "--prompt", "gh", "--max", "2").count("\n") >= 2


def test_tokens_per_second_stand_at_the_end(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["generate", str(run), "--target", "reference", "--n", "2"]) == 0
    said = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"[\d,]+ tokens/s", said[-1])
    assert main(["generate", str(run), "--target", "reference", "--max", "1"]) == 0
    assert "tokens/s" not in capsys.readouterr().err


def test_a_beam_gives_the_likeliest_first(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = _generated(run, capsys, "--beam", "3", "--n", "2", "--max", "4", "--json").splitlines()
    scores = [json.loads(line)["score"] for line in found]
    assert len(scores) == 2
    assert scores == sorted(scores, reverse=True)
    greedy, beam = (_generated(run, capsys, *way) for way in (("--temperature", "0"), ("--beam", "1")))
    assert greedy == beam


@pytest.mark.parametrize("more", [(), ("--top-k", "2"), ("--top-p", "0.5")])
def test_a_temperature_whose_quotients_leave_f32_is_refused(
    more: tuple[str, ...], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["generate", str(run), "--target", "reference", *more, "--temperature"]
    for small in ("1e-31", "1.4e-45", "1e-300"):
        assert main([*given, small]) != 0
        assert "is at least 1e-30, not 1" in capsys.readouterr().err
    assert _generated(run, capsys, "--temperature", "1e-30") == _generated(run, capsys, "--temperature", "0")


def test_a_text_ends_with_its_stop(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--set", 'generate.stop="d"', "--prompt", "a", "--n", "20", "--json")
    texts = [json.loads(line)["text"] for line in _generated(run, capsys, *options).splitlines()]
    assert any(text.endswith("d") for text in texts)
    assert all("d" not in text[:-1] for text in texts)


class _Clock:
    """A decoder that compiles for a while on the way, and the time that it takes."""

    def __init__(self) -> None:
        self.now, self.compiling_seconds = 0.0, 0.0

    def grown(self, lengths: list[list[int]]) -> Iterator[list[list[int]]]:
        yield [[] for _ in lengths[0]]
        for number, row in enumerate(lengths):
            self.now += 100.0 if number == 0 else 0.5  # the first waits for the prompt
            if number == 2:
                self.now, self.compiling_seconds = self.now + 30.0, self.compiling_seconds + 30.0
            yield [[7] * length for length in row]


class _Tokens:
    """Stands for the words of a run: text from numbers by one tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.text = tokenizer.decode


@pytest.mark.parametrize("unit", UNITS)
def test_text_that_grows_token_by_token_is_that_of_all_tokens(unit: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With marks that take no blank before or behind them, special tokens, and bytes that are no characters alone."""
    if unit == "bpe":
        pytest.importorskip("tokenizers")
    learns = TokenRules(unit, most=300 if unit == "bpe" else None)
    tokenizer = learnt(learns, ["an odd (very odd) text: naïve, [of] 3 wörds… 漢字 🙂, and so on!"] * 3)
    draw = random.Random(unit)
    for stops in (False, True):
        tokens = [number for number in draw.choices(range(len(tokenizer)), k=300) if stops or number != END]
        shown = GrowingText(cast(Wording, _Tokens(tokenizer)))
        shown.begin(tokens[:5])
        for count in range(1, len(tokens) - 4):
            shown.grown(tokens[5 : 5 + count])
        early = capsys.readouterr().out
        shown.end(tokens[5:])
        whole = tokenizer.decode(tokens)
        assert early + capsys.readouterr().out == whole + "\n"
        assert len(early) > len(whole) - 20


def test_the_time_of_a_token_does_not_grow_with_the_text() -> None:
    """Each asks for the text of a few tokens, however many there are."""
    asked: list[int] = []

    class Counted:
        def text(self, tokens: Sequence[int]) -> str:
            asked.append(len(tokens))
            return "x" * len(tokens)

    shown = GrowingText(cast(Wording, Counted()))
    shown.begin([1])
    for count in range(1, 50):
        shown.grown([1] * count)
    assert max(asked) <= 3


def test_the_pace_counts_tokens_behind_the_first_and_no_other_work(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = _Clock()
    monkeypatch.setattr("runtime.cli.generate.time.perf_counter", lambda: clock.now)
    pace = TokenPace(clock)
    assert pace.tokens_per_second is None
    for _ in pace.timed(clock.grown([[1, 1], [2, 2], [3, 2], [4, 2]])):
        clock.now += 1000.0  # the terminal is slow
    assert pace.tokens_per_second == 4 / 1.5
    for _ in pace.timed(clock.grown([[1]])):
        pass
    assert pace.tokens_per_second == 4 / 1.5
    for _ in pace.timed(clock.grown([[1], [2]])):
        pass
    assert pace.tokens_per_second == 5 / 2.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--prompt", "xyz"), "the prompt has parts outside the vocabulary"),
        (("--prompt", "xay"), "leave out the parts that are read as `<unknown>`: `<unknown>a<unknown>`"),
        (("--prompt", ""), "the prompt is empty"),
        (("--input", "image=1"), "`tokens` is the only one"),
        (("--seed", "x"), "wants a whole number of at least 0"),
        (("--prompt-ids", "1,99"), "there is no token 99"),
        (("--set", "generate.stop=[99]"), "there is no token 99"),
        (("--prompt-ids", "a"), "wants tokens such as 1,2,3"),
        (("--beam", "2", "--top-k", "3"), "--beam draws nothing"),
        (("--beam", "2", "--n", "3"), "a beam of 2 has 2 sequences"),
        (("--length-penalty", "1"), "--length-penalty goes with --beam"),
        (("--top-p", "2"), "wants a number above 0 and at most 1"),
        (("--input", "image=1"), "there is no input `image` to give"),
        (("--set", "epochs=7"), "--set epochs is about the training"),
        (("--set", "precision=bf16"), "--set precision=bf16 is about the training"),
        (("--set", "generate.length=1e400"), "the number 1e400 is too large"),
        (("--set", "generate.sample=sharp(2)"), "there is no way of sampling `sharp`"),
    ],
)
def test_mistakes(run: Path, options: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", str(run), "--target", "reference", *options]) != 0
    assert message in capsys.readouterr().err


def test_without_a_vocabulary_sequences_are_numbers(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = max(run.glob("checkpoints/*/weights.safetensors"))
    model = (
        str(run.parent / "model.dl"),
        "--weights",
        str(weights),
        "--set",
        "vocab=13",
        "--target",
        "reference",
        "--max",
        "3",
    )
    assert main(["generate", *model, "--prompt-ids", "4,5"]) == 0
    assert capsys.readouterr().out.startswith("4 5 ")
    assert main(["generate", *model, "--prompt-ids", "4", "--set", 'generate.stop="d"']) != 0
    assert "give tokens: --set generate.stop=[1,2,3]" in capsys.readouterr().err


def test_a_model_that_says_nothing_of_decoding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = _MODEL.split("generate")[0].replace('text("letters.txt")', f'text("{tmp_path}/letters.txt")')
    (tmp_path / "letters.txt").write_text("abcdefgh\n" * 40)
    (tmp_path / "model.dl").write_text(text)
    place = str(tmp_path / "run")
    assert main(["train", str(tmp_path / "model.dl"), "--out", place, "--target", "reference"]) == 0
    assert main(["generate", place]) != 0
    assert "nothing says how to decode Letters" in capsys.readouterr().err


def test_a_preview_shows_the_text_of_a_window(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(run.parent / "model.dl")
    assert main(["data", "preview", model, "--target", "reference", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)["sample"]
    assert main(["data", "preview", model, "--target", "reference"]) == 0
    shown = json.dumps(("abcdefgh\n" * 40)[first : first + 8])
    assert shown in capsys.readouterr().out
    assert main(["data", "preview", model, "--target", "reference", "--sample", str(first + 1)]) == 2
    assert f"the nearest is {first}" in capsys.readouterr().err


def test_windows_need_a_length_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("letters.txt").write_text("abcdefgh\n" * 40)
    Path("model.dl").write_text(_MODEL.replace(", context = 8", "").replace("context", "time"))
    assert main(["train", "model.dl", "--out", "run"]) == 1
    assert "make it a setting: `model …(time = 64)`" in capsys.readouterr().err


def test_a_training_and_a_comparison_speak_of_generating(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = run.parent / "other"
    model = str(run.parent / "model.dl")
    assert main(["train", model, "--out", str(other), "--target", "reference", "--set", 'generate.start="\\n"']) == 0
    assert f"or: dlc generate {other}" in capsys.readouterr().err
    assert main(["runs", "--diff", str(run), str(other)]) == 0
    row = next(line.split() for line in capsys.readouterr().out.splitlines() if "generate.start" in line)
    assert row == ["generate.start", "ab", '"\\n"']


def test_a_repetition_penalty_of_the_command_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = _generated(run, capsys, "--temperature", "0")
    assert _generated(run, capsys, "--temperature", "0", "--repetition-penalty", "1") == plain
    varied = _generated(run, capsys, "--temperature", "0", "--repetition-penalty", "1000")
    assert len({*varied[2:9]}) >= len({*plain[2:9]})
    assert main(["generate", str(run), "--repetition-penalty", "0"]) == 2
    assert "a number from 1e-30 to 1e30" in capsys.readouterr().err
