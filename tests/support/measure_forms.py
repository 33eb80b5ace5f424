"""Further forms of losses, and metrics by class, beside NumPy: weights, reductions, ignored labels, averages, areas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from function_case import Array, FunctionCase, log_softmax, softplus
from measure_cases import (
    BITS,
    CHANCES,
    KEEP,
    LABELS,
    MIXTURE,
    OTHER_MIXTURE,
    POSITIONS,
    PREDICTION,
    ROWS,
    SCORES,
    SEQUENCE,
    TARGET,
    TOKENS,
)

_RANDOM = np.random.default_rng(12)
_HEAVY = _RANDOM.uniform(0.1, 2, (4, 3))
_OF_ROWS = _RANDOM.uniform(0.1, 2, 6)
_WEIGHTS = np.array([1.0, 2.0, 0.5, 4.0])
SIGNS = np.where(BITS > 0, 1.0, -1.0)
_CLASSES = {"x": SCORES, "label": LABELS}


def _weighed_forms(name: str, call: str, term: Callable[[Array, Array], Array], p: Array, y: Array) -> Any:
    """A loss with weights, masked or not, and with the other two reductions."""
    operands = {"p": p, "y": y, "w": _HEAVY}
    kept = operands | {"keep": KEEP}
    return (
        FunctionCase(name, f"{call}(p, y, weights = w)", operands, lambda p, y, w: (w * term(p, y)).sum() / w.sum()),
        FunctionCase(
            name,
            f"{call}(p, y, weights = w, where = keep)",
            kept,
            lambda p, y, w, keep: (w * term(p, y))[keep].sum() / w[keep].sum(),
        ),
        FunctionCase(
            name,
            f'{call}(reduction = "sum")(p, y, where = keep)',
            {"p": p, "y": y, "keep": KEEP},
            lambda p, y, keep: term(p, y)[keep].sum(),
        ),
        FunctionCase(
            name,
            f'{call}(reduction = "none")(p, y, weights = w, where = keep)',
            kept,
            lambda p, y, w, keep: np.where(keep, w * term(p, y), 0),
        ),
    )


def _huber(p: Array, y: Array) -> Array:
    e = np.abs(p - y)
    return np.where(e <= 1, 0.5 * e * e, e - 0.5)


def _binary(p: Array, y: Array) -> Array:
    return -(y * np.log(p) + (1 - y) * np.log(1 - p))


def _terms_of(x: Array, label: Array) -> Array:
    return -log_softmax(x)[np.arange(6), label]


FORMS = (
    *_weighed_forms("mse", "mse", lambda p, y: (p - y) ** 2, PREDICTION, TARGET),
    *_weighed_forms("mae", "mae", lambda p, y: np.abs(p - y), PREDICTION, TARGET),
    *_weighed_forms("huber", "huber", _huber, PREDICTION, TARGET),
    *_weighed_forms("binary_cross_entropy", "binary_cross_entropy", _binary, CHANCES, BITS),
    *_weighed_forms(
        "binary_cross_entropy_with_logits",
        "binary_cross_entropy_with_logits",
        lambda p, y: softplus(p) - y * p,
        PREDICTION,
        BITS,
    ),
    *_weighed_forms("hinge", "hinge", lambda p, y: np.maximum(0, 1 - y * p), PREDICTION, SIGNS),
    *_weighed_forms("perceptron_loss", "perceptron_loss", lambda p, y: np.maximum(0, -y * p), PREDICTION, SIGNS),
    FunctionCase("reduced", "reduced(p)", {"p": PREDICTION}, lambda p: p.mean(), ("p",)),
    FunctionCase("reduced", "reduced(p, weights = w)", {"p": PREDICTION, "w": np.zeros((4, 3))}, lambda p, w: 0.0),
    FunctionCase(
        "cross_entropy",
        "cross_entropy(x, label, ignore = 3)",
        _CLASSES,
        lambda x, label: _terms_of(x, label)[label != 3].mean(),
        ("x",),
    ),
    FunctionCase(
        "cross_entropy",
        "cross_entropy(x, label, ignore = -100, where = keep)",
        {"x": SCORES, "label": np.array([0, -100, 1, 1, -100, 3], np.int32), "keep": ROWS},
        lambda x, label, keep: _terms_of(x, label.clip(0))[keep & (label >= 0)].mean(),
    ),
    FunctionCase(
        "cross_entropy",
        "cross_entropy(x, label, ignore = 0)",
        {"x": SCORES, "label": np.zeros(6, np.int32)},
        lambda x, label: 0.0,
    ),
    FunctionCase(
        "cross_entropy",
        "cross_entropy(class_weights = [1, 2.0, 0.5, 4.0], by_weight = true)(x, label, weights = w)",
        _CLASSES | {"w": _OF_ROWS},
        lambda x, label, w: np.average(_terms_of(x, label), weights=w * _WEIGHTS[label]),
        ("x",),
    ),
    FunctionCase(
        "cross_entropy",
        "cross_entropy(class_weights = [1, 2.0, 0.5, 4.0], by_weight = true, smoothing = 0.1)(x, label, where = keep)",
        _CLASSES | {"keep": ROWS},
        lambda x, label, keep: (
            (-(0.9 * np.eye(4)[label] + 0.025) * log_softmax(x) * _WEIGHTS)[keep].sum() / _WEIGHTS[label][keep].sum()
        ),
    ),
    FunctionCase(
        "sparse_categorical_cross_entropy",
        'sparse_categorical_cross_entropy(ignore = 1, reduction = "sum")(x, label, weights = w)',
        {"x": MIXTURE, "label": LABELS, "w": _OF_ROWS},
        lambda x, label, w: -(w * np.log(x[np.arange(6), label]))[label != 1].sum(),
    ),
    FunctionCase(
        "categorical_cross_entropy",
        "categorical_cross_entropy(class_weights = [1, 2.0, 0.5, 4.0], by_weight = true)(x, y)",
        {"x": MIXTURE, "y": OTHER_MIXTURE},
        lambda x, y: -(y * np.log(x) * _WEIGHTS).sum() / (y * _WEIGHTS).sum(),
    ),
    FunctionCase(
        "kl_divergence",
        'kl_divergence(reduction = "none")(q, p, weights = w)',
        {"q": MIXTURE, "p": OTHER_MIXTURE, "w": _OF_ROWS},
        lambda q, p, w: w * (p * np.log(p / q)).sum(-1),
    ),
    FunctionCase("weight_of", "weight_of(w, label)", {"w": _WEIGHTS, "label": LABELS}, lambda w, label: w[label]),
)

_SEQUENCE_KEPT = {"x": SEQUENCE, "label": TOKENS, "keep": POSITIONS}


def _by_class(x: Array, label: Array, keep: Array | None = None) -> tuple[Array, Array, Array]:
    """Of each class: how often it was taken rightly, was taken, and was there."""
    kept = np.ones(label.shape, bool) if keep is None else keep
    guess = x.argmax(-1)
    took, real = (np.stack([(of == n) & kept for n in range(4)], -1) for of in (guess, label))
    return tuple(pair.reshape(-1, 4).sum(0).astype(float) for pair in (took & real, took, real))  # type: ignore[return-value]


def _mean_over(values: Array, occurrence: Array) -> float:
    return float(values[occurrence > 0].mean()) if (occurrence > 0).any() else 0.0


def _shares(a: Array, b: Array) -> Array:
    return np.divide(a, b, out=np.zeros(4), where=b > 0)


def _of_each_class(name: str, of: Callable[[Array, Array, Array], float]) -> tuple[FunctionCase, ...]:
    return (
        FunctionCase(name.split("(")[0], f"{name}(x, label)", _CLASSES, lambda x, label: of(*_by_class(x, label))),
        FunctionCase(
            name.split("(")[0],
            f"{name}(x, label, where = keep)",
            _SEQUENCE_KEPT,
            lambda x, label, keep: of(*_by_class(x, label, keep)),
        ),
        FunctionCase(
            name.split("(")[0],
            f"{name}(x, label, where = keep)",
            _CLASSES | {"keep": np.zeros(6, bool)},
            lambda x, label, keep: 0.0,
        ),
    )


def _binned_auc(score: Array, truth: Array, keep: Array | None = None) -> float:
    """By every pair, of scores in ten bins of [0, 1]."""
    kept = np.ones(truth.shape, bool) if keep is None else keep
    place = np.clip(np.floor(score * 10), 0, 9)
    pairs = place[(truth > 0.5) & kept][:, None] - place[(truth <= 0.5) & kept]
    return float(np.where(pairs == 0, 0.5, pairs > 0).mean()) if pairs.size else 0.5


_SCORED = {"p": CHANCES, "y": BITS}
BY_CLASS = (
    *_of_each_class("class_precision(2)", lambda hit, took, real: _shares(hit, took)[2]),
    *_of_each_class("class_recall(1)", lambda hit, took, real: _shares(hit, real)[1]),
    *_of_each_class("class_f1(3)", lambda hit, took, real: _shares(2 * hit, took + real)[3]),
    *_of_each_class("macro_precision", lambda hit, took, real: _mean_over(_shares(hit, took), took + real)),
    *_of_each_class("macro_recall", lambda hit, took, real: _mean_over(_shares(hit, real), took + real)),
    *_of_each_class("balanced_accuracy", lambda hit, took, real: _mean_over(_shares(hit, real), real)),
    *_of_each_class("macro_f1", lambda hit, took, real: _mean_over(_shares(2 * hit, took + real), took + real)),
    *_of_each_class("micro_f1", lambda hit, took, real: hit.sum() / real.sum()),
    FunctionCase("binned_auc", "binned_auc(bins = 10)(p, y)", _SCORED, lambda p, y: _binned_auc(p, y)),
    FunctionCase(
        "binned_auc",
        "binned_auc(bins = 10)(p, y, where = keep)",
        _SCORED | {"keep": KEEP},
        lambda p, y, keep: _binned_auc(p, y, keep),
    ),
    FunctionCase(
        "binned_auc", "binned_auc(p, y)", {"p": np.array([-5.0, 0.2, 0.9, 7.0]), "y": np.zeros(4)}, lambda p, y: 0.5
    ),
    FunctionCase(
        "binned_auc",
        "binned_auc(p, y)",
        {"p": np.array([-5.0, -np.inf, np.inf, 7.0]), "y": np.array([0.0, 0, 1, 1])},
        lambda p, y: 1.0,
    ),
    FunctionCase("r2", "r2(p, y)", {"p": np.full(3, 2.0), "y": np.full(3, 2.0)}, lambda p, y: 1.0),
    FunctionCase("count_of_each", "count_of_each(keep)", {"keep": KEEP}, lambda keep: keep.sum(0).astype(float)),
    FunctionCase(
        "macro_mean",
        "macro_mean(a, b)",
        {"a": np.array([1.0, 2.0, 6.0]), "b": np.array([1.0, 0.0, 3.0])},
        lambda a, b: 3.5,
    ),
)
