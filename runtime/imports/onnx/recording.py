"""Recorded inputs of an ONNX model and its own outputs, and how far an imported program is from them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from compiler.errors.diagnostics import DataError
from compiler.support.record import record
from runtime.imports.onnx.graph import Tensor
from runtime.imports.onnx.model_file import evaluated

_SEED = 7


@record
class Drawn:
    """An input to draw: whole numbers below `most` where they choose rows of a table."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    most: int | None


def drawn_inputs(wanted: Sequence[Drawn]) -> dict[str, Tensor]:
    """Numbers for each input, the same in every import. Of a mask, a part is seen: in each row some of it, not all."""
    random = np.random.default_rng(_SEED)
    found: dict[str, Tensor] = {}
    for one in wanted:
        if one.dtype == "bool":
            found[one.name] = _mask(random, one.shape, first=False)
            found[one.name][..., -1:] = True
        elif one.dtype.startswith("float"):
            found[one.name] = random.standard_normal(one.shape).astype(one.dtype)
        elif one.most is None:
            found[one.name] = _mask(random, one.shape, first=True).astype(one.dtype)
        else:
            found[one.name] = random.integers(0, one.most, one.shape).astype(one.dtype)
    return found


def _mask(random: np.random.Generator, shape: tuple[int, ...], first: bool) -> Tensor:
    """Booleans that differ along the last axis, which begins with `first`; all are true where there is one axis."""
    if len(shape) < 2:
        return np.ones(shape, bool)
    found = random.random(shape) < 0.6
    found[..., :1] = first
    return found


def own_results(model: Any, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The outputs of the ONNX model, by ONNX Runtime where it has them, or else by the evaluator of `onnx`."""
    names = [output.name for output in model.graph.output]
    reason = ""
    for run in (_by_runtime(model), _by_evaluator(model)):
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                found = None if run is None else run(inputs)
        except Exception as error:  # either of them raises errors of its own kinds
            reason = reason or str(error).strip().splitlines()[0][:200]
            continue
        if found is not None:
            return dict(zip(names, map(np.asarray, found), strict=True))
    raise DataError(f"the ONNX model does not run on recorded inputs: {reason}", fix="give real ones by --sample")


def _by_runtime(model: Any) -> Callable[[Mapping[str, Tensor]], Sequence[Any]] | None:
    try:
        onnxruntime: Any = import_module("onnxruntime")  # of the extra `test`
    except ImportError:
        return None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:  # an operator or opset that this version does not know
        return None
    return lambda inputs: session.run(None, dict(inputs))


def _by_evaluator(model: Any) -> Callable[[Mapping[str, Tensor]], Sequence[Any]]:
    return lambda inputs: evaluated(model, None, inputs)


def distance(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> float:
    """The largest |a - b| / (1 + |b|) over all outputs; infinite for other shapes and types, or one NaN."""
    most = 0.0
    for name, want in wanted.items():
        got = found.get(name)
        if got is None or got.shape != want.shape or got.dtype != want.dtype:
            return float("inf")
        if want.size == 0:
            continue
        with np.errstate(all="ignore"):
            a, b = got.astype(np.float64), want.astype(np.float64)
            apart = np.abs(a - b) / (1 + np.abs(b))
            apart = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, apart)
        worst = float(np.max(apart))
        most = max(most, float("inf") if np.isnan(worst) else worst)
    return most
