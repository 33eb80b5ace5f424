"""A token in the wrong place to a diagnostic with advice.

The messages are in `grammar/syntax_errors.toml`, each with malformed snippets that show when it applies. What no entry
covers gets a sentence made of what was found and what could stand there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from compiler.errors.diagnostics import CompilerBug, Diagnostic, Note, Source, Span, hint
from compiler.errors.suggestions import did_you_mean
from compiler.support.record import record
from compiler.syntax.declarations import split_declarations
from compiler.syntax.grammar_tables import Automaton, UnexpectedToken
from compiler.syntax.lexer import (
    CONTEXTUAL,
    DECLARATIONS,
    END,
    KEYWORDS,
    NEWLINE,
    OPERATORS,
    RESERVED,
    Token,
    lex,
    span_of,
)

MESSAGES = Path(__file__).parents[2] / "grammar" / "syntax_errors.toml"

_BINARY = frozenset(
    KEYWORDS.get(text) or OPERATORS[text]
    for text in ("|>", "..", "+", "*", "/", "//", "%", "@", "^", "==", "!=", "<", "<=", ">", ">=", "and", "or")
)
_RESERVED = frozenset(KEYWORDS[word] for word in RESERVED)
_CONTEXTUAL = frozenset(KEYWORDS[word] for word in CONTEXTUAL)
_LITERALS = ("NUMBER", "STRING", "TRUE", "FALSE", "NONE")
_BEGIN_EXPRESSIONS = ("LSQB", "LPAR", "MINUS", "NOT", "SCAN", "NEW_AXIS", "ELLIPSIS")
_TEXTS = {kind: text for text, kind in (KEYWORDS | OPERATORS).items()}


@record
class _Mistake:
    """A mistake as seen by `syntax_errors.toml`."""

    facets: dict[str, str]
    places: dict[str, Token]


@record
class SyntaxErrorEntry:
    """One entry of `syntax_errors.toml`."""

    code: str
    message: str
    hint: str
    same: tuple[str, ...]
    at: str
    snippets: tuple[str, ...]


def read_explanations() -> tuple[SyntaxErrorEntry, ...]:
    """The entries of `syntax_errors.toml`, in order."""
    import tomllib  # only needed for a text with a mistake

    document = tomllib.loads(MESSAGES.read_text("utf-8"))
    return tuple(
        SyntaxErrorEntry(
            code=entry["code"],
            message=entry["message"],
            hint=entry.get("hint", ""),
            same=tuple(entry["same"]),
            at=entry.get("at", "token"),
            snippets=tuple(entry["snippets"]),
        )
        for entry in document["mistake"]
    )


class Explainer:
    """Explains the mistakes of any number of texts; the entries and their snippets are read at the first one."""

    def __init__(self, automaton: Automaton) -> None:
        self._automaton = automaton
        self._shown: list[tuple[SyntaxErrorEntry, list[dict[str, str]]]] = []

    def explain(self, source: Source, tokens: Sequence[Token], unexpected: UnexpectedToken) -> Diagnostic:
        """The diagnostic for a token that the grammar does not allow; `tokens` end with END."""
        if not self._shown:
            for entry in read_explanations():
                self._shown.append((entry, [mistake_in(snippet, self._automaton) for snippet in entry.snippets]))
        mistake = _mistake(tokens, unexpected, self._automaton)
        for entry, snippets in self._shown:
            seen = [mistake.facets[facet] for facet in entry.same]
            if any(seen == [shown[facet] for facet in entry.same] for shown in snippets):
                return _explained(source, mistake, entry)
        return _generic(source, mistake, self._automaton.expected(unexpected.states))


def mistake_in(snippet: str, automaton: Automaton) -> dict[str, str]:
    """The names for `same`, of the first mistake of a snippet."""
    source = Source("<snippet>", snippet)
    for declared in split_declarations(source, lex(source)):
        tokens = end_declaration(declared.tokens)
        try:
            automaton.check(tokens)
        except UnexpectedToken as unexpected:
            return _mistake(tokens, unexpected, automaton).facets
    raise CompilerBug("syntax_errors.toml", "a snippet has no mistake", snippet)


def end_declaration(tokens: Sequence[Token]) -> list[Token]:
    """The tokens of a declaration, and END."""
    last = tokens[-1]
    return [*tokens, Token(END, "", last.line, last.end_column)]


def _mistake(tokens: Sequence[Token], unexpected: UnexpectedToken, automaton: Automaton) -> _Mistake:
    position = unexpected.position
    token = tokens[position]
    before = tokens[position - 1] if position else Token("START", "", token.line, token.column)
    following = tokens[position + 1] if position + 1 < len(tokens) else token
    start = _statement_start(tokens, position)
    expected = automaton.expected(unexpected.states)
    facets = {
        "token": _class(token),
        "text": token.text,
        "before": _class(before),
        "before_text": before.text,
        "next": _class(following),
        "next_text": following.text,
        "start": start.kind,
        "inside": _innermost_bracket(tokens[:position]),
        "expects": "expression" if "NUMBER" in expected else "name" if "NAME" in expected else "other",
        "after": "value" if "CARET" in expected or "PLUS" in expected else "",
        "complete": str(END in expected),
    }
    # A newline has no place of its own: the mistake is seen at the end of the line before it.
    at = Token(token.kind, "", before.line, before.end_column) if token.kind in (NEWLINE, END) else token
    return _Mistake(facets, {"token": at, "before": before, "next": following, "start": start})


def _class(token: Token) -> str:
    return "operator" if token.kind in _BINARY else "NAME" if token.kind in _CONTEXTUAL else token.kind


def _statement_start(tokens: Sequence[Token], position: int) -> Token:
    """The first token of the statement, or head, that `position` lies in."""
    depth = 0
    for index in range(position - 1, -1, -1):
        kind = tokens[index].kind
        depth += (kind in ("RPAR", "RSQB", "RBRACE")) - (kind in ("LPAR", "LSQB", "LBRACE"))
        if depth <= 0 and kind in (NEWLINE, "LBRACE") and tokens[index + 1].kind != NEWLINE:
            return tokens[index + 1]
        depth = max(depth, 0)
    return tokens[0]


def _innermost_bracket(tokens: Sequence[Token]) -> str:
    depth = 0
    for token in reversed(tokens):
        depth += (token.kind in ("RPAR", "RSQB", "RBRACE")) - (token.kind in ("LPAR", "LSQB", "LBRACE"))
        if depth < 0:
            return token.text
    return ""


def _explained(source: Source, mistake: _Mistake, explanation: SyntaxErrorEntry) -> Diagnostic:
    texts = {name: token.text for name, token in mistake.places.items()} | {"token": mistake.facets["text"]}
    notes: tuple[Note, ...] = (hint(explanation.hint.format_map(texts)),) if explanation.hint else ()
    span = span_of(source, mistake.places[explanation.at])
    return Diagnostic(explanation.code, explanation.message.format_map(texts), span, notes)


def _generic(source: Source, mistake: _Mistake, expected: frozenset[str]) -> Diagnostic:
    token, before = mistake.places["token"], mistake.places["before"]
    span = span_of(source, token)
    if before.kind == "START":
        return _no_declaration(span, token)
    if token.kind in _RESERVED and "NAME" in expected:
        message = f"`{token.text}` is a reserved word and cannot be a name"
        return Diagnostic("E0106", message, span, (hint("choose another name"),))
    wanted = _list_of(_wanted(expected))
    after = f" after `{before.text}`" if before.text else ""
    return Diagnostic("E0101", f"expected {wanted}{after}, found {_shown(token)}", span)


def _no_declaration(span: Span, token: Token) -> Diagnostic:
    near = did_you_mean(token.text, DECLARATIONS) if token.text.isidentifier() else ""
    fix = near or f"declarations start with: {' '.join(sorted(DECLARATIONS))}"
    message = f"`{token.text}` starts no declaration"
    return Diagnostic("E0110", message, span, (hint(fix),))


def _wanted(expected: frozenset[str]) -> list[str]:
    """The tokens that could stand there, in words; of an expression that may go on, only those that end it."""
    words: list[str] = []
    kinds = set(expected)
    if "NUMBER" in kinds:
        words.append("an expression")
        kinds -= {"NAME", *_CONTEXTUAL, *_LITERALS, *_BEGIN_EXPRESSIONS}
    elif "NAME" in kinds:
        words.append("a name")
        kinds -= {"NAME", *_CONTEXTUAL}
    if "CARET" in kinds or "PLUS" in kinds:
        kinds -= {*_BINARY, "MINUS", "LPAR", "LSQB", "DOT"}
    if "STRING" in kinds:
        words.append("a string")
    if kinds & {END, NEWLINE}:
        words.append("the end of the line")
    kinds -= {"STRING", END, NEWLINE}
    return [*words, *sorted(f"`{_TEXTS[kind]}`" for kind in kinds)]


def _list_of(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}" if words else "nothing more"


def _shown(token: Token) -> str:
    ends = {NEWLINE: "the end of the line", END: "the end of the declaration"}
    return ends.get(token.kind, f"`{token.text}`")
