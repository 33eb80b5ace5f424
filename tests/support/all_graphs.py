"""All programs that runs compile of a model, with the graph of each, by names."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from compiler.errors.diagnostics import UsageError
from compiler.frontend.program import Program
from compiler.graph.ir import Graph
from compiler.interface import Options
from compiler.programs.compilation import compilation, prepared_compilation, resting_compilation
from compiler.programs.executables import compilation_of, fitting, graphs_of_step, layout_of_update, sums_of_shards
from compiler.programs.kinds import TRAINING, GraphKind, Purpose
from compiler.programs.resting_executable import resting_blocks
from compiler.programs.stages import graph_of, update_parts
from compiler.programs.steps.adding import adding_graph
from compiler.targets.target import Compilation
from compiler.types import DType

PROCESSES = 2  # that divide the shards of a step
SEQUENCES = 2  # that are decoded at once
OF_ALL = (Purpose.INITIALISATION, Purpose.PREDICTION)
OF_TRAININGS = (
    *(Purpose.STATES, Purpose.EVALUATION, Purpose.BATCH_EVALUATION, Purpose.GRADIENTS, Purpose.SCHEDULE),
    *(Purpose.FINISHING, Purpose.FINISHING_EPOCH),
)


def compilations_of(program: Program, options: Options) -> Iterator[tuple[str, Compilation]]:
    """Those of each kind, and the parts of an update that processes divide. Each name tells its purpose first."""
    for kind in kinds_of(program, options):
        yield str(kind), compilation_of(program, kind, options)
    if program.plan is not None and resting_blocks(program):
        chosen = fitting(program, TRAINING, options)
        yield "training at rest", resting_compilation(partial(graph_of, program, TRAINING, chosen), chosen, "")
    if program.plan is not None and program.plan.is_sharded:
        for phase in range(len(program.plan.phases) + 1):
            yield from _divided(program, options, phase)


def kinds_of(program: Program, options: Options) -> Iterator[GraphKind]:
    """The kinds of graphs that a program has."""
    yield from map(GraphKind, OF_ALL)
    if _has_attention(program, options):
        yield GraphKind(Purpose.ATTENTION)
    if program.augmentation is not None:
        yield GraphKind(Purpose.AUGMENTATION)
    for sampler in program.samplers:
        yield GraphKind(Purpose.SAMPLING, sampler=sampler.name)
    if program.generation is not None:
        yield GraphKind(Purpose.WINDOW)
        yield from (GraphKind(purpose, rows=SEQUENCES) for purpose in (Purpose.PROMPT, Purpose.POSITION))
    if program.plan is None:
        return
    for phase in range(len(program.plan.phases) + 1):
        yield from graphs_of_step(program, GraphKind(Purpose.TRAINING, phase), options)
    yield from map(GraphKind, OF_TRAININGS)
    if program.plan.follower is not None:
        yield GraphKind(Purpose.FOLLOWING)


def _has_attention(program: Program, options: Options) -> bool:
    try:
        graph_of(program, GraphKind(Purpose.ATTENTION), options)
    except UsageError:
        return False
    return True


def _divided(program: Program, options: Options, phase: int) -> Iterator[tuple[str, Compilation]]:
    """The parts of an update, for each process that owns some, and the programs that add up shards."""
    chosen = fitting(program, GraphKind(Purpose.UPDATING, phase), options)
    layout = layout_of_update(program, options, PROCESSES, phase)
    for rank in range(PROCESSES):
        parts = update_parts(program, phase, chosen, layout, rank)
        for part, graph in enumerate(parts):
            if layout.has_part(rank, part):
                name = f"updating {phase or ''}".rstrip()
                yield f"{name}, part {part} of process {rank}", prepared_compilation(partial(_given, graph), chosen)
    elements = Counter[DType]()
    for spec in sums_of_shards(program, options, phase).every:
        elements[spec.dtype] += math.prod(spec.shape)
    for dtype, count in elements.items():
        plain = replace(options, batch=1, dtype="f32")
        yield f"adding {dtype.value} {phase or ''}".rstrip(), compilation(partial(adding_graph, dtype, count), plain)


def _given(graph: Graph) -> Graph:
    return graph
