"""`shards` in `train`: the update of the whole batch, and the same bits however many processes compute the shards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from elaboration import codes, mistakes
from killing import final_state, write_project
from peers_in_threads import ThreadPeers, together

from compiler import driver
from compiler.driver import ALONE, EVALUATION, Array, Options, Peers, Program
from compiler.inspection.shard_traffic import traffic_of
from compiler.interface import Steps
from compiler.programs.kinds import TRAINING
from compiler.programs.shard_tree import children, deepest, first_rows, nodes_of_processes, shards_of
from compiler.types import static_elements
from runtime.cli.main import main
from runtime.inference.model import runtime_settings
from runtime.runs.totals import is_total

TEXT = """
model M(hidden = 8) {
    input x: f32[batch, 5]
    output logits = x |> dense(hidden) |> NORM |> tanh |> dropout(0.3) |> dense(3)
    output r = x |> dense(2)
}

train M {
    target label: i32[batch] in 0..3
    target keep: bool[batch]
    target y: f32[batch, 2]
    loss = LOSS
    metrics = [accuracy(logits, label, where = keep), f1(logits[:, 0], y[:, 0])]
    optimizer = adam(lr = 0.01)
    penalty = l2(1e-2)
    clip = global_norm(0.7)
    batch = 14
    steps = 10
}
"""
LOSS = "cross_entropy(logits, label, where = keep) + 0.5 * mse(r, y) + sum(r ^ 2) / batch"
DRAWN = np.random.default_rng(0)
ROWS = 60  # four batches of 14, and one of 4
DATA = {
    "x": DRAWN.normal(size=(ROWS, 5)).astype(np.float32),
    "label": DRAWN.integers(0, 3, ROWS).astype(np.int32),
    "keep": DRAWN.random(ROWS) > 0.4,
    "y": DRAWN.normal(size=(ROWS, 2)).astype(np.float32),
}


def text(norm: str = "relu", loss: str = LOSS) -> str:
    return TEXT.replace("NORM", norm).replace("LOSS", loss)


def loaded(source: str, shards: int) -> Program:
    return driver.load_text(source, "model.dl", None, (("shards", str(shards)),))


def trained(
    source: str, shards: int, options: Options, peers: Peers = ALONE
) -> tuple[dict[str, Array], list[dict[str, Array]]]:
    """The tensors after calls of five updates, between which an evaluation looks at them, and what was reported."""
    program = loaded(source, shards)
    tensors = driver.allocate(program, options)
    driver.initialise(program, tensors, 0, options)
    step = driver.compile_program(program, TRAINING, options)
    evaluation = driver.compile_program(program, EVALUATION, options)
    wide = options.dtype == "f64"
    data = {n: a.astype(np.float64) if wide and a.dtype == np.float32 else a for n, a in DATA.items()}
    settings = runtime_settings(program)
    reported: list[dict[str, Array]] = []
    for call in range(3):
        results = step.run(Steps(tensors, data, np.arange(ROWS), 14, 5 * call, 0, settings, peers))
        assert not results.nonfinite
        measured = evaluation.run(Steps(tensors, data, np.arange(ROWS), 14, settings=settings))
        reported.append({**results.scalars, **{f"val_{n}": values for n, values in measured.scalars.items()}})
    if peers.size > 1:
        driver.owned_states(program, options, tensors, peers).complete()
    return {name: tensors[name].copy() for name in tensors.names()}, reported


@pytest.mark.parametrize(
    ("target", "dtype", "near"), [("native", "f64", 1e-12), ("native", "f32", 2e-6), ("reference", "f64", 1e-12)]
)
@pytest.mark.parametrize("shards", [2, 5, 14])
def test_updates_are_those_of_the_whole_batch(target: str, dtype: str, near: float, shards: int) -> None:
    """Masks leave other numbers of rows in each shard, draws belong to rows of the batch, and penalties count once."""
    options = Options(target=target, dtype=dtype, threads=1)
    whole, told_whole = trained(text(), 1, options)
    parts, told_parts = trained(text(), shards, options)
    assert whole.keys() == parts.keys(), "no sum of a shard outlasts a step"
    for name, values in whole.items():
        np.testing.assert_allclose(parts[name], values, rtol=near, atol=near, err_msg=name)
    for one, other in zip(told_whole, told_parts, strict=True):
        for name in (n for n in one if not is_total(n)):
            np.testing.assert_allclose(other[name], one[name], rtol=near, atol=near, err_msg=name)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("processes", [2, 3, 8])
def test_any_number_of_processes_makes_the_same_bits(processes: int, dtype: str) -> None:
    """Of the last batch, only the first shards have rows, so that some processes have none."""
    options = Options(dtype=dtype, threads=1)
    wanted, told = trained(text("batch_norm"), 8, options)
    for tensors, reported in together(processes, lambda peers: trained(text("batch_norm"), 8, options, peers)):
        for name, values in wanted.items():
            assert np.array_equal(tensors[name], values), name
        for one, other in zip(told, reported, strict=True):
            assert one.keys() == other.keys()
            assert all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("processes", [2, 3, 7])
@pytest.mark.parametrize("loss", [LOSS, "mse(r, y)", "sum(r ^ 2)"])
def test_the_plan_says_what_is_sent(processes: int, loss: str) -> None:
    """What the number of rows counts is not sent."""
    options = Options(threads=1)
    program = loaded(text(loss=loss), 8)

    def sent(peers: ThreadPeers) -> tuple[int, int]:
        tensors = driver.allocate(program, options)
        driver.initialise(program, tensors, 0, options)
        own = driver.compile_program(program, TRAINING, options)
        own.run(Steps(tensors, DATA, np.arange(14), 14, 0, 0, runtime_settings(program), peers))
        return peers.sent_bytes, peers.messages

    found = together(processes, sent)
    said = traffic_of(program, options, processes)
    assert said.sent_bytes == max(size for size, _ in found)
    assert said.messages == max(count for _, count in found)


def test_shards_of_several_batches_make_one_update() -> None:
    """Two batches of four shards are the eight shards of one batch of twice the size."""

    def made(keys: dict[str, str], peers: Peers = ALONE) -> dict[str, Array]:
        program = driver.load_text(text("batch_norm"), "model.dl", None, tuple(keys.items()))
        options = Options(threads=1)
        tensors = driver.allocate(program, options)
        driver.initialise(program, tensors, 0, options)
        step = driver.compile_program(program, TRAINING, options)
        plan = program.plan
        assert plan is not None
        assert plan.usual_rows == 28
        step.run(Steps(tensors, DATA, np.arange(ROWS), 28, 0, 0, runtime_settings(program), peers))
        if peers.size > 1:
            driver.owned_states(program, options, tensors, peers).complete()
        return {name: tensors[name].copy() for name in tensors.names()}

    keys = {"batch": "14", "accumulate": "2", "shards": "4"}
    wanted = made({"batch": "28", "shards": "8"})
    for found in (made(keys), *together(3, lambda peers: made(keys, peers))):
        for name, values in wanted.items():
            assert np.array_equal(found[name], values), name


def test_draws_inside_a_scan_belong_to_rows_of_the_batch() -> None:
    source = """
