"""Tokens to declarations: brackets are matched, and a newline token is put between the statements of a block.

A declaration starts in column 1, so a mistake in one is kept out of the next.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from compiler.errors.diagnostics import Diagnostic, Note, Source, hint
from compiler.support.record import record
from compiler.syntax.lexer import CONTEXTUAL, DECLARATIONS, KEYWORDS, NEWLINE, OPERATORS, Lexed, Token, span_of

DEEPEST = 200

_CLOSES = {"RPAR": "LPAR", "RSQB": "LSQB", "RBRACE": "LBRACE"}
_BRACKETS = frozenset((*_CLOSES, *_CLOSES.values()))
_PARTNER = {"(": ")", "[": "]", "{": "}"}
_DECLARATIONS = frozenset(word.upper() for word in DECLARATIONS)
_FIRST_WORD = re.compile(r"(?:\s|#[^\n]*)*+(\w*)(?=\s|$)")
_NAMES = frozenset({"NAME", "STRING"}) | frozenset(word.upper() for word in CONTEXTUAL)
# Tokens that begin nothing: at the start of a line they belong to the text before, or are a mistake there.
_CONTINUES = frozenset(
    KEYWORDS.get(text) or OPERATORS[text]
    for text in (
        *(")", "]", "}", "{", "else", "in", "and", "or", "|>", "..", "=", "->", "<-", ",", ":", "."),
        *("+", "*", "/", "//", "%", "@", "^", "==", "!=", "<", "<=", ">", ">="),
    )
)


@record
class Declared:
    """The tokens of one declaration; `is_sound` is false where its mistakes are already in `mistakes`."""

    tokens: tuple[Token, ...]
    mistakes: tuple[Diagnostic, ...]
    is_sound: bool


def split_declarations(source: Source, lexed: Lexed) -> tuple[Declared, ...]:
    """The declarations of a text, in order."""
    tokens = lexed.tokens
    indentation = {token.line: token.column for token in reversed(tokens)}
    broken = sorted((mistake.span.line, mistake.span.column) for mistake in lexed.mistakes)
    declared: list[Declared] = []
    position = 0
    while position < len(tokens):
        reader = _Reader(source, tokens, position, indentation)
        reader.read()
        first, position = tokens[position], reader.position
        until = (tokens[position].line, 0) if position < len(tokens) else (2**62, 0)
        start = (first.line, 0) if declared else (0, 0)
        unread = any(start <= place < until for place in broken)
        # A lexical mistake often is a lost bracket or quote: its own message is enough.
        mistakes = () if unread else (*_indented(source, first), *reader.mistakes)
        declared.append(Declared(tuple(reader.out), mistakes, not reader.mistakes and not unread))
    return tuple(declared)


def begins_with_declaration(text: str) -> bool:
    """Whether the first word of a text, after space and comments, starts a declaration; or there is no word at all."""
    first = _FIRST_WORD.match(text)
    return first is not None and (first[1] in DECLARATIONS or first.end() == len(text))


def _indented(source: Source, first: Token) -> tuple[Diagnostic, ...]:
    """The mistake of a declaration that does not start in column 1. It is read all the same."""
    if first.column == 1 or first.kind not in _DECLARATIONS:
        return ()
    fix = hint(
        "remove the spaces before it; if it is meant to be inside the declaration before, that one ends too early"
    )
    return (Diagnostic("E0110", "a declaration starts in the first column", span_of(source, first), (fix,)),)


class _Reader:
    """Reads one declaration from `position` on."""

    def __init__(
        self, source: Source, tokens: tuple[Token, ...], position: int, indentation: Mapping[int, int]
    ) -> None:
        self.source = source
        self.tokens = tokens
        self.position = position
        self.indentation = indentation
        self.out: list[Token] = []
        self.mistakes: list[Diagnostic] = []
        self.open: list[Token] = []
        self.suspect: tuple[Token, Token] | None = None

    def read(self) -> None:
        line = 0
        while self.position < len(self.tokens):
            token = self.tokens[self.position]
            if token.line != line and self.out:
                if self._starts_declaration(token):
                    break
                self._separate(token)
            line = token.line
            self.out.append(token)
            if token.kind in _BRACKETS and not self.mistakes:
                self._match(token)
            self.position += 1
        if self.open and not self.mistakes:
            self._report_unclosed()

    def _starts_declaration(self, token: Token) -> bool:
        following = self.tokens[self.position + 1 : self.position + 2]
        if token.column == 1 and not self.open and not self.mistakes:
            is_clause = token.kind == "GRADIENT" and any(later.kind == "LPAR" for later in following)
            return token.kind not in _CONTINUES and not is_clause
        if token.kind not in _DECLARATIONS or (self.open and token.column > 1):
            return False
        return any(later.line == token.line and later.kind in _NAMES for later in following)

    def _separate(self, token: Token) -> None:
        """Put a newline before `token`, which starts a line, where one ends a statement."""
        if token.kind in ("PIPE", "RBRACE") or self.out[-1].kind == "LBRACE":
            return
        if not self.open or self.open[-1].kind == "LBRACE":
            self.out.append(Token(NEWLINE, "", token.line, token.column))

    def _match(self, token: Token) -> None:
        if token.kind not in _CLOSES:
            self.open.append(token)
            if len(self.open) > DEEPEST:
                self._report("E0117", "brackets are nested too deeply here", token, hint("give the inner parts names"))
        elif not self.open:
            self._report(
                "E0102", f"`{token.text}` closes nothing", token, hint("remove it, or open its bracket before")
            )
        elif self.open[-1].kind != _CLOSES[token.kind]:
            self._report_mismatch(self.open[-1], token)
        else:
            self._suspect(self.open.pop(), token)

    def _suspect(self, opening: Token, closing: Token) -> None:
        """Remember the first `}` that stands further left than the line of its `{`: there a `}` may be missing."""
        if closing.kind != "RBRACE" or closing.line == opening.line or self.suspect is not None:
            return
        if closing.column < self.indentation[opening.line] and self.indentation[closing.line] == closing.column:
            self.suspect = (opening, closing)

    def _report_mismatch(self, opening: Token, closing: Token) -> None:
        note = Note("the bracket it meets", span_of(self.source, closing))
        needed = _PARTNER[opening.text]
        message = f"`{opening.text}` is not closed before the `{closing.text}` of line {closing.line}"
        self._report("E0102", message, opening, note, hint(f"add `{needed}`"))

    def _report_unclosed(self) -> None:
        if self.suspect is not None:
            opening, closing = self.suspect
            note = Note("this `}` closes it, but stands where an outer block ends", span_of(self.source, closing))
            notes = (note, hint("add the missing `}`, and indent each block by 4 spaces"))
        else:
            opening = self.open[-1]
            notes = (hint(f"add `{_PARTNER[opening.text]}` where it ends"),)
        self._report("E0102", f"`{opening.text}` is never closed", opening, *notes)

    def _report(self, code: str, message: str, token: Token, *notes: Note) -> None:
        self.mistakes.append(Diagnostic(code, message, span_of(self.source, token), notes))
