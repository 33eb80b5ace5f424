"""BUILTINS: every function that the compiler provides itself; everything else is `.dl` text of the library.

Here stand elementwise functions, those of configuration, `require`, and those that tests use.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from compiler.errors.diagnostics import Note, hint
from compiler.frontend.axes import Axis
from compiler.frontend.builtins.data import DATA
from compiler.frontend.builtins.movement import MOVEMENT, SOURCES
from compiler.frontend.builtins.reductions import REDUCTIONS
from compiler.frontend.builtins.table import AxisValue, Builtin, BuiltinParameter, ElementTypeValue, X, built_in
from compiler.frontend.builtins.windows import WINDOWS
from compiler.frontend.elaborator import Elaborator
from compiler.frontend.failures import Failure, nearest
from compiler.frontend.settings import COMMAND_LINE, plain
from compiler.frontend.tensors.binding import expect_tensor
from compiler.frontend.tensors.numbers import MAXIMUM_ITEMS, apply_function, calculate
from compiler.frontend.tensors.operators import arithmetic, as_type, choose, computable, function, scalar
from compiler.frontend.tensors.shapes import resolve_axis, shown
from compiler.frontend.trace import Claim, GradientsAgree, IsCausal
from compiler.frontend.values import (
    BatchValue,
    ExceptAxes,
    LayerInstance,
    RunTimeNumber,
    TensorValue,
    TupleValue,
    Value,
    describe,
    extent_value,
)
from compiler.graph.ir import Role
from compiler.ops import mathematics
from compiler.ops.autodiff import apply_chain_rule
from compiler.ops.build import filled
from compiler.ops.control import StopGradient
from compiler.ops.movement import Concat
from compiler.ops.spreading import Reshape
from compiler.syntax import tree
from compiler.types import DType, TensorType, static_elements

_MOST_NUMBERS = 10_000
_NEAR = 1e-5


def _tensor(elaborator: Elaborator, values: Value) -> Value:
    """A tensor of the numbers in nested lists."""
    # a node for each number: what a test writes down is short
    numbers, shape = _flat(elaborator, values)
    if len(numbers) > _MOST_NUMBERS:
        elaborator.fail("E0312", f"`tensor` is made of at most {_MOST_NUMBERS} numbers, not of {len(numbers)}")
    axes = tuple(Axis(origin=elaborator.here) for _ in shape)
    if not numbers:
        return TensorValue(filled(elaborator.builder, 0, TensorType(DType.F32, shape)), axes)
    are_whole = all(isinstance(number, int) for number in numbers)
    dtype = DType.BOOL if isinstance(numbers[0], bool) else DType.I32 if are_whole else DType.F32
    parts = [elaborator.emit(Reshape((1,)), scalar(elaborator, number, dtype).value) for number in numbers]
    flat = elaborator.emit(Concat(0), *parts) if len(parts) > 1 else parts[0]
    return TensorValue(elaborator.emit(Reshape(shape), flat), axes)


def _flat(elaborator: Elaborator, value: Value) -> tuple[list[bool | int | float], tuple[int, ...]]:
    """The numbers of nested lists in their order, and the shape that the lists have."""
    if isinstance(value, bool | int | float):
        return [value], ()
    if not isinstance(value, tuple | range):
        elaborator.fail("E0312", f"`tensor` is made of numbers in lists, not of {describe(value)}")
    if len(value) > _MOST_NUMBERS:
        elaborator.fail("E0310", f"a `tensor` of more than {_MOST_NUMBERS} numbers", hint("make it of other tensors"))
    parts = [_flat(elaborator, item) for item in value]
    shapes = {shape for _, shape in parts}
    if len(shapes) > 1:
        elaborator.fail("E0309", "the lists of a `tensor` have different lengths", hint("all rows are equally long"))
    return [number for numbers, _ in parts for number in numbers], (len(parts), *(shapes.pop() if shapes else ()))


def _shape(elaborator: Elaborator, x: TensorValue) -> Value:
    """The sizes of all axes, as a list."""
    return tuple(extent_value(extent) for extent in x.shape)


def _near(elaborator: Elaborator, a: Value, b: Value, tolerance: Value = _NEAR) -> Value:
    """Whether |a - b| <= tolerance (1 + |b|), element by element."""
    distance = _absolute(elaborator, arithmetic(elaborator, "-", a, b))
    room = arithmetic(elaborator, "*", tolerance, arithmetic(elaborator, "+", 1.0, _absolute(elaborator, b)))
    return arithmetic(elaborator, "<=", distance, room)


def _absolute(elaborator: Elaborator, value: Value) -> Value:
    if isinstance(value, TensorValue):
        return function(elaborator, "abs", value)
    if not isinstance(value, int | float):
        elaborator.fail("E0312", f"`near` compares numbers and tensors, not {describe(value)}")
    return abs(value)


def _gradient(elaborator: Elaborator, y: TensorValue, x: TensorValue, weights: Value = None) -> Value:
    """The gradient of the sum of y in x, from which y was computed; with `weights`, of the sum of weights y, as if the
    weights did not depend on x.
    """
    _expect_floats(elaborator, "gradient", y, x)
    y, builder = computable(elaborator, y), elaborator.builder
    builder.origins = elaborator.origins()
    start = {y.value.index: filled(builder, 1.0, y.value.type)}
    if weights is not None:
        given = expect_tensor(elaborator, weights, "`weights` of `gradient`")
        if given.value.type != y.value.type:
            elaborator.fail("E0417", f"`weights` of `gradient` is {y.value.type}, as y is, not {given.value.type}")
        start = {y.value.index: given.value}
    (slope,) = apply_chain_rule(builder, tuple(builder.nodes), start, [x.value])
    return TensorValue(filled(builder, 0.0, x.value.type.of_slope) if slope is None else slope, x.axes)


def _parameters(elaborator: Elaborator, layer: Value) -> Value:
    """How many numbers an applied layer learns."""
    if not isinstance(layer, LayerInstance) or layer.path is None:
        fix = hint("bind the layer to a name, apply it, then count: `net = M()`, `y = net(x)`, `parameters(net)`")
        elaborator.fail(
            "E0312", f"`parameters` counts those of a layer that was applied, not of {describe(layer)}", fix
        )
    specs = elaborator.session.parameters.values()
    own = [s for s in specs if s.role is Role.PARAMETER and f"{s.path}.".startswith(f"{layer.path}.")]
    return sum(static_elements(spec.type.shape) for spec in own)


def _gradients_agree(elaborator: Elaborator, y: TensorValue, x: TensorValue) -> Value:
    """In a test: the gradient of y in x is the one that differences give."""
    _expect_floats(elaborator, "gradients_agree", y, x)
    return _claim(elaborator, "gradients_agree", GradientsAgree(elaborator.here, y.value, x.value))


def _causal(elaborator: Elaborator, y: TensorValue, x: TensorValue, axis: AxisValue = 1) -> Value:
    """In a test: y depends, at each place of an axis, on nothing behind that place of x."""
    axes = [resolve_axis(elaborator, tensor, axis) for tensor in (y, x)]
    if y.shape[axes[0]] != x.shape[axes[1]]:
        elaborator.fail(
            "E0411",
            f"`causal` compares places of one axis, but {shown(elaborator, y)} and {shown(elaborator, x)} differ "
            f"in axis {axes[0]}",
        )
    return _claim(elaborator, "causal", IsCausal(elaborator.here, y.value, x.value, axes[0], axes[1]))


def _claim(elaborator: Elaborator, name: str, claim: Claim) -> Value:
    if elaborator.claims is None:
        elaborator.fail("E0205", f"`{name}` stands in a `test`, in a line of its own")
    elaborator.claims.append(claim)
    return None


def _expect_floats(elaborator: Elaborator, name: str, *tensors: TensorValue) -> None:
    for tensor in tensors:
        if not tensor.dtype.is_float:
            elaborator.fail("E0416", f"`{name}` is about floats, and {shown(elaborator, tensor)} holds none")


CHECKS = tuple(map(built_in, (_tensor, _shape, _near, _parameters, _gradients_agree, _causal)))


_ONLY_THE_RUN_KNOWS = "E0313"


def judge(elaborator: Elaborator, requirement: tree.Expression) -> None:
    """Evaluate a line `require(…)`. The settings in it decide nothing of the program, so they stay numbers of the run.

    What only the run knows, such as `total_steps`, is not judged. Where the run may change a setting, it keeps to what
    the requirement compares it with.
    """
    before = frozenset(elaborator.session.decided)
    try:
        assert isinstance(requirement, tree.Call)
        for condition in requirement.positional[:1]:
            _limit(elaborator, condition)
        elaborator.evaluate(requirement)
    except Failure as mistake:
        if mistake.diagnostic.code != _ONLY_THE_RUN_KNOWS:
            raise
    finally:
        elaborator.session.decided = set(before)


_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


def _limit(elaborator: Elaborator, condition: tree.Expression) -> None:
    """Record each comparison of a setting with a number, of those that all have to hold."""
    match condition:
        case tree.Binary("and", left, right):
            _limit(elaborator, left)
            _limit(elaborator, right)
        case tree.Binary(symbol, left, right) if symbol in _MIRRORED:
            one, other = elaborator.evaluate(left), elaborator.evaluate(right)
            if isinstance(other, int | float):
                elaborator.session.limit(one, (symbol, other))
            elif isinstance(one, int | float):
                elaborator.session.limit(other, (_MIRRORED[symbol], one))
        case _:
            pass


def require(elaborator: Elaborator, condition: Value, message: tuple[Value, ...]) -> Value:
    """In a line of its own: a mistake if the condition is false, with a message of all that follows it."""
    if not isinstance(condition, bool):
        elaborator.fail("E0312", f"`require` takes a condition of configuration, not {describe(condition)}")
    if not condition:
        elaborator.fail("E0315", "".join(map(_said, message)) or "this is required", *settings_in(elaborator, message))
    return True


def settings_in(elaborator: Elaborator, values: tuple[Value, ...]) -> list[Note]:
    """A note on each setting that some of the values come from."""
    settings = elaborator.session.settings
    sources = {name: None for value in values if isinstance(value, RunTimeNumber) for name in sorted(value.sources)}
    notes: list[Note] = []
    for name in (name for name in sources if name in settings.entries):
        value, origin = settings.entries[name]
        override = settings.overrides.get(name)
        place = override.span if override is not None and origin == COMMAND_LINE else None
        notes.append(Note(f"the setting `{name}` is {_said(value)}", place))
    return notes


def _said(value: Value) -> str:
    """A part of a message as a reader writes it."""
    match value:
        case str():
            return value
        case bool() | None:
            return {True: "true", False: "false", None: "none"}[value]
        case int() | float():
            return repr(value)
        case tuple():
            return f"[{', '.join(map(_said, value))}]"
        case RunTimeNumber(value=int() | float()):
            return repr(plain(value))
        case _:
            return describe(value)


def _elementwise(name: str, document: str) -> Builtin:
    def evaluate(elaborator: Elaborator, x: Value) -> Value:
        if isinstance(x, BatchValue):
            x = scalar(elaborator, x, DType.F32)
        return function(elaborator, name, x) if isinstance(x, TensorValue) else apply_function(elaborator, name, x)

    return Builtin(name, (X,), document, evaluate)


def _where(elaborator: Elaborator, condition: Value, a: Value, b: Value) -> Value:
    """a where the condition is true, else b, element by element."""
    if isinstance(condition, bool):
        return a if condition else b
    if not isinstance(condition, TensorValue):
        elaborator.fail("E0312", f"the condition of `where` is a tensor of bool, not {describe(condition)}")
    return choose(elaborator, condition, a, b)


def _stop_gradient(elaborator: Elaborator, x: Value) -> Value:
    """x itself, through which no gradient flows."""
    return TensorValue(elaborator.emit(StopGradient(), x.value), x.axes) if isinstance(x, TensorValue) else x


def _direction(name: str, document: str) -> Builtin:
    def evaluate(elaborator: Elaborator, x: TensorValue) -> Value:
        elaborator.directions[x.value.index] = name == "maximise"
        return x

    return Builtin(name, (BuiltinParameter("x", "tensor"),), document, evaluate)


def _cast(elaborator: Elaborator, x: Value, dtype: ElementTypeValue) -> Value:
    """x in another element type, `cast(x, f32)`, or in that of a tensor, `cast(x, y)`."""
    if isinstance(dtype, TensorValue):
        dtype = dtype.dtype.value
    if not isinstance(dtype, str) or dtype not in _ELEMENT_TYPES:
        elaborator.fail(
            "E0416", f"{describe(dtype)} is not an element type", hint(f"one of {', '.join(_ELEMENT_TYPES)}")
        )
    wanted = DType(dtype)
    if wanted is DType.BF16:
        elaborator.fail("E0907", "tensors of bf16 are not compiled yet", hint("use f32"))
    return as_type(elaborator, x, wanted)


_ELEMENT_TYPES = tuple(dtype.value for dtype in DType)
ELEMENT_TYPES: Mapping[str, str] = {name: name for name in _ELEMENT_TYPES}
"""The names of element types, which stand for themselves as the second argument of `cast`."""


def _len(elaborator: Elaborator, x: Value) -> Value:
    """The number of items in a list."""
    if isinstance(x, tuple | str | range):
        return len(x)
    if isinstance(x, TupleValue):
        return len(x.items)
    elaborator.fail("E0312", f"`len` counts the items of a list, not of {describe(x)}")


def _except(_: Elaborator, axes: tuple[AxisValue, ...]) -> Value:
    """For `axis`: all axes but those."""
    return ExceptAxes(axes)


def _has_dtype(name: str, document: str) -> Builtin:
    def evaluate(_: Elaborator, x: Value) -> Value:
        if isinstance(x, TensorValue):
            is_integer = not x.dtype.is_float and x.dtype is not DType.BOOL
            return is_integer if name == "is_integer" else x.dtype.is_float
        value = x.value if isinstance(x, RunTimeNumber) else x
        return isinstance(value, int if name == "is_integer" else float) and not isinstance(value, bool)

    return Builtin(name, (X,), document, evaluate)


def _rank(_: Elaborator, x: Value) -> Value:
    """The number of axes; known when the program is elaborated."""
    return x.rank if isinstance(x, TensorValue) else 0


def _per_axis(elaborator: Elaborator, value: Value, count: Value) -> Value:
    """A list of `count` items: `value` if it is a list, which must have that many, otherwise `value` each time."""
    if not isinstance(count, int) or isinstance(count, bool):
        elaborator.fail("E0312", f"`count` of `per_axis` is a whole number, not {describe(count)}")
    if count > MAXIMUM_ITEMS:
        elaborator.fail("E0310", f"a list of more than {MAXIMUM_ITEMS} items")
    if not isinstance(value, tuple | range):
        return (value,) * count
    if len(value) != count:
        elaborator.fail("E0309", f"a list of {len(value)} values is given, but {count} are asked for")
    return tuple(value)


def _extent(elaborator: Elaborator, x: TensorValue, axis: AxisValue) -> Value:
    """The size of an axis; known when the program is elaborated."""
    return extent_value(x.shape[resolve_axis(elaborator, x, axis)])


def _place(elaborator: Elaborator, x: TensorValue, axis: AxisValue) -> Value:
    """The number of an axis, from 0; known when the program is elaborated."""
    return resolve_axis(elaborator, x, axis)


def _one_of(elaborator: Elaborator, value: Value, known: tuple[Value, ...]) -> Value:
    """The value itself, a setting that must be one of those that follow."""
    if any(calculate(elaborator, "==", value, option) is True for option in known):
        return value
    names = [option for option in known if isinstance(option, str)]
    listed = ", ".join(f'"{option}"' if isinstance(option, str) else describe(option) for option in known)
    shown = f'"{value}"' if isinstance(value, str) else describe(value)
    notes = nearest(value, names) if isinstance(value, str) else ()
    elaborator.fail("E0314", f"{shown} is none of {listed}", *notes)


def _fresh(elaborator: Elaborator, layer: Value) -> Value:
    """A new instance of the same kind of layer."""
    elaborator.fail("E0312", f"`fresh` makes a new instance of a layer, not of {describe(layer)}")


def _average(elaborator: Elaborator, layer: Value, momentum: Value) -> Value:
    """An instance of a layer whose parameters are averages of those of `layer`, of which `momentum` stays in a step."""
    elaborator.fail("E0303", "`average` takes a layer and a momentum", hint("write `average(encoder, 0.996)`"))


def _frozen(elaborator: Elaborator, file: Value, layer: Value, at: Value = None) -> Value:
    """An instance of a layer that stays as a safetensors file or a run has it, where it stands `at` a path."""
    elaborator.fail("E0303", "`frozen` takes a file and a layer", hint('write `frozen("w.safetensors", encoder)`'))


FUNCTIONS: tuple[Builtin, ...] = (
    *(_elementwise(op.name, op.document) for op in mathematics.FUNCTIONS),
    _elementwise("floor", "The largest whole number that is not above x."),
    _elementwise("ceil", "The smallest whole number that is not below x."),
    _elementwise("round", "The nearest whole number; of two, the even one."),
    _elementwise("int", "x without its fractional part."),
    _elementwise("abs", "The absolute value."),
    *map(built_in, (_where, _stop_gradient, _gradient)),
    _direction("maximise", "x itself, a metric of which a larger value is better."),
    _direction("minimise", "x itself, a metric of which a smaller value is better."),
    built_in(_cast),
    _has_dtype("is_integer", "Whether x holds integers; known when the program is elaborated."),
    _has_dtype("is_float", "Whether x holds floats; known when the program is elaborated."),
    *map(built_in, (_rank, _per_axis, _extent, _place, _one_of, require, _len, _except, _fresh, _average, _frozen)),
)

BUILTINS: Mapping[str, Builtin] = {
    b.name: b for b in (*FUNCTIONS, *DATA, *REDUCTIONS, *MOVEMENT, *WINDOWS, *SOURCES, *CHECKS)
}
CONSTANTS: Mapping[str, Value] = {"inf": math.inf, "pi": math.pi}
