"""The public door of the compiler: source text to checked programs to executables, and a look at every stage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from compiler.diagnosis.reports import GradientReport, LayerCheck, LossBounds, NonfiniteReport, TestResult, Watched
from compiler.errors.diagnostics import Diagnostic, Source
from compiler.errors.rendering import render, to_json
from compiler.frontend.program import (
    AVERAGE,
    COMMAND_LINE,
    EPOCH_NUMBER,
    KEPT,
    SAMPLE_NUMBERS,
    SET,
    Cuts,
    DataQuestion,
    DataSource,
    DimensionsOf,
    EarlyStop,
    Generation,
    IndexLimit,
    InputSpec,
    ParameterSpec,
    Plateau,
    Program,
    Setting,
    SettingValue,
    StartWeights,
    TrainingPlan,
)
from compiler.interface import FUSIONS, Array, Decoding, Executable, Options, PassRun, Results, Steps, Tensors, View
from compiler.profiling.report import KernelRow, LayerRow, LineRow, Measured, OpRow, ProfileReport, TimelineSpan
from compiler.programs import load as programs
from compiler.programs.executables import (
    OPTIMIZER_STATES,
    VALUES,
    allocate,
    initialise,
    memory_needed,
)
from compiler.programs.kinds import (
    attention_shapes,
    compile_ahead,
    compile_attention,
    compile_augmentation,
    compile_decoding,
    compile_evaluation,
    compile_finishing,
    compile_following,
    compile_gradients,
    compile_prediction,
    compile_prompt,
    compile_schedule,
    compile_training,
    compile_window,
    finishing_kind,
)
from compiler.programs.load import options_of
from compiler.support.cache import CacheInfo, ObjectCache
from compiler.targets.available_memory import expect_memory

if TYPE_CHECKING:
    from compiler.choices.limits import Outside
    from compiler.diagnosis.inspected_step import InspectedStep
    from compiler.diagnosis.watched_step import WatchedStep
    from compiler.inspection.plan import PlanReport
    from compiler.lints.poles_of_data import DataPole
    from compiler.machine import Machine
    from compiler.profiling.simulation import SimulatedStep, SimulationReport
    from compiler.profiling.step import ProfiledStep
    from compiler.programs.functions import CompiledFunction
    from compiler.targets.recording import Recording, Step

__all__ = [
    "AVERAGE",
    "COMMAND_LINE",
    "EPOCH_NUMBER",
    "FUSIONS",
    "KEPT",
    "OPTIMIZER_STATES",
    "SAMPLE_NUMBERS",
    "SET",
    "VALUES",
    "Array",
    "CacheInfo",
    "Cuts",
    "DataQuestion",
    "DataSource",
    "Decoding",
    "DimensionsOf",
    "EarlyStop",
    "Executable",
    "Generation",
    "GradientReport",
    "IndexLimit",
    "InputSpec",
    "KernelRow",
    "LayerCheck",
    "LayerRow",
    "LineRow",
    "LossBounds",
    "Measured",
    "NonfiniteReport",
    "OpRow",
    "Options",
    "ParameterSpec",
    "PassRun",
    "Plateau",
    "ProfileReport",
    "Program",
    "Results",
    "Setting",
    "SettingValue",
    "StartWeights",
    "Steps",
    "Tensors",
    "TestResult",
    "TimelineSpan",
    "TrainingPlan",
    "View",
    "Watched",
    "allocate",
    "attention_shapes",
    "begins_with_declaration",
    "cache_folder",
    "cache_info",
    "check",
    "check_gradients",
    "clear_cache",
    "compile_ahead",
    "compile_attention",
    "compile_augmentation",
    "compile_decoding",
    "compile_evaluation",
    "compile_finishing",
    "compile_following",
    "compile_gradients",
    "compile_prediction",
    "compile_prompt",
    "compile_schedule",
    "compile_training",
    "compile_window",
    "data_dimensions",
    "decision_thresholds",
    "expect_machine",
    "expect_memory",
    "expect_pass",
    "explain",
    "explain_step",
    "finishing_kind",
    "format_source",
    "function",
    "initialise",
    "inspected_step",
    "judged_outputs",
    "load",
    "load_text",
    "loss_bounds",
    "machines",
    "memory_needed",
    "options_of",
    "pass_names",
    "plan",
    "poles_of_data",
    "profile_report",
    "profile_timeline",
    "profiled_step",
    "render",
    "resized",
    "run_pass",
    "run_tests",
    "show",
    "simulated_step",
    "simulation_of",
    "subjects",
    "to_json",
    "value_outside",
    "warning_codes",
    "watch_passes",
    "watched_step",
    "without_suppressed",
]


def load(
    path: str | Path,
    experiment: str | None = None,
    overrides: tuple[tuple[str, str], ...] = (),
    dimensions_of: DimensionsOf | None = None,
    within: Path | None = None,
) -> Program:
    """Check and elaborate an experiment of a file, or its model where it has no `train`. Raises SourceError.

    `dimensions_of` is asked for dimensions that only the data knows. What the file imports lies in the folder `within`,
    by default that of the file.
    """
    return programs.load(Path(path), experiment, overrides, dimensions_of, within)


def load_text(
    text: str,
    name: str,
    experiment: str | None = None,
    overrides: tuple[tuple[str, str], ...] = (),
    dimensions_of: DimensionsOf | None = None,
) -> Program:
    """As `load`, from text; `name` stands for the file in messages."""
    return programs.load(Source(name, text), experiment, overrides, dimensions_of)


def begins_with_declaration(text: str) -> bool:
    """Whether what may be the beginning of a file could be one of a model file."""
    from compiler.syntax.declarations import begins_with_declaration  # the lexer, which a cached program does without

    return begins_with_declaration(text)


def data_dimensions(program: Program) -> dict[str, int]:
    """The dimensions of a program that its data decided, by name."""
    return programs.data_dimensions(program)


def resized(program: Program, dimensions: Mapping[str, int]) -> Program:
    """The program for data of other `dimensions`, by name: of those that its data decided. Raises SourceError."""
    return programs.resized(program, dimensions)


def check(
    path: str | Path,
    experiment: str | None = None,
    overrides: tuple[tuple[str, str], ...] = (),
    dimensions_of: DimensionsOf | None = None,
    within: Path | None = None,
) -> tuple[Diagnostic, ...]:
    """Every error and warning of a file; the arguments as in `load`, and without `experiment` all are checked."""
    return programs.check(Path(path), experiment, overrides, dimensions_of, within)


def function(source: str, name: str, config: Mapping[str, SettingValue], options: Options) -> CompiledFunction:
    """The `fn` called `name` of a source text."""
    from compiler.programs.functions import compiled_function  # the whole compiler, which a cached program does without

    return compiled_function(Source("<source>", source), name, config, options)


def explain(code: str) -> str:
    """The long form of an error's code."""
    from compiler.errors.index import explain  # a long text that few commands need

    return explain(code)


