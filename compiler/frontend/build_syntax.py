"""The actions of the grammar: one method for each rule, from the children of the rule to a node of the syntax.

The names of the methods are those of the rules in `grammar/dl.lark`. An absent optional part arrives as None.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import replace
from typing import Protocol, TypeAlias

from compiler.diagnostics import Diagnostic, Note, Source, Span, hint
from compiler.frontend import syntax
from compiler.frontend.lexer import Token, number_value, text_value
from compiler.record import record
from compiler.suggestions import did_you_mean

SETTING_TYPES = ("int", "float", "bool", "string", "axis", "fn", "layer", "init", "schedule")
ELEMENT_TYPES = ("f32", "f64", "i32", "i64", "u8", "bool", "bf16")


class _Spanned(Protocol):
    @property
    def span(self) -> Span: ...


@record
class _Group:
    parameters: tuple[syntax.Parameter, ...]
    span: Span


@record
class _Settings:
    keywords: tuple[syntax.Keyword, ...]
    span: Span


@record
class _Augment:
    block: syntax.Block
    span: Span


@record
class _Feed:
    tokens: syntax.Name
    logits: syntax.Name
    span: Span


@record
class _Entries:
    entries: tuple[syntax.Entry, ...]
    targets: tuple[syntax.InputDeclaration, ...]
    augments: tuple[_Augment, ...]
    feeds: tuple[_Feed, ...]
    span: Span


_Annotation: TypeAlias = syntax.TensorAnnotation | syntax.SettingType
_Part: TypeAlias = Token | _Spanned
Docs: TypeAlias = MutableMapping[tuple[int, int], str]


class SyntaxBuilder:
    """Builds the nodes of one source. `docs` maps the place of a token to the text of the `##` comment before it.

    A used comment is taken out of `docs`; `mistakes` collects what the grammar alone cannot refuse.
    """

    def __init__(self, source: Source, docs: Docs) -> None:
        self.source = source
        self.docs = docs
        self.mistakes: list[Diagnostic] = []

    # Declarations

    def start(self, declaration: syntax.Declaration) -> syntax.Declaration:
        self._doc(declaration.span)  # `import` has no documentation of its own
        return declaration

    def const(self, keyword: Token, name: syntax.Name, value: syntax.Expression) -> syntax.Const:
        span = self._span(keyword, value)
        return syntax.Const(name.id, value, self._doc(span), span)

    def callable(
        self,
        keyword: Token,
        name: syntax.Name,
        first: _Group,
        second: _Group | None,
        results: tuple[syntax.TensorAnnotation, ...] | None,
        body: syntax.Block,
        gradient: syntax.GradientClause | None,
    ) -> syntax.Callable:
        span = self._span(keyword, gradient or body)
        groups = (first.parameters,) if second is None else (first.parameters, second.parameters)
        head = self._span(keyword, results[-1] if results else second or first)
        doc = self._doc(span)
        return syntax.Callable(keyword.text, name.id, groups, results or (), body, gradient, doc, span, head)

    def model(self, keyword: Token, name: syntax.Name, group: _Group | None, body: syntax.Block) -> syntax.Model:
        span, head = self._span(keyword, body), self._span(keyword, group or name)
        return syntax.Model(name.id, group.parameters if group else (), body, self._doc(span), span, head)

    def train(
        self,
        keyword: Token,
        name: syntax.Name | None,
        model: syntax.Name,
        settings: _Settings | None,
        entries: _Entries,
    ) -> syntax.Train:
        for feed in entries.feeds:
            self._report("E0101", "a `feed` line belongs to a `generate`", feed.span)
        for second in entries.augments[1:]:
            first = Note("the first one", entries.augments[0].span)
            self._report("E0116", "a `train` has one `augment` block", second.span, first, hint("join the two"))
        span = self._span(keyword, entries)
        return syntax.Train(
            name=name.id if name else None,
            model=model,
            settings=settings.keywords if settings else (),
            targets=entries.targets,
            entries=entries.entries,
            augment=entries.augments[0].block if entries.augments else None,
            doc=self._doc(span),
            span=span,
            head=self._span(keyword, settings or model),
        )

    def generate(self, keyword: Token, model: syntax.Name, entries: _Entries) -> syntax.Generate:
        for part in (*entries.targets, *entries.augments):
            word = "target" if isinstance(part, syntax.InputDeclaration) else "augment"
            self._report("E0101", f"a `{word}` belongs to a `train`", part.span)
        for second in entries.feeds[1:]:
            first = Note("the first one", entries.feeds[0].span)
            self._report("E0116", "a `generate` has one `feed` line", second.span, first)
        span = self._span(keyword, entries)
        feed = (entries.feeds[0].tokens, entries.feeds[0].logits) if entries.feeds else None
        return syntax.Generate(model, feed, entries.entries, self._doc(span), span)

    def test(self, keyword: Token, name: syntax.Name, body: syntax.Block) -> syntax.Test:
        span = self._span(keyword, body)
        return syntax.Test(name.id, body, self._doc(span), span)

    def import_(self, keyword: Token, path: Token) -> syntax.Import:
        return syntax.Import(text_value(path.text), self._span(keyword, path))

    # The parts of a head

    def group(self, opening: Token, parameters: tuple[syntax.Parameter, ...] | None, closing: Token) -> _Group:
        return _Group(parameters or (), self._span(opening, closing))

    def parameters(self, *parameters: syntax.Parameter) -> tuple[syntax.Parameter, ...]:
        return parameters

    def parameter(
        self, name: syntax.Name, annotation: _Annotation | None, default: syntax.Expression | None
    ) -> syntax.Parameter:
        if isinstance(annotation, syntax.SettingType):
            annotation = self._parameter_type(annotation)
        span = self._span(name, default or annotation or name)
        return syntax.Parameter(name.id, annotation, default, self._doc(span), span)

    def results(self, *annotations: _Annotation) -> tuple[syntax.TensorAnnotation, ...]:
        return tuple(self._tensor(annotation) for annotation in annotations)

    def body_of_value(self, value: syntax.Expression) -> syntax.Block:
        return syntax.Block((syntax.Return(value, value.span),), value.span)

    def gradient(
        self, keyword: Token, names: tuple[syntax.Name, ...] | None, body: syntax.Block
    ) -> syntax.GradientClause:
        return syntax.GradientClause(names or (), body, self._span(keyword, body))

    def names(self, *names: syntax.Name) -> tuple[syntax.Name, ...]:
        return names

    def settings(self, opening: Token, keywords: tuple[syntax.Keyword, ...] | None, closing: Token) -> _Settings:
        return _Settings(keywords or (), self._span(opening, closing))

    def keywords(self, *keywords: syntax.Keyword) -> tuple[syntax.Keyword, ...]:
        return keywords

    def keyword(self, name: syntax.Name, value: syntax.Expression) -> syntax.Keyword:
        return syntax.Keyword(name.id, value, self._span(name, value))

    # Types

    def element_type(self, name: syntax.Name) -> syntax.SettingType:
        return syntax.SettingType(name.id, name.span)

    def annotation(
        self,
        element: syntax.Name | None,
        opening: Token,
        dimensions: tuple[syntax.Expression | syntax.EllipsisItem, ...] | None,
        closing: Token,
    ) -> syntax.TensorAnnotation:
        if element is not None and element.id not in (*ELEMENT_TYPES, syntax.ANY):
            self._unknown_type(element.id, element.span, ELEMENT_TYPES, "an element type")
        dtype = element.id if element else None
        return syntax.TensorAnnotation(dtype, dimensions or (), self._span(element or opening, closing))

    def dimensions(
        self, *items: syntax.Expression | syntax.EllipsisItem
    ) -> tuple[syntax.Expression | syntax.EllipsisItem, ...]:
        return items

    def _tensor(self, annotation: _Annotation) -> syntax.TensorAnnotation:
        """An annotation where only a tensor may stand."""
        if isinstance(annotation, syntax.TensorAnnotation):
            return annotation
        if annotation.name not in ELEMENT_TYPES:
            self._unknown_type(annotation.name, annotation.span, ELEMENT_TYPES, "an element type")
        return syntax.TensorAnnotation(annotation.name, None, annotation.span)

    def _parameter_type(self, annotation: syntax.SettingType) -> _Annotation:
        """A lone word is a setting's type if it can be one (`bool`), else an element type (`i32`)."""
        if annotation.name in SETTING_TYPES:
            return annotation
        if annotation.name in ELEMENT_TYPES:
            return self._tensor(annotation)
        self._unknown_type(annotation.name, annotation.span, (*SETTING_TYPES, *ELEMENT_TYPES), "a type")
        return annotation

    def _unknown_type(self, name: str, span: Span, known: tuple[str, ...], what: str) -> None:
        nearest = did_you_mean(name, known)
        fix = f"did you mean `{nearest}`?" if nearest else f"the types are {' '.join(dict.fromkeys(known))}"
        if nearest is None and what == "an element type":
            fix += f"; a shape is written in brackets: `[{name}]`"
        self._report("E0114", f"`{name}` is not {what}", span, hint(fix))

    # Statements

    def block(self, opening: Token, *rest: syntax.Statement | Token | None) -> syntax.Block:
        statements = tuple(part for part in rest[:-1] if part is not None and not isinstance(part, Token))
        for statement in statements:
            self._doc(statement.span)  # of a statement that shows no documentation
        closing = rest[-1]
        assert isinstance(closing, Token)
        return syntax.Block(statements, self._span(opening, closing))

    def assign(self, targets: tuple[syntax.Name, ...], value: syntax.Expression) -> syntax.Assign:
        span = self._span(targets[0], value)
        return syntax.Assign(targets, value, self._doc(span), span)

    def state_update(self, target: syntax.Name, value: syntax.Expression) -> syntax.StateUpdate:
        return syntax.StateUpdate(target, value, self._span(target, value))

    def param(
        self, keyword: Token, name: syntax.Name, annotation: _Annotation, initializer: syntax.Expression
    ) -> syntax.ParamDeclaration:
        span = self._span(keyword, initializer)
        return syntax.ParamDeclaration(name.id, self._tensor(annotation), initializer, self._doc(span), span)

    def state(
        self, keyword: Token, name: syntax.Name, annotation: _Annotation | None, initializer: syntax.Expression
    ) -> syntax.StateDeclaration:
        span = self._span(keyword, initializer)
        tensor = self._tensor(annotation) if annotation else None
        return syntax.StateDeclaration(name.id, tensor, initializer, self._doc(span), span)

    def input(
        self,
        keyword: Token,
        name: syntax.Name,
        annotation: _Annotation,
        values: syntax.Expression | None,
        mask: syntax.Name | None,
    ) -> syntax.InputDeclaration:
        span = self._span(keyword, mask or values or annotation)
        tensor, mask_name = self._tensor(annotation), mask.id if mask else None
        return syntax.InputDeclaration(keyword.text, name.id, tensor, values, mask_name, self._doc(span), span)

    def output(
        self, keyword: Token, names: tuple[syntax.Name, ...], value: syntax.Expression
    ) -> syntax.OutputDeclaration:
        span = self._span(keyword, value)
        return syntax.OutputDeclaration(names, value, self._doc(span), span)

    def return_(self, keyword: Token, value: syntax.Expression) -> syntax.Return:
        return syntax.Return(value, self._span(keyword, value))

    def emit(self, keyword: Token, *values: syntax.Expression) -> syntax.Emit:
        return syntax.Emit(values, self._span(keyword, values[-1]))

    def if_(
        self, keyword: Token, condition: syntax.Expression, then: syntax.Block, otherwise: syntax.Block | None
    ) -> syntax.If:
        return syntax.If(condition, then, otherwise, self._span(keyword, otherwise or then))

    def otherwise(self, part: syntax.Block | syntax.If) -> syntax.Block:
        return part if isinstance(part, syntax.Block) else syntax.Block((part,), part.span)

    def for_(
        self, keyword: Token, targets: tuple[syntax.Name, ...], iterable: syntax.Expression, body: syntax.Block
    ) -> syntax.For:
        return syntax.For(targets, iterable, body, self._span(keyword, body))

    def expression_statement(self, value: syntax.Expression) -> syntax.ExpressionStatement:
        return syntax.ExpressionStatement(value, value.span)

    # The lines of `train` and `generate`

    def entries(
        self, opening: Token, *rest: syntax.Entry | syntax.InputDeclaration | _Augment | _Feed | Token | None
    ) -> _Entries:
        closing = rest[-1]
        assert isinstance(closing, Token)
        return _Entries(
            tuple(part for part in rest if isinstance(part, syntax.Entry)),
            tuple(part for part in rest if isinstance(part, syntax.InputDeclaration)),
            tuple(part for part in rest if isinstance(part, _Augment)),
            tuple(part for part in rest if isinstance(part, _Feed)),
            self._span(opening, closing),
        )

    def entry(self, key: syntax.Name, value: syntax.Expression) -> syntax.Entry:
        span = self._span(key, value)
        return syntax.Entry(key.id, value, self._doc(span), span)

    def augment(self, keyword: Token, block: syntax.Block) -> _Augment:
        span = self._span(keyword, block)
        self._doc(span)
        return _Augment(block, span)

    def feed(self, keyword: Token, tokens: syntax.Name, logits: syntax.Name) -> _Feed:
        span = self._span(keyword, logits)
        self._doc(span)
        return _Feed(tokens, logits, span)

    # Expressions

    def bare_tuple(self, *items: syntax.Expression) -> syntax.TupleLiteral:
        return syntax.TupleLiteral(items, self._span(items[0], items[-1]))

    def pipe(self, value: syntax.Expression, stage: syntax.Expression) -> syntax.Pipe:
        return syntax.Pipe(value, stage, self._span(value, stage))

    def range(self, start: syntax.Expression, stop: syntax.Expression) -> syntax.Range:
        return syntax.Range(start, stop, self._span(start, stop))

    def binary(self, left: syntax.Expression, operator: Token, right: syntax.Expression) -> syntax.Binary:
        return syntax.Binary(operator.text, left, right, self._span(left, right))

    def unary(self, operator: Token, operand: syntax.Expression) -> syntax.Unary:
        return syntax.Unary(operator.text, operand, self._span(operator, operand))

    def call(
        self,
        function: syntax.Expression,
        arguments: tuple[syntax.Expression | syntax.Keyword, ...] | None,
        closing: Token,
    ) -> syntax.Call:
        positional: list[syntax.Expression] = []
        keywords: list[syntax.Keyword] = []
        for argument in arguments or ():
            if isinstance(argument, syntax.Keyword):
                keywords.append(argument)
                continue
            positional.append(argument)
            if keywords:
                note = Note("a keyword argument", keywords[-1].span)
                message = "a positional argument stands after a keyword argument"
                self._report("E0115", message, argument.span, note, hint("put it first, or give its name"))
        return syntax.Call(function, tuple(positional), tuple(keywords), self._span(function, closing))

    def arguments(
        self, *arguments: syntax.Expression | syntax.Keyword
    ) -> tuple[syntax.Expression | syntax.Keyword, ...]:
        return arguments

    def index(self, value: syntax.Expression, items: tuple[syntax.IndexItem, ...], closing: Token) -> syntax.Index:
        return syntax.Index(value, items, self._span(value, closing))

    def index_items(self, *items: syntax.IndexItem) -> tuple[syntax.IndexItem, ...]:
        return items

    def slice(
        self,
        start: syntax.Expression | None,
        first_colon: Token,
        stop: syntax.Expression | None,
        second_colon: Token | None,
        step: syntax.Expression | None,
    ) -> syntax.SliceItem:
        span = self._span(start or first_colon, step or second_colon or stop or first_colon)
        return syntax.SliceItem(start, stop, step, span)

    def ellipsis(self, token: Token) -> syntax.EllipsisItem:
        return syntax.EllipsisItem(self._span(token, token))

    def new_axis(self, token: Token) -> syntax.NewAxis:
        return syntax.NewAxis(self._span(token, token))

    def attribute(self, value: syntax.Expression, name: syntax.Name) -> syntax.Attribute:
        return syntax.Attribute(value, name.id, self._span(value, name))

    def name(self, token: Token) -> syntax.Name:
        return syntax.Name(token.text, self._span(token, token))

    def number(self, token: Token) -> syntax.Number:
        return syntax.Number(number_value(token.text), self._span(token, token))

    def text(self, token: Token) -> syntax.Text:
        return syntax.Text(text_value(token.text), self._span(token, token))

    def boolean(self, token: Token) -> syntax.Boolean:
        return syntax.Boolean(token.text == "true", self._span(token, token))

    def none(self, token: Token) -> syntax.NoneLiteral:
        return syntax.NoneLiteral(self._span(token, token))

    def parenthesised(self, opening: Token, value: syntax.Expression, closing: Token) -> syntax.Expression:
        return replace(value, span=self._span(opening, closing))

    def tuple_literal(self, opening: Token, *rest: syntax.Expression | Token) -> syntax.TupleLiteral:
        items = [part for part in rest if not isinstance(part, Token)]
        closing = rest[-1]
        assert isinstance(closing, Token)
        return syntax.TupleLiteral((*items,), self._span(opening, closing))

    def list_literal(self, opening: Token, *rest: syntax.Expression | Token | None) -> syntax.ListLiteral:
        items = [part for part in rest if part is not None and not isinstance(part, Token)]
        closing = rest[-1]
        assert isinstance(closing, Token)
        return syntax.ListLiteral((*items,), self._span(opening, closing))

    def scan(
        self,
        keyword: Token,
        inputs: tuple[syntax.ScanInput, ...],
        axis: syntax.Expression,
        options: tuple[syntax.Keyword, ...] | None,
        carries: tuple[syntax.Carry, ...] | None,
        body: syntax.Block,
    ) -> syntax.Scan:
        return syntax.Scan(inputs, axis, options or (), carries or (), body, self._span(keyword, body))

    def scan_inputs(self, *inputs: syntax.ScanInput) -> tuple[syntax.ScanInput, ...]:
        return inputs

    def scan_options(self, *options: syntax.Keyword) -> tuple[syntax.Keyword, ...]:
        return options

    def scan_input(self, name: syntax.Name, value: syntax.Expression) -> syntax.ScanInput:
        return syntax.ScanInput(name.id, value, self._span(name, value))

    def carries(self, *carries: syntax.Carry) -> tuple[syntax.Carry, ...]:
        return carries

    def carry(self, name: syntax.Name, value: syntax.Expression) -> syntax.Carry:
        return syntax.Carry(name.id, value, self._span(name, value))

    # Places

    def _span(self, first: _Part, last: _Part) -> Span:
        """From the start of `first` to the end of `last`."""
        start = first if isinstance(first, Token) else first.span
        if isinstance(last, Token):
            return Span(self.source, start.line, start.column, last.line, last.end_column)
        return Span(self.source, start.line, start.column, last.span.end_line, last.span.end_column)

    def _doc(self, span: Span) -> str | None:
        return self.docs.pop((span.line, span.column), None)

    def _report(self, code: str, message: str, span: Span, *notes: Note) -> None:
        self.mistakes.append(Diagnostic(code, message, span, notes))
