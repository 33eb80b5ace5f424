"""Broken text gives a module or a `SourceError` whose text can be shown, and nothing else."""

import contextlib
from pathlib import Path
from random import Random

from broken_sources import broken

from compiler.errors.diagnostics import Source, SourceError, UsageError
from compiler.errors.rendering import render, to_json
from compiler.syntax.format import format_source
from compiler.syntax.modules import load_modules
from compiler.syntax.parser import Parser

CODES = {f"E01{number:02}" for number in range(1, 19)}


def refusal(parser: Parser, text: str) -> SourceError | None:
    """The error for a text, if it has one. Anything else that is raised fails the test."""
    try:
        parser.parse(Source("broken.dl", text))
    except SourceError as error:
        return error
    return None


def test_broken_programs() -> None:
    parser = Parser()
    refused = 0
    for text in broken(seed=1, count=500):
        error = refusal(parser, text)
        if error is None:
            continue
        refused += 1
        assert error.diagnostics
        lines = text.count("\n") + 1
        for mistake in error.diagnostics:
            assert mistake.code in CODES
            assert 1 <= mistake.span.line <= mistake.span.end_line <= lines
            assert mistake.span.column >= 1
            assert to_json(mistake)["message"]
        assert render(error, width=60)
    # Both must happen, or the test would show nothing.
    assert 200 < refused < 480


def test_each_mistake_has_its_own_place() -> None:
    parser = Parser()
    for text in broken(seed=2, count=150):
        error = refusal(parser, text)
        mistakes = error.diagnostics if error else ()
        places = [(mistake.code, mistake.span.line, mistake.span.column) for mistake in mistakes]
        assert len(places) == len(set(places)), text


def test_formatting_what_parses_keeps_it_and_is_done_once() -> None:
    parser = Parser()
    formatted = 0
    for text in broken(seed=3, count=120, most_changes=1):
        try:
            once = format_source(Source("broken.dl", text), parser)
        except SourceError:
            continue
        formatted += 1
        assert format_source(Source("broken.dl", once), parser) == once
    assert formatted > 5


def test_random_bytes(tmp_path: Path) -> None:
    random = Random(4)
    path = tmp_path / "noise.dl"
    for _ in range(100):
        path.write_bytes(random.randbytes(random.randint(0, 200)))
        with contextlib.suppress(SourceError, UsageError):
            load_modules(path, None)
