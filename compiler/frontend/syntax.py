"""The abstract syntax of `.dl`: what the parser gives and everything else in the front end reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from compiler.diagnostics import Source, Span

# Expressions


@dataclass(frozen=True, slots=True)
class Number:
    value: int | float
    span: Span


@dataclass(frozen=True, slots=True)
class Boolean:
    value: bool
    span: Span


@dataclass(frozen=True, slots=True)
class Text:
    value: str
    span: Span


@dataclass(frozen=True, slots=True)
class NoneLiteral:
    """`none`, an absent optional value; in an index, `None` is `NewAxis`."""

    span: Span


@dataclass(frozen=True, slots=True)
class Name:
    """A variable, setting, declaration, or one of the constants `inf` and `pi`."""

    id: str
    span: Span


@dataclass(frozen=True, slots=True)
class ListLiteral:
    items: tuple[Expression, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class TupleLiteral:
    """`a, b` after `return` or `=`, or `(a, b)` before `|>`."""

    items: tuple[Expression, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Range:
    """`start..stop`, the end excluded."""

    start: Expression
    stop: Expression
    span: Span


@dataclass(frozen=True, slots=True)
class Unary:
    """`operator` is `-` or `not`."""

    operator: str
    operand: Expression
    span: Span


@dataclass(frozen=True, slots=True)
class Binary:
    """`operator` is one of `+ - * / // % @ ^ == != < <= > >= and or`."""

    operator: str
    left: Expression
    right: Expression
    span: Span


@dataclass(frozen=True, slots=True)
class Pipe:
    """`value |> stage`."""

    value: Expression
    stage: Expression
    span: Span


@dataclass(frozen=True, slots=True)
class Keyword:
    name: str
    value: Expression
    span: Span


@dataclass(frozen=True, slots=True)
class Call:
    function: Expression
    positional: tuple[Expression, ...]
    keywords: tuple[Keyword, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Attribute:
    """`value.name`: `x.T`, or a dotted key such as `optimizer.lr`."""

    value: Expression
    name: str
    span: Span


@dataclass(frozen=True, slots=True)
class SliceItem:
    start: Expression | None
    stop: Expression | None
    step: Expression | None
    span: Span


@dataclass(frozen=True, slots=True)
class EllipsisItem:
    span: Span


@dataclass(frozen=True, slots=True)
class NewAxis:
    span: Span


IndexItem: TypeAlias = "SliceItem | EllipsisItem | NewAxis | Expression"


@dataclass(frozen=True, slots=True)
class Index:
    value: Expression
    items: tuple[IndexItem, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class ScanInput:
    """`name in value`: what one step sees of a scanned tensor or range."""

    name: str
    value: Expression
    span: Span


@dataclass(frozen=True, slots=True)
class Carry:
    name: str
    initial: Expression
    span: Span


@dataclass(frozen=True, slots=True)
class Scan:
    """`scan a in x over axis [reverse = …] [where = …] [truncate = …] carry h = … { body }`."""

    inputs: tuple[ScanInput, ...]
    axis: Expression
    options: tuple[Keyword, ...]
    carries: tuple[Carry, ...]
    body: Block
    span: Span


Expression: TypeAlias = (
    Number
    | Boolean
    | Text
    | NoneLiteral
    | Name
    | ListLiteral
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


@dataclass(frozen=True, slots=True)
class TensorAnnotation:
    """`f32[batch, ..., 2 * units]`; `dtype` is None when left out, a dimension `...` is an `EllipsisItem`.

    `f32[]` is a scalar. `dimensions` is None where only an element type stands (`i32`).
    """

    dtype: str | None
    dimensions: tuple[Expression | EllipsisItem, ...] | None
    span: Span


@dataclass(frozen=True, slots=True)
class SettingType:
    """One of `int float bool string axis fn layer init schedule`."""

    name: str
    span: Span


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a declaration, a setting or a tensor; the checker tells which."""

    name: str
    annotation: TensorAnnotation | SettingType | None
    default: Expression | None
    doc: str | None
    span: Span


