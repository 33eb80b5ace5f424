"""A table that memory does not hold to windows of its rows: what programs take of each row is packed once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from compiler.errors.diagnostics import size
from runtime.data.conditions import Condition
from runtime.data.cutting import split_steps
from runtime.data.dataset import BlockSource, Field
from runtime.data.part import LoadedPart, Part
from runtime.data.preparation import Preparation, preparation_from_json
from runtime.data.reading import refuse_gaps
from runtime.data.specs import Array, Cuts, DataSource, InputSpec, dtype_of
from runtime.data.streaming.packing import WHOLE, Packing, name_of_cuts, name_of_pack, packed
from runtime.data.streaming.packs import Pack, PackWriter
from runtime.data.streaming.statistics import fitted_by_blocks
from runtime.data.streaming.store import RowStore
from runtime.data.streaming.windows import Window, part_of_windows
from runtime.data.windows import (
    WindowForm,
    further_preparation,
    reach_of,
    steps_of_table,
    table_preparation,
    table_windows,
)

_PARTS = ("train", "validation", "test")  # in the order of their places in the series


def table_parts(
    specs: Sequence[InputSpec], opened: BlockSource, condition: Condition | None, source: DataSource, cuts: Cuts
) -> tuple[dict[str, Part | None], Preparation, Pack, list[str]]:
    """The windows of each part of a series, as `load_series` gives them; what is learnt; remarks. Raises DataError."""
    preparation = table_preparation(specs, opened.head)
    table_windows(specs, opened.head, preparation)  # what does not fit is told before the pass
    name = name_of_pack(opened, specs, source, ["steps", *name_of_cuts(cuts)])
    pack = packed(name, _SeriesPacking(specs, opened, condition, preparation, cuts))
    preparation = preparation_from_json(pack.told["preparation"])
    steps = pack.parts[WHOLE].rows
    borders = (0, *split_steps(steps, cuts, opened.head.path), steps)
    found: dict[str, Part | None] = {}
    for number, (part, given) in enumerate(zip(_PARTS, (True, cuts.validation, cuts.test), strict=True)):
        if given and not isinstance(given, DataSource):
            place = borders[number], borders[number + 1]
            found[part] = _windows_of(pack, part, place, specs, opened, preparation, cuts.stream)
    return found, preparation, pack, _notes_of(opened, pack, cuts.stream)


def whole_table(
    specs: Sequence[InputSpec],
    opened: BlockSource,
    condition: Condition | None,
    source: DataSource,
    preparation: Preparation,
    block: int,
) -> LoadedPart:
    """All windows of a further series, as `series_part`. Raises DataError."""
    preparation = further_preparation(specs, opened.head, preparation)
    table_windows(specs, opened.head, preparation)
    name = name_of_pack(opened, specs, source, ["steps", preparation.to_json()])
    pack = packed(name, _SeriesPacking(specs, opened, condition, preparation))
    part = _windows_of(pack, WHOLE, (0, pack.parts[WHOLE].rows), specs, opened, preparation, block)
    part = replace(part, fingerprints=cast("Mapping[str, str]", pack.told["fingerprints"]))
    return LoadedPart(part, tuple(_notes_of(opened, pack, block)))


class _SeriesPacking(Packing):
    """Packs what each input and target takes of every row; with `cuts`, what is learnt comes from the training part."""

    def __init__(
        self,
        specs: Sequence[InputSpec],
        opened: BlockSource,
        condition: Condition | None,
        preparation: Preparation,
        cuts: Cuts | None = None,
    ) -> None:
        super().__init__(specs, opened, condition, preparation)
        self._cuts = cuts
        table = opened.head.table
        assert table is not None
        self._scaling, self._fills = table.normalise, table.missing == "mean"

    def made(self, writer: PackWriter, folder: Path) -> Pack:
        names = self.needed()
        if self._cuts is not None and (self._scaling or self._fills):
            with RowStore(folder) as store:
                for block in self.kept(self.opened, names):
                    store.append(block)
                self.preparation = self._fitted(store, folder, self._cuts)
                for block in store.blocks(names):
                    self.write(writer, block, {WHOLE: slice(None)})
        else:
            for block in self.kept(self.opened, names):
                self.write(writer, block, {WHOLE: slice(None)})
        return writer.finish(self.told(self.opened.fingerprints()))

    def part_of(self, fields: Mapping[str, Field]) -> Part:
        return Part(steps_of_table(self.specs, fields, self.preparation), np.zeros(0, np.int64))

    def see_chosen(self, first: int, last: int, count: int) -> None:
        assert self.condition is not None
        refuse_gaps(self.opened.head.path, self.condition, first, last, count)

    def _fitted(self, store: RowStore, folder: Path, cuts: Cuts) -> Preparation:
        border, _ = split_steps(store.rows, cuts, self.opened.head.path)
        texts = frozenset(name for name, field in self.opened.head.fields.items() if field.is_text)

        def is_of_training(first: int, end: int) -> Array:
            return np.arange(first, end) < border

        return fitted_by_blocks(self.preparation, store, is_of_training, self.specs, self._scaling, texts, folder)


def _windows_of(
    pack: Pack,
    name: str,
    place: tuple[int, int],
    specs: Sequence[InputSpec],
    opened: BlockSource,
    preparation: Preparation,
    block: int,
) -> Part:
    """The windows that belong to the steps from the one of `place` to before the other."""
    places = table_windows(specs, opened.head, preparation)
    windows = {spec.name: Window(*places[spec.name], dtype_of(spec), spec.name) for spec in specs}
    steps = max(first + max(count, 1) for first, count in places.values())
    plan = opened.head.windows
    assert plan is not None
    form = WindowForm(steps, reach_of(specs, places), plan.stride or 1, 1, opened.head.path)
    return part_of_windows(pack, WHOLE, block, windows, steps, form.placed(name, *place), 0, place[1])


def _notes_of(opened: BlockSource, pack: Pack, block: int) -> list[str]:
    rows = pack.parts[WHOLE].rows
    lie = f"{rows:,} rows are read in blocks of at most {block:,} windows"
    note = f"{opened.head.path.name}: {lie}, from {size(pack.bytes)} in {pack.folder.path}"
    return [*cast("Sequence[str]", pack.told["notes"]), note]
