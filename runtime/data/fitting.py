"""Fits a preparation to data: categories from all rows, everything else from those of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from compiler.errors.diagnostics import DataError
from runtime.data.dataset import Field, TextPlan
from runtime.data.preparation import Preparation, Scale
from runtime.data.specs import Array, InputSpec
from runtime.data.text.tokenizer import Tokenizer, learnt


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
            raise DataError(
                f"column `{name}` has no value{more}",
                field.file,
                field.row_number(int(np.argmax(missing))),
                _missing_fix(spec, field),
            )


def _missing_fix(spec: InputSpec, field: Field) -> str:
    drop = 'give csv `missing = "drop"` to leave out such rows'
    if spec.is_target or field.is_text:
        return f"fill in the value, or {drop}"
    return f'fill in the value, or {drop}, or `missing = "mean"` to put the mean of the training rows'


def fitted(
    preparation: Preparation, fields: Mapping[str, Field], specs: Sequence[InputSpec], rows: Array, normalise: bool
) -> Preparation:
    """The preparation with the means (`missing = "mean"`) and scales (`normalise`) of the given rows.

    Both concern columns of numbers that feed inputs, scales only those of float inputs. Deviations divide by n.
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
                # A constant column has no spread to divide by, whatever rounding makes of its deviation.
                deviation = float(present.std()) if present.min() < present.max() else 1.0
                scales[name] = Scale(float(present.mean()), deviation)
    return replace(preparation, fills=fills, scales=scales)


def _missing(field: Field) -> Array:
    return field.values == "" if field.is_text else np.isnan(field.values)
