"""`scan … until`: rows that are done keep their carries, whatever the others do."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from elaboration import codes, mistakes

import dlc

TEXT = """
fn root(most: int)(a: [rows], where: bool[rows, most] = none) {
    xs, x, steps = scan i in 0..most over 1 where = where carry x = a, steps = zeros(rows)
        until abs(x * x - a) <= 1e-3 * a {
        x = (x + a / x) / 2
        steps = steps + 1
        emit x
    }
    return xs, x, steps
}

## Until x is 1 or less: below 0.25, the step is NaN.
fn down(a: [rows]) {
    return scan i in 0..6 over 1 carry x = a until x <= 1 { x = x - sqrt(x - 0.25) / 2 }
}
""".replace("\n        until", " until")
MODEL = """
model M {
    input a: f32[batch]
    output xs, x, steps = root(12)(a)
    output low = down(a)
    output slope = gradient(x, a)
    output slope_low = gradient(low, a)
}
"""
VALUES = np.array([1.0, 2.0, 9.0, 100.0, 1e4, 0.5], np.float32)


def looped(a: float, most: int) -> tuple[list[float], float, int]:
    """Newton's method for one number, and what each step gave."""
    x, given = np.float32(a), list[float]()
    while len(given) < most and abs(x * x - np.float32(a)) > np.float32(1e-3) * np.float32(a):
        x = (x + np.float32(a) / x) / 2
        given.append(float(x))
    return given + [0.0] * (most - len(given)), float(x), sum(value != 0 for value in given)


@pytest.mark.parametrize("target", ["native", "reference"])
def test_rows_stop_by_themselves(target: str) -> None:
    found = dlc.loads(TEXT + MODEL, target=target).predict(VALUES)
    for row, value in enumerate(VALUES):
        given, x, steps = looped(float(value), 12)
        assert found["steps"][row] == steps
        np.testing.assert_allclose(found["xs"][row], given, rtol=1e-6)
        np.testing.assert_allclose(found["x"][row], x, rtol=1e-6)


def slopes(a: float) -> tuple[float, float]:
    """The derivatives of both functions, step by step."""
    x, of_x = a, 1.0
    for _ in range(looped(a, 12)[2]):
        x, of_x = (x + a / x) / 2, (of_x + 1 / x - a / x**2 * of_x) / 2
    low, of_low = a, 1.0
    for _ in range(6):
        if low > 1:
            low, of_low = low - math.sqrt(low - 0.25) / 2, of_low * (1 - 0.25 / math.sqrt(low - 0.25))
    return of_x, of_low


