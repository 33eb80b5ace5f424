"""One start in a process of its own: from a model file to the end of its first step, as a line of JSON (seconds).

It imports what `dlc` imports, since that is part of what is measured. `stages` runs the stages of the compiler one
after the other on one thread, which a start does with other processes at its side.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import TypeAlias

from compiler import driver
from compiler.driver import INITIALISATION, STEP_OF_MODE, Options, Program
from runtime.analysis.made_up_steps import CompiledSteps
from runtime.cli.main import collect_seldom
from runtime.data.dimensions import dimensions_if_there
from runtime.support.memory import seconds_since_start

Figures: TypeAlias = dict[str, float]
MOST_NUMBERS = 2**19  # in the inputs of a first step: a batch of large pictures takes seconds to compute


def start(file: Path, experiment: str | None, mode: str, threads: int) -> Figures:
    """Of the imports, to load the program, to compile it or read its code, and of the first step; `first_s` is all."""
    figures = {"imports_s": seconds_since_start()}
    with _timed(figures, "load_s"):
        program = _loaded(file, experiment)
    options, rows = _options(program, mode, threads), _rows(program, mode)
    with _timed(figures, "compile_s"):
        run = CompiledSteps(program, mode, rows, options)
    with _timed(figures, "step_s"):
        run(1)
    return figures | {"first_s": seconds_since_start()}


def stages(file: Path, experiment: str | None, mode: str, threads: int) -> Figures:
    """Seconds of work in each stage, for all programs of a start; how many kernels they have, and nodes of graphs."""
    # only here, since a start imports them while it works
    from compiler.programs.stages import graph_of, prepared, scheduled
    from compiler.targets.llvm.jit import compile_module
    from compiler.targets.registry import kernel_target_of

    program = _loaded(file, experiment)
    options = _options(program, mode, threads)
    target = kernel_target_of(options)
    machine = target.machine(options)
    figures: Figures = {}
    texts: dict[str, str] = {}
    for kind in (INITIALISATION, STEP_OF_MODE[mode]):
        with _timed(figures, "graph_s"):
            graph = graph_of(program, kind, options)
        with _timed(figures, "passes_s"):
            ready = prepared(graph, options)
        with _timed(figures, "schedule_s"):
            plan = scheduled(ready, options, machine)
        with _timed(figures, "lower_s"):
            texts |= target.lower(ready, plan, machine, options.batch).texts
        figures["nodes"] = figures.get("nodes", 0) + len(ready.nodes)
    with _timed(figures, "llvm_s"):
        for text in texts.values():
            compile_module(text, machine)
    return figures | {"kernels": len(texts)}


def _loaded(file: Path, experiment: str | None) -> Program:
    return driver.load(file, experiment, (), dimensions_if_there)


def _options(program: Program, mode: str, threads: int) -> Options:
    rows = program.plan.usual_rows if mode == "train" and program.plan is not None else 1
    return driver.options_of(program, Options(batch=rows, threads=threads))


def _rows(program: Program, mode: str) -> int:
    """The batch of the program, or as many rows of it as a first step should take."""
    numbers = max(prod(extent for extent in spec.type.shape if isinstance(extent, int)) for spec in program.inputs)
    return max(1, min(_options(program, mode, 1).batch, MOST_NUMBERS // numbers))


@contextmanager
def _timed(figures: Figures, name: str) -> Generator[None]:
    begin = time.perf_counter()
    yield
    figures[name] = figures.get(name, 0.0) + time.perf_counter() - begin


WHAT: dict[str, Callable[[Path, str | None, str, int], Figures]] = {"start": start, "stages": stages}

if __name__ == "__main__":
    collect_seldom()
    what, source, name, way, count = json.loads(sys.argv[1])
    print(json.dumps(WHAT[what](Path(source), name, way, count)))
