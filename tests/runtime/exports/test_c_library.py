"""`dlc export --to c`: the library's predictions and training steps have the bits of the command line."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from c_programs import HERE, STRICT, TOOLCHAINS, Toolchain, write_library
from exported_models import ROWS, SMALL, fed, predicted, rows_of, trained_model

from compiler import driver
from compiler.driver import TRAINING, Steps
from compiler.errors.diagnostics import UsageError
from runtime.cli.main import main
from runtime.data.part import Part
from runtime.exports.c_names import c_names
from runtime.exports.model_library import model_library
from runtime.inference.evaluation import evaluator_of
from runtime.inference.model import length_of, runtime_settings, training_of, weight_names
from runtime.runs.tensor_files import replace_tensors, tensors_in
from runtime.runs.trained import Trained
from runtime.train.jobs import fresh_tensors

STEPS = 50
TRAIN = """
#include "model.h"
#include <stdio.h>
#include <stdlib.h>

int main(void) {
    static float x[37 * 10], amount[37], scores[37 * 3], size[37], loss, accuracy, r2, lr;
    static int32_t inner[37], label[37];
    const int64_t bytes = MODEL_MEMORY(37);
    struct model_settings settings = MODEL_SETTINGS;
    void *memory = NULL;
    int step, row;
    char *block = malloc((size_t)bytes + MODEL_ALIGNMENT);
    memory = block + (MODEL_ALIGNMENT - (uintptr_t)block % MODEL_ALIGNMENT);
    if (model_memory(37) != bytes || model_init(memory, bytes, 37) != MODEL_OK) return 3;
    for (row = 0; row < 37; row++) {
        if (fread(x + 10 * row, 4, 10, stdin) != 10 || fread(inner + row, 4, 1, stdin) != 1) return 4;
        label[row] = (int32_t)(7 * row % 3);
        amount[row] = (float)row;
    }
    for (step = 0; step < 50; step++) {
        const int64_t rows = step % 2 ? 16 : 37;
        if (model_step(memory, rows, &settings, x, inner, label, amount, &loss, &accuracy, &r2, &lr)) return 5;
        fwrite(&loss, 4, 1, stdout);
        fwrite(&r2, 4, 1, stdout);
        if (step % 10 == 9) {
            if (model_predict(memory, 37, x, inner, scores, size) != MODEL_OK) return 6;
            fwrite(scores, 4, 37 * 3, stdout);
        }
    }
    free(block);
    return 0;
}
"""


@pytest.fixture(scope="module")
def trained() -> Trained:
    return trained_model(SMALL, ROWS)


@pytest.mark.parametrize("toolchain", TOOLCHAINS, ids=lambda one: one.machine or "here")
def test_the_example_gives_the_bits_of_predictions(toolchain: Toolchain, trained: Trained, tmp_path: Path) -> None:
    if not toolchain.is_there:
        pytest.skip(f"there is no {toolchain.compiler}")
    write_library(tmp_path, trained, toolchain.machine, False)
    got = toolchain.run(toolchain.build(tmp_path, "example.c"), rows_of(*fed()[:2]))
    expected = predicted(trained, trained.tensors)
    assert got == rows_of(expected["scores"], expected["size"])


@pytest.mark.parametrize("toolchain", TOOLCHAINS, ids=lambda one: one.machine or "here")
def test_training_steps_have_the_bits_of_training(toolchain: Toolchain, trained: Trained, tmp_path: Path) -> None:
    if not toolchain.is_there:
        pytest.skip(f"there is no {toolchain.compiler}")
    write_library(tmp_path, trained, toolchain.machine, True)
    (tmp_path / "train.c").write_text(TRAIN)
    x, double, label = fed()
    got = toolchain.run(toolchain.build(tmp_path, "train.c"), rows_of(x, double))
    program, options = trained.program, trained.options
    tensors = fresh_tensors(program, options)
    settings = runtime_settings(program, length_of(training_of(program), ROWS))
    step = driver.compile_program(program, TRAINING, options)
    data = {"x": x, "double": double, "label": label, "amount": np.arange(ROWS, dtype=np.float32)}
    expected: list[bytes] = []
    for number in range(STEPS):
        rows = np.arange(16 if number % 2 else ROWS)
        found = step.run(Steps(tensors, data, rows, ROWS, number, training_of(program).seed, settings))
        expected += [found.scalars[name].astype(np.float32).tobytes() for name in ("loss", "r2")]
        if number % 10 == 9:
            expected.append(predicted(trained, tensors)["scores"].tobytes())
    assert got == b"".join(expected)


NAMES = ("loss", "accuracy", "r2")
EVALUATE = """
#include "model.h"
#include <stdio.h>

