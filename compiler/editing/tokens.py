"""A text to its words with their classes, for colouring."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

from compiler.editing.document import Document
from compiler.editing.symbols import Kind
from compiler.support.record import record
from compiler.syntax.lexer import CONTEXTUAL, RESERVED, Token


class Class(Enum):
    """The class of a word or mark."""

    KEYWORD = "keyword"
    NUMBER = "number"
    STRING = "string"
    COMMENT = "comment"
    OPERATOR = "operator"
    FUNCTION = "function"
    LAYER = "class"
    TYPE = "type"
    SETTING = "parameter"
    VARIABLE = "variable"
    PROPERTY = "property"
    CONSTANT = "enumMember"


_CLASSES = {
    Kind.CONST: Class.CONSTANT,
    Kind.FN: Class.FUNCTION,
    Kind.LAYER: Class.LAYER,
    Kind.INIT: Class.FUNCTION,
    Kind.OPTIMIZER: Class.FUNCTION,
    Kind.SCHEDULE: Class.FUNCTION,
    Kind.MODEL: Class.LAYER,
    Kind.TRAIN: Class.VARIABLE,
    Kind.TEST: Class.VARIABLE,
    Kind.SAMPLE: Class.VARIABLE,
    Kind.SETTING: Class.SETTING,
    Kind.BUILTIN: Class.FUNCTION,
    Kind.CONSTANT: Class.CONSTANT,
    Kind.TYPE: Class.TYPE,
    Kind.KEY: Class.PROPERTY,
    Kind.FORMAT: Class.FUNCTION,
    Kind.OPTION: Class.PROPERTY,
    Kind.ATTRIBUTE: Class.PROPERTY,
}


@record
class Coloured:
    """A word at a place, counted from 1; it ends on its line."""

    line: int
    column: int
    length: int
    class_: Class
    is_declaration: bool = False
    is_library: bool = False


def coloured(document: Document) -> list[Coloured]:
    """All words, marks and comments of a text, in its order; of a text that is too large, those whose class does not
    depend on others."""
    found = [_token(document, token) for token in document.lexed.tokens]
    found += [Coloured(c.line, c.column, len(c.text), Class.COMMENT) for c in document.lexed.comments]
    found += _unread(document)
    if document.syntax.is_too_large:
        found = [word for word in found if word.class_ not in (Class.VARIABLE, Class.OPERATOR)]
    return sorted(found, key=lambda word: (word.line, word.column))


def _token(document: Document, token: Token) -> Coloured:
    length = len(token.text)
    if token.kind == "NUMBER":
        return Coloured(token.line, token.column, length, Class.NUMBER)
    if token.kind == "STRING":
        return Coloured(token.line, token.column, length, Class.STRING)
    occurrence = document.occurrences.get((token.line, token.column))
    if occurrence is not None:
        class_ = _CLASSES.get(occurrence.kind, Class.VARIABLE)
        symbol = occurrence.symbol
        is_library = symbol is not None and symbol.is_library and occurrence.kind is not Kind.KEY
        return Coloured(token.line, token.column, length, class_, occurrence.is_written, is_library)
    if token.text in RESERVED or token.text in CONTEXTUAL:
        return Coloured(token.line, token.column, length, Class.KEYWORD)
    is_word = token.text[:1].isidentifier()
    return Coloured(token.line, token.column, length, Class.VARIABLE if is_word else Class.OPERATOR)


def _unread(document: Document) -> Iterator[Coloured]:
    """Strings that do not end: no token, but seen as strings."""
    for mistake in document.lexed.mistakes:
        span = mistake.span
        if mistake.code == "E0105" and span.line == span.end_line:
            text = document.lines[span.line - 1][span.column - 1 : span.end_column - 1].rstrip("\r")
            if text.startswith('"'):
                yield Coloured(span.line, span.column, len(text), Class.STRING)
