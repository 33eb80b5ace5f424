"""The stamps of a profile: what they record is complete, and nothing of them is in the runner of other programs."""

from __future__ import annotations

import numpy as np
import pytest
from native import host

from compiler import driver
from compiler.interface import Steps
from compiler.machine import NEON
from compiler.programs import executables
from compiler.programs.kinds import TRAINING
from compiler.targets.cpu.runner import Clock, clock_of, runner_text
from compiler.targets.llvm.jit import assembly
from compiler.targets.manifest import Manifest
from compiler.targets.recording import HEAD, TAIL, is_wait
from compiler.targets.target import ProfiledProgram

RNN = """
model Counter {
    input x: f32[batch, 12, 4]
    output y = (x |> lstm(8))[:, -1] |> dense(2)
}

train Counter {
    data = csv("none.csv")
    target t: f32[batch, 2]
    loss = mse(y, t)
    optimizer = gradient_descent(lr = 0.1)
    batch = 8
    epochs = 1
}
"""
BATCH, STEPS = 8, 3


def profiled(text: str, threads: int) -> tuple[ProfiledProgram, driver.Program, driver.Options]:
    program = driver.load_text(text, "counter.dl")
    options = driver.Options(threads=threads, batch=BATCH)
    return executables.profiled_programs(program, TRAINING, options)[TRAINING], program, options


def run(executable: driver.Executable, program: driver.Program, options: driver.Options) -> driver.Tensors:
    tensors = driver.allocate(program, options)
    driver.initialise(program, tensors, 0, options)
    random = np.random.default_rng(0)
    data = {"x": random.random((BATCH, 12, 4), np.float32), "t": random.random((BATCH, 2), np.float32)}
    settings = {name: 0.1 for name in _settings(executable)}
    executable.run(Steps(tensors, data, np.tile(np.arange(BATCH), STEPS), BATCH, settings=settings))
    return tensors


def _settings(executable: driver.Executable) -> tuple[str, ...]:
    manifest = executable.manifest  # type: ignore[attr-defined]
    assert isinstance(manifest, Manifest)
    return manifest.settings


def test_the_plain_runner_has_no_stamps() -> None:
    machine = host()
    plain, stamped = runner_text(machine).splitlines(), runner_text(machine, clock_of(machine)).splitlines()
    assert not [row for row in plain if "stamp" in row or "ticks" in row]
    # the other is the same with lines more: without them, and the functions behind, nothing differs
    begin = stamped.index(
        "; What only the runner of a profile has: for each thread a buffer of events. The slot of the program block"
    )
    assert [row for row in stamped[: begin - 1] if "stamp" not in row and "@ticks" not in row] == plain


@pytest.mark.parametrize("clock", Clock)
def test_every_clock_becomes_code(clock: Clock) -> None:
    machine = NEON if clock is Clock.GENERIC_TIMER else host()
    text = assembly(runner_text(machine, clock), machine).lower()
    assert ("cntvct_el0" in text) is (clock is Clock.GENERIC_TIMER)
    assert ("clock_gettime" in text) is (clock is Clock.MONOTONIC)
    assert ("rdtsc" in text) is (clock is Clock.TIME_STAMP_COUNTER) or machine.architecture != "x86_64"


@pytest.mark.parametrize("threads", [1, 2])
def test_events_cover_every_step(threads: int) -> None:
    made, program, options = profiled(RNN, threads)
    run(made.stamped, program, options)
    (recording,) = made.stamped.recordings()
    assert (len(recording.steps), recording.made, recording.lost) == (STEPS, STEPS, 0)
    for step in recording.steps:
        for events, (begin, end) in zip(step.events, step.spans, strict=True):
            assert list(events["entry"][-2:]) == [TAIL, HEAD]
            assert (events["begin"] <= events["end"]).all()
            assert (events["end"][:-1] <= events["begin"][1:]).all()  # one after the other
            assert begin <= events["begin"][0]
            assert events["end"][-1] == end
    # what follows from the text: the body of the scan runs once for each of its 12 steps, but for panels that last
    manifest, step = made.lowered.manifest, recording.steps[0]
    ran = np.concatenate([events[~is_wait(events)] for events in step.events])
    counts = {line: int((ran["entry"] == line).sum()) for line in {*ran["entry"].tolist()}}
    assert set(counts) <= {n for n, entry in enumerate(manifest.entries) if entry.function >= 0}
    loops = {line: made.lowered.call_of(line)[1].loops for line in counts}
    assert max(count for line, count in counts.items() if loops[line]) >= 12
    assert all(loops[line] or count <= threads for line, count in counts.items())


def test_all_items_are_recorded_whatever_the_threads() -> None:
    items: list[dict[tuple[int, int], int]] = []
    for threads in (1, 2):
        made, program, options = profiled(RNN, threads)
        run(made.stamped, program, options)
        (recording,) = made.stamped.recordings()
        found: dict[tuple[int, int], int] = {}
        for events in recording.steps[0].events:
            for event in events[~is_wait(events)]:
                key = int(event["entry"]), int(event["shard"])
                found[key] = found.get(key, 0) + int(event["last"] - event["first"])
        items.append(found)
    assert items[0] == items[1]


def test_stamps_change_no_bit() -> None:
    made, program, options = profiled(RNN, 1)
    plain, stamped = run(made.plain, program, options), run(made.stamped, program, options)
    assert all(plain[name].tobytes() == stamped[name].tobytes() for name in plain.names())


def test_what_finds_no_room_is_counted() -> None:
    made, program, options = profiled(RNN, 1)
    made.stamped.room = 200
    run(made.stamped, program, options)
    (recording,) = made.stamped.recordings()
    assert recording.lost > 0
    assert len(recording.steps) < recording.made == STEPS
