"""Operators on quantised numbers: scales and zero points, products and convolutions of 8-bit integers."""

from __future__ import annotations

from runtime.imports.onnx import code
from runtime.imports.onnx.code import Code
from runtime.imports.onnx.operators.elementwise import rounded_once
from runtime.imports.onnx.operators.layers import convolution_settings
from runtime.imports.onnx.site import Site, Translation, spread


def _spreaded(site: Site, place: int, rank: int) -> Code:
    """A scale or a zero point beside the tensor: one number, one for each index of an axis, or one for each block."""
    value = site.value(place)
    if value.rank == 0 or value.shapes[0] == (1,):
        return site.tensor(place) if value.rank == 0 else code.index(site.tensor(place), "0")
    axis = site.axis(site.attribute("axis", 1), rank)
    if value.rank != 1:
        return _by_blocks(site, place, axis)
    return (
        code.index(site.tensor(place), ", ".join([":", *["None"] * (rank - 1 - axis)]))
        if axis < rank - 1
        else site.tensor(place)
    )


def _by_blocks(site: Site, place: int, axis: int) -> Code:
    """One number for each block of neighbours along an axis."""
    size = site.fixed(site.value(0), axis)
    blocks = site.fixed(site.value(place), axis)
    block = site.attribute("block_size", 0) or -(-size // blocks)
    return code.index(site.tensor(place), ", ".join([*[":"] * axis, f"arange({size}) // {block}"]))


def _dequantize(site: Site) -> Code:
    x, rank = site.tensor(0), site.rank()
    if site.has(2):
        x = code.binary("-", _wide(x), _wide(_spreaded(site, 2, rank)))
    return code.binary("*", Code(f"({x.text})", weights=x.weights), _spreaded(site, 1, rank))


def _wide(x: Code) -> Code:
    return code.call("cast", x, Code("i32"))


def _quantized(site: Site, ratio: Code, zero: Code | None) -> Code:
    found = code.call("round", ratio)
    if zero is not None:
        found = code.binary("+", found, _wide(zero))
    if site.result().dtype != "uint8":
        raise site.refuse(f"to {site.result().dtype}", "quantise to uint8")
    return code.call(
        "cast", code.layer("clamp(low = 0.0, high = 255.0)", Code(f"({found.text})", weights=found.weights)), Code("u8")
    )


def _quantize(site: Site) -> Code:
    rank = site.rank()
    zero = _spreaded(site, 2, rank) if site.has(2) else None
    return _quantized(site, rounded_once(site, site.tensor(0), _spreaded(site, 1, rank)), zero)


def _without_zero(site: Site, place: int, zero: int, dtype: str, items: str = "") -> Code:
    """An operand without its zero point; `items` spread a zero point for each row or channel."""
    x = code.call("cast", site.tensor(place), Code(dtype))
    if not site.has(zero):
        return x
    value = site.value(zero)
    offset = code.call("cast", site.tensor(zero), Code(dtype))
    if value.rank == 1:
        offset = code.index(offset, items if items and value.shapes[0] != (1,) else "0")
    return code.binary("-", x, offset)


def _convolution(site: Site, x: Code, weights: Code, place: int) -> Code:
    """A convolution of whole numbers in floats, which are exact up to 2^24."""
    n = site.rank() - 2
    turned = code.apply("transpose", Code(f"({weights.text})"), *range(2, n + 2), 1, 0)
    settings = convolution_settings(site, place)
    return Code(f"convolve{n}d({settings})({x.argument}, {turned.argument})")


def _channels(site: Site) -> str:
    return ", ".join([":", *["None"] * (site.rank() - 1)])


def _conv_integer(site: Site) -> Code:
    x = _without_zero(site, 0, 2, "f32")
    weights = _without_zero(site, 1, 3, "f32", _channels(site))
    return code.call("cast", _convolution(site, x, weights, 1), Code("i32"))


def _matmul_integer(site: Site) -> Code:
    a = _without_zero(site, 0, 2, "i32", ":, None")
    b = _without_zero(site, 1, 3, "i32", ":")
    return code.call("cast", code.binary("@", a, b), Code("i32"))


def _scale(site: Site, place: int, items: str) -> Code:
    """A scale as one number, or one for each row or channel."""
    value = site.value(place)
    if value.rank == 0:
        return site.tensor(place)
    return code.index(site.tensor(place), items if items and value.shapes[0] != (1,) else "0")


def _rescaled(site: Site, total: Code, scales: tuple[Code, Code]) -> Code:
    """A sum of products of whole numbers in the scale of the result."""
    factor = code.binary("/", code.binary("*", *scales), _scale(site, 6, ""))
    zero = site.tensor(7)
    zero = code.index(zero, "0") if site.value(7).rank else zero
    return _quantized(site, code.binary("*", total, Code(f"({factor.text})", weights=factor.weights)), zero)


def _linear_matmul(site: Site) -> Code:
    a = _without_zero(site, 0, 2, "i32", ":, None")
    b = _without_zero(site, 3, 5, "i32", ":")
    return _rescaled(site, code.binary("@", a, b), (_scale(site, 1, ":, None"), _scale(site, 4, ":")))


def _linear_conv(site: Site) -> Code:
    items = _channels(site)
    total = _convolution(site, _without_zero(site, 0, 2, "f32"), _without_zero(site, 3, 5, "f32", items), 3)
    if site.has(8):
        total = code.binary("+", total, spread(site, site.tensor(8), site.value(8), site.rank()))
        total = Code(f"({total.text})", weights=total.weights)
    channels = ", ".join([":", *["None"] * (site.rank() - 2)])
    return _rescaled(site, total, (_scale(site, 1, ""), _scale(site, 4, channels)))


QUANTISATION: dict[str, Translation] = {
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "ConvInteger": _conv_integer,
    "MatMulInteger": _matmul_integer,
    "QLinearConv": _linear_conv,
    "QLinearMatMul": _linear_matmul,
}
