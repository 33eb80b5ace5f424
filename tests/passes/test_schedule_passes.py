"""The passes over the schedule, each with the text of the schedule behind it."""

from __future__ import annotations

from difflib import unified_diff
from itertools import pairwise

from elaboration import program
from golden import Golden

from compiler.interface import Options
from compiler.programs.kinds import PREDICTION
from compiler.programs.stages import graph_of, prepared
from compiler.schedule.build import fused_graph
from compiler.schedule.ir import Schedule
from compiler.schedule.kernels import kernels_of
from compiler.schedule.order.instances import instances_of
from compiler.schedule.passes import SCHEDULE_PASSES
from compiler.schedule.printer import print_schedule

TEXT = """
model M {
    input x: [batch, 48, 24]
    param scale: [24] = ones
    output y = (x |> encoder_block(2, 32, causal = true, drop = 0)) * exp(scale)
}
"""


def steps() -> list[tuple[str, Schedule]]:
    """The schedule as it begins, and behind each pass that changes it."""
    options = Options(batch=64)
    graph = prepared(graph_of(program(TEXT), PREDICTION, options), options)
    found = [("begin", instances_of(kernels_of(fused_graph(graph, (), options.batch))))]
    for run, _ in SCHEDULE_PASSES:
        if (schedule := run(found[-1][1])) != found[-1][1]:
            found.append((run.__name__, schedule))
    return found


def test_each_pass_changes_the_schedule(golden: Golden) -> None:
    """The first schedule, and the lines that each pass changes."""
    found = [(step, print_schedule(schedule).splitlines()) for step, schedule in steps()]
    texts = ["\n".join(found[0][1])]
    for (_, before), (step, behind) in pairwise(found):
        texts.append("\n".join((f"# {step}", *list(unified_diff(before, behind, lineterm="", n=0))[2:])))
    golden("schedule/attention.passes", "\n\n".join(texts) + "\n")
    assert [step for step, _ in found] == ["begin", *(run.__name__ for run, _ in SCHEDULE_PASSES)]
