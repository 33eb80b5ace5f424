"""Source text to tokens and comments; text that is no token becomes a diagnostic."""

from __future__ import annotations

import re
from math import isinf
from typing import NamedTuple

from compiler.errors.diagnostics import Diagnostic, Note, Source, Span, hint
from compiler.support.record import record

RESERVED = frozenset(
    ("if", "else", "for", "in", "scan", "return", "emit", "and", "or", "not", "true", "false", "none", "None")
)
DECLARATIONS = frozenset(
    (
        *("const", "fn", "layer", "init", "model", "optimizer", "schedule"),
        *("train", "generate", "sample", "test", "import"),
    )
)
_BODIES = frozenset(
    ("param", "state", "input", "output", "loss", "view", "target", "augment", "update", "feed", "from", "gradient")
)
_CLAUSES = frozenset(("padded", "by", "over", "carry", "until"))
CONTEXTUAL = DECLARATIONS | _BODIES | _CLAUSES

NEWLINE = "_NEWLINE"
END = "$END"

KEYWORDS = {word: word.upper() for word in RESERVED | CONTEXTUAL} | {"None": "NEW_AXIS"}
OPERATORS = {
    "(": "LPAR",
    ")": "RPAR",
    "[": "LSQB",
    "]": "RSQB",
    "{": "LBRACE",
    "}": "RBRACE",
    ",": "COMMA",
    ":": "COLON",
    ".": "DOT",
    "..": "RANGE",
    "...": "ELLIPSIS",
    "=": "EQUAL",
    "<-": "BECOMES",
    "->": "ARROW",
    "|>": "PIPE",
    "==": "EQUALS",
    "!=": "DIFFERS",
    "<": "LESS",
    "<=": "LESS_EQUAL",
    ">": "GREATER",
    ">=": "GREATER_EQUAL",
    "+": "PLUS",
    "-": "MINUS",
    "*": "STAR",
    "/": "SLASH",
    "//": "DOUBLE_SLASH",
    "%": "PERCENT",
    "@": "AT",
    "^": "CARET",
}

# Marks of other languages and of typeset text, each with what to write instead.
_FOREIGN = {
    "&&": "write `and`",
    "||": "write `or`",
    "!": "write `not`",
    ";": "a newline ends a statement",
    "'": 'strings stand between two `"`',
    "`": 'strings stand between two `"`',
    "\\": "a line goes on inside brackets, or on a next line that starts with `|>`",
    "|": "the pipe is `|>`, and `or` joins conditions",
    "&": "`and` joins conditions",
    "?": "choose with `where(condition, a, b)` or an `if`",
    "$": "names are written without a mark",
    "~": "write `not`",
    "**": "the power is written `^`",
    "=>": "a result type stands after `->`",
    ":=": "a name gets its value with `=`",
    "++": "write `x = x + 1`",
    "--": "write `- -` for a double minus, or `x = x - 1`",
    "×": "write `*`",
    "·": "write `*`, or `@` for a product of matrices",
    "÷": "write `/`",
    "−": "write `-`",
    "–": "write `-`",
    "—": "write `-`",
    "≤": "write `<=`",
    "≥": "write `>=`",
    "≠": "write `!=`",
    "→": "write `->`",
    "←": "write `<-`",
    "…": "write `...`",
    "²": "write `^ 2`",
    "³": "write `^ 3`",
    "“": 'write `"`',
    "”": 'write `"`',
    "„": 'write `"`',
    "’": 'strings stand between two `"`',
    "‘": 'strings stand between two `"`',
    "\u00a0": "write an ordinary space",
    "\ufeff": "remove this invisible mark",
    "\u200b": "remove this invisible mark",
}
_COMPOUND = {f"{mark}=": f"write `x = x {mark} …`" for mark in ("+", "-", "*", "/", "//", "%", "@", "^", "**")}
_HABITS = {"True": "true", "False": "false"}


