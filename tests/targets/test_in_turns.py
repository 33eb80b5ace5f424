"""Shares of many threads measured on one: they are all there, change no bit, and add up to what they should."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from compiler import driver
from compiler.errors.diagnostics import CompilerBug
from compiler.interface import Steps
from compiler.profiling.simulation import shares_of, slowdowns
from compiler.programs import executables
from compiler.programs.kinds import TRAINING
from compiler.targets.lowered import Lowered
from compiler.targets.manifest import Manifest
from compiler.targets.recording import EVENT, HEAD, TAIL, WAITS, Step, is_wait
from compiler.targets.target import RecordingProgram

MODEL = """
model Reader(tokens = 12, width = 32, heads = 2) {
    input x: f32[batch, tokens, width]
    output y = (attention(heads)(x, x, x) |> lstm(width))[:, -1] |> dense(4)
}

train Reader {
    data = csv("none.csv")
    target t: f32[batch, 4]
    loss = mse(y, t)
    optimizer = adam(lr = 0.1)
    batch = 16
    epochs = 1
}
"""
BATCH, STEPS = 16, 2
Contents = dict[str, bytes]


def in_turns(counts: list[int]) -> tuple[Lowered, list[RecordingProgram], driver.Program, driver.Options]:
    program = driver.load_text(MODEL, "reader.dl")
    options = driver.Options(threads=1, batch=BATCH)
    made = executables.simulated_programs(program, TRAINING, options, counts)[TRAINING]
    return made.lowered, list(made.in_turns.values()), program, options


def trained(executable: driver.Executable, program: driver.Program, options: driver.Options) -> Contents:
    tensors = driver.allocate(program, options)
    driver.initialise(program, tensors, 0, options)
    random = np.random.default_rng(0)
    data = {"x": random.random((BATCH, 12, 32), np.float32), "t": random.random((BATCH, 4), np.float32)}
    manifest = executable.manifest  # type: ignore[attr-defined]
    assert isinstance(manifest, Manifest)
    settings = dict.fromkeys(manifest.settings, 0.1)
    executable.run(Steps(tensors, data, np.tile(np.arange(BATCH), STEPS), BATCH, settings=settings))
    return {name: tensors[name].tobytes() for name in tensors.names()}


def test_the_shares_of_any_number_of_threads_make_the_same_bits() -> None:
    _, made, program, options = in_turns([1, 2, 3, 5, 16, 64])
    expected = trained(driver.compile_program(program, TRAINING, options), program, options)
    for executable in made:
        assert trained(executable, program, options) == expected


def test_every_share_is_recorded_for_its_thread() -> None:
    lowered, made, program, options = in_turns([1, 7])
    items: list[dict[tuple[int, int], int]] = []
    waits: list[int] = []
    for executable in made:
        trained(executable, program, options)
        (recording,) = executable.recordings()
        assert (len(recording.steps), recording.lost) == (STEPS, 0)
        found: dict[tuple[int, int], int] = {}
        for events in recording.steps[-1].events:
            assert list(events["entry"][-2:]) == [TAIL, HEAD]
            for event in events[~is_wait(events)]:
                key = int(event["entry"]), int(event["shard"])
                found[key] = found.get(key, 0) + int(event["last"] - event["first"])
        items.append(found)
        waits += [int(is_wait(events).sum()) for events in recording.steps[-1].events]
        assert shares_of(recording.steps).barriers == waits[-1], "those around a step are barriers as well"
    assert items[0] == items[1]
    assert len(set(waits)) == 1, "all threads meet at each barrier"
    assert any(entry.flags & 2 for entry in lowered.manifest.entries)


def events(*rows: tuple[int, int] | None) -> NDArray[np.void]:
    """Calls as (entry, nanoseconds), one after the other; None is a barrier."""
    made: list[tuple[int, int, int, int, int, int]] = []
    now = 0
    for row in rows:
        entry, lasted = row or (0, 0)
        made.append((entry, now, now + lasted, 0, 1 if row else WAITS, 0))
        now += lasted
    around = [(TAIL, now, now, 0, WAITS, -1), (HEAD, now, now, 0, WAITS, -1)]
    return np.array([*made, *around], EVENT)


def step(*threads: NDArray[np.void]) -> Step:
    return Step(threads, np.zeros((len(threads), 2), np.int64))


def test_a_step_takes_the_longest_shares_and_its_barriers() -> None:
    """Three stretches: of 30 and 10; of 5 and 25, where the second has two kernels; of 7 by one thread alone."""
    made = step(events((1, 30), None, (2, 5), None, (4, 7)), events((1, 10), None, (2, 5), (3, 20), None))
    shares = shares_of([made])
    assert shares.work.tolist() == [[30, 10], [5, 25], [7, 0]]
    assert (shares.barriers, shares.nanoseconds(0.0), shares.nanoseconds(100.0)) == (4, 62, 462)
    assert shares.entries.tolist() == [1, 2, 3, 4]
    assert shares.total.tolist() == [40, 10, 20, 7]
    assert shares.critical.tolist() == [30, 5, 20, 7], "of the thread that the others wait for"
    assert shares.sharers.tolist() == [2, 2, 1, 1]
    assert shares.lost.tolist() == [10, 0, 10, 3.5]
    assert shares.critical.sum() == shares.nanoseconds(0.0)


def test_of_several_steps_the_lower_quartile_counts() -> None:
    steps = [step(events((1, lasted))) for lasted in (50, 10, 20, 30, 40)]
    assert shares_of(steps).nanoseconds(0.0) == 20


def test_steps_that_differ_are_refused() -> None:
    with pytest.raises(CompilerBug, match="different calls"):
        shares_of([step(events((1, 10))), step(events((2, 10)))])


def test_what_slows_threads_at_once_is_told_by_kernel() -> None:
    turns = [step(events((1, 30), (2, 10)), events((1, 10)))]
    real = [step(events((1, 60), (2, 10)), events((1, 20)))]
    assert slowdowns(real, turns) == {1: 2.0, 2: 1.0}
    slower = shares_of([step(events((1, 30), (2, 10)), events((1, 10)))], slowdowns(real, turns))
    assert slower.nanoseconds(0.0) == 70


def test_threads_that_run_at_once_may_have_no_share_of_a_kernel_in_some_steps() -> None:
    turns = [step(events((1, 30)), events((1, 30)))]
    real = [step(events((1, 60)), events((1, 60))), step(events((1, 120)), events())]
    assert slowdowns(real, turns) == {1: 2.0}
