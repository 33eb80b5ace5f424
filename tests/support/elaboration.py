"""Short programs elaborated and evaluated: what a rule of the language gives, and which mistakes a text holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from compiler.errors.diagnostics import Diagnostic, Source, SourceError
from compiler.evaluate import evaluate
from compiler.frontend.elaborate import check, elaborate, elaborate_function
from compiler.frontend.program import Program
from compiler.graph.ir import Graph, Role
from compiler.graph.op import Array
from compiler.syntax.modules import load_modules
from compiler.syntax.tree import Module
from compiler.types import DType, TensorType, at_batch, numpy_dtype

_DTYPES = {numpy_dtype(dtype).name: dtype for dtype in DType if dtype is not DType.BF16}


def modules(text: str) -> tuple[Module, ...]:
    return load_modules(Source("model.dl", text), None)


def program(text: str, *overrides: tuple[str, str], experiment: str | None = None) -> Program:
    return elaborate(modules(text), experiment, overrides)


def array(value: Any) -> Array:
    """Numbers as the arrays of a test: floats become f32, integers i32."""
    found = np.asarray(value)
    narrow = {"float64": np.float32, "int64": np.int32}.get(found.dtype.name)
    return found if narrow is None else found.astype(narrow)


def function_graph(text: str, name: str, *operands: Any, training: bool = False, **config: Any) -> Graph:
    types = [TensorType(_DTYPES[a.dtype.name], a.shape) for a in map(array, operands)]
    return elaborate_function(modules(text), name, config, types, training)[0]


def run(text: str, *operands: Any, name: str = "f", training: bool = False, **config: Any) -> Any:
    """The results of the function or layer `f` of a text: an array, or a tuple of them."""
    arrays = [array(operand) for operand in operands]
    types = [TensorType(_DTYPES[a.dtype.name], a.shape) for a in arrays]
    graph, specs = elaborate_function(modules(text), name, config, types, training)
    data = [entry for entry in graph.inputs if entry.role is Role.DATA]
    inputs = {entry.name: value for entry, value in zip(data, arrays, strict=True)}
    for spec in specs:
        inputs[spec.path] = started(spec.initializer)
    results = run_graph(graph, inputs)
    found = tuple(value for name, value in results.items() if name.startswith("result"))
    return found[0] if len(found) == 1 else found


def run_graph(
    graph: Graph, inputs: Mapping[str, Array], batch: int = 2, seed: int = 0, step: int = 0
) -> dict[str, Array]:
    """The outputs of a graph; settings that are not given are an error, the seed and step have defaults."""
    known = {"seed": np.array(seed, np.int64), "step": np.array(step, np.int64)}
    return evaluate(graph, {**known, **inputs}, batch)


def started(initializer: Graph, seed: int = 0) -> Array:
    """What an initialiser gives."""
    return run_graph(initializer, {}, seed=seed)["value"]


def run_program(
    found: Program, data: Mapping[str, Any], batch: int, training: bool = True, step: int = 0
) -> dict[str, Array]:
    """One evaluation of a program from its starting parameters."""
    graph = found.training_graph if training else found.inference_graph
    inputs: dict[str, Array] = {spec.path: started(spec.initializer) for spec in found.parameters}
    for setting in found.settings:
        if setting.is_runtime and isinstance(setting.value, int | float):
            inputs[setting.name] = np.array(setting.value, np.float32)
    inputs.update({name: array(value) for name, value in data.items()})
    wanted = {entry.name for entry in graph.inputs}
    for entry in graph.inputs:
        if entry.name in inputs:
            assert inputs[entry.name].shape == at_batch(entry.value.type.shape, batch)
    return run_graph(graph, {name: value for name, value in inputs.items() if name in wanted}, batch, step=step)


def mistakes(text: str, *overrides: tuple[str, str], elaborates: bool = False) -> list[Diagnostic]:
    """The errors of a text, by `check` or by elaborating its only experiment or model."""
    try:
        if elaborates or overrides:
            program(text, *overrides)
            return []
        return [found for found in check(modules(text)) if found.severity == "error"]
    except SourceError as error:
        return list(error.diagnostics)


def mistakes_of_call(text: str, *operands: Any, **config: Any) -> list[Diagnostic]:
    """The errors of applying `f` of a text."""
    try:
        function_graph(text, "f", *operands, **config)
    except SourceError as error:
        return list(error.diagnostics)
    return []


def codes(found: list[Diagnostic]) -> list[str]:
    return [diagnostic.code for diagnostic in found]


def paths(found: Program) -> list[str]:
    return [spec.path for spec in found.parameters]
