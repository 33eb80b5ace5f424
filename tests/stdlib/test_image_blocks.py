"""Blocks of image networks equal the same steps in NumPy; pools at ties, NaN and infinities; messages about windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import pytest
from differentiation import assert_gradients, gradients
from image_cases import IMAGES, TIES, convolved, framed, pooled
from standard_library import applied

from compiler.errors.diagnostics import SourceError
from compiler.errors.rendering import render
from compiler.evaluate import evaluate
from compiler.graph.ir import Graph, Role
from compiler.types import at_batch

Array: TypeAlias = np.ndarray[Any, Any]


class Steps:
    """The layers of a block one after the other: each takes its tensors from the block's, in order."""

    def __init__(self, tensors: list[Array]) -> None:
        self.tensors: Iterator[Array] = iter(tensors)

    def convolve(self, x: Array, stride: int = 1, padding: int = 0, groups: int = 1) -> Array:
        return convolved(x, next(self.tensors), stride, padding, groups=groups)

    def normalise(self, x: Array, eps: float = 1e-5) -> Array:
        gamma, beta, mean, variance = (next(self.tensors)[:, None, None] for _ in range(4))
        return gamma * (x - mean) / np.sqrt(variance + eps) + beta

    def conv_norm(self, x: Array, stride: int = 1, padding: int = 0, groups: int = 1, eps: float = 1e-5) -> Array:
        return self.normalise(self.convolve(x, stride, padding, groups), eps)

    def dense(self, x: Array) -> Array:
        return x @ next(self.tensors) + next(self.tensors)


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def swish(x: Array) -> Array:
    return x / (1 + np.exp(-x))


def residual(s: Steps, x: Array) -> Array:
    y = s.conv_norm(relu(s.conv_norm(x, 2, 1)), 1, 1)
    return relu(y + s.conv_norm(x, 2))


def residual_as_it_is(s: Steps, x: Array) -> Array:
    return relu(s.conv_norm(relu(s.conv_norm(x, 1, 1)), 1, 1) + x)


def residual_padded(s: Steps, x: Array) -> Array:
    y = s.conv_norm(relu(s.conv_norm(x, 2, 1)), 1, 1)
    return relu(y + np.pad(x[:, :, ::2, ::2], ((0, 0), (1, 2), (0, 0), (0, 0))))


def bottleneck(s: Steps, x: Array) -> Array:
    y = s.conv_norm(relu(s.conv_norm(relu(s.conv_norm(x)), 2, 1)))
    return relu(y + s.conv_norm(x, 2))


def bottleneck_padded(s: Steps, x: Array) -> Array:
    y = s.conv_norm(relu(s.conv_norm(relu(s.conv_norm(x)), 2, 1)))
    return relu(y + np.pad(x[:, :, ::2, ::2], ((0, 0), (2, 2), (0, 0), (0, 0))))


def inception(s: Steps, x: Array, eps: float = 1e-3) -> Array:
    narrow = relu(s.conv_norm(x, eps=eps))
    middle = relu(s.conv_norm(relu(s.conv_norm(x, eps=eps)), 1, 1, eps=eps))
    broad = relu(s.conv_norm(relu(s.conv_norm(x, eps=eps)), 1, 2, eps=eps))
    largest = pooled(lambda taps: taps.max(-1), x, (3, 3), (1, 1), ((1, 1), (1, 1)), -np.inf)
    return np.concatenate([narrow, middle, broad, relu(s.conv_norm(largest, eps=eps))], axis=1)


def squeeze_excitation(s: Steps, x: Array) -> Array:
    gate = 1 / (1 + np.exp(-s.dense(relu(s.dense(x.mean((2, 3)))))))
    return x * gate[:, :, None, None]


def mbconv(s: Steps, x: Array) -> Array:
    y = swish(s.conv_norm(x))
    y = swish(s.conv_norm(y, 1, 2, groups=y.shape[1]))
    gate = 1 / (1 + np.exp(-s.dense(swish(s.dense(y.mean((2, 3)))))))
    return x + s.conv_norm(y * gate[:, :, None, None])


