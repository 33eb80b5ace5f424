"""Arithmetic where a tensor is involved: element types, broadcasting, and the nodes that result."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.errors.diagnostics import Note, hint
from compiler.frontend.axes import Axis
from compiler.frontend.elaborator import Elaborator
from compiler.frontend.tensors.numbers import calculate, refuse_operand
from compiler.frontend.tensors.shapes import broadcast, shown
from compiler.frontend.values import BatchValue, RunTimeNumber, TensorValue, Value, describe
from compiler.graph import ir
from compiler.graph.ir import Role
from compiler.graph.op import Op
from compiler.ops import elementwise, mathematics
from compiler.ops.mathematics import Power
from compiler.ops.sources import BatchSize, Constant
from compiler.ops.spreading import Broadcast, Reshape
from compiler.types import READ_AS, DType, Shape, TensorType

ARITHMETIC: dict[str, Op] = {
    "+": elementwise.Add(),
    "-": elementwise.Subtract(),
    "*": elementwise.Multiply(),
    "//": elementwise.FloorDivide(),
    "%": elementwise.Modulo(),
    "max": elementwise.Maximum(),
    "min": elementwise.Minimum(),
}
REAL: dict[str, Op] = {"/": elementwise.Divide(), "^": Power()}
# The flag says that the operands change places: a > b is b < a.
COMPARISONS: dict[str, tuple[Op, bool]] = {
    "==": (elementwise.Equal(), False),
    "!=": (elementwise.NotEqual(), False),
    "<": (elementwise.Less(), False),
    "<=": (elementwise.LessEqual(), False),
    ">": (elementwise.Less(), True),
    ">=": (elementwise.LessEqual(), True),
}
LOGIC: dict[str, Op] = {"and": elementwise.And(), "or": elementwise.Or()}
FUNCTIONS: dict[str, Op] = {"floor": elementwise.Floor(), **{op.name: op() for op in mathematics.FUNCTIONS}}
_INTEGER_ORDER = (DType.BOOL, DType.U8, DType.I32, DType.I64)
_NUMBERS = TensorType(DType.F32)


def is_operand(value: Value) -> bool:
    """Whether a value can take part in the arithmetic of tensors."""
    return isinstance(value, (TensorValue, BatchValue, RunTimeNumber, int, float))


# Scalars and casts


def as_tensor(elaborator: Elaborator, value: Value) -> TensorValue:
    """A tensor as it is, and a number as one of f32."""
    return value if isinstance(value, TensorValue) else scalar(elaborator, value, DType.F32)


def scalar(elaborator: Elaborator, value: Value, dtype: DType) -> TensorValue:
    """A configuration number as a tensor without axes."""
    match value:
        case RunTimeNumber():
            return cast(elaborator, TensorValue(_run_time_input(elaborator, value), ()), dtype)
        case BatchValue(multiple):
            size = elaborator.emit(elementwise.Cast(DType.F32), elaborator.emit(BatchSize()))
            if multiple != 1:
                size = elaborator.emit(
                    elementwise.Multiply(), size, elaborator.emit(Constant(float(multiple), DType.F32))
                )
            return cast(elaborator, TensorValue(size, ()), dtype)
        case bool() | int() | float():
            return TensorValue(elaborator.emit(Constant(_number_for(elaborator, value, dtype), dtype)), ())
        case _:
            elaborator.fail("E0312", f"a number or a tensor is needed here, not {describe(value)}")


def _number_for(elaborator: Elaborator, value: bool | int | float, dtype: DType) -> bool | int | float:
    if dtype.is_float:
        return float(value)
    if dtype is DType.BOOL:
        return bool(value)
    expect_fitting(elaborator, value, dtype)
    return int(value)


def expect_fitting(elaborator: Elaborator, number: float, dtype: DType) -> None:
    """That an integer type, if it is one, has a number."""
    if not dtype.is_float and not dtype.limits[0] <= number <= dtype.limits[1]:
        elaborator.fail("E0416", f"the number {number} does not fit into {dtype.value}")


def _run_time_input(elaborator: Elaborator, number: RunTimeNumber) -> ir.Value:
    """A setting as a scalar of f32: a graph input, or a constant where the graph takes no settings."""
    if not elaborator.takes_settings and number.value is not None:
        elaborator.session.decide(number)
        return elaborator.emit(Constant(float(number.value), DType.F32))
    if number.value is None and number.is_derived:
        return _computed(elaborator, number)
    elaborator.session.run_time.setdefault(number.name, number)
    return elaborator.input(number.name, Role.SETTING, _NUMBERS)


def _computed(elaborator: Elaborator, number: RunTimeNumber) -> ir.Value:
    """A formula over what only the run knows (`total_steps // 10`), as arithmetic of scalars."""
    operands = [scalar(elaborator, operand, DType.F32) for operand in number.operands]
    if len(operands) == 2:
        return binary(elaborator, number.operation, operands[0], operands[1]).value
    if number.operation == "negate":
        return elaborator.emit(elementwise.Negate(), operands[0].value)
    return function(elaborator, number.operation, operands[0]).value


def cast(elaborator: Elaborator, tensor: TensorValue, dtype: DType) -> TensorValue:
    if tensor.dtype is dtype:
        return tensor
    return TensorValue(elaborator.emit(elementwise.Cast(dtype), tensor.value), tensor.axes)


def as_type(elaborator: Elaborator, value: Value, dtype: DType) -> TensorValue:
    """A tensor or a configuration number as a tensor of an element type."""
    return cast(elaborator, value, dtype) if isinstance(value, TensorValue) else scalar(elaborator, value, dtype)


def read(elaborator: Elaborator, value: Value) -> Value:
    """What arithmetic reads of a value: elements of a type that is only stored become ones to compute with."""
    return computable(elaborator, value) if isinstance(value, TensorValue) else value


def computable(elaborator: Elaborator, tensor: TensorValue) -> TensorValue:
    """A tensor in a type to compute with, which has each of its numbers."""
    if tensor.dtype is DType.U64:
        message = f"nothing is computed with u64, and this is {shown(elaborator, tensor)}"
        elaborator.fail("E0416", message, hint("`cast(x, i64)` keeps numbers below 2^63, `cast(x, f32)` rounds them"))
    return cast(elaborator, tensor, READ_AS.get(tensor.dtype, tensor.dtype))


def real(elaborator: Elaborator, tensor: TensorValue) -> TensorValue:
    """The tensor itself, or integers and booleans as f32."""
    tensor = computable(elaborator, tensor)
    return tensor if tensor.dtype.is_float else cast(elaborator, tensor, DType.F32)


def numeric(elaborator: Elaborator, tensor: TensorValue) -> TensorValue:
    """The tensor itself, or booleans as i32."""
    return cast(elaborator, tensor, DType.I32) if tensor.dtype is DType.BOOL else computable(elaborator, tensor)


def integers(elaborator: Elaborator, indices: TensorValue, *notes: Note) -> TensorValue:
    """A tensor of indices."""
    if indices.dtype.is_float or indices.dtype is DType.BOOL:
        elaborator.fail("E0409", f"an index is a tensor of integers, not {shown(elaborator, indices)}", *notes)
    return computable(elaborator, indices)


def widest(left: DType, right: DType) -> DType:
    """The wider of two element types; an integer with a float is the float."""
    if left is right:
        return left
    if left.is_float or right.is_float:
        floats = {d for d in (left, right) if d.is_float}
        if DType.F64 in floats:
            return DType.F64
        return floats.pop() if len(floats) == 1 else DType.F32
    return max(left, right, key=_INTEGER_ORDER.index)


def common_type(left: Value, right: Value) -> DType:
    """The element type in which two operands meet; at least one is a tensor."""
    if isinstance(left, TensorValue):
        return widest(left.dtype, right.dtype) if isinstance(right, TensorValue) else _with_number(left.dtype, right)
    return _with_number(right.dtype, left) if isinstance(right, TensorValue) else DType.F32


def _with_number(dtype: DType, number: Value) -> DType:
    if dtype.is_float:
        return dtype
    if isinstance(number, bool):
        return DType.BOOL if dtype is DType.BOOL else dtype
    if isinstance(number, int):
        return dtype if dtype is DType.I64 else DType.I32
    return DType.F32


# Broadcasting


def spread(elaborator: Elaborator, tensor: TensorValue, shape: Shape) -> ir.Value:
    """The tensor repeated to `shape`, aligned at the right."""
    if tensor.shape == shape:
        return tensor.value
    offset = len(shape) - tensor.rank
    return elaborator.emit(Broadcast(shape, tuple(range(offset, len(shape)))), tensor.value)


def operands(elaborator: Elaborator, left: Value, right: Value, dtype: DType) -> tuple[TensorValue, TensorValue]:
    """Both as tensors of `dtype`."""
    return as_type(elaborator, left, dtype), as_type(elaborator, right, dtype)


def combine(elaborator: Elaborator, symbol: str, op: Op, left: TensorValue, right: TensorValue) -> TensorValue:
    """An elementwise op of two tensors of one element type."""
    shape, axes = broadcast(elaborator, symbol, left, right)
    return TensorValue(elaborator.emit(op, spread(elaborator, left, shape), spread(elaborator, right, shape)), axes)


# Operations


def arithmetic(elaborator: Elaborator, symbol: str, left: Value, right: Value) -> Value:
    """`left symbol right`, over configuration or tensors."""
    has_tensor = isinstance(left, TensorValue) or isinstance(right, TensorValue)
    if has_tensor and left is not None and right is not None:
        return binary(elaborator, symbol, left, right)
    if _is_scalar_of_batch(symbol, left, right):
        return binary(elaborator, symbol, scalar(elaborator, left, DType.F32), scalar(elaborator, right, DType.F32))
    return calculate(elaborator, symbol, left, right)


def _is_scalar_of_batch(symbol: str, left: Value, right: Value) -> bool:
    """`1 / batch`, or `batch` with a setting of run time, which can only be tensor arithmetic."""
    if isinstance(left, BatchValue):
        return symbol in "*/" and isinstance(right, (float, RunTimeNumber))
    return isinstance(right, BatchValue) and (
        (symbol == "/" and isinstance(left, (int, float, RunTimeNumber)))
        or (symbol == "*" and isinstance(left, (float, RunTimeNumber)))
    )


def binary(elaborator: Elaborator, symbol: str, left: Value, right: Value) -> TensorValue:
    """`left symbol right` where at least one is a tensor."""
    for value in (left, right):
        if not is_operand(value):
            refuse_operand(elaborator, symbol, value)
    left, right = read(elaborator, left), read(elaborator, right)
    dtype = common_type(left, right)
    if symbol in COMPARISONS:
        op, is_swapped = COMPARISONS[symbol]
        first, second = operands(elaborator, left, right, dtype)
        if is_swapped:
            first, second = second, first
        return combine(elaborator, symbol, op, first, second)
    if symbol in REAL:
        dtype = dtype if dtype.is_float else DType.F32
        if symbol == "^" and isinstance(left, TensorValue):
            power = _fixed_power(elaborator, cast(elaborator, left, dtype), right)
            if power is not None:
                return power
        return combine(elaborator, symbol, REAL[symbol], *operands(elaborator, left, right, dtype))
    dtype = DType.I32 if dtype is DType.BOOL else dtype
    return combine(elaborator, symbol, ARITHMETIC[symbol], *operands(elaborator, left, right, dtype))


def _fixed_power(elaborator: Elaborator, base: TensorValue, exponent: Value) -> TensorValue | None:
    """Powers that are products, roots or a division, which are faster and exact at negative numbers."""
    if isinstance(exponent, bool) or not isinstance(exponent, (int, float)):
        return None
    x = base.value

    def product(a: ir.Value, b: ir.Value) -> ir.Value:
        return elaborator.emit(elementwise.Multiply(), a, b)

    if exponent == 1:
        result = x
    elif exponent == 2:
        result = product(x, x)
    elif exponent == 3:
        result = product(product(x, x), x)
    elif exponent == 4:
        square = product(x, x)
        result = product(square, square)
    elif exponent == 0.5:
        result = elaborator.emit(mathematics.Sqrt(), x)
    elif exponent == -1:
        return combine(elaborator, "/", elementwise.Divide(), scalar(elaborator, 1, base.dtype), base)
    else:
        return None
    return TensorValue(result, base.axes)


def logic(elaborator: Elaborator, symbol: str, left: Value, right: Value) -> TensorValue:
    """`and` or `or` where at least one operand is a tensor of booleans."""
    for value in (left, right):
        if isinstance(value, TensorValue) and value.dtype is not DType.BOOL:
            message = f"`{symbol}` needs tensors of bool, not {shown(elaborator, value)}"
            elaborator.fail("E0416", message, hint("compare first, as in `x > 0`"))
        if not isinstance(value, (TensorValue, bool)):
            elaborator.fail("E0312", f"`{symbol}` needs booleans, not {describe(value)}")
    return combine(elaborator, symbol, LOGIC[symbol], *operands(elaborator, left, right, DType.BOOL))


def invert(elaborator: Elaborator, tensor: TensorValue) -> TensorValue:
    if tensor.dtype is not DType.BOOL:
        elaborator.fail("E0416", f"`not` needs a tensor of bool, not {shown(elaborator, tensor)}")
    return TensorValue(elaborator.emit(elementwise.Not(), tensor.value), tensor.axes)


def negative(elaborator: Elaborator, tensor: TensorValue) -> TensorValue:
    tensor = cast(elaborator, tensor, DType.I32) if tensor.dtype is DType.U8 else numeric(elaborator, tensor)
    return TensorValue(elaborator.emit(elementwise.Negate(), tensor.value), tensor.axes)


def function(elaborator: Elaborator, name: str, tensor: TensorValue) -> TensorValue:
    """A function of one tensor, by its name."""
    if name in ("int", "round", "ceil"):
        return _rounded(elaborator, name, tensor)
    if name == "abs":
        return TensorValue(elaborator.emit(elementwise.Abs(), numeric(elaborator, tensor).value), tensor.axes)
    if name == "floor" and not tensor.dtype.is_float:
        return numeric(elaborator, tensor)
    return TensorValue(elaborator.emit(FUNCTIONS[name], real(elaborator, tensor).value), tensor.axes)


def _rounded(elaborator: Elaborator, name: str, tensor: TensorValue) -> TensorValue:
    if name == "ceil":
        return negative(elaborator, function(elaborator, "floor", negative(elaborator, tensor)))
    if name == "round":
        return _nearest_whole(elaborator, tensor)
    is_negative = binary(elaborator, "<", tensor, 0)
    return choose(elaborator, is_negative, function(elaborator, "ceil", tensor), function(elaborator, "floor", tensor))


def _nearest_whole(elaborator: Elaborator, tensor: TensorValue) -> TensorValue:
    """Half to even, as over configuration. `x - floor(x)` is exact, unlike `x + 0.5`."""
    if not tensor.dtype.is_float:
        return numeric(elaborator, tensor)
    below = function(elaborator, "floor", tensor)
    rest = binary(elaborator, "-", tensor, below)
    above = binary(elaborator, "+", below, 1)
    is_odd = binary(elaborator, "==", binary(elaborator, "%", below, 2), 1)
    half = choose(elaborator, is_odd, above, below)
    other = choose(elaborator, binary(elaborator, ">", rest, 0.5), above, below)
    return choose(elaborator, binary(elaborator, "==", rest, 0.5), half, other)


def choose(elaborator: Elaborator, condition: TensorValue, left: Value, right: Value) -> TensorValue:
    """`where(condition, left, right)`. Two numbers give f32."""
    if condition.dtype is not DType.BOOL:
        message = f"the condition of `where` is a tensor of bool, not {shown(elaborator, condition)}"
        elaborator.fail("E0416", message, hint("compare it, as in `x > 0`"))
    for value in (left, right):
        if not is_operand(value):
            elaborator.fail("E0312", f"`where` chooses between numbers or tensors, not {describe(value)}")
    both_booleans = isinstance(left, bool) and isinstance(right, bool)
    if not are_alike(left, right):
        left, right = read(elaborator, left), read(elaborator, right)
    dtype = DType.BOOL if both_booleans else common_type(left, right)
    first, second = operands(elaborator, left, right, dtype)
    shape, axes = broadcast(elaborator, "where", first, second)
    meeting = TensorValue(ir.Value(-1, TensorType(dtype, shape)), axes)
    shape, axes = broadcast(elaborator, "where", condition, meeting)
    values = (spread(elaborator, tensor, shape) for tensor in (condition, first, second))
    return TensorValue(elaborator.emit(elementwise.Where(), *values), axes)


def are_alike(*values: Value) -> bool:
    """Whether values are tensors of one element type."""
    return len({value.dtype if isinstance(value, TensorValue) else None for value in values}) == 1


def with_unit_axes(elaborator: Elaborator, tensor: TensorValue, places: Sequence[int]) -> TensorValue:
    """The tensor with new axes of extent 1 at these places of the result."""
    if not places:
        return tensor
    kept = iter(zip(tensor.shape, tensor.axes, strict=True))
    new = 1, Axis(origin=elaborator.here)
    pairs = [new if i in places else next(kept) for i in range(tensor.rank + len(places))]
    shape = tuple(extent for extent, _ in pairs)
    return TensorValue(elaborator.emit(Reshape(shape), tensor.value), tuple(axis for _, axis in pairs))
