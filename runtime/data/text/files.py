"""Files of text, one or all that fit a path with `*`, as decoded lines; a mistake is reported with its line."""

from __future__ import annotations

import codecs
import glob
import re
from pathlib import Path

from compiler.errors.diagnostics import DataError
from compiler.support.record import record
from runtime.data.formats.content import content_of, text_of
from runtime.data.formats.format import SourceOptions

_WIDE = ("utf16", "utf_16", "utf32", "utf_32", "u16", "u32")


@record
class TextFile:
    """`star`: the text in place of the first `*` of the path; empty without one."""

    path: Path
    text: str
    star: str = ""


def text_files(path: Path, options: SourceOptions) -> list[TextFile]:
    """The file at `path`, or all files that fit it, in the order of their names. Raises DataError."""
    encoding = options.text("encoding") or "utf-8-sig"
    try:
        codecs.lookup(encoding)
    except LookupError as error:
        message = f"option `encoding` names no encoding: `{encoding}`"
        raise DataError(message, options.place, fix='such as "utf-8" or "latin-1"') from error
    if "*" not in str(path):
        if path.is_dir():
            message = "this is a folder"
            raise DataError(message, path, fix=f'name the files in it, such as "{path.name}/*.txt"')
        return [TextFile(path, decoded(path, encoding))]
    parts = [re.escape(part) for part in str(path).split("*")]
    pattern = re.compile("([^/]*)".join(parts))
    found: list[TextFile] = []
    for name in sorted(glob.glob("*".join(map(glob.escape, str(path).split("*"))))):
        fits = pattern.fullmatch(name)
        if fits is not None and Path(name).is_file():
            found.append(TextFile(Path(name), decoded(Path(name), encoding), fits.group(1)))
    if not found:
        raise DataError("no file fits this path", path, fix="check the path; `*` stands for a part of a name")
    return found


def decoded(path: Path, encoding: str) -> str:
    """The text of a file, plain or gzip, with `\\n` at the ends of lines. Raises DataError with the line."""
    # of the encodings, only those of several bytes for each letter have zero bytes in them
    content = content_of(path) if encoding.lower().replace("-", "").startswith(_WIDE) else text_of(path)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        row = content.count(b"\n", 0, error.start) + 1
        shown = "UTF-8" if encoding == "utf-8-sig" else encoding
        message = f"byte 0x{content[error.start]:02x} is not {shown} text"
        fix = 'save the file as UTF-8, or give its encoding, such as `encoding = "latin-1"`'
        raise DataError(message, path, row, fix) from error
    if "\0" in text:
        row = text.count("\n", 0, text.index("\0")) + 1
        raise DataError("a zero byte, so this is no text", path, row, "check that this is the right file")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def lines_of(file: TextFile) -> list[tuple[int, str]]:
    """The lines that are not blank, without blanks around them, with their numbers."""
    lines = ((number, line.strip()) for number, line in enumerate(file.text.split("\n"), 1))
    return [(number, line) for number, line in lines if line]
