"""Loops as kernels whose blocks all run at once, as far as the device allows it; else they are unrolled."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from compiler.targets.gpu.driver import CudaError
from compiler.targets.gpu.hardware import Gpu, Held
from compiler.targets.gpu.step_graph import Node, StepGraph
from compiler.targets.manifest import Manifest

NodesOfStep: TypeAlias = "Callable[[Mapping[str, int]], Sequence[Node]]"
_REFUSALS = (720, 801)  # too many blocks for the device; not supported


class Loops:
    """The kernels of a program's loops: `fitting` has, by symbol, how many blocks run at once. It is empty where the
    device refuses them, which is told once."""

    def __init__(self, gpu: Gpu, manifest: Manifest, functions: Mapping[str, int]) -> None:
        symbols = [kernel.symbol for kernel in manifest.loop_kernels]
        self.fitting: dict[str, int] = {}
        if symbols and not gpu.is_cooperative:
            self.refuse("it cannot run all blocks of a kernel at once")
        elif symbols:
            found = {symbol: gpu.fitting_blocks(functions[symbol]) for symbol in symbols}
            self.fitting = {symbol: blocks for symbol, blocks in found.items() if blocks}
            if len(self.fitting) < len(found):
                self.refuse("it has no room for their kernels")

    def refuse(self, reason: str) -> None:
        """Unroll loops from now on."""
        self.fitting = {}
        if reason not in _told:
            _told.add(reason)
            said = "note: the GPU runs each step of a loop by itself, with the same results: %s"
            logging.getLogger(__name__).warning(said, reason)


_told: set[str] = set()


class GraphWithLoops:
    """A step; `nodes` gives it with loops as the kernels of a table, or unrolled for an empty one."""

    def __init__(self, gpu: Gpu, nodes: NodesOfStep, functions: Mapping[str, int], loops: Loops) -> None:
        self._gpu, self._nodes, self._functions, self._loops = gpu, nodes, functions, loops
        self._graph, self._has_loops = self._made()

    def _made(self) -> tuple[StepGraph, bool]:
        if self._loops.fitting:
            try:
                return StepGraph(self._gpu, self._nodes(self._loops.fitting), self._functions), True
            except CudaError as error:
                self._expect_refusal(error)
        return StepGraph(self._gpu, self._nodes({}), self._functions), False

    def _expect_refusal(self, error: CudaError) -> None:
        if error.code not in _REFUSALS:
            raise error
        self._loops.refuse(str(error))

    def launch(self, stream: Held) -> None:
        """Begin to run the step once, behind what the stream was given before."""
        try:
            self._graph.launch(stream)
        except CudaError as error:
            if not self._has_loops or not self._graph.is_one:
                raise
            self._expect_refusal(error)
            self._graph.close()
            self._graph, self._has_loops = self._made()
            self._graph.launch(stream)

    def close(self) -> None:
        self._graph.close()
