"""The words and marks of the language as regular expressions, for tools that colour a text without reading it.

Keywords come from the lexer, which the grammar names. Those that are names elsewhere are told by what follows them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from compiler.syntax.build_syntax import ELEMENT_TYPES, SETTING_TYPES
from compiler.syntax.lexer import CONTEXTUAL, DECLARATIONS, OPERATORS, RESERVED

_LITERALS = ("true", "false", "none", "None")
_NAME = r"[^\W\d]\w*"


class Pattern(NamedTuple):
    """A class of words with the expression that matches one: the first of `PATTERNS` that fits at a place counts."""

    class_: str
    expression: str


def _any_of(words: frozenset[str] | tuple[str, ...] | list[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=lambda word: (-len(word), word)))


_FOLLOWED = {
    "param": rf"(?=[ \t]+{_NAME}[ \t]*:)",
    "state": rf"(?=[ \t]+{_NAME}[ \t]*[:=])",
    "input": rf"(?=[ \t]+{_NAME}[ \t]*:)",
    "target": rf"(?=[ \t]+{_NAME}[ \t]*:)",
    "output": rf"(?=[ \t]+{_NAME}[ \t]*[=,])",
    "loss": rf"(?=[ \t]+{_NAME}[ \t]*=(?!=))",
    "view": rf"(?=[ \t]+{_NAME}[ \t]*(?:,|=(?!=)))",
    "augment": r"(?=[ \t]*\{)",
    "update": rf"(?=[ \t]+{_NAME}[ \t]*\{{)",
    "feed": rf"(?=[ \t]+{_NAME}[ \t]+from\b)",
    "from": rf"(?=[ \t]+{_NAME})",
    "gradient": rf"(?=[ \t]*\([ \t]*(?:{_NAME}[ \t]*,[ \t]*)*{_NAME}[ \t]*\)[ \t]*(?:=|\{{))",
    "padded": r"(?=[ \t]+by\b)",
    "by": rf"(?=[ \t]+{_NAME})",
    "over": rf"(?=[ \t]+{_NAME}|[ \t]+[\d\[(-])",
    "carry": rf"(?=[ \t]+{_NAME}[ \t]*=)",
    "until": rf"(?=[ \t]+{_NAME}|[ \t]+[\d\[(-])",
}
"""Keywords of statements that are names elsewhere, each with what follows it where it is one."""

PATTERNS = (
    Pattern("documentation", r"##(?!#).*"),
    Pattern("comment", r"#.*"),
    Pattern("string", r'"(?:[^"\\\n]|\\.)*"?'),
    Pattern("number", r"\b[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"),
    Pattern("declaration", rf'^(?:{_any_of(DECLARATIONS)})\b(?=[ \t]+(?:{_NAME}|"))'),
    *(Pattern("keyword", rf"\b{word}\b{behind}") for word, behind in _FOLLOWED.items()),
    Pattern("literal", rf"\b(?:{_any_of(_LITERALS)})\b"),
    Pattern("keyword", rf"\b(?:{_any_of(RESERVED - frozenset(_LITERALS))})\b"),
    Pattern("type", rf"(?<=: )(?:{_any_of((*ELEMENT_TYPES, *SETTING_TYPES))})\b"),
    Pattern("setting", rf"\b{_NAME}(?=[ \t]*=(?!=))"),
    Pattern("function", rf"\b{_NAME}(?=[ \t]*\()"),
    Pattern("function", rf"(?<=\|> ){_NAME}"),
    Pattern("name", rf"\b{_NAME}"),
    Pattern("operator", _any_of(list(OPERATORS))),
)
assert set(_FOLLOWED) == CONTEXTUAL - DECLARATIONS


def coarse(class_: str) -> str:
    """The class as the grammar knows it: `comment`, `string`, `number`, `keyword`, `operator` or `name`."""
    if class_ in ("keyword", "declaration", "literal"):
        return "keyword"
    if class_ in ("type", "setting", "function"):
        return "name"
    return "comment" if class_ == "documentation" else class_
