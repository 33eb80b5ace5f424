"""Lessons beside the lines of a model, from the README in its folder: a short text, and pictures of real values.

Below `## Line by line`, a heading of the form `### ` and code in backticks names a piece of the model's text; the text
below it belongs to each line that holds this piece.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from compiler.support.harmless import harmless_lines
from runtime.support import regular_files
from runtime.support.files import JsonObject, JsonValue

if TYPE_CHECKING:
    from compiler.errors.diagnostics import Source

_TITLE = "## Line by line"
_KINDS = {".svg": "image/svg+xml", ".png": "image/png"}
_MOST_BYTES = 300_000  # of a picture; others are left out
_PICTURE = re.compile(r"^!\[([^\]]*)\]\(([^)\s]+)\)$")
_LINK = re.compile(r"\[([^\]]*)\]\([^)\s]*\)")


def lessons_of(source: Source, number: int) -> list[JsonValue]:
    """The lessons of a file, which has this number: its line, the code, paragraphs of text, and pictures as data."""
    readme = Path(source.name).with_name("README.md")
    try:
        text = regular_files.content(readme).decode()
    except (OSError, ValueError):
        return []
    lines = [_plain(line) for line in source.text.splitlines()]
    found: list[JsonValue] = []
    for code, body in _sections(text):
        at = [place for place, line in enumerate(lines, 1) if _plain(code) in line and not line.startswith("#")]
        found += [{"file": number, "line": line, "code": code, **_content(body, readme.parent)} for line in at]
    return found


def pieces_in(text: str) -> list[str]:
    """The code that the headings of a README name."""
    return [code for code, _ in _sections(text)]


def _sections(text: str) -> Iterator[tuple[str, str]]:
    """Each piece of code with the text below it, up to the next heading of the same kind or the end of the part."""
    _, title, rest = text.partition(f"\n{_TITLE}\n")
    part = re.split(r"^## ", rest, maxsplit=1, flags=re.MULTILINE)[0] if title else ""
    for section in re.split(r"^### ", part, flags=re.MULTILINE)[1:]:
        heading, _, body = section.partition("\n")
        if named := re.fullmatch(r"`([^`]+)`", heading.strip()):
            yield named[1], body


def _plain(text: str) -> str:
    return " ".join(text.split())


def _content(body: str, folder: Path) -> JsonObject:
    blocks = [_plain(block) for block in re.split(r"\n\s*\n", body) if block.strip()]
    pictures = [found for block in blocks if (found := _PICTURE.match(block)) is not None]
    shown = [(found[1], _data(folder / found[2])) for found in pictures]
    texts: list[JsonValue] = [harmless_lines(_LINK.sub(r"\1", block)) for block in blocks if not _PICTURE.match(block)]
    images: list[JsonValue] = [[alternative, data] for alternative, data in shown if data]
    return {"text": texts, "pictures": images}


def _data(path: Path) -> str:
    """A picture as an address that holds it; nothing where it is no picture, or too large."""
    kind = _KINDS.get(path.suffix)
    try:
        content = regular_files.content(path) if kind else b""
    except OSError:
        return ""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}" if 0 < len(content) <= _MOST_BYTES else ""
