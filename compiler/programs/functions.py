"""A single `fn` of the language as a callable of NumPy arrays, with its gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from compiler.errors.diagnostics import Source, UsageError
from compiler.frontend.data_parts import SettingValue
from compiler.frontend.elaborate import elaborate_function, expect_function
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role, Value
from compiler.graph_passes.convert_dtype import to_dtype
from compiler.interface import Array, Options
from compiler.ops.autodiff import gradients_of
from compiler.ops.build import filled
from compiler.ops.elementwise import Add
from compiler.pipeline import prepare_for_gradients
from compiler.programs.executables import executable
from compiler.support.arrays import as_array
from compiler.support.cache import default_folder
from compiler.syntax.modules import load_modules
from compiler.syntax.tree import Module
from compiler.targets.target import LoadedProgram
from compiler.types import DType, TensorType, numpy_dtype

DTYPES = {numpy_dtype(dtype): dtype for dtype in DType if dtype is not DType.BF16}


def compiled_function(
    source: Source, name: str, config: Mapping[str, SettingValue], options: Options
) -> CompiledFunction:
    """The `fn` called `name` of a text. Raises `SourceError` for mistakes that show without tensors.

    Raises UsageError where the text and the library have no such name, or the function no such setting.
    """
    modules = load_modules(source, default_folder())
    expect_function(modules, name, config)
    return CompiledFunction(modules, name, config, options)


Kinds: TypeAlias = "tuple[tuple[np.dtype[Any], tuple[int, ...]] | None, ...]"  # of operands; None: not an array yet


class CompiledFunction:
    """Compiles once for each set of operand types that it meets."""

    def __init__(
        self, modules: tuple[Module, ...], name: str, config: Mapping[str, SettingValue], options: Options
    ) -> None:
        self._modules, self._name, self._config, self._options = modules, name, config, options
        self._forward: dict[Kinds, tuple[tuple[str, ...], tuple[str, ...], LoadedProgram]] = {}
        self._backward: dict[tuple[TensorType, ...], LoadedProgram] = {}

    def __call__(self, *arrays: Array) -> Array | tuple[Array, ...]:
        given: Sequence[Array] = arrays
        kinds = tuple([(a.dtype, a.shape) if type(a) is np.ndarray else None for a in arrays])
        if kinds not in self._forward:
            given = [self._given(a) for a in arrays]
            kinds = tuple([(a.dtype, a.shape) for a in given])
        if kinds not in self._forward:
            graph = self._graph(tuple(_type_of(a) for a in given))
            names = tuple(i.name for i in graph.inputs if i.role is Role.DATA)
            outputs = tuple(o.name for o in graph.outputs)
            self._forward[kinds] = (names, outputs, executable(graph, self._options))
        names, outputs, compiled = self._forward[kinds]
        results = compiled.call(dict(zip(names, given, strict=True)))
        return results[outputs[0]] if len(outputs) == 1 else tuple(results[name] for name in outputs)

    def gradient(self, *arrays: Array, cotangents: Sequence[Array] | Array | None = None) -> tuple[Array, ...]:
        """One gradient for each float operand, in order, weighed by `cotangents` (ones by default)."""
        given = [self._given(a) for a in arrays]
        types = tuple(_type_of(a) for a in given)
        graph = self._graph(types)
        if types not in self._backward:
            self._backward[types] = executable(gradient_graph(graph), self._options)
        named = _named(graph, given)
        named |= self._weights(graph, cotangents)
        results = self._backward[types].call(named)
        return tuple(results[name] for name in sorted(results, key=lambda n: int(n[1:])))

    def _weights(self, graph: Graph, cotangents: Sequence[Array] | Array | None) -> dict[str, Array]:
        """The cotangents by the inputs of the gradient; ones by default."""
        shapes = [tuple(e for e in output.value.type.shape if isinstance(e, int)) for output in graph.outputs]
        if cotangents is None:
            cotangents = [np.ones(shape) for shape in shapes]
        weights = (cotangents,) if isinstance(cotangents, np.ndarray) else cotangents
        if len(weights) != len(shapes):
            message = f"`{self._name}` has {len(shapes)} results, but got {len(weights)} cotangents"
            raise UsageError(message, "give a tuple with one array for each result")
        named: dict[str, Array] = {}
        for output, weight, shape in zip(graph.outputs, weights, shapes, strict=True):
            given = self._given(weight)
            if given.shape != shape:
                message = f"a cotangent of `{self._name}` is {list(given.shape)}, but its result is {list(shape)}"
                raise UsageError(message, "give an array of the shape of the result")
            if output.value.type.dtype.is_float:
                named[f"d_{output.name}"] = given
        return named

    def _graph(self, types: tuple[TensorType, ...]) -> Graph:
        is_double = self._options.dtype == "f64"
        # The text is one of f32, in which f64 then takes its place, as it does in a program.
        written = tuple(replace(t, dtype=DType.F32) if is_double and t.dtype is DType.F64 else t for t in types)
        graph, _ = elaborate_function(self._modules, self._name, self._config, written)
        owned = [i.name for i in graph.inputs if i.role in (Role.PARAMETER, Role.STATE)]
        if owned:
            message = f"`{self._name}` owns {', '.join(f'`{name}`' for name in owned)}, for which a call has no values"
            raise UsageError(message, "apply it in a model, or write a `fn` that takes them as tensors")
        return to_dtype(graph, DType.F64) if is_double else graph

    def _given(self, array: Array) -> Array:
        array = as_array(array)
        if array.size == 0:
            message = f"`{self._name}` is given an array without elements, {list(array.shape)}"
            raise UsageError(message, "give arrays with at least one element")
        if array.dtype.kind == "f" and array.dtype != np.float16:
            return array.astype(np.float64 if self._options.dtype == "f64" else np.float32, copy=False)
        if array.dtype not in DTYPES:
            raise UsageError(f"arrays of {array.dtype} cannot be passed to `{self._name}`", "cast it to f32 or i32")
        return array


def gradient_graph(graph: Graph) -> Graph:
    """Inputs: those of `graph` and `d_NAME` for each float result. Outputs: `g0`, `g1`, … for the float inputs."""
    builder = GraphBuilder(f"gradient of {graph.name}")
    graph = prepare_for_gradients(graph)  # so that naive formulas are differentiated in their stable form
    inputs = [builder.input(i.name, i.role, i.value.type) for i in graph.inputs]
    results = builder.inline(graph, inputs)
    wanted = [v for v in inputs if v.type.dtype.is_float]
    totals: list[Value | None] = [None] * len(wanted)
    for output in graph.outputs:
        value = results[output.name]
        if not value.type.dtype.is_float:
            continue  # no derivative leads through it
        seed = builder.input(f"d_{output.name}", Role.DATA, value.type.of_slope)
        found = gradients_of(builder, tuple(builder.nodes), value, wanted, seed)
        for k, gradient in enumerate(found):
            total = totals[k]
            if gradient is not None:
                totals[k] = gradient if total is None else builder.emit(Add(), total, gradient)
    for k, (value, total) in enumerate(zip(wanted, totals, strict=True)):
        builder.output(f"g{k}", Role.OUTPUT, filled(builder, 0.0, value.type.of_slope) if total is None else total)
    return builder.build()


def _named(graph: Graph, arrays: Sequence[Array]) -> dict[str, Array]:
    data = [i for i in graph.inputs if i.role is Role.DATA]
    return {i.name: a for i, a in zip(data, arrays, strict=True)}


def _type_of(array: Array) -> TensorType:
    return TensorType(DTYPES[array.dtype], array.shape)
