"""Data larger than memory to the parts of a training or an evaluation: read once, block by block, and packed on disk.

Each value is prepared and checked in that pass, as the same value in memory would be. What was packed is found again by
the identity of files and settings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from compiler.errors.diagnostics import size
from runtime.data.conditions import Condition
from runtime.data.cutting import columns_of_cuts
from runtime.data.dataset import BlockSource, Dataset, RowBlock
from runtime.data.making import matched, named_for_only_input, notes_of_unused, target_column
from runtime.data.part import LoadedData, LoadedPart, Part, RowNames, loaded_data
from runtime.data.preparation import Preparation, preparation_from_json
from runtime.data.reading import opened_blocks
from runtime.data.specs import Cuts, DataSource, InputSpec, SettingValue
from runtime.data.streaming.cutting import CODES
from runtime.data.streaming.packing import (
    WHOLE,
    PartPacking,
    TrainingPacking,
    has_files_side_by_side,
    name_of_cuts,
    name_of_pack,
    packed,
)
from runtime.data.streaming.packs import Pack
from runtime.data.streaming.reader import blocks_in_order
from runtime.data.streaming.rows import FILE, NUMBER, OnDemand, RowStream, all_rows
from runtime.data.streaming.series import text_parts, text_preparation, tokenizers_of_text, whole_text
from runtime.data.streaming.tables import table_parts, whole_table
from runtime.data.streaming.texts import tokenizers_of_blocks
from runtime.data.text.tokenizer import Tokenizer
from runtime.data.windows import refuse_classes


def load_stream(
    specs: Sequence[InputSpec], source: DataSource, cuts: Cuts, known: Preparation | None = None
) -> LoadedData:
    """As `load_training_data`, with parts that stay on disk. Raises DataError."""
    opened, condition = opened_blocks(source, specs, also=columns_of_cuts(cuts))
    if opened.head.windows is not None and opened.head.text is not None:
        return _load_text(specs, source, opened, cuts, known)
    if opened.head.windows is not None:
        return _load_series(specs, source, opened, condition, cuts)
    preparation, told = matched(specs, opened.head), [*name_of_cuts(cuts)]
    if cuts.oversample:
        told += [cuts.oversample, cuts.seed]
    if opened.head.text is not None:
        preparation = replace(preparation, tokenizers=_tokenizers(specs, opened, source, cuts, preparation, known))
        told.append([tokenizer.to_json() for tokenizer in preparation.tokenizers.values()])
    packing = TrainingPacking(specs, opened, condition, cuts, preparation)
    pack = packed(name_of_pack(opened, specs, source, told), packing)
    preparation = preparation_from_json(pack.told["preparation"])
    notes = [*cast("Sequence[str]", pack.told["notes"]), _note_of(opened, pack, cuts.stream)]
    heads = dict.fromkeys(CODES, opened.head)
    if opened.test is not None and cuts.test is None:
        heads["test"] = opened.test.head
    parts = {part: _part_of(pack, part, cuts.stream, head, preparation) for part, head in heads.items()}
    dataset = replace(opened.head, fingerprints=cast("Mapping[str, str]", pack.told["fingerprints"]))
    return _with_further(specs, source, dataset, parts, preparation, cuts, notes)


def _load_text(
    specs: Sequence[InputSpec], source: DataSource, opened: BlockSource, cuts: Cuts, known: Preparation | None
) -> LoadedData:
    """Windows of a running text."""
    if cuts.oversample:
        refuse_classes(opened.head.path)
    tokenizers = tokenizers_of_text(opened, source, cuts) if known is None else known.tokenizers
    preparation = text_preparation(specs, opened, tokenizers)
    parts, notes = text_parts(specs, opened, source, preparation, cuts)
    dataset = replace(opened.head, fingerprints=opened.fingerprints())
    return _with_further(specs, source, dataset, parts, preparation, cuts, notes)


def _load_series(
    specs: Sequence[InputSpec], source: DataSource, opened: BlockSource, condition: Condition | None, cuts: Cuts
) -> LoadedData:
    """Windows of a table."""
    if cuts.oversample:
        refuse_classes(opened.head.path)
    parts, preparation, pack, notes = table_parts(specs, opened, condition, source, cuts)
    dataset = replace(opened.head, fingerprints=cast("Mapping[str, str]", pack.told["fingerprints"]))
    return _with_further(specs, source, dataset, parts, preparation, cuts, notes)


def _with_further(
    specs: Sequence[InputSpec],
    source: DataSource,
    dataset: Dataset,
    parts: dict[str, Part | None],
    preparation: Preparation,
    cuts: Cuts,
    notes: list[str],
) -> LoadedData:
    """The data of a training, with the sources that the cuts name."""
    for part, given in (("validation", cuts.validation), ("test", cuts.test)):
        if isinstance(given, DataSource):
            loaded = load_stream_part(specs, given, preparation, cuts.stream)
            parts[part] = loaded.part
            notes += loaded.notes
    train = parts["train"]
    assert train is not None, "no cut leaves a training without rows"
    found = train, parts.get("validation"), parts.get("test")
    return loaded_data(dataset, source, found, preparation, cuts.seed, notes)


def load_stream_part(
    specs: Sequence[InputSpec], source: DataSource, preparation: Preparation, block: int
) -> LoadedPart:
    """All rows of a further source, or its test part, prepared as in the training. Raises DataError."""
    opened, condition = opened_blocks(source, specs, preparation, is_training=False)
    opened = opened.test or opened
    if opened.head.windows is not None and opened.head.text is not None:
        return whole_text(specs, opened, source, preparation, block)
    if opened.head.windows is not None:
        return whole_table(specs, opened, condition, source, preparation, block)
    name = name_of_pack(opened, specs, source, [preparation.to_json()])
    pack = packed(name, PartPacking(specs, opened, condition, preparation))
    part = _part_of(pack, WHOLE, block, opened.head, preparation)
    assert part is not None, "a pass without rows is refused"
    part = replace(part, fingerprints=cast("Mapping[str, str]", pack.told["fingerprints"]))
    return LoadedPart(part, (*cast("Sequence[str]", pack.told["notes"]), _note_of(opened, pack, block)))


def parts_for_prediction(
    specs: Sequence[InputSpec],
    source: DataSource,
    preparation: Preparation,
    options: Mapping[str, SettingValue],
    block: int,
) -> Iterator[LoadedPart]:
    """The rows of a source, or its test part, block by block, each prepared as in the training. Raises DataError.

    The last ones have no rows, and the remarks on all. Rows of a series overlap: it is packed first, and blocks of at
    most `block` windows are read.
    """
    opened, condition = opened_blocks(source, specs, preparation, options, is_training=False)
    opened = _with_only_input(opened.test or opened, specs)
    if opened.head.windows is not None:
        stream = whole_table(specs, opened, condition, source, preparation, block).part.stream
        assert stream is not None, "a table is packed"
        for _, arrays in blocks_in_order(stream, 1):
            own = {name: array.copy() for name, array in arrays.items()}  # they are read over
            yield LoadedPart(Part(own, all_rows(len(next(iter(own.values()))))), ())
        yield LoadedPart(Part({}, np.zeros(0, np.int64)), opened.head.notes)
        return
    packing = PartPacking(specs, opened, condition, preparation, may_drop=False)
    for rows in packing.kept(opened, packing.needed()):
        yield LoadedPart(packing.part_of(packing.fields_of(rows)), ())
    unused = notes_of_unused(opened.head.path, opened.head.unread)
    yield LoadedPart(Part({}, np.zeros(0, np.int64)), tuple(dict.fromkeys((*packing.maker.notes, *unused))))


def _with_only_input(opened: BlockSource, specs: Sequence[InputSpec]) -> BlockSource:
    """A file of one array without a name of its own holds the only input, as `named_for_only_input` says of a whole."""
    head = named_for_only_input(opened.head, specs)
    if head is opened.head:
        return opened
    ((own,), (name,)) = opened.head.fields, head.fields

    def blocks(names: Sequence[str]) -> Iterator[RowBlock]:
        del names
        for block in opened.blocks([own]):
            yield replace(block, arrays={name: block.arrays[own]})

    return replace(opened, head=head, blocks=blocks)


def _tokenizers(
    specs: Sequence[InputSpec],
    opened: BlockSource,
    source: DataSource,
    cuts: Cuts,
    preparation: Preparation,
    known: Preparation | None,
) -> Mapping[str, Tokenizer]:
    if known is not None:
        return known.tokenizers
    return tokenizers_of_blocks(opened, source, cuts, target_column(specs, preparation))


def _note_of(opened: BlockSource, pack: Pack, block: int) -> str:
    rows = sum(part.rows for part in pack.parts.values())
    lie = f"{rows:,} rows are read in blocks of at most {block:,}"
    return f"{opened.head.path.name}: {lie}, from {size(pack.bytes)} in {pack.folder.path}"


def _part_of(pack: Pack, name: str, block: int, head: Dataset, preparation: Preparation) -> Part | None:
    packed = pack.parts.get(name)
    if packed is None:
        return None
    stream = RowStream(pack.folder, packed, block)
    files = tuple(map(Path, cast("Sequence[str]", pack.told["files"])))
    has_own_files = has_files_side_by_side(head)

    def names_of(name: str) -> RowNames:
        own = head.fields.get(next(iter(preparation.columns.get(name, ())), ""))
        if own is not None and has_own_files:
            return RowNames(own.file, stream.mapped(NUMBER))
        return RowNames(files[0], stream.mapped(NUMBER), (), stream.mapped(FILE), files)

    names = OnDemand(list(preparation.columns), names_of)
    return Part(stream.arrays(), all_rows(packed.rows), names=names, stream=stream)
