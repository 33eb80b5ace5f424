"""Models for tests of exports: texts to models with the weights from which their training would start."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from compiler import driver
from compiler.driver import PREDICTION, Array, Options, Steps, Tensors
from runtime.runs.trained import Trained
from runtime.train.jobs import fresh_tensors

ROWS = 37
SMALL = """
model Small(width = 24) {
    input x: f32[batch, 10]
    input double: i32[batch] in 0..3
    hidden = x |> dense(width) |> batch_norm |> relu |> dropout(0.3)
    output scores = (hidden |> dense(3)) + (double |> embedding(3, 3)) + 0.1 * random(3)
    output size = sqrt(sum(x * x, axis = 1))
}

train Small {
    target label: i32[batch] in 0..3
    target amount: f32[batch]
    loss = cross_entropy(scores, label)
    metrics = [accuracy(scores, label), r2(size, amount)]
    optimizer = adam(lr = 0.01)
    schedule = cosine(T = total_steps)
    epochs = 3
    batch = 16
    seed = 5
}
"""


def trained_model(text: str, rows: int, dtype: str = "f32") -> Trained:
    """The model of a text whose training has so many rows."""
    program = driver.load_text(text, "model.dl")
    options = driver.options_of(program, Options(dtype=dtype))
    return Trained(program, fresh_tensors(program, options), options, None, None, (), training_rows=rows)


def fed() -> tuple[Array, Array, Array]:
    """Rows of both inputs of `SMALL`, and their labels."""
    random = np.random.default_rng(3)
    x, double = random.standard_normal((ROWS, 10)).astype(np.float32), random.integers(0, 3, ROWS).astype(np.int32)
    return x, double, (7 * np.arange(ROWS) % 3).astype(np.int32)


def rows_of(*arrays: Array) -> bytes:
    """Rows of several arrays, as programs around a library read and write them."""
    return b"".join(row.tobytes() for rows in zip(*arrays, strict=True) for row in rows)


def predicted(trained: Trained, tensors: Tensors) -> Mapping[str, Array]:
    """The outputs of `SMALL` for these rows, as `dlc predict` computes them."""
    x, double, _ = fed()
    executable = driver.compile_program(trained.program, PREDICTION, trained.options)
    return executable.run(Steps(tensors, {"x": x, "double": double}, np.arange(ROWS), ROWS)).arrays
