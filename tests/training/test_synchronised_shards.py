"""`synchronised` in `train`: statistics over all shards, the update of the whole batch, the same bits in any number of
processes."""

from __future__ import annotations

import numpy as np
import pytest
from elaboration import codes, mistakes
from peers_in_threads import ThreadPeers, together

from compiler import driver
from compiler.driver import ALONE, Array, Options, Peers, Program
from compiler.inspection.shard_traffic import traffic_of
from compiler.interface import Steps
from compiler.programs.executables import segments_of_shard
from compiler.programs.kinds import TRAINING
from runtime.inference.model import runtime_settings

ROWS, BATCH = 32, 14  # two batches of 14, and one of 4, in which the last shards have no row
DRAWN = np.random.default_rng(1)
DATA = {
    "x": DRAWN.normal(size=(ROWS, 5)).astype(np.float32),
    "image": DRAWN.normal(size=(ROWS, 2, 6, 6)).astype(np.float32),
    "t": DRAWN.normal(size=(ROWS, 3)).astype(np.float32),
    "keep": DRAWN.random(ROWS) > 0.4,
}
TRAIN = """
train M {
    target t: f32[batch, 3]
    target keep: bool[batch]
    loss = LOSS
    metrics = [mae(y, t)]
    optimizer = gradient_descent(lr = 0.05)
    penalty = l2(1e-2)
    clip = global_norm(0.7)
    batch = 14
    steps = 6
}
"""
MODELS = {
    "dense": """
model M {
    input x: f32[batch, 5]
    h = x |> dense(8) |> batch_norm |> tanh |> dropout(0.3)
    output y = h |> dense(6) |> batch_norm(unbiased = true) |> relu |> dense(3)
}
""",
    "residual": """
model M {
    input image: f32[batch, 2, 6, 6]
    h = image |> conv2d(4, kernel = 3) |> batch_norm |> relu
    g = h + (h |> conv2d(4, kernel = 3, padding = 1) |> batch_norm |> relu)
    output y = g |> flatten |> dense(3)
}
""",
    "positions": """
model M {
    input image: f32[batch, 2, 6, 6]
    h = reshape(image, batch * 12, 6) |> dense(4) |> batch_norm |> tanh
    output y = reshape(h, batch, 48) |> dense(3)
}
""",
    "of a layer": """
layer whitened(x: [batch, d]) {
    state spread: [d, d] = zeros
    centred = x - mean(x, axis = batch)
    covariance = centred.T @ centred / batch
    if training {
        spread <- 0.5 * spread + 0.5 * covariance
    }
    return centred - 0.1 * (centred @ covariance)
}

model M {
    input x: f32[batch, 5]
    output y = x |> dense(4) |> whitened |> dense(3)
}
""",
}
MASKED = "cross_entropy(y, argmax(t, axis = 1), where = keep)"


def loaded(model: str, shards: int, loss: str = "mse(y, t)") -> Program:
    given = (("shards", str(shards)), ("synchronised", "true"))
    return driver.load_text(MODELS[model] + TRAIN.replace("LOSS", loss), "model.dl", None, given)


def trained(program: Program, options: Options, peers: Peers = ALONE) -> dict[str, Array]:
    """Tensors and totals after two calls of three updates."""
    tensors = driver.allocate(program, options)
    driver.initialise(program, tensors, 0, options)
    step = driver.compile_program(program, TRAINING, options)
    wide = options.dtype == "f64"
    data = {n: a.astype(np.float64) if wide and a.dtype == np.float32 else a for n, a in DATA.items()}
    found: dict[str, Array] = {}
    for call in range(2):
        results = step.run(
            Steps(tensors, data, np.arange(ROWS)[::-1], BATCH, 3 * call, 0, runtime_settings(program), peers)
        )
        assert not results.nonfinite
        found |= {f"{name} {call}": values for name, values in results.scalars.items()}
    if peers.size > 1:
        driver.owned_states(program, options, tensors, peers).complete()
    return {**found, **{name: tensors[name].copy() for name in tensors.names()}}


@pytest.mark.parametrize(
    ("target", "dtype", "near"), [("reference", "f64", 1e-11), ("native", "f64", 1e-11), ("native", "f32", 2e-5)]
)
@pytest.mark.parametrize("model", MODELS)
def test_updates_are_those_of_the_whole_batch(model: str, target: str, dtype: str, near: float) -> None:
    options = Options(target=target, dtype=dtype, threads=1)
    whole = trained(loaded(model, 1), options)
    for shards in (3, 14):
        parts = trained(loaded(model, shards), options)
        for name in (n for n in whole if n in parts and whole[n].shape == parts[n].shape):
            np.testing.assert_allclose(parts[name], whole[name], rtol=near, atol=near, err_msg=name)