def warning_codes() -> tuple[str, ...]:
    """The codes of all warnings."""
    from compiler.errors.index import ERRORS  # a long text that few commands need

    return tuple(entry.code for entry in ERRORS if entry.code.startswith("W"))


def format_source(source: Source) -> str:
    """The text of a source in the canonical layout. Raises SourceError."""
    from compiler.syntax.format import format_source  # the parser, which a cached program does without

    return format_source(source)


def show(view: View, options: Options, dimensions_of: DimensionsOf | None = None) -> str:
    """The text of a stage, whole or of what came from a line or a node. Raises SourceError and UsageError."""
    from compiler.inspection.show import show  # printers and drawings, which training does without

    return show(view, options, dimensions_of)


def watch_passes(view: View, options: Options, dimensions_of: DimensionsOf | None = None) -> tuple[PassRun, ...]:
    """Each pass over the graph of a step or of a prediction, in order. Raises SourceError and UsageError."""
    from compiler.inspection.show import watch_passes  # as above

    return watch_passes(view, options, dimensions_of)


def pass_names() -> tuple[str, ...]:
    """The names of all passes over graphs."""
    from compiler.inspection import pass_view  # every pass, which a cached program does without

    return pass_view.pass_names()


def expect_pass(name: str) -> None:
    """Raises UsageError where there is no pass of that name."""
    from compiler.inspection import pass_view  # as above

    pass_view.expect_pass(name, pass_view.pass_names())


