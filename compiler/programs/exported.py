"""A program as a library: its prediction, its evaluation, its training step, and the next token of a sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from compiler.frontend.program import Program
from compiler.graph.ir import Role, needed_by
from compiler.interface import Options
from compiler.programs.executables import compilation_of, compile_ahead, graphs_of_step
from compiler.programs.kinds import BATCH_EVALUATION, POSITIONS_OF_A_WINDOW, PREDICTION, TRAINING, GraphKind, Purpose
from compiler.programs.load import complete
from compiler.targets.registry import kernel_target_of
from compiler.targets.target import ExportedLibrary, LibraryForm, LibraryFunction, LibraryTensors, Limits

_OF_A_SEQUENCE = (GraphKind(Purpose.WINDOW), GraphKind(Purpose.PROMPT, rows=1), GraphKind(Purpose.POSITION, rows=1))


def exported_library(
    program: Program,
    tensors: LibraryTensors,
    settings: Mapping[str, float],
    options: Options,
    prefix: str,
    seed: int | None = None,
    generates: bool = False,
) -> ExportedLibrary:
    """The function `predict` of a program, `evaluate` where its loss is known, and `step` where there is a `seed`.

    With `generates`, also `generate_next`. The caller gives the settings of run time that no other number is made of:
    those of sampling to `generate_next`, the others to `step`.
    """
    options = _with_places(program, options)
    needed = {i.name for i in program.inference_graph.inputs if i.role is Role.SETTING}
    evaluates = program.plan is not None and needed <= {*settings}
    kinds = [PREDICTION, *([BATCH_EVALUATION] if evaluates else [])]
    kinds += [] if seed is None else [TRAINING]
    compile_ahead(program, [*kinds, *(_OF_A_SEQUENCE if generates else ())], options, elsewhere=True)
    functions = [LibraryFunction("predict", compilation_of(program, PREDICTION, options), settings)]
    if evaluates:
        functions.append(LibraryFunction("evaluate", compilation_of(program, BATCH_EVALUATION, options), settings))
    batch = batches = window = 0
    if seed is not None:
        functions += _of_the_step(program, settings, options)
        accumulation = None if program.plan is None else program.plan.accumulation
        if program.plan is not None and accumulation is not None:
            batch, batches = program.plan.batch or 0, accumulation.batches
    if generates:
        functions += _of_a_sequence(program, settings, options)
        window = window_of(program)
    form = LibraryForm(prefix, seed or 0, batch, batches, window, POSITIONS_OF_A_WINDOW)
    return kernel_target_of(options).library(functions, tensors, form)


def without_teachers(program: Program) -> Program:
    """For predictions alone: without averaged and frozen layers that no output depends on, and the loss that asks them.

    The program itself where there are none.
    """
    from compiler.programs.steps.training_step import prediction_graph  # what starts warm needs no pass

    graph = prediction_graph(program)
    _, read = needed_by(graph.nodes, (output.value.index for output in graph.outputs))
    used = {entry.name for entry in graph.inputs if entry.value.index in read}
    teachers = {s.path for s in program.parameters if s.twin and s.path not in used}
    if not teachers:
        return program
    inputs = tuple(entry for entry in graph.inputs if entry.name not in teachers)
    kept = tuple(spec for spec in program.parameters if spec.path not in teachers)
    return replace(program, parameters=kept, inference_graph=replace(graph, inputs=inputs), plan=None)


def _with_places(program: Program, options: Options) -> Options:
    """The options with a batch of the training's size where pairs of rows need places for so many."""
    from compiler.graph_passes.lay_out_pairs import has_pairs  # what starts warm needs no pass

    program = complete(program)
    pairs = has_pairs(program.training_graph) or has_pairs(program.inference_graph)
    return replace(options, batch=program.plan.usual_rows) if pairs and program.plan is not None else options


def independent_settings(settings: Mapping[str, float]) -> tuple[str, ...]:
    """Of the settings of run time, those that no other one is made of, which a caller may change."""
    derived = " ".join(name for name in settings if "(" in name)
    return tuple(name for name in settings if "(" not in name and name not in derived)


def generates_alone(program: Program) -> bool:
    """Whether the model extends a sequence by draws or the likeliest token, and reads nothing but the sequence."""
    generation = program.generation
    if generation is None or generation.beam is not None:
        return False
    return all(spec.is_target or spec.name == generation.feed for spec in program.inputs)


def window_of(program: Program) -> int:
    """The positions of a window of the sequence that `generate` extends."""
    assert program.generation is not None
    feed = next(spec for spec in program.inputs if spec.name == program.generation.feed)
    return next(extent for extent in feed.type.shape if isinstance(extent, int))


def _limits(program: Program) -> Limits:
    return {setting.name: setting.limits for setting in program.settings if setting.limits}


def _of_the_step(program: Program, settings: Mapping[str, float], options: Options) -> Sequence[LibraryFunction]:
    """The step, or the programs of which it is made where an update takes several batches."""
    given = independent_settings(settings)
    kinds = graphs_of_step(program, TRAINING, options)
    if len(kinds) == 1:
        step = compilation_of(program, TRAINING, options)
        return [LibraryFunction("step", step, settings, given, _limits(program), trains=True)]
    return [
        LibraryFunction(
            kind.purpose.value,
            compilation_of(program, kind, options),
            settings,
            given,
            _limits(program),
            trains=True,
            tells=kind.purpose is Purpose.UPDATING,
        )
        for kind in kinds
    ]


def _of_a_sequence(program: Program, settings: Mapping[str, float], options: Options) -> Sequence[LibraryFunction]:
    given = tuple(name for name in independent_settings(settings) if name.startswith("generate."))
    return [
        LibraryFunction(kind.purpose.value, compilation_of(program, kind, options), settings, given, _limits(program))
        for kind in _OF_A_SEQUENCE
    ]
