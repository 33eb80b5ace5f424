"""The passes over the schedule, in order, with the reasons: they decide order, threads and memory of the calls."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeAlias

from compiler.schedule.ir import Schedule
from compiler.schedule.memory.plan_memory import plan_memory
from compiler.schedule.order.chained_kernels import chain_kernels
from compiler.schedule.order.instances import add_transfers
from compiler.schedule.order.run_once import run_once
from compiler.schedule.order.threads import deal_out, set_barriers, share_work

SchedulePass: TypeAlias = Callable[[Schedule], Schedule]

SCHEDULE_PASSES: tuple[tuple[SchedulePass, str | None], ...] = (
    (run_once, None),  # first: a transfer depends on the call, and so would all that it stands before
    (add_transfers, None),  # behind the instances that run once, which read no rows of the caller
    (share_work, None),  # when all instances are there
    (chain_kernels, "chained"),  # moves instances that several threads share; from here on, their order stays
    (set_barriers, None),  # none stands within a chain
    (deal_out, None),  # instances between the same two barriers
    (plan_memory, None),  # lives are counted in stretches between barriers
)
"""Each with the fusion without which it is left out."""


def optimise_schedule(schedule: Schedule, without: Collection[str] = ()) -> Schedule:
    """All passes over the schedule but those of the given fusions."""
    for schedule_pass, fusion in SCHEDULE_PASSES:
        if fusion is None or fusion not in without:
            schedule = schedule_pass(schedule)
    return schedule
