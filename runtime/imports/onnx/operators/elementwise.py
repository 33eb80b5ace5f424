"""Operators that compute each element by itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce

import numpy as np

from runtime.imports.onnx import code
from runtime.imports.onnx.code import Code
from runtime.imports.onnx.graph import DTYPES, STORED
from runtime.imports.onnx.site import Site, Translation, is_one_number

_BITS = {"uint8": 8, "int32": 32, "int64": 64}


def stage(text: str) -> Translation:
    return lambda site: code.layer(text, site.tensor(0))


def _formula(template: Callable[[Code], Code]) -> Translation:
    return lambda site: template(site.tensor(0))


def helped(function: str) -> Translation:
    """A function that is written into the file where it is needed."""

    def translate(site: Site) -> Code:
        site.helper(function)
        return code.layer(function, site.tensor(0))

    return translate


def operand(site: Site, place: int) -> Code:
    """An operand of an elementwise operation, a number where broadcasting does not need its shape."""
    value = site.value(place)
    row = site.row_of(value)
    if row is not None and not _shapes_the_result(site, place):
        value = row
    constant = value.constant
    if constant is None or value.weight:
        if constant is not None and constant.size == 1 and not _shapes_the_result(site, place):
            return code.index(site.tensor(place), ", ".join(["0"] * value.rank)) if value.rank else site.tensor(place)
        return site.tensor(place)
    flat = constant.reshape(-1)
    uniform = is_one_number(flat)
    if uniform and not _shapes_the_result(site, place) and value.dtype not in ("uint8", "bool", *STORED):
        return code.number(flat[0])
    return site.of_constant(value)


def _shapes_the_result(site: Site, place: int) -> bool:
    """Whether the result would have another shape, or type, without an operand."""
    others = [site.value(i).shapes for i in range(len(site.node.inputs)) if i != place and site.has(i)]
    variable = any(
        site.value(i).constant is None or site.value(i).weight for i in range(len(site.node.inputs)) if i != place
    )
    if not others or not variable:
        return True
    for point, shape in enumerate(site.result().shapes):
        if np.broadcast_shapes(*(one[point] for one in others)) != shape:
            return True
    return False


def binary(operator: str) -> Translation:
    return lambda site: code.binary(operator, operand(site, 0), operand(site, 1))


def _fold(operator: str) -> Translation:
    def translate(site: Site) -> Code:
        places = range(len(site.node.inputs))
        return reduce(lambda a, b: code.binary(operator, a, b), (operand(site, i) for i in places))

    return translate


def _most(function: str) -> Translation:
    def translate(site: Site) -> Code:
        if len(site.node.inputs) == 1:
            return site.tensor(0)
        return code.call(function, *(operand(site, i) for i in range(len(site.node.inputs))))

    return translate


def _mean(site: Site) -> Code:
    total = _fold("+")(site)
    assert isinstance(total, Code)
    return code.binary("/", total, code.number(len(site.node.inputs)))


def rounded_once(site: Site, a: Code, b: Code) -> Code:
    """The quotient by the node's second operand, which is about to be rounded to whole numbers."""
    divisor = site.value(1)
    if divisor.constant is not None and not divisor.weight:
        return code.binary("/", a, b)
    site.helper("divided")
    return code.call("divided", a, b)


def _divide(site: Site) -> Code:
    a, b = operand(site, 0), operand(site, 1)
    if site.value(0).dtype.startswith("float"):
        users = [node.op for node in site.graph.nodes if site.result().name in node.inputs]
        return rounded_once(site, a, b) if users == ["Round"] else code.binary("/", a, b)
    if site.value(0).dtype == "uint8":
        return code.binary("//", a, b)
    site.helper("quotient")
    return code.call("quotient", a, b)


def _power(site: Site) -> Code:
    exponent = site.scalar(1)
    base = operand(site, 0)
    dtype = site.value(0).dtype
    if exponent is not None and not site.value(1).weight and not _shapes_the_result(site, 1):
        if exponent == 0.5:
            return code.call("sqrt", base)
        raised = code.number(int(exponent)) if float(exponent).is_integer() else code.number(exponent)
        found = code.binary("^", base, raised)
    else:
        power = site.tensor(1)
        site.helper("power")
        found = code.call("power", base, power)
    return found if dtype.startswith("float") else code.call("cast", found, Code(DTYPES[dtype]))


def _modulo(site: Site) -> Code:
    a, b = operand(site, 0), operand(site, 1)
    if not site.attribute("fmod", 0):
        return code.binary("%", a, b)
    site.helper("remainder")
    return code.call("remainder", a, b)


