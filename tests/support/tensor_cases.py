"""Calls of the library's functions of tensors beside NumPy: signs, products, running values, orders, segments."""

from __future__ import annotations

import numpy as np
from function_case import Array, FunctionCase

_RANDOM = np.random.default_rng(23)
_TABLE = _RANDOM.normal(size=(3, 7)) * 2
_CUBE = _RANDOM.normal(size=(2, 5, 3))
_WITH_ZEROS = np.where(_RANDOM.random((3, 6)) < 0.3, 0.0, _RANDOM.normal(size=(3, 6)))
_TIES = _RANDOM.integers(-2, 3, (4, 11)).astype("f8")
_WHOLE = _RANDOM.integers(-5, 6, (3, 9)).astype("i4")
_BYTES = _RANDOM.integers(0, 256, (2, 10)).astype("u1")
_LOWEST = np.array([[5, np.iinfo("i4").min, 7, np.iinfo("i4").max]], "i4")
_STRANGE = np.array([[np.nan, np.inf, 1.0, -np.inf, np.nan, -0.0, 0.0], [np.inf, 2, np.inf, 3, -np.inf, 4, 1e300]])
_MASK = _RANDOM.random((3, 7)) < 0.6
_SEGMENT = np.array([0, 2, 2, 5, 0, 2], "i4")
_PARTS = _RANDOM.normal(size=(6, 4))
_BLOCKS = _RANDOM.normal(size=(6, 2, 3))


def _descending(x: Array) -> Array:
    """The positions from the largest element on: NaN before all, the first of equals first."""
    order = [
        sorted(range(len(row)), key=lambda i, row=row: (not np.isnan(row[i]), -row[i] if row[i] == row[i] else 0, i))
        for row in x
    ]
    return np.array(order)


def _segments(combine: str, n: int, parts: Array, segment: Array) -> Array:
    rows = [parts[segment == i] for i in range(n)]
    return np.array([getattr(np, combine)(mine, 0) if len(mine) else np.zeros(parts.shape[1:]) for mine in rows])


def _taken(x: Array, indices: Array) -> Array:
    return np.take_along_axis(x, indices, -1)


def _orthogonalised(x: Array) -> Array:
    left, s, right = np.linalg.svd(x / np.linalg.norm(x), full_matrices=False)
    for _ in range(5):
        s = 3.4445 * s - 4.775 * s**3 + 2.0315 * s**5
    return (left * s) @ right


ELEMENTS = (
    FunctionCase(
        "sign",
        "sign(x)",
        {"x": np.array([-3.5, -0.0, 0.0, 2.0, np.inf, -np.inf, np.nan, 5e-324])},
        lambda x: np.sign(x),
    ),
    FunctionCase("sign", "sign(x)", {"x": _WHOLE}, lambda x: np.sign(x)),
    FunctionCase("sign", "sign(x)", {"x": _BYTES}, lambda x: np.sign(x)),
    FunctionCase("clip", "clip(x, -1, 1.5)", {"x": _TABLE}, lambda x: np.clip(x, -1, 1.5), ("x",)),
    FunctionCase("clip", "clip(x, 2, 1)", {"x": _TABLE}, lambda x: np.clip(x, 2, 1)),
    FunctionCase(
        "clip",
        "clip(x, low, 1.0)",
        {"x": _TABLE, "low": np.array([[-1.0], [0.0], [0.5]])},
        lambda x, low: np.clip(x, low, 1.0),
        ("x", "low"),
    ),
    FunctionCase("outer", "outer(a, b)", {"a": _TABLE[0], "b": _CUBE[0, 0]}, lambda a, b: np.outer(a, b), ("a", "b")),
    FunctionCase(
        "outer", "outer(a, b)", {"a": _TABLE, "b": _CUBE[0, :3]}, lambda a, b: np.einsum("bi,bj->bij", a, b), ("a", "b")
    ),
    *(
        FunctionCase(
            "roll",
            f"roll({shift}, axis = {axis})(x)",
            {"x": _CUBE},
            lambda x, s=shift, a=axis: np.roll(x, s, a),
            ("x",),
        )
        for shift, axis in ((0, -1), (1, -1), (-1, 1), (7, 1), (5, 1))
    ),
)

