"""Files to modules: the file that is compiled with all that it imports."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from compiler.errors.diagnostics import Diagnostic, Note, Source, SourceError, Span, UsageError, hint
from compiler.errors.suggestions import nearest
from compiler.support.record import record
from compiler.syntax.declarations import begins_with_declaration
from compiler.syntax.parser import ParseCache
from compiler.syntax.tree import Import, Module


def load_modules(root: Path | Source, cache_folder: Path | None, within: Path | None = None) -> tuple[Module, ...]:
    """A file with all that it imports, directly or not: each file once, imported ones before those that import them.

    root: a path, or a text, whose imports are relative to the folder of its name. All that is imported lies in the
    folder `within`, by default that of the root. Raises `SourceError` with the mistakes of all files, and `UsageError`
    if the root cannot be read.
    """
    loaded = read_modules(root, cache_folder, within)
    if loaded.mistakes:
        raise SourceError(loaded.mistakes)
    return loaded.modules


@record
class Loaded:
    """The files that can be read and parsed, in the order of `load_modules`, and the mistakes of the others.

    `incomplete` are the files that import, directly or not, a missing file; the root is the last of `modules` unless
    it is missing itself.
    """

    modules: tuple[Module, ...]
    mistakes: tuple[Diagnostic, ...]
    incomplete: frozenset[str]
    has_root: bool

    @property
    def sources(self) -> tuple[Source, ...]:
        return tuple(module.source for module in self.modules)


def read_modules(root: Path | Source, cache_folder: Path | None, within: Path | None = None) -> Loaded:
    """As `load_modules`, with the mistakes of files beside those that are sound. Raises `UsageError`."""
    return read_opened(root, ParseCache(cache_folder).parse, {}, within)


def read_opened(
    root: Path | Source, parse: Callable[[Source], Module], opened: Mapping[Path, str], within: Path | None = None
) -> Loaded:
    """As `read_modules`, by another parser, and with the texts `opened` in place of files, by their resolved paths."""
    return _Loader(parse, opened, within).load(root)


def read_source(path: Path) -> Source:
    """The text of a file. Raises `UsageError` if it cannot be read, `SourceError` if it is not UTF-8."""
    try:
        content = path.read_bytes()
    except OSError as error:
        known = _neighbours(path)
        near = nearest(path.name, known) if isinstance(error, FileNotFoundError) else None
        fix = f"did you mean {path.with_name(near)}?" if near else "check the path"
        raise UsageError(f"cannot read {path}: {(error.strerror or str(error)).lower()}", fix) from None
    return _decoded(str(path), content)


def _decoded(name: str, content: bytes) -> Source:
    try:
        return Source(name, content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8-sig", "replace")
        text = content.decode("utf-8-sig", "replace")
        line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
        message = f"this file is not UTF-8 text: byte {error.start} is 0x{content[error.start]:02x}"
        span = Span(Source(name, text), line, column, line, column + 1)
        notes = (hint("save it in the encoding UTF-8"),)
        raise SourceError((Diagnostic("E0124", message, span, notes),)) from None


def _neighbours(path: Path) -> list[str]:
    try:
        return [entry.name for entry in path.parent.iterdir() if entry.suffix == ".dl" and entry.is_file()]
    except OSError:
        return []


class _Loader:
    """Loads one root. `chain` is the way of imports to the file that is being read."""

    def __init__(self, parse: Callable[[Source], Module], opened: Mapping[Path, str], within: Path | None) -> None:
        self.parse, self.opened = parse, opened
        self.modules: dict[Path, Module | None] = {}
        self.mistakes: list[Diagnostic] = []
        self.incomplete: set[str] = set()
        self.within = within
        self.folder = Path()

    def load(self, root: Path | Source) -> Loaded:
        try:
            source = root if isinstance(root, Source) else read_source(root)
        except SourceError as error:
            return Loaded((), error.diagnostics, frozenset(), False)
        path = Path(source.name).resolve()
        self.folder = path.parent if self.within is None else self.within.resolve()
        self._load(path, source, ())
        modules = tuple(module for module in self.modules.values() if module is not None)
        return Loaded(modules, tuple(self.mistakes), frozenset(self.incomplete), self.modules[path] is not None)

    def _load(self, path: Path, source: Source, chain: tuple[tuple[Path, Span], ...]) -> None:
        """Parse a file and load its imports first, so that they come first."""
        try:
            module = self.parse(source)
        except SourceError as error:
            self.mistakes += error.diagnostics
            self.modules[path] = None
            return
        for declaration in module.declarations:
            if isinstance(declaration, Import) and not self._import(declaration, path, chain):
                self.incomplete.add(source.name)
        self.modules[path] = module

    def _import(self, declaration: Import, importer: Path, chain: tuple[tuple[Path, Span], ...]) -> bool:
        """Whether the file and all that it imports is there."""
        span = declaration.span
        written = Path(declaration.path)
        path = (importer.parent / written).resolve()
        here = (*chain, (importer, span))
        if written.is_absolute() or not path.is_relative_to(self.folder):
            message = f'`import "{declaration.path}"` leaves the project folder'
            fix = hint(
                f"copy the file into {_shown(self.folder)} or below, and give its path relative to this file; or trust "
                "it: --allow-imports-outside"
            )
            self.mistakes.append(Diagnostic("E0123", message, span, (fix,)))
            return False
        if any(path == earlier for earlier, _ in here):
            self.mistakes.append(_circle(path, here))
            return False
        if path not in self.modules:
            self._read(path, declaration, here)
        module = self.modules[path]
        return module is not None and module.source.name not in self.incomplete

    def _read(self, path: Path, declaration: Import, chain: tuple[tuple[Path, Span], ...]) -> None:
        shown = str(Path(chain[-1][1].source.name).parent / declaration.path)
        try:
            if path.exists() and not path.is_file() and not path.is_dir():
                raise OSError(errno.EINVAL, "this is no file with text")  # a pipe, say, would be waited for
            text = self.opened.get(path)
            source = _decoded(shown, path.read_bytes()) if text is None else Source(shown, text)
            if path.suffix != ".dl" and not begins_with_declaration(source.text):
                raise OSError(errno.EINVAL, "this is no model file")
        except SourceError as error:
            note = Note("it is imported here", declaration.span)
            self.mistakes += [Diagnostic(d.code, d.message, d.span, (*d.notes, note)) for d in error.diagnostics]
            self.modules[path] = None
        except (OSError, ValueError) as error:
            self.mistakes.append(_unreadable(path, declaration, error))
            self.modules[path] = None
        else:
            self._load(path, source, chain)


def _unreadable(path: Path, declaration: Import, error: OSError | ValueError) -> Diagnostic:
    """An import of a file that is not there (ValueError: a path that no file can have) or may not be read."""
    if not isinstance(error, FileNotFoundError | ValueError):
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        return Diagnostic("E0121", f'cannot read "{declaration.path}": {reason}', declaration.span)
    near = nearest(path.name, _neighbours(path))
    known = Path(declaration.path).with_name(near).as_posix() if near else None
    fix = f'did you mean "{known}"?' if known else "paths are relative to the file in which they stand"
    return Diagnostic("E0121", f'there is no file "{declaration.path}"', declaration.span, (hint(fix),))


def _circle(path: Path, chain: Sequence[tuple[Path, Span]]) -> Diagnostic:
    """The circle that `chain` closes by importing `path`, which is in it."""
    start = next(index for index, (earlier, _) in enumerate(chain) if earlier == path)
    circle = chain[start:]
    names = [*(earlier.name for earlier, _ in circle), path.name]
    notes = [Note("this import is part of it", span) for _, span in circle[:-1]]
    fix = hint("move the shared declarations into a file that imports neither")
    return Diagnostic("E0122", f"a circle of imports: {' -> '.join(names)}", chain[-1][1], (*notes, fix))


def _shown(folder: Path) -> str:
    try:
        return f"./{folder.relative_to(Path.cwd()).as_posix()}"
    except ValueError:
        return str(folder)
