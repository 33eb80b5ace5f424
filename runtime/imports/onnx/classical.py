"""Operators of ONNX's domain for classical machine learning, as scikit-learn has them, written with its usual ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from runtime.imports.onnx.examine import Examiner


def _scaler(examiner: Examiner, proto: Any, opsets: Mapping[str, int]) -> None:
    """`(x - offset) * scale`."""
    make: Any = examiner.onnx.helper.make_node
    given = {one.name: np.array(one.floats, np.float32) for one in proto.attribute}
    offset, scale, middle = (f"{proto.output[0]} {word}" for word in ("offset", "scale", "centred"))
    examiner.constant(offset, given.get("offset", np.zeros(1, np.float32)), is_weight=False)
    examiner.constant(scale, given.get("scale", np.ones(1, np.float32)), is_weight=False)
    nodes = [
        make("Sub", [proto.input[0], offset], [middle], name=proto.name),
        make("Mul", [middle, scale], [proto.output[0]], name=proto.name),
    ]
    examiner.visit(nodes, opsets)


def _features(examiner: Examiner, proto: Any, opsets: Mapping[str, int]) -> None:
    """Elements of the last axis by their indices; those of a vector are a matrix of one row."""
    make: Any = examiner.onnx.helper.make_node
    data, index = proto.input
    flat, line, row, taken = (f"{proto.output[0]} {word}" for word in ("indices", "line", "row", "taken"))
    examiner.constant(line, np.array([-1]), is_weight=False)
    examiner.constant(row, np.array([1, -1]), is_weight=False)
    single = examiner.values[data].rank == 1
    made = taken if single else proto.output[0]
    nodes = [
        make("Reshape", [index, line], [flat], name=proto.name),
        make("Gather", [data, flat], [made], axis=-1, name=proto.name),
    ]
    nodes += [make("Reshape", [taken, row], [proto.output[0]], name=proto.name)] if single else []
    examiner.visit(nodes, opsets)


CLASSICAL_DOMAIN = "ai.onnx.ml"
CLASSICAL: Mapping[str, Callable[[Examiner, Any, Mapping[str, int]], None]] = {
    "Scaler": _scaler,
    "ArrayFeatureExtractor": _features,
}
