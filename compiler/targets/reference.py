"""NumPy as a target: graphs are evaluated as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from compiler.evaluate import evaluate, inputs_of
from compiler.graph.ir import PERSISTENT, Graph, GraphOutput, Role
from compiler.interface import Array, Options, Results, Steps, Tensors
from compiler.targets.manifest import TensorSpec
from compiler.targets.memory import allocated
from compiler.targets.target import Compilation
from compiler.types import at_batch, batch_axis, numpy_dtype


class ReferenceExecutable:
    """Runs `graph` as the protocol `Executable` says. Its results define those of any other target."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    @property
    def tensors(self) -> Sequence[TensorSpec]:
        kept = (i for i in self.graph.inputs if i.role in PERSISTENT)
        return [TensorSpec(i.name, i.role, i.value.type.dtype, at_batch(i.value.type.shape, 1)) for i in kept]

    @property
    def threads(self) -> int:
        return 1

    def call(self, inputs: Mapping[str, Array], batch: int = 1, *, seed: int = 0) -> dict[str, Array]:
        seeds = {
            i.name: np.array(seed, numpy_dtype(i.value.type.dtype)) for i in self.graph.inputs if i.role is Role.SEED
        }
        return evaluate(self.graph, {**seeds, **inputs}, batch)

    def run(self, steps: Steps) -> Results:
        made: list[dict[str, Array]] = []
        nonfinite: list[tuple[str, int]] = []
        for one in steps.each():
            inputs = inputs_of(self.graph, one)
            # Copies, because a result may be a view of a tensor that this step updates.
            found = {name: array.copy() for name, array in evaluate(self.graph, inputs, len(one.rows)).items()}
            for output in self.graph.outputs:
                if output.value.type.dtype.is_float and not np.isfinite(found[output.name]).all():
                    nonfinite.append((output.name, one.first_step))
                if output.updates is not None:
                    steps.tensors.write(output.updates, found[output.name])
            made.append(found)
        return _results([o for o in self.graph.outputs if o.updates is None], made, tuple(nonfinite))


def _results(
    outputs: Sequence[GraphOutput], steps: Sequence[Mapping[str, Array]], nonfinite: tuple[tuple[str, int], ...]
) -> Results:
    """Scalars of all steps; batch arrays of all steps, joined; other arrays of the last step, and of all."""
    scalars: dict[str, Array] = {}
    arrays: dict[str, Array] = {}
    stacks: dict[str, Array] = {}
    for output in outputs:
        shape, found = output.value.type.shape, [step[output.name] for step in steps]
        axis = batch_axis(shape)
        if not shape:
            scalars[output.name] = np.array([float(array) for array in found], np.float64)
        elif not found:
            arrays[output.name] = np.zeros([e if isinstance(e, int) else 0 for e in shape])
        else:
            arrays[output.name] = found[-1] if axis is None else np.concatenate(found, axis)
            if axis is None:
                stacks[output.name] = np.stack(found)
    return Results(scalars, arrays, nonfinite, stacks)


class ReferenceTarget:
    """See `compiler.targets.target.Target`."""

    def load(self, compilation: Compilation) -> ReferenceExecutable:
        return ReferenceExecutable(compilation.prepared())

    def missing(self, names: Sequence[str], options: Options, elsewhere: bool = False) -> list[str]:
        return []

    def compile_ahead(
        self, compilations: Sequence[Compilation], workers: int | None = None, elsewhere: bool = False
    ) -> None:
        pass

    def bytes_of_step(self, name: str, options: Options) -> int | None:
        return None

    def expect_products(self, options: Options, runs: bool = True) -> None:
        pass

    def allocate(self, specs: Sequence[TensorSpec], beside: Tensors | None = None) -> Tensors:
        return allocated(specs, beside)
