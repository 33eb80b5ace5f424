"""The list of data formats, and the choice of one by name or by the ending of a path."""

from __future__ import annotations

from pathlib import Path

from compiler.errors.diagnostics import DataError
from compiler.errors.suggestions import did_you_mean, quoted
from runtime.data.formats.cifar import CIFAR
from runtime.data.formats.csv_table import CSV
from runtime.data.formats.format import Format
from runtime.data.formats.idx import IDX
from runtime.data.formats.images import IMAGES
from runtime.data.formats.lines import LINES, TEXT
from runtime.data.formats.numpy_arrays import NPY, NPZ
from runtime.data.formats.pairs import PAIRS
from runtime.support.files import explained

FORMATS = (CSV, IDX, CIFAR, IMAGES, NPZ, NPY, TEXT, LINES, PAIRS)


def format_named(name: str, place: str | None = None) -> Format:
    """The format of a data source `name("…")`. Raises DataError."""
    for known in FORMATS:
        if known.name == name:
            return known
    names = [known.name for known in FORMATS]
    raise DataError(
        f"there is no data format `{name}`{did_you_mean(name, names, '; ')}",
        place,
        fix=f"the formats are {quoted(names)}",
    )


def format_of(path: Path) -> Format:
    """The format that a path looks like: a folder goes by its content, a file by its ending. Raises DataError."""
    if path.is_dir():  # the first format of which it has data; idx, which knows how to complain, where there is none
        with explained(DataError, path):
            return next((known for known in FORMATS if known.holds is not None and known.holds(path)), IDX)
    name = path.name.lower().removesuffix(".gz")
    for known in FORMATS:
        if name.endswith(known.endings):
            return known
    if not path.exists():
        raise DataError("there is no such file or folder", path, fix="check the path")
    endings = [ending for known in FORMATS for ending in known.endings]
    raise DataError(
        "the format cannot be told from the ending of the name",
        path,
        fix=f"""use one of {", ".join(endings)}, or say the format: --set 'data=lines("{path.name}")'""",
    )
