"""Programs whose kernels run as nests in watched memory: at several batches, with NaN and Inf among their data."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from unittest.mock import patch

import numpy as np
import schedule_interpreter
from nest_faults import BEHIND_MEMORY, MOST_STATEMENTS, Case, TooLong
from nest_interpreter import Uniform
from nest_mutations import mutations_of
from nests import call_of
from network_checks import OF_TUNING, Network
from random_graphs import random_graph
from random_networks import random_network

from compiler.errors.diagnostics import CompilerBug
from compiler.graph.ir import Graph
from compiler.graph.op import Array
from compiler.loops.ir import CopyKernel, Kernel
from compiler.machine import AVX2, AVX512, NEON, Machine
from compiler.nest.call import Call
from compiler.nest.ir import Nest
from compiler.nest.printer import print_nest
from compiler.nest.verify import verify_nest
from compiler.nest.verify_memory import BOUNDS, Doubt, Law, unproved
from compiler.pipeline import optimise_graph
from compiler.programs.kinds import PREDICTION
from compiler.schedule.build import schedule
from compiler.targets.cpu.emit import emit
from compiler.tuning import Tuning
from compiler.types import BatchExtent, at_batch, numpy_dtype

MACHINES = (AVX512, AVX2, NEON)
NOMINAL = 7
BATCHES = (1, 2, NOMINAL - 1, NOMINAL, NOMINAL + 1, 67)  # of the last, a flat kernel of 64 columns has two items
# Ends of what a run says of faults that break no law of the verifier.
OF_VALUES = ("is not what the kernel makes of it", "is wrong", BEHIND_MEMORY)
LATER_BATCHES = (3, 5, 16, 40, 130)  # on which a fault that nobody has found would show


def small(machine: Machine, random: Random) -> Machine:
    """The machine with small caches and low thresholds, so that small tensors take the paths of large ones."""
    tuning = Tuning(**{name: random.choice(values) for name, values in OF_TUNING.items()})
    return replace(machine, l1_bytes=4 << 10, l2_bytes=16 << 10, tuning=tuning)


def resized(graph: Graph, given: Mapping[str, Array], batch: int) -> dict[str, Array]:
    """Data for a batch, repeated; in every second batch with a number that is not finite in each input."""
    found: dict[str, Array] = {}
    for place, entry in enumerate(graph.inputs):
        type_ = entry.value.type
        values = np.resize(given.get(entry.name, np.array(1)), at_batch(type_.shape, batch))
        values = values.astype(numpy_dtype(type_.dtype))
        if type_.dtype.is_float and type_.shape and values.size and batch % 2 == 0:
            values.reshape(-1)[(place * 5 + batch) % values.size] = (np.nan, np.inf)[batch // 2 % 2]
        found[entry.name] = values
    return found


@dataclass(frozen=True)
class Attack:
    """Which laws are asked of a mutation before it runs, with at most so many statements; holes are noted."""

    laws: Collection[Law] = BOUNDS
    most: int = MOST_STATEMENTS
    note: Callable[[str], None] = lambda hole: None


class Cases:
    """The kernels of a program with the contents of their buffers, at several batches."""

    def __init__(self, graph: Graph, given: Mapping[str, Array], machine: Machine, lasts: bool = False) -> None:
        self.machine, self.lasts = machine, lasts
        self.graph, self.given = graph, given
        self.plan = schedule(graph, (), NOMINAL, machine=machine)

    def at(self, batches: Iterable[int]) -> dict[Kernel, list[Case]]:
        found: dict[Kernel, list[Case]] = {}

        def noted(kernel: Kernel, views: Sequence[Array], batch: int, uniform: Uniform) -> None:
            case = Case(kernel, self.machine, batch, uniform, views)
            if not isinstance(kernel, CopyKernel):
                found.setdefault(kernel, []).append(case)

        with patch.object(schedule_interpreter, "run_kernel", noted):
            for batch in batches:
                schedule_interpreter.run_schedule(self.plan, resized(self.graph, self.given, batch), batch)
        return found

    def faults(self, batches: Iterable[int] = BATCHES, most: int = MOST_STATEMENTS) -> tuple[int, list[str]]:
        """How many kernels are small enough to be checked, and what is wrong with them."""
        checked, faults = 0, list[str]()
        for kernel, cases in self.at(batches).items():
            nest = emit(cases[0].what, self.machine, NOMINAL, self.lasts)
            for doubt in _doubts(nest, _calls_of(nest, cases)):
                faults.append(f"{kernel.name}, {self.machine.name}: {doubt.law.value}, as far as is proved")
            for case in cases:
                try:
                    fault = case.fault_of(nest, most)
                except TooLong:
                    break
                if fault is not None:
                    faults.append(f"{kernel.name}, {self.machine.name}, batch {case.batch}: {fault}")
            else:
                checked += 1
        return checked, faults

    def mutations(self, random: Random, count: int, attack: Attack | None = None) -> Iterable[tuple[str, str]]:
        """The kind of so many mutations of each nest, and by whom each was found: nobody if it changes nothing.

        A run that finds what the laws should is a hole, which is noted.
        """
        attack = attack or Attack()
        later = self.at(LATER_BATCHES)
        for kernel, cases in self.at(BATCHES).items():
            nest = emit(cases[0].what, self.machine, NOMINAL, self.lasts)
            calls = _calls_of(nest, cases)
            for mutation in mutations_of(nest, random, count):
                with mutation.made():
                    try:
                        verify_nest(nest)
                    except CompilerBug:
                        yield mutation.kind, "verifier"
                        continue
                    if _doubts(nest, calls, attack.laws):
                        yield mutation.kind, "proof"
                        continue
                    try:
                        found = next(filter(None, (case.fault_of(nest, attack.most) for case in cases)), None)
                        missed = found is None and any(
                            case.fault_of(nest, attack.most) for case in later.get(kernel, ())
                        )
                    except TooLong:
                        yield mutation.kind, "too long"
                        continue
                    if found is not None and not found.endswith(OF_VALUES):
                        attack.note(f"{mutation.kind}: {found}\n{print_nest(nest)}")
                        yield mutation.kind, "hole"
                        continue
                yield mutation.kind, "missed" if missed else "nobody" if found is None else "run"


def _calls_of(nest: Nest, cases: Sequence[Case]) -> list[Call]:
    """The calls of a nest and of the one before it; buffers are as large as the batch, or have one size."""
    few, more = cases[0], cases[-1]
    sizes = [
        BatchExtent(one // few.batch) if one != other else one for one, other in zip(few.sizes, more.sizes, strict=True)
    ]
    parts = [part for part in (nest.before, nest) if part is not None]
    calls = [call_of(few.what, part, few.machine, sizes, nest.shared_bytes) for part in parts]
    return [*calls[:-1], replace(calls[-1], before=calls[0] if len(calls) > 1 else None)]


def _doubts(nest: Nest, calls: Sequence[Call], laws: Collection[Law] = BOUNDS) -> list[Doubt]:
    parts = [part for part in (nest.before, nest) if part is not None]
    return [doubt for part, call in zip(parts, calls, strict=True) for doubt in unproved(part, call, laws)]


def graph_cases(seed: int) -> list[Cases]:
    """A random graph, for each machine."""
    graph, given, _ = random_graph(seed, 20)
    ready, random = optimise_graph(graph), Random(seed)
    return [Cases(ready, given, small(machine, random), bool(seed % 2)) for machine in MACHINES]


def network_cases(seed: int) -> list[Cases]:
    """The training and the prediction of a random network, for each machine."""
    network, random = Network(random_network(seed), seed), Random(seed)
    plan = network.program.plan
    assert plan is not None
    kinds = (PREDICTION,) if plan.accumulation is not None else (network.training, PREDICTION)
    settings = {name: np.array(value) for name, value in network.settings.items()}
    given = {**settings, **network.data, **network.start}
    return [Cases(network.optimised(kind), given, small(machine, random)) for kind in kinds for machine in MACHINES]
