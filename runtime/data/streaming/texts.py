"""The vocabularies of texts that stay on disk, and their lengths: found by a pass, and kept as a pack without rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np

from compiler.errors.diagnostics import DataError
from runtime.data.cutting import columns_of_cuts
from runtime.data.dataset import BlockSource, TextPlan
from runtime.data.preparation import Preparation
from runtime.data.specs import Array, Cuts, DataSource
from runtime.data.streaming.cutting import TRAIN
from runtime.data.streaming.packing import codes_of_store, fields_of_block, name_of_cuts, name_of_pack, packed
from runtime.data.streaming.packs import Pack, PackWriter
from runtime.data.streaming.store import RowStore
from runtime.data.text.rows import TextRemarks, TextRows
from runtime.data.text.tokenizer import Tokenizer, learnt, tokenizer_from_json
from runtime.support.files import JsonObject, JsonValue

_BYTES_OF_A_ROW = 1 << 10  # of texts in a block, by which a cut in memory is allowed before their length is known


def tokenizers_of_blocks(opened: BlockSource, source: DataSource, cuts: Cuts, target: str) -> Mapping[str, Tokenizer]:
    """As `learnt_tokenizers`: from the texts of the training part. Raises DataError."""
    learning = _Vocabularies(opened, cuts, target)
    pack = packed(name_of_pack(opened, (), source, ["tokens", target, *name_of_cuts(cuts)]), learning)
    return _tokenizers_in(pack)


def learnt_by_pass(name: str, tokenizers: Callable[[], dict[str, JsonValue]]) -> Mapping[str, Tokenizer]:
    """The tokenizers of a pack of that name, which are learnt where there is none."""
    return _tokenizers_in(packed(name, _Told(tokenizers)))


class _Told:
    """Keeps tokenizers as a pack without rows."""

    def __init__(self, tokenizers: Callable[[], dict[str, JsonValue]]) -> None:
        self._tokenizers = tokenizers

    def made(self, writer: PackWriter, folder: Path) -> Pack:
        del folder
        return writer.finish({"tokenizers": self._tokenizers()})

    def understands(self, pack: Pack) -> bool:
        return _is_told(lambda: _tokenizers_in(pack))


def longest_texts(
    opened: BlockSource, source: DataSource, tokenizers: Mapping[str, Tokenizer], names: Sequence[str]
) -> Mapping[str, int]:
    """The most tokens that a text of each field has, of all rows."""
    measuring = _Lengths(opened, tokenizers, names)
    told = ["lengths", list(names), {name: tokenizer.to_json() for name, tokenizer in tokenizers.items()}]
    return _lengths_in(packed(name_of_pack(opened, (), source, told), measuring), names)


class _Vocabularies:
    """Learns a tokenizer for each vocabulary."""

    def __init__(self, opened: BlockSource, cuts: Cuts, target: str) -> None:
        self._opened, self._cuts, self._target = opened, cuts, target

    def made(self, writer: PackWriter, folder: Path) -> Pack:
        head, plan = self._opened.head, self._plan
        names = list(dict.fromkeys(n for n in (*plan.readings, *columns_of_cuts(self._cuts), self._target) if n))
        with RowStore(folder) as store:
            for block in self._opened.blocks(names):
                store.append(block)
            if not store.rows:
                raise DataError("there is no text in it", head.path, fix="check that this is the right file")
            room = _BYTES_OF_A_ROW * self._cuts.stream
            codes = codes_of_store(head, store, self._cuts, self._target, room)
            found: dict[str, JsonValue] = {
                vocabulary: learnt(plan.rules, self._texts(store, codes, vocabulary)).to_json()
                for vocabulary in dict.fromkeys(reading.vocabulary for reading in plan.readings.values())
            }
        return writer.finish({"tokenizers": found})

    def understands(self, pack: Pack) -> bool:
        return _is_told(lambda: _tokenizers_in(pack))

    @property
    def _plan(self) -> TextPlan:
        assert self._opened.head.text is not None
        return self._opened.head.text

    def _texts(self, store: RowStore, codes: Array, vocabulary: str) -> Iterator[str]:
        """What `tokenizers_of` learns from: the texts of training of each field by itself, and then synonyms."""
        fields = self._opened.head.fields
        readers = [name for name, reading in self._plan.readings.items() if reading.vocabulary == vocabulary]
        distinct = {id(fields[name].values): name for name in reversed(readers)}
        for name in dict.fromkeys(name for name in readers if name in distinct.values()):
            first = 0
            for block in store.blocks([name]):
                is_chosen = codes[first : first + len(block.numbers)] == TRAIN
                first += len(block.numbers)
                yield from block.arrays[name][is_chosen].tolist()
        for name in distinct.values():
            for words in fields[name].synonyms:
                yield from words


class _Lengths:
    """Measures the texts of some fields."""

    def __init__(self, opened: BlockSource, tokenizers: Mapping[str, Tokenizer], names: Sequence[str]) -> None:
        self._opened, self._names = opened, names
        assert opened.head.text is not None
        columns = {name: (name,) for name in names}
        self._preparation = Preparation(columns, tokenizers=tokenizers, readings=opened.head.text.readings)

    def made(self, writer: PackWriter, folder: Path) -> Pack:
        del folder
        longest = dict.fromkeys(self._names, 0)
        for block in self._opened.blocks(self._names):
            rows = TextRows(fields_of_block(self._opened.head, block), self._preparation, TextRemarks())
            for name in self._names:
                longest[name] = max(longest[name], int(np.max(rows.lengths(name), initial=0)))
        return writer.finish({"lengths": cast("JsonObject", longest)})

    def understands(self, pack: Pack) -> bool:
        return _is_told(lambda: _lengths_in(pack, self._names))


def _is_told(read: Callable[[], object]) -> bool:
    try:
        read()
    except (KeyError, ValueError, TypeError, AttributeError):
        return False
    return True


def _tokenizers_in(pack: Pack) -> dict[str, Tokenizer]:
    told = cast("JsonObject", pack.told["tokenizers"])
    return {name: tokenizer_from_json(value) for name, value in told.items()}


def _lengths_in(pack: Pack, names: Sequence[str]) -> dict[str, int]:
    told = cast("Mapping[str, int]", pack.told["lengths"])
    return {name: int(told[name]) for name in names}
