"""Laws of elementwise ops. Signs of zero are not kept; NaN and infinities are, and no law makes an overflow."""

from __future__ import annotations

import math

from compiler.graph.ir import Value
from compiler.graph.op import Op
from compiler.graph_passes.convert_dtype import converted, converted_op
from compiler.graph_passes.law import Workbench
from compiler.ops import elementwise
from compiler.ops.build import spread
from compiler.ops.mathematics import MATHEMATICS, Exp, Expm1, Log, Log1p, Rsqrt, Sigmoid, Sqrt
from compiler.ops.movement import Broadcast
from compiler.ops.sources import Constant, Threefry
from compiler.support.arrays import np
from compiler.types import DType, numpy_dtype, widens


def add(bench: Workbench, _: Op, a: Value, b: Value) -> Value | None:
    for one, other in ((a, b), (b, a)):
        if _is(bench, other, -1) and (power := bench.made_by(one, Exp)) is not None:  # exp(x) + -1 -> expm1(x)
            return bench.emit(Expm1(), power.operands[0])
    if _is(bench, b, 0):  # a + 0 -> a
        return a
    if _is(bench, a, 0):  # 0 + b -> b
        return b
    if (negated := bench.made_by(b, elementwise.Negate)) is not None:  # a + -b -> a - b
        return bench.emit(elementwise.Subtract(), a, negated.operands[0])
    if (negated := bench.made_by(a, elementwise.Negate)) is not None:  # -a + b -> b - a
        return bench.emit(elementwise.Subtract(), b, negated.operands[0])
    return None


def subtract(bench: Workbench, _: Op, a: Value, b: Value) -> Value | None:
    if _is(bench, b, 1) and (power := bench.made_by(a, Exp)) is not None:  # exp(x) - 1 -> expm1(x)
        return bench.emit(Expm1(), power.operands[0])
    if _is(bench, a, 1) and (power := bench.made_by(b, Exp)) is not None:  # 1 - exp(x) -> -expm1(x)
        return bench.emit(elementwise.Negate(), bench.emit(Expm1(), power.operands[0]))
    if _is(bench, b, 0):  # a - 0 -> a
        return a
    if _is(bench, a, 0):  # 0 - b -> -b
        return bench.emit(elementwise.Negate(), b)
    if (negated := bench.made_by(b, elementwise.Negate)) is not None:  # a - -b -> a + b
        return bench.emit(elementwise.Add(), a, negated.operands[0])
    return None


def negate(bench: Workbench, _: Op, x: Value) -> Value | None:
    if (inner := bench.made_by(x, elementwise.Negate)) is not None:  # --x -> x
        return inner.operands[0]
    if (inner := bench.made_by(x, elementwise.Subtract)) is not None:  # -(a - b) -> b - a
        return bench.emit(elementwise.Subtract(), inner.operands[1], inner.operands[0])
    if (inner := bench.made_by(x, elementwise.Multiply)) is not None:  # -(a * c) -> a * -c
        a, c = inner.operands
        if bench.number(c) is not None:
            return bench.emit(elementwise.Multiply(), a, bench.emit(elementwise.Negate(), c))
    return None


def multiply(bench: Workbench, _: Op, a: Value, b: Value) -> Value | None:
    factor = bench.number(b)
    if factor is None:
        if bench.number(a) is not None:  # c * b -> b * c
            return bench.emit(elementwise.Multiply(), b, a)
        return _multiply_signs(bench, a, b)
    if factor == 1:  # a * 1 -> a
        return a
    if factor == -1:  # a * -1 -> -a
        return bench.emit(elementwise.Negate(), a)
    if (minus_a := bench.made_by(a, elementwise.Negate)) is not None:  # -a * c -> a * -c
        return bench.emit(elementwise.Multiply(), minus_a.operands[0], bench.emit(elementwise.Negate(), b))
    return _multiply_constants(bench, a, b, factor)


def _multiply_signs(bench: Workbench, a: Value, b: Value) -> Value | None:
    minus_a = bench.made_by(a, elementwise.Negate)
    minus_b = None if minus_a is None else bench.made_by(b, elementwise.Negate)
    if minus_a is not None and minus_b is not None:  # -a * -b -> a * b
        return bench.emit(elementwise.Multiply(), minus_a.operands[0], minus_b.operands[0])
    return None


def _multiply_constants(bench: Workbench, a: Value, b: Value, d: float) -> Value | None:
    """(x * c) * d -> x * (c * d), where the product is in the middle of the range of f32."""
    inner = bench.made_by(a, elementwise.Multiply)
    if inner is None or not a.type.dtype.is_float:
        return None
    x, factor = inner.operands
    c = bench.number(factor)
    if c is None or not 1e-30 < abs(c * d) < 1e30:
        return None
    return bench.emit(elementwise.Multiply(), x, bench.emit(elementwise.Multiply(), factor, b))


