"""`model_generate_next`: the tokens of `dlc generate`, one in each call, with the states in the caller's memory."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from c_programs import HERE, TOOLCHAINS, Toolchain, write_library
from decoding_models import decoding
from exported_models import trained_model

from compiler import driver
from compiler.driver import TRAINING, Steps
from runtime.cli.main import main
from runtime.inference.decoding import Decoder
from runtime.inference.model import length_of, runtime_settings, training_of, weight_names
from runtime.runs.tensor_files import replace_tensors
from runtime.runs.trained import Trained
from runtime.train.jobs import fresh_tensors

WINDOW, TOKENS = 32, 45
PROMPTS = ([3], [1, 2, 10], [4, 5, 6, 7, 8, 9, 10, 0, 1, 2])
GENERATE = """
#include "model.h"
#include <stdio.h>
#include <stdlib.h>

int main(int count, char **words) {
    static int32_t tokens[128];
    const int64_t bytes = MODEL_MEMORY(1);
    char *const block = (char *)malloc((size_t)bytes + 64);
    char *const memory = block + (64 - (uintptr_t)block % 64);
    int64_t length;
    int k;
#ifdef MODEL_SAMPLING
    struct model_sampling sampling = MODEL_SAMPLING;
    sampling.generate_sample_temperature = atof(words[2]);
#define CHOSEN &sampling,
#else
#define CHOSEN
#endif
    if (count != 3 || model_init(memory, bytes, 1) != MODEL_OK) return 2;
    while (fread(&length, 8, 1, stdin) == 1) {
        if (fread(tokens, 4, (size_t)length, stdin) != (size_t)length) return 3;
        for (k = 0; k < 45; k++, length++) {
            if (model_generate_next(memory, CHOSEN atoi(words[1]), tokens, length, tokens + length)) return 4;
        }
        fwrite(tokens + length - 45, 4, 45, stdout);
    }
    free(block);
    return 0;
}
"""


def with_window(name: str, way: str, penalty: float | None = None) -> Trained:
    text = decoding(name, way).replace("batch, 8]", f"batch, {WINDOW}]")
    if penalty is not None:
        text = text.replace("    length = 12\n", f"    repetition_penalty = {penalty}\n")
    return trained_model(text, 1)


def prompts() -> bytes:
    return b"".join(np.int64(len(one)).tobytes() + np.array(one, np.int32).tobytes() for one in PROMPTS)


def generated(trained: Trained, seed: int) -> list[int]:
    """The tokens that follow each prompt, as `dlc generate` chooses them."""
    found: list[int] = []
    for prompt in PROMPTS:
        decoder = Decoder(trained.program, trained.tensors, trained.options, seed=seed)
        tokens = list(prompt)
        for _ in range(TOKENS):
            tokens.append(int(decoder.next(np.array([tokens]))[0]))
        found += tokens[len(prompt) :]
    return found


WAYS = {
    "pre-norm blocks": "top_k(11, temperature = 0.8)",
    "recurrences": "top_k(4, temperature = 1.5)",
    "running sums": "greedy",
}


@pytest.mark.parametrize("name", ["pre-norm blocks", "recurrences", "each by itself"])
def test_tokens_are_those_of_the_command(name: str, tmp_path: Path) -> None:
    """Beyond the end of the window too, with another temperature than the text's, and from one prompt to the next."""
    if not HERE.is_there:
        pytest.skip("there is no compiler of C")
    way = WAYS.get(name, "greedy")
    write_library(tmp_path, with_window(name, way), None, False)
    (tmp_path / "generate.c").write_text(GENERATE)
    options = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    program = HERE.build(tmp_path, "generate.c", *options)
    for seed, temperature in ((0, 0.7), (9, 1.25)):
        got = np.frombuffer(HERE.run(program, prompts(), [str(seed), str(temperature)]), np.int32)
        hot = way.replace("0.8", str(temperature)).replace("1.5", str(temperature))
        assert got.tolist() == generated(with_window(name, hot), seed)
    assert len({*got.tolist()}) > 1