static char block[MODEL_MEMORY(37) + 64];
static float x[370], amount[37], loss, accuracy, r2;
static int32_t inner[37], label[37];

int main(void) {
    void *memory = block + (64 - (uintptr_t)block % 64);
    int row, rows;
    if (model_init(memory, MODEL_MEMORY(37), 37) != MODEL_OK) return 3;
    for (row = 0; row < 37; row++) {
        if (fread(x + 10 * row, 4, 10, stdin) != 10 || fread(inner + row, 4, 1, stdin) != 1) return 4;
        label[row] = (int32_t)(7 * row % 3);
        amount[row] = (float)row;
    }
    for (rows = 37; rows > 0; rows = rows == 37 ? 16 : rows - 15) {
        if (model_evaluate(memory, rows, x, inner, label, amount, &loss, &accuracy, &r2)) return 5;
        printf("%.9g %.9g %.9g\\n", loss, accuracy, r2);
    }
    return 0;
}
"""


@pytest.mark.parametrize("toolchain", TOOLCHAINS, ids=lambda one: one.machine or "here")
def test_the_loss_and_metrics_of_rows_are_those_of_the_command(
    toolchain: Toolchain, trained: Trained, tmp_path: Path
) -> None:
    """Bits are those of the same graph here, and `dlc eval`, which adds up exactly, gives nearly the same numbers."""
    if not toolchain.is_there:
        pytest.skip(f"there is no {toolchain.compiler}")
    write_library(tmp_path, trained, toolchain.machine, False)
    (tmp_path / "evaluate.c").write_text(EVALUATE)
    x, double, label = fed()
    lines = toolchain.run(toolchain.build(tmp_path, "evaluate.c"), rows_of(x, double)).decode().splitlines()
    got = np.array([line.split() for line in lines], np.float32)
    program, options = trained.program, trained.options
    data = {"x": x, "double": double, "label": label, "amount": np.arange(ROWS, dtype=np.float32)}
    evaluation = driver.compile_program(program, driver.BATCH_EVALUATION, options)
    for rows, found in zip((37, 16, 1), got, strict=True):
        result = evaluation.run(Steps(trained.tensors, data, np.arange(rows), rows)).scalars
        assert np.array_equal(found, [result[name][0] for name in NAMES], equal_nan=True), rows
    batch = Part(data, np.arange(16))  # draws are those of a batch
    evaluated = evaluator_of(program, options, ROWS).evaluate(trained.tensors, batch)
    assert evaluated is not None
    assert np.allclose(got[1], [evaluated[name] for name in NAMES], rtol=1e-5, atol=1e-6)


WRONG = """
#include "model.h"
#include <stdio.h>
#include <string.h>

static char block[MODEL_MEMORY(4) + 64];
static float x[40], scores[12], size[4];
static int32_t inner[4];

int main(void) {
    char *memory = block + (64 - (uintptr_t)block % 64);
    const int64_t bytes = MODEL_MEMORY(4);
    memset(memory, 7, (size_t)bytes);
    printf("%d ", model_predict(memory, 4, x, inner, scores, size));
    printf("%d ", model_init(memory, bytes, 0));
    printf("%d ", model_init(memory, bytes, (int64_t)1 << 40));
    printf("%d ", model_init(memory, bytes - 1, 4));
    printf("%d ", model_init(memory, -1, 4));
    printf("%d ", model_init(memory + 8, bytes, 4));
    printf("%d ", model_init(NULL, bytes, 4));
    printf("%d ", model_init_abi(MODEL_ABI + 1, memory, bytes, 4));
    printf("%d ", model_init(memory, bytes, 4));
    printf("%d ", model_predict(memory, 5, x, inner, scores, size));
    printf("%d ", model_predict(memory, -1, x, inner, scores, size));
    printf("%d ", model_predict(NULL, 4, x, inner, scores, size));
    printf("%d ", model_predict(memory, 4, NULL, inner, scores, size));
    printf("%d ", model_predict(memory, 4, x, inner, scores, NULL));
    printf("%d ", model_predict(memory, 4, x, inner, scores, size));
    printf("%d %d|", model_memory(0) == 0, model_memory(4) == bytes);
    printf("%s|%s|%s", model_error_text(0), model_error_text(-1), model_error_text(MODEL_NULL_POINTER));
    return 0;
}
"""
SANITISED = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def test_misuse_is_answered_by_a_code(trained: Trained, tmp_path: Path) -> None:
    if not HERE.is_there:
        pytest.skip("there is no compiler of C")
    write_library(tmp_path, trained, None, False)
    (tmp_path / "wrong.c").write_text(WRONG)
    codes, equal, *texts = HERE.run(HERE.build(tmp_path, "wrong.c")).decode().replace(" 1 1|", "|1 1|").split("|")
    assert codes.split() == ["4", "1", "1", "2", "2", "3", "5", "6", "0", "1", "1", "5", "5", "5", "0"]
    assert equal == "1 1"
    assert texts == ["no error", "unknown error", "an argument is a null pointer"]


SETTINGS = """
#include "model.h"
#include <math.h>
#include <stdio.h>

