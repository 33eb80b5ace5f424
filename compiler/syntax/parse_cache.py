"""Parsed files kept in the user's cache folder, so that a file that did not change is not parsed again.

An entry is named by a hash of the text, the grammar and the front end's own code, and begins with a hash of its
content. It is a pickle restricted to the classes of the syntax, so reading one runs no code; but it stands for the
text, so one that another user may have written is not used, nor one that is missing or damaged.
"""

from __future__ import annotations

import contextlib
import gc
import io
import pickle
from collections.abc import Generator
from dataclasses import fields
from hashlib import sha256
from pathlib import Path
from typing import Any

from compiler.errors import diagnostics
from compiler.errors.diagnostics import Source, Span
from compiler.support.trusted_folder import TrustedFolder
from compiler.syntax import tree
from compiler.syntax.grammar_tables import GRAMMAR
from compiler.syntax.parser import Parser

_DIGEST = 32
_MOST_ENTRIES = 500
_NODES: dict[type, tuple[str, ...]] = {
    node: tuple(field.name for field in fields(node))
    for node in (*vars(tree).values(), Span)
    if isinstance(node, type) and hasattr(node, "__dataclass_fields__") and node is not Source
}
_BY_NAME = {(node.__module__, node.__qualname__): node for node in _NODES}
_CODE = ("tree", "lexer", "declarations", "grammar_tables", "build_syntax", "parser", "parse_cache")


class ParseCache:
    """Parses sources, or reads the result of an earlier parse in `folder`. Without a folder it only parses."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = TrustedFolder(folder / "parsed") if folder else None
        self._parser = Parser()
        self._version = b""

    def parse(self, source: Source) -> tree.Module:
        """The syntax of a source. Raises `SourceError` with every independent syntax mistake."""
        if self._folder is None:
            return self._parser.parse(source)
        self._version = self._version or _version()
        name = sha256(self._version + source.text.encode("utf-8", "surrogatepass")).hexdigest()
        module = _read(self._folder, name, source)
        if module is None:
            module = self._parser.parse(source)
            _write(self._folder, name, module)
        return module


def _version() -> bytes:
    """A hash of all that decides the syntax of a text."""
    folder = Path(__file__).parent
    code = [(folder / f"{name}.py").read_bytes() for name in _CODE]
    return sha256(b"\0".join([GRAMMAR.read_bytes(), Path(diagnostics.__file__).read_bytes(), *code])).digest()


def _read(folder: TrustedFolder, name: str, source: Source) -> tree.Module | None:
    try:
        with folder.open(name) as file:
            content = file.read()
    except OSError:
        return None
    if content[:_DIGEST] != sha256(content[_DIGEST:]).digest():
        return None
    try:
        with _without_collection():
            declarations: tuple[tree.Declaration, ...] = _Unpickler(io.BytesIO(content[_DIGEST:]), source).load()
    except Exception:  # a damaged pickle can raise anything; the text is then parsed
        return None
    return tree.Module(source, declarations)


def _write(folder: TrustedFolder, name: str, module: tree.Module) -> None:
    """Write an entry atomically. A cache that cannot be written costs time, nothing else."""
    stream = io.BytesIO()
    try:
        _Pickler(stream, protocol=pickle.HIGHEST_PROTOCOL).dump(module.declarations)
    except RecursionError:
        return
    content = stream.getvalue()
    with contextlib.suppress(OSError):
        folder.write(name, sha256(content).digest(), content)
        _prune(folder)


def _prune(folder: TrustedFolder) -> None:
    """Remove the older half of a folder that has grown too large."""
    entries = folder.files()
    if len(entries) > _MOST_ENTRIES:
        entries.sort(key=lambda entry: entry[1].st_mtime_ns)
        for name, _ in entries[: len(entries) // 2]:
            with contextlib.suppress(OSError):
                folder.remove(name)


def _source() -> Source:
    """Stands in an entry for the source of the file, which the reader has."""
    raise AssertionError("an entry is read by `_Unpickler` only")


class _Pickler(pickle.Pickler):
    """Writes nodes as a class and its fields, and leaves out the source."""

    def reducer_override(self, obj: Any) -> Any:
        names = _NODES.get(obj.__class__)
        if names is not None:
            return obj.__class__, tuple([getattr(obj, name) for name in names])
        return (_source, ()) if obj.__class__ is Source else NotImplemented


class _Unpickler(pickle.Unpickler):
    """Reads what `_Pickler` wrote; it can make nothing but nodes of the syntax."""

    def __init__(self, stream: io.BytesIO, source: Source) -> None:
        super().__init__(stream)
        self._source = source

    def find_class(self, module_name: str, global_name: str) -> Any:
        return (lambda: self._source) if global_name == _source.__name__ else _BY_NAME[module_name, global_name]


@contextlib.contextmanager
def _without_collection() -> Generator[None]:
    """Thousands of new objects, none of them garbage: the collector would walk them in vain."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
