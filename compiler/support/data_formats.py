"""The data formats that `train` may name, and the forms that cut rows from the data, with their options.

The runtime gives them their meaning.
"""

from __future__ import annotations

from collections.abc import Mapping

_TOKENS = ("tokens", "vocabulary", "min_frequency", "lower", "encoding")
_TABLE = ("header", "names", "separator")
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "csv": (*_TABLE, "target", "columns", "categories", "rows", "missing", "normalise", "window", "horizon", "stride"),
    "idx": ("images", "labels", "test_images", "test_labels"),
    "cifar": (),
    "images": ("size", "channels", "fit"),
    "npz": ("rows",),
    "npy": (),
    "text": (*_TOKENS, "stride"),
    "lines": (*_TOKENS, *_TABLE, "label", "text", "each", "longest", "ends", "bucket"),
    "pairs": (*_TOKENS, "separator", "shared", "longest", "bucket"),
}
CUTS: Mapping[str, tuple[str, ...]] = {
    "stratified": ("share", "by"),
    "grouped": ("share", "by"),
    "latest": ("share", "by"),
    "where": ("condition",),
    "fold": ("number", "of"),
}
