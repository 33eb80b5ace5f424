"""Batch norm with the statistics of training, from what is left of it where its constants were folded."""

from __future__ import annotations

import numpy as np

from runtime.imports.onnx.graph import Graph, Node, Tensor
from runtime.imports.onnx.passes.matching import View, each

_EPSILONS = (1e-5, 1e-3, 1e-6, 1e-4, 1e-2, 1e-7, 1e-8, 1e-12)  # those of frameworks, the most usual one first
_ROUNDING = 4e-7


def recognise_batch_norms(graph: Graph) -> Graph:
    """`(x - mean) * scale + beta`, where scale was folded from `gamma / sqrt(variance + epsilon)`, is a batch norm."""
    return each(graph, ("Add",), _batch_norm)


def _batch_norm(view: View, node: Node) -> bool:
    for i in (0, 1):
        product = view.inner(node.inputs[i], "Mul")
        if product is None:
            continue
        for j in (0, 1):
            centred = view.inner(product.inputs[j], "Sub")
            if centred is None:
                continue
            constants = (product.inputs[1 - j], node.inputs[1 - i], centred.inputs[1])
            found = _statistics(view, centred.inputs[0], *constants)
            if found is not None:
                inputs, eps = found
                settings = {"epsilon": eps}
                made = Node("BatchNormalization", inputs, node.outputs, settings, node.place, 15)
                view.replace(node, made, [product, centred])
                return True
    return False


def _statistics(view: View, x: str, scale: str, beta: str, mean: str) -> tuple[tuple[str, ...], float] | None:
    """The operands of the norm, and epsilon."""
    values = view.graph.values
    origins = values[scale].weight
    if values[x].rank < 2 or values[x].contents is not None or len(origins) != 2:
        return None
    gamma, variance = origins
    names = (gamma, beta, mean, variance)
    channels = values[x].shapes[0][1]
    if not all(_is_of_channels(view, name, x, channels) for name in (scale, beta, mean)):
        return None
    held = [vector for name in names if (vector := _vector(view, name)) is not None and vector.shape == (channels,)]
    if len(held) != len(names):
        return None
    factor = values[scale].constant
    assert factor is not None
    eps = _epsilon(held[0], held[3], factor.reshape(-1))
    if eps is None:
        return None
    originals = [values[name].weight[0] if len(values[name].weight) == 1 else "" for name in (beta, mean)]
    if not all(one in values and values[one].constant is not None for one in originals):
        return None
    return (x, gamma, *originals, variance), eps


def _is_of_channels(view: View, name: str, x: str, channels: int) -> bool:
    """Whether a constant has one number for each channel of x, along the axis of channels."""
    content, rank = view.graph.values[name].constant, view.graph.values[x].rank
    if content is None or content.dtype.kind != "f" or content.size != channels or content.ndim > rank:
        return False
    return (1,) * (rank - content.ndim) + content.shape == (1, channels, *(1,) * (rank - 2))


def _vector(view: View, name: str) -> Tensor | None:
    value = view.graph.values.get(name)
    return None if value is None or value.constant is None else value.constant.reshape(-1)


def _epsilon(gamma: Tensor, variance: Tensor, scale: Tensor) -> float | None:
    """The epsilon with which the scale is that of the norm, within rounding; None where none is."""
    if (variance < 0).any():
        return None
    for eps in _EPSILONS:
        wanted = gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + eps)
        if np.allclose(scale, wanted, rtol=_ROUNDING, atol=0):
            return eps
    return None
