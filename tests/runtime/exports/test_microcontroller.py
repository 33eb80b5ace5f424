"""A library for a Cortex-M4 without a system trains the digits network in little memory, with the bits of here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from c_programs import CORTEX_M4

from compiler import driver
from compiler.driver import PREDICTION, TRAINING, Options, Steps
from compiler.nest import verify_memory
from compiler.targets.llvm.host import machine_elsewhere
from runtime.exports.c_library import c_files
from runtime.exports.model_library import model_library
from runtime.inference.model import length_of, runtime_settings, training_of
from runtime.runs.trained import Trained
from runtime.train.jobs import fresh_tensors

DIGITS = Path(__file__).parents[3] / "examples" / "digits" / "model.dl"
STEPS, OF_THE_DATA = 5, 1437
MEMORY = 64 << 10
MAIN = """
#include "model.h"
#include <stdio.h>

static char block[MODEL_MEMORY(ROWS) + 64];
static float pixels[ROWS * 64], logits[ROWS * 10], losses[5], accuracy, lr;
static int32_t label[ROWS];

int main(void) {
    void *memory = block + (64 - (uintptr_t)block % 64);
    const struct model_settings settings = MODEL_SETTINGS;
    int k;
    for (k = 0; k < ROWS * 64; k++) pixels[k] = (float)(k * 7 % 17);
    for (k = 0; k < ROWS; k++) label[k] = k;
    if (model_init(memory, MODEL_MEMORY(ROWS), ROWS)) return 1;
    for (k = 0; k < 5; k++) {
        if (model_step(memory, ROWS, &settings, pixels, label, losses + k, &accuracy, &lr)) return 2;
    }
    if (model_predict(memory, ROWS, pixels, logits)) return 3;
    fwrite(losses, 4, 5, stdout);
    fwrite(logits, 4, 10 * ROWS, stdout);
    return 0;
}
"""


PLAIN = "gradient_descent(lr = 0.05)"


@pytest.mark.parametrize(
    ("hidden", "optimizer", "rows", "fits"),
    [(32, None, 8, True), (64, None, 8, False), (128, PLAIN, 4, True), (128, PLAIN, 8, False)],
)
def test_a_microcontroller_trains_the_digits(
    hidden: int, optimizer: str | None, rows: int, fits: bool, tmp_path: Path
) -> None:
    """With Adam, whose moments lie in the memory too, or plainly; losses and predictions have the bits of here."""
    if not CORTEX_M4.is_there:
        pytest.skip(f"there is no {CORTEX_M4.compiler}, or no emulator of a board")
    trained = digits(hidden, optimizer)
    program, options = trained.program, trained.options
    library, tensors = model_library(replace(trained, options=replace(options, machine="cortex-m4")), True)
    for name, content in c_files(program, library, tensors, {}).items():
        (tmp_path / name).write_bytes(b"".join(content))
    (tmp_path / "main.c").write_text(MAIN)
    assert (library.memory.size(rows) <= MEMORY) == fits
    got = CORTEX_M4.run(CORTEX_M4.build(tmp_path, "main.c", f"-DROWS={rows}"))
    pixels = (np.arange(rows * 64) * 7 % 17).astype(np.float32).reshape(rows, 64)
    data = {"pixels": pixels, "label": np.arange(rows, dtype=np.int32)}
    plan = training_of(program)
    settings = runtime_settings(program, length_of(plan, OF_THE_DATA))
    step = driver.compile_program(program, TRAINING, options)
    numbers = np.arange(rows)
    expected = [
        step.run(Steps(trained.tensors, data, numbers, rows, number, plan.seed, settings)).scalars["loss"][0]
        for number in range(STEPS)
    ]
    predicted = driver.compile_program(program, PREDICTION, options).run(Steps(trained.tensors, data, numbers, rows))
    assert got == np.array(expected, np.float32).tobytes() + predicted.arrays["logits"].tobytes()


def digits(hidden: int, optimizer: str | None) -> Trained:
    """The example, by another optimizer where it is named."""
    text = DIGITS.read_text()
    if optimizer is not None:
        text = text.replace("optimizer = adam(lr = 3e-3)", f"optimizer = {optimizer}")
        assert optimizer in text
    program = driver.load_text(text, str(DIGITS), overrides=(("hidden", str(hidden)),))
    options = driver.options_of(program, Options(threads=1))
    return Trained(program, fresh_tensors(program, options), options, None, None, (), training_rows=OF_THE_DATA)


def test_kernels_read_no_more_rows_than_there_are_registers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So much room is behind the values of a microcontroller's rows; isl proves it of each nest."""
    pytest.importorskip("islpy", reason="islpy is not installed")
    trained = digits(128, PLAIN)
    options = replace(trained.options, machine=CORTEX_M4.machine, verify=True, cache=tmp_path)
    monkeypatch.setattr(verify_memory, "MOST_TILE_ROWS", machine_elsewhere(CORTEX_M4.machine).registers)
    model_library(replace(trained, options=options), True)
