"""Files of text, one or all that fit a path with `*`, as decoded lines; a mistake is reported with its line."""

from __future__ import annotations

import codecs
import glob
import io
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from compiler.errors.diagnostics import DataError
from compiler.support.record import record
from runtime.data.formats.content import LONGEST_LINE, content_of, pieces_of, text_of
from runtime.data.formats.format import SourceOptions

_WIDE = ("utf16", "utf_16", "utf32", "utf_32", "u16", "u32")


@record
class TextFile:
    """`star`: the text in place of the first `*` of the path; empty without one."""

    path: Path
    text: str
    star: str = ""


@record
class TextPath:
    """A file that is not read yet; `star` as in `TextFile`."""

    path: Path
    encoding: str
    star: str = ""


def text_files(path: Path, options: SourceOptions) -> list[TextFile]:
    """The file at `path`, or all files that fit it, in the order of their names. Raises DataError."""
    return [
        TextFile(found.path, decoded(found.path, found.encoding), found.star) for found in text_paths(path, options)
    ]


def text_paths(path: Path, options: SourceOptions) -> list[TextPath]:
    """As `text_files`, of which none is read. Raises DataError."""
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
        return [TextPath(path, encoding)]
    parts = [re.escape(part) for part in str(path).split("*")]
    pattern = re.compile("([^/]*)".join(parts))
    found: list[TextPath] = []
    for name in sorted(glob.glob("*".join(map(glob.escape, str(path).split("*"))))):
        fits = pattern.fullmatch(name)
        if fits is not None and Path(name).is_file():
            found.append(TextPath(Path(name), encoding, fits.group(1)))
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
        raise _undecodable(error, path, encoding, 0) from error
    _refuse_zero(text, path, 0)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def text_pieces(file: TextPath) -> Iterator[str]:
    """As `decoded`, a piece after the other. Raises DataError."""
    try:
        decode = codecs.getincrementaldecoder(file.encoding)()
    except LookupError:  # an encoding that is read as a whole
        yield decoded(file.path, file.encoding)
        return
    decoder = io.IncrementalNewlineDecoder(decode, translate=True)
    lines = 0
    for piece in chain(pieces_of(file.path), [b""]):
        try:
            text = decoder.decode(piece, final=not piece)
        except UnicodeDecodeError as error:
            raise _undecodable(error, file.path, file.encoding, lines) from error
        _refuse_zero(text, file.path, lines)
        lines += text.count("\n")
        if text:
            yield text


def line_pieces(file: TextPath) -> Iterator[tuple[int, list[str]]]:
    """All lines, without blanks around them, some at a time, with the number of the first. Raises DataError."""
    first, rest = 1, ""
    for text in text_pieces(file):
        lines = (rest + text).split("\n")
        rest = lines.pop()
        if len(rest) > LONGEST_LINE:
            message = f"a line of more than {LONGEST_LINE:,} characters"
            raise DataError(message, file.path, first + len(lines), "check that this is a text, line by line")
        yield first, [line.strip() for line in lines]
        first += len(lines)
    if rest:
        yield first, [rest.strip()]


def _undecodable(error: UnicodeDecodeError, path: Path, encoding: str, lines: int) -> DataError:
    """`lines` stand before the bytes of the error."""
    row = lines + error.object.count(b"\n", 0, error.start) + 1
    shown = "UTF-8" if encoding == "utf-8-sig" else encoding
    message = f"byte 0x{error.object[error.start]:02x} is not {shown} text"
    fix = 'save the file as UTF-8, or give its encoding, such as `encoding = "latin-1"`'
    return DataError(message, path, row, fix)


def _refuse_zero(text: str, path: Path, lines: int) -> None:
    if "\0" in text:
        row = lines + text.count("\n", 0, text.index("\0")) + 1
        raise DataError("a zero byte, so this is no text", path, row, "check that this is the right file")


def lines_of(file: TextFile) -> list[tuple[int, str]]:
    """The lines that are not blank, without blanks around them, with their numbers."""
    lines = ((number, line.strip()) for number, line in enumerate(file.text.split("\n"), 1))
    return [(number, line) for number, line in lines if line]
