"""`generate` in the language: what it says of a program, which models are causal, and where others look ahead."""

from __future__ import annotations

import pytest
from decoding_models import CAUSAL, NOT_CAUSAL, not_causal
from elaboration import codes, mistakes, program

_TEXT = CAUSAL["each by itself"]


def _with(*lines: str) -> str:
    return _TEXT.replace("    length = 12\n    sample = greedy\n", "".join(f"    {line}\n" for line in lines))


def test_what_a_program_knows_of_decoding() -> None:
    found = program(_with('start = "a"', "stop = [1, 2]", "length = 5", "sample = top_k(3, temperature = 0.5)"))
    generation = found.generation
    assert generation is not None
    assert (generation.feed, generation.source, generation.length) == ("tokens", "logits", 5)
    assert (generation.start, generation.stop, generation.beam) == ("a", (1, 2), None)
    values = {s.name: (s.value, s.origin) for s in found.settings if s.name.startswith("generate")}
    assert values["generate.length"] == (5, "generate")
    assert values["generate.sample"] == ("top_k", "generate")
    assert values["generate.sample.k"][0] == 3


def test_what_is_left_out_has_a_default() -> None:
    generation = program(_with()).generation
    assert generation is not None
    assert (generation.start, generation.stop, generation.length) == (None, None, 256)
    assert [node.op.name for node in generation.sampler.nodes] == ["argmax"]
    assert program(_TEXT.split("generate")[0]).generation is None


def test_the_command_line_comes_first() -> None:
    overrides = (("generate.length", "3"), ("generate.sample", "beam(4, length_penalty = 0.5)"), ("generate.stop", "7"))
    generation = program(_TEXT, *overrides).generation
    assert generation is not None
    assert generation.beam is not None
    assert (generation.length, generation.stop) == (3, (7,))
    assert (generation.beam.width, generation.beam.length_penalty) == (4, 0.5)
    assert codes(mistakes(_TEXT, ("generate.len", "3"), elaborates=True)) == ["E0610"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (_with("length = 0"), "E0621"),
        (_with("length = 2.5"), "E0621"),
        (_with("start = [-1]"), "E0621"),
        (_with("start = [true]"), "E0621"),
        (_with('stop = ""'), "E0621"),
        (_with("stop = []"), "E0621"),
        (_with("sample = 3"), "E0304"),
        (_with("repetition_penalty = true"), "E0621"),
        (_with('repetition_penalty = "much"'), "E0621"),
        (_with("repetition_penalty = 0"), "E0315"),
        (_with("repetition_penalty = -1.5"), "E0315"),
        (_with("sample = greedy", "sample = greedy"), "E0621"),
        (_with("sample = beam(0)"), "E0621"),
        (_with("sample = probabilities").replace("model M", "fn probabilities(x) = softmax(x)\nmodel M"), "E0621"),
        (_with("sample = top_k"), "E0302"),
        (_with("sample = top_k(0)"), "E0315"),
        (_with("sample = topk(4)"), "E0201"),
        (_with("sample = relu"), "E0201"),
        (_with("sample = greedy").replace("feed tokens from logits", ""), "E0621"),
        (_with("sample = greedy").replace("from logits", "from logit"), "E0201"),
        (_with("sample = greedy").replace("feed tokens", "feed token"), "E0201"),
        (_with("sample = greedy").replace("generate M", "generate N"), "E0201"),
        (_TEXT + _TEXT[_TEXT.index("generate") :], "E0621"),
        (_TEXT.replace("tokens: i32[batch, 8] in 0..11", "tokens: i32[batch, 8] in 1..12"), "E0622"),
        (_TEXT.replace("output logits = x |> dense(11)", "output logits = dense(11)(x)[:, 1:]"), "E0622"),
    ],
)
def test_mistakes(text: str, code: str) -> None:
    assert codes(mistakes(text)) == [code]


@pytest.mark.parametrize("line", ['length = "long"', "start = 1.5", 'stop = ""', "sample = 3", "sample = topk"])
def test_a_message_says_what_would_do(line: str) -> None:
    (found,) = mistakes(_with(line))
    assert any(note.kind == "hint" for note in found.notes)


@pytest.mark.parametrize("name", CAUSAL)
def test_causal_models_are_accepted(name: str) -> None:
    assert mistakes(CAUSAL[name]) == []


@pytest.mark.parametrize("name", NOT_CAUSAL)
def test_the_message_names_the_line_that_looks_ahead(name: str) -> None:
    body, line = NOT_CAUSAL[name]
    (found,) = mistakes(not_causal(body))
    assert found.code == "E0623"
    place = found.notes[0].span
    assert place is not None
    assert line in place.source.line(place.line)
