"""Rows of data for one purpose, and all that a training needs: each part, the preparation, remarks for the user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path

from compiler.support.record import record
from runtime.data.dataset import Dataset
from runtime.data.preparation import Preparation
from runtime.data.specs import Array, DataSource
from runtime.support.files import JsonObject, JsonValue


@record
class RowNames:
    """The file from which rows come, and their numbers there; without any, they count from 1.

    `files` are those of the rows, where each row is a file.
    """

    file: Path
    numbers: Array | None = None
    files: tuple[Path, ...] = ()

    def of(self, row: int) -> int:
        """The name of row `row` (from 0) in a message."""
        return row + 1 if self.numbers is None else int(self.numbers[row])


@record
class Part:
    """`arrays` hold every row of a source by input or target; `rows` (i64) says which belong to this part.

    Rows that are windows of a series begin up to `slack` steps later, drawn anew for each epoch. Where `lengths` of
    all rows are given, a batch of training takes rows of similar length. `buckets` are the sizes at which batches are
    computed, by the names of dimensions; the last is that of the program. `names` are what the rows of `arrays` are
    called, where they come from rows of a file.
    """

    arrays: Mapping[str, Array]
    rows: Array
    slack: int = 0
    lengths: Array | None = None
    buckets: tuple[Mapping[str, int], ...] = ()
    names: Mapping[str, RowNames] = field(default_factory=dict[str, RowNames])


@record
class LoadedData:
    """The data of a training. `summary` is the run's `data.json`; `notes` are remarks for the user.

    Batches are computed at up to `most_sizes` lengths; None stands for as many as pay.
    """

    train: Part
    validation: Part | None
    test: Part | None
    preparation: Preparation
    summary: JsonObject
    notes: tuple[str, ...]
    most_sizes: int | None = 0


@record
class LoadedPart:
    """Rows for an evaluation or a prediction, with remarks for the user, and their files where each row is one."""

    part: Part
    notes: tuple[str, ...]
    files: tuple[Path, ...] = ()


def loaded_data(
    dataset: Dataset,
    source: DataSource,
    parts: tuple[Part, Part | None, Part | None],
    preparation: Preparation,
    seed: int,
    notes: Sequence[str],
) -> LoadedData:
    """The data of a training, in parts for training, validation and test."""
    named = zip(("train", "validation", "test"), parts, strict=True)
    notes = tuple(dict.fromkeys(notes))
    summary: dict[str, JsonValue] = {
        "format": dataset.format,
        "path": str(dataset.path),
        "options": dict(source.options),
        "fingerprints": dict(dataset.fingerprints),
        "rows": {name: len(part.rows) for name, part in named if part is not None},
        "split_seed": seed,
        "preparation": preparation.to_json(),
        "notes": list(notes),
    }
    return LoadedData(*parts, preparation, summary, notes, 0 if dataset.text is None else dataset.text.buckets)


def fraction_of(part: float | DataSource | None) -> float:
    """The share of the data that a part is; 0 where it has a source of its own."""
    return 0.0 if part is None or isinstance(part, DataSource) else part
