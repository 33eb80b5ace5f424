"""Operators that look for objects in images: moved taps, regions and boxes."""

from __future__ import annotations

from runtime.imports.onnx import code
from runtime.imports.onnx.code import Code
from runtime.imports.onnx.operators.layers import pads
from runtime.imports.onnx.operators.shapes import reshaped
from runtime.imports.onnx.site import Site, Translation, spread


def _flag(value: object) -> str:
    return "true" if value else "false"


def _deform_conv(site: Site) -> Code:
    if site.rank() != 4:
        raise site.refuse(f"of {site.rank() - 2} spatial axes", "two are known")
    kernel = [site.fixed(site.value(1), axis) for axis in (2, 3)]
    stride, dilation = (list(site.attribute(key, [1, 1])) for key in ("strides", "dilations"))
    low = [side[0] for side in pads(site, kernel, stride, dilation)]
    groups, moves = site.attribute("group", 1), site.attribute("offset_group", 1)
    for name in ("between_pixels", "moved_taps"):
        site.helper(name)
    operands = [site.tensor(0), site.tensor(2), *([site.tensor(4)] if site.has(4) else [])]
    settings = ", ".join([str(moves), *(code.said(one) for one in (kernel, stride, low, dilation))])
    taps = code.call(f"moved_taps({settings})", *operands)
    taps = code.call("rearrange", taps, Code(code.string("b (g c) t p -> b g c t p")), g=groups)
    weights = code.call("rearrange", site.tensor(1), Code(code.string("(g o) c h w -> g o c (h w)")), g=groups)
    found = code.call("einsum", Code(code.string("b g c t p, g o c t -> b g o p")), taps, weights)
    found = reshaped(found, site.extents(site.result()))
    return code.binary("+", found, spread(site, site.tensor(3), site.value(3), 4)) if site.has(3) else found


def _roi_align(site: Site) -> Code:
    usual = "half_pixel" if site.node.version >= 16 else "output_half_pixel"
    samples = site.attribute("sampling_ratio", 0)
    if samples <= 0:
        raise site.refuse("with as many samples as a region has pixels", "export it with a sampling ratio")
    if site.is_batch(site.value(0), 0):
        raise site.refuse("from other rows of the batch", "a program of .dl sees rows of any number")
    site.helper("aligned_regions")
    settings = [
        *(str(site.attribute(key, 1)) for key in ("output_height", "output_width")),
        str(samples),
        code.literal(float(site.attribute("spatial_scale", 1.0))),
        _flag(site.attribute("coordinate_transformation_mode", usual) == "half_pixel"),
        _flag(site.attribute("mode", "avg") == "max"),
    ]
    images = Code(f"{site.tensor(0).at(code.TIGHT)}[{site.tensor(2).argument}]")
    return code.call(f"aligned_regions({', '.join(settings)})", images, site.tensor(1))


def most_boxes(site: Site) -> int:
    """How many boxes of a class are chosen at most."""
    return min(site.numbers(2)[0] if site.has(2) else 0, site.fixed(site.value(0), 1))


def _chosen_boxes(site: Site) -> Code:
    """As many rows as boxes can be chosen, with -1 behind the last; ONNX has as many as were chosen."""
    if site.is_batch(site.value(0), 0):
        raise site.refuse("of rows of the batch, which it counts", "export it for one row")
    if any(site.result().name in node.inputs for node in site.graph.nodes):
        raise site.refuse("whose result is used further", "end the model there: places without a box are -1")
    site.helper("chosen_boxes")
    overlap = site.scalar(3) if site.has(3) else 0.0
    least = site.scalar(4) if site.has(4) else None
    if overlap is None or (site.has(4) and least is None):
        raise site.refuse("by thresholds of the data", "give them as constants: `--sample` fixes inputs")
    settings = [
        str(most_boxes(site)),
        code.number(overlap).text,
        "none" if least is None else code.number(least).text,
        _flag(site.attribute("center_point_box", 0)),
    ]
    found = code.call(f"chosen_boxes({', '.join(settings)})", site.tensor(0), site.tensor(1))
    return code.call("cast", found, Code("i64"))


DETECTION: dict[str, Translation] = {
    "DeformConv": _deform_conv,
    "RoiAlign": _roi_align,
    "NonMaxSuppression": _chosen_boxes,
}
