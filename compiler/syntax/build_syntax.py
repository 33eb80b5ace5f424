"""The actions of the grammar: one method for each rule, from the children of the rule to a node of the syntax.

The names of the methods are those of the rules in `grammar/dl.lark`. An absent optional part arrives as None.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import replace
from typing import Protocol, TypeAlias, TypeVar

from compiler.errors.diagnostics import Diagnostic, Note, Source, Span, hint
from compiler.errors.suggestions import did_you_mean
from compiler.support.record import record
from compiler.syntax import tree
from compiler.syntax.lexer import Token, number_value, text_value

SETTING_TYPES = ("int", "float", "bool", "string", "axis", "fn", "layer", "init", "schedule")
ELEMENT_TYPES = tuple(["f16", "f32", "f64", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "bool", "bf16"])


class _Spanned(Protocol):
    @property
    def span(self) -> Span: ...


@record
class _Group:
    parameters: tuple[tree.Parameter, ...]
    span: Span


@record
class _Settings:
    keywords: tuple[tree.Keyword, ...]
    span: Span


@record
class _Augment:
    block: tree.Block
    span: Span


@record
class _Feed:
    tokens: tree.Name
    logits: tree.Name
    span: Span


@record
class _Entries:
    entries: tuple[tree.Entry, ...]
    targets: tuple[tree.InputDeclaration, ...]
    augments: tuple[_Augment, ...]
    updates: tuple[tree.Update, ...]
    feeds: tuple[_Feed, ...]
    span: Span


_Annotation: TypeAlias = tree.TensorAnnotation | tree.SettingType
_Part: TypeAlias = Token | _Spanned
_Item = TypeVar("_Item")
Docs: TypeAlias = MutableMapping[tuple[int, int], str]


class SyntaxBuilder:
    """Builds the nodes of one source. `docs` maps the place of a token to the text of the `##` comment before it.

    A used comment is taken out of `docs`; `mistakes` collects those that the grammar alone cannot refuse.
    """

    def __init__(self, source: Source, docs: Docs) -> None:
        self.source = source
        self.docs = docs
        self.mistakes: list[Diagnostic] = []

    # Declarations

    def start(self, declaration: tree.Declaration) -> tree.Declaration:
        self._doc(declaration.span)  # `import` has no documentation of its own
        return declaration

    def const(self, keyword: Token, name: tree.Name, value: tree.Expression) -> tree.Const:
        span = self._span(keyword, value)
        return tree.Const(name.id, value, self._doc(span), span)

    def callable(
        self,
        keyword: Token,
        name: tree.Name,
        first: _Group,
        second: _Group | None,
        results: tuple[tree.TensorAnnotation, ...] | None,
        body: tree.Block,
        gradient: tree.GradientClause | None,
    ) -> tree.Callable:
        span = self._span(keyword, gradient or body)
        groups = (first.parameters,) if second is None else (first.parameters, second.parameters)
        head = self._span(keyword, results[-1] if results else second or first)
        doc = self._doc(span)
        return tree.Callable(keyword.text, name.id, groups, results or (), body, gradient, doc, span, head)

    def model(self, keyword: Token, name: tree.Name, group: _Group | None, body: tree.Block) -> tree.Model:
        span, head = self._span(keyword, body), self._span(keyword, group or name)
        return tree.Model(name.id, group.parameters if group else (), body, self._doc(span), span, head)

    def train(
        self, keyword: Token, name: tree.Name | None, model: tree.Name, settings: _Settings | None, entries: _Entries
    ) -> tree.Train:
        for feed in entries.feeds:
            self._report("E0101", "a `feed` line belongs to a `generate`", feed.span)
        for second in entries.augments[1:]:
            first = Note("the first one", entries.augments[0].span)
            self._report("E0116", "a `train` has one `augment` block", second.span, first, hint("join the two"))
        span = self._span(keyword, entries)
        return tree.Train(
            name=name.id if name else None,
            model=model,
            settings=settings.keywords if settings else (),
            targets=entries.targets,
            entries=entries.entries,
            augment=entries.augments[0].block if entries.augments else None,
            updates=entries.updates,
            doc=self._doc(span),
            span=span,
            head=self._span(keyword, settings or model),
        )

    def generate(self, keyword: Token, model: tree.Name, entries: _Entries) -> tree.Generate:
        self._refuse_lines(entries, "`train`")
        for second in entries.feeds[1:]:
            first = Note("the first one", entries.feeds[0].span)
            self._report("E0116", "a `generate` has one `feed` line", second.span, first)
        span = self._span(keyword, entries)
        feed = (entries.feeds[0].tokens, entries.feeds[0].logits) if entries.feeds else None
        return tree.Generate(model, feed, entries.entries, self._doc(span), span)

    def sample(
        self, keyword: Token, name: tree.Name, group: _Group | None, model: tree.Name, body: tree.Block
    ) -> tree.Sample:
        span, head = self._span(keyword, body), self._span(keyword, model)
        settings = group.parameters if group else ()
        return tree.Sample(name.id, settings, model, body, self._doc(span), span, head)

    def test(self, keyword: Token, name: tree.Name, body: tree.Block) -> tree.Test:
        span = self._span(keyword, body)
        return tree.Test(name.id, body, self._doc(span), span)

    def import_(self, keyword: Token, path: Token) -> tree.Import:
        return tree.Import(text_value(path.text), self._span(keyword, path))

    def several(self, *parts: _Item) -> tuple[_Item, ...]:
        """What a rule of nothing but a list gives."""
        return parts

    # The parts of a head

    def group(self, opening: Token, parameters: tuple[tree.Parameter, ...] | None, closing: Token) -> _Group:
        return _Group(parameters or (), self._span(opening, closing))

    def parameter(
        self, name: tree.Name, annotation: _Annotation | None, default: tree.Expression | None
    ) -> tree.Parameter:
        if isinstance(annotation, tree.SettingType):
            annotation = self._parameter_type(annotation)
        span = self._span(name, default or annotation or name)
        return tree.Parameter(name.id, annotation, default, self._doc(span), span)

    def results(self, *annotations: _Annotation) -> tuple[tree.TensorAnnotation, ...]:
        return tuple(self._tensor(annotation) for annotation in annotations)

    def body_of_value(self, value: tree.Expression) -> tree.Block:
        return tree.Block((tree.Return(value, value.span),), value.span)

    def gradient(self, keyword: Token, names: tuple[tree.Name, ...] | None, body: tree.Block) -> tree.GradientClause:
        return tree.GradientClause(names or (), body, self._span(keyword, body))

    def settings(self, opening: Token, keywords: tuple[tree.Keyword, ...] | None, closing: Token) -> _Settings:
        return _Settings(keywords or (), self._span(opening, closing))

    def keyword(self, name: tree.Name, value: tree.Expression) -> tree.Keyword:
        return tree.Keyword(name.id, value, self._span(name, value))

    # Types

    def element_type(self, name: tree.Name) -> tree.SettingType:
        return tree.SettingType(name.id, name.span)

    def annotation(
        self,
        element: tree.Name | None,
        opening: Token,
        dimensions: tuple[tree.Expression | tree.EllipsisItem, ...] | None,
        closing: Token,
    ) -> tree.TensorAnnotation:
        if element is not None and element.id not in (*ELEMENT_TYPES, tree.ANY):
            self._unknown_type(element.id, element.span, ELEMENT_TYPES, "an element type")
        dtype = element.id if element else None
        return tree.TensorAnnotation(dtype, dimensions or (), self._span(element or opening, closing))

    def _tensor(self, annotation: _Annotation) -> tree.TensorAnnotation:
        """An annotation where only a tensor may stand."""
        if isinstance(annotation, tree.TensorAnnotation):
            return annotation
        if annotation.name not in ELEMENT_TYPES:
            self._unknown_type(annotation.name, annotation.span, ELEMENT_TYPES, "an element type")
        return tree.TensorAnnotation(annotation.name, None, annotation.span)

    def _parameter_type(self, annotation: tree.SettingType) -> _Annotation:
        """A lone word is a setting's type if it can be one (`bool`), else an element type (`i32`)."""
        if annotation.name in SETTING_TYPES:
            return annotation
        if annotation.name in ELEMENT_TYPES:
            return self._tensor(annotation)
        self._unknown_type(annotation.name, annotation.span, (*SETTING_TYPES, *ELEMENT_TYPES), "a type")
        return annotation

    def _unknown_type(self, name: str, span: Span, known: tuple[str, ...], what: str) -> None:
        nearest = did_you_mean(name, known)
        fix = nearest or f"the types are {' '.join(dict.fromkeys(known))}"
        if not nearest and what == "an element type":
            fix += f"; a shape is written in brackets: `[{name}]`"
        self._report("E0114", f"`{name}` is not {what}", span, hint(fix))

    # Statements

    def block(self, opening: Token, *rest: tree.Statement | Token | None) -> tree.Block:
        statements, span = self._enclosed(opening, rest)
        for statement in statements:
            self._doc(statement.span)  # of a statement that shows no documentation
        return tree.Block(statements, span)

    def assign(self, targets: tuple[tree.Name, ...], value: tree.Expression) -> tree.Assign:
        span = self._span(targets[0], value)
        return tree.Assign(targets, value, self._doc(span), span)

    def state_update(self, target: tree.Name, value: tree.Expression) -> tree.StateUpdate:
        return tree.StateUpdate(target, value, self._span(target, value))

    def param(
        self, keyword: Token, name: tree.Name, annotation: _Annotation, initializer: tree.Expression
    ) -> tree.ParamDeclaration:
        span = self._span(keyword, initializer)
        return tree.ParamDeclaration(name.id, self._tensor(annotation), initializer, self._doc(span), span)

    def state(
        self, keyword: Token, name: tree.Name, annotation: _Annotation | None, initializer: tree.Expression
    ) -> tree.StateDeclaration:
        span = self._span(keyword, initializer)
        tensor = self._tensor(annotation) if annotation else None
        return tree.StateDeclaration(name.id, tensor, initializer, self._doc(span), span)

    def input(
        self,
        keyword: Token,
        name: tree.Name,
        annotation: _Annotation,
        values: tree.Expression | None,
        mask: tree.Name | None,
    ) -> tree.InputDeclaration:
        span = self._span(keyword, mask or values or annotation)
        tensor, mask_name = self._tensor(annotation), mask.id if mask else None
        return tree.InputDeclaration(keyword.text, name.id, tensor, values, mask_name, self._doc(span), span)

    def output(self, keyword: Token, names: tuple[tree.Name, ...], value: tree.Expression) -> tree.OutputDeclaration:
        span = self._span(keyword, value)
        return tree.OutputDeclaration(names, value, self._doc(span), span)

    def loss(self, keyword: Token, name: tree.Name, value: tree.Expression) -> tree.LossDeclaration:
        span = self._span(keyword, value)
        return tree.LossDeclaration(name, value, self._doc(span), span)

    def view(self, keyword: Token, names: tuple[tree.Name, ...], value: tree.Expression) -> tree.View:
        span = self._span(keyword, value)
        return tree.View(names, value, self._doc(span), span)

    def return_(self, keyword: Token, value: tree.Expression) -> tree.Return:
        return tree.Return(value, self._span(keyword, value))

    def emit(self, keyword: Token, *values: tree.Expression) -> tree.Emit:
        return tree.Emit(values, self._span(keyword, values[-1]))

    def if_(
        self, keyword: Token, condition: tree.Expression, then: tree.Block, otherwise: tree.Block | None
    ) -> tree.If:
        return tree.If(condition, then, otherwise, self._span(keyword, otherwise or then))

    def otherwise(self, part: tree.Block | tree.If) -> tree.Block:
        return part if isinstance(part, tree.Block) else tree.Block((part,), part.span)

    def for_(
        self, keyword: Token, targets: tuple[tree.Name, ...], iterable: tree.Expression, body: tree.Block
    ) -> tree.For:
        return tree.For(targets, iterable, body, self._span(keyword, body))

    def expression_statement(self, value: tree.Expression) -> tree.ExpressionStatement:
        return tree.ExpressionStatement(value, value.span)

    # The lines of `train` and `generate`

    def entries(
        self, opening: Token, *rest: tree.Entry | tree.InputDeclaration | _Augment | tree.Update | _Feed | Token | None
    ) -> _Entries:
        parts, span = self._enclosed(opening, rest)
        return _Entries(
            tuple(part for part in parts if isinstance(part, tree.Entry)),
            tuple(part for part in parts if isinstance(part, tree.InputDeclaration)),
            tuple(part for part in parts if isinstance(part, _Augment)),
            tuple(part for part in parts if isinstance(part, tree.Update)),
            tuple(part for part in parts if isinstance(part, _Feed)),
            span,
        )

    def entry(self, key: tree.Name, value: tree.Expression) -> tree.Entry:
        span = self._span(key, value)
        return tree.Entry(key.id, value, self._doc(span), span)

    def by_name(self, opening: Token, items: tuple[tree.Keyword, ...] | None, closing: Token) -> tree.ByName:
        return tree.ByName(items or (), self._span(opening, closing))

    def augment(self, keyword: Token, block: tree.Block) -> _Augment:
        span = self._span(keyword, block)
        self._doc(span)
        return _Augment(block, span)

    def update(self, keyword: Token, name: tree.Name, entries: _Entries) -> tree.Update:
        for feed in entries.feeds:
            self._report("E0101", "a `feed` line belongs to a `generate`", feed.span)
        self._refuse_lines(entries, "`train`, outside an `update`")
        span = self._span(keyword, entries)
        return tree.Update(name.id, entries.entries, self._doc(span), span, name.span)

    def _refuse_lines(self, entries: _Entries, place: str) -> None:
        """Report the lines of `train` that stand in another declaration or block."""
        for part in (*entries.targets, *entries.augments, *entries.updates):
            word = {tree.InputDeclaration: "target", _Augment: "augment", tree.Update: "update"}[type(part)]
            self._report("E0101", f"a line `{word}` belongs to a {place}", part.span)

    def feed(self, keyword: Token, tokens: tree.Name, logits: tree.Name) -> _Feed:
        span = self._span(keyword, logits)
        self._doc(span)
        return _Feed(tokens, logits, span)

    # Expressions

    def bare_tuple(self, *items: tree.Expression) -> tree.TupleLiteral:
        return tree.TupleLiteral(items, self._span(items[0], items[-1]))

    def pipe(self, value: tree.Expression, stage: tree.Expression) -> tree.Pipe:
        return tree.Pipe(value, stage, self._span(value, stage))

    def range(self, start: tree.Expression, stop: tree.Expression) -> tree.Range:
        return tree.Range(start, stop, self._span(start, stop))

    def binary(self, left: tree.Expression, operator: Token, right: tree.Expression) -> tree.Binary:
        return tree.Binary(operator.text, left, right, self._span(left, right))

    def unary(self, operator: Token, operand: tree.Expression) -> tree.Unary:
        return tree.Unary(operator.text, operand, self._span(operator, operand))

    def call(
        self, function: tree.Expression, arguments: tuple[tree.Expression | tree.Keyword, ...] | None, closing: Token
    ) -> tree.Call:
        positional: list[tree.Expression] = []
        keywords: list[tree.Keyword] = []
        for argument in arguments or ():
            if isinstance(argument, tree.Keyword):
                keywords.append(argument)
                continue
            positional.append(argument)
            if keywords:
                note = Note("a keyword argument", keywords[-1].span)
                message = "a positional argument stands after a keyword argument"
                self._report("E0115", message, argument.span, note, hint("put it first, or give its name"))
        return tree.Call(function, tuple(positional), tuple(keywords), self._span(function, closing))

    def index(self, value: tree.Expression, items: tuple[tree.IndexItem, ...], closing: Token) -> tree.Index:
        return tree.Index(value, items, self._span(value, closing))

    def slice(
        self,
        start: tree.Expression | None,
        first_colon: Token,
        stop: tree.Expression | None,
        second_colon: Token | None,
        step: tree.Expression | None,
    ) -> tree.SliceItem:
        span = self._span(start or first_colon, step or second_colon or stop or first_colon)
        return tree.SliceItem(start, stop, step, span)

    def ellipsis(self, token: Token) -> tree.EllipsisItem:
        return tree.EllipsisItem(self._span(token, token))

    def new_axis(self, token: Token) -> tree.NewAxis:
        return tree.NewAxis(self._span(token, token))

    def attribute(self, value: tree.Expression, name: tree.Name) -> tree.Attribute:
        return tree.Attribute(value, name.id, self._span(value, name))

    def name(self, token: Token) -> tree.Name:
        return tree.Name(token.text, self._span(token, token))

    def number(self, token: Token) -> tree.Number:
        return tree.Number(number_value(token.text), self._span(token, token))

    def text(self, token: Token) -> tree.Text:
        return tree.Text(text_value(token.text), self._span(token, token))

    def boolean(self, token: Token) -> tree.Boolean:
        return tree.Boolean(token.text == "true", self._span(token, token))

    def none(self, token: Token) -> tree.NoneLiteral:
        return tree.NoneLiteral(self._span(token, token))

    def parenthesised(self, opening: Token, value: tree.Expression, closing: Token) -> tree.Expression:
        return replace(value, span=self._span(opening, closing))

    def tuple_literal(self, opening: Token, *rest: tree.Expression | Token | None) -> tree.TupleLiteral:
        return tree.TupleLiteral(*self._enclosed(opening, rest))

    def list_literal(self, opening: Token, *rest: tree.Expression | Token | None) -> tree.ListLiteral:
        return tree.ListLiteral(*self._enclosed(opening, rest))

    def scan(
        self,
        keyword: Token,
        inputs: tuple[tree.ScanInput, ...],
        axis: tree.Expression,
        options: tuple[tree.Keyword, ...] | None,
        carries: tuple[tree.Carry, ...] | None,
        until: tree.Expression | None,
        body: tree.Block,
    ) -> tree.Scan:
        return tree.Scan(inputs, axis, options or (), carries or (), until, body, self._span(keyword, body))

    def scan_input(self, name: tree.Name, value: tree.Expression) -> tree.ScanInput:
        return tree.ScanInput(name.id, value, self._span(name, value))

    def carry(self, name: tree.Name, value: tree.Expression) -> tree.Carry:
        return tree.Carry(name.id, value, self._span(name, value))

    # Places

    def _enclosed(self, opening: Token, rest: tuple[_Item | Token | None, ...]) -> tuple[tuple[_Item, ...], Span]:
        """The parts between two brackets, the second of which is the last of `rest`, and where all stands."""
        closing = rest[-1]
        assert isinstance(closing, Token)
        parts = tuple(part for part in rest if part is not None and not isinstance(part, Token))
        return parts, self._span(opening, closing)

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