def _xor(site: Site) -> Code:
    return code.binary("!=", operand(site, 0), operand(site, 1))


def _comparison(operator: str) -> Translation:
    def translate(site: Site) -> Code:
        return code.binary(operator, operand(site, 0), operand(site, 1))

    return translate


def _clip(site: Site) -> Code:
    x = site.tensor(0)
    low = site.scalar(1) if site.has(1) else site.attribute("min")
    high = site.scalar(2) if site.has(2) else site.attribute("max")
    unknown = (site.has(1) and low is None) or (site.has(2) and high is None)
    dtype = site.value(0).dtype
    if not unknown and dtype.startswith("float") and not (low is not None and high is not None and low > high):
        if low is None and high is None:
            return x
        if low == 0 and high is None:
            return code.layer("relu", x)
        bounds = [f"{key} = {code.literal(b)}" for key, b in (("low", low), ("high", high)) if b is not None]
        return code.layer(f"clamp({', '.join(bounds)})", x)
    if site.has(1):
        x = code.call("max", x, site.tensor(1))
    elif low is not None:
        x = code.call("max", x, code.number(low))
    if site.has(2):
        x = code.call("min", x, site.tensor(2))
    elif high is not None:
        x = code.call("min", x, code.number(high))
    return x


def cast_to(site: Site, x: Code, dtype: str, to: str) -> Code:
    if dtype == to:
        return x
    if to == "bool":
        return code.binary("!=", x, code.number(0))
    return code.call("cast", x, Code(site.dtype(site.result())))


def _cast(site: Site) -> Code:
    return cast_to(site, site.tensor(0), site.value(0).dtype, site.result().dtype)


def _sign(site: Site) -> Code:
    site.helper("sign")
    x = code.layer("sign", site.tensor(0))
    dtype = site.value(0).dtype
    return x if dtype.startswith("float") else code.call("cast", x, Code(DTYPES[dtype]))


def _leaky(site: Site) -> Code:
    slope = site.attribute("alpha", 0.01)
    return code.layer(
        "leaky_relu" if math.isclose(slope, 0.01, rel_tol=1e-6) else f"leaky_relu({_short(slope)})", site.tensor(0)
    )


def _short(value: float) -> str:
    return code.literal(np.float32(value))


def _elu(site: Site) -> Code:
    alpha = site.attribute("alpha", 1.0)
    return code.layer("elu" if alpha == 1 else f"elu({_short(alpha)})", site.tensor(0))


def _celu(site: Site) -> Code:
    alpha = site.attribute("alpha", 1.0)
    return code.layer("celu" if alpha == 1 else f"celu({_short(alpha)})", site.tensor(0))


def _selu(site: Site) -> Code:
    alpha, gamma = (
        site.attribute("alpha", 1.67326319217681884765625),
        site.attribute("gamma", 1.05070102214813232421875),
    )
    if math.isclose(alpha, 1.6732632, rel_tol=1e-6) and math.isclose(gamma, 1.0507010, rel_tol=1e-6):
        return code.layer("selu", site.tensor(0))
    return code.binary("*", Code(_short(gamma)), code.layer(f"elu({_short(alpha)})", site.tensor(0)))


def _hard_sigmoid(site: Site) -> Code:
    alpha, beta = site.attribute("alpha", 0.2), site.attribute("beta", 0.5)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5:
        return code.layer("hard_sigmoid", site.tensor(0))
    line = code.binary("+", code.binary("*", site.tensor(0), Code(_short(alpha))), Code(_short(beta)))
    return code.layer("clamp(low = 0.0, high = 1.0)", Code(f"({line.text})", weights=line.weights))


def _gelu(site: Site) -> Code:
    tanh = site.attribute("approximate", "none") == "tanh"
    return code.layer("gelu(approximate = true)" if tanh else "gelu", site.tensor(0))


def _swish(site: Site) -> Code:
    beta = site.attribute("alpha", 1.0)
    return code.layer("swish" if beta == 1 else f"swish({_short(beta)})", site.tensor(0))


def _thresholded(site: Site) -> Code:
    site.helper("thresholded_relu")
    return code.layer(f"thresholded_relu({_short(site.attribute('alpha', 1.0))})", site.tensor(0))


def _shrink(site: Site) -> Code:
    site.helper("shrink")
    found = code.layer(
        f"shrink({_short(site.attribute('bias', 0.0))}, {_short(site.attribute('lambd', 0.5))})", site.tensor(0)
    )
    return (
        cast_to(site, found, "float32", site.value(0).dtype) if not site.value(0).dtype.startswith("float") else found
    )


