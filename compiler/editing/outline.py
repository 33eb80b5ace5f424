"""A text to the tree of its declarations, and to the lines that can be folded."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.editing.document import Document, Stretch
from compiler.editing.symbols import DECLARED, Kind
from compiler.errors.diagnostics import Span
from compiler.support.record import record
from compiler.syntax import tree
from compiler.syntax.lexer import CONTEXTUAL, Token
from compiler.syntax.walk import statements_of

_KINDS = {
    **DECLARED,
    "const": Kind.CONST,
    "model": Kind.MODEL,
    "train": Kind.TRAIN,
    "sample": Kind.SAMPLE,
    "test": Kind.TEST,
}


@record(eq=False)
class Entry:
    """A declaration or a part of it; `place` is that of its name, `span` all of it."""

    name: str
    detail: str
    kind: Kind
    span: Span
    place: Span
    parts: tuple[Entry, ...] = ()


def outline(document: Document) -> tuple[Entry, ...]:
    """The declarations in order, with their settings, inputs, parameters, outputs and losses."""
    return tuple(_declaration(document, stretch) for stretch in document.stretches if stretch.keyword.text != "import")


def _declaration(document: Document, stretch: Stretch) -> Entry:
    keyword, node = stretch.keyword, stretch.node
    last = document.lexed.tokens[stretch.end - 1]
    whole = Span(document.source, keyword.line, keyword.column, last.line, last.end_column)
    named = stretch.name if stretch.name is not None and _is_name(stretch.name) else keyword
    name, detail = named.text, keyword.text
    if isinstance(node, tree.Train):
        name, detail = node.name or node.model.id, f"train {node.model.id}"
    elif isinstance(node, tree.Generate):
        name, detail = f"generate {node.model.id}", "generate"
    elif isinstance(node, tree.Sample):
        detail = f"sample from {node.model.id}"
    parts = tuple(_parts(document, node)) if node is not None else ()
    kind = _KINDS.get(keyword.text, Kind.TRAIN)
    return Entry(name, detail, kind, whole, document.span_of(named), parts)


def _is_name(token: Token) -> bool:
    return token.kind == "NAME" or token.text in CONTEXTUAL


def _parts(document: Document, node: tree.Declaration) -> Iterator[Entry]:
    match node:
        case tree.Model() | tree.Sample():
            yield from _settings(node.settings)
            yield from _statements(document, node.body)
        case tree.Callable():
            yield from _settings(tuple(p for group in node.groups for p in group))
            yield from _statements(document, node.body)
        case tree.Train() | tree.Generate():
            for target in node.targets if isinstance(node, tree.Train) else ():
                yield _part(target.name, "target", Kind.TARGET, target.span)
            for entry in node.entries:
                yield _part(entry.key, "", Kind.KEY, entry.span)
            for block in node.updates if isinstance(node, tree.Train) else ():
                lines = tuple(_part(entry.key, "", Kind.KEY, entry.span) for entry in block.entries)
                yield Entry(block.name, "update", Kind.KEY, block.span, block.place, lines)
        case _:
            return


def _settings(parameters: tuple[tree.Parameter, ...]) -> Iterator[Entry]:
    for parameter in parameters:
        is_tensor = isinstance(parameter.annotation, tree.TensorAnnotation)
        yield _part(parameter.name, "", Kind.TENSOR if is_tensor else Kind.SETTING, parameter.span)


def _statements(document: Document, block: tree.Block) -> Iterator[Entry]:
    for statement in statements_of(block):
        match statement:
            case tree.ParamDeclaration():
                yield _part(statement.name, "param", Kind.PARAM, statement.span)
            case tree.StateDeclaration():
                yield _part(statement.name, "state", Kind.STATE, statement.span)
            case tree.InputDeclaration():
                yield _part(statement.name, "input", Kind.INPUT, statement.span)
            case tree.OutputDeclaration(names):
                for name in names:
                    yield Entry(name.id, "output", Kind.OUTPUT, _around(statement.span, name.span), name.span)
            case tree.LossDeclaration(name):
                yield Entry(name.id, "loss", Kind.LOSS, _around(statement.span, name.span), name.span)
            case _:
                pass


def _around(span: Span, inner: Span) -> Span:
    return span if span.line <= inner.line <= span.end_line else inner


def _part(name: str, detail: str, kind: Kind, span: Span) -> Entry:
    return Entry(name, detail, kind, span, Span(span.source, span.line, span.column, span.line, span.column + 1))


@record
class Fold:
    """Lines, from 1, of which the later ones can be hidden; `kind` is `region`, `comment` or `imports`."""

    first: int
    last: int
    kind: str = "region"


def folds(document: Document) -> tuple[Fold, ...]:
    """Blocks and groups of several lines, runs of comments, and runs of imports."""
    return tuple(dict.fromkeys((*_brackets(document), *_comments(document), *_imports(document))))


def _brackets(document: Document) -> Iterator[Fold]:
    opened: list[Token] = []
    for token in document.lexed.tokens:
        if token.text in ("(", "[", "{"):
            opened.append(token)
        elif token.text in (")", "]", "}") and opened:
            begin = opened.pop()
            if token.line > begin.line + 1:
                yield Fold(begin.line, token.line - 1)


def _comments(document: Document) -> Iterator[Fold]:
    yield from _runs([c.line for c in document.lexed.comments if c.stands_alone], "comment")


def _imports(document: Document) -> Iterator[Fold]:
    yield from _runs([s.keyword.line for s in document.stretches if s.keyword.text == "import"], "imports")


def _runs(lines: list[int], kind: str) -> Iterator[Fold]:
    first = previous = -1
    for line in (*lines, 1 << 62):
        if line != previous + 1:
            if previous > first:
                yield Fold(first, previous, kind)
            first = line
        previous = line
