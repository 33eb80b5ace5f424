"""Convolutions, pools and what stands around them beside NumPy loops over every element of a result."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from function_case import FunctionCase
from layer_cases import LayerCase

Array: TypeAlias = np.ndarray[Any, Any]
Widths: TypeAlias = Sequence[tuple[int, int]]

_RANDOM = np.random.default_rng(13)
IMAGES = _RANDOM.normal(size=(2, 4, 6, 7))
SIGNALS = _RANDOM.normal(size=(2, 4, 9))
# Few different values: most windows have their largest element more than once.
VOLUMES = np.random.default_rng(14).normal(size=(2, 2, 4, 5, 3))
TIES = _RANDOM.integers(0, 2, (2, 2, 6, 6)).astype(float)


def framed(x: Array, widths: Widths, mode: str = "constant", **options: Any) -> Array:
    return np.pad(x, ((0, 0), (0, 0), *widths), mode, **options)  # type: ignore[call-overload]


def windows(x: Array, size: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> list[Any]:
    """(place in the result, elements [batch, c, taps…]) for each window over the axes from 2 on."""
    found: list[Any] = []
    spans = [d * (k - 1) + 1 for k, d in zip(size, dilation, strict=True)]
    counts = [range((n - span) // s + 1) for n, span, s in zip(x.shape[2:], spans, stride, strict=True)]
    for place in itertools.product(*counts):
        starts = [p * s for p, s in zip(place, stride, strict=True)]
        cut = [slice(b, b + span, d) for b, span, d in zip(starts, spans, dilation, strict=True)]
        found.append((place, x[(slice(None), slice(None), *cut)]))
    return found


def _shape(found: list[Any]) -> tuple[int, ...]:
    return tuple(int(n) + 1 for n in np.max([place for place, _ in found], axis=0))


def convolved(
    x: Array,
    W: Array,
    stride: int | Sequence[int] = 1,
    widths: Widths | int = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    frame: Callable[[Array, Widths], Array] = framed,
) -> Array:
    """A product of sums for each element; W is [taps…, in / groups, out]."""
    axes = x.ndim - 2
    stride, dilation = ((v,) * axes if isinstance(v, int) else v for v in (stride, dilation))
    widths = [(widths, widths)] * axes if isinstance(widths, int) else widths
    found = windows(frame(x, widths), W.shape[:axes], stride, dilation)
    inside, outside = W.shape[-2], W.shape[-1] // groups
    result = np.zeros((len(x), W.shape[-1], *_shape(found)))
    for (place, taps), o in itertools.product(found, range(W.shape[-1])):
        group = o // outside
        kernel = np.moveaxis(W[..., o], -1, 0)
        part = taps[:, group * inside : (group + 1) * inside]
        result[(slice(None), o, *place)] = (part * kernel).reshape(len(x), -1).sum(-1)
    return result


def overlapped(taps: Array, stride: Sequence[int], dilation: Sequence[int], further: Sequence[int]) -> Array:
    """Each tap of [batch, c, places…, taps…] added where it was read from."""
    axes = len(stride)
    places, size = taps.shape[2 : 2 + axes], taps.shape[2 + axes :]
    numbers = zip(places, size, stride, dilation, further, strict=True)
    result = np.zeros((*taps.shape[:2], *((n - 1) * s + d * (k - 1) + 1 + more for n, k, s, d, more in numbers)))
    for place in np.ndindex(*places):
        for tap in np.ndindex(*size):
            target = tuple(p * s + t * d for p, s, t, d in zip(place, stride, tap, dilation, strict=True))
            result[(..., *target)] += taps[(slice(None), slice(None), *place, *tap)]
    return result


def spread(x: Array, W: Array, stride: int, padding: Widths, further: int = 0, dilation: int = 1) -> Array:
    """Transposed convolution: each element adds its multiple of the kernel."""
    axes = x.ndim - 2
    taps = np.moveaxis(np.tensordot(x, W, (1, axes)), -1, 1)
    whole = overlapped(taps, [stride] * axes, [dilation] * axes, [further] * axes)
    ends = zip(padding, whole.shape[2:], strict=True)
    return whole[(..., *(slice(low, n - high) for (low, high), n in ends))]


def pooled(
    reduce: Callable[[Array], Array],
    x: Array,
    size: Sequence[int],
    stride: Sequence[int],
    widths: Widths,
    fill: float,
    dilation: int = 1,
) -> Array:
    found = windows(framed(x, widths, constant_values=fill), size, stride, [dilation] * len(size))
    result = np.zeros((*x.shape[:2], *_shape(found)))
    for place, taps in found:
        result[(..., *place)] = reduce(taps.reshape(*x.shape[:2], -1))
    return result


def largest_of(
    size: Sequence[int], stride: Sequence[int], widths: Widths, dilation: int = 1
) -> Callable[[Array], Array]:
    return lambda x: pooled(lambda taps: taps.max(-1), x, size, stride, widths, -np.inf, dilation)


def mean_of(
    size: Sequence[int], stride: Sequence[int], widths: Widths, beyond: Widths, dilation: int = 1
) -> Callable[[Array], Array]:
    """The mean of what is not NaN: `beyond` pads with NaN, `widths` before it with zeros."""
    return lambda x: pooled(
        lambda taps: np.nanmean(taps, -1), framed(x, widths), size, stride, beyond, np.nan, dilation
    )


def adapted(x: Array, size: Sequence[int], reduce: Callable[..., Array] = np.mean) -> Array:
    result = np.zeros((*x.shape[:2], *size))
    for place in np.ndindex(*size):
        ends = zip(place, size, x.shape[2:], strict=True)
        cut = [slice(int(np.floor(n * p / m)), int(np.ceil(n * (p + 1) / m))) for p, m, n in ends]
        result[(..., *place)] = reduce(x[(..., *cut)].reshape(*x.shape[:2], -1), axis=-1)
    return result


def interpolated(x: Array, axis: int, times: int) -> Array:
    n = x.shape[axis]
    places = np.clip((np.arange(n * times) + 0.5) / times - 0.5, 0, n - 1)
    return np.apply_along_axis(lambda line: np.interp(places, np.arange(n), line), axis, x)


def _image(name: str, call: str, expected: Callable[[Array], Any], x: Array = IMAGES) -> FunctionCase:
    return FunctionCase(name, call, {"x": x}, expected, ("x",))


def _kernel(*shape: int) -> Array:
    return _RANDOM.normal(size=shape)


def _convolution(call: str, W: Array, x: Array = IMAGES, **options: Any) -> FunctionCase:
    name = f"convolve{x.ndim - 2}d"
    return FunctionCase(
        name, f"{name}({call})(x, W)", {"x": x, "W": W}, lambda x, W: convolved(x, W, **options), ("x", "W")
    )


_PLAIN, _GROUPED, _LONE = _kernel(3, 2, 4, 5), _kernel(3, 2, 2, 6), _kernel(2, 3, 1, 8)
_CUBE = np.random.default_rng(15).normal(size=(2, 3, 2, 2, 6))
_TAPS = _RANDOM.normal(size=(2, 3, 4, 5, 3, 2))

_CONVOLUTIONS = (
    _convolution("", _PLAIN),
    _convolution("2, 1", _PLAIN, stride=2, widths=1),
    _convolution("[1, 3], [2, 0], [2, 1]", _PLAIN, stride=(1, 3), widths=((2, 2), (0, 0)), dilation=(2, 1)),
    _convolution("padding = [[2, 0], 1]", _PLAIN, widths=((2, 0), (1, 1))),
    _convolution('padding = "same"', _PLAIN, widths=((1, 1), (0, 1))),
    _convolution('2, "same", dilation = 2', _PLAIN, stride=2, widths=((2, 2), (1, 1)), dilation=2),
    _convolution('padding = "valid", groups = 2', _GROUPED, groups=2),
    _convolution("groups = 4", _LONE, groups=4),
    _convolution('padding = 2, mode = "reflect"', _PLAIN, widths=2, frame=lambda x, w: framed(x, w, "reflect")),
    _convolution('padding = 2, mode = "replicate"', _PLAIN, widths=2, frame=lambda x, w: framed(x, w, "edge")),
    _convolution("", _kernel(9, 4, 2), SIGNALS),
    _convolution("2, 1, 2", _kernel(3, 4, 5), SIGNALS, stride=2, widths=1, dilation=2),
    _convolution("padding = [[2, 0]]", _kernel(3, 4, 5), SIGNALS, widths=((2, 0),)),
    _convolution("groups = 2", _kernel(3, 2, 6), SIGNALS, groups=2),
    _convolution("", _CUBE, VOLUMES),
    _convolution(
        "[2, 1, 1], [1, [0, 2], 1], [1, 2, 1]",
        _CUBE,
        VOLUMES,
        stride=(2, 1, 1),
        widths=((1, 1), (0, 2), (1, 1)),
        dilation=(1, 2, 1),
    ),
    _convolution("groups = 2", _CUBE[..., :1, :], VOLUMES, groups=2),
    _convolution('padding = 1, mode = "replicate"', _CUBE, VOLUMES, widths=1, frame=lambda x, w: framed(x, w, "edge")),
)

_POOLS = (
    _image("max_pool", "max_pool(2)(x)", largest_of((2, 2), (2, 2), ((0, 0),) * 2)),
    _image("max_pool", "max_pool(3, 2, 1)(x)", largest_of((3, 3), (2, 2), ((1, 1),) * 2)),
    _image("max_pool", "max_pool(2, ceil = true)(x)", largest_of((2, 2), (2, 2), ((0, 0), (0, 1)))),
    _image("max_pool", "max_pool([2, 3], [1, 2], [0, 1])(x)", largest_of((2, 3), (1, 2), ((0, 0), (1, 1)))),
    # A fourth window along the last axis would begin in the padding, so there is none.
    _image("max_pool", "max_pool(2, 3, 1, true)(x)", largest_of((2, 2), (3, 3), ((1, 1),) * 2)),
    _image("max_pool", "max_pool(3, 1)(x)", largest_of((3,), (1,), ((0, 0),)), SIGNALS),
    _image("max_pool", "max_pool(3, 2, 2, dilation = 2)(x)", largest_of((3, 3), (2, 2), ((2, 2),) * 2, 2)),
    _image("max_pool", "max_pool(2, 3, ceil = true, dilation = 3)(x)", largest_of((2,), (3,), ((0, 1),), 3), SIGNALS),
    _image("max_pool", "max_pool([2, 3, 1], 1)(x)", largest_of((2, 3, 1), (1, 1, 1), ((0, 0),) * 3), VOLUMES),
    _image("max_pool", "max_pool(2, padding = 1)(x)", largest_of((2,) * 3, (2,) * 3, ((1, 1),) * 3), VOLUMES),
    _image("avg_pool", "avg_pool(2, 1)(x)", mean_of((2,) * 3, (1,) * 3, ((0, 0),) * 3, ((0, 0),) * 3), VOLUMES),
    _image(
        "avg_pool",
        "avg_pool(2, 1, 1, count_padding = false, dilation = 2)(x)",
        mean_of((2, 2), (1, 1), ((0, 0),) * 2, ((1, 1),) * 2, 2),
    ),
    _image("avg_pool", "avg_pool(2, 1, 1, dilation = 2)(x)", mean_of((2, 2), (1, 1), ((1, 1),) * 2, ((0, 0),) * 2, 2)),
    _image("avg_pool", "avg_pool(2)(x)", mean_of((2, 2), (2, 2), ((0, 0),) * 2, ((0, 0),) * 2)),
    _image("avg_pool", "avg_pool(3, 2, 1)(x)", mean_of((3, 3), (2, 2), ((1, 1),) * 2, ((0, 0),) * 2)),
    _image(
        "avg_pool", "avg_pool(3, 2, 1, count_padding = false)(x)", mean_of((3, 3), (2, 2), ((0, 0),) * 2, ((1, 1),) * 2)
    ),
    _image("avg_pool", "avg_pool(3, 2, 1, true)(x)", mean_of((3, 3), (2, 2), ((1, 1),) * 2, ((0, 1), (0, 0)))),
    _image("avg_pool", "avg_pool([3, 2], ceil = true)(x)", mean_of((3, 2), (3, 2), ((0, 0),) * 2, ((0, 0), (0, 1)))),
    _image("avg_pool", "avg_pool(4, ceil = true)(x)", mean_of((4,), (4,), ((0, 0),), ((0, 3),)), SIGNALS),
    _image("global_average_pool", "global_average_pool(x)", lambda x: x.mean((2, 3))),
    _image("global_max_pool", "global_max_pool(x)", lambda x: x.max((2, 3))),
    _image("adaptive_average_pool", "adaptive_average_pool([2, 7])(x)", lambda x: adapted(x, (2, 7))),
    _image("adaptive_average_pool", "adaptive_average_pool(5)(x)", lambda x: adapted(x, (5, 5))),
    _image("adaptive_average_pool", "adaptive_average_pool(4)(x)", lambda x: adapted(x, (4,)), SIGNALS),
    _image("adaptive_max_pool", "adaptive_max_pool([2, 7])(x)", lambda x: adapted(x, (2, 7), np.max)),
    _image("adaptive_max_pool", "adaptive_max_pool(5)(x)", lambda x: adapted(x, (5, 5), np.max)),
    _image("adaptive_max_pool", "adaptive_max_pool(4)(x)", lambda x: adapted(x, (4,), np.max), SIGNALS),
    _image("adaptive_average_pool", "adaptive_average_pool([3, 2, 4])(x)", lambda x: adapted(x, (3, 2, 4)), VOLUMES),
    _image("adaptive_max_pool", "adaptive_max_pool([3, 2, 4])(x)", lambda x: adapted(x, (3, 2, 4), np.max), VOLUMES),
    _image("adaptive_max_pool", "adaptive_max_pool(2)(x)", lambda x: adapted(x, (2, 2, 2), np.max), VOLUMES),
    _image("global_average_pool", "global_average_pool(x)", lambda x: x.mean((2, 3, 4)), VOLUMES),
    _image("global_max_pool", "global_max_pool(x)", lambda x: x.max((2, 3, 4)), VOLUMES),
    _image("turned_round", "turned_round(x)", lambda x: np.moveaxis(x, -1, 2), VOLUMES),
    _image("turned_round", "turned_round(x)", lambda x: np.moveaxis(x, -1, 2)),
    _image("spatial_axes", "x * spatial_axes(x)", lambda x: x * 3, VOLUMES),
    _image("largest_parts", "largest_parts(3)(x)", lambda x: adapted(x, (6, 3), np.max)),
)

_PARTS = (
    _image("upsample", "upsample(2)(x)", lambda x: x.repeat(2, 2).repeat(2, 3)),
    _image("upsample", "upsample([1, 3])(x)", lambda x: x.repeat(3, 3)),
    _image("upsample", "upsample(3)(x)", lambda x: x.repeat(3, 2), SIGNALS),
    _image("upsample", 'upsample([3, 2], "linear")(x)', lambda x: interpolated(interpolated(x, 2, 3), 3, 2)),
    _image("upsample", 'upsample(4, "linear")(x)', lambda x: interpolated(x, 2, 4), SIGNALS),
    _image("upsample", "upsample([2, 1, 3])(x)", lambda x: x.repeat(2, 2).repeat(3, 4), VOLUMES),
    _image(
        "upsample", 'upsample([2, 1, 3], "linear")(x)', lambda x: interpolated(interpolated(x, 2, 2), 4, 3), VOLUMES
    ),
    _image("repeated", "repeated(3, 1)(x)", lambda x: x.repeat(3, 1)),
    _image("between_centres", "x @ between_centres(7, 2)", lambda x: interpolated(x, 3, 2)),
    _image("window_means", "x @ window_means(7, 3)", lambda x: adapted(x, (6, 3))),
    FunctionCase(
        "apply_along", "apply_along(2)(x, A)", {"x": IMAGES, "A": _kernel(6, 3)}, lambda x, A: (x.mT @ A).mT, ("x", "A")
    ),
    _image("largest", "largest(x)", lambda x: x.max(-1)),
    _image("pool_windows", "sum(pool_windows(3, 3)(x), axis = -1)", lambda x: 9 * adapted(x[..., :6], (2, 2))),
    _image(
        "padded", "padded([[1, 0], [0, 2]], value = 3)(x)", lambda x: framed(x, ((1, 0), (0, 2)), constant_values=3)
    ),
    _image("padded", 'padded([[1, 0], [2, 3]], "reflect")(x)', lambda x: framed(x, ((1, 0), (2, 3)), "reflect")),
    _image("padded", 'padded([[5, 7]], "replicate")(x)', lambda x: framed(x, ((5, 7),), "edge"), SIGNALS),
    _image("reflected", "reflected(3, 2, 1)(x)", lambda x: np.pad(x, ((0, 0), (3, 2), (0, 0), (0, 0)), "reflect")),
    _image("replicated", "replicated(3, 0, 1)(x)", lambda x: np.pad(x, ((0, 0), (3, 0), (0, 0), (0, 0)), "edge")),
    _image("cropped", "cropped([[1, 0], [2, 3]])(x)", lambda x: x[:, :, 1:, 2:4]),
    _image(
        "padded_shortcut",
        "padded_shortcut(9, 2)(x)",
        lambda x: np.pad(x[:, :, ::2, ::2], ((0, 0), (2, 3), (0, 0), (0, 0))),
    ),
    FunctionCase(
        "scaled_channels",
        "scaled_channels(x, s)",
        {"x": IMAGES, "s": _kernel(2, 4)},
        lambda x, s: x * s[:, :, None, None],
        ("x", "s"),
    ),
    FunctionCase(
        "overlapped",
        "overlapped(2, [[1, 0], [0, 2]], axes = 2)(taps)",
        {"taps": _TAPS},
        lambda taps: overlapped(taps, (2, 2), (1, 1), (0, 0))[:, :, 1:, :-2],
        ("taps",),
    ),
    FunctionCase(
        "overlapped",
        "overlapped(2, [1, 0], [0, 1], axes = 2)(taps)",
        {"taps": _TAPS},
        lambda taps: overlapped(taps, (2, 2), (1, 1), (0, 1))[:, :, 1:-1],
        ("taps",),
    ),
    # Functions of configuration, which stand beside a tensor here.
    _image("span_of", "x * span_of(4, 3)", lambda x: x * 10),
    _image("channels_of_group", "x * channels_of_group(3, 12, 6)", lambda x: x * 4),
    _image("widths_of", 'x * widths_of("same", [3, 2], [1, 4])[1][1]', lambda x: x * 2),
    _image("widths_of", "x * widths_of([4, [5, 6]], [3, 2], [1, 4])[1][1]", lambda x: x * 6),
    _image("pool_widths", "x * pool_widths(4, 5, 1, true)(x)[1][1]", lambda x: x * 1),
)

IMAGE_FUNCTIONS = (*_CONVOLUTIONS, *_POOLS, *_PARTS)


def _with_bias(z: Array, b: Array) -> Array:
    return z + b.reshape(-1, *[1] * (z.ndim - 2))


def _layer(call: str, x: Array, shape: tuple[int, ...], expected: Callable[[Array, Array], Array]) -> LayerCase:
    """A layer with weights `W` of that shape and, if its call does not say otherwise, a bias."""
    name = call.partition("(")[0]
    if "bias = false" in call:
        return LayerCase(name, call, x, {"W": shape}, lambda x, W: expected(x, W))
    tensors = {"W": shape, "b": shape[-1:]}
    return LayerCase(name, call, x, tensors, lambda x, W, b: _with_bias(expected(x, W), b))


IMAGE_LAYERS = (
    _layer("conv2d(5, 3)", IMAGES, (3, 3, 4, 5), convolved),
    _layer("conv2d(5, 3, bias = false)", IMAGES, (3, 3, 4, 5), convolved),
    _layer("conv2d(6, [1, 2], 2, 1)", IMAGES, (1, 2, 4, 6), lambda x, W: convolved(x, W, 2, 1)),
    _layer("conv2d(6, 3, groups = 2)", IMAGES, (3, 3, 2, 6), lambda x, W: convolved(x, W, groups=2)),
    _layer("conv1d(5, 3, 2)", SIGNALS, (3, 4, 5), lambda x, W: convolved(x, W, 2)),
    _layer("conv1d(4, 3, groups = 4)", SIGNALS, (3, 1, 4), lambda x, W: convolved(x, W, groups=4)),
    _layer("conv3d(6, [2, 3, 2], 2, 1)", VOLUMES, (2, 3, 2, 2, 6), lambda x, W: convolved(x, W, 2, 1)),
    _layer("conv3d(4, 2, groups = 2, bias = false)", VOLUMES, (2, 2, 2, 1, 4), lambda x, W: convolved(x, W, groups=2)),
    _layer("depthwise_conv2d(3, 2, 1)", IMAGES, (3, 3, 1, 4), lambda x, W: convolved(x, W, 2, 1, groups=4)),
    _layer("depthwise_conv2d(2, multiplier = 2)", IMAGES, (2, 2, 1, 8), lambda x, W: convolved(x, W, groups=4)),
    _layer("conv_transpose2d(3, [3, 2])", IMAGES, (3, 2, 4, 3), lambda x, W: spread(x, W, 1, ((0, 0),) * 2)),
    _layer(
        "conv_transpose2d(3, 3, 2, 1, 1)", IMAGES, (3, 3, 4, 3), lambda x, W: spread(x, W, 2, ((1, 1),) * 2, further=1)
    ),
    _layer(
        'conv_transpose2d(2, 4, 2, "same", bias = false)',
        IMAGES,
        (4, 4, 4, 2),
        lambda x, W: spread(x, W, 2, ((1, 1),) * 2),
    ),
    _layer(
        'conv_transpose2d(2, 2, 3, "same")',
        IMAGES,
        (2, 2, 4, 2),
        lambda x, W: spread(x, W, 3, ((0, 0),) * 2, further=1),
    ),
    _layer(
        "conv_transpose2d(4, 2, 2, groups = 2)",
        IMAGES,
        (2, 2, 2, 4),
        lambda x, W: np.concatenate(
            [spread(x[:, g : g + 2], W[..., g : g + 2], 2, ((0, 0),) * 2) for g in (0, 2)], axis=1
        ),
    ),
    _layer(
        "conv_transpose1d(3, 3, 2, dilation = 2)",
        SIGNALS,
        (3, 4, 3),
        lambda x, W: spread(x, W, 2, ((0, 0),), dilation=2),
    ),
    _layer("conv_transpose1d(3, 3, 2, [[0, 1]])", SIGNALS, (3, 4, 3), lambda x, W: spread(x, W, 2, ((0, 1),))),
    _layer("conv_transpose1d(3, 3, 2, [2])", SIGNALS, (3, 4, 3), lambda x, W: spread(x, W, 2, ((2, 2),))),
    _layer(
        "conv_transpose2d(3, 3, 2, [[0, 1], 2])", IMAGES, (3, 3, 4, 3), lambda x, W: spread(x, W, 2, ((0, 1), (2, 2)))
    ),
    _layer(
        "conv_transpose1d(4, 2, groups = 2)",
        SIGNALS,
        (2, 2, 4),
        lambda x, W: np.concatenate([spread(x[:, g : g + 2], W[..., g : g + 2], 1, ((0, 0),)) for g in (0, 2)], axis=1),
    ),
)
