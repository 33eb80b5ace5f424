"""The files of an editor: open texts and those beside them, each with what is derived from it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from difflib import SequenceMatcher
from pathlib import Path

from pygls.uris import from_fs_path, to_fs_path

from compiler.editing.callees import Callees
from compiler.editing.document import Document
from compiler.errors.diagnostics import Source
from compiler.frontend.library import LIBRARY, library_scope
from compiler.support.recent import Recent
from compiler.syntax import tree
from compiler.syntax.modules import read_opened
from compiler.syntax.parser import Parser
from compiler.syntax.recovery import Recovery, is_too_large

PRELUDE = "<prelude>/"
_MOST_KEPT = 300
_MOST_FILES = 2_000
_MOST_BYTES = 1 << 20
_MOST_COMPARED = 1_000_000
_SKIPPED = frozenset((".git", ".venv", "node_modules", "__pycache__", "runs", "sweeps"))


class Files:
    """Texts by their names, which are absolute paths, or `<prelude>/…` for files of the library."""

    def __init__(self) -> None:
        self.opened: dict[str, str] = {}
        self.folders: list[Path] = []
        self.callees = Callees()
        self._recovery = Recovery(Parser())
        self._documents: Recent[str, tuple[object, Document]] = Recent(_MOST_KEPT)

    # Names

    def name_of(self, uri: str) -> str:
        path = to_fs_path(uri)
        if not path or not uri.startswith("file:"):
            return uri
        inside = Path(os.path.abspath(path))
        if inside.is_relative_to(LIBRARY):
            return PRELUDE + inside.relative_to(LIBRARY).as_posix()
        return str(inside)

    def uri_of(self, name: str) -> str:
        if name.startswith(PRELUDE):
            return from_fs_path(str(LIBRARY / name.removeprefix(PRELUDE))) or name
        return (from_fs_path(os.path.abspath(name)) or name) if is_path(name) else name

    # Texts

    def text_of(self, name: str) -> str | None:
        """The text of a file as the editor has it, else as it lies on the disk; None where it cannot be read."""
        return self.opened[name] if name in self.opened else self.text_on_disk(name)

    def text_on_disk(self, name: str) -> str | None:
        path = LIBRARY / name.removeprefix(PRELUDE) if name.startswith(PRELUDE) else Path(name)
        try:
            if path.stat().st_size > _MOST_BYTES or not path.is_file():
                return None
            return path.read_bytes().decode("utf-8-sig")
        except (OSError, ValueError):
            return None

    def is_too_large(self, name: str) -> bool:
        """Whether the names in a text are not known, since it is only cut into words."""
        return is_too_large(self.source_of(name))

    def source_of(self, name: str) -> Source:
        return Source(name, self.text_of(name) or "", name.startswith(PRELUDE))

    @property
    def texts_by_path(self) -> Mapping[Path, str]:
        """The open texts, in place of their files."""
        return {Path(name).resolve(): text for name, text in self.opened.items() if is_path(name)}

    def document(self, name: str) -> Document:
        """What is derived from a text, kept as long as it and all that it imports stay the same."""
        source = self.source_of(name)
        own = self._recovery.read(source)
        imports: tuple[tree.Module, ...] = ()
        if any(isinstance(d, tree.Import) for d in own.module.declarations) and is_path(name):
            loaded = read_opened(source, lambda read: self._recovery.read(read).module, self.texts_by_path)
            imports = loaded.modules[:-1] if loaded.has_root else ()
        state = (source.text, tuple(map(id, imports)))
        known = self._documents.get(name)
        if known is None or known[0] != state:
            self.callees.meet(own.module, imports)
            known = self._documents.put(name, (state, Document(own, self.callees, imports)))
        return known[1]

    def names_everywhere(self, word: str) -> Iterator[str]:
        """The names of the open files and those below the folders of the editor whose texts hold a word."""
        for name in dict.fromkeys((*self.opened, *self._files_below())):
            text = self.text_of(name)
            if text is not None and word in text:
                yield name

    def _files_below(self) -> Iterator[str]:
        count = 0
        for folder in self.folders:
            for place, folders, files in os.walk(folder):
                folders[:] = [name for name in sorted(folders) if name not in _SKIPPED and not name.startswith(".")]
                for name in sorted(files):
                    if name.endswith(".dl"):
                        count += 1
                        if count > _MOST_FILES:
                            return
                        yield os.path.join(os.path.abspath(place), name)

    def read_library(self) -> Iterator[str]:
        """Parse the library, a declaration at a time: each name as it is done."""
        for names in library_scope().own.values():
            for name in names:
                _ = names[name]
                yield name


def is_path(name: str) -> bool:
    """Whether a text is a file of the user, and not one that an editor has not saved yet, or of the library."""
    return not name.startswith(PRELUDE) and os.path.isabs(name)


def same_lines(before: str, after: str) -> dict[int, int]:
    """For each line of a text that another text has as well, in the same order, its number there; both from 1."""
    if before == after:
        return {number: number for number in range(1, before.count("\n") + 2)}
    old, new = before.split("\n"), after.split("\n")
    start = _alike(zip(old, new, strict=False))
    end = _alike(zip(reversed(old[start:]), reversed(new[start:]), strict=False))
    found = {number + 1: number + 1 for number in range(start)}
    found |= {len(old) - number: len(new) - number for number in range(end)}
    inner, other = old[start : len(old) - end], new[start : len(new) - end]
    if len(inner) * len(other) > _MOST_COMPARED:
        return found
    for block in SequenceMatcher(None, inner, other, autojunk=False).get_matching_blocks():
        for number in range(block.size):
            found[start + block.a + number + 1] = start + block.b + number + 1
    return found


def _alike(pairs: Iterable[tuple[str, str]]) -> int:
    count = 0
    for one, other in pairs:
        if one != other:
            break
        count += 1
    return count
