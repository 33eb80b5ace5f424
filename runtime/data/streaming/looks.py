"""The looks of pictures that are seen block by block: the ranges of their numbers, and how light their edges are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from compiler.support.record import record
from runtime.data.dataset import Dataset, Field
from runtime.data.pictures import looks_of
from runtime.data.preparation import Look, Preparation
from runtime.data.specs import Array, InputSpec


@record
class _Seen:
    """Of the pictures of an input so far: the range of the numbers, the sum of the edges, and how many there were."""

    least: float
    most: float
    edges: float
    rows: int


class Looks:
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
