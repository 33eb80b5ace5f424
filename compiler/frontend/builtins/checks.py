"""Built-in functions that tests use: tensors from numbers, closeness, gradients, and claims about dependence."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.errors.diagnostics import hint
from compiler.frontend.axes import Axis
from compiler.frontend.builtins.table import Arguments, Builtin, BuiltinParameter
from compiler.frontend.claims import Claim, GradientsAgree, IsCausal
from compiler.frontend.elaborator import Elaborator
from compiler.frontend.tensors.binding import expect_tensor
from compiler.frontend.tensors.operators import arithmetic, function, scalar
from compiler.frontend.tensors.shapes import resolve_axis, shown
from compiler.frontend.values import LayerInstance, TensorValue, Value, describe, extent_value
from compiler.graph.ir import Role
from compiler.ops.build import filled
from compiler.ops.chain_rule import apply_chain_rule
from compiler.ops.movement import Concat
from compiler.ops.spreading import Reshape
from compiler.types import DType, static_elements

_X = BuiltinParameter("x")
_MOST_NUMBERS = 10_000
_NEAR = 1e-5


def _tensor(elaborator: Elaborator, arguments: Arguments) -> Value:
    """A node for each number: what a test writes down is short."""
    numbers, shape = _flat(elaborator, arguments["values"])
    if not numbers or len(numbers) > _MOST_NUMBERS:
        elaborator.fail("E0312", f"`tensor` is made of 1 to {_MOST_NUMBERS} numbers, not of {len(numbers)}")
    are_whole = all(isinstance(number, int) for number in numbers)
    dtype = DType.BOOL if isinstance(numbers[0], bool) else DType.I32 if are_whole else DType.F32
    parts = [elaborator.emit(Reshape((1,)), scalar(elaborator, number, dtype).value) for number in numbers]
    flat = elaborator.emit(Concat(0), *parts) if len(parts) > 1 else parts[0]
    return TensorValue(elaborator.emit(Reshape(shape), flat), tuple(Axis(origin=elaborator.here) for _ in shape))


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


def _shape(elaborator: Elaborator, arguments: Arguments) -> Value:
    return tuple(extent_value(extent) for extent in expect_tensor(elaborator, arguments["x"], "`x` of `shape`").shape)


def _near(elaborator: Elaborator, arguments: Arguments) -> Value:
    """|a - b| <= tolerance * (1 + |b|)"""
    a, b, tolerance = arguments["a"], arguments["b"], arguments["tolerance"]
    distance = _absolute(elaborator, arithmetic(elaborator, "-", a, b))
    room = arithmetic(elaborator, "*", tolerance, arithmetic(elaborator, "+", 1.0, _absolute(elaborator, b)))
    return arithmetic(elaborator, "<=", distance, room)


def _absolute(elaborator: Elaborator, value: Value) -> Value:
    if isinstance(value, TensorValue):
        return function(elaborator, "abs", value)
    if not isinstance(value, int | float):
        elaborator.fail("E0312", f"`near` compares numbers and tensors, not {describe(value)}")
    return abs(value)


def _gradient(elaborator: Elaborator, arguments: Arguments) -> Value:
    of, by = _dependent(elaborator, arguments, "gradient")
    builder = elaborator.builder
    builder.origins = elaborator.origins()
    start = {of.value.index: filled(builder, 1.0, of.value.type)}
    (slope,) = apply_chain_rule(builder, tuple(builder.nodes), start, [by.value])
    return TensorValue(filled(builder, 0.0, by.value.type) if slope is None else slope, by.axes)


def _parameters(elaborator: Elaborator, arguments: Arguments) -> Value:
    layer = arguments["layer"]
    if not isinstance(layer, LayerInstance) or layer.path is None:
        fix = hint("bind the layer to a name, apply it, then count: `net = M()`, `y = net(x)`, `parameters(net)`")
        elaborator.fail(
            "E0312", f"`parameters` counts those of a layer that was applied, not of {describe(layer)}", fix
        )
    specs = elaborator.session.parameters.values()
    own = [s for s in specs if s.role is Role.PARAMETER and f"{s.path}.".startswith(f"{layer.path}.")]
    return sum(static_elements(spec.type.shape) for spec in own)


def _gradients_agree(elaborator: Elaborator, arguments: Arguments) -> Value:
    of, by = _dependent(elaborator, arguments, "gradients_agree")
    return _claim(elaborator, "gradients_agree", GradientsAgree(elaborator.here, of.value, by.value))


def _causal(elaborator: Elaborator, arguments: Arguments) -> Value:
    of = expect_tensor(elaborator, arguments["y"], "`y` of `causal`")
    by = expect_tensor(elaborator, arguments["x"], "`x` of `causal`")
    axes = [resolve_axis(elaborator, tensor, arguments["axis"]) for tensor in (of, by)]
    if of.shape[axes[0]] != by.shape[axes[1]]:
        elaborator.fail(
            "E0411",
            f"`causal` compares places of one axis, but {shown(elaborator, of)} and {shown(elaborator, by)} differ "
            f"in axis {axes[0]}",
        )
    return _claim(elaborator, "causal", IsCausal(elaborator.here, of.value, by.value, axes[0], axes[1]))


def _claim(elaborator: Elaborator, name: str, claim: Claim) -> Value:
    if elaborator.claims is None:
        elaborator.fail("E0205", f"`{name}` stands in a `test`, in a line of its own")
    elaborator.claims.append(claim)
    return None


def _dependent(elaborator: Elaborator, arguments: Arguments, name: str) -> tuple[TensorValue, TensorValue]:
    found = [expect_tensor(elaborator, arguments[part], f"`{part}` of `{name}`") for part in ("y", "x")]
    for tensor in found:
        if not tensor.dtype.is_float:
            elaborator.fail("E0416", f"`{name}` is about floats, and {shown(elaborator, tensor)} holds none")
    return found[0], found[1]


_OF_BY: Sequence[BuiltinParameter] = (BuiltinParameter("y"), _X)

CHECKS: tuple[Builtin, ...] = (
    Builtin("tensor", (BuiltinParameter("values"),), "A tensor of the numbers in nested lists.", _tensor),
    Builtin("shape", (_X,), "The sizes of all axes, as a list.", _shape),
    Builtin(
        "near",
        (BuiltinParameter("a"), BuiltinParameter("b"), BuiltinParameter("tolerance", default=_NEAR)),
        "Whether |a - b| <= tolerance (1 + |b|), element by element.",
        _near,
    ),
    Builtin("gradient", (*_OF_BY,), "The gradient of the sum of y in x, from which y was computed.", _gradient),
    Builtin("parameters", (BuiltinParameter("layer"),), "How many numbers an applied layer learns.", _parameters),
    Builtin(
        "gradients_agree",
        (*_OF_BY,),
        "In a test: the gradient of y in x is the one that differences give.",
        _gradients_agree,
    ),
    Builtin(
        "causal",
        (*_OF_BY, BuiltinParameter("axis", "axis", 1)),
        "In a test: y depends, at each place of an axis, on nothing behind that place of x.",
        _causal,
    ),
)
