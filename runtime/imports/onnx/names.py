"""Names of ONNX to names of `.dl`: identifiers, distinct, and short for values that live briefly."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from runtime.imports.onnx.graph import DTYPES

_KEYWORDS = "if else for in scan return emit and or not true false none None training batch inf pi"
RESERVED = frozenset(_KEYWORDS.split())
_TAKEN = frozenset([*DTYPES.values(), "bf16", "only_row"])
# Functions that imported text calls; a value with such a name would read as one.
_CALLED = """
    zeros ones full arange sum mean variance max min where concat split reshape transpose reverse pad cast sqrt exp log
    relu gelu swish softmax dense embedding conv1d conv2d conv3d layer_norm batch_norm lstm gru attention
"""
FUNCTIONS = frozenset(_CALLED.split())
_NUMBERED = re.compile(r"val_\d+")  # PyTorch's name of a value that has none
_SHORT = ("x", "y", "z", "u", "v", "w", "p", "q", "r", "s")


def identifier(text: str, usual: str = "value") -> str:
    """The nearest name of `.dl`."""
    plain = re.sub(r"[^0-9A-Za-z_]+", "_", text).strip("_")
    plain = re.sub(r"__+", "_", plain)
    if not plain:
        return usual
    if plain[0].isdigit():
        plain = f"{usual}_{plain}"
    return f"{plain}_" if plain in RESERVED else plain


class Namer:
    """Gives distinct names."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.taken = set(taken)

    def distinct(self, wanted: str) -> str:
        """`wanted`, or with a number behind it where another has that name."""
        found, number = wanted, 1
        while found in self.taken or found in RESERVED or found in _TAKEN:
            number += 1
            found = f"{wanted}_{number}"
        self.taken.add(found)
        return found


def scope_of(origins: Sequence[str]) -> list[str]:
    """The words of the module to which weights belong: `layer1.0.conv1.weight` is of layer1, 0, conv1."""
    paths = [[part for part in re.split(r"[./:]", origin) if part] for origin in origins if origin]
    paths = [path[:-1] if len(path) > 1 else path for path in paths]
    if not paths:
        return []
    common = paths[0]
    for path in paths[1:]:
        size = 0
        while size < min(len(common), len(path)) and common[size] == path[size]:
            size += 1
        common = common[:size]
    return common


def word_of(origins: Sequence[str], outer: int = 0) -> str | None:
    """A name for a value that those weights made: the last word of their module that is no number and no function.

    The first `outer` words are those of the body that makes the value, which say nothing about it.
    """
    inner = scope_of(origins)[outer:]
    words = [word for word in inner if not word.isdigit() and identifier(word) == word and len(word) < 24]
    words = [word for word in words if _in_small_letters(word) not in FUNCTIONS and not _NUMBERED.fullmatch(word)]
    return words[-1] if words else None


def _in_small_letters(word: str) -> str:
    """`LayerNorm` as `layer_norm`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", word).lower()


def short_names() -> tuple[str, ...]:
    return _SHORT
