"""The findings of `dlc test` in a file: its experiments and models by name, and the outcome of each test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from compiler.diagnosis.reports import TestResult
from compiler.diagnosis.test_run import GraphEvaluator, failures_of
from compiler.frontend.elaborate import elaborate_tests
from compiler.frontend.library import library_scope
from compiler.graph.ir import Graph, Role
from compiler.interface import Array, Options
from compiler.programs.executables import executable
from compiler.support.cache import default_folder
from compiler.syntax import tree
from compiler.syntax.modules import load_modules


def subjects(path: Path, within: Path | None = None) -> tuple[str, ...]:
    """The experiments of a file, and its models that no experiment trains, by the names that choose them."""
    declarations = load_modules(path, default_folder(), within)[-1].declarations
    trains = [d for d in declarations if isinstance(d, tree.Train)]
    trained = {train.model.id for train in trains}
    models = [d.name for d in declarations if isinstance(d, tree.Model) and d.name not in trained]
    return (*(train.name or train.model.id for train in trains), *models)


def run_tests(
    path: Path, chosen: Callable[[str], bool], seed: int, options: Options, within: Path | None = None
) -> tuple[TestResult, ...]:
    """The tests of a file whose names are `chosen`, with values by the target of the options. Raises SourceError."""
    tests = elaborate_tests(load_modules(path, default_folder(), within), library_scope())
    evaluation = None if options.target == "reference" else _by_native_code(options, seed)
    return tuple(
        TestResult(test.name, test.span, len(test.claims), failures_of(test, seed, evaluation))
        for test in tests
        if chosen(test.name)
    )


def _by_native_code(options: Options, seed: int) -> GraphEvaluator:
    def evaluation(graph: Graph, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        fed = tuple(replace(i, role=Role.DATA) if i.role in (Role.PARAMETER, Role.STATE) else i for i in graph.inputs)
        return executable(replace(graph, inputs=fed), options).call(dict(inputs), seed=seed)

    return evaluation
