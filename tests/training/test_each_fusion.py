"""Without any one fusion a training has the same bits, and each of them makes or spares something somewhere."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

import dlc
from compiler import driver
from compiler.driver import FUSIONS, Options
from compiler.errors.diagnostics import UsageError
from compiler.graph.ir import Graph
from compiler.interface import RENAMED_FUSIONS
from compiler.programs.kinds import TRAINING
from compiler.programs.stages import graph_of, prepared
from compiler.schedule.build import schedule
from compiler.schedule.verify import verify_schedule
from compiler.targets.cpu.executable import NativeExecutable

ROWS, TIME, WORDS = 64, 32, 70
MANY = 4096  # a nominal batch for which a step keeps much
IMAGES = """
model M {
    input image: f32[batch, 3, 16, 16]
    x = image |> conv2d(16, 3, padding = 1) |> batch_norm |> relu
    y = x |> conv2d(16, 3, padding = 1) |> batch_norm
    z = relu(x + y) |> max_pool(2) |> depthwise_conv2d(3, padding = 1)
    output logits = z |> flatten |> dense(10) |> relu |> dense(4)
}
train M {
    target label: i32[batch] in 0..4
    loss = cross_entropy(logits, label)
    optimizer = momentum(lr = 0.01, momentum = 0.9)
    batch = 32
    steps = 3
}
"""
WORDS_IN_ROWS = f"""
model M {{
    input tokens: i32[batch, {TIME}] in 0..{WORDS}
    embed = embedding({WORDS}, 32)
    output logits = embed(tokens) |> sinusoidal_positions |> encoder_block(2, 64, causal = true, drop = 0.1) |> embed
}}
train M {{
    target next: i32[batch, {TIME}] in 0..{WORDS}
    loss = cross_entropy(logits, next)
    optimizer = adam(lr = 0.01)
    batch = 32
    steps = 3
}}
"""
NETWORKS = {"images": IMAGES, "attention": WORDS_IN_ROWS}
RANDOM = np.random.default_rng(0)
DATA = {
    "images": {
        "image": RANDOM.normal(size=(ROWS, 3, 16, 16)).astype(np.float32),
        "label": RANDOM.integers(0, 4, ROWS).astype(np.int32),
    },
    "attention": {
        "tokens": RANDOM.integers(0, WORDS, (ROWS, TIME)).astype(np.int32),
        "next": RANDOM.integers(0, WORDS, (ROWS, TIME)).astype(np.int32),
    },
}


@cache
def trained(name: str, threads: int, *without: str) -> tuple[float, dict[str, bytes]]:
    """The last loss, and the parameters."""
    options = Options(threads=threads, without=without)
    model = dlc.Model(lambda _: driver.load_text(NETWORKS[name], "model.dl"), options, {})
    history = model.train(data=DATA[name]).history
    return history[-1].scalars["loss"], {path: array.tobytes() for path, array in model.parameters.items()}


@pytest.mark.parametrize("without", FUSIONS)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_bits_without_a_fusion(name: str, without: str) -> None:
    assert trained(name, 1, without) == trained(name, 2, without) == trained(name, 1)


@pytest.mark.parametrize("without", FUSIONS)
def test_each_fusion_is_made_in_one_of_the_networks(without: str) -> None:
    graphs = [step(name) for name in NETWORKS]
    assert any(schedule(graph, (without,), MANY) != schedule(graph, (), MANY) for graph in graphs)


def test_a_kernel_of_which_all_is_made_again_elsewhere() -> None:
    verify_schedule(schedule(step("images"), ("reductions", "rows", "siblings"), MANY), MANY)


@cache
def step(name: str) -> Graph:
    return prepared(graph_of(driver.load_text(NETWORKS[name], "model.dl"), TRAINING), Options())


def test_the_cache_knows_programs_without_a_fusion_apart() -> None:
    program = driver.load_text(IMAGES, "model.dl")
    both = [driver.compile_program(program, TRAINING, Options(threads=1, without=names)) for names in ((), ("slopes",))]
    first, second = (program.manifest for program in both if isinstance(program, NativeExecutable))
    assert first != second


@pytest.mark.parametrize(("old", "new"), RENAMED_FUSIONS.items())
def test_the_old_name_of_a_fusion_points_to_the_new_one(old: str, new: str) -> None:
    assert new in FUSIONS
    with pytest.raises(UsageError) as raised:
        Options(without=(old,))
    assert (str(raised.value), raised.value.fix) == (f"there is no fusion `{old}`", f"did you mean `{new}`?")


def test_the_options_know_their_fusions() -> None:
    with pytest.raises(UsageError) as raised:
        Options(without=("rows", "slops"))
    assert (str(raised.value), raised.value.fix) == ("there is no fusion `slops`", "did you mean `slopes`?")
