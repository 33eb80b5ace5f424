"""Texts with the probability that a model gave each token, and the token that it found likeliest."""

from __future__ import annotations

import math

import numpy as np

from compiler.driver import Array
from compiler.support.record import record
from runtime.support.files import JsonValue

MOST_TOKENS = 256
"""Of one text, from its beginning."""


@record
class JudgedToken:
    """`probability` is that of the token itself; its loss is the negative logarithm. `likeliest` may be another."""

    text: str
    probability: float
    loss: float
    likeliest: str
    likeliest_probability: float


@record
class JudgedText:
    """The tokens that count, up to the first 256 of `count`."""

    place: str
    target: str
    tokens: tuple[JudgedToken, ...]
    count: int

    @property
    def mean_loss(self) -> float:
        """Over the tokens that are shown."""
        return float(np.mean([token.loss for token in self.tokens])) if self.tokens else math.nan

    @property
    def perplexity(self) -> float:
        with np.errstate(over="ignore"):
            return float(np.exp(self.mean_loss))

    def to_json(self) -> dict[str, JsonValue]:
        tokens = [
            {
                "text": token.text,
                "probability": _number(token.probability),
                "loss": _number(token.loss),
                "likeliest": token.likeliest,
                "likeliest_probability": _number(token.likeliest_probability),
            }
            for token in self.tokens
        ]
        loss = _number(self.mean_loss)
        return {"row": self.place, "target": self.target, "count": self.count, "mean_loss": loss, "tokens": tokens}


def judged_text(
    place: str, target: str, scores: Array, truth: Array, counts: Array, names: tuple[str, ...]
) -> JudgedText:
    """Of scores [time, classes] and the true classes [time], where `counts` [time] says so."""
    places = np.flatnonzero(counts)
    logs = log_probabilities(scores[places[:MOST_TOKENS]])
    tokens: list[JudgedToken] = []
    for row, right in zip(logs, truth[places].tolist(), strict=False):
        best = int(row.argmax())
        likely = math.exp(row[right]), -float(row[right])
        tokens.append(JudgedToken(names[int(right)], *likely, names[best], math.exp(row[best])))
    return JudgedText(place, target, tuple(tokens), len(places))


def log_probabilities(scores: Array) -> Array:
    """Logarithms of probabilities [..., classes], in 64 bits: of probabilities themselves, else of logits.

    Rows are probabilities where none is negative and each sums to 1. The softmax of log-probabilities is themselves.
    """
    wide = scores.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        if wide.size and bool((wide >= 0).all()) and bool((np.abs(wide.sum(axis=-1) - 1) < 1e-3).all()):
            return np.log(wide)
        shifted = wide - wide.max(axis=-1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _number(value: float) -> JsonValue:
    return value if math.isfinite(value) else None
