"""The standard library: where each declaration stands in its files, and its syntax once a program names it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from compiler.errors.diagnostics import Source
from compiler.frontend.scope import BY_KEYWORD, Located, ModuleScope, Namespace
from compiler.support.record import record
from compiler.syntax import tree
from compiler.syntax.parser import Parser

LIBRARY = Path(__file__).parents[1] / "stdlib"
_BY_FILE = {"clips.dl": Namespace.CLIP, "penalties.dl": Namespace.PENALTY, "sampling.dl": Namespace.SAMPLE}
_BEGINNING = re.compile(
    rf"^(?:\#\#[^\n]*\n(?:[ \t]*\n)*)*(?P<keyword>{'|'.join(BY_KEYWORD)})[ \t]+(?P<name>\w+)", re.MULTILINE
)


def library_modules() -> tuple[tree.Module, ...]:
    """All of the library, in the order of its files' names (`<prelude>/layers/dense.dl`)."""
    parser = Parser()
    return tuple(map(parser.parse, _sources()))


@cache
def library_scope() -> ModuleScope:
    """One scope for all files. Clips, penalties and ways of sampling have namespaces of their own, as their files say.

    A program uses a small part of the library, and parsing all of it would take most of the time of a check.
    """
    scope = ModuleScope("<prelude>", True)
    parser = Parser()
    stretches: dict[Namespace, dict[str, _Stretch]] = {}
    for source in _sources():
        special = _BY_FILE.get(source.name.rpartition("/")[2])
        beginnings = list(_BEGINNING.finditer(source.text))
        ends = [*(match.start() for match in beginnings[1:]), len(source.text)]
        for match, end in zip(beginnings, ends, strict=True):
            namespace = special or BY_KEYWORD[match["keyword"]]
            stretches.setdefault(namespace, {})[match["name"]] = _Stretch(source, match.start(), end)
    scope.own.update({namespace: _Declarations(parser, scope, found) for namespace, found in stretches.items()})
    return scope


@record
class _Stretch:
    """A declaration with its doc comment: `source.text[begin:end]`."""

    source: Source
    begin: int
    end: int


class _Declarations(Mapping[str, Located]):
    """The declarations of a namespace by name. Looking one up parses it."""

    def __init__(self, parser: Parser, scope: ModuleScope, stretches: Mapping[str, _Stretch]) -> None:
        self._parser, self._scope, self._stretches = parser, scope, stretches
        self._parsed: dict[str, Located] = {}

    def get(self, name: str, default: Any = None) -> Any:
        """Most of the names that are looked up are not the library's."""
        return self[name] if name in self._stretches else default

    def __getitem__(self, name: str) -> Located:
        if name not in self._parsed:
            stretch = self._stretches[name]
            (declaration,) = self._parser.parse(stretch.source, stretch.begin, stretch.end).declarations
            assert isinstance(declaration, tree.Const | tree.Callable)
            self._parsed.setdefault(name, Located(declaration, self._scope))  # threads share the library
        return self._parsed[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._stretches)

    def __len__(self) -> int:
        return len(self._stretches)

    def __contains__(self, name: object) -> bool:
        return name in self._stretches


def _sources() -> Iterator[Source]:
    for path in sorted(LIBRARY.rglob("*.dl"), key=lambda path: path.relative_to(LIBRARY).as_posix()):
        name = f"<prelude>/{path.relative_to(LIBRARY).as_posix()}"
        yield Source(name, path.read_text("utf-8"), is_library=True)