def run_pass(name: str, text: str, source: str, batch: int, format: str) -> str:
    """The graph that a pass makes of the graph in `text`, which messages call `source`. Raises DataError.

    `batch` is the nominal batch; the format is `text` or `json`.
    """
    from compiler.inspection import pass_view  # as above

    return pass_view.run_pass(name, text, source, batch, format)


def plan(program: Program, options: Options) -> PlanReport:
    """Parameters, arithmetic, kernels and memory of a program, for the batch of the options."""
    from compiler.inspection.plan import plan

    return plan(program, options)


def decision_thresholds(program: Program) -> Mapping[str, float]:
    """By output, the value from which on it stands for yes, where the program says one."""
    from compiler.programs import comparisons  # reports ask, and no training

    return comparisons.thresholds(programs.complete(program))


def judged_outputs(program: Program) -> Mapping[str, tuple[str, ...]]:
    """By target, the outputs that the loss or a metric compares with it."""
    from compiler.programs import comparisons

    return comparisons.judged_outputs(programs.complete(program))


def profiled_step(program: Program, kind: str, options: Options) -> ProfiledStep:
    """A step of kind `training` or `prediction` with a stamp wherever a thread goes on. Raises UsageError."""
    from compiler.profiling.step import profiled_step  # the whole compiler, which a cached program does without

    return profiled_step(program, kind, options)


def profile_report(
    step: ProfiledStep, taken: Sequence[Sequence[Recording]], measured: Measured, mode: str
) -> ProfileReport:
    """Times by line, layer, kernel and operation, from what a step recorded and what was measured beside it."""
    from compiler.profiling.account import report_of  # the whole compiler, which a cached program does without

    return report_of(step, taken, measured, mode)


def simulated_step(program: Program, kind: str, options: Options, threads: int) -> SimulatedStep:
    """A step of kind `training` or `prediction` of which one thread takes the shares of so many. Raises UsageError."""
    from compiler.profiling.simulation import simulated_step  # the whole compiler, which a cached program does without

    return simulated_step(program, kind, options, threads)


def simulation_of(
    step: SimulatedStep,
    taken: Mapping[int, Sequence[Sequence[Step]]],
    at_once: Sequence[Sequence[Step]],
    mode: str,
    barrier_us: float | None,
    bandwidth: float | None,
    measured: float | None,
) -> SimulationReport:
    """What so many threads would make of a step, from what was recorded of their shares."""
    from compiler.profiling.simulation import simulation_of  # the whole compiler, which a cached program does without

    return simulation_of(step, taken, at_once, mode, barrier_us, bandwidth, measured)


def profile_timeline(step: ProfiledStep, taken: Sequence[Sequence[Recording]]) -> tuple[TimelineSpan, ...]:
    """What each thread did in a step of median time."""
    from compiler.profiling.account import timeline_of  # the whole compiler, which a cached program does without

    return timeline_of(step, taken)


def check_gradients(
    program: Program, data: Mapping[str, Array], settings: Mapping[str, float], batch: int, seed: int, full: bool
) -> GradientReport:
    """The derivatives of a program, as a whole and layer by layer, compared with differences in f64.

    data: `batch` rows of each input and target; with `full`, every element of every layer's inputs is moved.
    """
    from compiler.diagnosis.gradient_check import check_gradients  # the whole compiler, and every op of the reference

    return check_gradients(programs.complete(program), data, settings, batch, seed, full)


def explain_step(program: Program, kind: str, options: Options, step: Steps) -> NonfiniteReport | None:
    """Where a single step of kind `training` or `training N` stops being finite, and from what.

    Its tensors are as before the step, and stay so. None where the reference finds all values finite.
    """
    from compiler.diagnosis import step_replay  # the whole compiler, and every op of the reference

    return step_replay.explain_step(program, kind, options, step)


