"""Configuration, tensors and calls: what an expression gives."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from elaboration import codes, mistakes, mistakes_of_call, program, run

X = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], np.float32)

CONFIGURATION = {
    "7 / 2": 3.5,
    "7 // 2": 3,
    "-7 // 2": -4,
    "-7 % 3": 2,
    "2 ^ 3 ^ 2": 512,
    "-2 ^ 2": -4,
    "sqrt(2 / 8)": 0.5,
    "max(1, 5, 3)": 5,
    "min(2, 0.5)": 0.5,
    "floor(2.7)": 2,
    "ceil(2.1)": 3,
    "int(-2.7)": -2,
    "round(2.6)": 3,
    "abs(-3)": 3,
    "len([1, 2, 3])": 3,
    "[1, 2, 3][-1]": 3,
    "([1, 2] + [5])[2]": 5,
    "[4, 5, 6, 7][1:3][1]": 6,
    "log(exp(1))": 1.0,
    "cos(pi)": -1.0,
}


@pytest.mark.parametrize("expression", CONFIGURATION)
def test_arithmetic_over_configuration(expression: str) -> None:
    assert run(f"fn f(x) = x * 0 + ({expression})", 1.0) == pytest.approx(CONFIGURATION[expression])


DECISIONS = {
    "1 < 2 and not (2 < 1)": True,
    "1 == 1.0": True,
    '"a" == "b"': False,
    '"a" != 1': True,
    "none == none": True,
    "true == 1": False,
    "[1, 2] == [1, 2]": True,
    "false and 1 / 0 > 0": False,
    "true or 1 / 0 > 0": True,
}


@pytest.mark.parametrize("expression", DECISIONS)
def test_decisions_over_configuration(expression: str) -> None:
    text = f"fn f(x) {{\n    if {expression} {{ return x + 1 }}\n    return x\n}}"
    assert run(text, 0.0) == (1.0 if DECISIONS[expression] else 0.0)


ELEMENT_TYPES = {
    ("i / 2", "i32"): "float32",
    ("mean(i)", "i32"): "float32",
    ("exp(i)", "i32"): "float32",
    ("i + 1", "u8"): "int32",
    ("i * 2.5", "u8"): "float32",
    ("i // 2", "i32"): "int32",
    ("i + x", "i32"): "float32",
    ("i == x", "i32"): "bool",
    ("sum(i)", "u8"): "int32",
    ("i ^ 2", "i32"): "float32",
    ("cast(i, f64) + x", "i32"): "float64",
    ("cast(i, i64) + i", "i32"): "int64",
    ("where(x > 2, 1, 0)", "i32"): "float32",
    ("where(x > 2, i, 0)", "i32"): "int32",
}


@pytest.mark.parametrize(("expression", "dtype"), ELEMENT_TYPES)
def test_element_types(expression: str, dtype: str) -> None:
    integers = np.array([[1, 2, 3], [4, 5, 6]], {"i32": np.int32, "u8": np.uint8}[dtype])
    assert run(f"fn f(x, i) = {expression}", X, integers).dtype.name == ELEMENT_TYPES[expression, dtype]


OPERATIONS = {
    "x + 1": X + 1,
    "2 - x": 2 - X,
    "x / 2": X / 2,
    "x // 2": X // 2,
    "x % 2": X % 2,
    "x ^ 2": X**2,
    "x ^ 3": X**3,
    "x ^ 4": X**4,
    "x ^ 0.5": np.sqrt(X),
    "x ^ -1": 1 / X,
    "x ^ 2.5": X**2.5,
    "-x": -X,
    "x > 2 and x < 5": (X > 2) & (X < 5),
    "not (x >= 2)": X < 2,
    "x != 2": X != 2,
    "min(x, 2)": np.minimum(X, 2),
    "max(x, 2, 4)": np.maximum(X, 4),
    "where(x > 2, x, -inf)": np.where(X > 2, X, -math.inf),
    "x @ x.T": X @ X.T,
    "x @ x[0]": X @ X[0],
    "x[0] @ x.T": X[0] @ X.T,
    "x[0] @ x[1]": X[0] @ X[1],
    "x.T": X.T,
    "round(x / 4)": np.round(X / 4),
    "ceil(x / 4)": np.ceil(X / 4),
    "int(x - 3.5)": np.trunc(X - 3.5),
    "sum(x)": X.sum(),
    "sum(x, axis = 0)": X.sum(0),
    "sum(x, axis = [0, 1])": X.sum(),
    "mean(x, axis = 1, keepdims = true)": X.mean(1, keepdims=True),
    "variance(x, axis = -1)": X.var(-1),
    "variance(x, axis = -1, where = x > 1)": np.array([0.25, 2 / 3]),
    "max(x, axis = 0)": X.max(0),
    "min(x)": X.min(),
    "argmax(x, axis = 1)": X.argmax(1),
    "argmax(x)": X.argmax(),
    "cumsum(x)": X.cumsum(-1),
    "cumsum(x, axis = 0, reverse = true)": X[::-1].cumsum(0)[::-1],
    "sum(x, where = x > 2)": X[X > 2].sum(),
    "mean(x, axis = 1, where = x > 3)": np.array([0, 5.0]),
    "max(x, axis = 1, where = x < 3)": np.array([2, -math.inf]),
    "all(x > 0)": True,
    "any(x > 4, axis = 1)": np.array([False, True]),
    "reshape(x, 3, 2)": X.reshape(3, 2),
    "reshape(x, -1)": X.reshape(-1),
    "reshape(x, [2, 1, -1])": X.reshape(2, 1, 3),
    "transpose(x, 1, 0)": X.T,
    "concat(x, x, axis = 0)": np.concatenate([X, X]),
    "concat([x, x])": np.concatenate([X, X], -1),
    "reverse(x, 1)": X[:, ::-1],
    "pad(x, 1, 2, value = 9)": np.pad(X, ((0, 0), (1, 2)), constant_values=9),
    "windows(x, 2)": np.stack([X[:, :2], X[:, 1:]], 1),
    "windows(x, 2, stride = 2)": X[:, None, :2],
    "windows(x, 2, dilation = 2, axis = 1)": X[:, None, ::2],
    "windows(x, [2, 1], axis = [0, 1])": X.T[None, :, :, None],
    "windows(x, [3, 2], [1, 2], axis = [1, 0])": X.T[None, None],
    "overlap_add(windows(x, 2))": X * [1, 2, 1],
    "overlap_add(windows(x, 2, 2), extent = 3, stride = 2)": X * [1, 1, 0],
    "overlap_add(windows(x, [1, 2], axis = [1, 0]), axis = [1, 0])": X,
    "extent(x, 0) + x": X + 2,
    "x[per_axis(0, 2)[1]]": X[0],
    "x * per_axis([3, 4], 2)[1]": X * 4,
    'x * where(one_of("b", "a", "b") == "b", 5, 1)': X * 5,
    "zeros(2, 3) + x": X,
    "ones(3) + x": X + 1,
    "full(2.5, 3) + x": X + 2.5,
    "zeros_like(x)": X * 0,
    "ones_like(x)": X * 0 + 1,
    "arange(3)": np.arange(3),
    "rank(x)": 2,
    "x |> sum(axis = 0)": X.sum(0),
    "x |> reshape(3, 2)": X.reshape(3, 2),
    "stop_gradient(x)": X,
}


@pytest.mark.parametrize("expression", OPERATIONS)
def test_operations_on_tensors(expression: str) -> None:
    found = run(f"fn f(x) = {expression}", X)
    expected = np.asarray(OPERATIONS[expression])
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "index",
    [
        ":, 0",
        ":, -1",
        "0",
        "..., 0:2",
        "-1, ...",
        "None, 0",
        ":, None",
        "..., None, 1",
        ":, ::2",
        "::-1",
        "1:, -2:",
        ":0",
    ],
)
def test_indices_follow_numpy(index: str) -> None:
    expected = eval(f"X[{index}]", {"X": X})
    found = run(f"fn f(x) = x[{index}]", X)
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found, expected)


def test_a_tensor_of_integers_gathers() -> None:
    ids = np.array([[2, 0], [1, 1]], np.int32)
    np.testing.assert_array_equal(run("fn f(x, ids) = x[:, ids]", X, ids), X[:, ids])
    np.testing.assert_array_equal(run("fn f(x, ids) = x.T[ids]", X, ids), X.T[ids])
    np.testing.assert_array_equal(run("fn f(x, ids) = x[1, ids]", X, ids), X[1, ids])


PATTERNS = {
    "ij,kj->ik": 2,
    "i j, k j -> i k": 2,
    "i j, k j -> i": 2,
    "i j, k l -> j l": 2,
    "i j -> j i": 1,
    "i j ->": 1,
    "... j, ... j -> ...": 2,
    "i j, i j, i j -> j": 3,
    "i j, k j, l j -> i k l": 3,
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_einsum(pattern: str) -> None:
    count = PATTERNS[pattern]
    compact = pattern.replace(" ", "")
    found = run(f'fn f(x) = einsum("{pattern}"{", x" * count})', X)
    np.testing.assert_allclose(found, np.einsum(compact, *[X] * count), rtol=1e-6)


def test_rearrange() -> None:
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    split = run('fn f(x) = rearrange(x, "b t (h d) -> b h t d", h = 2)', x)
    np.testing.assert_array_equal(split, x.reshape(2, 3, 2, 2).transpose(0, 2, 1, 3))
    np.testing.assert_array_equal(run('fn f(x) = rearrange(x, "b h t d -> b t (h d)")', split), x)
    np.testing.assert_array_equal(run('fn f(x) = rearrange(x, "b ... -> (...) b 1")', x), x.reshape(2, 12).T[..., None])


def test_matrix_products_broadcast_what_is_stacked() -> None:
    random = np.random.default_rng(0)
    shapes = [((5, 2, 3), (3, 4)), ((2, 3), (5, 3, 4)), ((5, 1, 2, 3), (6, 3, 4)), ((3,), (5, 3, 4)), ((5, 2, 3), (3,))]
    for a, b in shapes:
        x, y = random.normal(size=a).astype(np.float32), random.normal(size=b).astype(np.float32)
        np.testing.assert_allclose(run("fn f(x, y) = x @ y", x, y), x @ y, rtol=1e-5)


def test_split_gives_several_values() -> None:
    first, second = run("fn f(x) {\n    a, b = split(x, 2, axis = 0)\n    return a, b\n}", X)
    np.testing.assert_array_equal(np.concatenate([first, second]), X)
    (_, rest) = run("fn f(x) {\n    a, b = split(x, [1, 2])\n    return a, b\n}", X)
    np.testing.assert_array_equal(rest, X[:, 1:])


# Calls


def test_a_group_of_settings_may_be_left_out() -> None:
    text = "fn g(slope = 0.1)(x) = slope * x\nfn f(x) = {}"
    for call in ("g(x)", "x |> g", "g()(x)", "g(0.1)(x)", "g(slope = 0.1)(x)", "g(x, slope = 0.1)", "x |> g(0.1)"):
        assert run(text.replace("{}", call), 2.0) == pytest.approx(0.2), call


def test_one_group_of_settings_and_tensors() -> None:
    text = "fn g(x, n: int = 2, by = 1.0) = n * x + by\nfn f(x) = {}"
    assert run(text.replace("{}", "g(x)"), 3.0) == 7
    assert run(text.replace("{}", "g(x, n = 4)"), 3.0) == 13
    assert run(text.replace("{}", "g(by = 0)(x)"), 3.0) == 6


def test_a_function_of_settings_alone_is_called_directly() -> None:
    assert run("fn half(n: int) = n // 2\nfn f(x) = half(7) * x", 1.0) == 3


def test_a_function_of_tensors_is_applied_to_configuration_too() -> None:
    assert run("fn twice(v) = 2 * v\nfn f(x) = x + twice(3)", 1.0) == 7


def test_only_a_pipe_spreads_a_tuple() -> None:
    text = "fn pair(x) {\n    return x, 2 * x\n}\nfn add(a, b) = a + b\nfn f(x) = {}"
    assert run(text.replace("{}", "(x, x) |> add"), 1.0) == 2
    assert run(text.replace("{}", "pair(x) |> add"), 1.0) == 3
    assert codes(mistakes_of_call(text.replace("{}", "add(pair(x))"), 1.0)) == ["E0312"]


def test_a_local_name_that_cannot_be_called_is_passed_over() -> None:
    assert run("fn f(floor = 0.5)(x) = floor + floor(x)", 2.7) == 2.5


def test_a_function_as_a_setting() -> None:
    text = "fn g(by: fn = tanh)(x) = by(x)\nfn double(x) = 2 * x\nfn f(x) = g(double)(x) + g(exp)(x) + g(x)"
    assert run(text, 0.0) == 1.0


def test_an_optional_tensor_selects_at_elaboration() -> None:
    text = "fn g(x, w: [...] = none) {\n    if w != none { x = x * w }\n    return x\n}\nfn f(x) = {}"
    assert run(text.replace("{}", "g(x)"), 3.0) == 3
    assert run(text.replace("{}", "g(x, w = x)"), 3.0) == 9
    assert run(text.replace("{}", "g(x, none)"), 3.0) == 3


def test_defaults_see_the_settings_before_them() -> None:
    text = "fn f(a: int, b = 2 * a)(x) = b * x"
    assert run(text, 1.0, a=3) == 6
    assert run(text, 1.0, a=3, b=5) == 5


def test_constants_may_depend_on_each_other() -> None:
    assert run("const A = B + 1\nconst B = 2\nfn f(x) = A * x", 1.0) == 3
    assert codes(mistakes("const A = B\nconst B = A\nmodel M { \n input x: f32[batch]\n output y = A * x\n}")) == [
        "E0209"
    ]


def test_loops_and_branches_unroll() -> None:
    text = """