static char block[MODEL_MEMORY(37) + 64];
static float x[370], amount[37], loss, accuracy, r2, lr;
static int32_t inner[37], label[37];

static void step(void *memory, const struct model_settings *settings) {
    printf("%d ", model_step(memory, 37, settings, x, inner, label, amount, &loss, &accuracy, &r2, &lr));
}

int main(void) {
    void *memory = block + (64 - (uintptr_t)block % 64);
    const float wrong[] = {-1e-30f, -1, NAN, -NAN, INFINITY, -INFINITY}, right[] = {0, -0.0f, 1e-40f, 3e38f};
    struct model_settings settings = MODEL_SETTINGS;
    int k;
    if (model_init(memory, MODEL_MEMORY(37), 37)) return 2;
    for (k = 0; k < 6; k++) settings.optimizer_lr = wrong[k], step(memory, &settings);
    for (k = 0; k < 4; k++) settings.optimizer_lr = right[k], step(memory, &settings);
    settings.optimizer_lr = 0;
    settings.optimizer_momentum = 1, step(memory, &settings);
    settings.optimizer_momentum = 0.99999994f, step(memory, &settings);
    settings.optimizer_momentum = -0.0f, step(memory, &settings);
    settings.optimizer_momentum = -1e-45f, step(memory, &settings);
    printf("%d %d ", model_continue(memory, -1, 0), model_continue(memory, 0, -1));
    printf("%d|%s", model_continue(memory, 0, 0), model_error_text(MODEL_WRONG_SETTINGS));
    return 0;
}
"""


def test_settings_keep_to_the_limits_of_the_text(tmp_path: Path) -> None:
    if not HERE.is_there:
        pytest.skip("there is no compiler of C")
    text = SMALL.replace("adam(", "momentum(")  # with `require(0 <= momentum and momentum < 1, …)`
    write_library(tmp_path, trained_model(text, ROWS), None, True)
    (tmp_path / "settings.c").write_text(SETTINGS)
    codes, text = HERE.run(HERE.build(tmp_path, "settings.c", *SANITISED)).decode().split("|")
    assert codes.split() == ["12"] * 6 + ["0"] * 4 + ["12", "0", "0", "12", "12", "12", "0"]
    assert text == "a setting is not finite or out of its range, or a seed or a number of updates is negative"
    header = (tmp_path / "model.h").read_text()
    assert " optimizer_lr; /* >= 0 */\n" in header
    assert " optimizer_momentum; /* >= 0 and < 1 */\n" in header


SAVE = """
#include "model.h"
#include <stdio.h>
#include <string.h>

static char block[MODEL_MEMORY(37) + 64], file[MODEL_FILE_BYTES];
static float x[370], amount[37], loss, accuracy, r2, lr;
static int32_t inner[37], label[37];

static float trained(void *memory, int steps) {
    const struct model_settings settings = MODEL_SETTINGS;
    while (steps-- > 0) {
        if (model_step(memory, 37, &settings, x, inner, label, amount, &loss, &accuracy, &r2, &lr)) loss = -1;
    }
    return loss;
}

