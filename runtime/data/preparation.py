"""The preparation of fields as inputs and targets: fitted to the training data, saved with the run, and applied later.

Categories come from all rows, everything else from those of training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, field, replace

import numpy as np

from compiler.errors.diagnostics import CheckpointError, DataError
from compiler.support.record import record
from runtime.data.dataset import Field, Reading, TextPlan
from runtime.data.specs import Array, InputSpec
from runtime.data.text.tokenizer import Tokenizer, learnt, tokenizer_from_json
from runtime.support.files import JsonValue
from runtime.support.restored import restored


@record
class Scale:
    """The scaling of one column: `(x - centre) / spread`; a constant column has spread 1.

    Centre and spread are mean and deviation, the least number and the range, or the median and the distance of the
    quartiles.
    """

    centre: float
    spread: float


@record
class Look:
    """The numbers of an input that holds pictures, in the training data: its format, the range of the numbers, and how
    light the edges of the pictures are, from 0 to 1.
    """

    format: str
    least: float
    most: float
    edge: float


@record
class Preparation:
    """`columns`: input or target -> the fields that it is made of, in order. The other mappings go by field.

    `vocabularies`: the categories of a text field; the integer fed to the model is the position. `classes`: what the
    integers of a field stand for, by its format.
    `fills`: the training mean that stands for a missing number. `table`: every column of the training table.
    `readings`: the fields of text that become tokens, by the `tokenizers`.
    `buckets` are the sizes at which batches of texts are computed, as in `Part`.
    `looks`, by input, serve pictures that are to be predicted.
    """

    columns: Mapping[str, tuple[str, ...]]
    vocabularies: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    fills: Mapping[str, float] = field(default_factory=dict[str, float])
    scales: Mapping[str, Scale] = field(default_factory=dict[str, Scale])
    table: tuple[str, ...] = ()
    missing: str = "error"
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    tokenizers: Mapping[str, Tokenizer] = field(default_factory=dict[str, Tokenizer])
    readings: Mapping[str, Reading] = field(default_factory=dict[str, Reading])
    buckets: tuple[Mapping[str, int], ...] = ()
    looks: Mapping[str, Look] = field(default_factory=dict[str, Look])

    @property
    def is_plain(self) -> bool:
        """Whether nothing was learnt from the data, so that other data needs nothing but its own content."""
        return not (self.scales or self.fills or self.vocabularies or self.tokenizers)

    @property
    def is_of_columns(self) -> bool:
        """Whether the columns of the training table were made into something else, and arrays have to be as well."""
        return bool(self.table) and not self.is_plain

    def tokenizer_of(self, name: str) -> Tokenizer | None:
        """The tokenizer of an input or target of tokens."""
        fields = self.columns.get(name, ())
        reading = self.readings.get(fields[0]) if len(fields) == 1 else None
        return None if reading is None else self.tokenizers[reading.vocabulary]

    def vocabulary_of(self, name: str) -> tuple[str, ...] | None:
        """The categories of an input or target, for decoding predictions; None where it holds numbers."""
        fields = self.columns.get(name, ())
        return self.vocabularies.get(fields[0], self.classes.get(fields[0])) if len(fields) == 1 else None

    def to_json(self) -> JsonValue:
        return asdict(self)


def preparation_from_json(value: JsonValue) -> Preparation:
    """The inverse of `Preparation.to_json`. Raises CheckpointError where `value` is something else."""
    later = ("tokenizers", "classes", "readings", "buckets", "looks")  # than the first runs
    try:
        found = restored(Preparation, value, later, {Tokenizer: tokenizer_from_json, Scale: _scale_from_json})
        if any(scale.spread <= 0 for scale in found.scales.values()):
            raise ValueError("a spread that is not positive")
        if not {reading.vocabulary for reading in found.readings.values()} <= found.tokenizers.keys():
            raise ValueError("the reading of a text without its tokenizer")
        return found
    except ValueError as error:
        fix = "use another run, or train again to get a whole one"
        raise CheckpointError(f"the saved preparation of the data holds {error}", fix=fix) from None


def _scale_from_json(value: JsonValue) -> Scale:
    """A scale; older runs call its numbers `mean` and `deviation`."""
    if isinstance(value, Mapping) and "deviation" in value:
        value = {"centre": value.get("mean"), "spread": value["deviation"]}
    return restored(Scale, value)


def vocabulary_of(field: Field) -> tuple[str, ...]:
    """The distinct texts in order: by value if all are numbers, otherwise by code point. Missing ones do not count."""
    texts = {str(text) for text in field.values.flat} - {""}
    try:
        return tuple(sorted(texts, key=lambda text: (float(text), text)))
    except ValueError:
        return tuple(sorted(texts))


def tokenizers_of(plan: TextPlan, fields: Mapping[str, Field], rows: Array) -> dict[str, Tokenizer]:
    """A tokenizer for each vocabulary, from the given rows of every field that is read by it."""
    found: dict[str, Tokenizer] = {}
    for vocabulary in dict.fromkeys(reading.vocabulary for reading in plan.readings.values()):
        readers = [fields[name] for name, reading in plan.readings.items() if reading.vocabulary == vocabulary]
        distinct = {id(field.values): field for field in readers}.values()
        texts = (str(text) for field in distinct for text in field.values[rows])
        synonyms = (word for field in distinct for words in field.synonyms for word in words)
        found[vocabulary] = learnt(plan.rules, (*texts, *synonyms))
    return found


def rows_without_gaps(preparation: Preparation, fields: Mapping[str, Field]) -> Array:
    """A boolean for each row: true where no field in use is missing."""
    used = {name for names in preparation.columns.values() for name in names}
    return np.logical_and.reduce([~_missing(fields[name]) for name in sorted(used)])


def refuse_missing(preparation: Preparation, fields: Mapping[str, Field], specs: Sequence[InputSpec]) -> None:
    """Raise DataError at the first missing value for which the preparation has no mean to put there."""
    for spec in specs:
        for name in preparation.columns[spec.name]:
            field = fields[name]
            missing = _missing(field)
            is_filled = name in preparation.fills and not spec.is_target
            if is_filled or not bool(missing.any()):
                continue
            count = int(missing.sum())
            more = f" (as in {count - 1} further rows)" if count > 1 else ""
            message = f"column `{name}` has no value{more}"
            row = int(np.argmax(missing))
            raise DataError(message, field.file_of(row), field.row_number(row), _missing_fix(spec, field))


def _missing_fix(spec: InputSpec, field: Field) -> str:
    drop = 'give the data `missing = "drop"` to leave out such rows'
    if spec.is_target or field.is_text:
        return f"fill in the value, or {drop}"
    return f'fill in the value, or {drop}, or `missing = "mean"` to put the mean of the training rows'


def fitted(
    preparation: Preparation, fields: Mapping[str, Field], specs: Sequence[InputSpec], rows: Array, normalise: str
) -> Preparation:
    """The preparation with the means (`missing = "mean"`) and scales (`normalise`) of the given rows.

    Both concern columns of numbers that feed inputs, scales only those of float inputs.
    """
    fills: dict[str, float] = {}
    scales: dict[str, Scale] = {}
    for spec in (s for s in specs if not s.is_target):
        for name in (n for n in preparation.columns[spec.name] if not fields[n].is_text):
            values = fields[name].values[rows]
            present = values[~np.isnan(values)]
            if len(present) == 0:
                raise DataError(
                    f"column `{name}` has no value in any training row", fields[name].file, fix="leave the column out"
                )
            if preparation.missing == "mean":
                fills[name] = float(present.mean())
            if normalise and spec.type.dtype.is_float:
                scales[name] = _scale_of(present, normalise)
    return replace(preparation, fills=fills, scales=scales)


def _scale_of(present: Array, scaling: str) -> Scale:
    """The scale of numbers. Deviations divide by n; quartiles are interpolated linearly."""
    least, most = float(present.min()), float(present.max())
    centre, spread = {
        "standard": lambda: (float(present.mean()), float(present.std())),
        "min-max": lambda: (least, most - least),
        "robust": lambda: _middle(present),
    }[scaling]()
    # A constant column has no spread to divide by, whatever rounding makes of its deviation.
    return Scale(centre, spread if least < most and spread > 0 else 1.0)


def _middle(present: Array) -> tuple[float, float]:
    """The median, and how far the quartiles lie apart."""
    first, median, third = (float(q) for q in np.quantile(present, [0.25, 0.5, 0.75]))
    return median, third - first


def _missing(field: Field) -> Array:
    return field.values == "" if field.is_text else np.isnan(field.values)