def mbconv_plain(s: Steps, x: Array) -> Array:
    return s.conv_norm(swish(s.conv_norm(x, 2, 1, groups=x.shape[1])))


def separable(s: Steps, x: Array) -> Array:
    y = s.convolve(x, 1, 1, groups=x.shape[1])
    return s.convolve(y) + next(s.tensors)[:, None, None]


BLOCKS: dict[str, Callable[[Steps, Array], Array]] = {
    "conv_norm(3, 1, activation = linear)": Steps.conv_norm,
    "residual(7, 2)": residual,
    "residual(4)": residual_as_it_is,
    "residual(7, 2, projection = false)": residual_padded,
    "bottleneck(2, 2)": bottleneck,
    "bottleneck(2, 2, projection = false)": bottleneck_padded,
    "inception(1, 2, 3, 2, 2, 1)": inception,
    "inception(1, 2, 3, 2, 2, 1, eps = 0.1)": partial(inception, eps=0.1),
    "squeeze_excitation(3)": squeeze_excitation,
    "mbconv(4, 5, expansion = 2)": mbconv,
    "mbconv(5, 3, 2, expansion = 1, squeeze = 0)": mbconv_plain,
    'separable_conv2d(5, 3, padding = "same")': separable,
}


def tensors_of(graph: Graph) -> dict[str, Array]:
    """Values for parameters and states; variances are positive."""
    random = np.random.default_rng(3)
    owned = [i for i in graph.inputs if i.role in (Role.PARAMETER, Role.STATE)]
    drawn = {i.name: random.uniform(0.5, 1.5, at_batch(i.value.type.shape, 1)) for i in owned}
    return {name: values - 0.9 * name.endswith("W") for name, values in drawn.items()}


