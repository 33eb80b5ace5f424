"""NumPy as a target: graphs are evaluated as they are."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.interface import Options, Tensors
from compiler.targets.manifest import TensorSpec
from compiler.targets.memory import allocated
from compiler.targets.reference.executable import ReferenceExecutable
from compiler.targets.target import Compilation


class ReferenceTarget:
    """See `compiler.targets.target.Target`."""

    def load(self, compilation: Compilation) -> ReferenceExecutable:
        return ReferenceExecutable(compilation.prepared())

    def missing(self, names: Sequence[str], options: Options) -> list[str]:
        return []

    def compile_ahead(self, compilations: Sequence[Compilation], workers: int | None = None) -> None:
        pass

    def bytes_of_step(self, name: str, options: Options) -> int | None:
        return None

    def allocate(self, specs: Sequence[TensorSpec], beside: Tensors | None = None) -> Tensors:
        return allocated(specs, beside)
