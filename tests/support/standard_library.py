"""The standard library as the tests see it: its declarations, its functions as graphs, and programs that use it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from compiler.errors.diagnostics import Source
from compiler.frontend.elaborate import elaborate, elaborate_function
from compiler.frontend.library import library_modules
from compiler.frontend.program import Program, TrainingPlan
from compiler.graph.ir import Graph
from compiler.graph_passes.convert_dtype import to_dtype
from compiler.syntax import tree
from compiler.syntax.modules import load_modules
from compiler.types import BatchExtent, DType, TensorType

Array: TypeAlias = np.ndarray[Any, Any]

_OWN_KIND = {
    "<prelude>/clips.dl": "clip",
    "<prelude>/penalties.dl": "penalty",
    "<prelude>/sampling.dl": "way of sampling",
}


def declared() -> set[tuple[str, str]]:
    """(kind, name) of everything that the library declares but constants."""
    return {
        (_OWN_KIND.get(module.source.name, declaration.keyword), declaration.name)
        for module in library_modules()
        for declaration in module.declarations
        if isinstance(declaration, tree.Callable)
    }


def applied(
    call: str,
    operands: Mapping[str, Array],
    keyword: str = "fn",
    training: bool = False,
    is_double: bool = True,
    declarations: str = "",
    in_batches: bool = False,
) -> Graph:
    """The graph of an expression over operands, in f64 or f32, with the output `result`. Layers need `layer`.

    `in_batches`, the first axis of each operand is the batch.
    """
    source = Source("case.dl", f"{declarations}{keyword} case({', '.join(operands)}) = {call}\n")
    rows = (BatchExtent(),) if in_batches else ()
    types = [TensorType(_element_type(a), (*rows, *a.shape[len(rows) :])) for a in operands.values()]
    graph, _ = elaborate_function(load_modules(source, None), "case", {}, types, training)
    return to_dtype(graph, DType.F64) if is_double else graph


def _element_type(array: Array) -> DType:
    """Floats are elaborated as f32, as in a program; the graph turns into f64 afterwards."""
    names = {"float64": "f32", "float32": "f32", "int32": "i32", "int64": "i64", "uint8": "u8", "bool": "bool"}
    return DType(names[array.dtype.name])


def trained(**entries: str) -> Program:
    """A program with a single matrix `y.dense.W` [4, 3] as parameter, trained with further entries of `train`."""
    entries = {"optimizer": "gradient_descent(lr = 0.5)"} | entries
    lines = "".join(f"    {key} = {value}\n" for key, value in entries.items())
    text = (
        "model M {\n    input x: f32[batch, 4]\n    output y = x |> dense(3, bias = false)\n}\n\n"
        f"train M {{\n    target z: f32[batch, 3]\n    loss = mse(y, z)\n    batch = 2\n{lines}}}\n"
    )
    return elaborate(load_modules(Source("trained.dl", text), None))


def plan_of(program: Program) -> TrainingPlan:
    assert program.plan is not None
    return program.plan


def initial(call: str, shape: tuple[int, ...]) -> Graph:
    """The graph from `seed` to `value`, in f32, of an initialiser for a parameter of this shape."""
    dimensions = ", ".join(map(str, shape))
    text = (
        f"layer held(x) {{\n    param W: [{dimensions}] = {call}\n    return x * sum(W)\n}}\n\n"
        "model M {\n    input x: f32[batch, 1]\n    output y = x |> held\n}\n"
    )
    (parameter,) = elaborate(load_modules(Source("held.dl", text), None)).parameters
    return parameter.initializer
