"""How fields become inputs and targets: decided on the training data, saved with the run, applied again later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, field

from compiler.errors.diagnostics import CheckpointError
from compiler.support.record import record
from runtime.data.dataset import Reading
from runtime.data.text.tokenizer import Tokenizer, tokenizer_from_json
from runtime.support.files import JsonObject, JsonValue


@record
class Scale:
    """Standardisation of one column: `(x - mean) / deviation`; a constant column has deviation 1."""

    mean: float
    deviation: float


@record
class Preparation:
    """`columns`: input or target -> the fields that it is made of, in order. The other mappings go by field.

    `vocabularies`: the categories of a text field; the integer fed to the model is the position. `classes`: what the
    integers of a field stand for, by its format.
    `fills`: the training mean that stands for a missing number. `table`: every column of the training table.
    `readings`: the fields of text that become tokens, by the `tokenizers`.
    `buckets` are the sizes at which batches of texts are computed, as in `Part`.
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
        return {
            "columns": {name: list(fields) for name, fields in self.columns.items()},
            "vocabularies": {name: list(texts) for name, texts in self.vocabularies.items()},
            "fills": dict(self.fills),
            "scales": {name: {"mean": s.mean, "deviation": s.deviation} for name, s in self.scales.items()},
            "table": list(self.table),
            "missing": self.missing,
            "classes": {name: list(texts) for name, texts in self.classes.items()},
            "tokenizers": {name: tokenizer.to_json() for name, tokenizer in self.tokenizers.items()},
            "readings": {name: asdict(reading) for name, reading in self.readings.items()},
            "buckets": [dict(sizes) for sizes in self.buckets],
        }


def preparation_from_json(value: JsonValue) -> Preparation:
    """The inverse of `Preparation.to_json`. Raises CheckpointError where `value` is something else."""
    whole = _mapping(value)
    tokenizers = {name: _tokenizer(saved) for name, saved in _mapping(whole.get("tokenizers", {})).items()}
    readings = {name: _reading(saved) for name, saved in _mapping(whole.get("readings", {})).items()}
    if not {reading.vocabulary for reading in readings.values()} <= set(tokenizers):
        raise _damaged("the reading of a text without its tokenizer")
    return Preparation(
        {name: _texts(fields) for name, fields in _mapping(whole.get("columns")).items()},
        {name: _texts(texts) for name, texts in _mapping(whole.get("vocabularies")).items()},
        {name: _number(fill) for name, fill in _mapping(whole.get("fills")).items()},
        {name: _scale(_mapping(scale)) for name, scale in _mapping(whole.get("scales")).items()},
        _texts(whole.get("table")),
        _texts([whole.get("missing")])[0],
        {name: _texts(texts) for name, texts in _mapping(whole.get("classes", {})).items()},
        tokenizers,
        readings,
        _buckets(whole.get("buckets", [])),
    )


def _tokenizer(value: JsonValue) -> Tokenizer:
    found = tokenizer_from_json(value)
    if found is None:
        raise _damaged("something else where a tokenizer should be")
    return found


def _reading(value: JsonValue) -> Reading:
    match value:
        case {"vocabulary": str(vocabulary), "start": bool(start), "end": bool(end)}:
            return Reading(vocabulary, start, end)
        case _:
            raise _damaged("something else where the reading of a text should be")


def _scale(value: JsonObject) -> Scale:
    deviation = _number(value.get("deviation"))
    if deviation <= 0:
        raise _damaged("a deviation that is not positive")
    return Scale(_number(value.get("mean")), deviation)


def _buckets(value: JsonValue) -> tuple[Mapping[str, int], ...]:
    if not isinstance(value, list | tuple):
        raise _damaged("something else where a list of sizes should be")
    return tuple({name: int(_number(extent)) for name, extent in _mapping(sizes).items()} for sizes in value)


def _mapping(value: JsonValue) -> JsonObject:
    if isinstance(value, Mapping):
        return value
    raise _damaged("something else where names and values should be")


def _texts(value: JsonValue) -> tuple[str, ...]:
    if isinstance(value, list | tuple):
        texts = tuple(item for item in value if isinstance(item, str))
        if len(texts) == len(value):
            return texts
    raise _damaged("something else where a list of texts should be")


def _number(value: JsonValue) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise _damaged("something else where a number should be")


def _damaged(what: str) -> CheckpointError:
    return CheckpointError(
        f"the saved preparation of the data holds {what}", fix="use another run, or train again to get a whole one"
    )
