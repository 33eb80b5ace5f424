"""Buckets of gradients are sent while the backward pass still computes, in the planned order, with the same bits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
from peers_in_threads import ThreadPeers, together

from compiler import driver
from compiler.driver import ALONE, Array, Options, Peers, Program
from compiler.inspection.shard_traffic import buckets_of_step, traffic_of
from compiler.interface import Steps, Transfer
from compiler.programs.executables import layout_of_update
from compiler.programs.kinds import TRAINING
from compiler.programs.shard_exchange import Bucket, Exchange, WatchedStep
from compiler.targets.target import WatchedProgram
from compiler.tuning import Tuning
from runtime.inference.model import runtime_settings

TEXT = """
model M(hidden = 256) {
    input x: f32[batch, 64]
    output y = x |> dense(hidden) |> NORM |> tanh |> dense(hidden) |> tanh |> dense(hidden) |> tanh |> dense(3)
}

train M {
    target t: f32[batch, 3]
    loss = mse(y, t)
    optimizer = OPTIMIZER
    batch = 128
    shards = 4
    steps = 100
}
"""
DRAWN = np.random.default_rng(2)
DATA = {name: DRAWN.normal(size=(256, width)).astype(np.float32) for name, width in (("x", 64), ("t", 3))}
SMALL = Options(threads=1, tuning=replace(Tuning(), bucket_bytes=1 << 14))


def loaded(norm: str = "relu", optimizer: str = "adam(lr = 0.01)", **keys: str) -> Program:
    text = TEXT.replace("NORM", norm).replace("OPTIMIZER", optimizer)
    return driver.load_text(text, "model.dl", None, tuple(keys.items()))


def trained(program: Program, peers: Peers = ALONE, calls: int = 1, rows: int = 256) -> dict[str, Array]:
    tensors = driver.allocate(program, SMALL)
    driver.initialise(program, tensors, 0, SMALL)
    step = driver.compile_program(program, TRAINING, SMALL)
    for call in range(calls):
        step.run(Steps(tensors, DATA, np.arange(rows), 128, 2 * call, 0, runtime_settings(program), peers))
    if peers.size > 1:
        driver.owned_states(program, SMALL, tensors, peers).complete()
    return {name: tensors[name].copy() for name in tensors.names()}


def sent_in_a_step(program: Program, peers: ThreadPeers) -> tuple[int, int]:
    """Bytes and messages."""
    tensors = driver.allocate(program, SMALL)
    driver.initialise(program, tensors, 0, SMALL)
    step = driver.compile_program(program, TRAINING, SMALL)
    step.run(Steps(tensors, DATA, np.arange(128), 128, 0, 0, runtime_settings(program), peers))
    return peers.sent_bytes, peers.messages


class Watched:
    """A program whose lines a test passes."""

    tensors: Sequence[object] = ()
    threads = 1
    lines: Mapping[str, int] = MappingProxyType({"late": 5, "early": 2, "middle": 3})
    line = 99

    def run(self, steps: Steps) -> object: ...
    def call(self, inputs: object, batch: int = 1, *, seed: int = 0) -> object: ...

    def watch(self) -> Callable[[], int]:
        self.line = 0
        return lambda: self.line


@pytest.fixture
def exchange() -> Exchange:
    return Exchange(ThreadPeers(0, [[]], [[]]))


def test_a_bucket_is_sent_when_its_last_tensor_is_finished_and_not_before(exchange: Exchange) -> None:
    program, sent = Watched(), {name: threading.Event() for name in ("first", "second")}
    buckets = [Bucket(("early", "middle"), sent["first"].set), Bucket(("late",), sent["second"].set)]
    assert isinstance(program, WatchedProgram)
    with exchange.during(program, buckets):
        program.line = 3  # the line of `middle` is under way
        assert not sent["first"].wait(0.02)
        program.line = 4
        assert sent["first"].wait(30)
        assert not sent["second"].is_set()
    assert sent["second"].is_set(), "the end of a step finishes what is left"


def test_nothing_is_sent_of_a_step_that_fails(exchange: Exchange) -> None:
    sent: list[int] = []
    buckets = [Bucket(("early",), lambda: sent.append(1)), Bucket(("nowhere",), lambda: sent.append(2))]
    with pytest.raises(KeyboardInterrupt), exchange.during(Watched(), buckets):  # type: ignore[arg-type]
        raise KeyboardInterrupt
    assert sent == []


def test_a_mistake_in_sending_reaches_the_caller(exchange: Exchange) -> None:
    def fail() -> None:
        raise RuntimeError("no connection")

    with (
        pytest.raises(RuntimeError, match="no connection"),
        exchange.during(Watched(), [Bucket(("early",), fail)] * 2),  # type: ignore[arg-type]
    ):
        pass


class RecordingPeers(ThreadPeers):
    """Notes of each bucket that is sent how far the step is then, and the line that finishes the last gradient."""

    notes: list[tuple[int, int]]
    step: WatchedStep

    def begin(self, sent: Sequence[Sequence[Array]], received: Sequence[Sequence[Array]]) -> Transfer:
        if any(sent):
            self.notes.append((self.step.line(), max(self.step.lines.values())))
        return super().begin(sent, received)


def test_the_first_bucket_leaves_before_the_last_kernel_of_the_backward_pass_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In some step at least, of many, as other work of the machine may hold the thread up."""
    current = threading.local()

    def watched(program: WatchedProgram) -> WatchedStep:
        current.peers.step = WatchedStep(program)
        return current.peers.step

    monkeypatch.setattr("compiler.programs.shard_exchange.WatchedStep", watched)

    def noted(peers: ThreadPeers) -> list[tuple[int, int]]:
        current.peers = recording = RecordingPeers(peers.rank, peers.queues, peers.early)
        recording.notes = []
        trained(loaded(), recording, calls=10)
        return recording.notes

    for notes in together(2, noted):
        assert any(0 < line <= last for line, last in notes), notes