def _longest_first(marks: list[str]) -> str:
    return "|".join(re.escape(mark) for mark in sorted(marks, key=len, reverse=True))


_TOKEN = re.compile(
    rf"""[ \t\r]*(?:
    (?P<name>[^\W\d]\w*)
    | (?P<newline>\n)
    | (?P<comment>\#[^\n]*)
    | (?P<number>(?:[0-9]|\.(?=[0-9]))(?:(?<=[0-9.][eE])[+-](?=[0-9])|\w|\.(?!\.))*)
    | (?P<text>"(?:[^"\\\n]|\\[^\n])*"?)
    | (?P<compound>(?:{_longest_first(list(_COMPOUND))})(?!=))
    | (?P<foreign>&&|\|\||\*\*|=>|:=|\+\+)
    | (?P<operator>{_longest_first(list(OPERATORS))})
    | (?P<other>[^ \t\r\n])
    )""",
    re.VERBOSE,
)
TOO_LARGE = "is too large"
"""How the message for a number ends that no type holds."""
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_ESCAPE = re.compile(r"\\(.)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}


class Token(NamedTuple):
    """One token; it lies on one line. `kind` is a terminal of the grammar."""

    kind: str
    text: str
    line: int
    column: int

    @property
    def end_column(self) -> int:
        return self.column + len(self.text)


class Comment(NamedTuple):
    """`# text` or `## text`, without trailing blanks. `following` is the index of the token after it."""

    text: str
    line: int
    column: int
    following: int
    stands_alone: bool

    @property
    def is_doc(self) -> bool:
        return self.text.startswith("##") and not self.text.startswith("###")


@record
class Lexed:
    """The tokens of a text in order (newlines are told from their lines), its comments and its lexical mistakes."""

    tokens: tuple[Token, ...]
    comments: tuple[Comment, ...]
    mistakes: tuple[Diagnostic, ...]


def lex(source: Source, begin: int = 0, end: int | None = None) -> Lexed:
    """Split a text into tokens, or what stands from the start of a line `begin` to the start of a line `end`.

    A mistake leaves no token, and the rest of the text is still read.
    """
    tokens: list[Token] = []
    comments: list[Comment] = []
    mistakes: list[Diagnostic] = []
    line, line_start, last_line = source.text.count("\n", 0, begin) + 1, begin, 0
    for match in _TOKEN.finditer(source.text, begin, len(source.text) if end is None else end):
        group = match.lastgroup or ""
        text, column = match.group(group), match.start(group) - line_start + 1
        if group == "newline":
            line, line_start = line + 1, match.end()
            continue
        if group == "comment":
            comments.append(Comment(text.rstrip(), line, column, len(tokens), last_line != line))
            continue
        last_line = line
        mistake = None
        if group == "name":
            token = Token(KEYWORDS.get(text, "NAME"), text, line, column)
            if text in _HABITS or not (text.isascii() or text.isidentifier()):
                mistake = _name_mistake(source, token)
        elif group == "operator":
            token = Token(OPERATORS[text], text, line, column)
        elif group == "number":
            token = Token("NUMBER", text, line, column)
            mistake = _number_mistake(source, token)
        elif group == "text":
            token = Token("STRING", text, line, column)
            mistake = _text_mistake(source, token)
        else:
            token = Token("", text, line, column)
            mistake = _character_mistake(source, token, group == "compound")
        if mistake is None:
            tokens.append(token)
        else:
            mistakes.append(mistake)
    return Lexed(tuple(tokens), tuple(comments), tuple(mistakes))


def number_value(text: str) -> int | float:
    """The value of a number's text: an int unless it has a point or an exponent."""
    return int(text.lstrip("0") or "0") if text.isdecimal() else float(text)


def text_value(text: str) -> str:
    """The value of a string's text, without quotes and with its escapes resolved."""
    return _ESCAPE.sub(lambda match: _ESCAPES[match.group(1)], text[1:-1])


def span_of(source: Source, token: Token) -> Span:
    """The place of one token."""
    return Span(source, token.line, token.column, token.line, max(token.end_column, token.column + 1))


def _number_mistake(source: Source, token: Token) -> Diagnostic | None:
    text = token.text
    if _NUMBER.fullmatch(text):
        if not _is_too_large(text):
            return None
        return _mistake(source, token, "E0104", f"the number {_shortened(text)} {TOO_LARGE}")
    if re.fullmatch(r"\.[0-9]+([eE][+-]?[0-9]+)?", text):
        return _mistake(source, token, "E0104", "a number has digits on both sides of its point", f"write `0{text}`")
    if re.fullmatch(r"[0-9]+\.", text):
        return _mistake(source, token, "E0104", "a number has digits on both sides of its point", f"write `{text}0`")
    if re.fullmatch(r"[0-9]+(_[0-9]+)+", text):
        fix = f"write `{text.replace('_', '')}`"
        return _mistake(source, token, "E0104", "a number has no underscores", fix)
    if re.fullmatch(r"[0-9]+[^\W\d_]\w*", text) and not re.match(r"0[xXbBoO][0-9a-fA-F]", text):
        fix = "a name cannot begin with a digit, and a product is written with `*`"
        return _mistake(source, token, "E0104", f"`{_shortened(text)}` is neither a number nor a name", fix)
    return _mistake(
        source, token, "E0104", f"`{_shortened(text)}` is not a number", "numbers look like 12, 0.5 and 1e-3"
    )


def _is_too_large(text: str) -> bool:
    if not text.isdecimal():
        return isinf(float(text))
    digits = text.lstrip("0")
    return len(digits) > 19 or int(digits or "0") >= 2**63


def _text_mistake(source: Source, token: Token) -> Diagnostic | None:
    text = token.text
    if len(text) < 2 or not re.fullmatch(r'"(?:[^"\\\n]|\\.)*"', text):
        fix = 'a string ends with `"` on the line where it begins'
        return _mistake(source, token, "E0105", "this string does not end", fix)
    unknown = next((match for match in _ESCAPE.finditer(text) if match.group(1) not in _ESCAPES), None)
    if unknown is None:
        return None
    place = Token("", unknown.group(), token.line, token.column + unknown.start())
    fix = 'the escapes are `\\n`, `\\t`, `\\r`, `\\"` and `\\\\`'
    return _mistake(source, place, "E0105", f"`{unknown.group()}` is not an escape", fix)


def _name_mistake(source: Source, token: Token) -> Diagnostic:
    if token.text in _HABITS:
        return _mistake(source, token, "E0111", f"`{token.text}` is written `{_HABITS[token.text]}` here")
    mark = next((mark for mark in token.text if not f"a{mark}".isidentifier()), token.text[0])
    place = Token("", mark, token.line, token.column + token.text.index(mark))
    return _character_mistake(source, place, False)


def _character_mistake(source: Source, token: Token, compound: bool) -> Diagnostic:
    text = token.text
    if compound:
        return _mistake(source, token, "E0111", f"there is no `{text}`", _COMPOUND[text])
    if text in ("**", ":=", "++"):
        return _mistake(source, token, "E0111", f"there is no `{text}`", _FOREIGN[text])
    shown = f"`{text}`" if text.isprintable() and not text.isspace() else f"the character U+{ord(text):04X}"
    fix = _FOREIGN.get(text, "outside of comments and strings this character has no use")
    return _mistake(source, token, "E0103", f"{shown} has no meaning here", fix)


def _mistake(source: Source, token: Token, code: str, message: str, fix: str = "") -> Diagnostic:
    notes: tuple[Note, ...] = (hint(fix),) if fix else ()
    return Diagnostic(code, message, span_of(source, token), notes)


def _shortened(text: str) -> str:
    return text if len(text) <= 24 else f"{text[:20]}…"
