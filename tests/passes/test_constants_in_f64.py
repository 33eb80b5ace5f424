"""In a program of f64, what is computed of constants has the digits of f64 in every one of its graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compiler import driver
from compiler.driver import Options
from compiler.interface import Steps
from compiler.programs.kinds import TRAINING

TEXT = """
optimizer plain(lr = 0.1)(p, g, t) {{ p - lr * g }}

model M {{
    input x: f32[batch, 3]
    param w: [3] = ones
    output v = w * x * x / 4.0
}}

train M {{
    target t: f32[batch]
    loss = {loss} + 0 * mean(t)
    optimizer = plain()
    batch = 4
    {precision}
}}
"""
X = np.linspace(0.1, 2, 12).reshape(4, 3)
V = X * X / 4
THIRD = 1 / 3
LOSSES = {
    "mean(sin(0.7 * v))": (np.sin(0.7 * V), 0.7 * np.cos(0.7 * V)),
    "mean(cast(x * 3, i32) * 0.1 * v)": (np.trunc(X * 3) * 0.1 * V, np.trunc(X * 3) * 0.1),
    "mean(where(ones(3) * 0.1 * 3 == 0.30000000000000004, v, 0 * v))": (V, np.ones(V.shape)),
    "mean(v / 3.0 * 0.3)": (V / 3 * 0.3, np.full(V.shape, 0.1)),
}


@pytest.mark.parametrize("target", ["native", "reference"])
@pytest.mark.parametrize("by", ["option", "text"])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_is_as_exact_as_f64(loss: str, by: str, target: str, tmp_path: Path) -> None:
    path = tmp_path / "model.dl"
    path.write_text(TEXT.format(loss=loss, precision="precision = f64" if by == "text" else ""))
    program = driver.load(path)
    options = driver.options_of(program, Options(dtype="f64" if by == "option" else "f32", batch=4, target=target))
    tensors = driver.allocate(program, options)
    driver.initialise(program, tensors, 0, options)
    step = driver.compile_program(program, TRAINING, options)
    results = step.run(Steps(tensors, {"x": X, "t": np.zeros(4)}, np.arange(4), 4, settings={"optimizer.lr": 0.1}))
    value, slope = LOSSES[loss]
    np.testing.assert_allclose(results.scalars["loss"][0], value.mean(), rtol=1e-14)
    gradient = (slope * X * X / 4).sum(axis=0) / 12
    np.testing.assert_allclose((1 - tensors["w"]) / 0.1, gradient, rtol=1e-13)
