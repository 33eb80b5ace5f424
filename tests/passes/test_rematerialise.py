"""What backward reads is computed again where that saves much memory: the same bits, and never early."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from comparisons import Array
from elaboration import program
from native import EVERY_KERNEL_PARALLEL, compiled

from compiler.graph.ir import Graph, Role
from compiler.graph.verify import verify
from compiler.interface import Options, Steps
from compiler.programs.kinds import EVALUATION, TRAINING
from compiler.programs.stages import graph_of, prepared
from compiler.schedule.build import schedule
from compiler.schedule.fusion.ir import CONTRACTIONS
from compiler.schedule.memory.rematerialise import DRAWS, Rematerialisation, Timeline, rematerialise
from compiler.schedule.numerics.fix_numerics import fix_numerics
from compiler.schedule.verify import verify_schedule
from compiler.targets.memory import TensorStore
from compiler.tuning import Tuning
from compiler.types import BatchExtent, DType, at_batch, elements

TIME, WIDTH, HEADS, HIDDEN, BLOCKS, WORDS, ROWS = 24, 20, 2, 28, 3, 70, 3
LONG_SUM = Tuning().spared_sum + 16
MANY = EVERY_KERNEL_PARALLEL  # a nominal batch for which every value of the batch is large
# WORDS are more than registers hold, so that a pass over scores reads again what it computes again.
BLOCK = f"""
model M {{
    input tokens: i32[batch, {TIME}] in 0..{WORDS}
    x = embedding({WORDS}, {WIDTH})(tokens)
    for block in 0..{BLOCKS} {{
        x = x |> encoder_block({HEADS}, {HIDDEN}, causal = true, pre_norm = true, activation = ACTIVATION, drop = DROP)
    }}
    output logits = x |> layer_norm() |> dense({WORDS})
}}

train M {{
    target next: i32[batch, {TIME}] in 0..{WORDS}
    loss = cross_entropy(logits, next)
    optimizer = adam(lr = 0.01)
    batch = {ROWS}
}}
"""
CHAIN = f"""
model M {{
    input x: f32[batch, {TIME}, {LONG_SUM}]
    for block in 0..5 {{
        x = relu(x + (x |> dense({LONG_SUM}) |> layer_norm()))
    }}
    output y = x
}}

train M {{
    target z: f32[batch, {TIME}, {LONG_SUM}]
    loss = mean((y - z) ^ 2)
    optimizer = adam(lr = 0.01)
    batch = {ROWS}
}}
"""


def block(activation: str = "gelu(approximate = true)", drop: float = 0) -> str:
    return BLOCK.replace("ACTIVATION", activation).replace("DROP", str(drop))


MODELS = {"gelu": block(), "swish": block("swish()"), "dropout": block(drop=0.2)}


@cache
def step(text: str) -> Graph:
    return prepared(graph_of(program(text), TRAINING), Options(batch=ROWS))


@cache
def again(text: str) -> Graph:
    return rematerialise(fix_numerics(step(text)), MANY, Tuning())


def trained(graph: Graph, batch: int) -> dict[str, Array]:
    """The tensors after two steps on random data, for a nominal batch; and the loss."""
    random = np.random.default_rng(1)
    native = compiled(graph, batch=batch)
    manifest = native.lowered.manifest
    store = TensorStore(manifest.tensors)
    for name in store.names():
        store.write(name, random.uniform(0.1, 0.5, store[name].shape).astype(store[name].dtype))
    data: dict[str, Array] = {}
    for entry in graph.inputs:
        shape = at_batch(entry.value.type.shape, ROWS)
        if entry.role is Role.DATA and entry.value.type.dtype is DType.F32:
            data[entry.name] = random.normal(size=shape).astype("f4")
        elif entry.role is Role.DATA:
            data[entry.name] = random.integers(0, WORDS, shape).astype("i4")
    settings = dict.fromkeys(manifest.settings, 0.01)
    results = native.executable(2).run(Steps(store, data, np.tile(np.arange(ROWS), 2), ROWS, 0, 7, settings))
    return {"loss": results.scalars["loss"], **{name: store[name] for name in store.names()}}


@pytest.mark.parametrize("text", MODELS.values(), ids=MODELS)
def test_no_bit_changes(text: str) -> None:
    graph = step(text)
    expected = trained(graph, 1)
    assert all(np.isfinite(value).all() for value in expected.values())
    found = trained(graph, MANY)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize("text", MODELS.values(), ids=MODELS)
def test_the_schedule_is_sound(text: str) -> None:
    verify(again(text))
    verify_schedule(schedule(step(text), batch=MANY), MANY)


def products(graph: Graph, size: int) -> int:
    """How many products have results of `size` elements for each row."""
    found = [node for node in graph.nodes if isinstance(node.op, CONTRACTIONS)]
    return sum(elements(node.results[0].type.shape) == BatchExtent(size) for node in found)


def test_scores_are_computed_again_and_activations() -> None:
    graph, before = again(MODELS["gelu"]), fix_numerics(step(MODELS["gelu"]))
    scores = HEADS * TIME * TIME
    assert products(graph, scores) == products(before, scores) + BLOCKS
    count = {name: [sum(n.op.name == name for n in g.nodes) for g in (before, graph)] for name in ("sigmoid", "exp")}
    # The slope of the last block's activation is read just behind the loss.
    assert count["sigmoid"] == [BLOCKS, 2 * BLOCKS - 1]
    assert count["exp"][1] == count["exp"][0] + BLOCKS


def test_the_memory_of_a_block_shrinks() -> None:
    kept, computed = (schedule(step(MODELS["gelu"]), batch=batch).batch_bytes for batch in (1, MANY))
    assert computed < 0.75 * kept


def test_a_chain_of_residual_blocks_is_decided_alike() -> None:
    """Each result could be computed again from the one before it, so that every second one would be kept."""
    graph = fix_numerics(step(CHAIN))
    loss = next(output.value for output in graph.outputs if output.name == "loss")
    timeline = Timeline.of(graph, loss, MANY, Tuning())
    choice = Rematerialisation(timeline, timeline.kept())
    assert choice.choose() > 0
    results = [value for value in choice.values if timeline.producers[value.index].op.name == "maximum"]
    assert len(results) > 2
    assert not choice.again.keys() & {value.index for value in results}


def test_draws_are_not_repeated() -> None:
    graph, before = again(MODELS["dropout"]), fix_numerics(step(MODELS["dropout"]))
    assert len(graph.nodes) > len(before.nodes)
    assert sum(n.op.name in DRAWS for n in graph.nodes) == sum(n.op.name in DRAWS for n in before.nodes)


def test_small_steps_and_other_graphs_stay_as_they_are() -> None:
    fixed = fix_numerics(step(MODELS["gelu"]))
    assert rematerialise(fixed, ROWS, Tuning()) is fixed
    evaluation = fix_numerics(prepared(graph_of(program(MODELS["gelu"]), EVALUATION), Options(batch=ROWS)))
    assert rematerialise(evaluation, MANY, Tuning()) is evaluation


def test_what_is_computed_again_comes_behind_its_gate() -> None:
    """No kernel that makes a value for the forward pass also makes it again."""
    plan = schedule(step(MODELS["gelu"]), batch=MANY)
    names = [instance.kernel.name for instance in plan.instances]
    activations = [place for place, name in enumerate(names) if "sigmoid" in name]
    loss = next(place for place, name in enumerate(names) if "log" in name)
    assert [place < loss for place in activations] == [True] * BLOCKS + [False] * (BLOCKS - 1), names
