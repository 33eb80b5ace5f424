"""Values of expressions during elaboration: configuration, tensors, and callables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from compiler.errors.diagnostics import Span
from compiler.frontend.axes import Axis, Label
from compiler.frontend.scope import ModuleScope
from compiler.graph import ir
from compiler.support.record import record
from compiler.syntax import tree
from compiler.types import BatchExtent, DType, Extent, Shape


@record
class TensorValue:
    """A tensor that exists at run time, with the names and origins of its axes."""

    value: ir.Value
    axes: tuple[Axis, ...]

    @property
    def shape(self) -> Shape:
        return self.value.type.shape

    @property
    def dtype(self) -> DType:
        return self.value.type.dtype

    @property
    def rank(self) -> int:
        return len(self.axes)


@record
class BatchValue:
    """`k * batch` in an expression: a dimension, or a scalar tensor in arithmetic."""

    multiple: int = 1

    @property
    def extent(self) -> BatchExtent:
        return BatchExtent(self.multiple)


@record
class RunTimeNumber:
    """A configuration number that tensor arithmetic receives at run time.

    `name` is its graph input and, for a derived one, its formula. `value` is None where only the run knows it
    (`total_steps`); then `operation` and `operands` say how to compute a derived one. `sources` are the settings in it.
    """

    name: str
    value: int | float | None
    sources: frozenset[str]
    operation: str = ""
    operands: tuple[Value, ...] = ()

    @property
    def is_derived(self) -> bool:
        return bool(self.operation)


@record
class TupleValue:
    """Several values: the results of a function, or `(a, b)` before `|>`. A list is a Python tuple."""

    items: tuple[Value, ...]


@record
class AxisName:
    """A dimension by its name, where an axis is asked for."""

    label: Label


@record
class NamedExtent:
    """A dimension with its name, where a dimension is asked for: `zeros(batch, n)` keeps the name `batch`."""

    extent: Extent
    axis: Axis


@record
class ExceptAxes:
    """`except(c, …)`: all axes but those."""

    axes: tuple[Value, ...]


@record
class FormValue:
    """A `fn`, `init`, `optimizer` or `schedule` with its settings; None where they are not given yet."""

    declaration: tree.Callable
    module: ModuleScope
    settings: Mapping[str, Value] | None = field(default=None, compare=False)


@record(eq=False)
class NamedBuiltin:
    """A built-in function by its name; `builtins.table.Builtin` adds its parameters and the code that evaluates it."""

    name: str


@record
class BuiltinValue:
    """A built-in function, with the keyword arguments given so far."""

    builtin: NamedBuiltin
    keywords: Mapping[str, Value] = field(default_factory=dict[str, "Value"], compare=False)


@dataclass(slots=True, eq=False)
class LayerInstance:
    """One layer with its settings. Its path is fixed when it is bound to a name, or at its first application.

    `place` is the path that it has unless the instance itself is bound; `items` are its positions in list literals.
    """

    declaration: tree.Callable
    module: ModuleScope
    settings: Mapping[str, Value]
    place: str
    site: tuple[object, ...]
    path: str | None = None
    items: tuple[int, ...] = ()
    children: list[tuple[str, LayerInstance]] = field(default_factory=list[tuple[str, "LayerInstance"]])
    twin: Twin | None = None


@record(eq=False)
class Twin:
    """Why the parameters of an instance are states, which no gradient reaches.

    They are averages of those of `source`, of which `momentum` stays in a step (a graph as in `program.Average`), or
    those of a `file`, in which the layer stands `at` a path.
    """

    source: LayerInstance
    span: Span
    momentum: ir.Graph | None = None
    file: str = ""
    at: str | None = None


@record
class Poison:
    """The value of an expression in which a mistake was already reported."""


POISON = Poison()

Plain: TypeAlias = bool | int | float | str | range | None
Open: TypeAlias = TensorValue | BatchValue | RunTimeNumber
Placed: TypeAlias = AxisName | NamedExtent | ExceptAxes
Called: TypeAlias = FormValue | BuiltinValue | LayerInstance
Value: TypeAlias = "Plain | Open | Placed | Called | TupleValue | Poison | tuple[Value, ...]"


def extent_value(extent: Extent) -> int | BatchValue:
    """A dimension as a value of an expression."""
    return BatchValue(extent.multiple) if isinstance(extent, BatchExtent) else extent


def is_number(value: Value) -> bool:
    """Whether this is configuration arithmetic's kind of value; booleans are not numbers."""
    # a tuple, as wherever much is asked: a union would be made anew for each question
    return isinstance(value, (int, float, RunTimeNumber)) and not isinstance(value, bool)


def is_callable(value: Value) -> bool:
    return isinstance(value, (FormValue, BuiltinValue, LayerInstance))


def holds_tensor(value: Value) -> bool:
    """Whether a value is or contains a tensor."""
    items = value.items if isinstance(value, TupleValue) else value
    return isinstance(value, TensorValue) or (isinstance(items, tuple) and any(map(holds_tensor, items)))


def describe(value: Value) -> str:
    """A value in words, for a message: `the number 3`, `a tensor f32[batch, 4]`."""
    match value:
        case bool() | None:
            return "`none`" if value is None else "`true`" if value else "`false`"
        case int() | float():
            return f"the number {value!r}"
        case str():
            return f'the string "{value}"'
        case range():
            return f"the range {value.start}..{value.stop}"
        case tuple():
            return f"a list of {len(value)} values"
        case TupleValue(items):
            return f"{len(items)} values"
        case TensorValue():
            return f"a tensor {value.value.type}"
        case BatchValue():
            return f"`{value.extent}`, which only the run knows"
        case RunTimeNumber():
            return f"the number `{value.name}`" + ("" if value.value is None else f", which is {value.value!r}")
        case Poison():
            return "a value with a mistake"
        case AxisName() | NamedExtent() | ExceptAxes():
            return _described_axis(value)
        case FormValue() | BuiltinValue() | LayerInstance():
            return _described_callable(value)


def _described_axis(value: Placed) -> str:
    match value:
        case AxisName(label):
            return f"the dimension `{label[1]}`"
        case NamedExtent(extent):
            return f"the dimension {extent}"
        case ExceptAxes():
            return "a choice of axes"


def _described_callable(value: Called) -> str:
    match value:
        case FormValue(declaration):
            return f"the {declaration.keyword} `{declaration.name}`"
        case BuiltinValue(builtin):
            return f"the built-in function `{builtin.name}`"
        case LayerInstance(declaration):
            return f"a layer `{declaration.name}`"
