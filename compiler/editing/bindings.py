"""The names that a declaration binds in its head and body, with the place of each."""

from __future__ import annotations

import re
from collections.abc import Iterator

from compiler.editing.symbols import DECLARED, Kind, Meant, Symbol
from compiler.errors.diagnostics import Source, Span
from compiler.frontend.scope import ModuleScope, Namespace, Signature
from compiler.support.record import record
from compiler.syntax import tree
from compiler.syntax.walk import dimensions_of, first_name, scans_in, statements_within


@record(eq=False)
class Places:
    """Finds names that the syntax holds without a place of their own."""

    source: Source
    lines: list[str]

    def of_name(self, span: Span, name: str, skipped: int = 0) -> Span:
        """The first word `name` in a stretch, behind its first `skipped` words; the stretch's start without one."""
        for number in range(span.line, span.end_line + 1):
            text = self.lines[number - 1] if number <= len(self.lines) else ""
            start = span.column - 1 if number == span.line else 0
            for match in _WORD.finditer(text, start):
                if skipped == 0 and match.group() == name:
                    return Span(self.source, number, match.start() + 1, number, match.end() + 1)
                skipped = max(skipped - 1, 0)
        return Span(self.source, span.line, span.column, span.line, span.column + 1)


_WORD = re.compile(r"[^\W\d]\w*")


def places_in(source: Source) -> Places:
    return Places(source, source.text.split("\n"))


def symbol_of(declaration: tree.Const | tree.Callable | tree.Model) -> Symbol:
    """The symbol of a declaration, wherever its file is."""
    kind = Kind.CONST if isinstance(declaration, tree.Const) else Kind.MODEL
    if isinstance(declaration, tree.Callable):
        kind = DECLARED[declaration.keyword]
    source = declaration.span.source
    line = source.line(declaration.span.line)
    match = _WORD.search(line, declaration.span.column - 1 + len(_keyword_of(declaration)))
    if match is None or match.group() != declaration.name:
        place = places_in(source).of_name(declaration.span, declaration.name, 1)
    else:
        number = declaration.span.line
        place = Span(source, number, match.start() + 1, number, match.end() + 1)
    return Symbol(kind, declaration.name, place, declaration)


def _keyword_of(declaration: tree.Const | tree.Callable | tree.Model) -> str:
    match declaration:
        case tree.Const():
            return "const"
        case tree.Model():
            return "model"
        case tree.Callable(keyword):
            return keyword


def parameter_symbol(parameter: tree.Parameter, kind: Kind, owner: str) -> Symbol:
    span = parameter.span
    end = span.column + len(parameter.name)
    return Symbol(kind, parameter.name, Span(span.source, span.line, span.column, span.line, end), parameter, owner)


class Bindings:
    """The local names of one declaration, each with the place that binds it first."""

    def __init__(self, places: Places, scope: ModuleScope, owner: str) -> None:
        self.places, self.scope, self.owner = places, scope, owner
        self.names: dict[str, Symbol] = {}

    def bind(self, kind: Kind, name: str, place: Span, node: Meant) -> None:
        if name != "_":
            self.names.setdefault(name, Symbol(kind, name, place, node, self.owner))

    def bind_signature(self, signature: Signature, results: tuple[tree.TensorAnnotation, ...] = ()) -> None:
        for parameters, kind in ((signature.settings, Kind.SETTING), (signature.tensors, Kind.TENSOR)):
            for parameter in parameters:
                self.names.setdefault(parameter.name, parameter_symbol(parameter, kind, self.owner))
        annotations = [p.annotation for p in signature.tensors if isinstance(p.annotation, tree.TensorAnnotation)]
        for annotation in (*annotations, *results):
            self._bind_dimensions(annotation)

    def bind_block(self, block: tree.Block) -> None:
        for statement in statements_within(block):
            self._bind_statement(statement)
            for scan in scans_in(statement):
                self.bind_scan(scan)

    def bind_input(self, statement: tree.InputDeclaration) -> None:
        """An input with its mask and the dimensions that the data gives."""
        kind = Kind.TARGET if statement.keyword == "target" else Kind.INPUT
        self.bind(kind, statement.name, self.places.of_name(statement.span, statement.name, 1), statement)
        self._bind_dimensions(statement.annotation)
        limits = statement.range
        if isinstance(limits, tree.Range) and isinstance(limits.stop, tree.Name):
            self._bind_dimension(limits.stop)
        if statement.mask is not None:
            self.bind(kind, statement.mask, self.mask_place(statement), statement)

    def mask_place(self, statement: tree.InputDeclaration) -> Span:
        """The last word of `padded by mask`."""
        span = statement.span
        end = span.end_column
        mask = statement.mask or ""
        return Span(span.source, span.end_line, end - len(mask), span.end_line, end)

    def bind_scan(self, scan: tree.Scan) -> None:
        for part in (*scan.inputs, *scan.carries):
            kind = Kind.VARIABLE if isinstance(part, tree.Carry) else Kind.LOOP
            self.bind(kind, part.name, self.places.of_name(part.span, part.name), scan)

    def _bind_statement(self, statement: tree.Statement) -> None:
        match statement:
            case tree.Assign(targets):
                for target in targets:
                    self.bind(Kind.VARIABLE, target.id, target.span, statement)
            case tree.For(targets):
                for target in targets:
                    self.bind(Kind.LOOP, target.id, target.span, statement)
            case tree.ParamDeclaration() | tree.StateDeclaration():
                kind = Kind.PARAM if isinstance(statement, tree.ParamDeclaration) else Kind.STATE
                self.bind(kind, statement.name, self.places.of_name(statement.span, statement.name, 1), statement)
            case tree.InputDeclaration():
                self.bind_input(statement)
            case tree.OutputDeclaration(names):
                for name in names:
                    self.bind(Kind.OUTPUT, name.id, name.span, statement)
            case tree.View(names):
                self._bind_view(names, statement)
            case tree.LossDeclaration(name):
                self.bind(Kind.LOSS, name.id, name.span, statement)
            case _:
                pass

    def _bind_view(self, names: tuple[tree.Name, ...], statement: tree.View) -> None:
        """Views are inputs of the model; the column that they show may be another name of the data."""
        column = first_name(statement.value)
        for name in (*(() if column is None else (column,)), *names):
            self.bind(Kind.INPUT, name.id, name.span, statement)

    def _bind_dimensions(self, annotation: tree.TensorAnnotation) -> None:
        for dimension in dimensions_of(annotation):
            if isinstance(dimension, tree.Name):
                self._bind_dimension(dimension)

    def _bind_dimension(self, name: tree.Name) -> None:
        if self.scope.lookup(Namespace.VALUE, name.id) is None:
            self.bind(Kind.DIMENSION, name.id, name.span, None)


def visible_in_train(names: dict[str, Symbol]) -> Iterator[tuple[str, Symbol]]:
    """The names of a model that its experiments see."""
    for name, symbol in names.items():
        if symbol.kind in (Kind.SETTING, Kind.INPUT, Kind.OUTPUT, Kind.DIMENSION):
            yield name, symbol
