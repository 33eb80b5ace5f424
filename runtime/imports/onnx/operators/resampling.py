"""Operators that are linear maps along axes, as products with matrices which the import computes."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from runtime.imports.onnx import code
from runtime.imports.onnx.code import Code
from runtime.imports.onnx.graph import Tensor, Value
from runtime.imports.onnx.model_file import evaluated, onnx_module
from runtime.imports.onnx.site import Site, Translation


def _resize(site: Site) -> Code:
    value, result = site.value(0), site.result()
    mode = site.attribute("mode", "nearest")
    if value.dtype.startswith("int") or value.dtype == "uint8":
        raise site.refuse(f"of {value.dtype}", "convert it to float32 before")
    factor = _plain_factor(site, value, result, mode)
    x = site.tensor(0)
    if factor is not None:
        return code.layer(f"upsample({factor})" if mode == "nearest" else f'upsample({factor}, "linear")', x)
    for axis in range(value.rank):
        if site.extents(value)[axis] == site.extents(result)[axis] and not _crops(site):
            continue
        before, after = site.fixed(value, axis), site.fixed(result, axis)
        matrix, offset = _along(site, axis, before, after)
        name = f"{site.result().name} along {axis}"
        held = Value(name, "float32", (matrix.shape,) * len(value.shapes), (matrix,) * len(value.shapes))
        site.graph.values[name] = held
        letters = "abcdefgh"[: value.rank]
        left = " ".join(letters)
        right = " ".join("o" if i == axis else letter for i, letter in enumerate(letters))
        pattern = f"{left}, {letters[axis]} o -> {right}"
        x = code.call("einsum", Code(code.string(pattern)), x, site.of_constant(held))
        if offset.any():
            x = code.binary("+", x, _beside(site, offset, axis, value.rank))
    return x


def _beside(site: Site, numbers: Tensor, axis: int, rank: int) -> Code:
    """A vector of the model, along one of `rank` axes."""
    name = f"{site.result().name} beyond the image along {axis}"
    points = len(site.graph.sizes)
    held = Value(name, "float32", (numbers.shape,) * points, (numbers.astype(np.float32),) * points)
    site.graph.values[name] = held
    vector = site.of_constant(held)
    return code.index(vector, ", ".join([":", *["None"] * (rank - 1 - axis)])) if axis < rank - 1 else vector


def _crops(site: Site) -> bool:
    return site.attribute("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"


def _plain_factor(site: Site, value: Value, result: Value, mode: str) -> int | None:
    """The whole factor by which the library's `upsample` does the same."""
    if value.rank not in (3, 4, 5) or value.shapes[0][:2] != result.shapes[0][:2]:
        return None
    factors = {(r[i] / v[i]) for v, r in zip(value.shapes, result.shapes, strict=True) for i in range(2, value.rank)}
    factor = factors.pop()
    if factors or not factor.is_integer() or factor < 2:
        return None
    how = site.attribute("coordinate_transformation_mode", "half_pixel" if site.node.op == "Resize" else "asymmetric")
    near = site.attribute("nearest_mode", "round_prefer_floor")
    if mode == "nearest" and (
        (how == "asymmetric" and (near == "floor" or site.node.op == "Upsample"))
        or (how == "half_pixel" and near.startswith("round"))
    ):
        return int(factor)
    linear = mode == "linear" and how == "half_pixel" and not site.attribute("exclude_outside", 0)
    return int(factor) if linear and not site.attribute("antialias", 0) else None


