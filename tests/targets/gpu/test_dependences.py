"""Every two calls that touch the same byte, of which one writes it, are ordered; and nothing is that follows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import pytest

from compiler import driver
from compiler.driver import Options
from compiler.programs.kinds import TRAINING
from compiler.programs.stages import graph_of, prepared, scheduled
from compiler.schedule.ir import Arena, Instance, Schedule
from compiler.targets.gpu.dependences import calls_of, dependences
from compiler.targets.gpu.device import DEVICE
from compiler.targets.gpu.lower import lower
from compiler.targets.gpu.touched_bytes import with_touched_bytes
from compiler.targets.manifest import LOOP, Manifest, Touched
from compiler.types import BatchExtent
from runtime.data.dimensions import dimensions_if_there

ROOT = Path(__file__).parents[3]
CAPACITY = 48  # rows, in the batch arena


@dataclass(frozen=True)
class Bytes:
    """Where a call of an instance reads or writes: arena, first byte and the byte behind the last."""

    arena: object
    begin: int
    end: int


def bytes_of(plan: Schedule, buffer: int) -> Bytes:
    """All bytes of a buffer; those of tensors and of the control block are arenas of their own."""
    place, storage = plan.places[buffer], plan.buffers[buffer]
    if place.arena in (Arena.TENSORS, Arena.CONTROL):
        return Bytes((place.arena, place.offset), 0, 1)
    rows = CAPACITY if place.arena is Arena.BATCH else 1
    multiple = storage.elements.multiple if isinstance(storage.elements, BatchExtent) else storage.elements
    begin = place.offset * rows
    return Bytes(place.arena, begin, begin + multiple * rows * storage.dtype.size)


def reached(waits: Sequence[tuple[int, ...]]) -> list[int]:
    """For each call, all that it waits for, as bits."""
    found: list[int] = []
    for before in waits:
        bits = 0
        for number in before:
            bits |= found[number] | 1 << number
        found.append(bits)
    return found


def experiments() -> list[tuple[str, str | None]]:
    """The models of the examples and of the zoo, each once for each of its trainings."""
    files = [*(ROOT / "examples").glob("*/*.dl"), *(ROOT / "benchmarks/zoo").glob("*.dl")]
    trainings = {file: re.findall(r"^train (\w+)", file.read_text(), re.MULTILINE) for file in sorted(files)}
    found = [(str(file.relative_to(ROOT)), name) for file, names in trainings.items() for name in names or [None]]
    return found


def step_of(file: str, experiment: str | None = None) -> tuple[Schedule, Manifest, dict[int, Instance]]:
    """The plan of a training step, its manifest, and its instances by their first argument."""
    program = driver.load(ROOT / file, experiment, (), dimensions_if_there)
    options = driver.options_of(program, Options("gpu", batch=4))
    graph = prepared(graph_of(program, TRAINING, options), options)
    lowered = with_touched_bytes(lower(graph, scheduled(graph, options, DEVICE), DEVICE, 4, lambda _: ""))
    instances = dict(zip(lowered.firsts, (instance for _, instance in lowered.instances), strict=True))
    return lowered.plan, lowered.manifest, instances


def conflicts_of(plan: Schedule, instances: dict[int, Instance]) -> dict[int, list[int]]:
    """For each instance those that touch a byte which it touches, one of both writing; by their first arguments."""
    spans = [
        (first, bytes_of(plan, buffer), writes)
        for first, instance in instances.items()
        for buffers, writes in ((instance.reads, False), (instance.writes, True))
        for buffer in buffers
    ]
    arenas = list(dict.fromkeys(span.arena for _, span, _ in spans))
    columns = [(first, arenas.index(b.arena), b.begin, b.end, writes) for first, b, writes in spans]
    firsts, places, begins, ends, written = map(np.array, zip(*columns, strict=True))
    found: dict[int, list[int]] = {first: [] for first in instances}
    for first, place, begin, end, writes in columns:
        is_met = (places == place) & (begins < end) & (begin < ends) & (written | writes)
        found[first] += firsts[is_met].tolist()
    return {first: list(dict.fromkeys(others)) for first, others in found.items()}


@pytest.mark.parametrize(("file", "experiment"), experiments())
def test_every_conflict_is_ordered(file: str, experiment: str | None) -> None:
    plan, manifest, instances = step_of(file, experiment)
    calls = list(calls_of(manifest, 0, len(manifest.entries)))
    waits = dependences([manifest.touched[call.entry] for call in calls])
    conflicts = conflicts_of(plan, instances)
    made, ordered = dict.fromkeys(instances, 0), 0  # the calls of each instance, as bits
    for number, (call, before) in enumerate(zip(calls, reached(waits), strict=True)):
        first = manifest.entries[call.entry].first_argument
        wanted = 0
        for other in conflicts[first]:
            wanted |= made[other]
        assert not wanted & ~before, f"{number} does not wait for all that it must"
        ordered += wanted.bit_count()
        made[first] |= 1 << number
    assert ordered > len(calls) / 2
    assert sum(map(len, waits)) < len(calls) * 4


def test_some_calls_of_a_step_are_beside_each_other() -> None:
    _, manifest, _ = step_of("benchmarks/zoo/gpt_mini.dl")
    calls = list(calls_of(manifest, 0, len(manifest.entries)))
    depth: list[int] = []
    for waits in dependences([manifest.touched[call.entry] for call in calls]):
        depth.append(1 + max((depth[number] for number in waits), default=0))
    assert max(depth) < 0.8 * len(calls)


def test_loops_are_unrolled() -> None:
    _, manifest, _ = step_of("benchmarks/zoo/lstm.dl")
    loops = [entry for entry in manifest.entries if entry.function == LOOP]
    calls = list(calls_of(manifest, 0, len(manifest.entries)))
    assert loops
    inside = [call for call in calls if call.counters]
    assert {call.counters[0] for call in inside} == set(range(64))


def any_touched(random: Random) -> Touched:
    begin = random.randrange(12)
    return Touched(random.randrange(3), begin, begin + random.randint(1, 6), random.random() < 0.4)


@pytest.mark.parametrize("seed", range(100))
def test_dependences_of_any_calls_are_those_of_their_bytes(seed: int) -> None:
    """They order exactly what conflicts, or follows from conflicts; and without any one of them, they would not."""
    random = Random(seed)
    touched = [[any_touched(random) for _ in range(random.randrange(5))] for _ in range(random.randrange(15))]
    wanted: list[int] = []
    for number, line in enumerate(touched):
        bits = 0
        for other in range(number):
            if any(
                a.arena == b.arena and a.begin < b.end and b.begin < a.end and (a.writes or b.writes)
                for a in line
                for b in touched[other]
            ):
                bits |= wanted[other] | 1 << other
        wanted.append(bits)
    found = dependences(touched)
    assert reached(found) == wanted
    for number, waits in enumerate(found):
        for left_out in waits:
            others = tuple(k for k in waits if k != left_out)
            assert reached([*found[:number], others])[-1] != wanted[number]
