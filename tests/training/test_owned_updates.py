"""Updates that processes divide: each makes its part with the bits of the whole, and holds no other states."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from peers_in_threads import ThreadPeers, together

from compiler import driver
from compiler.driver import ALONE, Array, Options, Peers, Program
from compiler.graph.ir import Role
from compiler.interface import Steps
from compiler.programs.executables import layout_of_update
from compiler.programs.kinds import TRAINING
from compiler.programs.shard_owners import UpdateLayout, buckets_of, divided
from compiler.targets.manifest import TensorSpec
from compiler.targets.memory import LARGE_PAGE, TensorStore, release
from compiler.types import DType, TensorType, static_elements
from runtime.inference.model import runtime_settings

TEXT = """
model M(hidden = 200) {
    input x: f32[batch, 5]
    output y = x |> dense(hidden) |> tanh |> dense(3)
}

train M {
    target t: f32[batch, 3]
    loss = mse(y, t)
    optimizer = OPTIMIZER
    penalty = l2(1e-2)
    MORE
    batch = 6
    shards = 4
    steps = 4
}
"""
DRAWN = np.random.default_rng(2)
DATA = {name: DRAWN.normal(size=(12, width)).astype(np.float32) for name, width in (("x", 5), ("t", 3))}


def loaded(optimizer: str, more: str = "") -> Program:
    return driver.load_text(TEXT.replace("OPTIMIZER", optimizer).replace("MORE", more), "model.dl")


def trained(program: Program, options: Options, peers: Peers = ALONE, completes: bool = True) -> dict[str, Array]:
    tensors = driver.allocate(program, options)
    driver.initialise(program, tensors, 0, options)
    step = driver.compile_program(program, TRAINING, options)
    data = {name: array.astype(np.float64 if options.dtype == "f64" else np.float32) for name, array in DATA.items()}
    found: dict[str, Array] = {}
    for call in range(2):
        run = Steps(tensors, data, np.arange(12), 6, 2 * call, 0, runtime_settings(program), peers)
        results = step.run(run)
        assert not results.nonfinite
        found |= {f"{name} {call}": values for name, values in results.scalars.items()}
    if peers.size > 1 and completes:
        driver.owned_states(program, options, tensors, peers).complete()
    return {**found, **{name: tensors[name].copy() for name in tensors.names()}}


def layout_of(program: Program, processes: int = 3) -> UpdateLayout:
    return layout_of_update(program, Options(threads=1), processes)


ELEMENTWISE = ["adam(lr = 0.01)", "gradient_descent(lr = 0.1)", "lion(lr = 0.01)"]
OF_TENSORS = ["[muon(on = matrices), adam(lr = 0.01)]", "adafactor(lr = 0.01)", "lamb(lr = 0.01)"]


@pytest.mark.parametrize("more", ["", "clip = global_norm(0.01)", "clip = norm(0.01)", "ema = 0.9"])
@pytest.mark.parametrize("optimizer", [ELEMENTWISE[0], OF_TENSORS[0]])
def test_three_processes_make_the_update_of_one(optimizer: str, more: str) -> None:
    expect_equal(loaded(optimizer, more), Options(threads=1))


@pytest.mark.parametrize("optimizer", [*ELEMENTWISE[1:], *OF_TENSORS[1:]])
def test_every_kind_of_rule_is_divided(optimizer: str) -> None:
    expect_equal(loaded(optimizer), Options(threads=1))


def test_the_reference_divides_it_too() -> None:
    expect_equal(loaded("adam(lr = 0.01)", "clip = global_norm(0.01)"), Options(target="reference", dtype="f64"))


def expect_equal(program: Program, options: Options) -> None:
    wanted = trained(program, options)
    for found in together(3, lambda peers: trained(program, options, peers)):
        assert found.keys() == wanted.keys()
        for name, values in wanted.items():
            assert np.array_equal(found[name], values), name


def test_rules_of_elements_are_cut_and_others_have_one_owner() -> None:
    for optimizer in ELEMENTWISE:
        layout = layout_of(loaded(optimizer))
        assert any(layout.is_cut(path) for path in layout.shapes), optimizer
        assert layout.given == ()
    for optimizer in OF_TENSORS:
        layout = layout_of(loaded(optimizer))
        assert not any(layout.is_cut(path) and len(layout.shapes[path]) > 1 for path in layout.shapes), optimizer
    clipped = layout_of(loaded(ELEMENTWISE[0], "clip = global_norm(0.01)"))
    assert not any(map(clipped.is_cut, clipped.shapes))
    assert [one.path for one in clipped.given] == list(clipped.shapes)


def test_a_process_writes_its_own_states_alone() -> None:
    """What it does not own stays 0, so that its memory is never taken."""
    program, options = loaded("adam(lr = 0.01)"), Options(threads=1)
    layout = layout_of(program)
    wanted = trained(program, options)
    every = together(3, lambda peers: trained(program, options, peers, completes=False))
    for rank, found in enumerate(every):
        for name, path in layout.states.items():
            own = np.zeros(found[name].size, np.bool_)
            own[layout.stretch(path, rank)] = True
            assert np.array_equal(found[name].reshape(-1)[own], wanted[name].reshape(-1)[own])
            assert not found[name].reshape(-1)[~own].any()


def test_the_first_process_collects_what_it_saves() -> None:
    program, options = loaded("adam(lr = 0.01)"), Options(threads=1)

    def collected(peers: ThreadPeers) -> dict[str, Array]:
        tensors = driver.allocate(program, options)
        states = driver.owned_states(program, options, tensors, peers)
        for own in states.own.values():
            own[:] = 1 + peers.rank
        states.collect()
        return {name: tensors[name].copy() for name in layout_of(program).states}

    first, second, _ = together(3, collected)
    assert all((values > 0).all() for values in first.values())
    assert not all((values > 0).all() for values in second.values())


@pytest.mark.parametrize("least", [1, 3000, 1 << 20])
@pytest.mark.parametrize("processes", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("cuts", [lambda path: True, lambda path: False, lambda path: path == "b"])
def test_each_element_has_one_owner(processes: int, cuts: Callable[[str], bool], least: int) -> None:
    shapes = {"a": (3, 5), "b": (100, 7), "c": (), "d": (64,), "e": (1000,), "f": (0, 4)}
    types = {path: TensorType(DType.F64 if path == "d" else DType.F32, shape) for path, shape in shapes.items()}
    cuttable = {path: cuts(path) for path in shapes}
    buckets = buckets_of([*types.items()], cuttable, least)
    assert sorted(path for bucket in buckets for path in bucket) == [*shapes]
    found = divided(buckets, types, cuttable, processes)
    for path, type_ in types.items():
        assert [k for own in found[path] for k in own] == [*range(static_elements(type_.shape))]
        owners = [own for own in found[path] if own]
        assert cuts(path) or len(owners) <= 1
        assert all(own.start * type_.dtype.size % 64 == 0 for own in owners)


def test_released_pages_hold_zeros() -> None:
    store = TensorStore([TensorSpec("a", Role.OPTIMIZER_STATE, DType.F32, (LARGE_PAGE,))])
    flat = store["a"].reshape(-1)
    flat.flags.writeable = True
    flat[:] = 1
    release(flat[5:-5])
    assert flat[0] == 1
    assert not flat[LARGE_PAGE // 2]
    small = np.ones(100)
    release(small)
    assert small.all()
