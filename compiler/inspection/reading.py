"""A text as a reader sees it: its mistakes, its coloured stretches, what its names call, and the program behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from compiler.errors.diagnostics import Diagnostic, Source, SourceError, Span, UsageError
from compiler.frontend.builtins.functions import BUILTINS
from compiler.frontend.elaborate import elaborate
from compiler.frontend.library import library_scope
from compiler.frontend.program import DimensionsOf
from compiler.frontend.scope import ModuleScope, Namespace, module_scopes
from compiler.frontend.tensors.shapes import axis_texts, tensor_text
from compiler.frontend.trace import Binding, Step, Subject
from compiler.frontend.values import TensorValue, TupleValue
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
        bindings = {} if self.subject is None else self.subject.trace.bindings
        return (binding for _, found in _by_place(bindings, lambda b: _place(b.span)) for binding in found)

    def unnamed(self) -> Iterator[Unnamed]:
        """The outermost expressions of each line, once for each round of a loop.

        Where a line names a tensor, only those are told that a pipe goes on from in a later line.
        """
        named = {_line(binding.span) for binding in self.bindings()}
        by_line = dict(_by_place({} if self.subject is None else self.subject.trace.steps, lambda s: _line(s.last)))
        longer = {(source, s.seen.place) for (source, _), found in by_line.items() for s in found if _is_long(s)}
        for (source, line), found in by_line.items():
            places = {step.seen.place for step in found}
            outer = {place for place in places if not any(one.holds(place) for one in places if one != place)}
            if (source, line) in named:
                pipes = [pipe for file, pipe in longer if file == source]
                outer = {place for place in outer if any(one.holds(place) for one in pipes if one != place)}
            yield from (_unnamed(step) for step in found if step.seen.place in outer)


@record
class Unnamed:
    """A tensor without a name, or the tensors that a call gives; type and dimensions as those of a `Binding`.

    `span` is the expression, or its last stage, where a pipe began in a line before.
    """

    span: Span
    shown: str
    dimensions: tuple[tuple[str, Span | None], ...]


def _is_long(step: Step) -> bool:
    """Whether a pipe has stages in several lines."""
    return step.seen.place.line != step.last.line


def _unnamed(step: Step) -> Unnamed:
    value, scopes = step.seen.value, step.seen.scopes
    items = value.items if isinstance(value, TupleValue) else (value,)
    tensors = [item for item in items if isinstance(item, TensorValue)]
    pairs = (zip(axis_texts(tensor, scopes), tensor.axes, strict=True) for tensor in tensors)
    dimensions = tuple((text, axis.origin) for one in pairs for text, axis in one)
    span = step.last if _is_long(step) else step.seen.place
    return Unnamed(span, ", ".join(tensor_text(tensor, scopes) for tensor in tensors), dimensions)


_GRAPHS = ("training", "augmentation", "inference")
_Found = TypeVar("_Found")
_Place = TypeVar("_Place")


def _by_place(
    graphs: Mapping[str, list[_Found]], place_of: Callable[[_Found], _Place]
) -> Iterator[tuple[_Place, list[_Found]]]:
    """Everything at each place, of the first graph that has some there: that of the training before others."""
    known: set[_Place] = set()
    for graph in dict.fromkeys((*_GRAPHS, *graphs)):
        found: dict[_Place, list[_Found]] = {}
        for one in graphs.get(graph, ()):
            found.setdefault(place_of(one), []).append(one)
        yield from ((place, those) for place, those in found.items() if place not in known)
        known.update(found)


def _line(span: Span) -> tuple[str, int]:
    return span.source.name, span.line


def _place(span: Span) -> tuple[str, int, int]:
    return span.source.name, span.line, span.column


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
