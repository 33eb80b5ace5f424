"""Random numbers of predictions and evaluations: the same however many batches are computed together."""

from __future__ import annotations

import numpy as np
import pytest

from compiler import driver
from compiler.driver import Options
from runtime.data.part import Part
from runtime.inference import evaluation
from runtime.inference.evaluation import evaluator_of
from runtime.inference.prediction import Predictor
from runtime.train.jobs import fresh_tensors

MODEL = """
model Noisy {
    input x: f32[batch, 3]
    output y = x + random(batch, 3)
}

train Noisy {
    target t: f32[batch, 3]
    loss = mse(y, t)
    optimizer = gradient_descent(lr = 0.1)
    epochs = 1
    batch = 8
}
"""
ROWS = 60


@pytest.mark.parametrize("seconds", [0.0, 10.0], ids=["one", "many"])
def test_draws_do_not_depend_on_the_speed(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "CALL_SECONDS", seconds)
    program = driver.load_text(MODEL, "model.dl")
    options = driver.options_of(program, Options(batch=8))
    tensors = fresh_tensors(program, options)
    rows = np.zeros((ROWS, 3), np.float32)
    part = Part({"x": rows, "t": rows}, np.arange(ROWS))
    y = Predictor(program, options).predict(tensors, part)["y"]
    assert not np.array_equal(y[:8], y[8:16])
    found = evaluator_of(program, options, None).evaluate(tensors, part)
    assert found is not None
    assert found["loss"] == pytest.approx(np.mean(np.square(y)), rel=1e-6)