def _along(site: Site, axis: int, before: int, after: int) -> tuple[Tensor, Tensor]:
    """The matrix [before, after] of the map along an axis, and what it gives for zeros."""
    onnx = onnx_module()
    attributes = {
        k: v for k, v in site.node.attributes.items() if k not in ("axes", "keep_aspect_ratio_policy", "scales")
    }
    scale, roi = _scale_of(site, axis, before, after)
    inputs: dict[str, Tensor] = {
        "x": np.concatenate([np.eye(before, dtype=np.float32), np.zeros((1, before), np.float32)])
    }
    names = ["x", "roi", "scales", "sizes" if scale is None else ""]
    if scale is None:
        names[2] = ""
        inputs["sizes"] = np.array([before + 1, after], np.int64)
    else:
        inputs["scales"] = np.array([1, scale], np.float32)
    if roi is not None:
        inputs["roi"] = np.array([0, roi[0], 1, roi[1]], np.float32)
    else:
        names[1] = ""
    while names and not names[-1]:
        names.pop()
    if site.node.op == "Upsample":
        attributes |= {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    node = onnx.helper.make_node("Resize", names, ["y"], **attributes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (found,) = evaluated(node, {"": 19}, inputs)
    if found.shape != (before + 1, after):
        raise site.refuse("of this form", "leave it to the program before the model")
    return np.ascontiguousarray(found[:-1] - found[-1:]).astype(np.float32), found[-1]


def _scale_of(site: Site, axis: int, before: int, after: int) -> tuple[float | None, tuple[float, float] | None]:
    """The scale of an axis, where scales are given and not sizes, and the part that is cropped."""
    if site.node.op == "Upsample":
        given = site.attribute("scales") or list(site.held(1).reshape(-1))
        return float(given[axis]), None
    place = 2 if site.node.version >= 11 else 1
    scales = site.held(place) if site.has(place) else None
    axes = [site.axis(a, site.rank()) for a in site.attribute("axes") or range(site.rank())]
    roi = site.held(1) if place == 2 and site.has(1) and _crops(site) else None
    part = None
    if roi is not None and roi.size and axis in axes:
        i = axes.index(axis)
        part = float(roi[i]), float(roi[i + len(axes)])
    if scales is None or scales.size == 0:
        policy = site.attribute("keep_aspect_ratio_policy", "stretch")
        return (None if policy == "stretch" else _kept_ratio(site, axes)), part
    return (float(scales[axes.index(axis)]) if axis in axes else 1.0), part


def _kept_ratio(site: Site, axes: list[int]) -> float:
    sizes = site.numbers(3)
    ratios = [size / site.fixed(site.value(0), axis) for size, axis in zip(sizes, axes, strict=True)]
    return min(ratios) if site.attribute("keep_aspect_ratio_policy") == "not_larger" else max(ratios)


def _determinant(site: Site) -> Code:
    n = site.fixed(site.value(0), -1 % site.rank())
    if n > 3:
        raise site.refuse(f"of {n} × {n} matrices", "up to 3 × 3 are written out")
    site.helper(f"determinant{n}")
    return code.call(f"determinant{n}", site.tensor(0))


def _linear(site: Site, x: Code, axes: tuple[int, int], matrix: Tensor) -> Code:
    """A map [p, q] to [r, s] along two axes, as a product with its matrix [p, q, r, s]."""
    name = f"{site.result().name} by a matrix"
    shapes = (matrix.shape,) * len(site.graph.sizes)
    held = Value(name, "float32", shapes, (matrix.astype(np.float32),) * len(shapes))
    site.graph.values[name] = held
    letters = list("abcdefgh"[: site.rank()])
    left, right = letters.copy(), letters.copy()
    left[axes[0]], left[axes[1]], right[axes[0]], right[axes[1]] = "p", "q", "r", "s"
    pattern = f"{' '.join(left)}, p q r s -> {' '.join(right)}"
    return code.call("einsum", Code(code.string(pattern)), x, site.of_constant(held))


def _fourier(site: Site) -> Code:
    """The discrete Fourier transform along an axis; the last axis has the real and the imaginary part."""
    value, result, rank = site.value(0), site.result(), site.rank()
    axis = site.numbers(2)[0] if site.has(2) else site.attribute("axis", 1 if site.node.version < 20 else -2)
    axis = site.axis(axis, rank)
    n, parts = site.fixed(value, axis), site.fixed(value, rank - 1)
    m, made = site.fixed(result, axis), site.fixed(result, rank - 1)
    real_result = bool(site.attribute("inverse", 0) and site.attribute("onesided", 0))
    length = site.numbers(1)[0] if site.has(1) else m if real_result else n
    matrix = np.zeros((n, parts, m, made))
    for i in range(n):
        for part in range(parts):
            unit = np.zeros(n, complex)
            unit[i] = 1 if part == 0 else 1j
            if real_result:
                found: Any = np.fft.irfft(unit, length)
            elif site.attribute("inverse", 0):
                found = np.fft.ifft(unit, length)
            else:
                found = np.fft.fft(unit, length)
            matrix[i, part, :, 0] = np.real(found)[:m]
            if made > 1:
                matrix[i, part, :, 1] = np.imag(found)[:m]
    return _linear(site, site.tensor(0), (axis, rank - 1), matrix)


def _short_time_fourier(site: Site) -> Code:
    """The Fourier transforms of windows of a signal [rows, time, 1 or 2]; the last axis has both parts."""
    value, result = site.value(0), site.result()
    step, parts = site.numbers(1)[0], site.fixed(value, 2)
    bins, time = site.fixed(result, 2), site.fixed(value, 1)
    length = site.numbers(3)[0] if site.has(3) else site.fixed(site.value(2), 0) if site.has(2) else time
    matrix = np.zeros((parts, length, bins, 2), np.float32)
    for part in range(parts):
        rows = np.fft.fft(np.eye(length) * (1 if part == 0 else 1j), axis=1)[:, :bins]
        matrix[part, :, :, 0], matrix[part, :, :, 1] = rows.real, rows.imag
    name = f"{result.name} by a matrix"
    points = len(site.graph.sizes)
    held = Value(name, "float32", (matrix.shape,) * points, (matrix,) * points)
    site.graph.values[name] = held
    x = code.call("windows", site.tensor(0), code.number(length), stride=step, axis=1)
    x = code.binary("*", x, site.tensor(2)) if site.has(2) else x
    pattern = code.string("b f p n, p n k c -> b f k c")
    return code.call("einsum", Code(pattern), x, site.of_constant(held))


RESAMPLING: dict[str, Translation] = {
    "Resize": _resize,
    "Upsample": _resize,
    "Det": _determinant,
    "DFT": _fourier,
    "STFT": _short_time_fourier,
}