@pytest.mark.parametrize("name", ["pre-norm blocks", "recurrences"])
def test_a_repetition_penalty_is_one_of_its_settings(name: str, tmp_path: Path) -> None:
    if not HERE.is_there:
        pytest.skip("there is no compiler of C")
    write_library(tmp_path, with_window(name, "greedy", 1.5), None, False)
    source = GENERATE.replace("generate_sample_temperature", "generate_repetition_penalty")
    (tmp_path / "generate.c").write_text(source)
    program = HERE.build(tmp_path, "generate.c")
    found: list[list[int]] = []
    for penalty in (1.0, 3.0):
        found.append(np.frombuffer(HERE.run(program, prompts(), ["0", str(penalty)]), np.int32).tolist())
        assert found[-1] == generated(with_window(name, "greedy", penalty), 0)
    assert found[0] == generated(with_window(name, "greedy"), 0)
    assert found[0] != found[1]
    with pytest.raises(AssertionError):
        HERE.run(program, prompts(), ["0", "-1.0"])  # MODEL_WRONG_SETTINGS


@pytest.mark.parametrize("toolchain", TOOLCHAINS[2:], ids=lambda one: one.machine)
def test_other_processors_choose_the_same(toolchain: Toolchain, tmp_path: Path) -> None:
    if not toolchain.is_there:
        pytest.skip(f"there is no {toolchain.compiler}")
    trained = with_window("recurrences", WAYS["recurrences"])
    write_library(tmp_path, trained, toolchain.machine, False)
    source = GENERATE.replace("count != 3 ||", "").replace("words[2]", '"1.5"').replace("words[1]", '"5"')
    source = source.replace("int count, char **words", "void")
    (tmp_path / "generate.c").write_text(source)
    got = np.frombuffer(toolchain.run(toolchain.build(tmp_path, "generate.c"), prompts()), np.int32)
    assert got.tolist() == generated(trained, 5)


LEARNING = """
train M {
    target next: i32[batch, 8] in 0..11
    loss = cross_entropy(logits, next)
    optimizer = adam(lr = 0.05)
    epochs = 1
    batch = 2
    seed = 5
}
"""
LEARN = """
#include "model.h"
#include <stdio.h>

static char block[MODEL_MEMORY(2) + 64];

int main(void) {
    char *memory = block + (64 - (uintptr_t)block % 64);
    const struct model_settings settings = MODEL_SETTINGS;
    int32_t tokens[12] = {3}, x[16], next[16], token;
    float logits[8 * 11], loss, lr;
    int k;
    for (k = 0; k < 16; k++) x[k] = k * 5 % 11, next[k] = k * 3 % 11;
    if (model_init(memory, MODEL_MEMORY(2), 2) != MODEL_OK) return 2;
    for (k = 1; k < 5; k++) {
        if (model_generate_next(memory, 0, tokens, k, tokens + k)) return 3;
    }
    if (model_predict(memory, 1, x, logits)) return 4;
    if (model_generate_next(memory, 0, tokens, 5, tokens + 5)) return 5;
    tokens[2] = (tokens[2] + 1) % 11;
    if (model_generate_next(memory, 0, tokens, 6, tokens + 6)) return 6;
    tokens[2] = (tokens[2] + 10) % 11;
    for (k = 0; k < 3; k++) {
        if (model_step(memory, 2, &settings, x, next, &loss, &lr)) return 7;
    }
    if (model_generate_next(memory, 0, tokens, 7, tokens + 7)) return 8;
    fwrite(tokens, 4, 8, stdout);
    if (model_generate_next(memory, 0, tokens, 0, &token) != MODEL_WRONG_LENGTH) return 9;
    if (model_generate_next(memory, 0, tokens, (int64_t)1 << 40, &token) != MODEL_WRONG_LENGTH) return 10;
    if (model_generate_next(memory, 0, NULL, 1, &token) != MODEL_NULL_POINTER) return 11;
    if (model_generate_next(memory, 0, tokens, 1, NULL) != MODEL_NULL_POINTER) return 12;
    *(int64_t *)memory ^= 1;
    if (model_generate_next(memory, 0, tokens, 1, &token) != MODEL_NOT_INITIALISED) return 13;
    return 0;
}
"""


