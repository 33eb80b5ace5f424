"""Losses that layers state, in training and evaluation: their values over rows, their bits, and what they cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from elaboration import program
from repository import ROOT

import dlc
from compiler import driver
from compiler.driver import Array, Options, Tensors
from compiler.interface import Steps
from compiler.programs.kinds import TRAINING
from runtime.cli.main import main
from runtime.inference.model import runtime_settings

TEXT = """
layer gate(n: int)(x: [batch, d]) -> [batch, n] {
    p = x |> dense(n, bias = false) |> softmax
    loss even = STATED
    return p
}

model M {
    input x: f32[batch, 4]
    for i in 0..2 { x = x + (x |> gate(4)) }
    output y = (x |> dense(1))[:, 0]
}

train M {
    target t: f32[batch]
    loss = mse(y, t)
    auxiliary = {even: 0.25}
    metrics = [mean_absolute_error(y, t)]
    optimizer = adam(lr = 0.01)
    batch = 8
    steps = 12
}
"""
SQUARES = "n * sum(mean(p, axis = 0) ^ 2)"
MIXED = "mean(abs(p - mean(p, axis = 0)))"  # of a row, and of others
LINEAR = "mean(p[:, 0] ^ 2)"
DRAWN = np.random.default_rng(4)
ROWS = {name: DRAWN.normal(size=shape).astype(np.float32).astype(float) for name, shape in (("x", (29, 4)), ("t", 29))}


def stated(p: Array, form: str) -> float:
    if form == SQUARES:
        return float(p.shape[1] * (p.mean(axis=0) ** 2).sum())
    return float(np.abs(p - p.mean(axis=0)).mean()) if form == MIXED else float((p[:, 0] ** 2).mean())


def by_numpy(model: dlc.Model, rows: slice, form: str) -> tuple[float, float]:
    """The mean squared error and the sum of what both layers state, over some rows."""
    tensors = {name: np.array(array, np.float64) for name, array in model.parameters.items()}
    x, total = ROWS["x"][rows], 0.0
    for i in range(2):
        z = x @ tensors[f"x.{i}.gate.p.dense.W"]
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        total += stated(p, form)
        x = x + p
    y = (x @ tensors["y.dense.W"] + tensors["y.dense.b"])[:, 0]
    return float(((y - ROWS["t"][rows]) ** 2).mean()), total


def loaded(form: str, **options: Any) -> dlc.Model:
    return dlc.loads(TEXT.replace("STATED", form), dtype="f64", **options)


@pytest.mark.parametrize("form", [SQUARES, LINEAR])
@pytest.mark.parametrize("target", ["native", "reference"])
def test_a_loss_made_of_sums_has_the_value_of_all_rows(form: str, target: str) -> None:
    model = loaded(form, target=target)
    error, total = by_numpy(model, slice(None), form)
    found = model.evaluate(ROWS)
    assert found["even"] == pytest.approx(total, rel=1e-12)
    assert found["loss"] == pytest.approx(error + 0.25 * total, rel=1e-12)


@pytest.mark.parametrize("target", ["native", "reference"])
def test_any_other_loss_is_the_mean_over_batches(target: str) -> None:
    model = loaded(MIXED, target=target)
    batches = [slice(0, 8), slice(8, 16), slice(16, 24), slice(24, 29)]
    parts = [by_numpy(model, rows, MIXED) for rows in batches]
    weights = np.array([8, 8, 8, 5]) / 29
    found = model.evaluate(ROWS)
    assert found["even"] == pytest.approx(float(weights @ [total for _, total in parts]), rel=1e-12)
    assert found["loss"] == pytest.approx(float(weights @ [e + 0.25 * total for e, total in parts]), rel=1e-12)


@pytest.mark.parametrize("form", [SQUARES, LINEAR, MIXED])
def test_an_epoch_tells_the_loss_beside_the_others(form: str) -> None:
    result = loaded(form).train(ROWS, validation=ROWS)
    for epoch in result.history:
        assert epoch.scalars.keys() == epoch.validation.keys() == {"loss", "mean_absolute_error", "even"}
        assert all(np.isfinite(value) for value in (*epoch.scalars.values(), *epoch.validation.values()))


def test_an_epoch_of_one_batch_is_that_batch() -> None:
    """Whether the value is finished once or averaged over batches, of one batch it is that of NumPy."""
    for form in (SQUARES, MIXED):
        model = loaded(form, batch=29, steps=1)
        error, total = by_numpy(model, slice(None), form)
        (epoch,) = model.train(ROWS).history
        assert epoch.scalars["even"] == pytest.approx(total, rel=1e-12)
        assert epoch.scalars["loss"] == pytest.approx(error + 0.25 * total, rel=1e-12)


def weights_after(form: str, options: Options, *overrides: tuple[str, str]) -> Tensors:
    found = driver.load_text(TEXT.replace("STATED", form), "model.dl", None, overrides)
    assert found.plan is not None
    tensors = driver.allocate(found, options)
    driver.initialise(found, tensors, 0, options)
    step = driver.compile_program(found, TRAINING, options)
    wide = options.dtype == "f64"
    data = {name: array if wide else array.astype(np.float32) for name, array in ROWS.items()}
    for call in range(3):
        rows = found.plan.usual_rows
        step.run(Steps(tensors, data, np.arange(29), rows, call * 4, 0, runtime_settings(found)))
    return tensors


@pytest.mark.parametrize("form", [SQUARES, MIXED])
def test_the_bits_depend_on_neither_threads_nor_fusion(form: str) -> None:
    first = weights_after(form, Options(threads=1))
    for options in (Options(threads=2), Options(threads=1, without=("elementwise", "chained"))):
        other = weights_after(form, options)
        assert all(np.array_equal(first[name], other[name]) for name in first.names())


def test_native_steps_are_those_of_the_reference() -> None:
    native, reference = (weights_after(SQUARES, Options(target=t, dtype="f64")) for t in ("native", "reference"))
    for name in native.names():
        np.testing.assert_allclose(native[name], reference[name], rtol=1e-11, atol=1e-13, err_msg=name)


def test_accumulated_batches_make_the_update_of_one() -> None:
    options = Options(dtype="f64")
    whole = weights_after(LINEAR, options, ("batch", "32"))
    parts = weights_after(LINEAR, options, ("accumulate", "4"))
    for name in whole.names():
        np.testing.assert_allclose(parts[name], whole[name], rtol=1e-12, atol=1e-13, err_msg=name)


def test_another_weight_needs_no_other_code() -> None:
    """Weights are numbers of run time: two of them share the program, and 0 has one of its own."""
    source = TEXT.replace("STATED", SQUARES)
    found = [program(source, ("auxiliary.even", weight)) for weight in ("0.5", "0.125", "0")]
    first, second, none = ([node.op for node in one.training_graph.nodes] for one in found)
    assert first == second
    assert len(none) < len(first)


def test_a_prediction_is_that_of_the_model_without_the_loss() -> None:
    text = TEXT.replace("STATED", SQUARES)
    without = text.replace("loss even", "_even").replace("    auxiliary = {even: 0.25}\n", "")
    one, other = (dlc.loads(t).predict({"x": ROWS["x"].astype(np.float32)})["y"] for t in (text, without))
    assert np.array_equal(one, other)


def test_a_run_that_is_resumed_has_the_same_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.dl").write_text(TEXT.replace("STATED", MIXED).replace("steps = 12", "epochs = 4"))
    np.savez(tmp_path / "rows.npz", x=ROWS["x"].astype(np.float32), t=ROWS["t"].astype(np.float32))
    common = ["--data", str(tmp_path / "rows.npz"), "--json"]
    assert main(["train", str(tmp_path / "model.dl"), *common, "--out", str(tmp_path / "whole")]) == 0
    assert main(["train", str(tmp_path / "model.dl"), *common, "--epochs", "2", "--out", str(tmp_path / "half")]) == 0
    assert main(["train", "--resume", str(tmp_path / "half"), "--epochs", "4", "--json"]) == 0
    capsys.readouterr()
    whole, half = ((tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("whole", "half"))
    told = [
        [(r["epoch"], r["loss"], r["even"]) for r in map(json.loads, lines) if "even" in r] for lines in (whole, half)
    ]
    assert told[0] == told[1]
    assert len(told[0]) == 4


def test_without_its_loss_the_mixture_collapses_and_with_it_it_is_even() -> None:
    path = ROOT / "examples" / "experts" / "model.dl"
    left_out: dict[str, Any] = {"auxiliary.balance": 0}
    alone = dlc.load(path, **left_out).train().test
    even = dlc.load(path).train().test
    assert alone["idle"] >= 5
    assert alone["fullest"] > 0.6
    assert even["idle"] == 0
    assert even["fullest"] < 0.3
    assert even["balance"] < 1.5 < alone["balance"]
