"""The data formats that `train` may name, and the forms that cut rows from the data, with their options.

The runtime gives them their meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar, cast

_TOKENS = ("tokens", "vocabulary", "min_frequency", "lower", "encoding")
_TABLE = ("header", "names", "separator")
_COLUMNS = ("target", "columns", "categories", "rows", "missing", "normalise", "window", "horizon", "stride")
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "csv": (*_TABLE, *_COLUMNS),
    "parquet": _COLUMNS,
    "arrow": _COLUMNS,
    "jsonl": _COLUMNS,
    "idx": ("images", "labels", "test_images", "test_labels"),
    "cifar": (),
    "images": ("size", "channels", "fit"),
    "npz": ("rows",),
    "npy": (),
    "text": (*_TOKENS, "stride"),
    "lines": (*_TOKENS, *_TABLE, "label", "text", "each", "longest", "ends", "bucket"),
    "pairs": (*_TOKENS, "separator", "shared", "longest", "bucket"),
}
TABLES = ("csv", "parquet", "arrow", "jsonl")
"""The formats whose fields are columns, which inputs and targets share."""
CUTS: Mapping[str, tuple[str, ...]] = {
    "stratified": ("share", "by"),
    "grouped": ("share", "by"),
    "latest": ("share", "by"),
    "where": ("condition",),
    "fold": ("number", "of"),
}


_Options = TypeVar("_Options", bound="tuple[tuple[str, object], ...]")


def options_for(format_name: str, like: str, options: _Options) -> _Options:
    """The options of a source that hold for one of another format too: those of one table for another."""
    if format_name == like:
        return options
    are_tables = format_name in TABLES and like in TABLES
    kept = tuple(each for each in options if are_tables and each[0] in OPTIONS[format_name])
    return cast("_Options", kept)