REDUCTIONS = (
    FunctionCase("std", "std(x)", {"x": _TABLE}, lambda x: np.std(x), ("x",)),
    FunctionCase("std", "std(x, axis = 1)", {"x": _CUBE}, lambda x: np.std(x, 1), ("x",)),
    FunctionCase(
        "std",
        "std(x, axis = [0, 2], keepdims = true, unbiased = true)",
        {"x": _CUBE},
        lambda x: np.std(x, (0, 2), keepdims=True, ddof=1),
        ("x",),
    ),
    FunctionCase(
        "std",
        "std(x, axis = 1, unbiased = true, where = keep)",
        {"x": _TABLE, "keep": _MASK},
        lambda x, keep: np.std(x, 1, where=keep, ddof=1),
        ("x",),
    ),
    FunctionCase("std", "std(x, axis = 1)", {"x": np.full((2, 4), 3.0)}, lambda x: np.std(x, 1)),
    FunctionCase("argmin", "argmin(x, axis = 0)", {"x": _CUBE}, lambda x: np.argmin(x, 0)),
    FunctionCase(
        "argmin", "argmin(x, axis = 1, keepdims = true)", {"x": _TIES}, lambda x: np.argmin(x, 1, keepdims=True)
    ),
    FunctionCase("argmin", "argmin(x)", {"x": _LOWEST}, lambda x: np.argmin(x)),
    FunctionCase("argmin", "argmin(x, axis = -1)", {"x": _BYTES}, lambda x: np.argmin(x, -1)),
    FunctionCase("argmin", "argmin(x, axis = -1)", {"x": _STRANGE}, lambda x: np.argmin(x, -1)),
    FunctionCase("prod", "prod(x)", {"x": _TABLE}, lambda x: np.prod(x), ("x",)),
    FunctionCase("prod", "prod(x, axis = 1)", {"x": _WITH_ZEROS}, lambda x: np.prod(x, 1), ("x",)),
    FunctionCase(
        "prod", "prod(x, axis = 1, keepdims = true)", {"x": _CUBE}, lambda x: np.prod(x, 1, keepdims=True), ("x",)
    ),
    FunctionCase("prod", "prod(x, keepdims = true)", {"x": _CUBE}, lambda x: np.prod(x, keepdims=True), ("x",)),
    FunctionCase("prod", "prod(x, axis = 1)", {"x": _WHOLE}, lambda x: np.prod(x, 1, dtype="i4")),
    FunctionCase("prod", "prod(x, axis = 0)", {"x": _TABLE[:1]}, lambda x: np.prod(x, 0), ("x",)),
)

RUNNING = (
    FunctionCase("cumprod", "cumprod(x)", {"x": _WITH_ZEROS}, lambda x: np.cumprod(x, -1), ("x",)),
    FunctionCase("cumprod", "cumprod(x, axis = 1)", {"x": _CUBE}, lambda x: np.cumprod(x, 1), ("x",)),
    FunctionCase("cummax", "cummax(x)", {"x": _TABLE}, lambda x: np.maximum.accumulate(x, -1), ("x",)),
    FunctionCase("cummax", "cummax(x)", {"x": _STRANGE}, lambda x: np.maximum.accumulate(x, -1)),
    FunctionCase("cummax", "cummax(x, axis = 0)", {"x": _WHOLE}, lambda x: np.maximum.accumulate(x, 0)),
    FunctionCase("cummin", "cummin(x, axis = 1)", {"x": _CUBE}, lambda x: np.minimum.accumulate(x, 1), ("x",)),
    FunctionCase("running", "running(times)(x)", {"x": _TABLE}, lambda x: np.cumprod(x, -1), ("x",)),
    FunctionCase(
        "times", "times(a, b)", {"a": _TABLE, "b": _TABLE[::-1].copy()}, lambda a, b: np.multiply(a, b), ("a", "b")
    ),
    FunctionCase("larger", "larger(a, b)", {"a": _TABLE, "b": _TABLE[::-1].copy()}, lambda a, b: np.maximum(a, b)),
    FunctionCase("smaller", "smaller(a, b)", {"a": _TABLE, "b": _TABLE[::-1].copy()}, lambda a, b: np.minimum(a, b)),
)

ORDERS = (
    *(FunctionCase("sort", "sort(x)", {"x": x}, lambda x: np.sort(x, -1)) for x in (_TIES, _STRANGE, _BYTES, _LOWEST)),
    FunctionCase("sort", "sort(x, axis = 1)", {"x": _CUBE}, lambda x: np.sort(x, 1), ("x",)),
    FunctionCase("sort", "sort(x)", {"x": _TABLE[0]}, lambda x: np.sort(x), ("x",)),
    FunctionCase("sort", "sort(x)", {"x": _TABLE[:, :1]}, lambda x: np.sort(x), ("x",)),
    FunctionCase("sort", "sort(x, descending = true)", {"x": _STRANGE}, lambda x: _taken(x, _descending(x))),
    *(
        FunctionCase("argsort", "argsort(x)", {"x": x}, lambda x: np.argsort(x, -1, kind="stable"))
        for x in (_TIES, _STRANGE, _BYTES, _LOWEST, _RANDOM.normal(size=(2, 100)), _RANDOM.normal(size=(1, 32)))
    ),
    FunctionCase("argsort", "argsort(x, axis = 0)", {"x": _CUBE}, lambda x: np.argsort(x, 0)),
    FunctionCase("argsort", "argsort(x, descending = true)", {"x": _TIES}, _descending),
    FunctionCase("top_k", "top_k(3)(x)[0]", {"x": _TABLE}, lambda x: _taken(x, _descending(x)[:, :3]), ("x",)),
    FunctionCase("top_k", "top_k(x, k = 2)[1]", {"x": _STRANGE}, lambda x: _descending(x)[:, :2]),
    FunctionCase("top_k", "top_k(5)(x)[1]", {"x": _RANDOM.normal(size=(2, 77))}, lambda x: _descending(x)[:, :5]),
    FunctionCase(
        "top_k", "top_k(4, largest = false)(x)[1]", {"x": _TIES}, lambda x: np.argsort(x, -1, kind="stable")[:, :4]
    ),
    FunctionCase("top_k", "top_k(1, axis = 1)(x)[0]", {"x": _CUBE}, lambda x: x.max(1, keepdims=True), ("x",)),
    FunctionCase("in_order", "in_order(2, 1, false)(x)[0]", {"x": _TABLE}, lambda x: np.sort(x)[:, :2], ("x",)),
    FunctionCase(
        "first_places", "first_places(3, false)(x)", {"x": _TIES}, lambda x: np.argsort(x, -1, kind="stable")[:, :3]
    ),
    FunctionCase("with_end", "sort(with_end(2, false)(x))[:, :7]", {"x": _STRANGE}, lambda x: np.sort(x)),
    FunctionCase(
        "compared",
        "compared(1, false)(x, places)[0]",
        {"x": _TABLE[:, :4], "places": np.tile(np.arange(4, dtype="i4"), (3, 1))},
        lambda x, places: np.sort(x.reshape(3, 2, 2)).reshape(3, 4),
    ),
    FunctionCase(
        "comes_first",
        "comes_first(false)(a, b, i, i + 1)",
        {"a": _STRANGE[0], "b": _STRANGE[1], "i": np.arange(7, dtype="i4")},
        lambda a, b, i: (a <= b) | np.isnan(b),
    ),
)

