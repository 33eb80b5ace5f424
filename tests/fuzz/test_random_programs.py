"""The whole front end on random programs: each is checked, and what is wrong is told as text; nothing else happens."""

from __future__ import annotations

import pytest
from random_programs import derived, reworded

from compiler.errors.diagnostics import Source, SourceError
from compiler.errors.rendering import render, to_json
from compiler.programs.load import findings
from compiler.syntax.format import format_source
from compiler.syntax.parser import Parser

DERIVED, REWORDED = 300, 200


def check(text: str) -> tuple[str, ...]:
    """The codes of what is found, each of which can be shown."""
    found, _ = findings(Source("random.dl", text), None)
    lines = text.count("\n") + 1
    for mistake in found:
        assert 1 <= mistake.span.line <= mistake.span.end_line
        assert mistake.span.source.is_library or mistake.span.end_line <= lines
        assert to_json(mistake)["message"]
    if found:
        assert render(SourceError(found), width=80)
    return tuple(mistake.code for mistake in found)


@pytest.mark.parametrize("seed", range(4))
def test_what_the_grammar_derives(seed: int) -> None:
    """Few derivations mean anything. Their syntax is sound, apart from numbers and names that are out of bounds."""
    parser, parsed = Parser(), 0
    for text in derived(seed, DERIVED // 4):
        codes = check(text)
        if any(code.startswith("E01") for code in codes):
            continue
        parsed += 1
        once = format_source(Source("random.dl", text), parser)
        assert format_source(Source("random.dl", once), parser) == once
    assert parsed > DERIVED // 20


@pytest.mark.parametrize("seed", range(4))
def test_programs_with_other_words(seed: int) -> None:
    """Most get past the parser, and some have no mistake."""
    found = [check(text) for text in reworded(seed, REWORDED // 4)]
    elaborated = [codes for codes in found if not any(code.startswith("E01") for code in codes)]
    assert len(elaborated) > len(found) // 4
    assert any(codes for codes in elaborated)
