"""`dlc.function`: element types, results without a derivative, and products whose axes are named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dlc
from compiler.errors.diagnostics import SourceError

TARGETS = ("native", "reference")
RANDOM = np.random.default_rng(0)
A, B, M = (
    np.array([1.0, 2.0], np.float32),
    np.array([3.0, 4.0, 5.0], np.float32),
    RANDOM.normal(size=(3, 3)).astype("f4"),
)
FOUR = RANDOM.normal(size=(3, 4, 3, 2)).astype("f4")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "text",
    [
        "fn f(x: f32[n]) -> f32[n] = x * 0.1",
        "fn f(x: f64[n]) -> f64[n] = x * 0.1",
        "fn f(x: [n]) { last = scan v in x over n carry s = zeros() { s = v * 0.1 }\n return x * 0.1 + 0 * last }",
        "fn f(x: [n]) { last = scan v in x over n carry s = ones() { s = s * 1.0 }\n return x * 0.1 * last }",
    ],
)
def test_a_text_of_f32_takes_f64(text: str, target: str) -> None:
    function = dlc.function(text, "f", dtype="f64", target=target)
    x = np.array([1.0, 3.0, 7.0])
    found = function(x)
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, x * 0.1, rtol=1e-15)
    np.testing.assert_allclose(function.gradient(x)[0], np.full(3, 0.1), rtol=1e-15)


@pytest.mark.parametrize("target", TARGETS)
def test_integer_and_boolean_results_have_no_derivative(target: str) -> None:
    for text in ("fn f(x) = x > 1", "fn f(x) = cast(x, i32)"):
        function = dlc.function(text, "f", target=target)
        assert function.gradient(A)[0].tolist() == [0, 0]
        assert function.gradient(A, cotangents=np.ones(2))[0].tolist() == [0, 0]
    both = dlc.function("fn f(x) { return cast(x, i32), x * 3 }", "f", target=target)
    assert both.gradient(A)[0].tolist() == [3, 3]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("pattern", "operands"),
    [
        ("i,j->ij", (A, B)),
        ("i,j->ji", (A, B)),
        ("i,i->", (A, A)),
        ("ii->i", (M,)),
        ("ii->", (M,)),
        ("iaib->bia", (FOUR,)),
        ("iaib,b->ai", (FOUR, A)),
        ("iii->i", (RANDOM.normal(size=(4, 4, 4)).astype("f4"),)),
        ("...i,i->...", (M, B)),
    ],
)
def test_einsum_is_that_of_numpy(pattern: str, operands: tuple[Any, ...], target: str) -> None:
    names = ", ".join("abc"[: len(operands)])
    apart = ", ".join(
        " ".join(term.replace("...", "…")).replace("…", "...") for term in pattern.partition("->")[0].split(",")
    )
    result = " ".join(pattern.partition("->")[2].replace("...", "…")).replace("…", "...")
    for text in (pattern, f"{apart} -> {result}"):
        function = dlc.function(f'fn f({names}) = einsum("{text}", {names})', "f", target=target)
        np.testing.assert_allclose(function(*operands), np.einsum(pattern, *operands), rtol=1e-5)


def test_the_gradient_of_a_diagonal_lies_on_it() -> None:
    function = dlc.function('fn f(a) = einsum("ii->i", a)', "f")
    assert function.gradient(M, cotangents=B)[0].tolist() == np.diag(B).tolist()


def test_a_diagonal_has_two_equal_axes() -> None:
    function = dlc.function('fn f(a) = einsum("ij ij -> ij", a)', "f")
    with pytest.raises(SourceError, match="is both 4 and 3"):
        dlc.function('fn f(a) = einsum("iaab->b", a)', "f")(FOUR)
    with pytest.raises(SourceError, match="names 2 axes"):
        function(FOUR)
