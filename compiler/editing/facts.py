"""A text to what elaboration knows of it: findings, the value at each name, settings with their origin, parameters.

All of it is plain data, so that another process can compute it. Of a text that cannot be read whole, the values come
from its sound parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from compiler.editing.subject_facts import MOST_VALUES, Meaning, SettingFact, SubjectFacts, in_text, subject_facts
from compiler.errors.diagnostics import Diagnostic, Source, SourceError
from compiler.frontend import elaborate
from compiler.frontend.elaborator import Session
from compiler.frontend.program import DimensionsOf
from compiler.programs.load import findings_in
from compiler.support.recent import Recent, digest_of
from compiler.support.record import record
from compiler.syntax import tree
from compiler.syntax.modules import Loaded, read_opened
from compiler.syntax.parser import Parser
from compiler.syntax.recovery import LARGEST_LEXED, Recovery, is_too_large

_MOST_KEPT = 40_000
"""Values of experiments that were elaborated: a text of a thousand lines has some thousands."""
_MOST_LARGE = 2


@record
class ParameterFact:
    """The numbers that are trained in what a line applies, in so many tensors."""

    line: int
    numbers: int
    tensors: int


@record
class Facts:
    """Everything about one text. `files` are all that were read, by the names that findings have."""

    findings: tuple[Diagnostic, ...]
    files: tuple[str, ...]
    meanings: tuple[Meaning, ...] = ()
    settings: tuple[SettingFact, ...] = ()
    parameters: tuple[ParameterFact, ...] = ()


class Examiner:
    """Examines any number of texts. What was parsed is kept, and what each experiment was elaborated to, as long as the
    declarations that it can see have the same text."""

    def __init__(self) -> None:
        self._parser = Parser()
        self._recovery = Recovery(self._parser)
        self._large: Recent[Source, tree.Module] = Recent(_MOST_LARGE)
        self._elaborated: Recent[object, SubjectFacts] = Recent(_MOST_KEPT)

    def examine(
        self,
        source: Source,
        dimensions_of: DimensionsOf | None = None,
        opened: Mapping[Path, str] | None = None,
        anew: bool = False,
    ) -> Facts:
        """The facts of a text. `opened` are texts that stand in place of files, by their resolved paths.

        With `anew`, every experiment is elaborated: its data may have changed. Of a text that is too large, there are
        the mistakes in its syntax.
        """
        if is_too_large(source):
            return Facts(self._mistakes(source), (source.name,))
        loaded = read_opened(source, self._parse, opened or {})
        whole, holes = loaded, frozenset[int]()
        if not loaded.has_root:
            holes = self._recovery.read(source).holes
            whole = read_opened(source, lambda read: self._recovery.read(read).module, opened or {})
        watch = _Watch(source, whole, holes, Recent(0) if anew else self._elaborated)
        if loaded.has_root:
            found = findings_in(loaded, dimensions_of, watch=watch)
        else:
            found = loaded.mistakes
            self._watch_sound_parts(whole, dimensions_of, watch)
        for key, facts in watch.made.items():
            self._elaborated.put(key, facts, 1 + len(facts.meanings))
        files = tuple(dict.fromkeys((source.name, *(read.name for read in loaded.sources))))
        return watch.facts(tuple(in_text(finding, source) for finding in found), files)

    def _watch_sound_parts(self, loaded: Loaded, dimensions_of: DimensionsOf | None, watch: _Watch) -> None:
        names = frozenset(source.name for source in loaded.sources)  # what is missing may stand in an unread part
        if loaded.has_root:
            elaborate.check(loaded.modules, (), names, dimensions_of, watch=watch)

    def _parse(self, source: Source) -> tree.Module:
        if is_too_large(source):
            return self._large.get(source) or self._large.put(source, self._parser.parse(source))
        read = self._recovery.read(source)
        if read.mistakes:
            raise SourceError(read.mistakes)
        return read.module

    def _mistakes(self, source: Source) -> tuple[Diagnostic, ...]:
        """The mistakes in the syntax of a text."""
        if len(source.text) > LARGEST_LEXED:
            return ()
        try:
            self._parser.parse(source)
        except SourceError as error:
            return error.diagnostics
        return ()


class _Watch:
    """Gathers what elaboration sees in the root file, and takes experiments that are `kept` from there."""

    def __init__(
        self, source: Source, loaded: Loaded, holes: frozenset[int], kept: Recent[object, SubjectFacts]
    ) -> None:
        self.source, self.kept = source, kept
        self.is_sound = not loaded.mistakes
        self.root = loaded.modules[-1] if loaded.has_root else tree.Module(source, ())
        self.imported = digest_of(part for read in loaded.sources[:-1] for part in (read.name, read.text))
        lines = enumerate(source.text.split("\n"), 1)
        self.lines = ["" if number in holes else line for number, line in lines]
        self.made: dict[object, SubjectFacts] = {}
        self.found: list[SubjectFacts] = []

    def known(self, subject: tree.Train | tree.Model) -> tuple[Diagnostic, ...] | None:
        seen = self._seen_by(subject)
        facts = self.kept.get(self._key(seen))
        moved = None if facts is None else facts.at(tuple(d.span.line for d in seen), self.source)
        if moved is not None:
            self.found.append(moved)
        return None if moved is None else moved.findings

    def elaborated(self, session: Session, subject: tree.Train | tree.Model, findings: tuple[Diagnostic, ...]) -> None:
        seen = self._seen_by(subject)
        stretches = tuple((d.span.line, d.span.end_line) for d in seen)
        facts = subject_facts(session, subject, findings, self.source, stretches)
        self.found.append(facts)
        if facts.can_move:
            # without its text, which is that of this one edit
            self.made[self._key(seen)] = facts.at(tuple(first for first, _ in stretches), replace(self.source, text=""))

    def _seen_by(self, subject: tree.Train | tree.Model) -> tuple[tree.Declaration, ...]:
        """The declarations that a subject can see: its model, and all that are no experiments or models.

        An experiment that builds on another sees all of them.
        """
        model = subject.model.id if isinstance(subject, tree.Train) else subject.name
        builds = isinstance(subject, tree.Train) and subject.base is not None
        return tuple(
            d
            for d in self.root.declarations
            if d is subject
            or (d.name == model if isinstance(d, tree.Model) else builds or not isinstance(d, tree.Train))
        )

    def _key(self, seen: tuple[tree.Declaration, ...]) -> object:
        texts = ("\n".join(self.lines[d.span.line - 1 : d.span.end_line]) for d in seen)
        return self.source.name, digest_of(texts), self.imported, self.is_sound

    def facts(self, findings: tuple[Diagnostic, ...], files: tuple[str, ...]) -> Facts:
        """Those of all experiments; of one place that several have, all values."""
        meanings: dict[tuple[int, int, int, int], Meaning] = {}
        counted: dict[int, dict[str, int]] = {}
        for facts in self.found:
            for meaning in facts.meanings:
                place = meaning.place
                key = (place.line, place.column, place.end_line, place.end_column)
                meanings[key] = meaning if key not in meanings else _joined(meanings[key], meaning)
            for line, sizes in facts.counted:
                counted.setdefault(line, {}).update(sizes)
        settings = tuple(dict.fromkeys(setting for facts in self.found for setting in facts.settings))
        parameters = tuple(ParameterFact(line, sum(of.values()), len(of)) for line, of in sorted(counted.items()))
        return Facts(findings, files, tuple(meanings.values()), settings, parameters)


def _joined(one: Meaning, other: Meaning) -> Meaning:
    texts = tuple(dict.fromkeys((*one.texts, *other.texts)))[:MOST_VALUES]
    return Meaning(one.place, texts, one.dimensions, one.is_tensor)
