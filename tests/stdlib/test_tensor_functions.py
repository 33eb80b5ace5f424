"""Orders, running values, products and segments as native code, with the batch as rows, and their mistakes."""

from __future__ import annotations

import numpy as np
import pytest
from elaboration import mistakes
from native import compiled
from standard_library import applied
from tensor_cases import TENSOR_FUNCTIONS

from compiler.evaluate import evaluate

_RANDOM = np.random.default_rng(5)
_TIES = _RANDOM.integers(-3, 4, (9, 21)).astype("f4")
_STRANGE = np.where(_TIES == 0, np.nan, np.where(_TIES == 3, np.inf, np.where(_TIES == -3, -np.inf, _TIES)))


@pytest.mark.parametrize(
    "call",
    ["argsort(x)", "sort(x, descending = true)", "top_k(3)(x)[1]", "cummax(x)", "cumprod(x)", "argmin(x, axis = 1)"],
)
def test_native_code_has_the_bits_of_the_reference(call: str) -> None:
    graph = applied(call, {"x": _TIES}, is_double=False, in_batches=True)
    executable = compiled(graph, level=0).executable()
    for x in (_TIES, _STRANGE.astype("f4"), _TIES[:1]):
        expected = evaluate(graph, {"x": x}, len(x))["result"]
        assert np.array_equal(executable.call({"x": x}, len(x))["result"], expected, equal_nan=True)


@pytest.mark.parametrize("kind", ["i4", "i8"])
def test_large_integers_are_ordered_exactly(kind: str) -> None:
    """Neighbours that no float tells apart, in a row that is no power of two long."""
    large = 2 ** (8 * np.dtype(kind).itemsize - 2)
    x = np.array([[large + 3, 1, large + 1, large + 2, large], [-1, -large, -large - 2, 3, -large - 1]], kind)
    graph = applied("argsort(x)", {"x": x}, is_double=False, in_batches=True)
    found = compiled(graph, level=0).executable().call({"x": x}, 2)["result"]
    assert np.array_equal(found, np.argsort(x, 1))
    graph = applied("sort(x, descending = true)", {"x": x}, is_double=False, in_batches=True)
    found = compiled(graph, level=0).executable().call({"x": x}, 2)["result"]
    assert np.array_equal(found, np.sort(x, 1)[:, ::-1])


def test_the_last_of_equals_has_the_gradient_of_a_running_value() -> None:
    x = np.array([[2.0, 1, 2, 2, 0, 3], [np.nan, 1, 5, 0, 1, 2], [-np.inf, -np.inf, 0, np.nan, 9, 9]])
    taken = {"cummax": [[2, 0, 1, 2, 0, 1], [6, 0, 0, 0, 0, 0], [1, 1, 1, 3, 0, 0]]}
    taken["cummin"] = [[1, 3, 0, 0, 2, 0], [6, 0, 0, 0, 0, 0], [1, 2, 0, 3, 0, 0]]
    for function, expected in taken.items():
        graph = applied(f"gradient({function}(x), x)", {"x": x}, in_batches=True)
        found = compiled(graph, level=0).executable().call({"x": x}, 3)["result"]
        assert found.tolist() == expected, function


def test_segments_that_are_none_count_as_the_first_or_the_last() -> None:
    parts = np.array([[3.0], [-2.0], [7.0], [1.0]])
    segment = np.array([9, -1, -3, 1], "i4")
    expected = {"segment_sum": [5, 1, 3], "segment_mean": [2.5, 1, 3], "segment_max": [7, 1, 3]}
    for function, values in expected.items():
        graph = applied(f"{function}(3)(x, s)", {"x": parts, "s": segment}, in_batches=True)
        found = compiled(graph, level=0).executable().call({"x": parts, "s": segment}, 4)["result"]
        assert found[:, 0].tolist() == values, function


def test_each_function_has_a_case_at_its_edge() -> None:
    """NaN and infinities where elements are compared, and zeros where they are multiplied."""
    operands = {case.name: [] for case in TENSOR_FUNCTIONS}
    for case in TENSOR_FUNCTIONS:
        operands[case.name] += [np.asarray(array, float) for array in case.operands.values()]
    for name in ("sign", "argmin", "sort", "argsort", "top_k", "cummax"):
        assert any(np.isnan(array).any() for array in operands[name]), name
    for name in ("prod", "cumprod"):
        assert any((array == 0).any() for array in operands[name]), name


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("sort(x, axis = batch)", "E0307"),
        ("sort(x, axis = 4)", "E0406"),
        ("top_k(9)(x)[0]", "E0315"),
        ("top_k(-1)(x)[0]", "E0315"),
        ("roll(1, axis = batch)(x)", "E0307"),
        ("segment_sum(3)(x, x)", "E0404"),
    ],
)
def test_mistakes(call: str, code: str) -> None:
    text = f"model M {{\n    input x: f32[batch, 8]\n    output y = {call}\n}}\n"
    assert [found.code for found in mistakes(text)] == [code]
