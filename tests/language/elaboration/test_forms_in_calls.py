"""Where the name of an initialiser or a schedule may stand, and where it is a value that is meant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import dlc
from compiler import driver
from compiler.driver import Options
from compiler.errors.diagnostics import SourceError
from compiler.interface import Steps
from compiler.programs.kinds import GraphKind, Purpose
from runtime.inference.model import runtime_settings

A = np.array([1.0, 2.0], np.float32)
TAKING = "fn g(at: schedule = constant)(a, b) = at(a, b)\nfn h(by: init = zeros)(a, b) = a + b\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fn f(a, b) = g(a, b)", A),
        ("fn f(constant, b) = g(constant, b)", A),
        ("fn f(step, b) = g(step + 1, b)", A + 1),
        ("fn f(a, b) = g(exp(a), b)", np.exp(A)),
        ("fn f(a, b) = g(step(2))(a, b)", A * np.array([1, 0.1], np.float32)),
        ("fn f(a, b) = g(at = constant)(a, b)", A),
        ("fn f(a, zeros) = h(zeros, a)", A + A),
        ("fn f(a, b) = h(relu(a), b)", A + A),
        ("fn f(a, b) = h(normal(std = 0.1))(a, b)", A + A),
    ],
)
def test_a_tensor_is_not_taken_for_a_form(text: str, expected: np.ndarray) -> None:
    np.testing.assert_allclose(dlc.function(TAKING + text, "f", target="reference")(A, A), expected, rtol=1e-6)


def test_what_is_no_form_is_told() -> None:
    with pytest.raises(SourceError, match="there is no schedule `exp`"):
        dlc.function(f"{TAKING}fn f(a, b) = g(exp)(a, b)", "f")(A, A)
    with pytest.raises(SourceError, match="a schedule is needed here, not the number 2"):
        dlc.function(f"{TAKING}fn f(a, b) = g(2)(a, b)", "f")(A, A)


MODEL = """
init twice(fan_in, fan_out, shape) = 2 * normal(mean = 1.0, std = 0.0)(fan_in, fan_out, shape)
init ones(fan_in, fan_out, shape) = 3 * ones(shape)
init nine(fan_in, fan_out, shape) = 3 * constant(3.0)(fan_in, fan_out, shape)
schedule late(lr, t) = 2 * step_after(3)(lr, t)
schedule step_after(steps: int)(lr, t) = where(t < steps, lr, 0)
model M {
    input x: f32[batch, 2]
    param a: [2] = twice
    param b: [2] = ones
    param c: [2] = nine
    output y = x * a + b + c
}
train M {
    loss = mean(y)
    optimizer = gradient_descent(lr = 0.5)
    schedule = late
    batch = 2
}
"""


def test_the_body_of_a_form_calls_others_of_its_kind(tmp_path: Path) -> None:
    path = tmp_path / "model.dl"
    path.write_text(MODEL)
    program, options = driver.load(path), Options(batch=2, target="reference")
    tensors = driver.allocate(program, options)
    driver.initialise(program, tensors, 0, options)
    assert {name: tensors[name].tolist() for name in "abc"} == {"a": [2, 2], "b": [3, 3], "c": [9, 9]}
    schedule = driver.compile_program(program, GraphKind(Purpose.SCHEDULE), options)
    settings = runtime_settings(program)
    rates = [
        schedule.run(Steps(tensors, {}, np.zeros(1, np.int64), 1, step, 0, settings)).scalars["lr"][0]
        for step in (0, 2, 3)
    ]
    assert rates == [1, 1, 0]
