"""Losses over pairs of rows beside NumPy lines that go through the pairs one by one."""

from __future__ import annotations

import numpy as np
from function_case import Array, FunctionCase

_RANDOM = np.random.default_rng(23)
_A, _B = _RANDOM.normal(size=(5, 3)), _RANDOM.normal(size=(5, 3))
_LABEL = np.array([2, 0, 2, 1, 2], np.int32)
_ALONE = np.array([4, 0, 3, 1, 2], np.int32)
_ONE_LABEL = np.zeros(5, np.int32)
_EQUAL = np.tile(_A[:1], (5, 1))
_WITH_ZERO = np.vstack([_A[:2], np.zeros((1, 3)), _A[3:]])


def _unit(x: Array) -> Array:
    return np.array([row / np.linalg.norm(row) if row.any() else row for row in x])


def _log_share(own: float, scores: list[float]) -> float:
    return own - np.logaddexp.reduce(scores)


def _info_nce(a: Array, b: Array, temperature: float = 0.1) -> Array:
    scores = [[float(p @ q) / temperature for q in b] for p in a]
    return np.asarray(np.mean([-_log_share(row[i], row) for i, row in enumerate(scores)]))


def _clip(a: Array, b: Array, temperature: float = 0.07) -> Array:
    a, b = _unit(a), _unit(b)
    return (_info_nce(a, b, temperature) + _info_nce(b, a, temperature)) / 2


def _nt_xent(a: Array, b: Array, temperature: float = 0.5) -> Array:
    z, n = _unit(np.vstack([a, b])), len(a)
    terms: list[float] = []
    for i in range(2 * n):
        scores = [float(z[i] @ z[k]) / temperature for k in range(2 * n) if k != i]
        terms.append(-_log_share(float(z[i] @ z[(i + n) % (2 * n)]) / temperature, scores))
    return np.asarray(np.mean(terms))


def _triplet(x: Array, label: Array, margin: float | None = 0.2) -> Array:
    terms: list[float] = []
    for row, own in zip(x, label, strict=True):
        distances = np.linalg.norm(x - row, axis=1)
        if (label == own).all():
            terms.append(0.0)
            continue
        gap = distances[label == own].max() - distances[label != own].min()
        terms.append(float(np.logaddexp(0, gap)) if margin is None else max(0.0, margin + gap))
    return np.asarray(np.mean(terms))


def _supervised(x: Array, label: Array, temperature: float = 0.1) -> Array:
    z, n = _unit(x), len(x)
    terms: list[float] = []
    for i in range(n):
        others = [k for k in range(n) if k != i]
        scores = [float(z[i] @ z[k]) / temperature for k in others]
        own = [_log_share(s, scores) for s, k in zip(scores, others, strict=True) if label[k] == label[i]]
        terms += [-float(np.mean(own))] if own else []
    return np.asarray(np.mean(terms) if terms else np.array(0.0))


def _squares(a: Array, b: Array) -> Array:
    return np.array([[((p - q) ** 2).sum() for q in b] for p in a])


def _kernel(a: Array, b: Array, width: float = 1.0) -> Array:
    return np.exp(-_squares(a, b) / (2 * width**2))


def _mmd(x: Array, y: Array, width: float = 1.0) -> Array:
    return np.asarray(_kernel(x, x, width).mean() + _kernel(y, y, width).mean() - 2 * _kernel(x, y, width).mean())


def _two(name: str, call: str, expected: object, a: Array = _A, b: Array = _B, slopes: bool = True) -> FunctionCase:
    assert callable(expected)
    return FunctionCase(name, call, {"a": a, "b": b}, expected, ("a", "b") if slopes else ())


def _labelled(name: str, call: str, expected: object, x: Array = _A, label: Array = _LABEL) -> FunctionCase:
    assert callable(expected)
    return FunctionCase(name, call, {"x": x, "label": label}, expected, ("x",))


_OF_TWO = (
    ("info_nce", "info_nce(a, b)", _info_nce),
    ("clip_loss", "clip_loss(a, b)", _clip),
    ("nt_xent", "nt_xent(a, b)", _nt_xent),
    ("mmd", "mmd(bandwidth = 0.7)(a, b)", lambda a, b: _mmd(a, b, 0.7)),
)
_OF_LABELS = (
    ("triplet_hard", "triplet_hard(x, label)", _triplet),
    ("supervised_contrastive", "supervised_contrastive(x, label)", _supervised),
)

