"""The process that elaborates texts beside the server, so that an answer to a key never waits for it.

It reads pickled requests from standard input and writes pickled answers to standard output, each behind its length.
"""

from __future__ import annotations

import gc
import itertools
import os
import pickle
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO

from compiler.driver import DataQuestion, DataSource
from compiler.editing.facts import Examiner, Facts
from compiler.errors.diagnostics import Diagnostic, Source
from compiler.support.recent import Recent, digest_of
from compiler.support.record import record

_LENGTH = 8
_MOST_ANSWERS = 64
_MOST_CHARACTERS = 300_000
"""Characters of the texts whose facts are kept, for a change that is taken back."""
_TEXTS_A_FULL_COLLECTION = 50


@record
class Request:
    """A text to examine; with `loads_data`, the data that it names is loaded and judged as well."""

    source: Source
    opened: Mapping[Path, str]
    loads_data: bool


@record
class Answer:
    """`failure` says why there are no facts; they took so many seconds."""

    facts: Facts | None
    data_findings: tuple[Diagnostic, ...] | None = None
    failure: str = ""
    seconds: float = 0.0


def main() -> None:
    """Answer requests until standard input ends."""
    questions = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever is printed must not stand among the answers
    gc.disable()
    state = State()
    for number in itertools.count():
        request = read_message(questions)
        if request is None:
            return
        assert isinstance(request, Request)
        write_message(answers, state.answer(request))
        # between two texts nobody waits for it: the garbage of one text is young
        gc.collect(2 if number % _TEXTS_A_FULL_COLLECTION == 0 else 1)


def read_message(stream: IO[bytes]) -> object:
    """The next message, or None at the end. Both ends are this program."""
    head = stream.read(_LENGTH)
    if len(head) < _LENGTH:
        return None
    return pickle.loads(stream.read(int.from_bytes(head, "little")))


def write_message(stream: IO[bytes], message: object) -> None:
    content = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    stream.write(len(content).to_bytes(_LENGTH, "little") + content)
    stream.flush()


class State:
    def __init__(self) -> None:
        self.examiner = Examiner()
        self.dimensions: dict[object, tuple[Mapping[str, int], tuple[Diagnostic, ...]]] = {}
        self.facts: Recent[object, Facts] = Recent(_MOST_CHARACTERS)
        self.asked: list[Diagnostic] = []  # mistakes of the data that the current text asked

    def answer(self, request: Request) -> Answer:
        begun = time.perf_counter()
        try:
            facts = self._facts(request)
            lasted = time.perf_counter() - begun
            has_errors = any(finding.severity == "error" for finding in facts.findings)
            of_data = () if has_errors or not request.loads_data else self._data_findings(request)
            return Answer(facts, of_data if request.loads_data else None, seconds=lasted)
        except Exception as error:  # whatever a text brings about, the next one is examined
            return Answer(None, None, f"{type(error).__name__}: {error}")

    def _facts(self, request: Request) -> Facts:
        opened = (part for path, text in sorted(request.opened.items()) for part in (str(path), text))
        key = digest_of((request.source.name, request.source.text, *opened))
        known = self.facts.get(key)
        if known is not None and not request.loads_data and _are_on_disk(known, request):
            return known
        self.asked = []
        facts = self.examiner.examine(request.source, self._dimensions_of, request.opened, anew=request.loads_data)
        facts = replace(facts, findings=tuple(dict.fromkeys((*facts.findings, *self.asked))))
        return self.facts.put(key, facts, len(request.source.text))

    def _dimensions_of(self, question: DataQuestion) -> Mapping[str, int]:
        """The answer of the data, kept while its file is the same."""
        from runtime.analysis.checked_data import dimensions_or_mistakes  # loads NumPy and every format of data

        key = _identity(question)
        if key not in self.dimensions:
            if len(self.dimensions) > _MOST_ANSWERS:
                self.dimensions.clear()
            found, mistakes = dimensions_or_mistakes(question)
            self.dimensions[key] = found, tuple(mistakes)
        dimensions, mistakes = self.dimensions[key]
        if question.source is not None:
            self.asked += [replace(mistake, span=question.source.span) for mistake in mistakes]
        return dimensions

    def _data_findings(self, request: Request) -> tuple[Diagnostic, ...]:
        from runtime.analysis.checked_data import data_findings  # loads NumPy and every format of data

        return tuple(data_findings(request.source, None, (), None))


def _are_on_disk(facts: Facts, request: Request) -> bool:
    """Whether no further file was read or missed, whose text may be another by now."""
    return facts.files == (request.source.name,) and "import" not in request.source.text


def _identity(question: DataQuestion) -> object:
    """A question without the places of the text from which it was asked."""
    source = question.source
    told = None if source is None else (source.format, source.path, source.options, source.others)
    inputs = tuple((i.name, i.type, i.low, i.high, i.dimension_names, i.range_name) for i in question.inputs)
    cuts = question.cuts
    parts = tuple(
        (part.format, part.path, part.options) if isinstance(part, DataSource) else part
        for part in (cuts.validation, cuts.test)
    )
    return question.names, inputs, told, parts, cuts.seed, question.targets, _stamp(question)


def _stamp(question: DataQuestion) -> object:
    """What changes with the file of the data."""
    from runtime.data.reading import located  # loads NumPy and every format of data

    if question.source is None:
        return None
    try:
        file = located(question.source)
        found = file.stat()
    except (OSError, ValueError, RuntimeError):
        return question.source.span.source.name
    return str(file), found.st_mtime_ns, found.st_size


if __name__ == "__main__":
    main()
