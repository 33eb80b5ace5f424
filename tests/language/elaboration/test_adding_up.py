"""`scatter_add` undoes gathers, and `moments` gives mean and variance; their mistakes are told."""

from __future__ import annotations

import numpy as np
import pytest
from elaboration import codes, function_graph, mistakes_of_call, run

X = np.arange(12.0).reshape(4, 3)
IDS = np.array([2, 0, 2, 1])


def test_scatter_add_adds_rows_at_their_numbers() -> None:
    found = run("fn f(x: [n, d], ids: i32[n]) = scatter_add(x, ids, 5)", X, IDS)
    expected = np.zeros((5, 3))
    np.add.at(expected, IDS, X)
    np.testing.assert_array_equal(found, expected)


def test_scatter_add_goes_along_any_axis_and_by_row() -> None:
    along = run("fn f(x: [n, d], ids: i32[n]) = scatter_add(x.T, ids, 5, axis = 1)", X, IDS)
    np.testing.assert_array_equal(along, run("fn f(x: [n, d], ids: i32[n]) = scatter_add(x, ids, 5).T", X, IDS))
    rows = np.array([[0, 0], [1, 2], [2, 2], [0, 1]])
    found = run("fn f(x: [n, d], ids: i32[n, d]) = scatter_add(x, ids, 3, axis = 1, by_row = true)", X[:, :2], rows)
    expected = np.zeros((4, 3))
    for row, (places, values) in enumerate(zip(rows, X[:, :2], strict=True)):
        np.add.at(expected[row], places, values)
    np.testing.assert_array_equal(found, expected)


def test_scatter_add_is_the_gradient_of_a_gather() -> None:
    text = "fn f(t: [n, d], ids: i32[k]) = gradient(t[ids] * t[ids], t) - scatter_add(2 * t[ids], ids, n)"
    assert not run(text, X, IDS).any()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("scatter_add(x, x, 5)", "E0409"),  # no integers
        ("scatter_add(x, ids, 5, axis = 1)", "E0409"),  # the axes of the indices do not stand there
        ("scatter_add(x, ids, 0)", "E0409"),
        ("scatter_add(x, ids, 5, by_row = true)", "E0409"),
    ],
)
def test_mistakes_of_scatter_add(body: str, code: str) -> None:
    assert codes(mistakes_of_call(f"fn f(x: [n, d], ids: i32[k]) = {body}", X, IDS)) == [code]


def test_moments_are_mean_and_variance_of_one_op() -> None:
    text = "fn f(x: [n, d]) {\n    m, v = moments(x, axis = 0)\n    return m, v\n}"
    mean, variance = run(text, X)
    np.testing.assert_allclose(mean, X.mean(axis=0))
    np.testing.assert_allclose(variance, X.var(axis=0))
    assert [node.op.name for node in function_graph(text, "f", X).nodes] == ["moments"]


def test_moments_keep_axes() -> None:
    text = "fn f(x: [n, d]) {\n    m, v = moments(x, axis = 1, keepdims = true)\n    return (x - m) / sqrt(v)\n}"
    expected = (X - X.mean(axis=1, keepdims=True)) / X.std(axis=1, keepdims=True)
    np.testing.assert_allclose(run(text, X), expected, rtol=1e-6)
