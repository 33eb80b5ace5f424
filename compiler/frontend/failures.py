"""The way of a mistake: raised where it is found, recorded at the statement, and told once."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

from compiler.errors.diagnostics import Diagnostic, Note, SourceError, Span, hint
from compiler.errors.other_names import advice

MOST_ADVISED = 100
"""So many mistakes get suggestions: each is a search through all names, and nobody reads more."""
UNUSED = ("W0101", "W0102", "W0103")
NOTHING_SAID: Mapping[str, str] = {}
UNKNOWN = ("E0201", "E0415")
_Result = TypeVar("_Result")


class Failure(Exception):
    """One mistake, on its way to the statement that records it."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic.message)
        self.diagnostic = diagnostic


class Poisoned(Exception):
    """A value is needed whose mistake was already recorded."""


def failure(code: str, message: str, span: Span, *notes: Note) -> Failure:
    return Failure(Diagnostic(code, message, span, notes))


def nearest(name: str, known: list[str] | tuple[str, ...], said: Mapping[str, str] = NOTHING_SAID) -> tuple[Note, ...]:
    """`did you mean …?`, or the advice of `said` for a name of another framework, or nothing."""
    found = advice(name, known, said)
    return () if found is None else (hint(found),)


def with_article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


class Report:
    """The mistakes and warnings found so far: one for each place, since later ones follow from the first.

    `given` are the settings that the command line sets, with their places there; by name they mean something in the
    declarations `readers`. In the files `incomplete`, which import what cannot be read, no name is unknown.
    """

    def __init__(
        self,
        given: Mapping[str, Span] | None = None,
        readers: Sequence[Span] = (),
        incomplete: frozenset[str] = frozenset(),
    ) -> None:
        self._given, self._readers, self._incomplete = given or {}, readers, incomplete
        self._found: dict[tuple[str, str, int, int, int, int], Diagnostic] = {}
        self._errors = 0

    def add(self, diagnostic: Diagnostic) -> None:
        if diagnostic.code in UNKNOWN and diagnostic.span.source.name in self._incomplete:
            return
        diagnostic = self._with_command_line(diagnostic)
        span = diagnostic.span
        key = (diagnostic.severity, span.source.name, span.line, span.column, span.end_line, span.end_column)
        if key not in self._found:
            self._found[key] = diagnostic
            self._errors += diagnostic.severity == "error"

    def mistake(self, code: str, message: str, span: Span, *notes: Note) -> None:
        self.add(Diagnostic(code, message, span, notes))

    @contextmanager
    def recording(self) -> Generator[None]:
        """A mistake ends only the part in which it stands."""
        try:
            yield
        except Failure as mistake:
            self.add(mistake.diagnostic)
        except Poisoned:
            pass

    def attempt(self, compute: Callable[[], _Result]) -> _Result | None:
        """The result, or None with the mistake recorded."""
        with self.recording():
            return compute()
        return None

    def nearest(
        self, name: str, known: list[str] | tuple[str, ...], said: Mapping[str, str] = NOTHING_SAID
    ) -> tuple[Note, ...]:
        """As the function `nearest`; nothing where so many mistakes were found that nobody reads this one."""
        return nearest(name, known, said) if self._errors < MOST_ADVISED else ()

    def _with_command_line(self, diagnostic: Diagnostic) -> Diagnostic:
        """A mistake in a setting of the command line is shown there; one that may come from it names it."""
        span = diagnostic.span
        reads = any(r.source.name == span.source.name and r.line <= span.line <= r.end_line for r in self._readers)
        if not self._given or not reads or span.line != span.end_line:
            return diagnostic
        text = span.source.line(span.line)[span.column - 1 : span.end_column - 1]
        if text in self._given:
            used = Note("it is used here", span)
            return replace(diagnostic, span=self._given[text], notes=(*diagnostic.notes, used))
        told = {note.span for note in diagnostic.notes}
        names = [name for name in dict.fromkeys(re.findall(r"\w+", text)) if name in self._given]
        set_here = [Note(f"`{n}` is set here", self._given[n]) for n in names if self._given[n] not in told]
        return replace(diagnostic, notes=(*diagnostic.notes, *set_here))

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """All findings in the order of the text, file by file. Beside a mistake, no name is told to be unused."""
        found = [d for d in self._found.values() if d.code not in UNUSED or not self.has_errors]
        files: dict[str, int] = {}
        for diagnostic in found:
            files.setdefault(diagnostic.span.source.name, len(files))
        return tuple(sorted(found, key=lambda d: (files[d.span.source.name], d.span.line, d.span.column)))

    @property
    def has_errors(self) -> bool:
        return self._errors > 0

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        return tuple(d for d in self.diagnostics if d.severity == "error")

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        return tuple(d for d in self.diagnostics if d.severity == "warning")

    def raise_errors(self) -> None:
        if self.has_errors:
            raise SourceError(self.errors)
