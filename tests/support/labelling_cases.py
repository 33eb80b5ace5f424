"""Calls of the library's functions of labels without places, beside definitions that try all paths."""

from __future__ import annotations

from itertools import product

import numpy as np
from function_case import Array, FunctionCase, log_softmax

_RANDOM = np.random.default_rng(29)
_LOGITS = _RANDOM.normal(size=(4, 5, 3)) * 2
_LABEL = np.array([[1, 2], [2, 2], [1, 1], [2, 1]], "i4")
_SEEN = np.arange(5) < np.array([[5], [4], [3], [0]])
_KNOWN = np.arange(2) < np.array([[2], [1], [2], [0]])
_BLANKS_LAST = np.array([[0, 1], [1, 1], [0, 0], [1, 0]], "i4")
_STRONG = np.where(_RANDOM.random((4, 5, 3)) < 0.3, -np.inf, _LOGITS)
_STRONG[..., 0] = 1.0
_SEQUENCE = _RANDOM.integers(0, 3, (40, 7)).astype("i4")
_OTHER = _RANDOM.integers(0, 3, (40, 5)).astype("i4")
_KEPT, _OTHER_KEPT = _RANDOM.random((40, 7)) < 0.6, _RANDOM.random((40, 5)) < 0.6


def _spelt(path: tuple[int, ...], blank: int) -> list[int]:
    return [k for place, k in enumerate(path) if k != blank and (place == 0 or path[place - 1] != k)]


def _losses(
    logits: Array, label: Array, seen: Array | None = None, known: Array | None = None, blank: int = 0
) -> Array:
    """-log of the sum over all paths that spell the label, each the product of its probabilities."""
    found = np.zeros(len(logits))
    for row, scores in enumerate(logits):
        scores = log_softmax(scores if seen is None else scores[seen[row]])
        wanted = list(label[row] if known is None else label[row][known[row]])
        paths = product(range(scores.shape[1]), repeat=len(scores))
        chances = [sum(scores[t, k] for t, k in enumerate(p)) for p in paths if _spelt(p, blank) == wanted]
        found[row] = -np.logaddexp.reduce(chances) if chances else np.inf
    return found


def _edits(a: list[int], b: list[int]) -> int:
    if not a or not b:
        return len(a) + len(b)
    return min(_edits(a[1:], b[1:]) + (a[0] != b[0]), _edits(a[1:], b) + 1, _edits(a, b[1:]) + 1)


def _all_edits(a: Array, b: Array, kept: Array | None = None, other: Array | None = None) -> Array:
    kept = np.ones(a.shape, bool) if kept is None else kept
    other = np.ones(b.shape, bool) if other is None else other
    return np.array([_edits(list(x[m]), list(y[n])) for x, y, m, n in zip(a, b, kept, other, strict=True)])


def _best(x: Array) -> Array:
    """Whether each time step counts."""
    best = x.argmax(-1)
    before = np.concatenate([np.full((len(best), 1), -1), best[:, :-1]], 1)
    return (best != 0) & (best != before)


def _error_rate(x: Array, label: Array, seen: Array, known: Array) -> float:
    spelt = [_spelt(tuple(row[mask].argmax(-1)), 0) for row, mask in zip(x, seen, strict=True)]
    wanted = [list(row[mask]) for row, mask in zip(label, known, strict=True)]
    return sum(map(_edits, spelt, wanted)) / known.sum()


_MASKED = {"x": _LOGITS, "label": _LABEL, "seen": _SEEN, "known": _KNOWN}
_MASKS = "where = seen, label_where = known"

LABELLING = (
    FunctionCase(
        "ctc_loss",
        'ctc_loss(x, label, reduction = "none")',
        {"x": _LOGITS, "label": _LABEL},
        lambda x, label: _losses(x, label),
        ("x",),
    ),
    FunctionCase(
        "ctc_loss",
        f'ctc_loss(x, label, zero_infinity = true, reduction = "none", {_MASKS})',
        _MASKED,
        lambda x, label, seen, known: np.nan_to_num(_losses(x, label, seen, known), posinf=0.0),
        ("x",),
    ),
    FunctionCase(
        "ctc_loss",
        "ctc_loss(x, label, blank = 2)",
        {"x": _LOGITS, "label": _BLANKS_LAST},
        lambda x, label: _losses(x, label, blank=2).mean(),
        ("x",),
    ),
    FunctionCase(
        "ctc_loss",
        'ctc_loss(x, label, reduction = "none")',
        {"x": _STRONG, "label": _LABEL},
        lambda x, label: _losses(x, label),
    ),
    FunctionCase(
        "ctc_loss",
        'ctc_loss(x, label, reduction = "none")',
        {"x": _LOGITS[:, :1], "label": _LABEL},
        lambda x, label: np.full(4, np.inf),
    ),
    FunctionCase(
        "ctc_loss",
        'ctc_loss(x, label, reduction = "none", label_where = known)',
        {"x": _LOGITS, "label": _LABEL, "known": np.array([[0, 1], [1, 0], [0, 0], [1, 1]], bool)},
        lambda x, label, known: np.where(known[:, 1] & ~known[:, 0], np.inf, _losses(x, label, None, known)),
    ),
    FunctionCase(
        "log_add",
        "log_add(a, b)",
        {"a": np.array([0.5, -np.inf, 3.0, -1e30, -np.inf]), "b": np.array([-2.0, 1.0, 3.0, 1e30, -np.inf])},
        lambda a, b: np.logaddexp(a, b),
    ),
    FunctionCase(
        "log_add", "log_add(a, b)", {"a": _LOGITS[0], "b": _LOGITS[1]}, lambda a, b: np.logaddexp(a, b), ("a", "b")
    ),
    FunctionCase("ctc_best_path", "ctc_best_path(x)[0]", {"x": _LOGITS}, lambda x: x.argmax(-1)),
    FunctionCase("ctc_best_path", "ctc_best_path(x)[1]", {"x": _LOGITS}, _best),
    FunctionCase(
        "ctc_best_path",
        "ctc_best_path(x, where = seen)[1]",
        {"x": _LOGITS, "seen": _SEEN},
        lambda x, seen: _best(np.where(seen[..., None], x, [99.0, 0, 0])),
    ),
    FunctionCase("edit_distance", "edit_distance(a, b)", {"a": _SEQUENCE, "b": _OTHER}, lambda a, b: _all_edits(a, b)),
    FunctionCase(
        "edit_distance",
        "edit_distance(a, b, where = m, label_where = n)",
        {"a": _SEQUENCE, "b": _OTHER, "m": _KEPT, "n": _OTHER_KEPT},
        lambda a, b, m, n: _all_edits(a, b, m, n),
    ),
    FunctionCase("label_error_rate", f"label_error_rate(x, label, {_MASKS})", _MASKED, _error_rate),
)