# Statements


@dataclass(frozen=True, slots=True)
class Block:
    statements: tuple[Statement, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Assign:
    """`a, b = value`. A target `_` discards."""

    targets: tuple[Name, ...]
    value: Expression
    doc: str | None
    span: Span


@dataclass(frozen=True, slots=True)
class StateUpdate:
    """`name <- value`."""

    target: Name
    value: Expression
    span: Span


@dataclass(frozen=True, slots=True)
class ParamDeclaration:
    """`param W: [n, units] = glorot_uniform`. The initialiser is looked up in its own namespace."""

    name: str
    annotation: TensorAnnotation
    initializer: Expression
    doc: str | None
    span: Span


@dataclass(frozen=True, slots=True)
class StateDeclaration:
    """`state m = zeros`; without annotation (optimizers only) the shape is that of `p`."""

    name: str
    annotation: TensorAnnotation | None
    initializer: Expression
    doc: str | None
    span: Span


@dataclass(frozen=True, slots=True)
class Return:
    value: Expression
    span: Span


@dataclass(frozen=True, slots=True)
class Emit:
    values: tuple[Expression, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class If:
    """`otherwise` holds the `else` block; `else if` is a block of one `If`."""

    condition: Expression
    then: Block
    otherwise: Block | None
    span: Span


@dataclass(frozen=True, slots=True)
class For:
    """`for i in 0..n { … }`, `for a, b in pairs { … }`."""

    targets: tuple[Name, ...]
    iterable: Expression
    body: Block
    span: Span


@dataclass(frozen=True, slots=True)
class ExpressionStatement:
    """The last line of an optimizer, or the message of a mistake: a value that is not used."""

    value: Expression
    span: Span


@dataclass(frozen=True, slots=True)
class InputDeclaration:
    """`input tokens: i32[batch, 64] in 0..vocab padded by mask`; with `keyword` `target`, of a `train`."""

    keyword: str
    name: str
    annotation: TensorAnnotation
    range: Expression | None
    mask: str | None
    doc: str | None
    span: Span


@dataclass(frozen=True, slots=True)
class OutputDeclaration:
    """`output logits = value`; several names take the items of a tuple."""

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
)

# Declarations


@dataclass(frozen=True, slots=True)
class Const:
    name: str
    value: Expression
    doc: str | None
    span: Span


@dataclass(frozen=True, slots=True)
class GradientClause:
    """`gradient(x, y, dy) = …` or with a block."""

    parameters: tuple[Name, ...]
    body: Block
    span: Span


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class Model:
    name: str
    settings: tuple[Parameter, ...]
    body: Block
    doc: str | None
    span: Span
    head: Span


@dataclass(frozen=True, slots=True)
class Entry:
    """`key = value` of a `train` or `generate`."""

    key: str
    value: Expression
    doc: str | None
    span: Span


@dataclass(frozen=True, slots=True)
class Train:
    """`train NAME: Model(settings) { … }`; `name` is None when left out."""

    name: str | None
    model: Name
    settings: tuple[Keyword, ...]
    targets: tuple[InputDeclaration, ...]
    entries: tuple[Entry, ...]
    augment: Block | None
    doc: str | None
    span: Span
    head: Span


@dataclass(frozen=True, slots=True)
class Generate:
    """`feed` is (tokens, logits) of `feed tokens from logits`."""

    model: Name
    feed: tuple[Name, Name] | None
    entries: tuple[Entry, ...]
    doc: str | None
    span: Span


@dataclass(frozen=True, slots=True)
class Test:
    name: str
    body: Block
    doc: str | None
    span: Span


@dataclass(frozen=True, slots=True)
class Import:
    path: str
    span: Span


Declaration: TypeAlias = "Const | Callable | Model | Train | Generate | Test | Import"


@dataclass(frozen=True, slots=True)
class Module:
    """One parsed file."""

    source: Source
    declarations: tuple[Declaration, ...]
