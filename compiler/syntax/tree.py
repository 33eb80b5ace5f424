"""The abstract syntax of `.dl`: the parser makes it, and everything else in the front end reads it."""

from __future__ import annotations

from typing import TypeAlias

from compiler.errors.diagnostics import Source, Span
from compiler.support.record import record
from compiler.syntax.expressions import (
    Attribute,
    Binary,
    Boolean,
    ByName,
    Call,
    Keyword,
    ListLiteral,
    Name,
    NoneLiteral,
    Number,
    Pipe,
    Range,
    Text,
    TupleLiteral,
    Unary,
)

# Expressions with an index or a body


@record
class SliceItem:
    start: Expression | None
    stop: Expression | None
    step: Expression | None
    span: Span


@record
class EllipsisItem:
    span: Span


@record
class NewAxis:
    span: Span


IndexItem: TypeAlias = "SliceItem | EllipsisItem | NewAxis | Expression"


@record
class Index:
    value: Expression
    items: tuple[IndexItem, ...]
    span: Span


@record
class ScanInput:
    """`name in value`: the element of a scanned tensor or range in one step."""

    name: str
    value: Expression
    span: Span


@record
class Carry:
    name: str
    initial: Expression
    span: Span


@record
class Scan:
    """`scan a in x over axis [reverse = …] [where = …] [truncate = …] carry h = … [until …] { body }`.

    `until` sees the carries; all other expressions are evaluated outside of the body.
    """

    inputs: tuple[ScanInput, ...]
    axis: Expression
    options: tuple[Keyword, ...]
    carries: tuple[Carry, ...]
    until: Expression | None
    body: Block
    span: Span


Expression: TypeAlias = (
    Number
    | Boolean
    | Text
    | NoneLiteral
    | Name
    | ListLiteral
    | ByName
    | TupleLiteral
    | Range
    | Unary
    | Binary
    | Pipe
    | Call
    | Attribute
    | Index
    | Scan
)

# Types


ANY = "any"
"""In a signature, the element type of a tensor that may have any."""


@record
class TensorAnnotation:
    """`f32[batch, ..., 2 * units]`; `dtype` is None when left out, a dimension `...` is an `EllipsisItem`.

    `f32[]` is a scalar. `dimensions` is None where only an element type stands (`i32`).
    """

    dtype: str | None
    dimensions: tuple[Expression | EllipsisItem, ...] | None
    span: Span


@record
class SettingType:
    """One of `int float bool string axis fn layer init schedule`."""

    name: str
    span: Span


@record
class Parameter:
    """One parameter of a declaration, a setting or a tensor; the checker tells which."""

    name: str
    annotation: TensorAnnotation | SettingType | None
    default: Expression | None
    doc: str | None
    span: Span


# Statements


@record
class Block:
    statements: tuple[Statement, ...]
    span: Span


@record
class Assign:
    """`a, b = value`. A target `_` discards."""

    targets: tuple[Name, ...]
    value: Expression
    doc: str | None
    span: Span


@record
class StateUpdate:
    """`name <- value`."""

    target: Name
    value: Expression
    span: Span


@record
class ParamDeclaration:
    """`param W: [n, units] = glorot_uniform`. The initialiser is looked up in its own namespace."""

    name: str
    annotation: TensorAnnotation
    initializer: Expression
    doc: str | None
    span: Span


@record
class StateDeclaration:
    """`state m = zeros`; without annotation (optimizers only) the shape is that of `p`."""

    name: str
    annotation: TensorAnnotation | None
    initializer: Expression
    doc: str | None
    span: Span


@record
class Return:
    value: Expression
    span: Span


@record
class Emit:
    values: tuple[Expression, ...]
    span: Span


@record
class If:
    """`otherwise` holds the `else` block; `else if` is a block of one `If`."""

    condition: Expression
    then: Block
    otherwise: Block | None
    span: Span


@record
class For:
    """`for i in 0..n { … }`, `for a, b in pairs { … }`."""

    targets: tuple[Name, ...]
    iterable: Expression
    body: Block
    span: Span


