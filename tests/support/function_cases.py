"""Calls of the library's functions beside independent NumPy lines; losses and metrics stand in `measure_cases`."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from function_case import Array, FunctionCase, log_softmax, softmax, softplus
from labelling_cases import LABELLING
from measure_cases import LABELS, LOSSES, METRICS, TOKENS
from measure_forms import BY_CLASS, FORMS
from pair_cases import PAIRS
from tensor_cases import TENSOR_FUNCTIONS

_RANDOM = np.random.default_rng(7)

# Away from 0 and from every kink of a piecewise definition, so that differences are smooth.
ORDINARY = np.array([-4.3, -2.7, -1.4, -0.6, -0.05, 0.04, 0.3, 0.9, 1.7, 2.6, 3.8, 7.5])
EXTREME = (-1e30, -1e4, -200.0, -90.0, 0.0, 90.0, 200.0, 1e4, 1e30)


def _erf(x: Array) -> Array:
    return np.vectorize(math.erf)(x)


def _gelu_argument(x: Array) -> Array:
    return math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)


def _sigmoid(x: Array) -> Array:
    return np.where(x < 0, np.exp(np.minimum(x, 0)) / (1 + np.exp(np.minimum(x, 0))), 1 / (1 + np.exp(-np.abs(x))))


def _activation(name: str, expected: Callable[[Array], Array], call: str = "") -> FunctionCase:
    return FunctionCase(name, call or f"{name}(x)", {"x": ORDINARY}, expected, ("x",), EXTREME)


_SCALE, _ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
MATRIX = _RANDOM.normal(size=(4, 5)) * 3
CUBE = _RANDOM.normal(size=(2, 3, 4))
_SPREAD = np.array([[1e4, 1e4 + 1, -1e4], [-1e30, 0, 1e30], [-80.0, 90.0, 90.0]])
_SOFT_MASK = np.array([[1, 0, 1, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1], [0, 1, 0, 0, 0]], bool)


def _nearest_orthonormal(x: Array) -> Array:
    u, _, v = np.linalg.svd(x, full_matrices=False)
    return u @ v


def _masked_softmax(x: Array, keep: Array) -> Array:
    e = np.where(keep, np.exp(x), 0)
    return e / np.maximum(e.sum(-1, keepdims=True), 1e-300)


ACTIVATIONS = (
    _activation("step", lambda x: (x >= 0).astype(float)),
    _activation("linear", lambda x: x),
    _activation("relu", lambda x: np.maximum(x, 0)),
    _activation("leaky_relu", lambda x: np.where(x > 0, x, 0.01 * x)),
    _activation("clamp", lambda x: np.clip(x, -0.7, 1.3), "clamp(-0.7, 1.3)(x)"),
    _activation("clamp", lambda x: np.minimum(x, 0.4), "clamp(high = 0.4)(x)"),
    _activation("clamp", lambda x: np.maximum(x, 0.4), "clamp(low = 0.4)(x)"),
    _activation("leaky_relu", lambda x: np.where(x > 0, x, 0.2 * x), "x |> leaky_relu(0.2)"),
    _activation("elu", lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0)))),
    _activation("elu", lambda x: np.where(x > 0, x, 0.5 * np.expm1(np.minimum(x, 0))), "elu(alpha = 0.5)(x)"),
    _activation("celu", lambda x: np.where(x > 0, x, 3 * np.expm1(np.minimum(x, 0) / 3)), "celu(alpha = 3.0)(x)"),
    _activation("selu", lambda x: _SCALE * np.where(x > 0, x, _ALPHA * np.expm1(np.minimum(x, 0)))),
    _activation("gelu", lambda x: 0.5 * x * (1 + _erf(x / math.sqrt(2)))),
    _activation("gelu", lambda x: 0.5 * x * (1 + np.tanh(_gelu_argument(x))), "gelu(x, approximate = true)"),
    _activation("tanh_gelu", lambda x: 0.5 * x * (1 + np.tanh(_gelu_argument(x)))),
    _activation("gelu_gate", lambda x: _sigmoid(2 * _gelu_argument(x))),
    _activation("swish", lambda x: x * _sigmoid(x)),
    _activation("swish", lambda x: x * _sigmoid(1.5 * x), "swish(1.5)(x)"),
    _activation("softplus", softplus),
    _activation("mish", lambda x: x * np.tanh(softplus(x))),
    _activation("softsign", lambda x: x / (1 + np.abs(x))),
    _activation("hard_sigmoid", lambda x: np.clip(x / 6 + 0.5, 0, 1)),
    _activation("hard_tanh", lambda x: np.clip(x, -1, 1)),
    _activation("hard_swish", lambda x: x * np.clip(x + 3, 0, 6) / 6),
    FunctionCase("softmax", "softmax(x)", {"x": MATRIX}, softmax, ("x",)),
    FunctionCase("softmax", "softmax(x)", {"x": _SPREAD}, softmax),
    FunctionCase("softmax", "softmax(x, axis = 0)", {"x": MATRIX}, lambda x: softmax(x, 0), ("x",)),
    FunctionCase("softmax", "softmax(x, axis = 1)", {"x": CUBE}, lambda x: softmax(x, 1), ("x",)),
    FunctionCase("softmax", "softmax(x, where = keep)", {"x": MATRIX, "keep": _SOFT_MASK}, _masked_softmax, ("x",)),
    FunctionCase("log_softmax", "log_softmax(x)", {"x": MATRIX}, log_softmax, ("x",)),
    FunctionCase("log_softmax", "log_softmax(x)", {"x": _SPREAD}, log_softmax),
    FunctionCase("log_softmax", "log_softmax(axis = 0)(x)", {"x": CUBE}, lambda x: log_softmax(x, 0), ("x",)),
    FunctionCase("logsumexp", "logsumexp(x)", {"x": MATRIX}, lambda x: np.logaddexp.reduce(x, -1), ("x",)),
    FunctionCase("logsumexp", "logsumexp(x)", {"x": _SPREAD}, lambda x: np.logaddexp.reduce(x, -1)),
    FunctionCase(
        "logsumexp_kept", "logsumexp_kept(0)(x)", {"x": CUBE}, lambda x: np.logaddexp.reduce(x, 0)[None], ("x",)
    ),
    FunctionCase("logsumexp", "logsumexp(x, axis = 0)", {"x": CUBE}, lambda x: np.logaddexp.reduce(x, 0), ("x",)),
)

_UNIFORM = _RANDOM.random((50,))
_TALL = _RANDOM.normal(size=(7, 4))

HELPERS = (
    FunctionCase("one_hot", "one_hot(4)(label)", {"label": LABELS}, lambda label: np.eye(4)[label]),
    FunctionCase("one_hot", "one_hot(4)(label)", {"label": TOKENS}, lambda label: np.eye(4)[label]),
    FunctionCase("is_class", "is_class(4)(label)", {"label": LABELS}, lambda label: np.eye(4, dtype=bool)[label]),
    FunctionCase(
        "log_probability_of",
        "log_probability_of(x, label)",
        {"x": MATRIX, "label": np.arange(len(MATRIX), dtype="i4") % MATRIX.shape[1]},
        lambda x, label: x[np.arange(len(x)), label],
        ("x",),
    ),
    FunctionCase("flatten", "flatten(x)", {"x": CUBE}, lambda x: x.reshape(2, 12), ("x",)),
    FunctionCase(
        "standardise_groups",
        "standardise_groups(1e-3)(x)",
        {"x": CUBE.reshape(2, 3, 2, 2)},
        lambda x: (x - x.mean((2, 3), keepdims=True)) / np.sqrt(x.var((2, 3), keepdims=True) + 1e-3),
        ("x",),
    ),
    FunctionCase("vector", "x * vector([1.0, -2.5, 3, 0.1])", {"x": CUBE}, lambda x: x * [1.0, -2.5, 3, 0.1], ("x",)),
    FunctionCase(
        "normalize",
        "normalize(mean = [1.0, 2.0, 3.0], deviation = [0.5, 4.0, 0.1])(x)",
        {"x": CUBE.reshape(2, 3, 2, 2)},
        lambda x: (x - np.array([[[1.0]], [[2.0]], [[3.0]]])) / np.array([[[0.5]], [[4.0]], [[0.1]]]),
        ("x",),
    ),
    FunctionCase("symmetric", "symmetric(u)", {"u": _UNIFORM}, lambda u: 2 * u - 1),
    FunctionCase(
        "gaussian",
        "gaussian(u, v)",
        {"u": _UNIFORM, "v": _UNIFORM[::-1].copy()},
        lambda u, v: np.sqrt(-2 * np.log(1 - u)) * np.cos(2 * np.pi * v),
    ),
    FunctionCase("orthonormal", "orthonormal(x)", {"x": _TALL}, _nearest_orthonormal),
)

_STEPS = _RANDOM.normal(size=(2, 7, 6))


def _angles(n: int, d: int, base: float = 10000.0) -> Array:
    return np.array([[t / base ** (2 * k / d) for k in range(d // 2)] for t in range(n)])


def _sinusoids(n: int, d: int, base: float = 10000.0) -> Array:
    waves = np.zeros((n, d))
    waves[:, ::2], waves[:, 1::2] = np.sin(_angles(n, d, base)), np.cos(_angles(n, d, base))
    return waves


def _turned(x: Array, first: slice, second: slice) -> Array:
    """Pairs of features as complex numbers, times e^(i angle)."""
    numbers = (x[..., first] + 1j * x[..., second]) * np.exp(1j * _angles(*x.shape[-2:]))
    y = np.empty_like(x)
    y[..., first], y[..., second] = numbers.real, numbers.imag
    return y


POSITIONS_IN_SEQUENCES = (
    FunctionCase("causal_mask", "x * causal_mask(4, 5)", {"x": MATRIX}, lambda x: x * np.tri(4, 5)),
    FunctionCase("angles", "x[0, 0, 0] * angles(4, 6)", {"x": _STEPS}, lambda x: x[0, 0, 0] * _angles(4, 6)),
    FunctionCase("sinusoids", "x + sinusoids(7, 6)", {"x": _STEPS}, lambda x: x + _sinusoids(7, 6)),
    FunctionCase("sinusoidal_positions", "sinusoidal_positions(x)", {"x": _STEPS}, lambda x: x + _sinusoids(7, 6)),
    FunctionCase(
        "sinusoidal_positions",
        "x |> sinusoidal_positions(50.0)",
        {"x": _STEPS},
        lambda x: x + _sinusoids(7, 6, 50.0),
        ("x",),
    ),
    FunctionCase("rotary", "rotary(x)", {"x": _STEPS}, lambda x: _turned(x, np.s_[::2], np.s_[1::2]), ("x",)),
    FunctionCase(
        "rotary", "rotary(x, halves = true)", {"x": _STEPS}, lambda x: _turned(x, np.s_[:3], np.s_[3:]), ("x",)
    ),
)

FUNCTIONS = (
    *ACTIVATIONS,
    *LOSSES,
    *METRICS,
    *FORMS,
    *BY_CLASS,
    *HELPERS,
    *POSITIONS_IN_SEQUENCES,
    *TENSOR_FUNCTIONS,
    *LABELLING,
    *PAIRS,
)
