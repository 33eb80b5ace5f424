"""Losses and metrics of the library beside independent NumPy lines: plain, masked, weighed, and at the edges."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from function_case import Array, FunctionCase, log_softmax, softmax, softplus

_RANDOM = np.random.default_rng(11)


def _masked_mean(x: Array, where: Array | None) -> Any:
    return x.mean() if where is None else (x[where].mean() if where.any() else 0.0)


PREDICTION = _RANDOM.normal(size=(4, 3)) * 2
TARGET = _RANDOM.normal(size=(4, 3)) * 2
BITS = (_RANDOM.random((4, 3)) < 0.5).astype(float)
BITS[0] = [0, 1, 1]
CHANCES = _RANDOM.uniform(0.05, 0.95, (4, 3))
KEEP = np.array([[1, 0, 1], [0, 0, 1], [1, 1, 1], [0, 0, 0]], bool)
NOTHING = np.zeros((4, 3), bool)
SCORES = _RANDOM.normal(size=(6, 4)) * 2
LABELS = np.array([0, 3, 1, 1, 2, 3], np.int32)
ROWS = np.array([1, 1, 0, 1, 0, 1], bool)
SEQUENCE = _RANDOM.normal(size=(2, 5, 4))
TOKENS = _RANDOM.integers(0, 4, (2, 5)).astype(np.int32)
POSITIONS = _RANDOM.random((2, 5)) < 0.6
MIXTURE = softmax(_RANDOM.normal(size=(6, 4)))
OTHER_MIXTURE = softmax(_RANDOM.normal(size=(6, 4)))
CERTAIN = np.eye(4)[LABELS]
_WEIGHTS = np.array([1.0, 2.0, 0.5, 4.0])


def _elementwise(name: str, per_element: Callable[[Array, Array], Array], p: Array, y: Array, call: str = "") -> Any:
    """A loss or metric of two tensors of one shape: plain, masked, and with everything masked."""
    call = call or f"{name}(p, y)"
    operands = {"p": p, "y": y}
    slopes = ("p",) if name not in _NOT_DIFFERENTIABLE else ()
    return tuple(
        FunctionCase(
            name,
            call if where is None else f"{call[:-1]}, where = keep)",
            operands if where is None else operands | {"keep": where},
            lambda p, y, keep=None: _masked_mean(per_element(p, y), keep),
            slopes,
        )
        for where in (None, KEEP, NOTHING)
    )


_NOT_DIFFERENTIABLE = frozenset({"binary_accuracy"})


def _huber(delta: float) -> Callable[[Array, Array], Array]:
    def meaning(p: Array, y: Array) -> Array:
        e = np.abs(p - y)
        return np.where(e <= delta, 0.5 * e * e, delta * (e - 0.5 * delta))

    return meaning


def _binary(p: Array, y: Array) -> Array:
    return -(y * np.log(p) + (1 - y) * np.log(1 - p))


def _of_classes(name: str, call: str, log_p: Callable[[Array], Array], scores: Array, positions: bool = True) -> Any:
    """A cross-entropy of classes: indices, a mask, smoothing, class weights."""

    def meaning(smoothing: float = 0.0, weights: Array | None = None) -> Callable[..., Any]:
        def loss(x: Array, label: Array, keep: Array | None = None) -> Any:
            target = np.eye(4)[label] if label.dtype.kind in "iu" else label
            mixed = (1 - smoothing) * target + smoothing / 4
            return _masked_mean(-(mixed * log_p(x) * (1 if weights is None else weights)).sum(-1), keep)

        return loss

    def case(settings: str, labels: Array, mask: Array | None, expected: Callable[..., Any]) -> FunctionCase:
        where = "" if mask is None else ", where = keep"
        operands = {"x": scores, "label": labels} | ({} if mask is None else {"keep": mask})
        return FunctionCase(name, f"{call}{settings}(x, label{where})", operands, expected, ("x",))

    weighed = "(class_weights = [1, 2.0, 0.5, 4.0])"
    return (
        case("", LABELS, None, meaning()),
        case("", LABELS.astype(np.uint8), ROWS, meaning()),
        case("", LABELS, np.zeros(6, bool), meaning()),
        case("(smoothing = 0.1)", LABELS, None, meaning(0.1)),
        case(weighed, LABELS, ROWS, meaning(0.0, _WEIGHTS)),
    )


def _of_distributions(name: str, log_p: Callable[[Array], Array], scores: Array) -> Any:
    def loss(x: Array, y: Array, smoothing: float = 0.0) -> Any:
        return -(((1 - smoothing) * y + smoothing / 4) * log_p(x)).sum(-1).mean()

    operands = {"x": scores, "y": OTHER_MIXTURE}
    return (
        FunctionCase(name, f"{name}(x, y)", operands, loss, ("x",)),
        FunctionCase(name, f"{name}(x, y, smoothing = 0.2)", operands, lambda x, y: loss(x, y, 0.2), ("x",)),
    )


_LOGITS_FAR = np.array([[1e4, -1e4, 0.0, 3.0], [-1e30, 1e30, 0.0, 0.0]])
_LOGITS_MASKED = np.array([[1.0, -np.inf, 0.5, 3.0], [-np.inf, 2.0, 0.0, 0.0]])
_SIGNS = np.where(BITS > 0, 1.0, -1.0)
_LOG = np.log

LOSSES = (
    *_elementwise("mse", lambda p, y: (p - y) ** 2, PREDICTION, TARGET),
    *_elementwise("mae", lambda p, y: np.abs(p - y), PREDICTION, TARGET),
    *_elementwise("huber", _huber(1.0), PREDICTION, TARGET),
    *_elementwise("huber", _huber(0.3), PREDICTION, TARGET, "huber(0.3)(p, y)"),
    *_elementwise("binary_cross_entropy", _binary, CHANCES, BITS),
    FunctionCase(
        "binary_cross_entropy",
        "binary_cross_entropy(p, y)",
        {"p": np.array([0.0, 1.0, 0.0, 1.0]), "y": np.array([0.0, 1.0, 1.0, 0.0])},
        lambda p, y: -0.5 * (np.log(1e-7) + np.log1p(-1e-7)),
    ),
    *_elementwise("binary_cross_entropy_with_logits", lambda p, y: softplus(p) - y * p, PREDICTION * 3, BITS),
    FunctionCase(
        "binary_cross_entropy_with_logits",
        "binary_cross_entropy_with_logits(p, y)",
        {"p": np.array([1e4, -1e4, 1e4, -1e4, 0.0]), "y": np.array([1.0, 0.0, 0.0, 1.0, 0.5])},
        lambda p, y: (2e4 + math.log(2)) / 5,
        ("p",),
    ),
    *_of_classes("cross_entropy", "cross_entropy", log_softmax, SCORES),
    *_of_distributions("cross_entropy", log_softmax, SCORES),
    FunctionCase(
        "cross_entropy",
        "cross_entropy(x, label, where = keep)",
        {"x": SEQUENCE, "label": TOKENS, "keep": POSITIONS},
        lambda x, label, keep: -np.take_along_axis(log_softmax(x), label[..., None], -1)[..., 0][keep].mean(),
        ("x",),
    ),
    FunctionCase(
        "cross_entropy",
        "cross_entropy(x, label)",
        {"x": _LOGITS_FAR, "label": np.array([1, 3], np.int32)},
        lambda x, label: (2e4 + 1e30) / 2,
    ),
    FunctionCase(
        "cross_entropy",
        "cross_entropy(x, label)",
        {"x": _LOGITS_MASKED, "label": np.array([3, 1], np.int32)},
        lambda x, label: -(log_softmax(x)[0, 3] + log_softmax(x)[1, 1]) / 2,
    ),
    *_of_classes("nll", "nll", lambda x: x, np.log(MIXTURE)),
    *_of_classes("sparse_categorical_cross_entropy", "sparse_categorical_cross_entropy", _LOG, MIXTURE),
    *_of_distributions("categorical_cross_entropy", _LOG, MIXTURE),
    FunctionCase(
        "categorical_cross_entropy",
        "categorical_cross_entropy(x, y)",
        {"x": CERTAIN, "y": CERTAIN[::-1].copy()},
        lambda x, y: -np.log(np.maximum((x * y).sum(-1), 1e-7)).mean(),
    ),
    *_elementwise("hinge", lambda p, y: np.maximum(0, 1 - y * p), PREDICTION, _SIGNS),
    *_elementwise("perceptron_loss", lambda p, y: np.maximum(0, -y * p), PREDICTION, _SIGNS),
    FunctionCase(
        "kl_divergence",
        "kl_divergence(q, p)",
        {"q": MIXTURE, "p": OTHER_MIXTURE},
        lambda q, p: (p * np.log(p / q)).sum(-1).mean(),
        ("q", "p"),
    ),
    FunctionCase(
        "kl_divergence",
        "kl_divergence(q, p, where = keep)",
        {"q": MIXTURE, "p": CERTAIN, "keep": ROWS},
        lambda q, p, keep: -np.log((p * q).sum(-1))[keep].mean(),
        ("q",),
    ),
)

_GUESS = SCORES.argmax(-1)


def _counts(p: Array, y: Array, keep: Array | None = None, threshold: float = 0.5) -> tuple[int, int, int, int]:
    """True positives, false positives, false negatives, true negatives."""
    kept = np.ones_like(y, bool) if keep is None else keep
    above, truth = p > threshold, y > 0.5
    pairs = ((above, truth), (above, ~truth), (~above, truth), (~above, ~truth))
    return tuple(int((a & b & kept).sum()) for a, b in pairs)  # type: ignore[return-value]


def _counted(name: str, of: Callable[[int, int, int, int], float]) -> tuple[FunctionCase, ...]:
    operands = {"p": CHANCES, "y": BITS}
    return (
        FunctionCase(name, f"{name}(p, y)", operands, lambda p, y: of(*_counts(p, y))),
        FunctionCase(
            name,
            f"{name}(p, y, threshold = 0.3, where = keep)",
            operands | {"keep": KEEP},
            lambda p, y, keep: of(*_counts(p, y, keep, 0.3)),
        ),
        FunctionCase(name, f"{name}(p, y, where = keep)", operands | {"keep": NOTHING}, lambda p, y, keep: 0.0),
    )


def _macro_f1(guess: Array, label: Array) -> float:
    classes = sorted(set(guess.tolist()) | set(label.tolist()))
    return float(
        np.mean([2 * ((guess == c) & (label == c)).sum() / ((guess == c).sum() + (label == c).sum()) for c in classes])
    )


def _confusion(guess: Array, label: Array) -> Array:
    table = np.zeros((4, 4))
    np.add.at(table, (label, guess), 1)
    return table


def _share(a: int, b: int) -> float:
    return a / b if b else 0.0


def _top_k(x: Array, label: Array, k: int) -> Array:
    order = np.argsort(-x, axis=-1)[..., :k]
    return (order == label[..., None]).any(-1)


def _r2(p: Array, y: Array) -> float:
    return 1 - ((y - p) ** 2).sum() / ((y - y.mean()) ** 2).sum()


_CLASSES = {"x": SCORES, "label": LABELS}
_CLASSES_KEPT = _CLASSES | {"keep": ROWS}
_VALUES = {"p": PREDICTION, "y": TARGET}
_VALUES_KEPT = _VALUES | {"keep": KEEP}

METRICS = (
    FunctionCase("accuracy", "accuracy(x, label)", _CLASSES, lambda x, label: (label == _GUESS).mean()),
    FunctionCase(
        "accuracy",
        "accuracy(x, label, where = keep)",
        _CLASSES_KEPT,
        lambda x, label, keep: (label == _GUESS)[keep].mean(),
    ),
    FunctionCase("accuracy", "accuracy(x, y)", {"x": SCORES, "y": CERTAIN}, lambda x, y: (_GUESS == LABELS).mean()),
    FunctionCase(
        "accuracy",
        "accuracy(x, label, where = keep)",
        {"x": SEQUENCE, "label": TOKENS, "keep": POSITIONS},
        lambda x, label, keep: (x.argmax(-1) == label)[keep].mean(),
    ),
    *_elementwise("binary_accuracy", lambda p, y: ((p > 0.5) == (y > 0.5)) * 1.0, CHANCES, BITS),
    *_elementwise(
        "binary_accuracy",
        lambda p, y: ((p > 0) == (y > 0.5)) * 1.0,
        PREDICTION,
        BITS,
        "binary_accuracy(threshold = 0.0)(p, y)",
    ),
    *(
        FunctionCase(
            "top_k_accuracy",
            f"top_k_accuracy(k = {k})(x, label)",
            _CLASSES,
            lambda x, label, k=k: _top_k(x, label, k).mean(),
        )
        for k in (1, 2, 4)
    ),
    FunctionCase(
        "top_k_accuracy",
        "top_k_accuracy(k = 2)(x, label, where = keep)",
        _CLASSES_KEPT,
        lambda x, label, keep: _top_k(x, label, 2)[keep].mean(),
    ),
    FunctionCase(
        "top_k_accuracy",
        "top_k_accuracy(x, label, k = 3)",
        {"x": np.full((2, 4), np.nan), "label": LABELS[:2]},
        lambda x, label: 0.0,
    ),
    FunctionCase(
        "top_k_accuracy",
        "top_k_accuracy(k = 2)(x, y)",
        {"x": SCORES, "y": CERTAIN},
        lambda x, y: _top_k(x, LABELS, 2).mean(),
    ),
    FunctionCase("class_of", "class_of(y)", {"y": CERTAIN}, lambda y: LABELS),
    FunctionCase("macro_f1", "macro_f1(x, y)", {"x": SCORES, "y": CERTAIN}, lambda x, y: _macro_f1(_GUESS, LABELS)),
    *_counted("precision", lambda tp, fp, fn, tn: _share(tp, tp + fp)),
    *_counted("recall", lambda tp, fp, fn, tn: _share(tp, tp + fn)),
    *_counted("f1", lambda tp, fp, fn, tn: _share(2 * tp, 2 * tp + fp + fn)),
    *_counted("true_positives", lambda tp, fp, fn, tn: tp),
    *_counted("false_positives", lambda tp, fp, fn, tn: fp),
    *_counted("false_negatives", lambda tp, fp, fn, tn: fn),
    *_counted("true_negatives", lambda tp, fp, fn, tn: tn),
    FunctionCase("macro_f1", "macro_f1(x, label)", _CLASSES, lambda x, label: _macro_f1(_GUESS, label)),
    FunctionCase(
        "macro_f1",
        "macro_f1(x, label, where = keep)",
        _CLASSES_KEPT,
        lambda x, label, keep: _macro_f1(_GUESS[keep], label[keep]),
    ),
    FunctionCase(
        "confusion_matrix", "confusion_matrix(x, label)", _CLASSES, lambda x, label: _confusion(_GUESS, label)
    ),
    FunctionCase(
        "confusion_matrix",
        "confusion_matrix(x, label, where = keep)",
        _CLASSES_KEPT,
        lambda x, label, keep: _confusion(_GUESS[keep], label[keep]),
    ),
    FunctionCase(
        "mean_absolute_error",
        "mean_absolute_error(p, y, where = keep)",
        _VALUES_KEPT,
        lambda p, y, keep: np.abs(p - y)[keep].mean(),
    ),
    FunctionCase(
        "root_mean_squared_error",
        "root_mean_squared_error(p, y, where = keep)",
        _VALUES_KEPT,
        lambda p, y, keep: np.sqrt(((p - y) ** 2)[keep].mean()),
    ),
    FunctionCase("r2", "r2(p, y)", _VALUES, _r2),
    FunctionCase("r2", "r2(p, y, where = keep)", _VALUES_KEPT, lambda p, y, keep: _r2(p[keep], y[keep])),
    FunctionCase("r2", "r2(p, y)", {"p": PREDICTION, "y": np.full((4, 3), 2.0)}, lambda p, y: 0.0),
    FunctionCase(
        "perplexity",
        "perplexity(x, label, where = keep)",
        _CLASSES_KEPT,
        lambda x, label, keep: np.exp(-log_softmax(x)[np.arange(6), label][keep].mean()),
        ("x",),
    ),
    FunctionCase("share", "share(keep)", {"keep": KEEP}, lambda keep: keep.mean()),
    FunctionCase("count", "count(keep)", {"keep": KEEP}, lambda keep: keep.sum()),
    FunctionCase(
        "ratio",
        "ratio(a, b)",
        {"a": np.array([1.0, 2.0, 0.0]), "b": np.array([4.0, 0.0, 0.0])},
        lambda a, b: np.array([0.25, 0.0, 0.0]),
    ),
)
