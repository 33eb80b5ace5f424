"""Activations, losses, metrics, helpers: values equal NumPy, gradients equal differences, extremes stay finite."""

from __future__ import annotations

import numpy as np
import pytest
from differentiation import assert_gradients, gradients
from elaboration import mistakes_of_call
from function_case import FunctionCase
from function_cases import FUNCTIONS
from image_cases import IMAGE_FUNCTIONS
from standard_library import applied

from compiler.evaluate import evaluate

CASES = (*FUNCTIONS, *IMAGE_FUNCTIONS)
DIFFERENTIABLE = [case for case in CASES if case.slopes]
EXTREME = [case for case in FUNCTIONS if case.extremes]
# A step compares, and a comparison with NaN is false.
SHOWS_NAN = [case for case in EXTREME if case.name != "step"]


def identity(case: FunctionCase) -> str:
    return case.id


@pytest.mark.parametrize("case", CASES, ids=identity)
def test_the_value_equals_numpy(case: FunctionCase) -> None:
    (result,) = evaluate(applied(case.call, case.operands), case.operands, 1).values()
    expected = np.asarray(case.expected(**case.operands))
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=identity)
def test_the_gradient_equals_a_difference(case: FunctionCase) -> None:
    assert_gradients(applied(case.call, case.operands), "result", case.slopes, case.operands)


@pytest.mark.parametrize("case", EXTREME, ids=identity)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_inputs_have_finite_values_and_gradients(case: FunctionCase, dtype: type[np.floating]) -> None:
    operands = {"x": np.array(case.extremes, dtype)}
    graph = applied(case.call, operands, is_double=dtype is np.float64)
    result = evaluate(graph, operands, 1)["result"]
    with np.errstate(all="ignore"):
        expected = case.expected(np.array(case.extremes))
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)
    (slope,) = gradients(graph, "result", ("x",), operands, np.ones_like(result))
    assert np.isfinite(slope).all(), slope


@pytest.mark.parametrize("case", SHOWS_NAN, ids=identity)
def test_a_nan_is_not_hidden(case: FunctionCase) -> None:
    operands = {"x": np.array([np.nan, 1.0])}
    result = evaluate(applied(case.call, operands), operands, 1)["result"]
    assert np.isnan(result[0])
    assert np.isfinite(result[1])


@pytest.mark.parametrize(
    ("call", "at", "slope"),
    [("relu(x)", 0.0, 0.0), ("softplus(x)", 0.0, 0.5), ("elu(x)", 0.0, 1.0), ("swish(x)", 0.0, 0.5)],
)
def test_the_slope_at_zero(call: str, at: float, slope: float) -> None:
    operands = {"x": np.array([at])}
    (found,) = gradients(applied(call, operands), "result", ("x",), operands, np.ones(1))
    np.testing.assert_allclose(found, [slope])


def test_the_perceptron_learns_from_a_score_of_zero() -> None:
    operands = {"p": np.zeros(2), "y": np.array([1.0, -1.0])}
    (slope,) = gradients(applied("perceptron_loss(p, y)", operands), "result", ("p",), operands, np.array(1.0))
    np.testing.assert_allclose(slope, [-0.5, 0.5])


def test_the_gradient_of_cross_entropy_is_finite_for_distant_logits() -> None:
    operands = {"x": np.array([[1e30, -1e30, 0.0]]), "label": np.array([1], np.int32)}
    graph = applied("cross_entropy(x, label)", operands)
    (slope,) = gradients(graph, "result", ("x",), operands, np.array(1.0))
    np.testing.assert_allclose(slope, [[1.0, -1.0, 0.0]])


@pytest.mark.parametrize("count", [3, 5])
def test_class_weights_are_as_many_as_classes(count: int) -> None:
    weights = ", ".join(["1.0"] * count)
    text = f"fn f(x, label) = cross_entropy(class_weights = [{weights}])(x, label)"
    (found,) = mistakes_of_call(text, np.zeros((2, 4)), np.array([0, 3]))
    assert (found.code, found.message) == (
        "E0315",
        f"`class_weights` holds {count} numbers, not one for each of the 4 classes",
    )
