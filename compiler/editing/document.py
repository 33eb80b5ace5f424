"""One text with all that is derived from it, each part made when it is first asked for and then kept."""

from __future__ import annotations

import os.path
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import cached_property

from compiler.editing.bindings import places_in
from compiler.editing.callees import Callees
from compiler.editing.occurrences import Walker, keyword_of
from compiler.editing.symbols import Occurrence, Symbol
from compiler.errors.diagnostics import Span
from compiler.frontend.library import library_scope
from compiler.frontend.scope import ModuleScope, module_scopes
from compiler.support.record import record
from compiler.syntax import tree
from compiler.syntax.lexer import DECLARATIONS, Lexed, Token
from compiler.syntax.recovery import Recovered


class Document:
    """A file as it stands in an editor, in any state. `imports` are the files that it imports, directly or not."""

    def __init__(self, syntax: Recovered, callees: Callees, imports: Sequence[tree.Module] = ()) -> None:
        self.syntax, self.callees = syntax, callees
        self.source = syntax.module.source
        self.lines = self.source.text.split("\n")
        self.imports = tuple(imports)

    @cached_property
    def scope(self) -> ModuleScope:
        """The declarations that this file sees."""
        scopes, _ = module_scopes((*self.imports, self.syntax.module), library_scope())
        return scopes[self.source.name]

    @property
    def lexed(self) -> Lexed:
        return self.syntax.lexed

    @cached_property
    def _walker(self) -> Walker:
        walker = Walker(places_in(self.source), self.scope, self.callees)
        walker.walk(self.syntax.module.declarations)
        self._walk_holes(walker)
        return walker

    @cached_property
    def occurrences(self) -> Mapping[tuple[int, int], Occurrence]:
        """The names of the text by line and column; of several at one place, the one that declares it."""
        found: dict[tuple[int, int], Occurrence] = {}
        for occurrence in self._walker.found:
            place = (occurrence.place.line, occurrence.place.column)
            if place not in found or (found[place].symbol is None and occurrence.symbol is not None):
                found[place] = occurrence
        return found

    def occurrence_at(self, line: int, column: int) -> Occurrence | None:
        """The name that a place touches: the one that it is in, or that ends there."""
        token = self.token_at(line, column)
        return None if token is None else self.occurrences.get((token.line, token.column))

    @cached_property
    def _places(self) -> list[tuple[int, int]]:
        return [(token.line, token.column) for token in self.lexed.tokens]

    def index_before(self, line: int, column: int) -> int:
        """The index of the last token that begins before a place, or at it; -1 without one."""
        return bisect_right(self._places, (line, column)) - 1

    def token_at(self, line: int, column: int) -> Token | None:
        """The token that a place touches, a word rather than a mark."""
        index = self.index_before(line, column)
        candidates = [self.lexed.tokens[place] for place in (index, index - 1) if place >= 0]
        touching = [t for t in candidates if t.line == line and t.column <= column <= t.end_column]
        words = [t for t in touching if t.text[:1].isidentifier()]
        return next(iter(words or touching), None)

    def span_of(self, token: Token) -> Span:
        return Span(self.source, token.line, token.column, token.line, token.end_column)

    @cached_property
    def stretches(self) -> tuple[Stretch, ...]:
        """The declarations as runs of tokens, also those that cannot be read."""
        starts = [index for index, _ in enumerate(self.lexed.tokens) if self._begins(index)]
        ends = [*starts, len(self.lexed.tokens)][1:]
        return tuple(self._stretch(start, end) for start, end in zip(starts, ends, strict=True))

    def _begins(self, index: int) -> bool:
        token = self.lexed.tokens[index]
        if token.column != 1 or token.text not in DECLARATIONS:
            return False
        following = self.lexed.tokens[index + 1 : index + 2]
        return not following or following[0].line != token.line or following[0].text[:1] not in ("=", ".", "|", "<")

    def _stretch(self, start: int, end: int) -> Stretch:
        tokens = self.lexed.tokens
        keyword, last = tokens[start], tokens[end - 1]
        name = tokens[start + 1] if start + 1 < end and tokens[start + 1].line == keyword.line else None
        node = self._by_line.get(keyword.line)
        return Stretch(keyword, name, start, end, last.line, node)

    @cached_property
    def _by_line(self) -> Mapping[int, tree.Declaration]:
        return {declaration.span.line: declaration for declaration in self.syntax.module.declarations}

    def import_at(self, line: int) -> str | None:
        """The name of the file that a line imports."""
        for declaration in self.syntax.module.declarations:
            if isinstance(declaration, tree.Import) and declaration.span.line == line:
                return os.path.normpath(os.path.join(os.path.dirname(self.source.name), declaration.path))
        return None

    def stretch_at(self, line: int) -> Stretch | None:
        """The declaration around a line: the last one that begins before it."""
        return next((s for s in reversed(self.stretches) if s.keyword.line <= line), None)

    def names_at(self, line: int) -> Mapping[str, Symbol]:
        """The local names of the declaration around a line."""
        stretch = self.stretch_at(line)
        return {} if stretch is None else self._walker.bindings.get(stretch.keyword.line, {})

    def keyword_at(self, line: int) -> str:
        """The keyword of the declaration around a line; empty before the first."""
        stretch = self.stretch_at(line)
        return "" if stretch is None else stretch.keyword.text

    def _walk_holes(self, walker: Walker) -> None:
        """Names in lines that could not be read: each word that means something there."""
        if not self.syntax.holes:
            return
        by_line = {declaration.span.line: declaration for declaration in self.syntax.module.declarations}
        local: Mapping[str, Symbol] = {}
        keyword = ""
        for token in self.lexed.tokens:
            if token.line in by_line:
                local, keyword = walker.bindings.get(token.line, {}), keyword_of(by_line[token.line])
            if token.line in self.syntax.holes and token.kind == "NAME":
                meant = walker.meaning(token.text, local, keyword)
                if meant is not None:
                    walker.found.append(Occurrence(self.span_of(token), meant.kind, meant))


@record(eq=False)
class Stretch:
    """The tokens `start` to `end` of a declaration; `name` is the token behind its keyword, and `node` its syntax."""

    keyword: Token
    name: Token | None
    start: int
    end: int
    last_line: int
    node: tree.Declaration | None
