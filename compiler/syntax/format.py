"""`.dl` text to the same program in the canonical layout. Line breaks and comments stay where their author put them.

Indentation, the spaces between tokens and blank lines are made uniform; a block over several lines has its braces at
the ends of lines; a line that is too long is broken before each `|>`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field

from compiler.errors.diagnostics import CompilerBug, Source
from compiler.support.record import mutable_record
from compiler.syntax.lexer import KEYWORDS, OPERATORS, RESERVED, Comment, Lexed, Token, lex
from compiler.syntax.parser import Parser
from compiler.syntax.printer import ast_to_json

WIDTH = 120
_INDENT = 4

_OPENING = {"LPAR": "RPAR", "LSQB": "RSQB", "LBRACE": "RBRACE"}
_CLOSING = frozenset(_OPENING.values())
_NAMED_VALUES = "{name: value}"
"""The mark of a `{` that begins values by name, not a block."""
_VALUES_OF_RESERVED = frozenset({"true", "false", "none", "None"})
_NOT_VALUES = frozenset(KEYWORDS[word] for word in RESERVED - _VALUES_OF_RESERVED) | (
    frozenset(OPERATORS.values()) - _CLOSING - {"ELLIPSIS"}
)


def format_source(source: Source, parser: Parser | None = None) -> str:
    """The canonical layout of a text. Raises `SourceError` for a text with syntax mistakes.

    parser: one to use again, when many texts are formatted.
    """
    parser = parser or Parser()
    module = parser.parse(source)
    text = _Formatter(lex(source)).text()
    formatted = parser.parse(Source(source.name, text))
    if ast_to_json(module, spans=False) != ast_to_json(formatted, spans=False):
        raise CompilerBug("format", "formatting changed the meaning of the program", text)
    return text


@mutable_record
class _Line:
    """One line to be written.

    `depth` counts the brackets open at its start. `goes_on`: it begins with a `-` that subtracts from the line before.
    """

    indent: int
    depth: int
    blank_before: bool
    goes_on: bool = False
    tokens: list[Token] = field(default_factory=list[Token])
    comment: Comment | None = None

    @property
    def is_comment(self) -> bool:
        return not self.tokens


class _Formatter:
    def __init__(self, lexed: Lexed) -> None:
        self.tokens = lexed.tokens
        self.comments = list(reversed(lexed.comments))
        self.spread = _spread_braces(lexed.tokens)
        self.lines: list[_Line] = []
        # For each open bracket, the indentation of the line on which it stands.
        self.open: list[tuple[Token, int]] = []
        self.last_line = 0

    def text(self) -> str:
        for index, token in enumerate(self.tokens):
            self._take_comments(index)
            if self._starts_line(index):
                self._start_line(index)
            self.lines[-1].tokens.append(token)
            if token.kind in _OPENING:
                self.open.append((token, self.lines[-1].indent))
            elif token.kind in _CLOSING:
                self.open.pop()
            self.last_line = token.line
        self._take_comments(len(self.tokens))
        self._separate_declarations()
        return "".join(f"{text}\n" for text in _aligned(self.lines))

    def _starts_line(self, index: int) -> bool:
        if index == 0:
            return True
        token, before = self.tokens[index], self.tokens[index - 1]
        breaks = (before if before.kind == "LBRACE" else None, token if token.kind == "RBRACE" else None)
        return token.line != before.line or any(brace in self.spread for brace in breaks)

    def _start_line(self, index: int) -> None:
        token = self.tokens[index]
        after_brace = bool(self.lines and self.lines[-1].tokens and self.lines[-1].tokens[-1].kind == "LBRACE")
        blank = self._blank_since(token.line) and self._in_block() and not after_brace
        blank = blank and token.kind not in (*_CLOSING, "PIPE")
        goes_on = not self._in_block() and _ends_value(self.tokens, index - 1)
        self.lines.append(_Line(self._indentation(token), len(self.open), blank, goes_on))

    def _indentation(self, token: Token) -> int:
        if token.kind in _CLOSING:
            return self.open[-1][1]
        base = self.open[-1][1] + _INDENT if self.open else 0
        return base + _INDENT if token.kind == "PIPE" and self._in_block() else base

    def _in_block(self) -> bool:
        return not self.open or self.open[-1][0].kind == "LBRACE"

    def _blank_since(self, line: int) -> bool:
        return bool(self.lines) and line > self.last_line + 1

    def _take_comments(self, index: int) -> None:
        """Write the comments that stand before the token of this index."""
        while self.comments and self.comments[-1].following == index:
            comment = self.comments.pop()
            if not comment.stands_alone:
                self.lines[-1].comment = comment
            else:
                self._comment_line(comment, self.tokens[index] if index < len(self.tokens) else None)
            self.last_line = comment.line

    def _comment_line(self, comment: Comment, following: Token | None) -> None:
        after_brace = bool(self.lines and self.lines[-1].tokens and self.lines[-1].tokens[-1].kind == "LBRACE")
        indent = self.open[-1][1] + _INDENT if self.open else 0
        if following is not None and following.kind == "PIPE" and self._in_block():
            indent += _INDENT
        blank = self._blank_since(comment.line) and self._in_block() and not after_brace
        self.lines.append(_Line(indent, len(self.open), blank, comment=comment))

    def _separate_declarations(self) -> None:
        """A blank line around each declaration of several lines, and before each documented one and its comments."""
        starts = [index for index, line in enumerate(self.lines) if _starts_declaration(line)]
        for index, start in enumerate(starts):
            group = start
            while group > 0 and self.lines[group - 1].is_comment and not self.lines[group].blank_before:
                group -= 1
            end = starts[index + 1] if index + 1 < len(starts) else len(self.lines)
            before = starts[index - 1] if index else start
            is_long = self._is_long(start, end)
            follows_long = index > 0 and self._is_long(before, start)
            is_documented = any(line.comment and line.comment.is_doc for line in self.lines[group:start])
            if group > 0 and (is_long or follows_long or is_documented):
                self.lines[group].blank_before = True

    def _is_long(self, start: int, end: int) -> bool:
        """Whether a declaration has several lines, or one that is broken at its pipes."""
        return any(line.tokens for line in self.lines[start + 1 : end]) or len(_code(self.lines[start])) > 1


def _starts_declaration(line: _Line) -> bool:
    return bool(line.tokens) and line.depth == 0 and line.tokens[0].kind not in (*_CLOSING, "PIPE")


def _spread_braces(tokens: Sequence[Token]) -> frozenset[Token]:
    """The braces of blocks over several lines. Tokens have places, so equal ones are the same."""
    spread: set[Token] = set()
    opened: list[Token] = []
    for token in tokens:
        if token.kind == "LBRACE":
            opened.append(token)
        elif token.kind == "RBRACE":
            opening = opened.pop()
            if opening.line != token.line:
                spread |= {opening, token}
    return frozenset(spread)


def _aligned(lines: Sequence[_Line]) -> list[str]:
    """The texts of all lines. Comments behind the code of successive lines start in one column."""
    written: list[str] = []
    waiting: list[tuple[int, str]] = []
    for line in lines:
        comment = _comment_text(line.comment) if line.comment else ""
        if waiting and (line.blank_before or not comment or line.is_comment):
            _append_comments(written, waiting)
            waiting = []
        if line.blank_before and written:
            written.append("")
        if line.is_comment:
            written.append(" " * line.indent + comment)
            continue
        written += _code(line)
        if comment:
            waiting.append((len(written) - 1, comment))
    _append_comments(written, waiting)
    return written


def _append_comments(written: list[str], comments: Sequence[tuple[int, str]]) -> None:
    width = max((len(written[index]) for index, _ in comments), default=0)
    for index, comment in comments:
        written[index] = f"{written[index]:<{width}}  {comment}"


def _code(line: _Line) -> list[str]:
    """The text of a line of code: more than one line if it is broken at its pipes."""
    pieces = [_joined(line.tokens, line.goes_on)]
    if line.indent + len(pieces[0]) > WIDTH:
        pieces = [_joined(part, line.goes_on) for part in _parts_at_pipes(line.tokens)]
    deeper = line.indent + (0 if line.tokens[0].kind == "PIPE" else _INDENT)
    return [" " * (deeper if number else line.indent) + piece for number, piece in enumerate(pieces)]


def _parts_at_pipes(tokens: Sequence[Token]) -> list[list[Token]]:
    """A line split before each `|>` that stands outside of the brackets on it."""
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        depth += (token.kind in _OPENING) - (token.kind in _CLOSING)
        if token.kind == "PIPE" and depth == 0 and parts[-1]:
            parts.append([])
        parts[-1].append(token)
    return parts


def _comment_text(comment: Comment) -> str:
    marks = comment.text[: len(comment.text) - len(comment.text.lstrip("#"))]
    rest = comment.text[len(marks) :]
    return f"{marks} {rest}" if rest and not rest[0].isspace() and rest[0] != "!" else comment.text


def _joined(tokens: Sequence[Token], goes_on: bool) -> str:
    """One line's tokens with the canonical spaces between them."""
    text = tokens[0].text
    inside = [tokens[0].kind] if tokens[0].kind in _OPENING else []
    for index in range(1, len(tokens)):
        subtracts = goes_on if index == 1 else _ends_value(tokens, index - 2)
        space = _needs_space(tokens, index, inside[-1] if inside else "", subtracts)
        text += (" " if space else "") + tokens[index].text
        if tokens[index].kind in _OPENING:
            is_named = tokens[index].kind == "LBRACE" and tokens[index - 1].kind == "EQUAL"
            inside.append(_NAMED_VALUES if is_named else tokens[index].kind)
        elif tokens[index].kind in _CLOSING and inside:
            inside.pop()
    return text


