"""Graphs with options become the input of a target, a `Compilation`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from compiler.errors.diagnostics import CompilerBug
from compiler.graph.ir import Graph
from compiler.interface import Options
from compiler.targets.registry import target_of
from compiler.targets.target import Compilation

if TYPE_CHECKING:
    from compiler.machine import Machine
    from compiler.schedule.ir import Schedule

Graphs: TypeAlias = Mapping[str, tuple[Graph, Options]]  # by the names under which a target is asked for them


def compilation(graph: Callable[[], Graph], options: Options, name: str | None = None) -> Compilation:
    """A graph that is not yet optimised, and is made only where a target does not know `name`."""

    def ready() -> Graph:
        from compiler.programs.stages import prepared  # a cached program is loaded without any stage of the compiler

        return prepared(graph(), options)

    def for_rows(rows: int) -> Compilation:
        return compilation(graph, replace(options, batch=rows), None if name is None else f"{name}, for {rows} rows")

    return Compilation(name, options, ready, partial(_scheduled, options), for_rows)


def resting_compilation(graph: Callable[[], Graph], options: Options, name: str) -> Compilation:
    """The graph of a training step, not yet optimised, to be compiled for steps in which its blocks rest."""

    def ready() -> Graph:
        from compiler.programs.stages import prepared  # as above
        from compiler.programs.steps.resting import resting_step

        return resting_step(prepared(graph(), options))

    def for_rows(rows: int) -> Compilation:
        return resting_compilation(graph, replace(options, batch=rows), f"{name}, for {rows} rows")

    return Compilation(name, options, ready, partial(_scheduled, options), for_rows)


def prepared_compilation(graph: Callable[[], Graph], options: Options, name: str | None = None) -> Compilation:
    """A graph that is optimised, made only where a target does not know `name`."""

    def for_rows(rows: int) -> Compilation:
        raise CompilerBug("compilation", f"a graph was optimised for {options.batch} rows, not for {rows}")

    return Compilation(name, options, graph, partial(_scheduled, options), for_rows)


def _scheduled(options: Options, ready: Graph, machine: Machine) -> Schedule:
    from compiler.programs.stages import scheduled  # a cached program is loaded without any stage of the compiler

    return scheduled(ready, options, machine)


def compile_graphs(graphs: Graphs, workers: int | None = None, elsewhere: bool = False) -> None:
    """Compile graphs for the cache, with so many processes that generate code, by default one for each processor.

    elsewhere: for the machine of a library.
    """
    compilations = [compilation(partial(_given, graph), options, name) for name, (graph, options) in graphs.items()]
    target_of(compilations[0].options).compile_ahead(compilations, workers, elsewhere)


def _given(graph: Graph) -> Graph:
    return graph