def _is_inf(site: Site) -> Code:
    x = site.tensor(0)
    if not site.attribute("detect_negative", 1):
        return code.binary("==", x, Code("inf"))
    if not site.attribute("detect_positive", 1):
        return code.binary("==", x, Code("-inf", code.NEGATIVE))
    return code.binary("==", code.call("abs", x), Code("inf"))


def _is_nan(site: Site) -> Code:
    return code.binary("!=", site.tensor(0), site.tensor(0))


def _prelu(site: Site) -> Code:
    site.helper("prelu_by")
    return code.call("prelu_by", site.tensor(0), operand(site, 1))


def _where(site: Site) -> Code:
    condition = site.tensor(0)
    a, b = operand(site, 1), operand(site, 2)
    return code.call("where", condition, a, b)


def _shift(site: Site) -> Code:
    function = "shifted_left" if site.attribute("direction") == "LEFT" else "shifted_right"
    site.helper(function)
    dtype = site.dtype(site.result())
    found = code.call(f"{function}({_BITS[site.value(0).dtype]})", site.tensor(0), site.tensor(1))
    return code.call("cast", found, Code(dtype))


def _bitwise(kind: str) -> Translation:
    def translate(site: Site) -> Code:
        site.helper("bitwise")
        bits = _BITS.get(site.value(0).dtype)
        site.dtype(site.value(0))
        found = code.call(f"bitwise({code.string(kind)}, {bits})", site.tensor(0), site.tensor(1))
        return code.call("cast", found, Code(DTYPES[site.value(0).dtype]))

    return translate


def _bitwise_not(site: Site) -> Code:
    dtype = site.value(0).dtype
    whole = code.number(255 if dtype == "uint8" else -1)
    return code.call("cast", code.binary("-", whole, site.tensor(0)), Code(site.dtype(site.result())))


def _dropout(site: Site) -> list[Code]:
    mask = code.binary("==", code.call("zeros_like", site.tensor(0)), code.number(0))
    training = site.has(2) and bool(site.scalar(2) or site.scalar(2) is None)
    ratio = site.scalar(1) if site.has(1) else site.attribute("ratio", 0.5)
    if training and ratio != 0:
        raise site.refuse("draws at random", "export the model for inference")
    return [site.tensor(0), mask]


def _negated(site: Site) -> Code:
    x = site.tensor(0)
    return code.negative(x)


def _not(site: Site) -> Code:
    x = site.tensor(0)
    return Code(f"not {x.at(code.NOT)}", code.NOT, x.weights)


def _builtin(function: str) -> Translation:
    return lambda site: code.call(function, site.tensor(0))


ELEMENTWISE: dict[str, Translation] = {
    **{op: stage(op.lower()) for op in ("Relu", "Tanh", "Sigmoid", "Softplus", "Softsign", "Mish")},
    **{op: _builtin(op.lower()) for op in ("Exp", "Log", "Sqrt", "Erf", "Sin", "Cos", "Floor", "Ceil", "Round", "Abs")},
    **{op: helped(op.lower()) for op in ("Tan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh", "Asin", "Acos", "Atan")},
    "HardSwish": stage("hard_swish"),
    "Neg": _negated,
    "Reciprocal": _formula(lambda x: code.binary("/", code.number(1), x)),
    "Not": _not,
    "Identity": _formula(lambda x: x),
    "Sign": _sign,
    "Elu": _elu,
    "Celu": _celu,
    "Selu": _selu,
    "LeakyRelu": _leaky,
    "ThresholdedRelu": _thresholded,
    "Shrink": _shrink,
    "HardSigmoid": _hard_sigmoid,
    "Gelu": _gelu,
    "Swish": _swish,
    "PRelu": _prelu,
    "Clip": _clip,
    "Cast": _cast,
    "CastLike": _cast,
    "IsNaN": _is_nan,
    "IsInf": _is_inf,
    "Dropout": _dropout,
    "Add": binary("+"),
    "Sub": binary("-"),
    "Mul": binary("*"),
    "Div": _divide,
    "Pow": _power,
    "Mod": _modulo,
    "And": binary("and"),
    "Or": binary("or"),
    "Xor": _xor,
    "Equal": _comparison("=="),
    "Less": _comparison("<"),
    "LessOrEqual": _comparison("<="),
    "Greater": _comparison(">"),
    "GreaterOrEqual": _comparison(">="),
    "Max": _most("max"),
    "Min": _most("min"),
    "Sum": _fold("+"),
    "Mean": _mean,
    "Where": _where,
    "BitShift": _shift,
    "BitwiseAnd": _bitwise("and"),
    "BitwiseOr": _bitwise("or"),
    "BitwiseXor": _bitwise("xor"),
    "BitwiseNot": _bitwise_not,
}
