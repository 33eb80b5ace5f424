"""A program of pairs of rows, which have places for so many: steps of more rows get one with more places."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from compiler.interface import Results, Steps
from compiler.support.arrays import Array
from compiler.targets.manifest import Manifest, TensorSpec
from compiler.targets.target import LoadedProgram


class _WithManifest(LoadedProgram, Protocol):
    @property
    def manifest(self) -> Manifest: ...


class GrowingExecutable:
    """Runs `first` while its places suffice, and what `larger` makes for so many rows where they do not."""

    def __init__(self, first: _WithManifest, larger: Callable[[int], LoadedProgram]) -> None:
        self._current: LoadedProgram = first
        self._most = first.manifest.most_rows
        self._larger = larger
        self.manifest: Manifest = first.manifest

    @property
    def tensors(self) -> Sequence[TensorSpec]:
        return self._current.tensors

    @property
    def threads(self) -> int:
        return self._current.threads

    def run(self, steps: Steps) -> Results:
        return self._with(min(steps.batch, len(steps.rows))).run(steps)

    def call(self, inputs: Mapping[str, Array], batch: int = 1, *, seed: int = 0) -> dict[str, Array]:
        return self._with(batch).call(inputs, batch, seed=seed)

    def _with(self, rows: int) -> LoadedProgram:
        """The program with places for so many rows; it has the bits of the one before."""
        if rows > self._most:
            self._current, self._most = self._larger(rows), rows
        return self._current
