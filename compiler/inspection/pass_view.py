"""The passes over a graph, watched: the graph behind each of them and the time that each takes; one pass on text."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from compiler.errors.diagnostics import CompilerBug, DataError, UsageError
from compiler.errors.suggestions import did_you_mean
from compiler.graph.drawing import graph_to_json
from compiler.graph.ir import Graph
from compiler.graph.printer import print_graph
from compiler.graph.reader import read_graph
from compiler.graph.verify import InvalidGraph, expect_valid, verify
from compiler.inspection.view import PassRun, View
from compiler.interface import Options
from compiler.ops import OPS
from compiler.pipeline import passes_by_name, passes_of
from compiler.schedule.numerics.internal_ops import INTERNAL_OPS

_ALL = "all"
# What a type rule or a pass raises for attributes that no compiler would write.
_OF_BAD_ATTRIBUTES = (ArithmeticError, LookupError, TypeError, ValueError, AssertionError, RecursionError)


def watched_passes(graph: Graph, options: Options, view: View, text_of: Callable[[Graph], str]) -> tuple[PassRun, ...]:
    """All passes over the graph of a program, up to that at which `view` stops, each with the time that it took.

    Those behind which `view` prints, and the one at which it stops, have the graph as `text_of` gives it. With
    `verify`, the graph is checked behind each. Raises UsageError for names of no pass.
    """
    passes = passes_of(options)
    names = _numbered(each.name for each in passes)
    stop = names[-1] if view.stop_after is None else _pass_called(view.stop_after, names)
    printed = _printed(view, names, stop)
    runs: list[PassRun] = []
    for name, each in zip(names[: names.index(stop) + 1], passes, strict=False):
        before, begin = graph, time.perf_counter()
        graph = each.run(graph)
        seconds = time.perf_counter() - begin
        if options.verify:
            verify(graph, name)
        text = text_of(graph) if name in printed else None
        runs.append(PassRun(name, seconds, len(before.nodes), len(graph.nodes), text))
    return tuple(runs)


def _printed(view: View, names: Sequence[str], stop: str) -> set[str]:
    """The passes behind which the graph is printed; a name without a number stands for every time that it runs."""
    printed = set[str]() if view.stop_after is None else {stop}
    for wanted in view.print_after:
        if wanted == _ALL:
            return set(names)
        first = _pass_called(wanted, names)
        found = [name for name in names if name == first or (":" not in wanted and name.split(":")[0] == wanted)]
        if names.index(first) > names.index(stop):
            raise UsageError(f"{wanted} runs after {stop}", "stop at a later pass")
        printed.update(found)
    return printed


def _pass_called(wanted: str, names: Sequence[str]) -> str:
    """The pass of the given name; that of a repeated one ends with its number: `simplify:2`."""
    name = wanted.removesuffix(":1")
    expect_pass(name, names)
    return name


def pass_names() -> tuple[str, ...]:
    """The names of all passes, in the order in which they first run."""
    return tuple(passes_by_name(Options().batch))


def expect_pass(name: str, known: Sequence[str]) -> None:
    """Raises UsageError where `name` is not among the known passes."""
    if name not in known:
        fix = did_you_mean(name, known) or f"passes are {', '.join(known)}"
        raise UsageError(f"there is no pass `{name}`", fix)


def run_pass(name: str, text: str, source: str, batch: int, format: str) -> str:
    """The graph that the pass `name` makes of the graph in `text`, as text or as JSON.

    `source` is the name of the text in messages, `batch` the nominal batch. Raises DataError where the text is no
    graph, or one that the verifier refuses.
    """
    graph = read_graph(text, (*OPS, *INTERNAL_OPS), source)
    try:
        expect_valid(graph)
    except InvalidGraph as broken:
        raise DataError(str(broken), source) from None
    except _OF_BAD_ATTRIBUTES as error:
        raise DataError(f"the attributes of an op mean nothing ({error})", source) from None
    try:
        result = passes_by_name(batch)[name](graph)
    except _OF_BAD_ATTRIBUTES as error:
        raise CompilerBug(name, f"{type(error).__name__}: {error}", print_graph(graph)) from error
    verify(result, name)
    return json.dumps(graph_to_json(result)) if format == "json" else print_graph(result)


def _numbered(names: Iterable[str]) -> list[str]:
    """Each name, with its number from the second time on: `simplify`, `simplify:2`."""
    times: Counter[str] = Counter()
    numbered: list[str] = []
    for name in names:
        times[name] += 1
        numbered.append(name if times[name] == 1 else f"{name}:{times[name]}")
    return numbered
