"""Rows of data as people know them, which of them a report shows, and the probabilities of the tokens of texts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, field

import numpy as np

from compiler.driver import Array, InputSpec
from compiler.support.record import record
from compiler.types import array_type
from runtime.data.part import Part
from runtime.data.preparation import Preparation
from runtime.support.files import JsonValue, finite
from runtime.support.pictures import no_larger, picture_of, square_picture_of

RIGHT, WRONG, ANY, WORST = "right", "wrong", "any", "worst"
_TYPICAL, _WORST = 4, 8  # rows of each kind
_LEAST_SIDE = 8  # of values in two axes that are taken for a picture
_LARGEST_SIDE = 160
_MOST_COLUMNS, _MOST_LETTERS = 16, 1000
_PICTURES = ("image", "images", "picture", "pixels")  # names of inputs whose values [n * n] are a square picture


@record
class ShownValue:
    """A value of a row: in words, or by column, and its picture u8[channels, height, width] where it is one.

    `left_out` columns are not shown.
    """

    name: str
    text: str = ""
    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    left_out: int = 0
    picture: Array | None = None

    def to_json(self) -> JsonValue:
        return dict(self.columns) if self.columns else self.text


@record
class ShownRow:
    """`kind`: one of those right, or of the worst that are wrong; of a model without classes one of any, or of the
    worst. `predictions` are those of the model, in the words of the data."""

    kind: str
    place: str
    loss: float
    inputs: tuple[ShownValue, ...]
    targets: tuple[ShownValue, ...]
    predictions: tuple[ShownValue, ...]

    def to_json(self) -> dict[str, JsonValue]:
        parts = {"inputs": self.inputs, "targets": self.targets, "predictions": self.predictions}
        shown = {part: {value.name: value.to_json() for value in values} for part, values in parts.items()}
        return {"kind": self.kind, "row": self.place, "loss": finite(self.loss), **shown}


def chosen_rows(losses: Array, is_right: Array | None) -> list[tuple[str, int]]:
    """The places of the rows to be shown, with their kind; `losses` and `is_right` have an element for each row.

    Typical ones are spread evenly over the rows of their kind; the worst have the highest losses, of equals the first,
    and a loss that is not finite is above all others.
    """
    ranked = np.argsort(-np.where(np.isfinite(losses), losses, np.inf), kind="stable")
    if is_right is None:
        worst = ranked[:_WORST]
        typical = _spread(np.setdiff1d(np.arange(len(losses)), worst))
        return [*((ANY, int(row)) for row in typical), *((WORST, int(row)) for row in worst)]
    wrong = ranked[~is_right[ranked]][:_WORST]
    return [*((RIGHT, int(row)) for row in _spread(np.flatnonzero(is_right))), *((WRONG, int(row)) for row in wrong)]


def place_of(part: Part, row: int) -> str:
    """`digits.csv.gz, row 17`: as messages about the data count; of a series, the step at which the window begins."""
    names = next(iter(part.names.values()), None)
    if names is None:
        return f"window from step {row + 1:,}"
    folder = names.file if names.files and names.file.is_dir() else names.file.parent
    file = names.files[row] if names.files else names.file
    shown = str(file.relative_to(folder)) if file.is_relative_to(folder) else file.name
    return f"{shown}, row {names.of(row):,}"


def shown_value(spec: InputSpec, values: Array, preparation: Preparation | None) -> ShownValue:
    """An input or target of one row, as it stands in the data: not scaled, and categories by their names."""
    tokenizer = None if preparation is None else preparation.tokenizer_of(spec.name)
    if tokenizer is not None:
        return ShownValue(spec.name, _cut(tokenizer.decode(values.reshape(-1).tolist())))
    names = () if preparation is None else preparation.columns.get(spec.name, ())
    is_of_columns = preparation is not None and bool(preparation.table) and len(names) == values.size
    picture = _picture(spec.name, values, is_of_columns)
    if preparation is not None and is_of_columns and picture is None:
        words = [_cell(name, value, preparation) for name, value in zip(names, values.reshape(-1), strict=True)]
        if len(words) == 1:
            return ShownValue(spec.name, words[0])
        columns = dict(list(zip(names, words, strict=True))[:_MOST_COLUMNS])
        return ShownValue(spec.name, described(values), columns, len(names) - len(columns))
    words_of = None if preparation is None else preparation.vocabulary_of(spec.name)
    return ShownValue(spec.name, described(values, words_of), picture=picture)


def shown_output(name: str, output: Array, inputs: Sequence[ShownValue], arrays: Sequence[Array]) -> ShownValue:
    """An output of one row, as a picture where it has as many numbers as an input that is one, as of an autoencoder."""
    for shown, values in zip(inputs, arrays, strict=True):
        if shown.picture is not None and values.size == output.size > 1:
            return ShownValue(
                name, described(output), picture=_picture(shown.name, output.reshape(values.shape), False)
            )
    return ShownValue(name, described(output))


def described(values: Array, words: Sequence[str] | None = None) -> str:
    """A number or its word; a few of them, or a few runs of equal ones, in order; of other arrays type and range."""
    if values.size == 1:
        return _number(values.reshape(-1)[0].item(), words)
    is_counted = values.dtype.kind in "biu"
    if values.ndim == 1 and is_counted and (found := _runs(values, words)):
        return found
    if 0 < values.size <= _MOST_COLUMNS and values.ndim == 1:
        return ", ".join(f"{value:.5g}" for value in values.tolist())
    kind = array_type(values)
    if not values.size:
        return kind
    if values.dtype.kind == "b":
        return f"{kind}, {np.count_nonzero(values):,} of {values.size:,} true"
    numbers = values.astype(np.float64)
    return f"{kind} from {numbers.min():.5g} to {numbers.max():.5g}, mean {numbers.mean():.5g}"


def _runs(values: Array, words: Sequence[str] | None) -> str:
    """Classes of a sequence in order, such as `0 × 30, 4, 0 × 12`; nothing where equal ones hardly stand together."""
    begins = np.flatnonzero(np.diff(values, prepend=~values[:1]))
    if not 0 < len(begins) <= _MOST_COLUMNS:
        return ""
    counts = np.diff(begins, append=len(values)).tolist()
    shown = (_number(value, words, thousands="") for value in values[begins].tolist())
    if len(values) <= _MOST_COLUMNS:
        return ", ".join(name for name, count in zip(shown, counts, strict=True) for _ in range(count))
    return ", ".join(f"{name} × {count:,}" if count > 1 else name for name, count in zip(shown, counts, strict=True))


def _number(number: object, words: Sequence[str] | None, thousands: str = ",") -> str:
    match number:
        case bool():
            return "true" if number else "false"
        case int() if words is not None and 0 <= number < len(words):
            return _cut(words[number])
        case int():
            return f"{number:{thousands}}"
        case _:
            return f"{number:.6g}"


def _cell(name: str, value: Array, preparation: Preparation) -> str:
    words = preparation.classes.get(name, preparation.vocabularies.get(name))
    scale = preparation.scales.get(name)
    if scale is not None:
        return f"{float(value) * scale.spread + scale.centre:.6g}"
    return described(np.asarray(value), words)


def _picture(name: str, values: Array, is_of_columns: bool) -> Array | None:
    found = square_picture_of(values) if name in _PICTURES else None
    is_flat = values.ndim == 2 and min(values.shape) >= _LEAST_SIDE
    if found is None and (is_flat or values.ndim == 3) and not is_of_columns:
        found = picture_of(values)
    return None if found is None else no_larger(found, _LARGEST_SIDE)


def _spread(rows: Array) -> Array:
    """A few of the rows, spread evenly from the first to the last."""
    count = min(_TYPICAL, len(rows))
    return rows[np.arange(count) * max(len(rows) - 1, 0) // max(count - 1, 1)]


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_LETTERS else text[:_MOST_LETTERS] + "…"


MOST_TOKENS = 256
"""Of one text, from its beginning."""


@record
class JudgedToken:
    """A token or class at a place of its row. `probability` is that of itself; its loss is the negative logarithm.

    `likeliest` may be another.
    """

    place: int
    text: str
    probability: float
    loss: float
    likeliest: str
    likeliest_probability: float


@record
class JudgedText:
    """The tokens of a row that count, up to the first 256 of `count`.

    Where the data has no tokenizer for the target, they are classes, such as those of the nodes of a graph.
    """

    place: str
    target: str
    are_classes: bool
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
            {name: finite(value) if isinstance(value, float) else value for name, value in asdict(token).items()}
            for token in self.tokens
        ]
        loss = finite(self.mean_loss)
        head = {"row": self.place, "target": self.target, "are_classes": self.are_classes}
        return {**head, "count": self.count, "mean_loss": loss, "tokens": tokens}


def judged_text(
    place: str, target: str, are_classes: bool, scores: Array, truth: Array, counts: Array, names: tuple[str, ...]
) -> JudgedText:
    """Of scores [time, classes] and the true classes [time], where `counts` [time] says so."""
    places = np.flatnonzero(counts)
    logs = log_probabilities(scores[places[:MOST_TOKENS]])
    tokens: list[JudgedToken] = []
    for at, row, right in zip(places.tolist(), logs, truth[places].tolist(), strict=False):
        best = int(row.argmax())
        likely = math.exp(row[right]), -float(row[right])
        tokens.append(JudgedToken(at, names[int(right)], *likely, names[best], math.exp(row[best])))
    return JudgedText(place, target, are_classes, tuple(tokens), len(places))


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