@pytest.mark.parametrize("optimizer", ["adam(lr = 0.01)", "[muon(on = matrices), adam(lr = 0.01)]"])
@pytest.mark.parametrize("keys", [{}, {"synchronised": "true"}])
def test_buckets_change_no_bit(optimizer: str, keys: dict[str, str]) -> None:
    program = loaded("batch_norm", optimizer, **keys)
    wanted = trained(program)
    for found in together(3, lambda peers: trained(program, peers)):
        for name, values in wanted.items():
            assert np.array_equal(found[name], values), name


@pytest.mark.parametrize(("processes", "near"), [(2, 2), (3, 2), (4, 2), (4, 4)])
@pytest.mark.parametrize("keys", [{}, {"synchronised": "true"}, {"ema": "0.9"}])
def test_memory_that_processes_see_of_each_other_changes_no_bit(
    processes: int, near: int, keys: dict[str, str]
) -> None:
    """Not in a step, either, that has fewer rows than shards."""
    program = loaded("batch_norm", "[muon(on = matrices), adam(lr = 0.01)]", **keys)
    wanted = trained(program, calls=3, rows=131)
    for found in together(processes, lambda peers: trained(program, peers, calls=3, rows=131), near):
        for name, values in wanted.items():
            assert np.array_equal(found[name], values), name


def test_processes_that_see_each_other_send_a_byte_to_meet() -> None:
    """Twice in a step: when all have their gradients, and when all have new weights."""
    program = loaded()
    assert together(2, lambda peers: sent_in_a_step(program, peers), near=2) == [(2, 2)] * 2


def test_buckets_follow_the_backward_pass_and_are_divided_among_all() -> None:
    program = loaded(optimizer="[muon(on = matrices), adam(lr = 0.01)]")
    layout = layout_of_update(program, SMALL, 3)
    assert sorted(path for bucket in layout.buckets for path in bucket) == sorted(layout.shapes)
    rows = buckets_of_step(program, SMALL, 3)
    assert [row.tensors for row in rows] == [*layout.buckets]
    assert all(row.after for row in rows)
    assert [row.kernel for row in rows] == sorted({row.kernel for row in rows})
    owners = {layout.owner(path) for path in layout.shapes if path.endswith("W")}
    assert owners == {0, 1, 2}, "matrices that are not cut are dealt out"
    elementwise = layout_of_update(loaded(), SMALL, 3)
    assert len(elementwise.buckets) == 3
    for bucket in elementwise.buckets:
        shares = [sum(len(elementwise.stretches[path][rank]) for path in bucket) for rank in range(3)]
        assert max(shares) - min(shares) <= 32 * len(bucket)


@pytest.mark.parametrize("keys", [{}, {"clip": "global_norm(1.0)"}, {"clip": "value(0.1)"}])
def test_the_plan_says_what_is_sent_in_buckets(keys: dict[str, str]) -> None:
    program = loaded(**keys)

    said, found = traffic_of(program, SMALL, 3), together(3, lambda peers: sent_in_a_step(program, peers))
    assert (said.sent_bytes, said.messages) == (max(size for size, _ in found), max(count for _, count in found))