@record
class ExpressionStatement:
    """The last line of an optimizer, or the message of a mistake: a value that is not used."""

    value: Expression
    span: Span


@record
class InputDeclaration:
    """`input tokens: i32[batch, 64] in 0..vocab padded by mask`; with `keyword` `target`, of a `train`."""

    keyword: str
    name: str
    annotation: TensorAnnotation
    range: Expression | None
    mask: str | None
    doc: str | None
    span: Span


@record
class OutputDeclaration:
    """`output logits = value`; several names take the items of a tuple."""

    names: tuple[Name, ...]
    value: Expression
    doc: str | None
    span: Span


@record
class LossDeclaration:
    """`loss balance = value`: a part of the training loss that arises in a layer or model."""

    name: Name
    value: Expression
    doc: str | None
    span: Span


@record
class View:
    """`view a, b = value` of an `augment`: the value, drawn anew for each name. It begins with a column of the data."""

    names: tuple[Name, ...]
    value: Expression
    doc: str | None
    span: Span


Statement: TypeAlias = (
    Assign
    | StateUpdate
    | ParamDeclaration
    | StateDeclaration
    | Return
    | Emit
    | If
    | For
    | ExpressionStatement
    | InputDeclaration
    | OutputDeclaration
    | LossDeclaration
    | View
)

# Declarations


@record
class Const:
    name: str
    value: Expression
    doc: str | None
    span: Span


@record
class GradientClause:
    """`gradient(x, y, dy) = …` or with a block."""

    parameters: tuple[Name, ...]
    body: Block
    span: Span


@record
class Callable:
    """`fn`, `layer`, `init`, `optimizer` or `schedule`, by `keyword`. A body `= e` is a block of one `Return`.

    `groups` are the one or two parenthesised groups as written.
    """

    keyword: str
    name: str
    groups: tuple[tuple[Parameter, ...], ...]
    results: tuple[TensorAnnotation, ...]
    body: Block
    gradient: GradientClause | None
    doc: str | None
    span: Span
    head: Span


@record
class Model:
    name: str
    settings: tuple[Parameter, ...]
    body: Block
    doc: str | None
    span: Span
    head: Span


@record
class Entry:
    """`key = value` of a `train` or `generate`."""

    key: str
    value: Expression
    doc: str | None
    span: Span


@record
class Update:
    """`update NAME { … }`: parameters of a `train` with their own loss and optimizer; `place` is that of the name."""

    name: str
    entries: tuple[Entry, ...]
    doc: str | None
    span: Span
    place: Span

    def place_of(self, key: str) -> Span:
        """Where the value of a key stands; the name of the block without the key."""
        return next((entry.value.span for entry in self.entries if entry.key == key), self.place)


@record
class Train:
    """`train NAME: Model(settings) { … }`; `name` is None when left out.

    In the text, an experiment may stand in place of the model; elaboration joins both, and keeps it as the `base`.
    """

    name: str | None
    model: Name
    settings: tuple[Keyword, ...]
    targets: tuple[InputDeclaration, ...]
    entries: tuple[Entry, ...]
    augment: Block | None
    updates: tuple[Update, ...]
    doc: str | None
    span: Span
    head: Span
    base: Name | None = None

    def place_of(self, key: str) -> Span:
        """Where the value of a key stands; the head of a `train` without the key."""
        return next((entry.value.span for entry in self.entries if entry.key == key), self.head)


@record
class Generate:
    """`feed` is (tokens, logits) of `feed tokens from logits`."""

    model: Name
    feed: tuple[Name, Name] | None
    entries: tuple[Entry, ...]
    doc: str | None
    span: Span


@record
class Sample:
    """`sample NAME(settings) from MODEL { … }`."""

    name: str
    settings: tuple[Parameter, ...]
    model: Name
    body: Block
    doc: str | None
    span: Span
    head: Span


@record
class Test:
    name: str
    body: Block
    doc: str | None
    span: Span


@record
class Import:
    path: str
    span: Span


Declaration: TypeAlias = "Const | Callable | Model | Train | Generate | Sample | Test | Import"


@record
class Module:
    """One parsed file."""

    source: Source
    declarations: tuple[Declaration, ...]