def divide(bench: Workbench, _: Op, a: Value, b: Value) -> Value | None:
    divisor = bench.number(b)
    if divisor is not None:
        if _has_exact_reciprocal(float(divisor)):  # a / c -> a * (1 / c), where 1 / c is exact: a power of 2
            return bench.emit(elementwise.Multiply(), a, bench.filled_like(b, 1 / float(divisor)))
        return None
    return _sigmoid(bench, a, b) or _by_root(bench, a, b) or _by_broadcast(bench, a, b)


def _has_exact_reciprocal(number: float) -> bool:
    return math.isfinite(number) and number != 0 and abs(math.frexp(number)[0]) == 0.5 and 2**-60 < abs(number) < 2**60


def _sigmoid(bench: Workbench, a: Value, b: Value) -> Value | None:
    total = bench.made_by(b, elementwise.Add)
    if total is None:
        return None
    left, right = total.operands
    exponential = right if _is(bench, left, 1) else left if _is(bench, right, 1) else None
    if exponential is None or (power := bench.made_by(exponential, Exp)) is None:
        return None
    if _is(bench, a, 1):  # 1 / (1 + exp(x)) -> sigmoid(-x)
        return bench.emit(Sigmoid(), bench.emit(elementwise.Negate(), power.operands[0]))
    if a.index == exponential.index:  # exp(x) / (1 + exp(x)) -> sigmoid(x)
        return bench.emit(Sigmoid(), power.operands[0])
    return None


def _by_root(bench: Workbench, a: Value, b: Value) -> Value | None:
    root = bench.made_by(b, Sqrt)
    if root is None:
        return None
    inverse = bench.emit(Rsqrt(), root.operands[0])  # a / sqrt(x) -> a * rsqrt(x)
    return bench.emit(elementwise.Multiply(), a, inverse)


def _by_broadcast(bench: Workbench, a: Value, b: Value) -> Value | None:
    """a / broadcast(s) -> a * broadcast(1 / s), which divides fewer times; not under a broadcast a."""
    spread = bench.made_by(b, Broadcast)
    if spread is None or bench.made_by(a, Broadcast) is not None:
        return None
    (s,) = spread.operands
    reciprocal = bench.emit(elementwise.Divide(), bench.filled_like(s, 1), s)
    return bench.emit(elementwise.Multiply(), a, bench.emit(spread.op, reciprocal))


def power(bench: Workbench, _: Op, x: Value, exponent: Value) -> Value | None:
    match bench.number(exponent):
        case 0:  # x ^ 0 -> 1, for NaN too
            return bench.filled_like(x, 1)
        case 1:
            return x
        case 2:
            return bench.emit(elementwise.Multiply(), x, x)
        case 3:
            return bench.emit(elementwise.Multiply(), bench.emit(elementwise.Multiply(), x, x), x)
        case 4:
            square = bench.emit(elementwise.Multiply(), x, x)
            return bench.emit(elementwise.Multiply(), square, square)
        case 0.5:
            return bench.emit(Sqrt(), x)
        case -0.5:
            return bench.emit(Rsqrt(), x)
        case -1:
            return bench.emit(elementwise.Divide(), bench.filled_like(x, 1), x)
        case -2:
            return bench.emit(elementwise.Divide(), bench.filled_like(x, 1), bench.emit(elementwise.Multiply(), x, x))
        case _:
            return None


def logarithm(bench: Workbench, _: Op, x: Value) -> Value | None:
    if (inner := bench.made_by(x, Exp)) is not None:  # log(exp(a)) -> a
        return inner.operands[0]
    if (inner := bench.made_by(x, elementwise.Add)) is not None:
        a, b = inner.operands
        if _is(bench, a, 1):  # log(1 + b) -> log1p(b)
            return bench.emit(Log1p(), b)
        if _is(bench, b, 1):
            return bench.emit(Log1p(), a)
    if (inner := bench.made_by(x, elementwise.Subtract)) is not None and _is(bench, inner.operands[0], 1):
        return bench.emit(Log1p(), bench.emit(elementwise.Negate(), inner.operands[1]))  # log(1 - b) -> log1p(-b)
    return _log_of_softmax(bench, x)


def _log_of_softmax(bench: Workbench, x: Value) -> Value | None:
    product = bench.made_by(x, elementwise.Multiply)
    if product is None:
        return None
    exponential = bench.made_by(product.operands[0], Exp)
    spread = bench.made_by(product.operands[1], Broadcast)
    if exponential is None or spread is None:
        return None
    reciprocal = bench.made_by(spread.operands[0], elementwise.Divide)
    if reciprocal is None or not _is(bench, reciprocal.operands[0], 1):
        return None
    # log(exp(a) * broadcast(1 / s)) -> a - broadcast(log(s))
    total = bench.emit(spread.op, bench.emit(Log(), reciprocal.operands[1]))
    return bench.emit(elementwise.Subtract(), exponential.operands[0], total)