SEGMENTS = (
    *(
        FunctionCase(
            f"segment_{name}",
            f"segment_{name}(7)(x, segment)",
            {"x": parts, "segment": _SEGMENT},
            lambda x, segment, name=name: _segments(name, 7, x, segment),
            ("x",),
        )
        for name in ("sum", "mean", "max")
        for parts in (_PARTS, _BLOCKS, _PARTS[:, 0].copy())
    ),
)

PARTS_OF_UPDATES = (
    FunctionCase("as_matrix", "as_matrix(x)", {"x": _CUBE}, lambda x: x.reshape(10, 3), ("x",)),
    FunctionCase("shape_of", "reshape(x.T, shape_of(x))", {"x": _TABLE}, lambda x: x.T.reshape(3, 7)),
    FunctionCase("orthogonalised", "orthogonalised(x)", {"x": _TABLE}, lambda x: _orthogonalised(x)),
    FunctionCase("orthogonalised", "orthogonalised(x)", {"x": _TABLE.T.copy()}, lambda x: _orthogonalised(x)),
)

_AT = _RANDOM.normal(size=(4, 2))
_TOWARDS = _RANDOM.normal(size=(4, 2))
_PAIR = "concat(x[:, 0:1] * x[:, 1:2] ^ 2, sin(x[:, 0:1]), axis = -1)"
_SCALAR = "(x[:, 0] ^ 3 * x[:, 1] + exp(x[:, 1]))"


def _jacobians(x: Array) -> Array:
    a, b = x.T
    return np.stack([np.stack([b * b, 2 * a * b], 1), np.stack([np.cos(a), 0 * a], 1)], 1)


def _hessians(x: Array) -> Array:
    a, b = x.T
    return np.stack([np.stack([6 * a * b, 3 * a * a], 1), np.stack([3 * a * a, np.exp(b)], 1)], 1)


DERIVATIVES = (
    FunctionCase("jacobian", f"jacobian({_PAIR}, x)", {"x": _AT}, _jacobians, ("x",)),
    FunctionCase(
        "vector_jacobian",
        f"vector_jacobian({_PAIR}, x, v)",
        {"x": _AT, "v": _TOWARDS},
        lambda x, v: np.einsum("bmn,bm->bn", _jacobians(x), v),
        ("x", "v"),
    ),
    FunctionCase(
        "vector_jacobian",
        f"vector_jacobian({_PAIR}, x, x)",
        {"x": _AT},
        lambda x: np.einsum("bmn,bm->bn", _jacobians(x), x),
        ("x",),
    ),
    FunctionCase(
        "jacobian_vector",
        f"jacobian_vector({_PAIR}, x, v)",
        {"x": _AT, "v": _TOWARDS},
        lambda x, v: np.einsum("bmn,bn->bm", _jacobians(x), v),
        ("x", "v"),
    ),
    FunctionCase(
        "hessian_vector",
        f"hessian_vector({_SCALAR}, x, v)",
        {"x": _AT, "v": _TOWARDS},
        lambda x, v: np.einsum("bmn,bn->bm", _hessians(x), v),
        ("x", "v"),
    ),
    FunctionCase(
        "laplacian", f"laplacian({_SCALAR}, x)", {"x": _AT}, lambda x: np.einsum("bmm->b", _hessians(x)), ("x",)
    ),
)

TENSOR_FUNCTIONS = (*ELEMENTS, *REDUCTIONS, *RUNNING, *ORDERS, *SEGMENTS, *PARTS_OF_UPDATES, *DERIVATIVES)