def test_the_gradient_goes_through_the_steps_that_were_made() -> None:
    found = dlc.loads(TEXT + MODEL).predict(VALUES)
    expected = np.array([slopes(float(value)) for value in VALUES])
    np.testing.assert_allclose(found["slope"], expected[:, 0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["slope_low"], expected[:, 1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("target", ["native", "reference"])
def test_what_no_step_computed_has_no_part_in_a_gradient(target: str) -> None:
    """After one step x is 0, where the root has an infinite slope."""
    text = """
fn f(a: [rows]) = scan i in 0..4 over 1 carry x = a until x <= 0 { x = x - a + 0 * sqrt(x) }
model M {
    input a: f32[batch]
    output y = f(a)
    output slope = gradient(f(a), a)
}
"""
    found = dlc.loads(text, target=target).predict(np.array([4.0, 1.0], np.float32))
    assert found["y"].tolist() == found["slope"].tolist() == [0, 0]


def test_a_row_has_the_same_bits_alone() -> None:
    model = dlc.loads(TEXT + MODEL)
    found = model.predict(VALUES)
    for row in range(len(VALUES)):
        alone = model.predict(VALUES[row : row + 1])
        for name, values in found.items():
            np.testing.assert_array_equal(values[row : row + 1], alone[name])


def test_a_mask_holds_beside_it() -> None:
    call = dlc.function(TEXT, "root", most=6)
    mask = np.ones((2, 6), bool)
    mask[0, :3] = False
    xs, x, steps = call(np.array([100.0, 100.0], np.float32), mask)
    assert steps.tolist() == [3, 6]
    assert (xs[0, :3] == 0).all()
    assert x[0] == xs[1, 2]


def test_the_bound_ends_what_never_holds() -> None:
    text = "fn f(a: [rows]) = scan i in 0..5 over 1 carry x = a until x < 0 { x = x + 1 }"
    found = dlc.function(text, "f")(np.array([1.0, math.nan], np.float32))
    assert np.asarray(found)[0] == 6


def test_until_is_a_name_elsewhere() -> None:
    found = dlc.function("fn f(until: [rows]) = 2 * until", "f")(np.ones(2, np.float32))
    assert np.asarray(found).tolist() == [2, 2]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("i > 2", ["E0201"]),
        ("x", ["E0416"]),
        ("true", ["E0416"]),
        ("x > random_like(x)", ["E0419"]),
        ("x > ones(4)", ["E0401"]),
    ],
)
def test_a_mistake(condition: str, expected: list[str]) -> None:
    text = f"""
model M {{
    input a: f32[batch, 3]
    output y = scan i in 0..3 over 1 carry x = a until {condition} {{ x = x + i }}
}}
"""
    found = mistakes(text, elaborates=True)
    assert codes(found) == expected
    assert condition != "i > 2" or "carry a count" in found[0].notes[0].message


def test_training_moves_what_the_steps_read() -> None:
    text = """
model M {
    input a: f32[batch]
    param rate: [1] = constant(0.5)
    output x = scan i in 0..8 over 1 carry x = a until x < 1 { x = x * rate }
}
train M {
    data = npz("none.npz")
    target t: f32[batch]
    loss = mse(x, t)
    optimizer = gradient_descent(lr = 0.01)
    epochs = 1
    batch = 3
}
"""
    rows: dict[str, Any] = {"a": np.array([0.5, 3.0, 9.0], np.float32), "t": np.zeros(3, np.float32)}
    weights: list[float] = []
    for target in ("native", "reference"):
        model = dlc.loads(text, target=target)
        model.train(rows)
        weights.append(float(model.parameters["rate"][0]))
    # Of rows that took 0, 2 and 4 steps: x = a rate^n, whose slope is n x / rate.
    ends = np.array([0.5, 3 * 0.5**2, 9 * 0.5**4])
    slope = (2 / 3 * ends * np.array([0, 2, 4]) * ends / 0.5).sum()
    np.testing.assert_allclose(weights, 0.5 - 0.01 * slope, rtol=1e-5)


CORNER = """
model M {
    input a: f32[batch]
    param w: [] = constant(2.0)
    output y = scan i in 0..2 over 1 carry x = a until x <= 0 { x = sqrt(x * w) - log(x / w) / 8 + x / x ^ 0.5 }
    output slope = gradient(y, a)
    output of_w = gradient(y, w) + zeros(batch)
    output bend = gradient(slope, a)
}
"""


def stepped(a: float, w: float) -> float:
    x = a
    for _ in range(2):
        if x > 0:
            x = math.sqrt(x * w) - math.log(x / w) / 8 + x / x**0.5
    return x


@pytest.mark.parametrize("target", ["native", "reference"])
def test_a_row_that_is_done_from_the_beginning_has_the_slope_of_what_it_keeps(target: str) -> None:
    """At 0 the root, the logarithm and the quotient of the body have infinite slopes or none."""
    rows = np.array([0.0, 3.0, -1.0, 1.0], np.float64)
    found = dlc.loads(CORNER, target=target, dtype="f64").predict(rows)
    h = 1e-4
    for row, a in enumerate(rows):
        near = [stepped(a + k * h, 2.0) if a > 0 else a + k * h for k in (-1, 0, 1)]
        assert found["y"][row] == pytest.approx(near[1])
        assert found["slope"][row] == pytest.approx((near[2] - near[0]) / (2 * h), rel=1e-6)
        assert found["bend"][row] == pytest.approx((near[2] - 2 * near[1] + near[0]) / h**2, abs=1e-5)
    of_w = sum((stepped(a, 2 + h) - stepped(a, 2 - h)) / (2 * h) for a in rows)
    np.testing.assert_allclose(found["of_w"], of_w, rtol=1e-6)
