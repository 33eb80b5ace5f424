"""The text of one file to its abstract syntax, or to all the syntax mistakes in it; and the cache of what was parsed.

An entry of the cache is named by a hash of the text, the grammar and the front end's code. It is a pickle restricted
to classes of the syntax, so reading one runs no code; but it stands for the text, so one that another user may have
written is not used, nor one that is missing or damaged.
"""

from __future__ import annotations

import contextlib
import gc
import io
import pickle
from collections.abc import Generator, Iterator
from dataclasses import fields, is_dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from compiler.errors import diagnostics
from compiler.errors.diagnostics import Diagnostic, Note, Source, SourceError, Span, hint
from compiler.support.cache import ObjectCache
from compiler.syntax import tree
from compiler.syntax.build_syntax import SyntaxBuilder
from compiler.syntax.declarations import DEEPEST, split_declarations
from compiler.syntax.grammar_tables import CALL, GRAMMAR, Actions, Automaton, UnexpectedToken, load_tables
from compiler.syntax.lexer import Comment, Lexed, Token, lex
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
        return self.parse_tokens(source, lex(source, begin, end))

    def parse_tokens(self, source: Source, lexed: Lexed) -> tree.Module:
        """As `parse`, of these tokens of a source."""
        automaton = self._automaton = self._automaton or Automaton(load_tables())
        explainer = self._explainer = self._explainer or Explainer(automaton)
        return _parse(source, lexed, automaton, explainer)

    def unexpected(self, source: Source, lexed: Lexed) -> tuple[Token, Token] | None:
        """The first token that the grammar does not allow, and the one before it; None where brackets are at fault."""
        automaton = self._automaton = self._automaton or Automaton(load_tables())
        for declared in split_declarations(source, lexed):
            tokens = end_declaration(declared.tokens)
            if not declared.is_sound:
                return None
            try:
                automaton.check(tokens)
            except UnexpectedToken as found:
                return tokens[max(found.position - 1, 0)], tokens[found.position]
        return None


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


_NODES: dict[type, tuple[str, ...]] = {
    node: tuple(field.name for field in fields(node))
    for node in (*vars(tree).values(), Span)
    if isinstance(node, type) and hasattr(node, "__dataclass_fields__") and node is not Source
}
_BY_NAME = {(node.__module__, node.__qualname__): node for node in _NODES}
_CODE = ("tree", "expressions", "lexer", "declarations", "grammar_tables", "build_syntax", "parser")


class ParseCache:
    """Parses sources, or reads the result of an earlier parse in `folder`. Without a folder it only parses."""

    def __init__(self, folder: Path | None) -> None:
        self._cache = ObjectCache(folder) if folder else None
        self._parser = Parser()
        self._version = b""

    def parse(self, source: Source) -> tree.Module:
        """The syntax of a source. Raises `SourceError` with every independent syntax mistake."""
        if self._cache is None:
            return self._parser.parse(source)
        self._version = self._version or _version()
        name = sha256(self._version + source.text.encode("utf-8", "surrogatepass")).hexdigest()
        content = self._cache.get_parsed(name)
        module = None if content is None else _restored(content, source)
        if module is None:
            module = self._parser.parse(source)
            if (content := _stored(module)) is not None:
                self._cache.put_parsed(name, content)
        return module


def _version() -> bytes:
    """A hash of all that decides the syntax of a text."""
    folder = Path(__file__).parent
    code = [(folder / f"{name}.py").read_bytes() for name in _CODE]
    return sha256(b"\0".join([GRAMMAR.read_bytes(), Path(diagnostics.__file__).read_bytes(), *code])).digest()


def _restored(content: bytes, source: Source) -> tree.Module | None:
    try:
        with _without_collection():
            declarations: tuple[tree.Declaration, ...] = _Unpickler(io.BytesIO(content), source).load()
    except Exception:  # a damaged pickle can raise anything; the text is then parsed
        return None
    return tree.Module(source, declarations)


def _stored(module: tree.Module) -> bytes | None:
    """None where the syntax is nested too deeply."""
    stream = io.BytesIO()
    with contextlib.suppress(RecursionError):
        _Pickler(stream, protocol=pickle.HIGHEST_PROTOCOL).dump(module.declarations)
        return stream.getvalue()
    return None


def _source() -> Source:
    """Stands in an entry for the source of the file, which the reader has."""
    raise AssertionError("an entry is read by `_Unpickler` only")


class _Pickler(pickle.Pickler):
    """Writes nodes as a class and its fields, and leaves out the source."""

    def reducer_override(self, obj: Any) -> Any:
        names = _NODES.get(obj.__class__)
        if names is not None:
            return obj.__class__, tuple([getattr(obj, name) for name in names])
        return (_source, ()) if obj.__class__ is Source else NotImplemented


class _Unpickler(pickle.Unpickler):
    """Reads what `_Pickler` wrote; it can make nothing but nodes of the syntax."""

    def __init__(self, stream: io.BytesIO, source: Source) -> None:
        super().__init__(stream)
        self._source = source

    def find_class(self, module_name: str, global_name: str) -> Any:
        return (lambda: self._source) if global_name == _source.__name__ else _BY_NAME[module_name, global_name]


@contextlib.contextmanager
def _without_collection() -> Generator[None]:
    """Thousands of new objects, none of them garbage: the collector would walk them in vain."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