PAIRS = (
    *(_two(*case) for case in _OF_TWO),
    *(_labelled(*case) for case in _OF_LABELS),
    *(_two(name, f"{call} + 0", expected, _A[:1], _B[:1]) for name, call, expected in _OF_TWO),
    *(_labelled(name, f"{call} + 0", expected, _A[:1], _LABEL[:1]) for name, call, expected in _OF_LABELS),
    _two("info_nce", "info_nce(a, b) + 1", lambda a, b: 1 + _info_nce(a, b), _EQUAL, _EQUAL),
    _two("clip_loss", "clip_loss(temperature = 0.3)(a, b)", lambda a, b: _clip(a, b, 0.3), _EQUAL, _EQUAL),
    _two("clip_loss", "clip_loss(a, b) + 1", lambda a, b: 1 + _clip(a, b), _WITH_ZERO, _B, slopes=False),
    FunctionCase(
        "clip_loss",
        "clip_loss(a, b, scale = s)",
        {"a": _A, "b": _B, "s": np.array(3.0)},
        lambda a, b, s: _clip(a, b, 1 / s),
        ("a", "b", "s"),
    ),
    _two("nt_xent", "nt_xent(temperature = 0.2)(a, b)", lambda a, b: _nt_xent(a, b, 0.2), _EQUAL, _EQUAL),
    _two("nt_xent", "nt_xent(a, b) + 1", lambda a, b: 1 + _nt_xent(a, b), _WITH_ZERO, _B, slopes=False),
    _two("mmd", "mmd(a, b) + 0", lambda a, b: _mmd(a, b), _A, _A),
    _labelled("triplet_hard", "triplet_hard(soft = true)(x, label)", lambda x, label: _triplet(x, label, None)),
    _labelled("triplet_hard", "triplet_hard(x, label) + 2", lambda x, label: _triplet(x, label) + 2, _A, _ONE_LABEL),
    _labelled("triplet_hard", "triplet_hard(x, label) + 1", lambda x, label: _triplet(x, label) + 1, _A, _ALONE),
    _labelled(
        "supervised_contrastive",
        "supervised_contrastive(x, label) + 2",
        lambda x, label: _supervised(x, label) + 2,
        _A,
        _ALONE,
    ),
    _labelled(
        "supervised_contrastive",
        "supervised_contrastive(x, label) + 1",
        lambda x, label: 1 + _supervised(x, label),
        _EQUAL,
    ),
    FunctionCase(
        "log_sum",
        "log_sum(a, b)",
        {"a": np.array([1.0, 2, 900]), "b": np.array([3.0, -800, 901])},
        lambda a, b: np.logaddexp(a, b),
        ("a", "b"),
    ),
    FunctionCase("same_row", "same_row(x)", {"x": _A}, lambda x: np.eye(5, dtype=bool)),
    FunctionCase("same_label", "same_label(label)", {"label": _LABEL}, lambda label: label[:, None] == label),
    _two("squared_distances", "squared_distances(a, b)", _squares, _A, _B[:4]),
    _two("squared_distances", "squared_distances(a, b) + 0", _squares, _A * 1e150, _A * 1e150, slopes=False),
    _two("gaussian_kernel", "gaussian_kernel(bandwidth = 0.7)(a, b)", lambda a, b: _kernel(a, b, 0.7), _A, _B[:4]),
    FunctionCase("unit_vectors", "unit_vectors(x)", {"x": _A}, _unit, ("x",)),
    FunctionCase(
        "unit_vectors",
        "unit_vectors(x) + 0",
        {"x": np.array([[0.0, 0, 0], [3e-200, 4e-200, 0], [3e200, 0, -4e200]])},
        lambda x: np.array([[0, 0, 0], [0.6, 0.8, 0], [0.6, 0, -0.8]]),
    ),
    FunctionCase("distance_of", "distance_of(x)", {"x": np.array([0.01, 0.25, 9.0])}, lambda x: np.sqrt(x), ("x",)),
    FunctionCase("distance_of", "distance_of(x) + 0", {"x": np.array([0.0, np.inf])}, lambda x: np.sqrt(x)),
)