def absolute(bench: Workbench, _: Op, x: Value) -> Value | None:
    if bench.made_by(x, elementwise.Abs, Exp, Sigmoid) is not None:  # |x| -> x, where x is never negative
        return x
    if (inner := bench.made_by(x, elementwise.Negate)) is not None:  # |-x| -> |x|
        return bench.emit(elementwise.Abs(), inner.operands[0])
    return None


def with_itself(bench: Workbench, _: Op, a: Value, b: Value) -> Value | None:
    """x op x -> x, for max, min, and, or."""
    return a if a.index == b.index else None


def logic(bench: Workbench, op: Op, a: Value, b: Value) -> Value | None:
    """x and true -> x; x and false -> false; x or false -> x; x or true -> true."""
    for known, other in ((a, b), (b, a)):
        number = bench.number(known)
        if number is not None:
            return other if bool(number) is isinstance(op, elementwise.And) else known
    return None


def negation(bench: Workbench, _: Op, x: Value) -> Value | None:
    if (inner := bench.made_by(x, elementwise.Not)) is not None:  # not not x -> x
        return inner.operands[0]
    # not (a = b) -> a != b; the order of NaN forbids this for <
    if (inner := bench.made_by(x, elementwise.Equal)) is not None:
        return bench.emit(elementwise.NotEqual(), *inner.operands)
    if (inner := bench.made_by(x, elementwise.NotEqual)) is not None:
        return bench.emit(elementwise.Equal(), *inner.operands)
    return None


def where(bench: Workbench, _: Op, condition: Value, a: Value, b: Value) -> Value | None:
    if a.index == b.index:  # where(c, a, a) -> a
        return a
    known = bench.number(condition)
    if known is not None:  # where(true, a, b) -> a
        return a if known else b
    if (inverted := bench.made_by(condition, elementwise.Not)) is not None:  # where(not c, a, b) -> where(c, b, a)
        return bench.emit(elementwise.Where(), inverted.operands[0], b, a)
    inner = bench.made_by(a, elementwise.Where)
    if inner is not None and inner.operands[0].index == condition.index:  # where(c, where(c, a, _), b)
        return bench.emit(elementwise.Where(), condition, inner.operands[1], b)
    inner = bench.made_by(b, elementwise.Where)
    if inner is not None and inner.operands[0].index == condition.index:  # where(c, a, where(c, _, b))
        return bench.emit(elementwise.Where(), condition, a, inner.operands[2])
    return None


# Only ops whose result is exactly rounded: NumPy and machine code then agree to the bit, so that a setting gives the
# same bits whether it is a constant of the program or an argument.
_INEXACT = frozenset((*MATHEMATICS, elementwise.Modulo, Threefry)) - {Sqrt}


def fold_constants(bench: Workbench, op: Op, *operands: Value) -> Value | None:
    """op(constants) -> constant, broadcast to the shape if the constants were; of elementwise ops."""
    if op.__class__ in _INEXACT:
        return None
    constants: list[Constant] = []
    for operand in operands:
        definition = bench.builder.definition(operand)
        if definition is not None and isinstance(definition.op, Broadcast):
            definition = bench.builder.definition(definition.operands[0])
        if definition is None or not isinstance(definition.op, Constant) or definition.op.dtype is DType.BF16:
            return None
        constants.append(definition.op)
    (type_,) = op.result_types([operand.type for operand in operands])
    if bench.becomes_double:
        op = converted_op(op, DType.F64)
        constants = [Constant(c.value, converted(c.dtype, DType.F64)) for c in constants]
    with np.errstate(all="ignore"):
        (result,) = op.evaluate([np.array(c.value, numpy_dtype(c.dtype)) for c in constants], 1)
    return spread(bench.builder, bench.builder.emit(Constant(result.item(), type_.dtype)), type_.shape)


def cast(bench: Workbench, op: elementwise.Cast, x: Value) -> Value | None:
    if x.type.dtype is op.dtype:  # the same type
        return x
    inner = bench.made_by(x, elementwise.Cast)
    if inner is None:
        return None
    (source,) = inner.operands
    if widens(source.type.dtype, x.type.dtype):  # cast(cast(x)) -> cast(x), where the first loses nothing
        return source if source.type.dtype is op.dtype else bench.emit(op, source)
    return None


def _is(bench: Workbench, value: Value, number: float) -> bool:
    return bench.number(value) == number
