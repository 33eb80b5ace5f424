"""The passes over a graph and a fused graph at work: the text behind each of them, and the time that it takes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from compiler.errors.diagnostics import UsageError
from compiler.graph.ir import Graph
from compiler.graph.verify import verify
from compiler.inspection.passes import PassForm, all_passes, expect_pass, pass_names
from compiler.inspection.view import PassRun, View
from compiler.interface import Options
from compiler.schedule.fusion.verify import verify_fused

_ALL = "all"


def watched_passes(
    graph: Graph, options: Options, view: View, text_of: Callable[[PassForm], str]
) -> tuple[PassRun, ...]:
    """All passes over the graph of a program, up to that at which `view` stops, each with the time that it took.

    Those behind which `view` prints, and the one at which it stops, have the graph as `text_of` gives it. With
    `verify`, the graph is checked behind each. Raises UsageError for names of no pass.
    """
    passes = all_passes(options)
    names = _numbered(each.name for each in passes)
    stop = names[-1] if view.stop_after is None else _pass_called(view.stop_after, names)
    printed = _printed(view, names, stop)
    runs: list[PassRun] = []
    form: PassForm = graph
    for name, each in zip(names[: names.index(stop) + 1], passes, strict=False):
        before, begin = _nodes(form), time.perf_counter()
        form = each.run(form)
        seconds = time.perf_counter() - begin
        if options.verify:
            verify(form, name) if isinstance(form, Graph) else verify_fused(form, name)
        runs.append(PassRun(name, seconds, before, _nodes(form), text_of(form) if name in printed else None))
    return tuple(runs)


def _nodes(form: PassForm) -> int:
    """How many nodes there are, whether or not a group computes them."""
    if isinstance(form, Graph):
        return len(form.nodes)
    return len(form.unplaced) + sum(len(group.members) for group in form.groups)


def _printed(view: View, names: Sequence[str], stop: str) -> set[str]:
    """The passes behind which the graph is printed; a name without a number stands for every time that it runs."""
    printed = set[str]() if view.stop_after is None else {stop}
    for wanted in view.print_after:
        if wanted == _ALL:
            printed.update(names)
            continue
        first = _pass_called(wanted, names)
        found = [name for name in names if name == first or (":" not in wanted and name.split(":")[0] == wanted)]
        if names.index(first) > names.index(stop):
            raise UsageError(f"{wanted} runs after {stop}", "stop at a later pass")
        printed.update(found)
    return printed


def _pass_called(wanted: str, names: Sequence[str]) -> str:
    """The pass of the given name; that of a repeated one ends with its number: `simplify:2`."""
    name = wanted.removesuffix(":1")
    known = name.split(":")[0]
    if known not in names and known in pass_names():
        raise UsageError(f"the pass `{known}` does not run here", "`--time-passes` lists those that do")
    expect_pass(name, names)
    return name


def _numbered(names: Iterable[str]) -> list[str]:
    """Each name, with its number from the second time on: `simplify`, `simplify:2`."""
    times: Counter[str] = Counter()
    numbered: list[str] = []
    for name in names:
        times[name] += 1
        numbered.append(name if times[name] == 1 else f"{name}:{times[name]}")
    return numbered
