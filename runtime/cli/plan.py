"""Tabulate layers, parameters, work, kernels and memory of a model, without training it."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from typing import Any

from compiler import driver
from compiler.errors.diagnostics import UsageError
from compiler.support.processors import usable_cores
from runtime.cli.common import chosen_program, chosen_sampler, compile_options, dimensions_if_there, print_json
from runtime.cli.parser import Namespace, Parser
from runtime.processes.joining import expect_shards
from runtime.reporting.plan_text import print_plan
from runtime.reporting.terminal import say_notes, width_of_page

PROFILE_SECONDS, PROFILE_ROWS = 2.0, 40
EXAMPLES = ("dlc plan model.dl", "dlc plan model.dl --batch 1 --json", "dlc plan model.dl --set shards=8 --processes 4")


def configure(parser: Parser) -> None:
    parser.add_program()
    parser.add_whole("--batch", "rows of a step (default: that of `train`)")
    parser.add_option("--sampler", "NAME", "plan the 'sample NAME …' instead of a step")
    parser.add_whole("--processes", "print the traffic of a step between so many processes, which divide its shards")
    parser.add_flag("--profile", "profile a step as well, by layer, as `dlc profile` does")
    parser.add_compilation(runs=False)
    parser.add_json()


def run(arguments: Namespace) -> int:
    program = chosen_program(arguments, dimensions_if_there)
    sampler = chosen_sampler(program, arguments.sampler)
    batch = arguments.batch or (program.plan.usual_rows if program.plan is not None else 1)
    options = driver.options_of(program, compile_options(arguments, batch))
    from compiler.inspection.plan import plan  # the whole compiler; `--help` must not pay for it

    if sampler and arguments.processes:
        raise UsageError("--processes does not go with --sampler", "a `sample` has no shards")
    exchange = _exchange(program, options, arguments.processes or 1)
    report = plan(program, options, sampler).to_json() | exchange
    measured = None
    if arguments.profile:
        from runtime.analysis.profile import as_json, profile  # measuring is asked for

        mode, with_all = "infer" if program.plan is None else "train", replace(options, threads=usable_cores())
        measured = as_json(profile(program, mode, batch, with_all, PROFILE_SECONDS, sampler=sampler).report)
    if arguments.json:
        print_json(report | ({} if measured is None else {"profile": measured}))
        return 0
    print_plan(report)
    if measured is not None:
        from runtime.reporting.profile_text import profile_text

        print(profile_text(measured, "layer", PROFILE_ROWS, width_of_page(sys.stdout)))
    return 0


def _exchange(program: driver.Program, options: driver.Options, processes: int) -> dict[str, Any]:
    """What a step sends between several processes. Raises UsageError where they cannot divide its shards."""
    if processes == 1:
        return {}
    if program.plan is None:
        raise UsageError("--processes divides the shards of a training", "name a file with `train`")
    expect_shards(program.plan, processes)
    from compiler.inspection.shard_traffic import buckets_of_step, traffic_of  # few ask

    say_notes(["these bytes go between machines; processes of one machine read them in each other's memory"])
    buckets = [asdict(row) for row in buckets_of_step(program, options, processes)]
    return {"exchange": asdict(traffic_of(program, options, processes)), "buckets": buckets}
