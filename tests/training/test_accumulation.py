"""`accumulate` in `train`: updates of several batches are those of one large batch, and survive an interruption."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from elaboration import codes, mistakes
from killing import final_state, write_project

import dlc
from compiler import driver
from compiler.driver import Array, Options, Program, Tensors
from compiler.interface import Steps
from compiler.programs.kinds import TRAINING
from runtime.cli.main import main
from runtime.inference.model import runtime_settings
from runtime.runs.checkpoint import newest_checkpoint
from runtime.runs.totals import is_total

TEXT = """
model M(hidden = 8) {
    input x: f32[batch, 5]
    output logits = x |> dense(hidden) |> tanh |> dense(3)
    output r = x |> dense(2)
}

train M {
    target label: i32[batch] in 0..3
    target keep: bool[batch]
    target y: f32[batch, 2]
    loss = LOSS
    metrics = [accuracy(logits, label, where = keep), f1(logits[:, 0], y[:, 0])]
    optimizer = OPTIMIZER
    penalty = l2(1e-2)
    clip = global_norm(0.7)
    batch = 8
    steps = 10
}
"""
LOSS = "cross_entropy(logits, label, where = keep) + 0.5 * mse(r, y) + sum(r ^ 2) / batch"
DRAWN = np.random.default_rng(0)
DATA = {
    "x": DRAWN.normal(size=(60, 5)),
    "label": DRAWN.integers(0, 3, 60).astype(np.int32),
    "keep": DRAWN.random(60) > 0.4,
    "y": DRAWN.normal(size=(60, 2)),
}


def loaded(loss: str = LOSS, optimizer: str = "adam(lr = 0.01)", **keys: int) -> Program:
    text = TEXT.replace("LOSS", loss).replace("OPTIMIZER", optimizer)
    return driver.load_text(text, "model.dl", None, tuple((key, str(value)) for key, value in keys.items()))


def trained(program: Program, options: Options, calls: int = 3) -> tuple[Tensors, list[dict[str, Array]]]:
    """The tensors after calls of two updates of 32 and 28 rows, and what the updates reported."""
    tensors = driver.allocate(program, options)
    driver.initialise(program, tensors, 0, options)
    step = driver.compile_program(program, TRAINING, options)
    wide = options.dtype == "f64"
    data = {n: a if wide or a.dtype != np.float64 else a.astype(np.float32) for n, a in DATA.items()}
    reported: list[dict[str, Array]] = []
    for call in range(calls):
        results = step.run(Steps(tensors, data, np.arange(60), 32, 2 * call, 0, runtime_settings(program)))
        assert not results.nonfinite
        reported.append(dict(results.scalars))
    return tensors, reported


@pytest.mark.parametrize(
    ("target", "dtype", "near"), [("native", "f64", 1e-13), ("native", "f32", 1e-6), ("reference", "f64", 1e-13)]
)
def test_updates_are_those_of_the_large_batch(target: str, dtype: str, near: float) -> None:
    """Masks leave other numbers of rows in each batch, the last batch is short, and penalties count once."""
    options = Options(target=target, dtype=dtype)
    whole, reported_whole = trained(loaded(batch=32), options)
    parts, reported_parts = trained(loaded(accumulate=4), options)
    for name in whole.names():
        np.testing.assert_allclose(parts[name], whole[name], rtol=near, atol=near, err_msg=name)
    for one, other in zip(map(_told, reported_whole), map(_told, reported_parts), strict=True):
        assert one.keys() == other.keys() >= {"loss", "accuracy", "f1", "lr"}
        for name, values in one.items():
            np.testing.assert_allclose(other[name], values, rtol=near, atol=near, err_msg=name)
    assert not any(parts[name].any() for name in parts.names() if "(" in name), "updates empty what is added up"


def _told(scalars: dict[str, Array]) -> dict[str, Array]:
    """Without what metrics of an epoch are finished from, which comes batch by batch."""
    return {name: values for name, values in scalars.items() if not is_total(name)}


def test_updates_have_the_same_bits_where_sums_are_exact() -> None:
    """Halves and whole numbers: nothing is rounded, so the order of additions makes no difference."""
    plain = [line for line in TEXT.split("\n") if line.split(" ")[4:5] not in (["clip"], ["penalty"], ["metrics"])]
    text = "\n".join(plain).replace("LOSS", "sum((r - y) ^ 2) / batch")
    text = text.replace("OPTIMIZER", "gradient_descent(lr = 0.125)")
    start = {name: DRAWN.integers(-4, 5, shape) / 2 for name, shape in {"r.dense.W": (5, 2), "r.dense.b": (2,)}.items()}
    numbers = {"x": DRAWN.integers(-3, 4, (32, 5)), "y": DRAWN.integers(-3, 4, (32, 2))}
    data = {**DATA, **{name: values.astype(np.float32) for name, values in numbers.items()}}
    found: list[Tensors] = []
    for overrides in ((("batch", "32"),), (("accumulate", "4"),), (("accumulate", "2"), ("batch", "16"))):
        program = driver.load_text(text, "model.dl", None, overrides)
        tensors = driver.allocate(program, Options())
        for name, values in start.items():
            tensors.write(name, values.astype(np.float32))
        step = driver.compile_program(program, TRAINING, Options())
        step.run(Steps(tensors, data, np.arange(32), 32, 0, 0, runtime_settings(program)))
        found.append(tensors)
    for name in start:
        assert not np.array_equal(found[0][name], start[name])
        assert np.array_equal(found[0][name], found[1][name])
        assert np.array_equal(found[0][name], found[2][name])


def test_a_sum_without_a_count_takes_two_programs() -> None:
    plan = loaded("sum(r ^ 2)", accumulate=4).plan
    assert plan is not None
    assert plan.accumulation is not None
    assert (plan.usual_rows, plan.accumulation.batches, plan.accumulation.counts) == (32, 4, 0)


@pytest.mark.parametrize(
    ("loss", "code"),
    [
        ("mse(r, y)", []),
        ("exp(2.0) * mse(r, y) + 3", []),
        ("sqrt(mse(r, y))", ["E0614"]),
        ("mse(r, y) * mean(r)", ["E0614"]),
        ("sum(r) / sum(r ^ 2)", ["E0614"]),
        ("max(r)", ["E0614"]),
    ],
)
def test_a_loss_must_follow_from_sums(loss: str, code: list[str]) -> None:
    text = TEXT.replace("LOSS", loss).replace("OPTIMIZER", "adam()")
    assert codes(mistakes(text, ("accumulate", "2"))) == code
    assert not mistakes(text)


def test_a_metric_of_extremes_and_moments_is_that_of_the_epoch() -> None:
    text = TEXT.replace("LOSS", LOSS).replace("OPTIMIZER", "gradient_descent(lr = 0.0)").replace("steps", "epochs")
    start = text.index("metrics = [")
    text = text.replace(
        text[start : text.index("]\n", start)], "metrics = [max(y), sum(variance(y, axis = batch)), mae(r, y)"
    )
    found: list[list[float]] = []
    for accumulate in (1, 3):
        model = dlc.loads(text, accumulate=accumulate, epochs=1, target="reference")
        (epoch,) = model.train(DATA).history
        found.append([epoch.scalars[name] for name in ("max", "sum", "mae")])
    assert found[0] == pytest.approx(found[1], rel=1e-12)
    y = np.asarray(DATA["y"], np.float32).astype(np.float64)
    assert found[1][:2] == pytest.approx([y.max(), y.var(axis=0).sum()], rel=1e-12)


def test_an_interrupted_training_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_project(tmp_path, epochs=4)
    monkeypatch.chdir(tmp_path)
    assert main(["train", "model.dl", "--set", "accumulate=3", "--out", "whole", "--json"]) == 0
    newest = newest_checkpoint(Path("whole/checkpoints")).path
    wanted = final_state(Path("whole"))
    (newest / "weights.safetensors").write_bytes(b"damaged")
    assert main(["train", "--resume", "whole", "--json"]) == 0
    assert "is passed over" in capsys.readouterr().err
    assert final_state(Path("whole")) == wanted
