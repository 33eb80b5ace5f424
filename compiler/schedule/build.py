"""A graph becomes a schedule: groups are fused, lowered, ordered and separated by barriers, and memory is planned."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial

from compiler.graph.ir import Graph
from compiler.machine import GENERIC, Machine
from compiler.schedule.fusion.fuse import fuse
from compiler.schedule.fusion.ir import FusedGraph
from compiler.schedule.fusion.passes import optimise_fused
from compiler.schedule.ir import Schedule
from compiler.schedule.kernels import kernels_of
from compiler.schedule.memory.rematerialise import rematerialise
from compiler.schedule.numerics.fix_numerics import fix_numerics
from compiler.schedule.order.instances import instances_of
from compiler.schedule.passes import optimise_schedule


def schedule(
    graph: Graph,
    without: Collection[str] = (),
    batch: int = 32,
    verify: bool = False,
    machine: Machine = GENERIC,
    before_each: Callable[[], None] = lambda: None,
) -> Schedule:
    """The schedule of an optimised graph, `without` some of the fusions, as `machine` prefers.

    `batch` is the nominal size, for deciding what is worth two threads. With `verify`, the fused graph is checked after
    each pass. `before_each` stage may raise an error to end the work.
    """
    fused = fused_graph(graph, without, batch, verify, machine, before_each)
    before_each()
    kernels = kernels_of(fused)
    before_each()
    return optimise_schedule(instances_of(kernels), without)


def fused_graph(
    graph: Graph,
    without: Collection[str],
    batch: int,
    verify: bool = False,
    machine: Machine = GENERIC,
    before_each: Callable[[], None] = lambda: None,
) -> FusedGraph:
    """The fused graph of an optimised graph after all passes; `before_each` as in `schedule`."""
    before_each()
    ready = fixed(graph, without, batch, machine)
    before_each()
    fused = fuse(ready, without, batch, machine)
    before_each()
    return optimise_fused(fused, without, verify)


def fixed(graph: Graph, without: Collection[str], batch: int, machine: Machine = GENERIC) -> Graph:
    """The optimised graph in the form of which kernels are made: the order of every sum and product is fixed."""
    for graph_pass in fixing(without, batch, machine).values():
        graph = graph_pass(graph)
    return graph


def fixing(without: Collection[str], batch: int, machine: Machine = GENERIC) -> Mapping[str, Callable[[Graph], Graph]]:
    """The passes of `fixed`, in order, by name."""
    name, passes = rematerialise.__name__, {fix_numerics.__name__: fix_numerics}
    weighing = partial(rematerialise, batch=batch, tuning=machine.tuning)
    return passes if name in without else {**passes, name: weighing}
