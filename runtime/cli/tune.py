"""Measure the tile and block sizes that suit this processor, and when several threads pay, and keep these numbers.

Small trainings run with other numbers beside the usual ones, in turns. A number is kept where its training becomes
faster by more than noise, twice, and no other slower; all commands then compile with it. No bit of any result changes.
The processor should have nothing else to do.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from compiler.errors.diagnostics import UsageError
from compiler.errors.suggestions import counted
from compiler.support.processors import usable_cores
from runtime.cli.common import print_json
from runtime.cli.parser import MOST_THREADS, Namespace, Parser
from runtime.reporting.terminal import print_wrapped, say

if TYPE_CHECKING:
    from compiler.driver import Options
    from compiler.kept_tuning import KeptTuning
    from compiler.machine import Machine
    from runtime.analysis.tuning import Tried, TuningReport

_SECONDS = 60
EXAMPLES = ("dlc tune --seconds 120", "dlc tune --show", "dlc tune --forget")


def configure(parser: Parser) -> None:
    parser.add_flag("--show", "print this processor's kept numbers; measure nothing")
    parser.add_flag("--forget", "remove this processor's kept numbers")
    parser.add_positive("--seconds", "S", f"try no further number after S (default: {_SECONDS})")
    parser.add_whole(
        "--threads", "measure with N threads (default: one for each core that this process may use)", most=MOST_THREADS
    )
    parser.add_option("--target", "NAME", "tune code for a part of this processor, such as avx2")
    parser.add_option("--cache-dir", "DIR", "keep the result in DIR (default: the user's cache folder)")
    parser.add_json()


def run(arguments: Namespace) -> int:
    if arguments.show and arguments.forget:
        raise UsageError("--show and --forget do not go together", "choose one of them")
    if (arguments.show or arguments.forget) and (arguments.seconds or arguments.threads):
        chosen, other = "--show" if arguments.show else "--forget", "--seconds" if arguments.seconds else "--threads"
        raise UsageError(f"{chosen} measures nothing", f"leave out {other}")
    from compiler import driver  # heavy; `--help` must not pay for it
    from compiler.targets.registry import kernel_target_of, named_target

    target, name = named_target(arguments.target or "native")
    if target != driver.Options().target:
        raise UsageError(f"target {target} is not tuned", "leave out --target, or name a processor")
    folder = Path(arguments.cache_dir) if arguments.cache_dir else None
    threads = arguments.threads or usable_cores()
    options = driver.Options(target=target, threads=threads, cache=folder, machine=name)
    machine = kernel_target_of(options).machine(options)
    if arguments.show:
        _show(machine, folder, arguments.json)
    elif arguments.forget:
        _forget(machine, folder, arguments.json)
    else:
        _tune(machine, options, arguments)
    return 0


def _show(machine: Machine, folder: Path | None, as_json: bool) -> None:
    from compiler.kept_tuning import kept_tuning

    kept = kept_tuning(machine, folder)
    if as_json:
        print_json({"machine": machine.name, "cpu": machine.cpu, "kept": None if kept is None else _as_json(kept)})
    elif kept is None:
        print_wrapped(f"{machine.name} ({machine.cpu}): not tuned; `dlc tune` measures which numbers it prefers")
    else:
        gains = {name: f" ({_gain(gain)})" for name, gain in kept.gains.items()}
        numbers = [f"  {name} = {value}{gains.get(name, '')}" for name, value in kept.tuning.changes.items()]
        with_threads = counted(kept.threads, "thread")
        print_wrapped(f"{machine.name} ({machine.cpu}): tuned on {kept.measured} with {with_threads}; {kept.file}")
        print("\n".join(numbers or ["  no number was found to be better than the usual one"]))


def _forget(machine: Machine, folder: Path | None, as_json: bool) -> None:
    from compiler.kept_tuning import forget_tuning

    was_there = forget_tuning(machine, folder)
    if as_json:
        print_json({"machine": machine.name, "cpu": machine.cpu, "forgotten": was_there})
    else:
        say(f"{machine.name} ({machine.cpu}): {'its tuning is forgotten' if was_there else 'no tuning was kept'}")


def _tune(machine: Machine, options: Options, arguments: Namespace) -> None:
    from compiler.kept_tuning import expect_keepable, tuning_file
    from runtime.analysis.tuning import keep, tuned

    expect_keepable(tuning_file(machine, options.cache))
    seconds = arguments.seconds or _SECONDS
    say(f"{machine.name} ({machine.cpu}), {counted(options.threads, 'thread')}, about {seconds:g} s")
    report = tuned(options, seconds, _say_tried)
    left = sum(not tried.ratios for tried in report.tried)
    if left == len(report.tried):
        raise UsageError("there was no time for any choice", "give more --seconds")
    if left:
        say(f"there was no time for {left} of {len(report.tried)} choices; --seconds gives them more")
    kept = keep(report, options)
    if arguments.json:
        print_json({"machine": machine.name, "cpu": machine.cpu, **_as_json(kept), **_report_as_json(report)})
        return
    for name, ratio in report.workloads:
        print_wrapped(f"{name}: {_gain(ratio.value)} (differences below {ratio.noise:.1%} are noise)")
    if report.why:
        print_wrapped(f"no number is kept: {report.why}")
    print_wrapped(f"kept in {kept.file}: {kept.tuning.description}")


def _say_tried(tried: Tried) -> None:
    """A line of progress."""
    if tried.ratios:
        ratios = ", ".join(f"{value} {_gain(ratio.value)}" for value, ratio in tried.ratios)
        begin = f"{tried.choice.workload}: {tried.choice.number} {tried.usual}"
        say(f"{begin}; {ratios}: {tried.why or f'{tried.value} is better'}")


def _gain(ratio: float) -> str:
    return f"{ratio:.3f} times as fast"


def _as_json(kept: KeptTuning) -> dict[str, Any]:
    numbers, gains = kept.tuning.changes, {name: round(gain, 4) for name, gain in kept.gains.items()}
    said = {"measured": kept.measured, "threads": kept.threads, "file": str(kept.file)}
    return {**said, "numbers": numbers, "gains": gains}


def _report_as_json(report: TuningReport) -> dict[str, Any]:
    tried = [
        {
            "number": t.choice.number,
            "workload": t.choice.workload,
            "usual": t.usual,
            "value": t.value,
            "ratios": [{"value": v, "ratio": round(r.value, 4), "noise": round(r.noise, 4)} for v, r in t.ratios],
            "why": t.why or None,
        }
        for t in report.tried
    ]
    workloads = {name: {"ratio": round(r.value, 4), "noise": round(r.noise, 4)} for name, r in report.workloads}
    return {"tried": tried, "workloads": workloads, "why": report.why or None, "seconds": round(report.seconds, 1)}
