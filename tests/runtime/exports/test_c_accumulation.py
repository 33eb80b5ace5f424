"""`dlc export --training` of a training whose updates take several batches: the bits of the command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from c_programs import CORTEX_M4, HERE, Toolchain, write_library
from exported_models import trained_model

from compiler import driver
from compiler.driver import TRAINING, Steps
from runtime.inference.model import length_of, runtime_settings, training_of
from runtime.train.jobs import fresh_tensors

BATCH, BATCHES, UPDATES, ROWS = 6, 3, 8, 50
PLAIN = """
model Small(width = 24) {
    input x: f32[batch, 10]
    output scores = x |> dense(width) |> relu |> dropout(0.3) |> dense(3)
}

train Small {
    target label: i32[batch] in 0..3
    loss = LOSS
    metrics = [accuracy(scores, label)]
    optimizer = adam(lr = 0.01)
    clip = global_norm(1.0)
    schedule = cosine(T = total_steps)
    epochs = 4
    batch = 6
    accumulate = 3
    seed = 5
}
"""
LOSSES = {
    "a mean": "cross_entropy(scores, label, where = label > 0)",
    "a sum": 'cross_entropy(scores, label, reduction = "sum")',
}
TRAIN = """
#include "model.h"
#include <stdio.h>

static char block[MODEL_MEMORY(6) + 64];
static float x[18 * 10], loss, accuracy, lr;
static int32_t label[18];

int main(void) {
    void *memory = block + (64 - (uintptr_t)block % 64);
    const struct model_settings settings = MODEL_SETTINGS;
    int step, k;
    if (model_init(memory, MODEL_MEMORY(6), 6) != MODEL_OK) return 3;
    for (k = 0; k < 180; k++) x[k] = (float)(k * 7 % 17) / 8;
    for (k = 0; k < 18; k++) label[k] = k % 3;
    if (model_step(memory, 19, &settings, x, label, &loss, &accuracy, &lr) != MODEL_WRONG_ROWS) return 4;
    if (model_step(memory, 18, &settings, x, label, &loss, NULL, &lr) != MODEL_NULL_POINTER) return 5;
    for (step = 0; step < 8; step++) {
        if (model_step(memory, step % 4 == 3 ? 14 : 18, &settings, x, label, &loss, &accuracy, &lr)) return 6;
        fwrite(&loss, 4, 1, stdout);
        fwrite(&accuracy, 4, 1, stdout);
    }
    if (model_init(memory, MODEL_MEMORY(5), 5) != MODEL_OK) return 7;
    if (model_step(memory, 18, &settings, x, label, &loss, &accuracy, &lr) != MODEL_WRONG_ROWS) return 8;
    return 0;
}
"""


@pytest.mark.parametrize("toolchain", [HERE, CORTEX_M4], ids=lambda one: one.machine or "here")
@pytest.mark.parametrize("loss", LOSSES)
def test_updates_of_several_batches_have_the_bits_of_training(loss: str, toolchain: Toolchain, tmp_path: Path) -> None:
    """In the memory of one batch; the last update of an epoch has fewer rows."""
    if not toolchain.is_there:
        pytest.skip(f"there is no {toolchain.compiler}")
    trained = trained_model(PLAIN.replace("LOSS", LOSSES[loss]), ROWS)
    program, options = trained.program, trained.options
    assert program.plan is not None
    assert program.plan.accumulation is not None
    assert (program.plan.accumulation.counts > 0) == (loss == "a mean")
    write_library(tmp_path, replace(trained, options=options), toolchain.machine, True)
    assert "up to 3 batches of 6 rows, in memory for 6; more are refused" in (tmp_path / "model.h").read_text()
    (tmp_path / "train.c").write_text(TRAIN)
    got = toolchain.run(toolchain.build(tmp_path, "train.c"))
    x = ((np.arange(180) * 7 % 17) / 8).astype(np.float32).reshape(18, 10)
    data = {"x": x, "label": np.arange(18, dtype=np.int32) % 3}
    step, tensors = driver.compile_program(program, TRAINING, options), fresh_tensors(program, options)
    settings = runtime_settings(program, length_of(training_of(program), ROWS))
    expected: list[np.float32] = []
    for number in range(UPDATES):
        rows = np.arange(14 if number % 4 == 3 else 18)
        found = step.run(Steps(tensors, data, rows, len(rows), number, training_of(program).seed, settings))
        expected += [found.scalars[name][0] for name in ("loss", "accuracy")]
    assert got == np.array(expected, np.float32).tobytes()
