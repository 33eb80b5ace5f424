"""A program to its schedule: the stages that a program whose compiled code is cached does without."""

from __future__ import annotations

from compiler.frontend.program import Program
from compiler.graph.ir import Graph
from compiler.graph_passes.widen_numbers import widen_numbers
from compiler.interface import Options
from compiler.machine import Machine
from compiler.pipeline import optimise_graph, to_f64
from compiler.programs.load import complete, in_precision
from compiler.programs.steps.accumulated_step import PARTS, accumulated_step
from compiler.programs.steps.decoding.programs import DECODING, decoding_graph
from compiler.programs.steps.training_step import graph_of_kind
from compiler.schedule.build import schedule
from compiler.schedule.ir import Schedule
from compiler.schedule.verify import verify_schedule


def graph_of(program: Program, kind: str, options: Options | None = None) -> Graph:
    """One of the graphs of a program, by its kind: `training`, `training 1` of a later phase, `evaluation`, …

    What is simplified before it is differentiated, is so in the precision of the options, or else in the program's own.
    """
    program = complete(program)
    if options is not None:
        program = in_precision(program, options)
    name, _, phase = kind.partition(" ")
    if name in PARTS:
        return accumulated_step(program, name, int(phase or 0))
    if name in DECODING:
        return decoding_graph(program, kind)
    return graph_of_kind(program, kind)


def prepared(graph: Graph, options: Options) -> Graph:
    """The optimised graph in the element type that the options ask for."""
    graph = to_f64(graph) if options.dtype == "f64" else widen_numbers(graph)
    return optimise_graph(graph, options.verify)


def scheduled(ready: Graph, options: Options, machine: Machine) -> Schedule:
    """The schedule of an optimised graph; with `verify`, kernels, barriers and memory plan are checked."""
    plan = schedule(ready, options.without, options.batch, options.verify, machine)
    if options.verify:
        verify_schedule(plan, options.batch)
    return plan