def _needs_space(tokens: Sequence[Token], index: int, inside: str, subtracts: bool) -> bool:
    """Whether a space stands before a token. A `-` before it `subtracts`, or is the sign of what follows."""
    before, token = tokens[index - 1], tokens[index]
    if inside == _NAMED_VALUES and (before.kind == "LBRACE" or token.kind == "RBRACE"):
        return False
    if before.kind == "LBRACE" or token.kind == "RBRACE":
        return not (before.kind == "LBRACE" and token.kind == "RBRACE")
    if before.kind == "NUMBER" and token.kind == "DOT":
        return True  # together they would be read as a number
    if before.kind in ("LPAR", "LSQB", "DOT", "RANGE") or token.kind in ("RPAR", "RSQB", "COMMA", "DOT", "RANGE"):
        return False
    if before.kind == "MINUS" and not subtracts:
        return False
    if token.kind in ("LPAR", "LSQB"):
        return not _ends_value(tokens, index - 1)
    if inside == "LSQB" and "COLON" in (before.kind, token.kind):
        return before.kind == "COMMA"
    return token.kind != "COLON"


def _ends_value(tokens: Sequence[Token], index: int) -> bool:
    """Whether a value may end at a token, so that what follows is applied to it."""
    kind = tokens[index].kind
    if kind in _NOT_VALUES:
        return False
    # A word after a value is a keyword: `scan x in y over (…)`.
    return not (kind == "OVER" and index > 0 and _ends_value(tokens, index - 1))