def test_the_size_of_memory_names_each_size_once(tmp_path: Path) -> None:
    """Each further size doubles the expression, so equal ones of several programs count once."""
    write_library(tmp_path, trained_model(decoding("pre-norm blocks") + LEARNING, 2), None, True)
    found = re.search(r"#define MODEL_VALUES\(rows\) (.*)", (tmp_path / "model.h").read_text())
    assert found
    sizes = set(re.findall(r"\(\d+ \* (?:\(int64_t\)\(rows\)|MODEL_ROUNDED\(rows\)) \+ \d+\)", found[1]))
    assert found[1].count("?") == 2 ** (len(sizes) - 1) - 1


def test_states_are_not_used_behind_other_tokens_or_weights(tmp_path: Path) -> None:
    if not HERE.is_there:
        pytest.skip("there is no compiler of C")
    trained = trained_model(decoding("pre-norm blocks") + LEARNING, 2)
    write_library(tmp_path, trained, None, True)
    (tmp_path / "learn.c").write_text(LEARN)
    options = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    got = np.frombuffer(HERE.run(HERE.build(tmp_path, "learn.c", *options)), np.int32).tolist()
    program, tensors = trained.program, fresh_tensors(trained.program, trained.options)

    def following(tokens: list[int]) -> int:
        return int(Decoder(program, tensors, trained.options).next(np.array([tokens]))[0])

    assert got[5] == following(got[:5])
    assert got[6] == following([*got[:2], (got[2] + 1) % 11, *got[3:6]])
    numbers = np.arange(16, dtype=np.int32).reshape(2, 8)
    data = {"tokens": numbers * 5 % 11, "next": numbers * 3 % 11}
    step, plan = driver.compile_program(program, TRAINING, trained.options), training_of(program)
    settings = runtime_settings(program, length_of(plan, 2))
    for number in range(3):
        step.run(Steps(tensors, data, np.arange(2), 2, number, plan.seed, settings))
    assert got[7] == following(got[:7])


def test_a_model_with_another_input_has_no_such_function(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained = trained_model(decoding("an encoder"), 1)
    (tmp_path / "model.dl").write_text(decoding("an encoder"))
    replace_tensors(tmp_path / "w.safetensors", {name: trained.tensors[name] for name in weight_names(trained.program)})
    command = ["export", str(tmp_path / "model.dl"), "--weights", str(tmp_path / "w.safetensors"), "--to", "c"]
    assert main([*command, "-o", str(tmp_path / "library")]) == 0
    assert "no `generate_next`: the model reads `source` and `seen` beside `tokens`" in capsys.readouterr().err
    assert "generate_next" not in (tmp_path / "library" / "model.h").read_text()


REFUSED = """
#include "model.h"
#include <math.h>
#include <stdio.h>

static char block[MODEL_MEMORY(1) + 64];

int main(void) {
    void *memory = block + (64 - (uintptr_t)block % 64);
    const float heats[] = {0, -0.0f, -1, NAN, INFINITY, 1.4e-45f, 9e-31f, 1e-30f, 2};
    struct model_sampling sampling = MODEL_SAMPLING;
    int32_t tokens[2] = {3, 0};
    int k;
    if (model_init(memory, MODEL_MEMORY(1), 1)) return 2;
    for (k = 0; k < 9; k++) {
        sampling.generate_sample_temperature = heats[k];
        printf("%d ", model_generate_next(memory, &sampling, 0, tokens, 1, tokens + 1));
    }
    printf("%d", model_generate_next(memory, &sampling, -1, tokens, 1, tokens + 1));
    return 0;
}
"""


def test_temperatures_and_seeds_are_those_of_the_command_line(tmp_path: Path) -> None:
    if not HERE.is_there:
        pytest.skip("there is no compiler of C")
    write_library(tmp_path, with_window("recurrences", "top_k(3, temperature = 0.8)"), None, False)
    (tmp_path / "refused.c").write_text(REFUSED)
    codes = HERE.run(HERE.build(tmp_path, "refused.c")).decode().split()
    assert codes == ["12"] * 7 + ["0", "0", "12"]
