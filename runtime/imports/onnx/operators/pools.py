"""Pools: the largest element or the mean of windows, their places, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from runtime.imports.onnx import code
from runtime.imports.onnx.code import Code
from runtime.imports.onnx.operators.layers import listed, one_or_all, pads, window_settings
from runtime.imports.onnx.operators.shapes import reshaped
from runtime.imports.onnx.passes.pools import MEAN_OF_PLACES
from runtime.imports.onnx.site import Site, Translation


def _pool(function: str) -> Translation:
    def translate(site: Site) -> Code | list[Code]:
        kernel = list(site.attribute("kernel_shape"))
        settings = window_settings(site, kernel)
        stride = settings.pop("stride", 1)
        size = one_or_all(kernel)
        shown = f"{code.said(size)}" + ("" if str(stride) == str(size) else f", {code.said(stride)}")
        if site.attribute("ceil_mode", 0):
            settings["ceil"] = Code("true")
        if (
            function == "avg_pool"
            and not site.attribute("count_include_pad", 0)
            and ("padding" in settings or "ceil" in settings)
        ):
            settings["count_padding"] = Code("false")
        x, dtype = site.tensor(0), site.value(0).dtype
        if not dtype.startswith("float"):
            x = code.call("cast", x, Code("f32"))
        found = code.layer(f"{function}({shown}{listed(settings)})", x)
        found = found if dtype.startswith("float") else code.call("cast", found, Code(site.dtype(site.value(0))))
        return [found, _places_of_largest(site, kernel)] if site.wants(1) else found

    return translate


def _lp_pool(site: Site) -> Code:
    p = site.attribute("p", 2)
    kernel = list(site.attribute("kernel_shape"))
    settings = window_settings(site, kernel)
    stride = settings.pop("stride", 1)
    if site.attribute("ceil_mode", 0):
        settings["ceil"] = Code("true")
    powers = code.binary("^", code.call("abs", site.tensor(0)), code.number(p))
    pooled = code.layer(f"avg_pool({code.said(one_or_all(kernel))}, {code.said(stride)}{listed(settings)})", powers)
    total = code.binary("*", Code(f"({pooled.text})", weights=pooled.weights), code.number(int(np.prod(kernel))))
    return code.binary("^", Code(f"({total.text})", weights=total.weights), Code(f"(1 / {p})"))


def _global(function: str) -> Translation:
    def translate(site: Site) -> Code:
        axes = list(range(2, site.rank()))
        return code.apply(function, site.tensor(0), axis=axes, keepdims=Code("true"))

    return translate


def _mean_of_places(site: Site) -> Code:
    if site.is_batch(site.value(0), 0):
        return code.apply(MEAN_OF_PLACES, site.tensor(0))
    return code.apply("mean", site.tensor(0), axis=list(range(2, site.rank())))


def _global_lp(site: Site) -> Code:
    p = site.attribute("p", 2)
    powers = code.binary("^", code.call("abs", site.tensor(0)), code.number(p))
    total = code.call("sum", powers, axis=list(range(2, site.rank())), keepdims=Code("true"))
    return code.binary("^", total, Code(f"(1 / {p})"))


def _places_of_largest(site: Site, kernel: Sequence[int]) -> Code:
    """The places of the largest elements of windows, counted through the whole tensor."""
    value, result, rank = site.value(0), site.result(), site.rank()
    stride, dilation = (list(site.attribute(key) or [1] * (rank - 2)) for key in ("strides", "dilations"))
    if site.is_batch(value, 0):
        raise site.refuse("with places that count through the batch", "export it for one row, or without them")
    n = rank - 2
    low = [side[0] for side in pads(site, kernel, stride, dilation)]
    x = site.tensor(0)
    for d in range(n):
        size, made = site.fixed(value, d + 2), site.fixed(result, d + 2)
        high = max((made - 1) * stride[d] + (kernel[d] - 1) * dilation[d] + 1 - size - low[d], 0)
        if low[d] or high:
            x = code.call("pad", x, code.number(low[d]), code.number(high), axis=d + 2, value=Code("-inf"))
    axes = list(range(2, rank))
    x = code.call("windows", x, Code(code.said(list(kernel))), stride=list(stride), dilation=list(dilation), axis=axes)
    (best,) = site.bind(code.call("argmax", reshaped(x, [*site.extents(result), str(prod(kernel))]), axis=-1), 1)
    return _counted(site, best, (kernel, stride, dilation, low))


def _counted(site: Site, best: Code, layout: tuple[Sequence[int], ...]) -> Code:
    """Places through the whole tensor of the elements `best` of windows, row by row or column by column."""
    kernel, stride, dilation, low = layout
    value, rank = site.value(0), site.rank()
    n, result = rank - 2, site.result()
    sizes = [site.fixed(value, d + 2) for d in range(n)]
    lead = ", ".join([":", *["None"] * (n + 1)])
    planes = f"arange({site.fixed(value, 0)})[{lead}] * {site.fixed(value, 1)} + arange({site.fixed(value, 1)})"
    planes = f"({planes}[{', '.join([':', *['None'] * n])}]) * {prod(sizes)}"
    parts: list[str] = [planes]
    for d in range(n):
        tap = f"{best.text} // {prod(kernel[d + 1 :])} % {kernel[d]}"
        items = ", ".join([":", *["None"] * (n - 1 - d)])
        first = f"arange({site.fixed(result, d + 2)})"
        first = f"{first}[{items}]" if d < n - 1 else first
        place = f"({first} * {stride[d]} - {low[d]} + {tap} * {dilation[d]})"
        factor = prod(sizes[:d]) if site.attribute("storage_order", 0) else prod(sizes[d + 1 :])
        parts.append(f"{place} * {factor}")
    return code.call("cast", Code(" + ".join(parts), code.SUM), Code("i64"))


def _max_unpool(site: Site) -> Code:
    value = site.value(0)
    if site.is_batch(value, 0):
        raise site.refuse("by places that count through the batch", "export it for one row")
    kernel = list(site.attribute("kernel_shape"))
    n = len(kernel)
    stride = list(site.attribute("strides") or [1] * n)
    edges = list(site.attribute("pads") or [0] * (2 * n))
    small = [(site.fixed(value, d + 2) - 1) * stride[d] + kernel[d] - edges[d] - edges[d + n] for d in range(n)]
    lead = [site.fixed(value, axis) for axis in (0, 1)]
    count = str(prod(lead) * prod(site.fixed(value, d + 2) for d in range(n)))
    site.helper("unpooled")
    operands = [reshaped(site.tensor(i), [count]) for i in range(2)]
    x = code.call(f"unpooled({prod(lead) * prod(small)})", *operands)
    x = reshaped(x, [*map(str, lead), *map(str, small)])
    for d in range(n):
        further = site.fixed(site.result(), d + 2) - small[d]
        if further < 0:
            raise site.refuse("into a shape that is smaller than its windows", "export it without an output shape")
        if further:
            x = code.call("pad", x, code.number(0), code.number(further), axis=d + 2)
    return x


POOLS: dict[str, Translation] = {
    "MaxPool": _pool("max_pool"),
    "AveragePool": _pool("avg_pool"),
    "LpPool": _lp_pool,
    "GlobalAveragePool": _global("mean"),
    "GlobalMaxPool": _global("max"),
    "GlobalLpPool": _global_lp,
    "MaxUnpool": _max_unpool,
    MEAN_OF_PLACES: _mean_of_places,
}