model M {
    input x: f32[batch, 6, 4]
    output y = x |> rows |> dense(1)
}

layer rows(x: [batch, time, d]) {
    last = scan e in x over time carry s = zeros(batch, d) {
        s = 0.5 * s + e * random(batch, d)
    }
    return last
}

train M {
    target t: f32[batch]
    loss = mse(y[:, 0], t)
    optimizer = gradient_descent(lr = 0.1)
    batch = 12
    steps = 2
}
"""
    data = {"x": DRAWN.normal(size=(12, 6, 4)), "t": DRAWN.normal(size=12)}
    for target in ("native", "reference"):
        losses: list[Array] = []
        for shards in (1, 2, 5):
            program, options = loaded(source, shards), Options(target=target, dtype="f64", threads=1)
            tensors = driver.allocate(program, options)
            driver.initialise(program, tensors, 0, options)
            step = driver.compile_program(program, TRAINING, options)
            run = Steps(tensors, data, np.arange(12), 12, 0, 0, runtime_settings(program))
            losses.append(step.run(run).scalars["loss"])
        np.testing.assert_allclose(losses[1:], [losses[0]] * 2, rtol=1e-13)


STATES = """
layer noted(x: [batch, d]) {
    state moving: [d] = zeros
    state steps: i32[] = zeros
    state half: [] = ones
    if training {
        moving <- 0.5 * moving + 0.5 * mean(x, axis = batch)
        steps <- steps + 1
        half <- half * 0.3
    }
    return x
}

model M {
    input x: f32[batch, 5]
    output y = x |> noted |> dense(1)
}

