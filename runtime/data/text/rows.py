"""Texts to rows of token numbers of one length, and the masks that say how long each text is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from compiler.errors.diagnostics import DataError
from runtime.data.dataset import SYNONYMS, Field
from runtime.data.preparation import Preparation
from runtime.data.specs import Array, InputSpec, dtype_of, row_shape
from runtime.data.text.tokenizer import END, PAD, START, UNKNOWN, Tokenizer

NOWHERE: Mapping[str, str] = MappingProxyType({})


class TextRemarks:
    """How many texts are cut or filled up, over all rows that are made one after the other."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], tuple[int, int, Callable[[int, int], str]]] = {}

    def add(self, kind: str, name: str, count: int, rows: int, told: Callable[[int, int], str]) -> None:
        """`count` of `rows` further texts of a field; `told` makes the remark of the sums."""
        before = self._counts.get((kind, name), (0, 0, told))
        self._counts[kind, name] = before[0] + count, before[1] + rows, told

    def notes(self) -> list[str]:
        return [told(count, rows) for count, rows, told in self._counts.values() if count]


class TextRows:
    """The inputs and targets that are made of fields of text; each field is encoded once.

    Remarks name the file of a field, or the place that `places` gives it.
    """

    def __init__(
        self,
        fields: Mapping[str, Field],
        preparation: Preparation,
        remarks: TextRemarks,
        places: Mapping[str, str] = NOWHERE,
    ) -> None:
        self._fields, self._preparation, self._remarks, self._places = fields, preparation, remarks, places
        self._encoded: dict[str, list[Array]] = {}

    def takes(self, spec: InputSpec) -> bool:
        names = self._preparation.columns.get(spec.mask_of or spec.name, ())
        return bool(names) and names[0] in self._preparation.readings

    def array(self, spec: InputSpec) -> Array:
        """The tokens [rows, time] of an input, filled up with `<pad>`, or where a mask is asked for, the mask."""
        name = self._preparation.columns[spec.mask_of or spec.name][0]
        if name == SYNONYMS and spec.mask_of is None:
            return self._synonyms(spec, name)
        longest = longest_row(spec)
        if spec.mask_of is not None:
            return np.arange(longest) < self.lengths(name)[:, None]
        check_vocabulary(spec, self._tokenizer(name), self._fields[name])
        rows = self._rows(name)
        array: Array = np.full((len(rows), longest), PAD, dtype_of(spec))
        for row, numbers in zip(array, rows, strict=True):
            row[: len(numbers)] = numbers[:longest]
        place = self._place_of(name)

        def told(count: int, of: int) -> str:
            return f"{place}: {count} of {of} texts of `{name}` are longer than {longest} and are cut"

        self._remarks.add(f"cut to {longest}", name, int((self.lengths(name) > longest).sum()), len(rows), told)
        return array

    def note_filling(self, spec: InputSpec) -> None:
        """Say which texts are filled up, of an input that has no mask."""
        name = self._preparation.columns[spec.name][0]
        lengths, longest = self.lengths(name), longest_row(spec)
        place = self._place_of(name)

        def told(count: int, of: int) -> str:
            said = f"{count} of {of} texts of `{name}` are shorter than {longest}"
            return (
                f"{place}: {said} and are filled up with `<pad>`, which counts as text without `padded by` in the model"
            )

        if name != SYNONYMS:
            self._remarks.add(f"filled up to {longest}", name, int((lengths < longest).sum()), len(lengths), told)

    def lengths(self, name: str) -> Array:
        """How many tokens each text of a field has, with its ends."""
        return np.array([len(numbers) for numbers in self._rows(name)], np.int64)

    def _place_of(self, name: str) -> str:
        return self._places.get(name, self._fields[name].file.name)

    def _synonyms(self, spec: InputSpec, name: str) -> Array:
        """For each token [rows, time, k] k synonyms, in turn where there are fewer; its own number without any."""
        shape = row_shape(spec)
        if len(shape) != 2 or dtype_of(spec).kind not in "iu":
            message = f"`{spec.name}: {spec.type}` takes a row of numbers for each token"
            raise DataError(message, str(spec.span), fix=f"declare it as `{spec.name}: i32[batch, time, 3]`")
        longest, count = shape
        tokenizer = self._tokenizer(name)
        table: Array = np.repeat(np.arange(len(tokenizer))[:, None], count, axis=1)
        for words in self._fields[name].synonyms:
            word, *others = (numbers[0] for numbers in tokenizer.encode(words) if len(numbers))
            known = [int(other) for other in others if other != UNKNOWN]
            if known and word != UNKNOWN:
                table[word] = [known[k % len(known)] for k in range(count)]
        found: Array = np.full((len(self._rows(name)), longest, count), PAD, dtype_of(spec))
        for row, numbers in zip(found, self._rows(name), strict=True):
            row[: len(numbers)] = table[numbers[:longest]]
        return found

    def _tokenizer(self, name: str) -> Tokenizer:
        return self._preparation.tokenizers[self._preparation.readings[name].vocabulary]

    def _rows(self, name: str) -> list[Array]:
        if name not in self._encoded:
            reading = self._preparation.readings[name]
            start = np.array([START] * reading.start, np.int32)
            end = np.array([END] * reading.end, np.int32)
            found = self._tokenizer(name).encode([str(text) for text in self._fields[name].values])
            self._encoded[name] = [np.concatenate([start, numbers, end]) for numbers in found]
        return self._encoded[name]


def longest_row(spec: InputSpec) -> int:
    """The second extent of an input or target of tokens. Raises DataError for another shape."""
    shape = row_shape(spec)
    if len(shape) != 1 or (spec.mask_of is None and dtype_of(spec).kind not in "iu"):
        message = f"`{spec.name}: {spec.type}` takes tokens, which are a row of whole numbers for each text"
        raise DataError(message, str(spec.span), fix=f"declare it as `{spec.name}: i32[batch, time]`")
    return shape[0]


def check_vocabulary(spec: InputSpec, tokenizer: Tokenizer, field: Field) -> None:
    """That the declared range holds every token. Raises DataError."""
    low, high = spec.low or 0, spec.high
    limit = np.iinfo(dtype_of(spec).name).max
    if low > 0 or len(tokenizer) > (limit if high is None else high):
        said = f"`{spec.name}` is declared {spec.type.dtype.value} in {low}..{limit if high is None else high}"
        fix = f"declare it `in 0..vocab`, where the data says `vocab`, or bound it: `vocabulary = {high or limit}`"
        raise DataError(f"the vocabulary has {len(tokenizer)} tokens: {said}", field.file, fix=fix)
