"""The text of one file to its abstract syntax, or to all the syntax mistakes in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, cast

from compiler.errors.diagnostics import Diagnostic, Note, Source, SourceError, Span, hint
from compiler.syntax import tree
from compiler.syntax.build_syntax import SyntaxBuilder
from compiler.syntax.declarations import DEEPEST, split_declarations
from compiler.syntax.grammar_tables import CALL, Actions, Automaton, UnexpectedToken, load_tables
from compiler.syntax.lexer import Comment, Lexed, lex
from compiler.syntax.syntax_errors import Explainer, end_declaration

MOST_MISTAKES = 100


class Parser:
    """Parses any number of sources with one copy of the grammar's tables, which it reads when first needed."""

    def __init__(self) -> None:
        self._automaton: Automaton | None = None
        self._explainer: Explainer | None = None

    def parse(self, source: Source, begin: int = 0, end: int | None = None) -> tree.Module:
        """The syntax of a source, or of what stands from the start of a line `begin` to the start of a line `end`.

        Raises `SourceError` with every independent mistake, in the order of the text.
        """
        automaton = self._automaton = self._automaton or Automaton(load_tables())
        explainer = self._explainer = self._explainer or Explainer(automaton)
        return _parse(source, lex(source, begin, end), automaton, explainer)


def parse(source: Source) -> tree.Module:
    """The syntax of a source. Raises `SourceError` with every independent mistake, in the order of the text."""
    return Parser().parse(source)


def _parse(source: Source, lexed: Lexed, automaton: Automaton, explainer: Explainer) -> tree.Module:
    documentation = _Documentation(lexed)
    builder = SyntaxBuilder(source, documentation.texts)
    actions = _actions(builder, automaton)
    mistakes = list(lexed.mistakes)
    untold = 0
    declarations: list[tree.Declaration] = []
    for declared in split_declarations(source, lexed):
        mistakes += declared.mistakes
        if not declared.is_sound:
            continue
        tokens = end_declaration(declared.tokens)
        try:
            declaration = automaton.run(tokens, actions)
        except UnexpectedToken as unexpected:
            if len(mistakes) < MOST_MISTAKES:
                mistakes.append(explainer.explain(source, tokens, unexpected))
            else:
                untold += 1
        else:
            mistakes += _too_deep(declaration, len(tokens))
            declarations.append(declaration)
    mistakes += builder.mistakes
    # After another mistake, comments stand alone only because what they document was not read.
    mistakes = mistakes or documentation.misplaced(source)
    if mistakes:
        mistakes.sort(key=lambda mistake: (mistake.span.line, mistake.span.column))
        raise SourceError(_first(mistakes, untold))
    return tree.Module(source, tuple(declarations))


def _first(mistakes: list[Diagnostic], untold: int) -> tuple[Diagnostic, ...]:
    """At most `MOST_MISTAKES`; the last says how many more there are."""
    *others, last = mistakes[:MOST_MISTAKES]
    more = max(len(mistakes) - MOST_MISTAKES, 0) + untold
    if more:
        last = replace(last, notes=(*last.notes, Note(f"the syntax of this file has {more:,} more mistakes")))
    return (*others, last)


def _too_deep(declaration: tree.Declaration, size: int) -> list[Diagnostic]:
    """The mistake of a declaration that later stages, which recurse, could not walk. `size` counts its tokens."""
    if size <= DEEPEST:
        return []
    level: list[Any] = [declaration]
    for _ in range(DEEPEST):
        level = [part for node in level for part in _parts(node)]
        if not level:
            return []
    fix = hint("give the inner parts names")
    return [Diagnostic("E0117", "this is nested too deeply", next(iter(level)).span, (fix,))]


def _parts(node: Any) -> Iterator[Any]:
    """The nodes directly below one."""
    for field in fields(node):
        waiting: list[Any] = [getattr(node, field.name)]
        for value in waiting:
            if isinstance(value, tuple):
                waiting += cast(tuple[Any, ...], value)
            elif is_dataclass(value) and not isinstance(value, Span):
                yield value


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
