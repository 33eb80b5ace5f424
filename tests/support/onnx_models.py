"""ONNX models run by ONNX Runtime, beside the results that they should have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import onnxruntime
from onnx import ModelProto, checker

Array: TypeAlias = np.ndarray[Any, Any]
CLOSE = 1e-5
"""The largest difference, relative to the largest magnitude of what is compared, or to 1 where that is smaller."""


def session_of(content: bytes) -> onnxruntime.InferenceSession:
    """A session of a whole file, which is checked first."""
    checker.check_model(content, full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def outputs_of(model: ModelProto | bytes, given: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs of a model by their names; inputs that it does not have are left out."""
    return run(session_of(model if isinstance(model, bytes) else model.SerializeToString()), given)


def run(session: onnxruntime.InferenceSession, given: Mapping[str, Array]) -> dict[str, Array]:
    known = {entry.name for entry in (*session.get_inputs(), *session.get_overridable_initializers())}
    names = [entry.name for entry in session.get_outputs()]
    found = session.run(names, {name: array for name, array in given.items() if name in known})
    return dict(zip(names, map(np.asarray, found), strict=True))


def difference(found: Array, expected: Array) -> float:
    """The largest one, relative as in `CLOSE`; infinite where shapes, types, NaNs or infinities differ."""
    expected = np.asarray(expected)
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return np.inf
    if expected.dtype.kind != "f":
        return 0.0 if np.array_equal(found, expected) else np.inf
    finite = np.isfinite(expected)
    if not np.array_equal(found[~finite], expected[~finite], equal_nan=True) or not np.isfinite(found[finite]).all():
        return np.inf
    if not finite.any():
        return 0.0
    scale = max(1.0, float(np.abs(expected[finite]).max()))
    return float(np.abs(found[finite].astype(np.float64) - expected[finite]).max()) / scale
