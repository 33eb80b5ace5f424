"""Passes over a source that is read block by block: each value is checked and prepared, and the rows become a pack."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from compiler.errors.diagnostics import CheckpointError, DataError, size
from runtime.data.conditions import Condition
from runtime.data.cutting import columns_of_cuts, oversampled
from runtime.data.dataset import BlockSource, Dataset, Field, RowBlock, columns_at
from runtime.data.making import (
    PartMaker,
    lengths_of_texts,
    matched,
    notes_of_unused,
    part_in_columns,
    preparation_for,
    target_column,
)
from runtime.data.part import Part
from runtime.data.preparation import Preparation, preparation_from_json, rows_without_gaps, vocabulary_of
from runtime.data.specs import Array, Cuts, DataSource, InputSpec, dtype_of, row_shape
from runtime.data.streaming.cutting import CODES, TRAIN, expect_room_of_cut, in_memory, part_codes
from runtime.data.streaming.looks import Looks
from runtime.data.streaming.packs import Pack, PackCache, PackWriter, usual_packs
from runtime.data.streaming.rows import FILE, LENGTH, NUMBER, ROW
from runtime.data.streaming.statistics import fitted_by_blocks
from runtime.data.streaming.store import RowStore
from runtime.data.text.rows import TextRemarks
from runtime.support.files import JsonValue, file_identity
from runtime.support.freed_memory import give_back_memory

_FORM = "rows 3"  # another where packs come to mean something else
WHOLE = "whole"
"""The part of a pack that has all rows."""


class Maker(Protocol):
    """Something that makes a pack, and knows one that it made."""

    def made(self, writer: PackWriter, folder: Path) -> Pack:
        """The finished pack. Raises DataError, OSError."""
        ...

    def understands(self, pack: Pack) -> bool:
        """Whether a pack that was found tells what this one would."""
        ...


def name_of_pack(opened: BlockSource, specs: Sequence[InputSpec], source: DataSource, others: Sequence[object]) -> str:
    """All that decides the rows of a pack."""
    described = [[s.name, str(s.type), s.low, s.high, s.is_target, s.mask_of] for s in specs]
    files = opened.files if opened.test is None else (*opened.files, *opened.test.files)
    told = [_FORM, source.format, source.options, described, [file_identity(file) for file in files], *others]
    return json.dumps(told, default=str)


def name_of_cuts(cuts: Cuts) -> list[object]:
    """All that decides to which part a row belongs."""
    draws = any(cut is not None and cut.way != "where" for cut in cuts.of_data)
    return [str(cuts.of_data), cuts.seed if draws else 0]


def packed(name: str, maker: Maker) -> Pack:
    """The pack of that name, which is made where there is none."""
    cache = usual_packs()
    found = _known(cache, name, maker)
    if found is not None:
        return found
    with cache.making(name) as writer:
        made = _known(cache, name, maker) or maker.made(writer, cache.folder.path)
    give_back_memory()
    return made


def _known(cache: PackCache, name: str, maker: Maker) -> Pack | None:
    found = cache.get(name)
    return found if found is not None and maker.understands(found) else None


class Packing:
    """One pass over a source, whose blocks become rows of a pack."""

    def __init__(
        self, specs: Sequence[InputSpec], opened: BlockSource, condition: Condition | None, preparation: Preparation
    ) -> None:
        self.specs, self.opened, self.condition, self.preparation = specs, opened, condition, preparation
        self.reading = opened  # of which blocks are read now: the source, or its test part
        self.maker = PartMaker(specs, opened.head.notes, TextRemarks(), _places_in(opened.head))
        self.words: dict[str, set[str]] = {name: set() for name in preparation.vocabularies}
        self.files = {file: number for number, file in enumerate(opened.files)}
        self.may_drop = True  # rows that miss a value, where the training left these out
        self._begin: int | None = None  # the place of the first row that the condition chose
        self._read = self._chosen = self._kept = self._written = 0

    def made(self, writer: PackWriter, folder: Path) -> Pack:
        """The finished pack. Raises DataError, OSError."""
        raise NotImplementedError

    def needed(self, also: Sequence[str] = ()) -> list[str]:
        """The fields that are read."""
        used = [name for names in self.preparation.columns.values() for name in names]
        chosen = () if self.condition is None else tuple(self.condition.columns.values())
        head = self.opened.head
        return list(dict.fromkeys((*used, *columns_at((*also, *chosen), tuple(head.fields), head.path))))

    def fields_of(self, block: RowBlock) -> dict[str, Field]:
        return fields_of_block(self.reading.head, block)

    def understands(self, pack: Pack) -> bool:
        """Whether a pack that was found tells what a packing does."""
        try:
            preparation_from_json(pack.told["preparation"])
            listed = pack.told["notes"], pack.told["files"]
            is_whole = isinstance(pack.told["fingerprints"], dict) and pack.parts.keys() & {"train", WHOLE}
        except (KeyError, CheckpointError):
            return False
        is_whole = is_whole and all(part.arrays.keys() >= {ROW, NUMBER, FILE} for part in pack.parts.values())
        return bool(is_whole) and all(isinstance(texts, list) for texts in listed)

    def kept(self, opened: BlockSource, names: Sequence[str]) -> Iterator[RowBlock]:
        """The blocks, without rows that a condition or a missing value leaves out; the words of all are noted."""
        for block in opened.blocks(names):
            if self.condition is not None:
                block = self._chosen_rows(block, self.condition)
            else:
                self._read += len(block.numbers)
            self._chosen += len(block.numbers)
            for name, words in self.words.items():
                words.update(block.arrays[name].tolist())
            if self.may_drop and self.preparation.table and self.preparation.missing == "drop":
                block = _rows_of(block, rows_without_gaps(self.preparation, self.fields_of(block)))
            self._kept += len(block.numbers)
            if len(block.numbers):
                yield block
        self._refuse_nothing()

    def see_chosen(self, first: int, last: int, count: int) -> None:
        """Look at the places of the first and last of `count` rows that a condition has chosen so far."""

    def _chosen_rows(self, block: RowBlock, condition: Condition) -> RowBlock:
        mask = condition.mask(self.fields_of(block))
        places = np.flatnonzero(mask)
        if len(places):
            last = self._read + int(places[-1])
            self._begin = self._read + int(places[0]) if self._begin is None else self._begin
            self.see_chosen(self._begin, last, self._chosen + len(places))
        self._read += len(block.numbers)
        return _rows_of(block, mask)

    def write(self, writer: PackWriter, block: RowBlock, parts: Mapping[str, Array | slice]) -> None:
        """Prepare the rows of a block, and put those of each part behind the others of it."""
        fields = self.fields_of(block)
        try:
            part = self.part_of(fields)
        except DataError as error:
            if block.place:
                error.args = (f"{error.args[0]} ({block.place})",)
            raise
        origin = np.full(len(block.numbers), self.files.setdefault(block.file, len(self.files)), np.int32)
        places = np.arange(self._written, self._written + len(block.numbers))
        self._written += len(block.numbers)
        arrays: dict[str, Array] = {**part.arrays, ROW: places, NUMBER: block.numbers, FILE: origin}
        lengths = lengths_of_texts(self.opened.head, part.arrays)
        if lengths is not None:
            arrays[LENGTH] = lengths.astype(np.int32)
        for name, rows in parts.items():
            writer.append(name, {n: array[rows] for n, array in arrays.items()})

    def part_of(self, fields: Mapping[str, Field]) -> Part:
        return self.maker.everything(fields, self.preparation)

    def told(self, fingerprints: Mapping[str, str]) -> dict[str, JsonValue]:
        return {
            "preparation": self.preparation.to_json(),
            "notes": list(dict.fromkeys((*self.maker.notes, *self.maker.remarks))),
            "fingerprints": dict(fingerprints),
            "files": [str(file) for file in self.files],
        }

    def _refuse_nothing(self) -> None:
        path = self.opened.head.path
        if not self.may_drop:
            return
        if not self._read:
            raise DataError("there are no rows", path, fix="add the rows")
        if self.condition is not None:
            if not self._chosen:
                raise DataError(f"no row satisfies `{self.condition.text}`", path, fix="change `rows`")
            self.maker.notes.append(f"{path.name}: {self._chosen} of {self._read} rows satisfy `{self.condition.text}`")
        if not self._kept:
            fix = "choose other columns with `columns`, or fill in values"
            raise DataError("every row misses a value", path, fix=fix)
        if self._kept < self._chosen:
            left_out = f"{self._chosen - self._kept} of {self._chosen} rows miss a value and are left out"
            self.maker.notes.append(f"{path.name}: {left_out}")


class TrainingPacking(Packing):
    """The rows of a training in its parts, with all that is learnt from them."""

    def __init__(
        self,
        specs: Sequence[InputSpec],
        opened: BlockSource,
        condition: Condition | None,
        cuts: Cuts,
        preparation: Preparation,
    ) -> None:
        super().__init__(specs, opened, condition, preparation)
        self._cuts, self._cut_by = cuts, columns_of_cuts(cuts)
        self._looks = Looks(specs, opened.head)
        table = opened.head.table
        self._scaling = "" if table is None else table.normalise
        self._fits = bool(self._scaling) or self.preparation.missing == "mean"

    def made(self, writer: PackWriter, folder: Path) -> Pack:
        names, head = self.needed(self._cut_by), self.opened.head
        if self.opened.held > 2 * self._block_bytes:
            held, block = size(self.opened.held), size(self._block_bytes)
            self.maker.notes.append(
                f"{head.path.name}: a row group takes up to {held} while it is read, and a block has {block}; "
                "smaller row groups take less"
            )
        if unused := sorted((set(head.fields) - set(names)) | set(head.unread)):
            self.maker.notes += notes_of_unused(head.path, unused)
        if self._fits or self.words or any(self._cuts.of_data) or self._cuts.oversample:
            with RowStore(folder) as store:
                for block in self.kept(self.opened, names):
                    store.append(block)
                self._write_parts(writer, store, names, folder)
        else:
            for block in self.kept(self.opened, names):
                self._write_rows(writer, block, {"train": slice(None)})
        self._write_test(writer, names)
        self.preparation = replace(self.preparation, looks=self._looks.found())
        prints = dict(self.opened.fingerprints())
        if self.opened.test is not None:
            prints |= self.opened.test.fingerprints()
        return writer.finish(self.told(prints))

    def _write_parts(self, writer: PackWriter, store: RowStore, names: Sequence[str], folder: Path) -> None:
        texts = {n: vocabulary_of(Field(_texts(words), self.opened.head.path)) for n, words in self.words.items()}
        self.preparation = replace(self.preparation, vocabularies=texts)
        codes = self._codes(store)
        if self._fits:
            is_text = frozenset(name for name, field in self.opened.head.fields.items() if field.is_text)
            self.preparation = fitted_by_blocks(
                self.preparation,
                store,
                lambda first, end: codes[first:end] == TRAIN,
                self.specs,
                self._scaling,
                is_text,
                folder,
            )
        times = self._times(store, codes)
        first = 0
        for block in store.blocks(names):
            here, often = (each[first : first + len(block.numbers)] for each in (codes, times))
            first += len(block.numbers)
            chosen = {part: np.flatnonzero(here == code) for part, code in CODES.items()}
            chosen["train"] = np.repeat(chosen["train"], often[chosen["train"]])
            self._write_rows(writer, block, {part: rows for part, rows in chosen.items() if len(rows)})

    def _write_rows(self, writer: PackWriter, block: RowBlock, parts: Mapping[str, Array | slice]) -> None:
        self.write(writer, block, parts)
        if "train" in parts:
            rows = parts["train"] if isinstance(parts["train"], slice) else np.unique(parts["train"])
            self._looks.see(self.fields_of(block), self.preparation, rows)

    def _write_test(self, writer: PackWriter, names: Sequence[str]) -> None:
        """The part that the format sets aside for testing, where the program names no other."""
        if self.opened.test is None:
            return
        if self._cuts.test is not None:
            path = self.opened.head.path
            self.maker.notes.append(f"{path.name}: its own test part is not used, because the program names another")
            return
        self.reading, self._written = self.opened.test, 0  # its rows have numbers of their own
        for block in self.opened.test.blocks(names):
            self.write(writer, block, {"test": slice(None)})

    def _codes(self, store: RowStore) -> Array:
        target = target_column(self.specs, self.preparation)
        return codes_of_store(self.opened.head, store, self._cuts, target, self._block_bytes)

    def _times(self, store: RowStore, codes: Array) -> Array:
        """How often each row is taken, of which those to train on may come again."""
        if not self._cuts.oversample:
            return np.broadcast_to(np.int64(1), len(codes))
        head, column = self.opened.head, self._cuts.oversample
        (column,) = columns_at((column,), tuple(head.fields), head.path)
        expect_room_of_cut(head, store.rows, self._block_bytes, "oversample")
        dataset = in_memory(head, [fields_of_block(head, block) for block in store.blocks([column])])
        rows, remark = oversampled(dataset, column, np.flatnonzero(codes == TRAIN), self._cuts.seed)
        self.maker.notes.append(remark)
        return np.bincount(rows, minlength=len(codes))

    @property
    def _block_bytes(self) -> int:
        return self._cuts.stream * sum(dtype_of(s).itemsize * math.prod(row_shape(s)) for s in self.specs)


def codes_of_store(head: Dataset, store: RowStore, cuts: Cuts, target: str, room: int) -> Array:
    """The code (u8) of the part of each row in a store, as `part_codes`. Raises DataError."""
    if not any(cuts.of_data):
        return np.zeros(store.rows, np.uint8)
    columns = list(dict.fromkeys(name for name in (*columns_of_cuts(cuts), target) if name))

    def blocks() -> Iterator[tuple[int, Mapping[str, Field]]]:
        first = 0
        for block in store.blocks(columns):
            yield first, fields_of_block(head, block)
            first += len(block.numbers)

    return part_codes(head, store.rows, blocks, cuts, target, room)


def fields_of_block(head: Dataset, block: RowBlock) -> dict[str, Field]:
    known = head.fields
    has_own_files = has_files_side_by_side(head)
    return {
        name: replace(
            known[name], values=array, file=known[name].file if has_own_files else block.file, row_numbers=block.numbers
        )
        for name, array in block.arrays.items()
    }


def has_files_side_by_side(head: Dataset) -> bool:
    """Whether each field lies in a file of its own, with the same rows."""
    return len({field.file for field in head.fields.values()}) > 1


class PartPacking(Packing):
    """The rows of a further source, prepared by what a training has learnt."""

    def __init__(
        self,
        specs: Sequence[InputSpec],
        opened: BlockSource,
        condition: Condition | None,
        saved: Preparation,
        may_drop: bool = True,
    ) -> None:
        head = opened.head
        self._in_columns = saved.is_of_columns and head.table is None and head.text is None
        found = matched(specs, head) if self._in_columns else preparation_for(head, specs, saved)
        super().__init__(specs, opened, condition, found)
        self._saved, self.words, self.may_drop = saved, {}, may_drop

    def made(self, writer: PackWriter, folder: Path) -> Pack:
        for block in self.kept(self.opened, self.needed()):
            self.write(writer, block, {WHOLE: slice(None)})
        return writer.finish(self.told(self.opened.fingerprints()))

    def part_of(self, fields: Mapping[str, Field]) -> Part:
        if self._in_columns:
            return part_in_columns(self.specs, fields, self._saved)
        return super().part_of(fields)


def _rows_of(block: RowBlock, keep: Array) -> RowBlock:
    """The rows for which `keep` is true."""
    if bool(keep.all()):
        return block
    arrays = {name: array[keep] for name, array in block.arrays.items()}
    return RowBlock(arrays, block.file, block.numbers[keep], block.place)


def _places_in(head: Dataset) -> dict[str, str]:
    """The names by which remarks on the texts of all blocks know them."""
    return {} if head.text is None else {name: field.file.name for name, field in head.fields.items()}


def _texts(words: set[str]) -> Array:
    found: Array = np.empty(len(words), np.object_)
    found[:] = list(words)
    return found
