"""A library for a Cortex-M4 without a system trains the digits network in little memory, with the bits of here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from c_programs import CORTEX_M4

from compiler import driver
from compiler.driver import PREDICTION, TRAINING, Options, Steps
from runtime.exports.c_library import c_files
from runtime.exports.model_library import model_library
from runtime.inference.model import length_of, runtime_settings, training_of
from runtime.runs.trained import Trained
from runtime.train.jobs import fresh_tensors

DIGITS = Path(__file__).parents[3] / "examples" / "digits" / "model.dl"
ROWS, STEPS, OF_THE_DATA = 8, 5, 1437
MEMORY = 64 << 10
MAIN = """
#include "model.h"
#include <stdio.h>

static char block[MODEL_MEMORY(8) + 64];
static float pixels[8 * 64], logits[8 * 10], losses[5], accuracy, lr;
static int32_t label[8];

int main(void) {
    void *memory = block + (64 - (uintptr_t)block % 64);
    const struct model_settings settings = MODEL_SETTINGS;
    int k;
    for (k = 0; k < 8 * 64; k++) pixels[k] = (float)(k * 7 % 17);
    for (k = 0; k < 8; k++) label[k] = k;
    if (model_init(memory, MODEL_MEMORY(8), 8)) return 1;
    for (k = 0; k < 5; k++) {
        if (model_step(memory, 8, &settings, pixels, label, losses + k, &accuracy, &lr)) return 2;
    }
    if (model_predict(memory, 8, pixels, logits)) return 3;
    fwrite(losses, 4, 5, stdout);
    fwrite(logits, 4, 80, stdout);
    return 0;
}
"""


@pytest.mark.parametrize(("hidden", "fits"), [(16, True), (32, False)])
def test_a_microcontroller_trains_the_digits(hidden: int, fits: bool, tmp_path: Path) -> None:
    """With Adam, whose moments lie in the memory too; losses and predictions have the bits of this processor."""
    if not CORTEX_M4.is_there:
        pytest.skip(f"there is no {CORTEX_M4.compiler}, or no emulator of a board")
    program = driver.load(DIGITS, overrides=(("hidden", str(hidden)),))
    options = driver.options_of(program, Options(threads=1))
    trained = Trained(program, fresh_tensors(program, options), options, None, None, (), training_rows=OF_THE_DATA)
    library, tensors = model_library(replace(trained, options=replace(options, machine="cortex-m4")), True)
    for name, content in c_files(program, library, tensors, {}).items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "main.c").write_text(MAIN)
    assert (library.memory.size(ROWS) <= MEMORY) == fits
    got = CORTEX_M4.run(CORTEX_M4.build(tmp_path, "main.c"))
    pixels = (np.arange(ROWS * 64) * 7 % 17).astype(np.float32).reshape(ROWS, 64)
    data = {"pixels": pixels, "label": np.arange(ROWS, dtype=np.int32)}
    plan = training_of(program)
    settings = runtime_settings(program, length_of(plan, OF_THE_DATA))
    step = driver.compile_program(program, TRAINING, options)
    rows = np.arange(ROWS)
    expected = [
        step.run(Steps(trained.tensors, data, rows, ROWS, number, plan.seed, settings)).scalars["loss"][0]
        for number in range(STEPS)
    ]
    predicted = driver.compile_program(program, PREDICTION, options).run(Steps(trained.tensors, data, rows, ROWS))
    assert got == np.array(expected, np.float32).tobytes() + predicted.arrays["logits"].tobytes()