def test_shards_with_statistics_of_their_own_differ() -> None:
    """Or the test before could not fail."""
    options = Options(dtype="f64", threads=1)
    text = MODELS["dense"] + TRAIN.replace("LOSS", "mse(y, t)")
    own = trained(driver.load_text(text, "model.dl", None, (("shards", "3"),)), options)
    whole = trained(loaded("dense", 1), options)
    assert (
        max(np.abs(own[name] - whole[name]).max() for name in driver.allocate(loaded("dense", 1), options).names())
        > 1e-3
    )


def test_divisors_of_masks_and_statistics_are_exchanged_beside_each_other() -> None:
    options = Options(dtype="f64", threads=1)
    whole, parts = (trained(loaded("dense", shards, MASKED), options) for shards in (1, 5))
    for name in driver.allocate(loaded("dense", 1), options).names():
        np.testing.assert_allclose(parts[name], whole[name], rtol=1e-11, atol=1e-11, err_msg=name)


@pytest.mark.parametrize("processes", [2, 3, 8])
@pytest.mark.parametrize("model", ["dense", "residual"])
def test_any_number_of_processes_makes_the_same_bits(model: str, processes: int) -> None:
    options, program = Options(threads=1), loaded(model, 8)
    wanted = trained(program, options)
    for found in together(processes, lambda peers: trained(program, options, peers)):
        assert found.keys() == wanted.keys()
        for name, values in wanted.items():
            assert np.array_equal(found[name], values), name


def test_statistics_meet_four_times_a_layer() -> None:
    """Mean and variance forward, and their gradients backward; gradients of parameters go with them."""
    options = Options(threads=1)
    segments = segments_of_shard(loaded("residual", 4), options)
    assert len(segments) == 9
    names = [name for segment in segments for name, _ in segment.sums]
    assert len(set(names)) == len(names)
    assert segments[-1].kept == ()
    assert (
        len(
            segments_of_shard(
                driver.load_text(
                    MODELS["dense"] + TRAIN.replace("LOSS", "mse(y, t)"), "m.dl", None, (("shards", "4"),)
                ),
                options,
            )
        )
        == 1
    )


def test_the_plan_says_what_is_sent() -> None:
    options, program = Options(threads=1), loaded("dense", 8)

    def sent(peers: ThreadPeers) -> tuple[int, int]:
        tensors = driver.allocate(program, options)
        driver.initialise(program, tensors, 0, options)
        step = driver.compile_program(program, TRAINING, options)
        step.run(Steps(tensors, DATA, np.arange(BATCH), BATCH, 0, 0, runtime_settings(program), peers))
        return peers.sent_bytes, peers.messages

    said = traffic_of(program, options, 3)
    found = together(3, sent)
    assert said.sent_bytes == max(size for size, _ in found)
    assert said.messages == max(count for _, count in found)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("y = x - max(x, axis = batch) |> dense(3)", ["E0614"]),
        ("y = x |> dense(3) |> batch_norm", []),
        ("y = softmax(x @ x.T) @ (x |> dense(3))", ["E0614"]),
        ("y = reshape(x, batch, 5, 1) |> walked |> dense(3)", ["E0614"]),
        ("y = x |> noted |> dense(3)", ["E0614"]),
    ],
)
def test_what_is_no_sum_over_rows_is_a_mistake(line: str, code: list[str]) -> None:
    layers = """
layer walked(x: [batch, time, d]) {
    last = scan e in x over time carry s = zeros(batch, d) {
        s = 0.5 * s + e - mean(e, axis = batch)
    }
    return last
}

layer noted(x: [batch, d]) {
    state largest: [d] = zeros
    if training {
        largest <- max(x, axis = batch)
    }
    return x
}
"""
    text = (
        layers
        + "\nmodel M {\n    input x: f32[batch, 5]\n    output "
        + line
        + "\n}\n"
        + TRAIN.replace("LOSS", "mse(y, t)")
    )
    assert codes(mistakes(text, ("shards", "2"), ("synchronised", "true"))) == code
    assert "E0614" not in codes(mistakes(text, ("shards", "2")))


def test_the_key_is_true_or_false() -> None:
    text = MODELS["dense"] + TRAIN.replace("LOSS", "mse(y, t)")
    assert codes(mistakes(text, ("shards", "2"), ("synchronised", "2"))) == ["E0603"]