int main(void) {
    char *memory = block + (64 - (uintptr_t)block % 64);
    const int64_t size = MODEL_FILE_BYTES;
    int64_t bytes = 0;
    float whole, rest;
    int k;
    for (k = 0; k < 370; k++) x[k] = (float)(k % 11);
    if (model_tensor(memory, "scores.dense.b", &bytes) != NULL || model_save(memory, file, size) != 4) return 2;
    if (model_init(memory, MODEL_MEMORY(37), 37) != MODEL_OK) return 3;
    if (model_tensor(memory, "nothing", &bytes) != NULL || model_tensor(memory, NULL, &bytes) != NULL) return 4;
    if (model_tensor(NULL, "scores.dense.b", &bytes) || !model_tensor(memory, "scores.dense.b", NULL)) return 12;
    trained(memory, 4);
    if (model_save(memory, file, size - 1) != 7 || model_save(memory, NULL, size) != 5) return 5;
    if (model_save(memory, file, size) != MODEL_OK) return 6;
    whole = trained(memory, 5);
    if (model_init(memory, MODEL_MEMORY(37), 37) != MODEL_OK) return 7;
    trained(memory, 2);
    file[20] ^= 1;
    if (model_load(memory, file, size) != 8) return 8;
    file[20] ^= 1;
    if (model_load(memory, file, size) != MODEL_OK || model_continue(memory, 5, 4) != MODEL_OK) return 9;
    rest = trained(memory, 5);
    if (memcmp(&whole, &rest, 4) != 0) return 10;
    if (model_tensor(memory, "scores.dense.b", &bytes) == NULL || bytes != 12) return 11;
    fwrite(file, 1, sizeof file, stdout);
    return 0;
}
"""


def test_a_saved_training_goes_on_with_the_same_bits(trained: Trained, tmp_path: Path) -> None:
    if not HERE.is_there:
        pytest.skip("there is no compiler of C")
    write_library(tmp_path, trained, None, True)
    (tmp_path / "save.c").write_text(SAVE)
    saved = tensors_in(HERE.run(HERE.build(tmp_path, "save.c", *SANITISED)), tmp_path / "file")
    assert {name: array.shape for name, array in saved.items()} == {
        name: trained.tensors[name].shape for name in trained.tensors.names()
    }
    assert any((saved[name] != trained.tensors[name]).any() for name in weight_names(trained.program))


def test_nothing_beyond_the_memory_is_touched(trained: Trained, tmp_path: Path) -> None:
    if not HERE.is_there:
        pytest.skip("there is no compiler of C")
    write_library(tmp_path, trained, None, True)
    (tmp_path / "train.c").write_text(TRAIN)
    x, double, _ = fed()
    plain = HERE.run(HERE.build(tmp_path, "train.c"), rows_of(x, double))
    assert HERE.run(HERE.build(tmp_path, "train.c", *SANITISED), rows_of(x, double)) == plain


def test_the_library_needs_nothing_but_memory_functions(trained: Trained, tmp_path: Path) -> None:
    if shutil.which("nm") is None:
        pytest.skip("there is no nm")
    write_library(tmp_path, trained, None, True)
    lines = subprocess.run(["nm", "libmodel.a"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    words = [line.split() for line in lines.splitlines() if line.strip() and not line.endswith(":")]
    defined = {name for *_, kind, name in words if kind in "TtRrDd"}
    assert {name for *_, kind, name in words if kind == "U"} - defined <= {"memcpy", "memset"}
    assert {name for *_, kind, name in words if kind in "BbDC"} == set(), "no global that can be written"


def test_names_are_identifiers_of_c() -> None:
    names = ["double", "x", "x.y", "x_y", "μ", "3d", "rows", "class", "class_2", "bytes", "NULL", "unix", "model_init"]
    names += ["INT8_MAX", "EXIT_FAILURE", "SEEK_SET", "L_tmpnam"]
    found = c_names(names, "model")
    assert list(found) == names
    assert len({*found.values()}) == len(names)
    assert all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) for name in found.values())
    assert (found["INT8_MAX"], found["EXIT_FAILURE"]) == ("INT8_MAX_2", "EXIT_FAILURE_2")
    assert (found["double"], found["x"], found["3d"], found["rows"]) == ("double_2", "x", "n3d", "rows_2")


HOSTILE = (
    *("class", "register", "model_init", "MODEL_ABI", "naïve", "é", "è", "settings", "memory", "rows", "NULL", "errno"),
    *("tokens", "task", "INT64_C", "int64_t", "EOF", "this", "template", "I", "long", "x" * 900, "filled", "ROWS"),
)


@pytest.mark.parametrize("compiler", ["gcc", "clang", "g++", "clang++"])
def test_a_model_with_hostile_names_is_compiled(compiler: str, tmp_path: Path) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"there is no {compiler}")
    inputs = "".join(f"    input {name}: f32[batch, 2]\n" for name in HOSTILE)
    text = f"model M {{\n{inputs}    output return_ = {' + '.join(HOSTILE)}\n}}\n"
    write_library(tmp_path, trained_model(text, 1), None, False)
    language = ("-std=c++17", "-x", "c++") if compiler.endswith("++") else ("-std=c99",)
    command = [compiler, *language, *STRICT, "example.c", "-x", "none", "libmodel.a", "-o", "example"]
    built = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    assert c_names(["net_init", "NET_OK", "network"], "net")["network"] == "network"
    assert {*c_names(["net_init", "NET_OK"], "net").values()} == {"nnet_init", "nNET_OK"}


def test_the_command_writes_what_compiles(trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.dl").write_text(SMALL)
    replace_tensors(tmp_path / "w.safetensors", {name: trained.tensors[name] for name in weight_names(trained.program)})
    command = ["export", str(tmp_path / "model.dl"), "--weights", str(tmp_path / "w.safetensors"), "--to", "c"]
    assert main([*command, "-o", str(tmp_path / "library")]) == 0
    assert "are weights" in capsys.readouterr().err
    files = {"model.h", "libmodel.a", "example.c", "manifest.json", "weights.safetensors", "CMakeLists.txt"}
    assert {file.name for file in (tmp_path / "library").iterdir()} == files
    manifest = json.loads((tmp_path / "library" / "manifest.json").read_text())
    assert [array["name"] for array in manifest["functions"]["model_predict"]["inputs"]] == ["x", "double"]
    if HERE.is_there:
        got = HERE.run(HERE.build(tmp_path / "library", "example.c"), rows_of(*fed()[:2]))
        expected = predicted(trained, trained.tensors)
        assert got == rows_of(expected["scores"], expected["size"])
    assert main([*command, "-o", str(tmp_path / "model.dl")]) == 2
    assert "would replace a file that is read" in capsys.readouterr().err


def test_a_library_that_trains_holds_states_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.dl").write_text(SMALL.replace("schedule = cosine(T = total_steps)", ""))
    weights = trained_model(SMALL, ROWS)
    replace_tensors(tmp_path / "w.safetensors", {name: weights.tensors[name] for name in weight_names(weights.program)})
    command = ["export", str(tmp_path / "model.dl"), "--weights", str(tmp_path / "w.safetensors"), "--to", "c"]
    assert main([*command, "--training", "-o", str(tmp_path / "library")]) == 0
    assert "are weights and states" in capsys.readouterr().err


def test_a_file_with_the_states_of_an_optimizer_has_the_weights(trained: Trained, tmp_path: Path) -> None:
    _, tensors = model_library(trained, True)
    assert {*tensors.values} > {*weight_names(trained.program)}
    (tmp_path / "model.dl").write_text(SMALL)
    replace_tensors(tmp_path / "saved.safetensors", tensors.values)
    command = ["export", str(tmp_path / "model.dl"), "--weights", str(tmp_path / "saved.safetensors"), "--to", "c"]
    assert main([*command, "-o", str(tmp_path / "library")]) == 0
    written = tensors_in((tmp_path / "library" / "weights.safetensors").read_bytes(), tmp_path)
    assert {*written} == {*weight_names(trained.program)}


def test_a_training_of_unknown_length_is_refused(trained: Trained) -> None:
    with pytest.raises(UsageError, match="depends on `total_steps`, and nothing says how long"):
        model_library(replace(trained, training_rows=None), True)


def test_the_preparation_of_the_data_is_exported(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("length,kind\n" + "".join(f"{10 * row},{row % 3}\n" for row in range(9)))
    (tmp_path / "model.dl").write_text(PREPARED)
    run, library = str(tmp_path / "run"), tmp_path / "library"
    assert main(["train", str(tmp_path / "model.dl"), "--out", run]) == 0
    assert main(["export", run, "--to", "c", "-o", str(library)]) == 0
    preparation = json.loads((library / "manifest.json").read_text())["preparation"]
    assert preparation["columns"]["x"] == ["length"]
    assert preparation["scales"]["length"]["centre"] == 40.0


PREPARED = """
model Prepared {
    input x: f32[batch, 1]
    output scores = x |> dense(3)
}

train Prepared {
    data = csv("rows.csv", normalise = true)
    target kind: i32[batch] in 0..3
    loss = cross_entropy(scores, kind)
    optimizer = gradient_descent(lr = 0.1)
    epochs = 1
    batch = 9
}
"""


def test_a_library_for_macos_is_linked(trained: Trained, tmp_path: Path) -> None:
    """Objects of Mach-O in an archive of BSD's form; nothing here runs the program."""
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("there is no linker for macOS: ziglang is not installed")
    write_library(tmp_path, trained, "apple-m1", True)
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-macos", "example.c", "libmodel.a"]
    linked = subprocess.run([*command, "-o", "example"], cwd=tmp_path, capture_output=True, text=True)
    assert linked.returncode == 0, linked.stderr
    assert (tmp_path / "example").read_bytes()[:4] == bytes.fromhex("cffaedfe"), "a program of 64 bits"
