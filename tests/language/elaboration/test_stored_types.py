"""Types that are only stored: what keeps them, what reads them and as which type, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from elaboration import function_graph, mistakes, run

from compiler.ops.elementwise import Cast
from compiler.types import READ_AS, STORED, DType, numpy_dtype

KEEPING = (
    "reshape(x, 4, 3)",
    "x.T",
    "x[1:, ::2]",
    "x[:, tensor([3, 0])]",
    "gather(x, tensor([[0], [1], [2]]))",
    "concat(x, x)",
    "pad(x, 1, 2)",
    "reverse(x, 0)",
    "split(x, 2, axis = 1)",
    "windows(x, 2, axis = 1)",
    'rearrange(x, "a (b c) -> a b c", b = 2)',
    "where(x > 2, x, x[0:1])",
    "zeros_like(x)",
    "stop_gradient(x)",
    "cast(cast(x, f64), x)",
)
READING = (
    "x + x",
    "x * 2",
    "-x",
    "abs(x)",
    "max(x, axis = 0)",
    "min(x, x)",
    "cumsum(x)",
    "where(x > 1, x, 0)",
    "x // 2",
    "sum(x, axis = 1)",
)
FLOATS = ("x / 2", "sqrt(x)", "mean(x, axis = 0)", "x @ x.T", 'einsum("i j, k j -> i k", x, x)', "x + 0.5", "x ^ 2")
COMPARING = ("x == x", "x < 3", "x != x[0:1]")


def read_and_cast(text: str, dtype: DType) -> tuple[np.ndarray, np.ndarray]:
    """A formula of x, and the same of what x is read as."""
    first = f"fn f(x) = {text}\n"
    return run(first, values(dtype)), run(
        f"{first}fn g(x) = f(cast(x, {READ_AS[dtype].value}))", values(dtype), name="g"
    )


def values(dtype: DType) -> np.ndarray:
    return np.arange(12).reshape(3, 4).astype(numpy_dtype(dtype))


@pytest.mark.parametrize("dtype", [d for d in STORED if d is not DType.U64], ids=lambda d: d.value)
@pytest.mark.parametrize("text", KEEPING)
def test_movements_keep_the_type(text: str, dtype: DType) -> None:
    found = run(f"fn f(x) = {text}", values(dtype))
    plain = run(f"fn f(x) = {text}", values(DType.I32))
    for one, other in zip(*((r if isinstance(r, tuple) else (r,)) for r in (found, plain)), strict=True):
        assert one.dtype == numpy_dtype(dtype)
        np.testing.assert_array_equal(one.astype(np.int32), other)


@pytest.mark.parametrize("dtype", READ_AS, ids=lambda d: d.value)
@pytest.mark.parametrize("text", READING)
def test_arithmetic_reads_a_type_that_has_all_numbers(text: str, dtype: DType) -> None:
    found, wide = read_and_cast(text, dtype)
    assert found.dtype == wide.dtype
    np.testing.assert_array_equal(found, wide)


@pytest.mark.parametrize("dtype", READ_AS, ids=lambda d: d.value)
@pytest.mark.parametrize("text", [*FLOATS, *COMPARING])
def test_real_functions_and_comparisons_read_too(text: str, dtype: DType) -> None:
    found, wide = read_and_cast(text, dtype)
    assert found.dtype == (np.bool_ if text in COMPARING else np.float32)
    np.testing.assert_array_equal(found, wide)


def test_a_reading_is_a_cast_of_the_graph() -> None:
    graph = function_graph("fn f(x) = x * x", "f", values(DType.U16))
    assert [node.op for node in graph.nodes if isinstance(node.op, Cast)] == [Cast(DType.I32)] * 2


@pytest.mark.parametrize("dtype", [d for d in READ_AS if not d.is_float], ids=lambda d: d.value)
def test_indices_are_read(dtype: DType) -> None:
    indices = np.array([2, 0], numpy_dtype(dtype))
    table = np.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(run("fn f(t, i: any[n]) = t[i]", table, indices), table[[2, 0]])
    added = run("fn f(x, i: any[n]) = scatter_add(x, i, 3)", np.ones((2, 4)), indices)
    np.testing.assert_array_equal(added, [[1] * 4, [0] * 4, [1] * 4])


def test_operands_of_two_types_meet_where_both_fit() -> None:
    small, unsigned = np.array([-128, 127], np.int8), np.array([65535, 1], np.uint16)
    for text, wanted in (("x + y", [65407, 128]), ("concat(x, y)", [-128, 127, 65535, 1])):
        found = run(f"fn f(x, y) = {text}", small, unsigned)
        assert found.dtype == np.int32
        assert found.tolist() == wanted
    assert run("fn f(x, y) = where(x < 0, x, y)", small, unsigned).tolist() == [-128, 1]
    assert run("fn f(x, y) = x + y", np.array([2**32 - 1], np.uint32), small[:1]).dtype == np.int64


def test_a_parameter_widens_to_a_type_that_has_all_numbers() -> None:
    half, small = np.array([1.5, 65504], np.float16), np.array([-3, 3], np.int8)
    assert run("fn f(x: [n]) = x", half).dtype == np.float32
    assert run("fn f(x: f16[n]) = x", half).dtype == np.float16
    assert run("fn f(x: f64[n]) = x", half).dtype == np.float64
    assert run("fn f(x: i16[n]) = x", small).dtype == np.int16
    for wanted in ("u16", "u8", "bool", "f32"):
        with pytest.raises(Exception, match=f"`f` needs {wanted} for `x`, but got i8"):
            run(f"fn f(x: {wanted}[n]) = x", small)


def test_u64_is_moved_and_given_back() -> None:
    large = np.array([2**64 - 1, 2**63 + 1, 5], np.uint64)
    assert run("fn f(x) = reverse(x, 0)", large).tolist() == [5, 2**63 + 1, 2**64 - 1]
    assert run("fn f(x, y: any[n]) = where(y > 0, x, reverse(x, 0))", large, np.array([1, 0, 0])).tolist() == [
        2**64 - 1,
        2**63 + 1,
        2**64 - 1,
    ]
    assert run("fn f(x) = cast(x, i64)", large).tolist() == [-1, -(2**63) + 1, 5]


@pytest.mark.parametrize(
    "text", ["x + 1", "-x", "x == x", "sum(x)", "mean(x)", "x[x]", "x @ x", "sqrt(x)", "max(x)", "where(x > 1, x, 0)"]
)
def test_nothing_is_computed_with_u64(text: str) -> None:
    (mistake,) = mistakes(f"model M {{\n    input x: u64[batch, 3]\n    y = {text}\n    output z = cast(y, f32)\n}}")
    assert mistake.code == "E0416"
    assert mistake.message == "nothing is computed with u64, and this is u64[batch, 3]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cast(128, i8)", "the number 128 does not fit into i8"),
        ("pad(x, 1, 1, value = -1)", "the number -1 does not fit into u16"),
        ("full(1, 2) and x", "`and` needs tensors of bool, not f32[2]"),
    ],
)
def test_numbers_and_conditions_that_do_not_fit(text: str, message: str) -> None:
    (mistake, *_) = mistakes(f"model M {{\n    input x: u16[batch, 3]\n    output y = {text}\n}}")
    assert (mistake.code, mistake.message) == ("E0416", message)


def test_a_parameter_of_a_layer_is_none_of_these() -> None:
    text = "layer l(x: [batch, n]) {\n    param w: f16[n] = zeros\n    return x * w\n}\n"
    (mistake,) = mistakes(f"{text}model M {{\n    input x: f32[batch, 3]\n    output y = l(x)\n}}")
    assert mistake.message == "a parameter holds floats to compute with, and `w` is f16[3]"


def test_a_state_keeps_its_type() -> None:
    text = """
