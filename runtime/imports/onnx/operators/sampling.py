"""Operators that read images at places between pixels, or put them together from blocks."""

from __future__ import annotations

from math import prod

from runtime.imports.onnx import code
from runtime.imports.onnx.code import Code
from runtime.imports.onnx.operators.shapes import reshaped, transposed
from runtime.imports.onnx.site import Site, Translation

_TAPS = {"nearest": 1, "linear": 2, "bilinear": 2, "cubic": 4, "bicubic": 4}


def _grid_sample(site: Site) -> Code:
    value, result = site.value(0), site.result()
    taps = _TAPS[site.attribute("mode", "linear")]
    padding = site.attribute("padding_mode", "zeros")
    if taps == 4 and padding != "zeros":
        raise site.refuse(f'by cubics with the padding "{padding}"', "export it with linear samples, or with zeros")
    if value.dtype != "float32" or site.value(1).dtype != "float32":
        raise site.refuse(f"of {value.dtype} at places of {site.value(1).dtype}", "convert both to float32 before")
    sizes = [site.fixed(value, axis) for axis in range(2, value.rank)]
    extents = site.extents(result)
    x = reshaped(site.tensor(0), [*site.extents(value)[:2], str(prod(sizes))])
    points = prod([site.fixed(result, axis) for axis in range(2, value.rank)])
    grid = reshaped(site.tensor(1), [extents[0], str(points), str(len(sizes))])
    site.helper("grid_sampled")
    settings = [code.number(size) for size in sizes]
    corners = "true" if site.attribute("align_corners", 0) else "false"
    function = f"grid_sampled({code.said(settings)}, {taps}, {code.string(padding)}, {corners})"
    return reshaped(code.call(function, x, grid), extents)


def _col2im(site: Site) -> Code:
    """Blocks of an image added up where they overlap: one axis after another."""
    shape, block = site.numbers(1), site.numbers(2)
    n = len(shape)
    strides, dilations = (site.attribute(key, [1] * n) for key in ("strides", "dilations"))
    pads = site.attribute("pads", [0] * (2 * n))
    whole = [size + pads[d] + pads[d + n] for d, size in enumerate(shape)]
    counts = [(whole[d] - dilations[d] * (block[d] - 1) - 1) // strides[d] + 1 for d in range(n)]
    lead = site.extents(site.result())[:2]
    x = reshaped(site.tensor(0), [*lead, *map(str, block), *map(str, counts)])
    x = transposed(x, [0, 1, *range(2 + n, 2 + 2 * n), *range(2, 2 + n)])
    for d in reversed(range(n)):
        settings = {"stride": strides[d], "dilation": dilations[d], "extent": whole[d], "axis": 2 + d}
        x = code.call("overlap_add", x, **settings)
    if not any(pads):
        return x
    return code.index(x, ", ".join([":", ":", *(f"{pads[d]}:{pads[d] + shape[d]}" for d in range(n))]))


SAMPLING: dict[str, Translation] = {"GridSample": _grid_sample, "Col2Im": _col2im}
