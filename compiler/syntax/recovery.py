"""A text in any state to the syntax of its sound parts, for editors: lines that cannot be read are left out.

A text is read in pieces of one declaration each, and a piece that stands in the same lines as before is not read again.
A declaration with a mistake is read once more without the line of the mistake, and so on until the rest is sound.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from compiler.errors.diagnostics import Diagnostic, Source, SourceError
from compiler.support.recent import Recent
from compiler.support.record import record
from compiler.syntax import tree
from compiler.syntax.lexer import CONTEXTUAL, DECLARATIONS, END, KEYWORDS, NEWLINE, Comment, Lexed, Token, lex
from compiler.syntax.parser import MOST_MISTAKES, Parser

_ROUNDS = 40
_MOST_TOKENS = 20_000
"""A declaration of more tokens is not mended: each round reads all of them."""
_MOST_FILES = 300
_MOST_TEXTS = 16
_MOST_CHARACTERS = 4_000_000
"""Of a file, as many earlier texts are kept for the places in its pieces, or as many as have so many characters."""
LARGEST_READ = 200_000
"""Characters of a text that is read; a larger one is only cut into words: reading takes 4 s for a million."""
LARGEST_LEXED = 2_000_000
"""Characters of a text that is cut into words, which takes half a second for a million."""
_DOCUMENTS_NOTHING = "E0113"
_NO_NAMES = "|".join(sorted({*KEYWORDS, "True", "False"} - CONTEXTUAL))
_BEGINNING = re.compile(
    rf"^(?:{'|'.join(sorted(DECLARATIONS))})[ \t]+(?!(?:{_NO_NAMES})\b)(?:[^\W\d]|\")", re.MULTILINE
)
"""A line that begins a declaration, whatever stands before it: so says `split_declarations`."""
_NO_CODE = re.compile(r"[ \t\r]*(?:#|$)")


@record
class Recovered:
    """The declarations that can be read, all mistakes of the text, and the lines (from 1) that no declaration has.

    The source of a place may be an earlier text, which is the same in the lines of its declaration. A text that is
    too large has words, but no declarations, and mistakes of words only.
    """

    module: tree.Module
    mistakes: tuple[Diagnostic, ...]
    holes: frozenset[int]
    lexed: Lexed

    @property
    def is_too_large(self) -> bool:
        return is_too_large(self.module.source)


@record
class _Piece:
    """A stretch of a text: its declarations without its holes, and all its mistakes. Its places name `source`."""

    source: Source
    lexed: Lexed
    declarations: tuple[tree.Declaration, ...]
    mistakes: tuple[Diagnostic, ...] = ()
    holes: frozenset[int] = frozenset()


_Pieces = dict[tuple[int, str], _Piece]
"""The pieces of a text in order, by first line and text."""


class Recovery:
    """Reads texts in any state. Of each file, its last text is kept with its pieces."""

    def __init__(self, parser: Parser) -> None:
        self._parser = parser
        self._kept: Recent[str, tuple[Recovered, _Pieces]] = Recent(_MOST_FILES)

    def read(self, source: Source) -> Recovered:
        """The syntax of a source, with its mistakes beside it; they are those of `Parser.parse`."""
        last, known = self._kept.get(source.name) or (None, {})
        if last is not None and last.module.source.text == source.text:
            return last
        if is_too_large(source):
            found, pieces = _only_words(source), _Pieces()
        else:
            pieces = self._pieces(source, {} if _holds_many_texts(known) else known)
            found = self._recovered(source, pieces)
        self._kept.put(source.name, (found, pieces))
        return found

    def _pieces(self, source: Source, known: _Pieces) -> _Pieces:
        """The pieces of a text, those that are `known` without reading."""
        pieces: _Pieces = {}
        line = 1
        for begin, end in _stretches(source.text):
            text = source.text[begin:end]
            pieces[line, text] = known.get((line, text)) or self._piece(source, begin, end)
            line += text.count("\n")
        return pieces

    def _recovered(self, source: Source, pieces: _Pieces) -> Recovered:
        return Recovered(
            tree.Module(source, tuple(d for piece in pieces.values() for d in piece.declarations)),
            self._mistakes(source, list(pieces.values())),
            frozenset(line for piece in pieces.values() for line in piece.holes),
            _joined([piece.lexed for piece in pieces.values()]),
        )

    def _piece(self, source: Source, begin: int, end: int) -> _Piece:
        lexed = lex(source, begin, end)
        try:
            return _Piece(source, lexed, self._parser.parse_tokens(source, lexed).declarations)
        except SourceError as error:
            declarations, lost = _mended(self._parser, source, lexed)
            return _Piece(source, lexed, declarations, error.diagnostics, frozenset(lost))

    def _mistakes(self, source: Source, pieces: Sequence[_Piece]) -> tuple[Diagnostic, ...]:
        found = [mistake for piece in pieces for mistake in piece.mistakes]
        if len(found) >= MOST_MISTAKES:
            try:
                self._parser.parse(source)
            except SourceError as error:  # which says how many more there are
                return error.diagnostics
        others = [mistake for mistake in found if mistake.code != _DOCUMENTS_NOTHING]
        return tuple(others or found)


def is_too_large(source: Source) -> bool:
    """Whether a text is only cut into words."""
    return len(source.text) > LARGEST_READ


def _only_words(source: Source) -> Recovered:
    lexed = lex(source) if len(source.text) <= LARGEST_LEXED else Lexed((), (), ())
    return Recovered(tree.Module(source, ()), lexed.mistakes[:MOST_MISTAKES], frozenset(), lexed)


def _holds_many_texts(pieces: _Pieces) -> bool:
    """Whether pieces that were read at many times keep more of their texts than they need."""
    texts = {id(piece.source): len(piece.source.text) for piece in pieces.values()}
    return len(texts) > _MOST_TEXTS and sum(texts.values()) > _MOST_CHARACTERS


def _stretches(text: str) -> Iterator[tuple[int, int]]:
    """Where each declaration begins, with the comments above it, and where it ends."""
    starts = [0]
    for match in _BEGINNING.finditer(text):
        start = match.start()
        while start > starts[-1]:
            before = text.rfind("\n", 0, start - 1) + 1
            if _NO_CODE.match(text, before, start - 1) is None:
                break
            start = before
        starts.append(start)
    yield from ((begin, end) for begin, end in pairwise((*starts, len(text))) if begin < end)


def _joined(parts: Sequence[Lexed]) -> Lexed:
    """The tokens and comments of a text that was read in parts."""
    tokens: list[Token] = []
    comments: list[Comment] = []
    for part in parts:
        comments += (comment._replace(following=comment.following + len(tokens)) for comment in part.comments)
        tokens += part.tokens
    return Lexed(tuple(tokens), tuple(comments), tuple(mistake for part in parts for mistake in part.mistakes))


def _mended(parser: Parser, source: Source, lexed: Lexed) -> tuple[tuple[tree.Declaration, ...], set[int]]:
    """The declarations of a stretch, and the lines that were left out of them."""
    lost = {mistake.span.line for mistake in lexed.mistakes}
    closing: list[Token] = []
    for _ in range(_ROUNDS if len(lexed.tokens) < _MOST_TOKENS else 1):
        kept = _without(lexed, lost, closing)
        try:
            return parser.parse_tokens(source, kept).declarations, lost
        except SourceError as error:
            mistake = error.diagnostics[0]
        if not kept.tokens:
            break
        if mistake.code == _DOCUMENTS_NOTHING:
            kept = Lexed(kept.tokens, (), ())  # comments that document nothing now
            return parser.parse_tokens(source, kept).declarations, lost
        if mistake.code == "E0102" and source.line(mistake.span.line)[mistake.span.column - 1 :].startswith("{"):
            last = kept.tokens[-1]
            closing.append(Token("RBRACE", "}", last.line + 1, 1))
        elif (line := _line_at_fault(parser, source, kept, mistake)) in lost:
            break
        else:
            lost.add(line)
    return (), {token.line for token in lexed.tokens}


def _line_at_fault(parser: Parser, source: Source, kept: Lexed, mistake: Diagnostic) -> int:
    """The line to leave out: that of the token which cannot stand there, or where a line ends too early, that line."""
    found = parser.unexpected(source, kept)
    if found is None:
        return mistake.span.line
    before, token = found
    ends_too_early = token.kind in (NEWLINE, END) or token.text == "}"
    return before.line if ends_too_early and before.text != "}" else token.line


def _without(lexed: Lexed, lost: set[int], closing: Sequence[Token]) -> Lexed:
    """The tokens and comments of all other lines, and further tokens at the end."""
    tokens: list[Token] = []
    following: list[int] = []  # by the index of a token, that of the next one which is kept
    for token in lexed.tokens:
        following.append(len(tokens))
        if token.line not in lost:
            tokens.append(token)
    following.append(len(tokens))
    tokens += closing
    comments = (_moved(comment, following) for comment in lexed.comments)
    return Lexed(tuple(tokens), tuple(comment for comment in comments if comment.following < len(tokens)), ())


def _moved(comment: Comment, following: Sequence[int]) -> Comment:
    return comment._replace(following=following[comment.following])
