"""Every pass between the graph of a program and its kernels, by name, and all of them at work."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TypeAlias

from compiler.errors.diagnostics import UsageError
from compiler.errors.suggestions import did_you_mean
from compiler.graph.ir import Graph
from compiler.graph.verify import verify
from compiler.inspection.view import PassRun, View
from compiler.interface import Options
from compiler.pipeline import passes_of, to_f64
from compiler.schedule.fusion.fuse import fuse
from compiler.schedule.fusion.ir import FusedGraph
from compiler.schedule.fusion.passes import FusedPass, everywhere, passes_without
from compiler.schedule.fusion.verify import verify_fused
from compiler.support.record import record
from compiler.targets.registry import kernel_target_of

PassForm: TypeAlias = Graph | FusedGraph
FUSE = fuse.__name__


@record
class FormPass:
    """A pass; `is_fused` where it takes a fused graph. `fuse` leads from a graph to a fused one."""

    name: str
    is_fused: bool
    run: Callable[[PassForm], PassForm]


def all_passes(options: Options) -> tuple[FormPass, ...]:
    """The passes in the order in which they run, some of them several times."""
    machine = kernel_target_of(options).machine(options, runs=False)
    fusing = partial(fuse, without=options.without, batch=options.batch, machine=machine)
    over_graphs = [(each.name, each.run) for each in passes_of(options)]
    over_fused = [(each.__name__, each) for each in passes_without(options.without)]
    return (
        *(FormPass(name, False, partial(_over_graph, run)) for name, run in (*over_graphs, (FUSE, fusing))),
        *(FormPass(name, True, partial(_over_fused, run)) for name, run in over_fused),
    )


def _over_graph(run: Callable[[Graph], PassForm], form: PassForm) -> PassForm:
    assert isinstance(form, Graph)
    return run(form)


def _over_fused(run: FusedPass, form: PassForm) -> PassForm:
    assert isinstance(form, FusedGraph)
    return everywhere(run, form)


def passes_by_name(options: Options) -> Mapping[str, FormPass]:
    """Every pass once. Those over graphs that weigh memory do so for the batch of the options."""
    double = FormPass(to_f64.__name__, False, partial(_over_graph, to_f64))
    return {each.name: each for each in (double, *all_passes(options))}


def passes_over_kernels(options: Options) -> Mapping[str, Callable[[str, str], str]]:
    """See `KernelTarget.kernel_passes`: for the machine and the batch of the options."""
    target = kernel_target_of(options)
    return target.kernel_passes(target.machine(options, runs=False), options.batch)


def pass_names(options: Options) -> tuple[str, ...]:
    """The names of all passes for a target, in the order in which they first run."""
    return (*passes_by_name(options), *passes_over_kernels(options))


def expect_pass(name: str, known: Sequence[str]) -> None:
    """Raises UsageError where `name` is not among the known passes."""
    if name not in known:
        fix = did_you_mean(name, known) or f"passes are {', '.join(known)}"
        raise UsageError(f"there is no pass `{name}`", fix)


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
    if known not in names and known in pass_names(Options()):
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
