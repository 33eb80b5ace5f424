"""Types of results that ONNX's inference leaves open, from operands that are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from runtime.imports.onnx.graph import Value

_Type: TypeAlias = tuple[str, tuple[int, ...]]
_Operands: TypeAlias = Sequence[Value | None]

# Operators whose first operand decides how many elements there are.
COUNTING = frozenset({"NonZero", "Unique"})


def shape_of_result(op: str, operands: _Operands, attributes: Mapping[str, Any], point: int) -> _Type | None:
    """Element type and shape at a point of the free sizes; None where they depend on data."""
    rule = RESULT_SHAPES.get(op)
    return None if rule is None else rule(operands, attributes, point)


def _compressed(operands: _Operands, attributes: Mapping[str, Any], point: int) -> _Type | None:
    """`Compress` by a condition that is known."""
    value, condition = operands[0], operands[1]
    if value is None or condition is None or condition.constant is None:
        return None
    shape, count, axis = list(value.shapes[point]), int(condition.constant.sum()), attributes.get("axis")
    if axis is None:
        return value.dtype, (count,)
    shape[axis] = count
    return value.dtype, tuple(shape)


def _same(operands: _Operands, attributes: Mapping[str, Any], point: int) -> _Type | None:
    del attributes
    value = operands[0]
    return None if value is None else (value.dtype, value.shapes[point])


def _boxes(operands: _Operands, attributes: Mapping[str, Any], point: int) -> _Type | None:
    """`NonMaxSuppression` that chooses as many boxes as it may."""
    del attributes
    scores, most = operands[1], operands[2] if len(operands) > 2 else None
    if scores is None or most is None or most.constant is None:
        return None
    rows, classes, boxes = scores.shapes[point]
    return "int64", (rows * classes * min(int(most.constant.reshape(-1)[0]), boxes), 3)


def _unpooled(operands: _Operands, attributes: Mapping[str, Any], point: int) -> _Type | None:
    """`MaxUnpool` into a shape that is given, or that of its windows."""
    value, target = operands[0], operands[2] if len(operands) > 2 else None
    if value is None or (target is not None and target.contents is None):
        return None
    if target is not None and target.contents is not None:
        return value.dtype, tuple(int(extent) for extent in target.contents[point])
    kernel = attributes["kernel_shape"]
    n = len(kernel)
    stride, edges = attributes.get("strides") or [1] * n, attributes.get("pads") or [0] * (2 * n)
    shape = value.shapes[point]
    widths = ((shape[d + 2] - 1) * stride[d] + kernel[d] - edges[d] - edges[d + n] for d in range(n))
    return value.dtype, (*shape[:2], *widths)


def _spectrum(operands: _Operands, attributes: Mapping[str, Any], point: int) -> _Type | None:
    """`STFT` of windows of a known length."""
    signal, step, window, length = (*operands, None, None)[:4]
    if signal is None or step is None or step.constant is None:
        return None
    size = window.shapes[point][0] if window is not None else signal.shapes[point][1]
    if length is not None:
        if length.constant is None:
            return None
        size = int(length.constant.reshape(-1)[0])
    rows, time, _ = signal.shapes[point]
    frames = (time - size) // int(step.constant.reshape(-1)[0]) + 1
    return signal.dtype, (rows, frames, size // 2 + 1 if attributes.get("onesided", 1) else size, 2)


RESULT_SHAPES: Mapping[str, Callable[[_Operands, Mapping[str, Any], int], _Type | None]] = {
    "Compress": _compressed,
    "GroupNormalization": _same,
    "NonMaxSuppression": _boxes,
    "MaxUnpool": _unpooled,
    "STFT": _spectrum,
}
