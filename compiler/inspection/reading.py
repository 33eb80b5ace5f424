"""A text as a reader sees it: its mistakes, its coloured stretches, what its names call, and the program behind it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from compiler.errors.diagnostics import Diagnostic, Source, SourceError, UsageError
from compiler.frontend.builtins.functions import BUILTINS
from compiler.frontend.elaborate import elaborate
from compiler.frontend.library import library_scope
from compiler.frontend.program import DimensionsOf
from compiler.frontend.scope import ModuleScope, Namespace, module_scopes
from compiler.frontend.trace import Binding, Subject
from compiler.programs.load import findings_in
from compiler.support.cache import default_folder
from compiler.support.record import record
from compiler.syntax import tree
from compiler.syntax.lexer import RESERVED, Token, lex
from compiler.syntax.modules import read_opened, read_source
from compiler.syntax.parser import ParseCache, Parser

KEYWORD, NUMBER, TEXT, COMMENT, DOCUMENTATION, CALLED, NAMED = range(7)
"""The kinds of coloured stretches; plain names and marks have none."""


@record
class Stretch:
    """Characters of a line with a colour; lines and columns count from 1."""

    line: int
    column: int
    length: int
    kind: int


@record
class Document:
    """The documentation of a declaration: its first line, and its comment. `place` names the file of the library."""

    name: str
    keyword: str
    head: str
    text: str
    place: str


@record(eq=False)
class Reading:
    """`sources` are the user's files, the main one last; without a program there are mistakes among the findings.

    `modules` and `subject` are there where the text has a program.
    """

    sources: tuple[Source, ...]
    findings: tuple[Diagnostic, ...]
    subject: Subject | None
    scopes: dict[str, ModuleScope]

    def bindings(self) -> Iterator[Binding]:
        """The names that the text gives to tensors in a training; of its other graphs, those that have none there."""
        seen: set[tuple[str, int, int]] = set()
        for graph in ("training", "augmentation", "inference"):
            found = [] if self.subject is None else self.subject.trace.bindings.get(graph, [])
            yield from (b for b in found if _place(b) not in seen)
            seen.update(map(_place, found))


def _place(binding: Binding) -> tuple[str, int, int]:
    return binding.span.source.name, binding.span.line, binding.span.column


class Texts:
    """The syntax of texts that follow one another: the newest of each file, and its first one in the cache folder."""

    def __init__(self) -> None:
        self._cached, self._parser = ParseCache(default_folder()), Parser()
        self._newest: dict[str, tree.Module] = {}

    def parse(self, source: Source) -> tree.Module:
        """The syntax of a text. Raises `SourceError` with every independent mistake."""
        known = self._newest.get(source.name)
        if known is None or known.source != source:
            known = (self._cached if known is None else self._parser).parse(source)
            self._newest[source.name] = known
        return known


def read(
    root: Path | Source,
    experiment: str | None = None,
    overrides: tuple[tuple[str, str], ...] = (),
    dimensions_of: DimensionsOf | None = None,
    within: Path | None = None,
    texts: Texts | None = None,
) -> Reading:
    """Check a file or a text, and elaborate one experiment; the arguments are as in `load`. Raises UsageError.

    `texts` has the syntax of texts that were read before.
    """
    kept: list[Subject] = []
    loaded = read_opened(root, (texts or Texts()).parse, {}, within)
    found = findings_in(loaded, dimensions_of, experiment, overrides, kept.append)
    if any(finding.severity == "error" for finding in found):
        return Reading(_with_main(loaded.sources, root), found, None, {})
    if len(kept) != 1:  # says which experiments there are, or that there is nothing to show
        try:
            elaborate(loaded.modules, experiment, overrides, dimensions_of)
        except SourceError as error:
            return Reading(loaded.sources, (*found, *error.diagnostics), None, {})
    scopes, _ = module_scopes(loaded.modules, library_scope())
    return Reading(loaded.sources, found, kept[0], scopes)


def _with_main(sources: tuple[Source, ...], root: Path | Source) -> tuple[Source, ...]:
    """The files that were read, and the main one even where its text does not parse, so that it can be mended."""
    name = root.name if isinstance(root, Source) else str(root)
    if any(source.name == name for source in sources):
        return sources
    try:
        return (*sources, read_source(root) if isinstance(root, Path) else root)
    except (SourceError, UsageError):  # which are among the findings
        return sources


def stretches_of(source: Source) -> Iterator[Stretch]:
    """The coloured stretches of a text, in no order."""
    lexed = lex(source)
    for comment in lexed.comments:
        kind = DOCUMENTATION if comment.is_doc else COMMENT
        yield Stretch(comment.line, comment.column, len(comment.text), kind)
    depth = 0  # of round brackets
    before: Token | None = None
    for token, behind in zip(lexed.tokens, (*lexed.tokens, None)[1:], strict=True):
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        kind = _kind_of(token, before, behind, depth > 0)
        if kind is not None:
            yield Stretch(token.line, token.column, len(token.text), kind)
        before = token


_BEFORE_NAMES = frozenset(
    ("PARAM", "STATE", "INPUT", "OUTPUT", "LOSS", "VIEW", "TARGET", "FEED", "FROM", "BY", "CARRY")
)
"""Words that are keywords only where a name follows."""
_BEHIND_NAMES = ("=", "(", ",", ")", "|>")


def _kind_of(token: Token, before: Token | None, behind: Token | None, is_argument: bool) -> int | None:
    after = "" if behind is None else behind.text
    if token.kind in ("NUMBER", "STRING"):
        return NUMBER if token.kind == "NUMBER" else TEXT
    if not token.text.isidentifier():
        return None
    if token.text in RESERVED:
        return KEYWORD
    is_on_line = behind is not None and behind.line == token.line
    is_before_name = is_on_line and after.isidentifier() and after not in RESERVED
    if token.kind != "NAME" and (is_before_name or (token.kind not in _BEFORE_NAMES and after not in _BEHIND_NAMES)):
        return KEYWORD  # a word that is one only where a statement begins
    if after == "(" or (before is not None and before.text == "|>"):
        return CALLED
    return NAMED if after == "=" and is_argument else None


def called_at(source: Source) -> dict[int, tuple[str, ...]]:
    """The names that each line calls, or gives as functions, initialisers and the like.

    A bare name behind `=` that the text itself gives a value or a type is that value, even where a function of the
    library has the same name.
    """
    found: dict[int, dict[str, None]] = {}
    tokens = lex(source).tokens
    own = {token.text for token, behind in pairwise(tokens) if behind.text in ("=", ":")}
    before = ""
    for token, behind in zip(tokens, [*tokens[1:], None], strict=True):
        is_named = token.text.isidentifier() and token.text not in RESERVED
        is_given = before == "|>" or (before == "=" and token.text not in own)
        if is_named and (is_given or (behind is not None and behind.text == "(")):
            found.setdefault(token.line, {})[token.text] = None
        before = token.text
    return {line: tuple(names) for line, names in found.items()}


def document_of(name: str, scope: ModuleScope) -> Document | None:
    """The documentation of what a name means in a file, in the first namespace that has it."""
    for namespace in Namespace:
        found = scope.lookup(namespace, name)
        if found is not None and not isinstance(found.declaration, tree.Const):
            return _document(found.declaration)
    builtin = BUILTINS.get(name)
    return None if builtin is None else Document(name, "fn", builtin.signature, builtin.document, "built in")


def _document(declaration: tree.Callable | tree.Model) -> Document:
    head, keyword = declaration.head, "model" if isinstance(declaration, tree.Model) else declaration.keyword
    text = " ".join(line.strip() for line in head.text.splitlines()).replace("( ", "(").replace(" )", ")")
    place = head.source.name if head.source.is_library else f"{Path(head.source.name).name}:{head.line}"
    return Document(declaration.name, keyword, text.removeprefix(keyword).strip(), declaration.doc or "", place)