layer l(x: [batch, 3]) {
    state s: f16[3] = zeros
    if training {
        s <- VALUE
    }
    return x + s
}

model M {
    input x: f32[batch, 3]
    output y = l(x)
}

train M {
    data = npz("x.npz")
    loss = mean(y)
    batch = 2
    epochs = 1
    optimizer = adam()
}
"""
    assert mistakes(text.replace("VALUE", "cast(mean(x, axis = 0), f16)")) == []
    assert mistakes(text.replace("VALUE", "mean(x, axis = 0) > 0")) == []
    (mistake, *_) = mistakes(text.replace("VALUE", "mean(x, axis = 0)"))
    assert (mistake.code, mistake.message) == ("E0503", "`s` is f16[3], and keeps its type; the next value is f32[3]")


def test_a_slope_passes_a_rounding_in_f32() -> None:
    x = np.array([0.1, 2.0, -3.0], np.float32)
    found = run("fn f(x) = gradient(sum(cast(x * x, f16)), x)", x)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, 2 * x)
    of_stored = run("fn f(x: f16[n]) = gradient(sum(x * 0.1), x)", x.astype(np.float16))
    assert of_stored.dtype == np.float32
    np.testing.assert_array_equal(of_stored, np.full(3, 0.1, np.float32))


def test_a_slope_passes_carries_and_stacks_of_f16_in_f32() -> None:
    text = """
fn f(x: [time, n], kept: f16[n]) {
    hs, h = scan step in x over time carry h = kept {
        h = cast(h * 0.5 + step + kept, f16)
        emit h
    }
    return gradient(sum(h), x), gradient(sum(hs), kept), gradient(sum(h), kept)
}
"""
    found = run(text, np.ones((3, 2), np.float32), np.ones(2, np.float16))
    assert [one.dtype.name for one in found] == ["float32"] * 3
    np.testing.assert_array_equal(found[0], [[0.25] * 2, [0.5] * 2, [1] * 2])
    # h3 = kept (1/8 + 1/4 + 1/2 + 1), h2 = kept (1/4 + 1/2 + 1), h1 = kept (1/2 + 1)
    np.testing.assert_array_equal(found[1], [1.875 + 1.75 + 1.5] * 2)
    np.testing.assert_array_equal(found[2], [1.875] * 2)


def test_a_gradient_clause_gets_floats_to_compute_with() -> None:
    text = "fn f(x) {\n    return x * 2.0\n} gradient(x, y, dy) = dy * 7.0\n\nfn g(x: f16[n]) = gradient(sum(f(x)), x)"
    found = run(text, np.ones(2, np.float16), name="g")
    assert found.dtype == np.float32
    assert found.tolist() == [7.0, 7.0]


def test_padding_of_a_scan_and_masks_choose_between_stored_values() -> None:
    text = """
fn f(x: i8[batch, time], mask: bool[batch, time]) {
    last = scan step in x over time where = mask carry last = cast(zeros(batch), i8) {
        last = step
    }
    return last
}
"""
    x = np.array([[1, 2, 3], [4, 5, 6]], np.int8)
    found = run(text, x, np.array([[True, True, False], [True, False, False]]))
    assert found.dtype == np.int8
    assert found.tolist() == [2, 4]
