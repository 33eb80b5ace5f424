"""Layers of the standard library beside independent NumPy lines: outputs in training and inference, and new states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]
Named: TypeAlias = dict[str, Array]

_RANDOM = np.random.default_rng(5)


@dataclass(frozen=True, slots=True)
class LayerCase:
    """`call` is applied to an input `x`. `training` and `inference` take x and the layer's own tensors by name.

    `tensors` gives the shape of each `param` and `state`; `states` the states after one step of training.
    """

    name: str
    call: str
    x: Array
    tensors: dict[str, tuple[int, ...]]
    training: Callable[..., Array]
    inference: Callable[..., Array] | None = None
    states: Callable[..., Named] | None = None
    values: Named = field(default_factory=dict)


def _vector(values: Array, rank: int) -> Array:
    """A value for each channel (axis 1) of a tensor of `rank` axes."""
    return values.reshape(1, -1, *[1] * (rank - 2))


def _normalised(x: Array, mean: Array, variance: Array, gamma: Array, beta: Array | float, eps: float) -> Array:
    return gamma * (x - mean) / np.sqrt(variance + eps) + beta


def _others(x: Array) -> tuple[int, ...]:
    return tuple(axis for axis in range(x.ndim) if axis != 1)


def _batch_norm(eps: float) -> Callable[..., Array]:
    def meaning(x: Array, gamma: Array, beta: Array, **_: Array) -> Array:
        mean, variance = x.mean(_others(x), keepdims=True), x.var(_others(x), keepdims=True)
        return _normalised(x, mean, variance, _vector(gamma, x.ndim), _vector(beta, x.ndim), eps)

    return meaning


def _batch_norm_inference(eps: float) -> Callable[..., Array]:
    def meaning(x: Array, gamma: Array, beta: Array, running_mean: Array, running_var: Array) -> Array:
        gamma, beta, mean, variance = (_vector(v, x.ndim) for v in (gamma, beta, running_mean, running_var))
        return _normalised(x, mean, variance, gamma, beta, eps)

    return meaning


def _batch_norm_states(momentum: float, missing: int = 0) -> Callable[..., Named]:
    def meaning(x: Array, running_mean: Array, running_var: Array, **_: Array) -> Named:
        return {
            "running_mean": momentum * running_mean + (1 - momentum) * x.mean(_others(x)),
            "running_var": momentum * running_var + (1 - momentum) * x.var(_others(x), ddof=missing),
        }

    return meaning


def _group_norm(groups: int, eps: float) -> Callable[..., Array]:
    def meaning(x: Array, gamma: Array, beta: Array) -> Array:
        y = x.reshape(x.shape[0], groups, -1)
        y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + eps)
        return _vector(gamma, x.ndim) * y.reshape(x.shape) + _vector(beta, x.ndim)

    return meaning


def _layer_norm(x: Array, gamma: Array, beta: Array | float = 0.0, eps: float = 1e-5) -> Array:
    return _normalised(x, x.mean(-1, keepdims=True), x.var(-1, keepdims=True), gamma, beta, eps)


ROWS = _RANDOM.normal(size=(5, 4)) * 2 + 1
IMAGES = _RANDOM.normal(size=(3, 4, 2, 3)) * 2 + 1
SEQUENCES = _RANDOM.normal(size=(2, 3, 4))
CONSTANT = np.full((3, 4), 7.0)
TOKENS = _RANDOM.integers(0, 6, (3, 4)).astype(np.int32)

_CHANNELS = {"gamma": (4,), "beta": (4,)}
_RUNNING = _CHANNELS | {"running_mean": (4,), "running_var": (4,)}

LAYERS = (
    LayerCase("dense", "dense(3)", ROWS, {"W": (4, 3), "b": (3,)}, lambda x, W, b: x @ W + b),
    LayerCase("dense", "dense(3)", SEQUENCES, {"W": (4, 3), "b": (3,)}, lambda x, W, b: x @ W + b),
    LayerCase("dense", "dense(3, bias = false)", ROWS, {"W": (4, 3)}, lambda x, W: x @ W),
    *(
        LayerCase(
            "batch_norm",
            "batch_norm",
            x,
            _RUNNING,
            _batch_norm(1e-5),
            _batch_norm_inference(1e-5),
            _batch_norm_states(0.9),
        )
        for x in (ROWS, IMAGES, CONSTANT)
    ),
    LayerCase(
        "batch_norm",
        "batch_norm(momentum = 0.5, eps = 0.1)",
        IMAGES,
        _RUNNING,
        _batch_norm(0.1),
        _batch_norm_inference(0.1),
        _batch_norm_states(0.5),
    ),
    *(
        LayerCase(
            "batch_norm",
            "batch_norm(unbiased = true)",
            x,
            _RUNNING,
            _batch_norm(1e-5),
            _batch_norm_inference(1e-5),
            _batch_norm_states(0.9, 1),
        )
        for x in (ROWS, IMAGES)
    ),
    LayerCase(
        "batch_norm",
        "batch_norm(unbiased = true)",
        ROWS[:1],
        _RUNNING,
        _batch_norm(1e-5),
        _batch_norm_inference(1e-5),
        _batch_norm_states(0.9),
    ),
    LayerCase("layer_norm", "layer_norm", ROWS, _CHANNELS, _layer_norm),
    LayerCase("layer_norm", "layer_norm", CONSTANT, _CHANNELS, _layer_norm),
    LayerCase("layer_norm", "layer_norm(bias = false)", SEQUENCES, {"gamma": (4,)}, _layer_norm),
    LayerCase(
        "rms_norm",
        "rms_norm",
        SEQUENCES,
        {"gamma": (4,)},
        lambda x, gamma: gamma * x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5),
    ),
    LayerCase("group_norm", "group_norm(2)", IMAGES, _CHANNELS, _group_norm(2, 1e-5)),
    LayerCase("group_norm", "group_norm(4, eps = 1e-3)", IMAGES, _CHANNELS, _group_norm(4, 1e-3)),
    LayerCase("group_norm", "group_norm(groups = 1)", ROWS, _CHANNELS, _group_norm(1, 1e-5)),
    LayerCase("embedding", "embedding(6, 3)", TOKENS, {"W": (6, 3)}, lambda x, W: W[x]),
    LayerCase("embedding", "embedding(6, 4)", SEQUENCES, {"W": (6, 4)}, lambda x, W: x @ W.T),
    LayerCase("learned_positions", "learned_positions(5)", SEQUENCES, {"W": (5, 4)}, lambda x, W: x + W[:3]),
    LayerCase("prelu", "prelu", ROWS, {"alpha": (4,)}, lambda x, alpha: np.where(x > 0, x, alpha * x)),
    LayerCase("prelu", "prelu", IMAGES, {"alpha": (4,)}, lambda x, alpha: np.where(x > 0, x, _vector(alpha, 4) * x)),
)
