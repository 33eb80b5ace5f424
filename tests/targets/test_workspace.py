"""Programs on the same tensors use the same memory in turn, and none sees what another has left there."""

from __future__ import annotations

import numpy as np

from compiler import driver
from compiler.driver import Array, Executable, Tensors
from compiler.interface import Steps
from compiler.programs.kinds import EVALUATION, PREDICTION, TRAINING
from compiler.targets.memory import TensorStore
from runtime.inference.model import runtime_settings

TEXT = """model M {
    input x: f32[batch, 96]
    h = x |> dense(160) |> tanh
    output y = h |> dense(48)
}
train M {
    target t: f32[batch, 48]
    loss = mse(y, t)
    optimizer = adam(lr = 0.02)
    batch = 64
    epochs = 1
}
"""


def predicted(executable: Executable, tensors: Tensors, data: dict[str, Array], rows: int) -> bytes:
    results = executable.run(Steps(tensors, data, np.arange(rows), rows))
    return results.arrays["y"].tobytes()


def test_programs_take_turns() -> None:
    program, options = driver.load_text(TEXT, "m.dl"), driver.Options(batch=64)
    tensors, alone = (driver.allocate(program, options) for _ in range(2))
    assert isinstance(tensors, TensorStore)
    for each in (tensors, alone):
        driver.initialise(program, each, 3, options)
    random = np.random.default_rng(0)
    data = {
        "x": random.normal(size=(200, 96)).astype(np.float32),
        "t": random.normal(size=(200, 48)).astype(np.float32),
    }
    prediction = driver.compile_program(program, PREDICTION, options)
    evaluation = driver.compile_program(program, EVALUATION, options)
    reference = driver.compile_program(program, PREDICTION, options)
    loss = evaluation.run(Steps(tensors, data, np.arange(200), 64)).scalars["loss"]
    for rows in (64, 5, 200, 5, 64):
        wanted = predicted(reference, alone, data, rows)
        assert predicted(prediction, tensors, data, rows) == wanted
        assert predicted(prediction, tensors, data, rows) == wanted
        again = evaluation.run(Steps(tensors, data, np.arange(200), 64)).scalars["loss"]
        assert again.tobytes() == loss.tobytes()
    assert predicted(prediction, alone, data, 64) == predicted(reference, tensors, data, 64)


def test_the_memory_is_that_of_the_largest() -> None:
    program, options = driver.load_text(TEXT, "m.dl"), driver.Options(batch=64)
    tensors = driver.allocate(program, options)
    assert isinstance(tensors, TensorStore)
    driver.initialise(program, tensors, 3, options)
    data = {"x": np.ones((64, 96), np.float32), "t": np.ones((64, 48), np.float32)}
    training = driver.compile_program(program, TRAINING, options)
    training.run(Steps(tensors, data, np.arange(64), 64, settings=runtime_settings(program)))
    block = tensors.workspace.block
    driver.compile_program(program, PREDICTION, options).run(Steps(tensors, data, np.arange(64), 64))
    assert tensors.workspace.block is block
