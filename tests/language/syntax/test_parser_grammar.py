"""The grammar, its stored tables and its terminals agree."""

from pathlib import Path

import pytest

from compiler.errors.diagnostics import Source
from compiler.syntax.grammar_tables import GRAMMAR, STORED, build_tables, load_tables
from compiler.syntax.lexer import CONTEXTUAL, END, KEYWORDS, NEWLINE, OPERATORS, lex


def test_stored_tables_are_those_of_the_grammar() -> None:
    """After a change of the grammar, run `python -m compiler.syntax.grammar_tables`."""
    assert load_tables() == build_tables(GRAMMAR.read_text("utf-8"))


def test_damaged_tables_are_built_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = load_tables()
    built: list[str] = []
    monkeypatch.setattr("compiler.syntax.grammar_tables.build_tables", lambda text: built.append(text) or stored)
    for content in (
        "",
        "{}",
        "[]",
        STORED.read_text("utf-8")[:-100],
        STORED.read_text("utf-8").replace('"rows"', '"r"'),
    ):
        damaged = tmp_path / "tables.json"
        damaged.write_text(content)
        monkeypatch.setattr("compiler.syntax.grammar_tables.STORED", damaged)
        assert load_tables() == stored
    assert built == [GRAMMAR.read_text("utf-8")] * 5


def test_lexer_and_grammar_have_the_same_terminals() -> None:
    terminals = {kind for row in load_tables().actions for kind in row}
    assert terminals == {*KEYWORDS.values(), *OPERATORS.values(), "NAME", "NUMBER", "STRING", NEWLINE, END}


def test_terminals_are_spelled_as_in_the_grammar() -> None:
    spelled = dict(
        line.split(": ", 1) for line in GRAMMAR.read_text("utf-8").splitlines() if line[:1].isupper() and ': "' in line
    )
    assert {kind: text.strip('"') for kind, text in spelled.items()} == {
        kind: text for text, kind in (KEYWORDS | OPERATORS).items()
    }


def test_a_grammar_with_a_conflict_is_refused() -> None:
    from lark.exceptions import GrammarError

    with pytest.raises(GrammarError, match="conflict"):
        build_tables('start: sum\nsum: sum PLUS sum | NAME\nPLUS: "+"\nNAME: /a/\n')


def test_contextual_words_are_the_names_of_the_grammar() -> None:
    tables = load_tables()
    names = {
        kind
        for row in tables.actions
        for kind, action in row.items()
        if action >= 0
        and any(later < 0 and tables.rules[~later].origin == "name" for later in tables.actions[action].values())
    }
    assert names == {"NAME", *(word.upper() for word in CONTEXTUAL)}


def test_tokens_have_places() -> None:
    tokens = lex(Source("a.dl", "a <- 1e-3..n\n\t|> x.T")).tokens
    assert [(token.text, token.line, token.column) for token in tokens] == [
        *(("a", 1, 1), ("<-", 1, 3), ("1e-3", 1, 6), ("..", 1, 10), ("n", 1, 12)),
        *(("|>", 2, 2), ("x", 2, 5), (".", 2, 6), ("T", 2, 7)),
    ]