fn f(n: int)(x) {
    kept = []
    for i in 0..n {
        if i % 2 == 0 { x = x + i } else { x = 2 * x }
        kept = kept + [x]
    }
    for a, b in [[1, 10], [2, 20]] { x = x + a * b }
    return x + kept[-1] + len(kept)
}
"""
    x = 1.0
    for i in range(4):
        x = x + i if i % 2 == 0 else 2 * x
    assert run(text, 1.0, n=4) == 2 * x + 50 + 4


def test_a_function_may_call_itself_over_its_settings() -> None:
    text = "fn f(n: int)(x) {\n    if n == 0 { return x }\n    return 2 * f(n - 1)(x)\n}"
    assert run(text, 1.0, n=5) == 32


@pytest.mark.parametrize(
    "body",
    [
        "for i in 0..1000000000 { x = x + 1 }",
        "y = [x]\n for i in 0..100 { y = y + y }",
        "y = zeros(1000000, 1000000)",
        "n = 2 ^ 100",
    ],
)
def test_what_is_too_large_is_said_quickly(body: str) -> None:
    found = mistakes_of_call(f"fn f(x) {{\n {body}\n return x\n}}", 1.0)
    assert codes(found) in (["E0310"], ["E0414"], ["E0308"])


def test_calls_without_end_are_said() -> None:
    assert codes(mistakes_of_call("fn f(x) = f(x) + 1", 1.0)) == ["E0310"]
    explosion = "\n".join(f"fn g{i}(x) = g{i + 1}(x) + g{i + 1}(x)" for i in range(40))
    found = mistakes_of_call(f"{explosion}\nfn g40(x) = x\nfn f(x) = g0(x)", 1.0)
    assert codes(found) == ["E0310"]


HALVED = """
fn f(n: int, strict = true)(x: [batch, d]) {
    require(d % 2 == 0, "columns: ", d, " of ", [n, 0.5], strict, none)
    if n < 0 {
        require(false)
    }
    return x / 2
}
"""


def test_requirements_that_hold_do_nothing() -> None:
    np.testing.assert_array_equal(run(HALVED, X[:, :2], n=1), X[:, :2] / 2)
    np.testing.assert_array_equal(
        run("fn f(x: [batch, d]) {\n    b = require(d > 0)\n    return where(b, x, 0)\n}", X), X
    )


@pytest.mark.parametrize(
    ("operand", "n", "place", "message"),
    [(X, 1, 2, "columns: 3 of [1, 0.5]truenone"), (X[:, :2], -1, 4, "this is required")],
)
def test_requirements_that_do_not_hold(operand: Any, n: int, place: int, message: str) -> None:
    (found,) = mistakes_of_call(HALVED.lstrip(), operand, n=n)
    assert (found.code, found.span.line, found.message) == ("E0315", place, message)


def test_requirements_are_of_configuration() -> None:
    (found,) = mistakes_of_call("fn f(x: [batch, d]) {\n    require(x > 0)\n    return x\n}", X)
    assert found.code == "E0312"
    (own,) = mistakes("fn require(x) = x\n\nfn f(x: [batch, d]) {\n    require(x)\n    return x\n}")
    assert own.code == "E0206"


def test_a_float_setting_is_a_float_though_the_run_gives_it() -> None:
    body = "    if is_float(p) and not is_integer(p) { output y = p * x } else { output z = x }\n"
    made = program(f"model M(p = 1.5) {{\n    input x: f32[batch, 2]\n{body}}}\n")
    assert made.outputs == ("y",)
