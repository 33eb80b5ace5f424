"""Rows of data for one purpose: their cut into parts, their order in an epoch, and their form as programs take it.

Order and cut follow from a seed alone. Programs take an element type, and numbers that an augmentation asks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compiler import driver
from compiler.driver import Array, Program
from compiler.support.record import record
from runtime.data.dataset import Dataset
from runtime.data.orders import by_length, epoch_order, shift_of_windows
from runtime.data.preparation import Preparation
from runtime.data.specs import DataSource
from runtime.support.files import JsonObject, JsonValue

if TYPE_CHECKING:
    from runtime.data.streaming.rows import BlockStream


@record
class RowNames:
    """The file from which rows come, and their numbers there; without any, they count from 1.

    `files` are those of the rows, where each row is a file.
    """

    file: Path
    numbers: Array | None = None
    files: tuple[Path, ...] = ()
    origin: Array | None = None  # and `origins`: as in `Field`
    origins: tuple[Path, ...] = ()

    def of(self, row: int) -> int:
        """The name of row `row` (from 0) in a message."""
        return row + 1 if self.numbers is None else int(self.numbers[row])

    def file_of(self, row: int) -> Path:
        """The file from which row `row` (from 0) comes."""
        return self.file if self.origin is None else self.origins[int(self.origin[row])]


@record
class Part:
    """`arrays` hold every row of a source by input or target; `rows` (i64) says which belong to this part.

    Rows that are windows of a series begin up to `slack` steps later, drawn anew for each epoch. Where `lengths` of
    all rows are given, a batch of training takes rows of similar length. `buckets` are the sizes at which batches are
    computed, by the names of dimensions; the last is that of the program. `names` are what the rows of `arrays` are
    called, where they come from rows of a file. Arrays that are `lasting` stay as they are while anybody has them.
    Where all this lies on disk, `stream` reads blocks of it, and each of `arrays`, `rows` and `names` is made when it
    is asked for. `fingerprints` are those of the files of a validation or test part that has a source of its own.
    """

    arrays: Mapping[str, Array]
    rows: Array
    slack: int = 0
    lengths: Array | None = None
    buckets: tuple[Mapping[str, int], ...] = ()
    names: Mapping[str, RowNames] = field(default_factory=dict[str, RowNames])
    lasting: bool = False
    stream: BlockStream | None = None
    fingerprints: Mapping[str, str] = field(default_factory=dict[str, str])


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
    named = {n: part for n, part in zip(("train", "validation", "test"), parts, strict=True) if part is not None}
    notes = tuple(dict.fromkeys(notes))
    summary: dict[str, JsonValue] = {
        "format": dataset.format,
        "path": str(dataset.path),
        "options": dict(source.options),
        "fingerprints": dict(dataset.fingerprints),
        "fingerprints_of_parts": {name: dict(part.fingerprints) for name, part in named.items() if part.fingerprints},
        "rows": {name: len(part.rows) for name, part in named.items()},
        "split_seed": seed,
        "preparation": preparation.to_json(),
        "notes": list(notes),
    }
    return LoadedData(*parts, preparation, summary, notes, 0 if dataset.text is None else dataset.text.buckets)


def streamed(part: Part, stream: BlockStream) -> Part:
    """The part with other inputs of the same rows on disk."""
    return replace(part, arrays=stream.arrays(), stream=stream)


def in_precision(part: Part, dtype: str) -> Part:
    """With `f64`, every f32 is widened, as it is in the program."""
    if dtype != "f64":
        return part
    if part.stream is not None:
        return streamed(part, part.stream.widened())
    wide = {name: a.astype(in_dtype(a.dtype, dtype), copy=False) for name, a in part.arrays.items()}
    return replace(part, arrays=wide)


def lasting(part: Part) -> Part:
    """The part with views of its arrays that stand for them as they are now: whoever uses it changes none of them.

    Blocks of rows from disk take turns in the same memory.
    """
    if part.stream is not None:
        return part
    return replace(part, arrays={name: array.view() for name, array in part.arrays.items()}, lasting=True)


def in_dtype(element: np.dtype[Any], dtype: str) -> np.dtype[Any]:
    """The element type that arrays of `element` have in such a program."""
    return np.dtype(np.float64) if dtype == "f64" and element == np.float32 else element


def numbered(program: Program, part: Part) -> Part:
    """The part with the numbers of its rows, where the program changes samples by them."""
    if program.augmentation is None:
        return part
    if part.stream is not None:
        return streamed(part, part.stream.with_numbers())
    rows = len(next(iter(part.arrays.values())))
    return replace(part, arrays={**part.arrays, driver.SAMPLE_NUMBERS: np.arange(rows, dtype=np.int64)})


def at_epoch(arrays: Mapping[str, Array], epoch: int) -> Mapping[str, Array]:
    """The inputs of training in an epoch, which counts from 0."""
    if driver.SAMPLE_NUMBERS not in arrays:
        return arrays
    return {**arrays, driver.EPOCH_NUMBER: np.array(epoch, np.int64)}


def rows_of_epoch(part: Part, seed: int, epoch: int, batch: int) -> Array:
    """The rows (i64) of a part in the order in which epoch `epoch` takes them, `batch` at a time."""
    if part.stream is not None:
        return part.stream.order_of_epoch(seed, epoch, batch)
    rows = part.rows[epoch_order(len(part.rows), seed, epoch)]
    if part.slack:
        rows = rows + shift_of_windows(seed, epoch) % (part.slack + 1)
    if part.lengths is not None:
        rows = by_length(rows, part.lengths[rows], batch, seed, epoch)
    return rows
