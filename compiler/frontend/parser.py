"""The text of one file to its abstract syntax, or to all the syntax mistakes in it."""

from __future__ import annotations

from typing import Any

from compiler.diagnostics import Diagnostic, Source, SourceError, Span, hint
from compiler.frontend import syntax
from compiler.frontend.automaton import Actions, Automaton, UnexpectedToken
from compiler.frontend.build_syntax import SyntaxBuilder
from compiler.frontend.declarations import split_declarations
from compiler.frontend.grammar_tables import CALL, load_tables
from compiler.frontend.lexer import Comment, Lexed, lex
from compiler.frontend.syntax_errors import end_declaration, explain_unexpected


class Parser:
    """Parses any number of sources with one copy of the grammar's tables, which it reads when first needed."""

    def __init__(self) -> None:
        self._automaton: Automaton | None = None

    def parse(self, source: Source) -> syntax.Module:
        """The syntax of a source. Raises `SourceError` with every independent mistake, in the order of the text."""
        if self._automaton is None:
            self._automaton = Automaton(load_tables())
        return _parse(source, self._automaton)


def parse(source: Source) -> syntax.Module:
    """The syntax of a source. Raises `SourceError` with every independent mistake, in the order of the text."""
    return Parser().parse(source)


def _parse(source: Source, automaton: Automaton) -> syntax.Module:
    lexed = lex(source)
    documentation = _Documentation(lexed)
    builder = SyntaxBuilder(source, documentation.texts)
    actions = _actions(builder, automaton)
    mistakes = list(lexed.mistakes)
    declarations: list[syntax.Declaration] = []
    for declared in split_declarations(source, lexed):
        mistakes += declared.mistakes
        if not declared.is_sound:
            continue
        tokens = end_declaration(declared.tokens)
        try:
            declarations.append(automaton.run(tokens, actions))
        except UnexpectedToken as unexpected:
            mistakes.append(explain_unexpected(source, tokens, unexpected, automaton))
    mistakes += builder.mistakes
    # After another mistake, comments stand alone only because what they document was not read.
    mistakes = mistakes or documentation.misplaced(source)
    if mistakes:
        raise SourceError(tuple(sorted(mistakes, key=lambda mistake: (mistake.span.line, mistake.span.column))))
    return syntax.Module(source, tuple(declarations))


def _actions(builder: SyntaxBuilder, automaton: Automaton) -> Actions:
    """The builder's methods by rule; those of rules with the name of a Python keyword end in `_`."""
    names = {rule.name for rule in automaton.tables.rules if rule.kind == CALL}
    methods: dict[str, Any] = {name: getattr(builder, name, None) for name in names}
    return {name: method or getattr(builder, f"{name}_") for name, method in methods.items()}


class _Documentation:
    """The `##` comments of a text; `texts` are taken out as the nodes that they document are built."""

    def __init__(self, lexed: Lexed) -> None:
        self.texts: dict[tuple[int, int], str] = {}
        self._comments: dict[tuple[int, int], Comment] = {}
        self._misplaced: list[Comment] = []
        previous_line = 0
        for comment in lexed.comments:
            if not comment.is_doc:
                continue
            if not comment.stands_alone or comment.following == len(lexed.tokens):
                self._misplaced.append(comment)
                continue
            token = lexed.tokens[comment.following]
            place = (token.line, token.column)
            text = comment.text[2:].removeprefix(" ")
            if place in self.texts:
                gap = "\n\n" if comment.line > previous_line + 1 else "\n"
                self.texts[place] += gap + text
            else:
                self.texts[place] = text
                self._comments[place] = comment
            previous_line = comment.line

    def misplaced(self, source: Source) -> list[Diagnostic]:
        """The comments that document nothing."""
        unused = (self._comments[place] for place in self.texts)
        return [_misplaced(source, comment) for comment in (*self._misplaced, *unused)]


def _misplaced(source: Source, comment: Comment) -> Diagnostic:
    span = Span(source, comment.line, comment.column, comment.line, comment.column + len(comment.text))
    message = "this `##` comment documents nothing"
    fix = "put it on a line of its own before a declaration, statement or parameter, or make it a `#` comment"
    return Diagnostic("E0113", message, span, (hint(fix),))
