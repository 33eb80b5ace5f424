"""Data larger than memory to the parts of a training or an evaluation: read once, block by block, and packed on disk.

Each value is prepared and checked in that pass, as the same value in memory would be. What was packed is found again by
the identity of files and settings.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from compiler.errors.diagnostics import CheckpointError, DataError, size
from compiler.support.record import record
from runtime.data.conditions import Condition
from runtime.data.cutting import columns_of_cuts
from runtime.data.dataset import BlockSource, Dataset, Field, RowBlock, columns_at
from runtime.data.making import PartMaker, matched, notes_of_unused, part_in_columns, preparation_for, target_column
from runtime.data.part import LoadedData, LoadedPart, Part, RowNames, loaded_data
from runtime.data.pictures import looks_of
from runtime.data.preparation import Look, Preparation, preparation_from_json, rows_without_gaps, vocabulary_of
from runtime.data.reading import opened_blocks
from runtime.data.specs import Array, Cuts, DataSource, InputSpec, SettingValue, dtype_of, row_shape
from runtime.data.streaming.cutting import CODES, TRAIN, part_codes
from runtime.data.streaming.packs import Pack, PackCache, PackWriter, usual_packs
from runtime.data.streaming.rows import FILE, NUMBER, ROW, OnDemand, RowStream, all_rows
from runtime.data.streaming.statistics import fitted_by_blocks
from runtime.data.streaming.store import RowStore
from runtime.support.files import JsonValue, explained

_FORM = "rows 3"  # another where packs come to mean something else
_WHOLE = "whole"


def load_stream(specs: Sequence[InputSpec], source: DataSource, cuts: Cuts) -> LoadedData:
    """As `load_training_data`, with parts that stay on disk. Raises DataError."""
    if cuts.oversample:
        message = "`oversample` takes rows of rare classes more often, and data is read block by block"
        fix = "weigh classes in the loss, by `balanced(…)`; or leave out `stream`"
        raise DataError(message, fix=fix, key="oversample")
    opened, condition = opened_blocks(source, specs, also=columns_of_cuts(cuts))
    _refuse_series(opened)
    name = _name_of(opened, specs, source, [str(cuts.of_data), cuts.seed if _draws(cuts) else 0])
    packing = _TrainingPacking(specs, opened, condition, cuts)
    pack = _packed(name, packing)
    preparation = preparation_from_json(pack.told["preparation"])
    notes = [*cast("Sequence[str]", pack.told["notes"]), _note_of(opened, pack, cuts.stream)]
    parts = {part: _part_of(pack, part, cuts.stream, specs) for part in CODES}
    for part, given in (("validation", cuts.validation), ("test", cuts.test)):
        if isinstance(given, DataSource):
            loaded = load_stream_part(specs, given, preparation, cuts.stream)
            parts[part] = loaded.part
            notes += loaded.notes
    train = parts["train"]
    assert train is not None, "no cut leaves a training without rows"
    prints = cast("Mapping[str, str]", pack.told["fingerprints"])
    dataset = replace(opened.head, fingerprints=prints)
    found = train, parts["validation"], parts["test"]
    return loaded_data(dataset, source, found, preparation, cuts.seed, notes)


def load_stream_part(
    specs: Sequence[InputSpec], source: DataSource, preparation: Preparation, block: int
) -> LoadedPart:
    """All rows of a further source, or its test part, prepared as in the training. Raises DataError."""
    opened, condition = opened_blocks(source, specs, preparation, is_training=False)
    opened = opened.test or opened
    _refuse_series(opened)
    name = _name_of(opened, specs, source, [preparation.to_json()])
    pack = _packed(name, _PartPacking(specs, opened, condition, preparation))
    part = _part_of(pack, _WHOLE, block, specs)
    assert part is not None, "a pass without rows is refused"
    return LoadedPart(part, (*cast("Sequence[str]", pack.told["notes"]), _note_of(opened, pack, block)))


def parts_for_prediction(
    specs: Sequence[InputSpec], source: DataSource, preparation: Preparation, options: Mapping[str, SettingValue]
) -> Iterator[LoadedPart]:
    """The rows of a source block by block, each prepared as in the training. Raises DataError.

    The last ones have no rows, and the remarks on all. Windows of a series give none.
    """
    opened, condition = opened_blocks(source, specs, preparation, options, is_training=False)
    if opened.head.windows is not None:
        return
    packing = _PartPacking(specs, opened, condition, preparation, may_drop=False)
    for block in packing.kept(opened, packing.needed()):
        yield LoadedPart(packing.part_of(packing.fields_of(block)), ())
    unused = notes_of_unused(opened.head.path, opened.head.unread)
    yield LoadedPart(Part({}, np.zeros(0, np.int64)), tuple(dict.fromkeys((*packing.maker.notes, *unused))))


def _draws(cuts: Cuts) -> bool:
    return any(cut is not None and cut.way != "where" for cut in cuts.of_data)


def _refuse_series(opened: BlockSource) -> None:
    if opened.head.windows is not None:
        message = "windows of a series overlap, and are not read block by block"
        fix = "leave out `stream`: a series is in memory once, however many windows it has"
        raise DataError(message, opened.head.path, fix=fix, key="stream")


def _name_of(opened: BlockSource, specs: Sequence[InputSpec], source: DataSource, others: list[object]) -> str:
    """All that decides the rows of a pack."""
    described = [[s.name, str(s.type), s.low, s.high, s.is_target, s.mask_of] for s in specs]
    files = opened.files if opened.test is None else (*opened.files, *opened.test.files)
    told = [_FORM, source.format, source.options, described, [_identity(file) for file in files], *others]
    return json.dumps(told, default=str)


def _identity(file: Path) -> list[str | int]:
    with explained(DataError, file):
        status = file.stat()
    return [str(file.absolute()), status.st_size, status.st_mtime_ns]


def _packed(name: str, packing: _Packing) -> Pack:
    """The pack of that name, which is made where there is none."""
    cache = usual_packs()
    found = _known(cache, name)
    if found is not None:
        return found
    with cache.making(name) as writer:
        return _known(cache, name) or packing.made(writer, cache.folder.path)


def _known(cache: PackCache, name: str) -> Pack | None:
    """The pack of that name, where it tells what a packing does."""
    found = cache.get(name)
    if found is None:
        return None
    try:
        preparation_from_json(found.told["preparation"])
        is_whole = isinstance(found.told["fingerprints"], dict) and found.parts.keys() & {"train", _WHOLE}
        listed = (found.told["notes"], found.told["files"])
        is_whole = is_whole and all(part.arrays.keys() >= {ROW, NUMBER, FILE} for part in found.parts.values())
    except (KeyError, CheckpointError):
        return None
    return found if is_whole and all(isinstance(texts, list) for texts in listed) else None


def _note_of(opened: BlockSource, pack: Pack, block: int) -> str:
    rows = sum(part.rows for part in pack.parts.values())
    lie = f"{rows:,} rows are read in blocks of at most {block:,}"
    return f"{opened.head.path.name}: {lie}, from {size(pack.bytes)} in {pack.folder.path}"


def _part_of(pack: Pack, name: str, block: int, specs: Sequence[InputSpec]) -> Part | None:
    packed = pack.parts.get(name)
    if packed is None:
        return None
    stream = RowStream(pack.folder, packed, block)
    files = tuple(map(Path, cast("Sequence[str]", pack.told["files"])))

    def names_of(name: str) -> RowNames:
        return RowNames(files[0], stream.mapped(NUMBER), (), stream.mapped(FILE), files)

    names = OnDemand([spec.name for spec in specs], names_of)
    return Part(stream.arrays(), all_rows(packed.rows), names=names, stream=stream)


class _Packing:
    """One pass over a source, whose blocks become rows of a pack."""

    def __init__(
        self, specs: Sequence[InputSpec], opened: BlockSource, condition: Condition | None, preparation: Preparation
    ) -> None:
        self.specs, self.opened, self.condition, self.preparation = specs, opened, condition, preparation
        self.maker = PartMaker(specs, opened.head.notes)
        self.words: dict[str, set[str]] = {name: set() for name in preparation.vocabularies}
        self.files = {file: number for number, file in enumerate(opened.files)}
        self.may_drop = True  # rows that miss a value, where the training left these out
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
        known = self.opened.head.fields
        return {n: Field(a, block.file, block.numbers, known[n].classes) for n, a in block.arrays.items()}

    def kept(self, opened: BlockSource, names: Sequence[str]) -> Iterator[RowBlock]:
        """The blocks, without rows that a condition or a missing value leaves out; the words of all are noted."""
        for block in opened.blocks(names):
            self._read += len(block.numbers)
            if self.condition is not None:
                block = _rows_of(block, self.condition.mask(self.fields_of(block)))
            self._chosen += len(block.numbers)
            for name, words in self.words.items():
                words.update(block.arrays[name].tolist())
            if self.may_drop and self.preparation.table and self.preparation.missing == "drop":
                block = _rows_of(block, rows_without_gaps(self.preparation, self.fields_of(block)))
            self._kept += len(block.numbers)
            if len(block.numbers):
                yield block
        self._refuse_nothing()

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
        for name, rows in parts.items():
            writer.append(name, {n: array[rows] for n, array in arrays.items()})

    def part_of(self, fields: Mapping[str, Field]) -> Part:
        return self.maker.everything(fields, self.preparation)

    def told(self, fingerprints: Mapping[str, str]) -> dict[str, JsonValue]:
        return {
            "preparation": self.preparation.to_json(),
            "notes": list(dict.fromkeys(self.maker.notes)),
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


class _TrainingPacking(_Packing):
    """The rows of a training in its parts, with all that is learnt from them."""

    def __init__(
        self, specs: Sequence[InputSpec], opened: BlockSource, condition: Condition | None, cuts: Cuts
    ) -> None:
        super().__init__(specs, opened, condition, matched(specs, opened.head))
        self._cuts, self._cut_by = cuts, columns_of_cuts(cuts)
        self._looks = _Looks(specs, opened.head)
        table = opened.head.table
        self._scaling = "" if table is None else table.normalise
        self._fits = bool(self._scaling) or self.preparation.missing == "mean"

    def made(self, writer: PackWriter, folder: Path) -> Pack:
        names, head = self.needed(self._cut_by), self.opened.head
        if unused := sorted((set(head.fields) - set(names)) | set(head.unread)):
            self.maker.notes += notes_of_unused(head.path, unused)
        if self._fits or self.words or any(self._cuts.of_data):
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
        first = 0
        for block in store.blocks(names):
            here = codes[first : first + len(block.numbers)]
            first += len(block.numbers)
            chosen = {part: np.flatnonzero(here == code) for part, code in CODES.items()}
            self._write_rows(writer, block, {part: rows for part, rows in chosen.items() if len(rows)})

    def _write_rows(self, writer: PackWriter, block: RowBlock, parts: Mapping[str, Array | slice]) -> None:
        self.write(writer, block, parts)
        if "train" in parts:
            self._looks.see(self.fields_of(block), self.preparation, parts["train"])

    def _write_test(self, writer: PackWriter, names: Sequence[str]) -> None:
        """The part that the format sets aside for testing, where the program names no other."""
        if self.opened.test is None:
            return
        if self._cuts.test is not None:
            path = self.opened.head.path
            self.maker.notes.append(f"{path.name}: its own test part is not used, because the program names another")
            return
        self._written = 0  # its rows have numbers of their own
        for block in self.opened.test.blocks(names):
            self.write(writer, block, {"test": slice(None)})

    def _codes(self, store: RowStore) -> Array:
        if not any(self._cuts.of_data):
            return np.zeros(store.rows, np.uint8)
        target = target_column(self.specs, self.preparation)
        columns = list(dict.fromkeys(name for name in (*self._cut_by, target) if name))

        def blocks() -> Iterator[tuple[int, Mapping[str, Field]]]:
            first = 0
            for block in store.blocks(columns):
                yield first, self.fields_of(block)
                first += len(block.numbers)

        row = sum(dtype_of(s).itemsize * math.prod(row_shape(s)) for s in self.specs)
        return part_codes(self.opened.head, store.rows, blocks, self._cuts, target, row * self._cuts.stream)


class _PartPacking(_Packing):
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
            self.write(writer, block, {_WHOLE: slice(None)})
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


def _texts(words: set[str]) -> Array:
    found: Array = np.empty(len(words), np.object_)
    found[:] = list(words)
    return found


@record
class _Seen:
    """Of the pictures of an input so far: the range of the numbers, the sum of the edges, and how many there were."""

    least: float
    most: float
    edges: float
    rows: int


class _Looks:
    """The look of each input that may hold pictures, put together from blocks."""

    def __init__(self, specs: Sequence[InputSpec], head: Dataset) -> None:
        self._specs, self._head = specs, head
        self._seen: dict[str, _Seen] = {}

    def see(self, fields: Mapping[str, Field], preparation: Preparation, rows: Array | slice) -> None:
        """Look at the training rows of a block."""
        count = len(next(iter(fields.values())).values)
        dataset = Dataset(self._head.format, self._head.path, fields)
        chosen = np.arange(count)[rows]
        for name, look in looks_of(self._specs, dataset, preparation.columns, chosen).items():
            before = self._seen.get(name, _Seen(look.least, look.most, 0.0, 0))
            edge = look.least + look.edge * (look.most - look.least)
            self._seen[name] = _Seen(
                min(before.least, look.least),
                max(before.most, look.most),
                before.edges + edge * len(chosen),
                before.rows + len(chosen),
            )

    def found(self) -> dict[str, Look]:
        """The looks of all blocks together."""
        found: dict[str, Look] = {}
        for name, seen in self._seen.items():
            edge = (seen.edges / seen.rows - seen.least) / (seen.most - seen.least)
            found[name] = Look(self._head.format, seen.least, seen.most, edge)
        return found