@pytest.mark.parametrize("call", BLOCKS)
def test_a_block_equals_its_steps(call: str) -> None:
    graph = applied(f"{call}(x)", {"x": IMAGES}, "layer", training=False)
    tensors = tensors_of(graph)
    steps = Steps(list(tensors.values()))
    expected = BLOCKS[call](steps, IMAGES)
    assert next(steps.tensors, None) is None
    result = evaluate(graph, {"x": IMAGES, **tensors}, 1)["result"]
    np.testing.assert_allclose(result, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("call", BLOCKS)
def test_the_gradient_of_a_block_equals_a_difference(call: str) -> None:
    graph = applied(f"{call}(x)", {"x": IMAGES}, "layer", training=True)
    tensors = tensors_of(graph)
    parameters = [i.name for i in graph.inputs if i.role is Role.PARAMETER]
    assert_gradients(graph, "result", ["x", *parameters], {"x": IMAGES, **tensors, **draws_of(graph)})


# Pools where they are not smooth


def first_largest(x: Array, dy: Array, size: int, stride: int, padding: int) -> Array:
    """Each cotangent goes to the first of the largest elements of its window."""
    dx = np.zeros_like(x)
    padded = framed(x, ((padding, padding),) * 2, constant_values=-np.inf)
    for n, c, h, w in np.ndindex(*dy.shape):
        window = padded[n, c, h * stride : h * stride + size, w * stride : w * stride + size]
        row, column = np.unravel_index(np.argmax(window), window.shape)
        dx[n, c, h * stride + row - padding, w * stride + column - padding] += dy[n, c, h, w]
    return dx


@pytest.mark.parametrize(("size", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (3, 1, 1), (2, 3, 0)])
def test_the_gradient_of_max_pool_goes_to_the_first_of_equals(size: int, stride: int, padding: int) -> None:
    graph = applied(f"max_pool({size}, {stride}, {padding})(x)", {"x": TIES})
    value = evaluate(graph, {"x": TIES}, 1)["result"]
    dy = np.random.default_rng(1).normal(size=value.shape)
    (dx,) = gradients(graph, "result", ("x",), {"x": TIES}, dy)
    np.testing.assert_allclose(dx, first_largest(TIES, dy, size, stride, padding), atol=1e-12)


def test_the_gradient_of_adaptive_max_pool_goes_to_the_first_of_equals() -> None:
    graph = applied("adaptive_max_pool([3, 2])(x)", {"x": TIES})
    dy = np.random.default_rng(1).normal(size=(2, 2, 3, 2))
    (dx,) = gradients(graph, "result", ("x",), {"x": TIES}, dy)
    windows = TIES.reshape(2, 2, 3, 2, 2, 3).swapaxes(3, 4).reshape(2, 2, 3, 2, 6)
    expected = np.where(np.arange(6) == windows.argmax(-1)[..., None], dy[..., None], 0)
    np.testing.assert_allclose(dx, expected.reshape(2, 2, 3, 2, 2, 3).swapaxes(3, 4).reshape(TIES.shape))


@pytest.mark.parametrize("call", ["max_pool(2)(x)", "avg_pool(2)(x)", "global_max_pool(x)", "global_average_pool(x)"])
def test_a_nan_shows_in_its_window_only(call: str) -> None:
    x = IMAGES.copy()
    x[1, 2, 3, 4] = np.nan
    result = evaluate(applied(call, {"x": x}), {"x": x}, 1)["result"]
    assert np.isnan(result).sum() == 1


@pytest.mark.parametrize("call", ["max_pool(3, 2, 1)(x)", "avg_pool(3, 2, 1)(x)", "avg_pool(3, 2, 1, true, false)(x)"])
@pytest.mark.parametrize("number", [1e30, -1e30, 0.0])
def test_pools_of_extreme_numbers(call: str, number: float) -> None:
    x = np.full((1, 2, 5, 5), number, np.float32)
    graph = applied(call, {"x": x}, is_double=False)
    result = evaluate(graph, {"x": x}, 1)["result"]
    (slope,) = gradients(graph, "result", ("x",), {"x": x}, np.ones_like(result))
    assert np.isfinite(slope).all()
    if "avg_pool(3, 2, 1)(" not in call:  # there, padding counts
        np.testing.assert_allclose(result, np.full_like(result, number), rtol=1e-6)


# Draws


def draws_of(graph: Graph, step: int = 0) -> dict[str, Array]:
    draws = {"seed": np.asarray(1, np.int64), "step": np.asarray(step, np.int64)}
    return {i.name: draws[i.name] for i in graph.inputs if i.name in draws}


def drawn(call: str, x: Array, training: bool, step: int = 0) -> Array:
    graph = applied(f"{call}(x)", {"x": x}, "layer", training)
    return evaluate(graph, {"x": x, **draws_of(graph, step)}, 1)["result"]


@pytest.mark.parametrize(("call", "shared"), [("spatial_dropout(0.25)", (2, 3)), ("stochastic_depth(0.25)", (1, 2, 3))])
def test_dropouts_of_channels_and_of_examples(call: str, shared: tuple[int, ...]) -> None:
    x = np.ones((400, 6, 2, 3))
    result = drawn(call, x, training=True)
    assert (np.ptp(result, axis=shared) == 0).all()
    dropped = result == 0
    assert abs(dropped.mean() - 0.25) < 0.07
    np.testing.assert_allclose(result[~dropped], 1 / 0.75)
    assert not np.array_equal(result, drawn(call, x, True, step=1))
    np.testing.assert_array_equal(drawn(call, x, training=False), x)


# Mistakes


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("conv2d(5, 9)(x)", "a window of 9 does not fit into `6`, axis 2"),
        ("conv2d(5, 3, dilation = 4, padding = 1)(x)", "a window of 3, which spans 9 with dilation 4, does not fit"),
        ("max_pool([2, 8])(x)", "a window of 8 does not fit into `7`, axis 3"),
        ("conv2d(5, [3, 3, 3])(x)", "a list of 3 values is given, but 2 are asked for"),
        ("conv2d(5, 3, [1, 2, 3])(x)", "a stride is given 3 times, for 2 axes"),
        ("conv2d(5, 3, groups = 3)(x)", "`groups` 3 does not divide both the 4 channels of the input and the 5 of"),
        ("conv2d(6, 3, groups = 4)(x)", "`groups` 4 does not divide both the 4 channels of the input and the 6 of"),
        ("conv2d(6, 3, groups = 0)(x)", "`groups` 0 does not divide"),
        ("conv1d(6, 3, groups = 4)(x[:, :, 0])", "`groups` 4 does not divide"),
        ("conv_transpose2d(6, 3, groups = 4)(x)", "`groups` 4 does not divide"),
        ("conv_transpose1d(6, 3, groups = 4)(x[:, :, 0])", "`groups` 4 does not divide"),
        ('conv2d(5, 3, padding = [6, 0], mode = "reflect")(x)', "of 6 at most 5 on a side, not 6"),
        ("conv_transpose2d(5, 3, 2, output_padding = 2)(x)", "`output_padding` is from 0 to below the stride 2, not 2"),
        ('conv_transpose2d(5, 3, 2, "same", 1)(x)', 'padding "same" decides the size'),
        ("conv_transpose2d(5, 3, 2, 7)(x)", "`padding` cuts 14 of the 13 elements of a spatial axis"),
        ("max_pool(2, padding = 2)(x)", "windows of 2 would hold nothing but padding, of which there is 2 on a side"),
        ("avg_pool(3, 2, padding = [0, [1, 3]])(x)", "windows of 3 would hold nothing but padding"),
        (
            "max_pool(2, padding = 5, dilation = 3)(x)",
            "windows of 4 would hold nothing but padding, of which there is 5",
        ),
        ("max_pool(2, padding = 1, dilation = 7)(x)", "with an axis of 6 between"),
        ("max_pool(2)(x[:, :, 0, 0])", "behind the batch and the channels, and here is none"),
        ("adaptive_max_pool(2)(x[:, :, 0, 0])", "for one, two or three axes behind the batch and the channels, not 0"),
        (
            "adaptive_average_pool(2)(x[:, :, None, None])",
            "for one, two or three axes behind the batch and the channels",
        ),
        ('upsample(2, "linear")(x[:, :, None, None])', "for one, two or three axes behind the batch and the channels"),
        ("conv_transpose1d(5, 3, 2, [[[0, 1]]])(x[:, :, 0])", "a list of 1 values is given, but 2 are asked for"),
        ("adaptive_max_pool([2, 0])(x)", "a pool gives at least 1 element along each axis, not 0"),
        ("adaptive_average_pool([2, 0])(x)", "a pool gives at least 1 element along each axis, not 0"),
        ("upsample([2, 0])(x)", "`factor` is a whole number of at least 1, not 0"),
        ('upsample(-1, "linear")(x)', "`factor` is a whole number of at least 1, not -1"),
        ("residual(2, 2, projection = false)(x)", "a shortcut only adds channels, and cannot make 2 of 4"),
        ("random_crop(padding = -1)(x)", "`padding` of `random_crop` is at least 0, not -1"),
        ('conv2d(5, 3, padding = 1, mode = "reflection")(x)', '"reflection" is none of "zeros", "reflect"'),
        ('conv2d(5, 3, padding = "full")(x)', '`padding` is "same", "valid", a whole number, or a list'),
        ('conv2d(5, 3, padding = [1, "same"])(x)', "[low, high] for each axis, not `[1, same]`"),
        ('max_pool(2, padding = "full")(x)', "for each axis, not `full`"),
        ('conv_transpose2d(5, 3, padding = "full")(x)', "for each axis, not `full`"),
        ("overlap_add(x, extent = 9)", "9 elements do not have 6 windows that span 7 and start 1 apart"),
        ("overlap_add(x, axis = [0, 1, 2, 3])", "the last axis holds the taps of windows"),
        ("windows(x, 0)", "the size of a window must be positive, not 0"),
        ("windows(x, 2, axis = [2, 2])", "is named twice"),
    ],
)
def test_messages(call: str, message: str) -> None:
    with pytest.raises(SourceError) as caught:
        applied(call, {"x": IMAGES}, "layer")
    assert message in str(caught.value)


def test_the_message_says_what_would_fit() -> None:
    with pytest.raises(SourceError) as caught:
        applied("conv2d(5, 9, dilation = 2)(x)", {"x": IMAGES}, "layer")
    assert "a size of 3 would fit, or 11 more of padding, counting both sides" in render(caught.value.diagnostics)
