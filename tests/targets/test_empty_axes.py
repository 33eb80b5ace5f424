"""Tensors with an axis of length 0, on native code and the reference: the shapes and numbers of NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from elaboration import codes, mistakes

import dlc
from compiler import driver
from compiler.driver import FUSIONS, PREDICTION, Options, Steps

Array: TypeAlias = np.ndarray[Any, Any]

ROWS, WIDTH = 3, 4
X = np.random.default_rng(0).standard_normal((ROWS, WIDTH)).astype(np.float32)
EMPTY = X[:, :0]

# Of x [batch, 4] and empty [batch, 0]: an expression, and NumPy's value.
CASES: dict[str, tuple[str, Array]] = {
    "slice": ("x[:, 2:2]", EMPTY),
    "elementwise": ("exp(empty) * 2 + empty", EMPTY),
    "broadcast": ("empty + x[:, 0:1]", EMPTY),
    "sum": ("sum(empty, axis = 1)", EMPTY.sum(1)),
    "prod": ("prod(empty, axis = 1)", EMPTY.prod(1)),
    "prod_kept": ("prod(empty, axis = 1, keepdims = true)", EMPTY.prod(1, keepdims=True)),
    "mean": ("mean(empty, axis = 1)", np.full(ROWS, np.nan, np.float32)),
    "variance": ("variance(empty, axis = 1)", np.full(ROWS, np.nan, np.float32)),
    "masked_mean": ("mean(x, axis = 1, where = x != x)", np.zeros(ROWS, np.float32)),
    "all": ("all(empty > 0, axis = 1)", np.ones(ROWS, bool)),
    "any": ("any(empty > 0, axis = 1)", np.zeros(ROWS, bool)),
    "max_elsewhere": ("max(empty[:, None, :] + zeros(1, 5, 1), axis = 1)", EMPTY),
    "argmax_elsewhere": ("argmax(empty[:, None, :] + zeros(1, 5, 1), axis = 1)", EMPTY.astype(np.int32)),
    "product": ("empty @ zeros(0, 5)", np.zeros((ROWS, 5), np.float32)),
    "product_of_columns": ("x @ zeros(4, 0)", EMPTY),
    "einsum": ('einsum("b i, i j -> b j", empty, zeros(0, 2))', np.zeros((ROWS, 2), np.float32)),
    "concat": ("concat(empty, x, empty, axis = 1)", X),
    "pad": ("pad(empty, 1, 2, axis = 1, value = 3.0)", np.full((ROWS, 3), 3, np.float32)),
    "reshape": ("reshape(empty, batch, 0, 5)", np.zeros((ROWS, 0, 5), np.float32)),
    "transpose": ("transpose(empty[:, :, None] + zeros(1, 1, 2), 0, 2, 1)", np.zeros((ROWS, 2, 0), np.float32)),
    "reverse": ("reverse(empty, 1)", EMPTY),
    "cumsum": ("cumsum(empty, axis = 1)", EMPTY),
    "cumprod": ("cumprod(empty, axis = 1)", EMPTY),
    "sort": ("sort(empty, axis = 1)", EMPTY),
    "argsort": ("argsort(empty, axis = 1)", EMPTY.astype(np.int32)),
    "where": ("where(empty > 0, empty, 1.0)", EMPTY),
    "gather": ("gather(x, cast(empty, i32))", EMPTY),
    "rows": ("x[:, arange(0)]", EMPTY),
    "scatter": ("scatter_add(empty, arange(0), 3, axis = 1)", np.zeros((ROWS, 3), np.float32)),
    "one_hot": ("one_hot(0)(arange(3)) + zeros(batch, 3, 0)", np.zeros((ROWS, 3, 0), np.float32)),
    "bool": ("empty > 0", EMPTY > 0),
    "u8": ("cast(empty, u8)", EMPTY.astype(np.uint8)),
    "stack_of_no_steps": ("stack_of(empty)", EMPTY),
    "carry_of_no_steps": ("carry_of(empty, x[:, 0])", X[:, 0]),
    "range_of_no_steps": ("counted(x[:, 0])", X[:, 0]),
    "slope_of_a_slice": ("gradient(sum(x[:, 1:1] ^ 2, axis = 1), x)", 0 * X),
    "slope_of_a_concat": ("gradient(sum(concat(x * x, empty, axis = 1), axis = 1), x)", 2 * X),
    "slope_of_a_product": ("gradient(sum(x[:, 0:0] @ zeros(0, 3)), x)", 0 * X),
    "slope_of_prod": ("gradient(prod(x[:, 1:1], axis = 1), x)", 0 * X),
    "slope_of_a_scan": ("gradient(sum(carry_of(empty, x[:, 0])), x)", np.eye(1, 4, dtype=np.float32).repeat(ROWS, 0)),
    "slope_of_empty": ("gradient(sum(empty * empty), empty)", EMPTY),
}
FUNCTIONS = """
fn stack_of(steps: [b, t]) {
    s, _ = scan a in steps over t carry h = zeros(b) {
        h = h + a
        emit h
    }
    return s
}
fn carry_of(steps: [b, t], start: [b]) = scan a in steps over t carry h = start { h = h * a }
fn counted(start: [b]) = scan i in 0..0 over 1 carry h = start { h = h * i }
"""


def model_of(cases: dict[str, tuple[str, Array]]) -> str:
    outputs = "".join(f"    output {name}_ = {text}\n" for name, (text, _) in cases.items())
    return f"{FUNCTIONS}\nmodel M {{\n    input x: f32[batch, {WIDTH}]\n    empty = x[:, 0:0]\n{outputs}}}\n"


@pytest.mark.parametrize("target", ["native", "reference"])
@pytest.mark.parametrize("fuse", [True, False])
def test_meaning(target: str, fuse: bool) -> None:
    program = driver.load_text(model_of(CASES), "model.dl", None, (), None)
    options = Options(target, threads=1, without=() if fuse else tuple(FUSIONS), verify=True)
    executable = driver.compile_program(program, PREDICTION, options)
    results = executable.run(Steps(driver.allocate(program, options), {"x": X}, np.arange(ROWS), ROWS, 0))
    for name, (text, expected) in CASES.items():
        found = results.arrays[f"{name}_"]
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype), text
        np.testing.assert_array_equal(found, expected, text)


def test_predictions_of_no_rows() -> None:
    found = dlc.loads(model_of(CASES)).predict(X[:0])
    for name, (text, expected) in CASES.items():
        rows = found[f"{name}_"]
        assert (rows.shape, rows.dtype) == ((0, *expected.shape[1:]), expected.dtype), text


@pytest.mark.parametrize("text", ["max(empty, axis = 1)", "min(empty, axis = 1)", "argmax(empty, axis = 1)"])
def test_no_element_to_choose(text: str) -> None:
    assert codes(mistakes(model_of({"y": (text, EMPTY)}), elaborates=True)) == ["E0406"]


def test_training_beside_an_empty_axis(tmp_path: Path) -> None:
    """Weights that only a product over no elements reads stay as they are."""
    text = """
model M {
    input x: f32[batch, 4]
    param W: [4, 2] = ones
    output y = x @ W + x[:, 0:0] @ zeros(0, 2)
}
train M {
    data = npz("data.npz")
    target t: f32[batch, 2]
    loss = mse(y, t) + sum(gradient(prod(y[:, 0:0], axis = 1), x))
    optimizer = gradient_descent(lr = 0.1)
    epochs = 1
    batch = 3
}
"""
    found: list[Array] = []
    for target in ("native", "reference"):
        model = dlc.loads(text, target=target, name=str(tmp_path / "model.dl"))
        model.train({"x": X, "t": X[:, :2]})
        found.append(np.array(model.parameters["W"]))
    slope = 2 / (2 * ROWS) * X.T @ (X @ np.ones((4, 2), np.float32) - X[:, :2])
    for weights in found:
        np.testing.assert_allclose(weights, 1 - 0.1 * slope, rtol=1e-5)
