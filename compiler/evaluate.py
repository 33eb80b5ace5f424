"""A graph and arrays in, arrays out: each node by its NumPy meaning, in order. This defines the meaning of a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from compiler.errors.diagnostics import CompilerBug
from compiler.graph.ir import PERSISTENT, Graph, Node, Role, Value
from compiler.graph.op import Array
from compiler.interface import Steps
from compiler.ops.rules import round_to_bf16
from compiler.types import BatchExtent, DType, TensorType, at_batch, batch_axis, numpy_dtype


def evaluate(graph: Graph, inputs: Mapping[str, Array], batch: int) -> dict[str, Array]:
    """The outputs by name. `inputs` must hold each input that is used, in its type's shape for `batch` rows."""
    values: dict[int, Array] = {}
    last_uses = _last_uses(graph)
    for entry in graph.inputs:
        if entry.name in inputs:
            values[entry.value.index] = _checked(entry.name, entry.value, inputs[entry.name], batch)
        elif entry.value.index in last_uses:
            raise CompilerBug("evaluate", f"the input {entry.name} is missing")
    for position, node in enumerate(graph.nodes):
        operands = [values[operand.index] for operand in node.operands]
        for result, array in zip(node.results, evaluate_node(node, operands, batch), strict=True):
            values[result.index] = array
        for value in (*node.operands, *node.results):
            if last_uses.get(value.index, position) == position:
                values.pop(value.index, None)
    return {output.name: values[output.value.index] for output in graph.outputs}


def inputs_at(
    graph: Graph, tensors: Mapping[str, Array], seed: int, settings: Mapping[str, float] | None = None
) -> dict[str, Array]:
    """The inputs of a graph in its element types: of the first step, from tensors and settings by their names."""
    known: dict[str, Array] = {**tensors, "seed": np.array(seed), "step": np.array(0)}
    known.update({name: np.asarray(value) for name, value in (settings or {}).items()})
    return {i.name: known[i.name].astype(numpy_dtype(i.value.type.dtype)) for i in graph.inputs}


def first_value(initializer: Graph, seed: int) -> Array:
    """The value with which a parameter starts."""
    return evaluate(initializer, {i.name: np.array(seed, np.int64) for i in initializer.inputs}, 1)["value"]


def evaluate_node(node: Node, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
    """The results of one node; those of type bf16 are rounded to it."""
    with np.errstate(all="ignore"):
        arrays = node.op.evaluate(operands, batch)
    pairs = zip(node.results, arrays, strict=True)
    return tuple(round_to_bf16(a) if result.type.dtype is DType.BF16 else a for result, a in pairs)


def inputs_of(graph: Graph, step: Steps) -> dict[str, Array]:
    """The values that a single step reads, by the names of the graph's inputs."""
    scalars = {Role.SEED: step.seed, Role.STEP: step.first_step}
    arrays: dict[str, Array] = {}
    for entry in graph.inputs:
        type_ = entry.value.type
        if entry.role in PERSISTENT:
            arrays[entry.name] = step.tensors[entry.name]
        elif entry.role is Role.DATA:
            arrays[entry.name] = _picked(step.data[entry.name], step.rows, type_)
        else:
            number = step.settings[entry.name] if entry.role is Role.SETTING else scalars[entry.role]
            arrays[entry.name] = np.array(number, numpy_dtype(type_.dtype))
    return arrays


def _picked(array: Array, rows: Array, type_: TensorType) -> Array:
    """The chosen rows of `array`, whose first axis is the batch, with that axis where the type has it."""
    axis = batch_axis(type_.shape)
    chosen = array if axis is None else np.moveaxis(_rows_of(array, rows, type_.shape[axis]), 0, axis)
    return chosen.astype(numpy_dtype(type_.dtype), copy=False)


def _rows_of(array: Array, rows: Array, extent: int | BatchExtent) -> Array:
    multiple = extent.multiple if isinstance(extent, BatchExtent) else 1
    if multiple == 1:
        return array[rows]
    grouped = array.reshape((-1, multiple, *array.shape[1:]))[rows]
    return grouped.reshape((-1, *array.shape[1:]))


def _last_uses(graph: Graph) -> dict[int, int]:
    """For each used value, the position of the last node that reads it; past the end for an output."""
    uses = {operand.index: position for position, node in enumerate(graph.nodes) for operand in node.operands}
    uses.update((output.value.index, len(graph.nodes)) for output in graph.outputs)
    return uses


def _checked(name: str, value: Value, array: Array, batch: int) -> Array:
    shape, dtype = at_batch(value.type.shape, batch), numpy_dtype(value.type.dtype)
    if array.shape != shape or array.dtype != dtype:
        found = f"{array.dtype}{list(array.shape)}"
        raise CompilerBug("evaluate", f"input {name} is {found}, not {value.type} with {batch} rows")
    return array
