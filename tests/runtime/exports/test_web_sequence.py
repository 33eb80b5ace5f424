"""`next` of a model for the web: the tokens of `dlc generate`, in both modules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from decoding_models import decoding
from exported_models import trained_model
from web_programs import in_node

from runtime.exports.model_library import model_library
from runtime.exports.web_library import MACHINES, MODULE, web_files
from runtime.inference.decoding import Decoder
from runtime.runs.tensor_files import replace_tensors
from runtime.runs.trained import Trained

WINDOW, TOKENS, SEED = 32, 40, 3
PROMPT = [1, 2, 10]


@pytest.fixture(scope="module")
def trained() -> Trained:
    text = decoding("pre-norm blocks", "top_k(11, temperature = 0.8)")
    text = text.replace("    length = 12\n", "    repetition_penalty = 1.3\n")
    return trained_model(text.replace("batch, 8]", f"batch, {WINDOW}]"), 1)


@pytest.fixture(scope="module")
def folder(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    machines = [replace(trained, options=replace(trained.options, machine=name)) for name in MACHINES]
    made = [model_library(one, False, generates=True) for one in machines]
    tensors = made[0][1]
    path = tmp_path_factory.mktemp("web")
    for name, content in web_files(trained.program, [library for library, _ in made], tensors, {}, None).items():
        (path / name).write_bytes(content)
    replace_tensors(path / "weights.safetensors", tensors.values)
    return path


def generated(trained: Trained) -> list[int]:
    """The prompt with the tokens that follow, beyond the window, as `dlc generate` chooses them."""
    decoder = Decoder(trained.program, trained.tensors, trained.options, seed=SEED)
    tokens = list(PROMPT)
    for _ in range(TOKENS):
        tokens.append(int(decoder.next(np.array([tokens]))[0]))
    return tokens


@pytest.mark.parametrize("is_fast", [True, False])
def test_tokens_are_those_of_the_command(is_fast: bool, trained: Trained, folder: Path, tmp_path: Path) -> None:
    tokens = generated(trained)
    calls = [("next", np.array(tokens[:length], np.int32), SEED) for length in range(len(PROMPT), len(tokens))]
    calls += [calls[5], calls[30]]  # the states of these are gone
    (tmp_path / MODULE).write_bytes(b"\0asm\2\0\0\0")  # which no engine takes
    answers = in_node(folder, 1, calls, None if is_fast else tmp_path / MODULE)
    assert answers[0]["isFast"] is is_fast
    assert answers[1:-2] == tokens[len(PROMPT) :]
    assert answers[-2:] == [answers[6], answers[31]]


def test_other_settings_choose_other_tokens_and_wrong_calls_are_refused(folder: Path) -> None:
    tokens = np.array(PROMPT, np.int32)
    hot = {"generate_sample_temperature": 50.0}
    calls = [("next", tokens, seed, settings) for settings in ({}, hot) for seed in range(12)]
    wrong = [("next", np.array([], np.int32)), ("next", np.array([99], np.int32)), ("next", tokens, 0, {"heat": 1})]
    _, *found = in_node(folder, 1, [*calls, *wrong])
    assert found[:12] != found[12:24]
    assert [answer["error"].partition(":")[0] for answer in found[24:]] == ["Error", "RangeError", "TypeError"]
