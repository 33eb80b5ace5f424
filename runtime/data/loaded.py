"""Loaded data: the rows of each part, their preparation, and remarks for the user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from compiler.support.record import record
from runtime.data.dataset import Dataset
from runtime.data.part import Part
from runtime.data.preparation import Preparation
from runtime.data.specs import DataSource
from runtime.support.files import JsonObject, JsonValue


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


def summary_of(
    dataset: Dataset,
    source: DataSource,
    parts: Mapping[str, Part | None],
    preparation: Preparation,
    seed: int,
    notes: Sequence[str],
) -> dict[str, JsonValue]:
    """The run's `data.json`."""
    return {
        "format": dataset.format,
        "path": str(dataset.path),
        "options": dict(source.options),
        "fingerprints": dict(dataset.fingerprints),
        "rows": {name: len(part.rows) for name, part in parts.items() if part is not None},
        "split_seed": seed,
        "preparation": preparation.to_json(),
        "notes": list(dict.fromkeys(notes)),
    }


def fraction_of(part: float | DataSource | None) -> float:
    """The share of the data that a part is; 0 where it has a source of its own."""
    return 0.0 if part is None or isinstance(part, DataSource) else part