def inspected_step(program: Program, phase: int, options: Options, paths: Sequence[str]) -> InspectedStep:
    """A step of training whose gradients, layers and lines can be looked at. Raises UsageError for an unknown path."""
    from compiler.diagnosis.inspected_step import inspected_step  # the whole compiler

    return inspected_step(program, phase, options, paths)


def loss_bounds(
    program: Program,
    data: Mapping[str, Array],
    tensors: Tensors,
    settings: Mapping[str, float],
    batch: int,
    seed: int,
) -> LossBounds | None:
    """The loss of outputs that know nothing, and its floor, over `batch` rows of each input and target."""
    from compiler.diagnosis.loss_bounds import loss_bounds  # the whole compiler, and every op of the reference

    return loss_bounds(programs.complete(program), data, tensors, settings, batch, seed)


def watched_step(program: Program, phase: int, options: Options) -> WatchedStep:
    """A step that changes nothing and tells of units without effect, of gradients and of updates."""
    from compiler.diagnosis.watched_step import watched_step  # the whole compiler

    return watched_step(program, phase, options)


def value_outside(
    program: Program, limits: Sequence[IndexLimit], data: Mapping[str, Array], rows: Array, outputs: Sequence[str]
) -> Outside | None:
    """The first of the rows in which an integer chooses nothing at one of the `limits`, where the outputs show it.

    `data` may lack inputs, and has those of which the outputs are made.
    """
    kept = [limit for limit in limits if data.keys() >= set(limit.names)]
    if all(limit.is_direct and _is_within(data[limit.names[0]], limit.count) for limit in kept):
        return None
    from compiler.choices.limits import outside  # the graphs, which a cached program does without

    return outside(programs.complete(program), kept, data, rows, outputs)


def poles_of_data(program: Program) -> tuple[DataPole, ...]:
    """Where the user's text takes logarithms and roots of data as it is, and no declared range keeps it in theirs."""
    from compiler.lints.poles_of_data import poles_of_data  # the graphs, which a cached program does without

    return poles_of_data(programs.complete(program))


def without_suppressed(found: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
    """The findings without the warnings that comments in the text suppress."""
    from compiler.syntax.suppressions import without_suppressed  # the lexer, which a cached program does without

    return without_suppressed(found)


def _is_within(values: Array, count: int) -> bool:
    return values.size == 0 or (int(values.min()) >= 0 and int(values.max()) < count)


def run_tests(
    path: Path, chosen: Callable[[str], bool], seed: int, options: Options, within: Path | None = None
) -> tuple[TestResult, ...]:
    """The `test` blocks of a file whose names are `chosen`; `within` as in `load`. Raises SourceError."""
    from compiler.diagnosis.file_tests import run_tests  # the whole compiler, and every op of the reference

    return run_tests(path, chosen, seed, options, within)


def subjects(path: Path, within: Path | None = None) -> tuple[str, ...]:
    """The names of a file's experiments, and of models that have none; `within` as in `load`. Raises SourceError."""
    from compiler.diagnosis.file_tests import subjects  # the parser, which a cached program does without

    return subjects(path, within)


def expect_machine(name: str, runs: bool) -> None:
    """Raises UsageError where there is no machine `name`, or where its code `runs` and this processor cannot."""
    from compiler.targets.registry import kernel_target_of  # loads LLVM

    kernel_target_of(Options()).machine(Options(machine=name), runs)


def machines(options: Options, runs: bool = True) -> tuple[Machine, Machine]:
    """The machine that native code is made for, and that which this process runs on; `runs` as in `expect_machine`."""
    from compiler.targets.registry import kernel_target_of  # loads LLVM

    target = kernel_target_of(options)
    return target.machine(options, runs), target.machine(replace(options, machine=None))


def cache_folder() -> Path:
    """The folder of everything that is kept to save time."""
    return ObjectCache(None).folder


def cache_info() -> CacheInfo:
    """Where compiled code is kept, and how much of it there is."""
    return ObjectCache(None).info()


def clear_cache() -> CacheInfo:
    """Remove all compiled code; what was there."""
    cache = ObjectCache(None)
    before = cache.info()
    cache.clear()
    return before
