"""Arguments of a command to the files that it writes, none of which it reads."""

from __future__ import annotations

import os
import re
from argparse import Namespace
from contextlib import suppress
from pathlib import Path
from typing import cast

from compiler.errors.diagnostics import UsageError

_OUTPUTS = {"html": "--html", "out": "--out", "output": "--output"}


def refuse_own_input(arguments: Namespace) -> None:
    """Raises UsageError where the file to write is one that another argument names."""
    named = vars(arguments)
    texts = [text for name, value in named.items() if name not in _OUTPUTS for text in _texts(value)]
    for name, option in _OUTPUTS.items():
        out = named.get(name)
        if isinstance(out, str) and any(_is_same_file(out, re.sub(r":\d+$", "", text)) for text in texts):
            raise UsageError(f"{option} {out} would replace a file that is read", "name another file")


def page_file(out: str) -> Path:
    """Where a page goes. Raises UsageError for a folder, and for the name of a model file."""
    path = Path(out)
    if path.is_dir():
        raise UsageError(f"{out}: this is a folder", "name a file")
    if path.suffix == ".dl":
        raise UsageError(f"{out} has the name of a model file", "name a file that ends in .html")
    return path


def _texts(value: object) -> list[str]:
    values = cast("list[object]", value) if isinstance(value, list) else [value]
    return [text for text in values if isinstance(text, str)]


def _is_same_file(out: str, text: str) -> bool:
    with suppress(OSError, ValueError):  # most arguments are no paths
        return os.path.isfile(out) and os.path.samefile(out, text)
    return False
