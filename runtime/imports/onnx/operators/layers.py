"""Operators with weights: products of matrices, convolutions, norms. A layer owns what it alone reads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from runtime.imports.onnx import code
from runtime.imports.onnx.code import Code
from runtime.imports.onnx.operators.elementwise import operand
from runtime.imports.onnx.site import Site, Translation, spread


def _dense(site: Site, x: Code, weights: np.ndarray, place: int, bias: int | None) -> Code:
    owned = [site.weight(place, np.ascontiguousarray(weights))]
    if bias is None:
        return code.layer(f"dense({weights.shape[1]}, bias = false)", x, owned)
    owned.append(site.weight(bias, np.broadcast_to(site.held(bias).reshape(-1), (weights.shape[1],)).copy()))
    return code.layer(f"dense({weights.shape[1]})", x, owned)


def _matmul(site: Site) -> Code:
    if site.is_own(1, 2) and site.rank(0) > 1:
        bias = 2 if site.has(2) else None  # joined by a pass
        return _dense(site, site.tensor(0), site.held(1), 1, bias)
    found = code.binary("@", site.tensor(0), site.tensor(1))
    return code.binary("+", found, operand(site, 2)) if site.has(2) else found


def _gemm(site: Site) -> Code:
    alpha, beta = site.attribute("alpha", 1.0), site.attribute("beta", 1.0)
    turned, plain = site.attribute("transA", 0), alpha == 1 and (beta == 1 or not site.has(2))
    bias_fits = not site.has(2) or (
        site.is_own(2)
        and site.value(2).rank <= 2
        and site.value(2).shapes[0][-1:] == site.result().shapes[0][-1:]
        and site.held(2).size == site.result().shapes[0][-1]
    )
    if plain and not turned and site.is_own(1, 2) and bias_fits:
        weights = site.held(1)
        return _dense(
            site, site.tensor(0), weights.T if site.attribute("transB", 0) else weights, 1, 2 if site.has(2) else None
        )
    a = site.tensor(0)
    b = site.tensor(1)
    a = Code(f"{a.at(code.TIGHT)}.T", code.TIGHT, a.weights) if turned else a
    b = Code(f"{b.at(code.TIGHT)}.T", code.TIGHT, b.weights) if site.attribute("transB", 0) else b
    found = code.binary("@", a, b)
    if alpha != 1:
        found = code.binary("*", code.number(np.float32(alpha)), Code(f"({found.text})", weights=found.weights))
    if site.has(2):
        c = operand(site, 2)
        found = code.binary("+", found, c if beta == 1 else code.binary("*", code.number(np.float32(beta)), c))
    return found


# Convolutions.


def spatial(site: Site) -> int:
    return site.rank() - 2


def one_or_all(values: Sequence[object]) -> object:
    """One number for all axes, where they agree."""
    return values[0] if len(set(map(str, values))) == 1 else list(values)


def pads(site: Site, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> list[list[int]]:
    """[low, high] for each spatial axis, by `pads` or `auto_pad`."""
    n = len(kernel)
    auto = site.attribute("auto_pad", "NOTSET")
    given = site.attribute("pads") or [0] * (2 * n)
    if auto in ("NOTSET", ""):
        return [[given[i], given[i + n]] for i in range(n)]
    if auto == "VALID":
        return [[0, 0] for _ in range(n)]
    widths: list[list[int]] = []
    for i in range(n):
        span = (kernel[i] - 1) * dilation[i] + 1
        if stride[i] == 1:
            total = span - 1
        else:
            size = site.fixed(site.value(0), i + 2)
            total = max((-(-size // stride[i]) - 1) * stride[i] + span - size, 0)
        less, more = total // 2, total - total // 2
        widths.append([less, more] if auto == "SAME_UPPER" else [more, less])
    return widths


def pad_setting(widths: Sequence[Sequence[int]]) -> object:
    sides = [low if low == high else [low, high] for low, high in widths]
    if all(not isinstance(side, list) for side in sides):
        return one_or_all(sides)
    return [list(w) for w in widths]


def window_settings(site: Site, kernel: Sequence[int]) -> dict[str, object]:
    """Stride, padding and dilation of sliding windows, where they are not the usual ones."""
    n = len(kernel)
    stride = list(site.attribute("strides") or [1] * n)
    dilation = list(site.attribute("dilations") or [1] * n)
    widths = pads(site, kernel, stride, dilation)
    found: dict[str, object] = {}
    if set(stride) != {1}:
        found["stride"] = one_or_all(stride)
    if any(any(w) for w in widths):
        found["padding"] = pad_setting(widths)
    if set(dilation) != {1}:
        found["dilation"] = one_or_all(dilation)
    return found


def listed(settings: dict[str, object]) -> str:
    """Settings as text, behind others."""
    return "".join(f", {key} = {code.said(value)}" for key, value in settings.items())


def convolution_settings(site: Site, place: int) -> str:
    """The settings of `convolve2d` and its like, by the attributes of a convolution with weights at that place."""
    kernel = [site.fixed(site.value(place), i + 2) for i in range(spatial(site))]
    settings = window_settings(site, kernel)
    if site.attribute("group", 1) != 1:
        settings["groups"] = site.attribute("group")
    return listed(settings).removeprefix(", ")


def _conv(site: Site) -> Code:
    n = spatial(site)
    if n not in (1, 2, 3):
        raise site.refuse(f"over {n} spatial axes", "one, two or three are known")
    weights = site.value(1)
    kernel = [site.fixed(weights, i + 2) for i in range(n)]
    settings = window_settings(site, kernel)
    groups = site.attribute("group", 1)
    if groups != 1:
        settings["groups"] = groups
    order = [*range(2, n + 2), 1, 0]
    if site.is_own(1) and (not site.has(2) or site.is_own(2)):
        content = site.held(1)
        owned = [site.weight(1, np.ascontiguousarray(content.transpose(order)))]
        channels, size = content.shape[0], kernel[0] if n == 1 else one_or_all(kernel)
        tail = listed(settings)
        if site.has(2):
            owned.append(site.weight(2))
        else:
            tail += ", bias = false"
        return code.layer(f"conv{n}d({channels}, {code.said(size)}{tail})", site.tensor(0), owned)
    turned = code.apply("transpose", site.tensor(1), *order)
    inner = listed(settings).removeprefix(", ")
    x = site.tensor(0)
    found = Code(f"convolve{n}d({inner})({x.argument}, {turned.argument})", code.TIGHT, x.weights + turned.weights)
    return code.binary("+", found, spread(site, site.tensor(2), site.value(2), n + 2)) if site.has(2) else found


def _conv_transpose(site: Site) -> Code:
    n = spatial(site)
    weights = site.value(1)
    kernel = [site.fixed(weights, i + 2) for i in range(n)]
    groups = site.attribute("group", 1)
    stride = list(site.attribute("strides") or [1] * n)
    dilation = list(site.attribute("dilations") or [1] * n)
    further, widths = _transposed_pads(site, kernel, stride, dilation)
    if any(f >= s for f, s in zip(further, stride, strict=True)):
        raise site.refuse("with as much output padding as its stride, or more", "pad the result")
    settings: dict[str, object] = {}
    for key, value, usual in (("stride", stride, 1), ("output_padding", further, 0), ("dilation", dilation, 1)):
        if set(value) != {usual}:
            settings[key] = one_or_all(value)
    if any(any(w) for w in widths):
        settings["padding"] = pad_setting(widths)
    if n in (1, 2) and site.is_own(1) and (not site.has(2) or site.is_own(2)):
        return _owned_transposed(site, n, kernel, groups, settings)
    return _free_transposed(site, n, groups, settings)


def _transposed_pads(
    site: Site, kernel: list[int], stride: list[int], dilation: list[int]
) -> tuple[list[int], list[list[int]]]:
    n = len(kernel)
    further = list(site.attribute("output_padding") or [0] * n)
    given = site.attribute("pads") or [0] * (2 * n)
    widths = [[given[i], given[i + n]] for i in range(n)]
    for i in range(n):
        size = site.fixed(site.value(0), i + 2)
        result = site.fixed(site.result(), i + 2)
        whole = stride[i] * (size - 1) + (kernel[i] - 1) * dilation[i] + 1 + further[i]
        total = whole - result
        if total != sum(widths[i]):
            if total < 0:
                further[i] -= total
                total = 0
            upper = site.attribute("auto_pad", "NOTSET") == "SAME_UPPER"
            widths[i] = [total // 2, total - total // 2] if upper else [total - total // 2, total // 2]
    return further, widths


def _owned_transposed(site: Site, n: int, kernel: list[int], groups: int, settings: dict[str, object]) -> Code:
    content = site.held(1)
    c, o = content.shape[:2]
    split = content.reshape(groups, c // groups, o, *kernel)
    order = [*range(3, n + 3), 1, 0, 2]
    W = np.ascontiguousarray(split.transpose(order)).reshape(*kernel, c // groups, groups * o)
    owned = [site.weight(1, W)]
    if groups != 1:
        settings["groups"] = groups
    tail = listed(settings)
    if site.has(2):
        owned.append(site.weight(2))
    else:
        tail += ", bias = false"
    size = kernel[0] if n == 1 else one_or_all(kernel)
    return code.layer(f"conv_transpose{n}d({groups * o}, {code.said(size)}{tail})", site.tensor(0), owned)


def _free_transposed(site: Site, n: int, groups: int, settings: dict[str, object]) -> Code:
    space, taps = " ".join("hwd"[:n]), " ".join("pqr"[:n])
    x, weights = site.tensor(0), site.tensor(1)
    if groups == 1:
        product = code.call("einsum", Code(code.string(f"b c {space}, c o {taps} -> b o {space} {taps}")), x, weights)
    else:
        x = code.call("rearrange", x, Code(code.string(f"b (g c) {space} -> b g c {space}")), g=groups)
        weights = code.call("rearrange", weights, Code(code.string(f"(g c) o {taps} -> g c o {taps}")), g=groups)
        product = code.call(
            "einsum", Code(code.string(f"b g c {space}, g c o {taps} -> b g o {space} {taps}")), x, weights
        )
        product = code.call("rearrange", product, Code(code.string(f"b g o {space} {taps} -> b (g o) {space} {taps}")))
    inner = ", ".join([*(f"{k} = {code.said(v)}" for k, v in settings.items()), f"axes = {n}"])
    found = code.call(f"overlapped({inner})", product)
    return code.binary("+", found, spread(site, site.tensor(2), site.value(2), n + 2)) if site.has(2) else found


# Norms.


def _short(value: float) -> str:
    return code.literal(np.float32(value))


def epsilon(value: float) -> str:
    return "" if np.float32(value) == np.float32(1e-5) else f"eps = {_short(value)}"


def _batch_norm(site: Site) -> Code | list[Code]:
    eps = site.attribute("epsilon", 1e-5)
    if site.attribute("training_mode", 0):
        return _batch_norm_of_training(site, eps)
    if all(site.is_own(place, 1) for place in range(1, 5)):
        return code.layer(
            f"batch_norm({epsilon(eps)})" if epsilon(eps) else "batch_norm",
            site.tensor(0),
            [site.weight(place) for place in range(1, 5)],
        )
    rank = site.rank()
    scale, bias, mean, variance = (spread(site, site.tensor(i), site.value(i), rank) for i in range(1, 5))
    return _normalised(site.tensor(0), mean, variance, scale, bias, eps)


def _normalised(x: Code, mean: Code, variance: Code, scale: Code, bias: Code, eps: float) -> Code:
    centred = code.binary("-", x, mean)
    root = code.call("sqrt", code.binary("+", variance, Code(_short(eps))))
    y = code.binary("/", Code(f"({centred.text})", weights=centred.weights), root)
    return code.binary("+", code.binary("*", y, scale), bias)


def _batch_norm_of_training(site: Site, eps: float) -> list[Code]:
    rank, momentum = site.rank(), Code(_short(site.attribute("momentum", 0.9)))
    x = site.tensor(0)
    axes = [a for a in range(rank) if a != 1]
    mean, variance = code.apply("mean", x, axis=axes), code.apply("variance", x, axis=axes)
    spreaded = [spread(site, Code(c.argument), site.value(1), rank) for c in (mean, variance)]
    scale, bias = (spread(site, site.tensor(i), site.value(i), rank) for i in (1, 2))
    y = _normalised(x, spreaded[0], spreaded[1], scale, bias, eps)

    def moved(old: Code, new: Code) -> Code:
        rest = code.binary("*", Code(f"(1 - {momentum.text})"), new)
        return code.binary("+", code.binary("*", momentum, old), rest)

    return [y, moved(site.tensor(3), mean), moved(site.tensor(4), variance)]


def _instance_norm(site: Site) -> Code:
    rank, eps = site.rank(), site.attribute("epsilon", 1e-5)
    x = site.tensor(0)
    axes = list(range(2, rank))
    mean, variance = (code.call(f, Code(x.argument), axis=axes, keepdims=Code("true")) for f in ("mean", "variance"))
    scale, bias = (spread(site, site.tensor(i), site.value(i), rank) for i in (1, 2))
    return _normalised(x, mean, variance, scale, bias, eps)


def _layer_norm(site: Site) -> Code | list[Code]:
    rank, eps = site.rank(), site.attribute("epsilon", 1e-5)
    axis = site.axis(site.attribute("axis", -1), rank)
    plain = not site.wants(1) and not site.wants(2)
    if plain and axis == rank - 1 and site.is_own(1, 1) and (not site.has(2) or site.is_own(2, 1)):
        settings = ", ".join(part for part in (epsilon(eps), "" if site.has(2) else "bias = false") if part)
        weights = [site.weight(1)] + ([site.weight(2)] if site.has(2) else [])
        return code.layer(f"layer_norm({settings})" if settings else "layer_norm", site.tensor(0), weights)
    axes: object = list(range(axis, rank)) if axis < rank - 1 else -1
    x = site.tensor(0)
    mean, variance = (code.call(f, Code(x.argument), axis=axes, keepdims=Code("true")) for f in ("mean", "variance"))
    root = code.call("sqrt", code.binary("+", variance, Code(_short(eps))))
    y = code.binary("/", Code(f"({code.binary('-', x, mean).text})", weights=x.weights), root)
    y = code.binary("*", y, site.tensor(1))
    y = code.binary("+", y, site.tensor(2)) if site.has(2) else y
    return [y, mean, code.binary("/", code.number(1), root)]


def _rms_norm(site: Site) -> Code:
    rank, eps = site.rank(), site.attribute("epsilon", 1e-5)
    axis = site.axis(site.attribute("axis", -1), rank)
    if axis == rank - 1 and site.is_own(1, 1):
        return code.layer(f"rms_norm({epsilon(eps)})" if epsilon(eps) else "rms_norm", site.tensor(0), [site.weight(1)])
    axes: object = list(range(axis, rank)) if axis < rank - 1 else -1
    x = site.tensor(0)
    square = code.call("mean", code.binary("^", x, code.number(2)), axis=axes, keepdims=Code("true"))
    y = code.binary("/", x, code.call("sqrt", code.binary("+", square, Code(_short(eps)))))
    return code.binary("*", y, site.tensor(1))


def _lrn(site: Site) -> Code:
    size, alpha = site.attribute("size"), site.attribute("alpha", 1e-4)
    beta, bias = site.attribute("beta", 0.75), site.attribute("bias", 1.0)
    low, high = (size - 1) // 2, size - 1 - (size - 1) // 2
    x = site.tensor(0)
    padded = code.call("pad", code.binary("^", x, code.number(2)), code.number(low), code.number(high), axis=1)
    total = code.call("sum", code.call("windows", padded, code.number(size), axis=1), axis=-1)
    scale = code.binary("+", Code(_short(bias)), code.binary("*", Code(_short(alpha / size)), total))
    return code.binary("/", x, code.binary("^", Code(f"({scale.text})", weights=scale.weights), Code(_short(beta))))


def _lp_norm(site: Site) -> Code:
    axis, p = site.axis(site.attribute("axis", -1), site.rank()), site.attribute("p", 2)
    x = site.tensor(0)
    if p == 1:
        size = code.call("sum", code.call("abs", x), axis=axis, keepdims=Code("true"))
    else:
        size = code.call(
            "sqrt", code.call("sum", code.binary("^", x, code.number(2)), axis=axis, keepdims=Code("true"))
        )
    zero = code.binary("==", size, code.number(0))
    return code.call("where", zero, code.number(0), code.binary("/", x, code.call("where", zero, code.number(1), size)))


def _group_norm(site: Site) -> Code:
    groups, eps, rank = site.attribute("num_groups"), site.attribute("epsilon", 1e-5), site.rank()
    x = site.tensor(0)
    if site.is_own(1, 1) and site.is_own(2, 1) and site.node.version >= 21:
        setting = f", {epsilon(eps)}" if epsilon(eps) else ""
        return code.layer(f"group_norm({groups}{setting})", x, [site.weight(1), site.weight(2)])
    parts = code.layer(
        f"standardise_groups({_short(eps)})",
        code.call("rearrange", x, Code(code.string("b (g k) ... -> b g k ...")), g=groups),
    )
    scale, bias = site.tensor(1), site.tensor(2)
    dims = ", ".join([":", *["None"] * (rank - 1)])
    if site.node.version < 21:
        y = code.binary("+", code.binary("*", parts, code.index(scale, dims)), code.index(bias, dims))
        return code.call("rearrange", y, Code(code.string("b g k ... -> b (g k) ...")))
    y = code.call("rearrange", parts, Code(code.string("b g k ... -> b (g k) ...")))
    return code.binary(
        "+", code.binary("*", y, spread(site, scale, site.value(1), rank)), spread(site, bias, site.value(2), rank)
    )


LAYERS: dict[str, Translation] = {
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "BatchNormalization": _batch_norm,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "RMSNormalization": _rms_norm,
    "GroupNormalization": _group_norm,
    "LRN": _lrn,
    "LpNormalization": _lp_norm,
}
