"""The list of data formats, and the choice of one by name or by the ending of a path."""

from __future__ import annotations

from pathlib import Path

from compiler.diagnostics import DataError
from runtime.data.formats.csv_table import CSV
from runtime.data.formats.format import Format
from runtime.data.formats.idx import IDX
from runtime.data.formats.numpy_arrays import NPY, NPZ
from runtime.suggestions import did_you_mean, quoted

FORMATS = (CSV, IDX, NPZ, NPY)


def format_named(name: str, place: str | None = None) -> Format:
    """The format of a data source `name("…")`. Raises DataError."""
    for known in FORMATS:
        if known.name == name:
            return known
    names = [known.name for known in FORMATS]
    raise DataError(
        f"there is no data format `{name}`{did_you_mean(name, names)}", place, fix=f"the formats are {quoted(names)}"
    )


def format_of(path: Path) -> Format:
    """The format that a path looks like: a folder is idx, a file goes by its ending. Raises DataError."""
    if path.is_dir():
        return IDX
    name = path.name.lower().removesuffix(".gz")
    for known in FORMATS:
        if name.endswith(known.endings):
            return known
    endings = [ending for known in FORMATS for ending in known.endings]
    raise DataError(
        "the format cannot be told from the ending of the name", path, fix=f"use one of {', '.join(endings)}"
    )