train M {
    target keep: bool[batch]
    loss = mean(y ^ 2)
    optimizer = gradient_descent(lr = 0.1)
    batch = 14
    steps = 2
}
"""


def test_states_are_means_over_shards_or_the_same_in_all() -> None:
    program, options = loaded(STATES, 4), Options(threads=1)
    tensors = driver.allocate(program, options)
    driver.initialise(program, tensors, 0, options)
    step = driver.compile_program(program, TRAINING, options)
    step.run(Steps(tensors, DATA, np.arange(28), 14, 0, 0, runtime_settings(program)))
    found = {name.rpartition(".")[2]: tensors[name] for name in tensors.names()}
    first, second = DATA["x"][:14].mean(axis=0), DATA["x"][14:28].mean(axis=0)
    np.testing.assert_allclose(found["moving"], 0.25 * first + 0.5 * second, rtol=1e-5)
    assert found["steps"] == 2
    assert found["half"] == np.float32(np.float32(0.3) * np.float32(0.3))


@pytest.mark.parametrize(("rows", "shards"), [(14, 8), (4, 8), (8, 8), (0, 3), (100, 7)])
def test_rows_are_cut_evenly_and_the_first_shards_are_longer(rows: int, shards: int) -> None:
    sizes = np.diff(first_rows(rows, shards)).tolist()
    assert sum(sizes) == rows
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("shards", [2, 3, 6, 8, 13])
def test_processes_divide_the_tree(shards: int) -> None:
    """The nodes of the processes are nodes of the one tree, and hold each shard once."""
    nodes = {range(shards)}
    for _ in range(shards):
        nodes |= {child for node in nodes if len(node) > 1 for child in children(node)}
    for processes in range(1, shards + 1):
        divided = nodes_of_processes(shards, processes)
        assert [shard for of_process in divided for node in of_process for shard in node] == [*range(shards)]
        for rank, of_process in enumerate(divided):
            assert nodes.issuperset(of_process)
            assert [k for node in of_process for k in node] == [*shards_of(rank, processes, shards)]
            assert 1 <= deepest(of_process) <= len(of_process) + shards.bit_length()


@pytest.mark.parametrize(
    ("loss", "keys", "code"),
    [
        ("mse(r, y)", {}, []),
        ("sqrt(mse(r, y))", {}, ["E0614"]),
        ("max(r)", {}, ["E0614"]),
        ("mse(r, y)", {"accumulate": "2"}, []),
        ("mse(r, y)", {"accumulate": "2", "synchronised": "true"}, ["E0603"]),
        ("mse(r, y)", {"shards": "15"}, ["E0603"]),
        ("mse(r, y)", {"shards": "0"}, ["E0603"]),
    ],
)
def test_a_mistake_is_told_before_training(loss: str, keys: dict[str, str], code: list[str]) -> None:
    given = {"shards": "4", **keys}
    assert codes(mistakes(text(loss=loss), *given.items())) == code


def test_a_state_of_whole_numbers_has_no_mean_over_shards() -> None:
    source = STATES.replace("steps + 1", "where(sum(x) > 0, steps, steps + 1)")
    assert codes(mistakes(source, ("shards", "2"))) == ["E0614"]
    assert not mistakes(source)


def test_a_run_goes_on_with_its_shards_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_project(tmp_path, epochs=3)
    monkeypatch.chdir(tmp_path)
    assert main(["train", "model.dl", "--shards", "4", "--out", "whole", "--json"]) == 0
    wanted = final_state(Path("whole"))
    assert main(["train", "model.dl", "--shards", "4", "--out", "part", "--epochs", "3", "--json"]) == 0
    assert final_state(Path("part")) == wanted
    newest = sorted(Path("part/checkpoints").iterdir())[-1]
    (newest / "weights.safetensors").write_bytes(b"damaged")
    assert main(["train", "--resume", "part", "--json"]) == 0
    assert final_state(Path("part")) == wanted
    assert main(["train", "--resume", "part", "--shards", "2"]) == 2
    assert "a run cannot change its `shards`" in capsys.readouterr().err
    names = [sorted(path.name for path in Path(run, "checkpoints").iterdir()) for run in ("whole", "part")]
    assert names[0][-1].split("-", 1)[1] == names[1][-1].split("-", 1)[1]


def test_memory_counts_what_shards_hold() -> None:
    """Gradients of one shard for each level of the tree, beside those of the step."""
    options = Options(threads=1)
    found: dict[int, int] = {}
    for shards in (1, 8):
        program = loaded(text(), shards)
        driver.compile_ahead(program, [TRAINING], options)
        found[shards] = driver.memory_needed(program, [TRAINING], options)[driver.VALUES]
        assert driver.memory_needed(program, (), options)[driver.VALUES] == 0
    program = loaded(text(), 8)
    gradients = sum(4 * static_elements(spec.type.shape) for spec in program.parameters)
    assert found[8] > 4 * gradients


@pytest.mark.parametrize("kind", ["c", "onnx"])
def test_a_step_of_shards_is_not_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    write_project(tmp_path, epochs=1)
    monkeypatch.chdir(tmp_path)
    assert main(["train", "model.dl", "--shards", "4", "--out", "run", "--json"]) == 0
    assert main(["export", "run", "--to", kind, "--training", "-o", "step"]) == 2
    assert "is cut into 4 shards" in capsys.readouterr().err
