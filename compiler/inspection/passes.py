"""Every pass between the graph of a program and its kernels, by name: over a graph, or over a fused graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeAlias

from compiler.errors.diagnostics import UsageError
from compiler.errors.suggestions import did_you_mean
from compiler.graph.ir import Graph
from compiler.interface import Options
from compiler.pipeline import passes_of, to_f64
from compiler.schedule.fusion.fuse import fuse
from compiler.schedule.fusion.ir import FusedGraph
from compiler.schedule.fusion.passes import FusedPass, everywhere, passes_without
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


def passes_by_name(batch: int) -> Mapping[str, FormPass]:
    """Every pass once. Those over graphs that weigh memory do so for the nominal `batch`."""
    double = FormPass(to_f64.__name__, False, partial(_over_graph, to_f64))
    return {each.name: each for each in (double, *all_passes(Options(batch=batch)))}


def passes_over_products(batch: int) -> Mapping[str, Callable[[str, str], str]]:
    """See `KernelTarget.product_passes`: for the machine that this process runs on, and the nominal `batch`."""
    target, options = kernel_target_of(Options()), Options()
    return target.product_passes(target.machine(options, runs=False), batch)


def pass_names() -> tuple[str, ...]:
    """The names of all passes, in the order in which they first run."""
    batch = Options().batch
    return (*passes_by_name(batch), *passes_over_products(batch))


def expect_pass(name: str, known: Sequence[str]) -> None:
    """Raises UsageError where `name` is not among the known passes."""
    if name not in known:
        fix = did_you_mean(name, known) or f"passes are {', '.join(known)}"
        raise UsageError(f"there is no pass `{name}`", fix)
