"""`.dl` for Pygments: pages, notebooks and terminals. Pygments finds it by the entry point of the package."""

from __future__ import annotations

import re
from typing import ClassVar

from pygments.lexer import RegexLexer
from pygments.token import Comment, Keyword, Name, Number, Operator, String, Whitespace

from compiler.syntax.declarations import begins_with_declaration
from compiler.syntax.highlighting import PATTERNS

TOKENS = {
    "documentation": String.Doc,
    "comment": Comment.Single,
    "string": String.Double,
    "number": Number,
    "declaration": Keyword.Declaration,
    "keyword": Keyword,
    "literal": Keyword.Constant,
    "type": Keyword.Type,
    "setting": Name.Attribute,
    "function": Name.Function,
    "name": Name,
    "operator": Operator,
}


class DlLexer(RegexLexer):
    """Colours the texts of models; of other languages with files of this name, it claims none."""

    name = "dl"
    aliases: ClassVar = ["dl"]
    filenames: ClassVar = ["*.dl"]
    url = ""
    flags = re.MULTILINE
    tokens: ClassVar[dict[str, list[tuple[str, object]]]] = {
        "root": [(r"\s+", Whitespace), *((pattern.expression, TOKENS[pattern.class_]) for pattern in PATTERNS)]
    }

    @staticmethod
    def analyse_text(text: str) -> float:
        """How surely a text is a model: `.dl` also ends the names of Datalog programs."""
        return 0.6 if text.strip() and begins_with_declaration(text) else 0.0
