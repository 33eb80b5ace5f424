"""A graph as an executable of the reference target: each step is evaluated in NumPy, node by node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from compiler.evaluate import evaluate
from compiler.graph.ir import PERSISTENT, Graph, GraphOutput, Role
from compiler.interface import Array, Results, Tensors
from compiler.types import BatchExtent, Shape, TensorType, numpy_dtype


class ReferenceExecutable:
    """Runs `graph` as the protocol `Executable` says. What it gives defines what any other target must give."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def call(self, inputs: Mapping[str, Array], batch: int = 1) -> dict[str, Array]:
        """One step on whole arrays, by the names of the graph's inputs and outputs."""
        return evaluate(self.graph, inputs, batch)

    def run(
        self,
        tensors: Tensors,
        data: Mapping[str, Array],
        rows: Array,
        batch: int,
        first_step: int = 0,
        seed: int = 0,
        settings: Mapping[str, float] | None = None,
    ) -> Results:
        """Run one step for each `batch` entries of `rows`; see the protocol in `compiler.interface`."""
        steps: list[dict[str, Array]] = []
        nonfinite: list[tuple[str, int]] = []
        for step, start in enumerate(range(0, len(rows), batch), first_step):
            chosen = rows[start : start + batch]
            inputs = self.inputs_of(tensors, data, chosen, step, seed, settings or {})
            # Copies, because a result may be a view of a tensor that this step updates.
            found = {name: array.copy() for name, array in evaluate(self.graph, inputs, len(chosen)).items()}
            for output in self.graph.outputs:
                if output.value.type.dtype.is_float and not np.isfinite(found[output.name]).all():
                    nonfinite.append((output.name, step))
                if output.updates is not None:
                    tensors.write(output.updates, found[output.name])
            steps.append(found)
        return _results([o for o in self.graph.outputs if o.updates is None], steps, tuple(nonfinite))

    def inputs_of(
        self,
        tensors: Tensors,
        data: Mapping[str, Array],
        rows: Array,
        step: int,
        seed: int,
        settings: Mapping[str, float],
    ) -> dict[str, Array]:
        """What a step over `rows` of the data reads, by the names of the graph's inputs."""
        scalars = {Role.SEED: seed, Role.STEP: step}
        arrays: dict[str, Array] = {}
        for entry in self.graph.inputs:
            type_ = entry.value.type
            if entry.role in PERSISTENT:
                arrays[entry.name] = tensors[entry.name]
            elif entry.role is Role.DATA:
                arrays[entry.name] = _picked(data[entry.name], rows, type_)
            else:
                number = settings[entry.name] if entry.role is Role.SETTING else scalars[entry.role]
                arrays[entry.name] = np.array(number, numpy_dtype(type_.dtype))
        return arrays


def _batch_axis(shape: Shape) -> int | None:
    return next((axis for axis, extent in enumerate(shape) if isinstance(extent, BatchExtent)), None)


def _picked(array: Array, rows: Array, type_: TensorType) -> Array:
    """The chosen rows of `array`, whose first axis is the batch, with that axis where the type has it."""
    axis = _batch_axis(type_.shape)
    chosen = array if axis is None else np.moveaxis(_rows_of(array, rows, type_.shape[axis]), 0, axis)
    return chosen.astype(numpy_dtype(type_.dtype), copy=False)


def _rows_of(array: Array, rows: Array, extent: int | BatchExtent) -> Array:
    multiple = extent.multiple if isinstance(extent, BatchExtent) else 1
    if multiple == 1:
        return array[rows]
    grouped = array.reshape((-1, multiple, *array.shape[1:]))[rows]
    return grouped.reshape((-1, *array.shape[1:]))


def _results(
    outputs: Sequence[GraphOutput], steps: Sequence[Mapping[str, Array]], nonfinite: tuple[tuple[str, int], ...]
) -> Results:
    """Scalars of all steps; batch arrays of all steps, joined; other arrays of the last step, and of all."""
    scalars: dict[str, Array] = {}
    arrays: dict[str, Array] = {}
    stacks: dict[str, Array] = {}
    for output in outputs:
        shape, found = output.value.type.shape, [step[output.name] for step in steps]
        axis = _batch_axis(shape)
        if not shape:
            scalars[output.name] = np.array([float(array) for array in found], np.float64)
        elif not found:
            arrays[output.name] = np.zeros([e if isinstance(e, int) else 0 for e in shape])
        else:
            arrays[output.name] = found[-1] if axis is None else np.concatenate(found, axis)
            if axis is None:
                stacks[output.name] = np.stack(found)
    return Results(scalars, arrays, nonfinite, stacks)
