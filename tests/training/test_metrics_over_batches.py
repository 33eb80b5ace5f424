"""A metric is that of one batch of all rows: the same bits for any cut of them, and the number that NumPy gives."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from elaboration import codes, mistakes

import dlc
from compiler.driver import Array

METRICS: Mapping[str, Callable[[Mapping[str, Array]], Any]] = {
    "r2(s, t)": lambda d: _r2(d["s"], d["t"]),
    "r2(s, t, where = keep)": lambda d: _r2(d["s"][d["keep"]], d["t"][d["keep"]]),
    "root_mean_squared_error(s, t)": lambda d: math.sqrt(_mean((d["s"] - d["t"]) ** 2)),
    "mean_absolute_error(s, t, where = keep)": lambda d: _mean(np.abs(d["s"] - d["t"])[d["keep"]]),
    "mse(s, t, weights = w)": lambda d: (d["w"] * (d["s"] - d["t"]) ** 2).sum() / d["w"].sum(),
    "precision(s, b)": lambda d: _ratio((_hit(d) & _true(d)).sum(), _hit(d).sum()),
    "recall(s, b)": lambda d: _ratio((_hit(d) & _true(d)).sum(), _true(d).sum()),
    "f1(s, b, where = keep)": lambda d: _f1(_hit(d)[d["keep"]], _true(d)[d["keep"]]),
    "true_positives(s, b)": lambda d: (_hit(d) & _true(d)).sum(),
    "accuracy(k, c)": lambda d: _mean(_guess(d) == d["c"]),
    "micro_f1(k, c)": lambda d: _mean(_guess(d) == d["c"]),
    "class_f1(1)(k, c)": lambda d: _f1(_guess(d) == 1, d["c"] == 1),
    "class_precision(2)(k, c)": lambda d: _ratio(((_guess(d) == 2) & (d["c"] == 2)).sum(), (_guess(d) == 2).sum()),
    "class_recall(2)(k, c)": lambda d: _ratio(((_guess(d) == 2) & (d["c"] == 2)).sum(), (d["c"] == 2).sum()),
    "macro_f1(k, c)": lambda d: _macro(d, lambda hit, took, real: 2 * hit / (took + real)),
    "macro_precision(k, c)": lambda d: _macro(d, lambda hit, took, real: hit / took if took else 0.0),
    "macro_recall(k, c)": lambda d: _macro(d, lambda hit, took, real: hit / real if real else 0.0),
    "balanced_accuracy(k, c)": lambda d: np.mean([_mean(_guess(d)[d["c"] == n] == n) for n in np.unique(d["c"])]),
    "perplexity(k, c)": lambda d: math.exp(_cross_entropy(d)),
    "cross_entropy(k, c, class_weights = [1, 2, 0.5, 3], by_weight = true)": lambda d: _weighed(d, by_weight=True),
    "cross_entropy(k, c, class_weights = [1, 2, 0.5, 3])": lambda d: _weighed(d, by_weight=False),
    "cross_entropy(k, c, ignore = 3)": lambda d: _mean(_terms(d)[d["c"] != 3]),
    'cross_entropy(k, c, reduction = "sum")': lambda d: _terms(d).sum(),
    "binned_auc(bins = 64, low = -4.0, high = 4.0)(s, b)": lambda d: _auc(_binned(d["s"]), _true(d)),
    "max(abs(s - t))": lambda d: np.abs(d["s"] - d["t"]).max(),
    "min(k)": lambda d: d["k"].min(),
    "sqrt(variance(k))": lambda d: d["k"].astype(np.float64).std(),
    "sum(variance(k, axis = batch))": lambda d: d["k"].astype(np.float64).var(axis=0).sum(),
    "sum((k - mean(k, axis = batch)) ^ 2)": lambda d: d["k"].astype(np.float64).var(axis=0).sum() * len(d["k"]),
    "sum((2 - t) ^ 2) / batch": lambda d: _mean((2 - d["t"].astype(np.float64)) ** 2),
    "sqrt(sum(transposed_product(k, s) ^ 2))": lambda d: np.linalg.norm(d["k"].T.astype(np.float64) @ d["s"]),
}
_FORM = """
fn transposed_product(k: [batch, n], s: [batch]) = einsum("b n, b -> n", k, s)

model M {
    input s: f32[batch]
    input k: f32[batch, 4]
    output y = s[:, None] |> dense(1)
}

train M {
    target t: f32[batch]
    target c: i32[batch] in 0..4
    target keep: bool[batch]
    target b: f32[batch]
    target w: f32[batch]
    loss = mse(y[:, 0], t)
    metrics = [METRICS]
    optimizer = adam(lr = 0.01)
    batch = 8
}
"""
TEXT = _FORM.replace("METRICS", ", ".join(METRICS))


def _mean(x: Array) -> float:
    return float(x.astype(np.float64).mean()) if x.size else 0.0


def _ratio(a: Any, b: Any) -> float:
    return float(a) / float(b) if b else 0.0


def _r2(p: Array, y: Array) -> float:
    wide = y.astype(np.float64)
    total, residual = ((wide - wide.mean()) ** 2).sum(), ((wide - p) ** 2).sum()
    return float(1 - residual / total) if total > 0 else float(residual == 0)


def _hit(d: Mapping[str, Array]) -> Array:
    return d["s"] > 0.5


def _true(d: Mapping[str, Array]) -> Array:
    return d["b"] > 0.5


def _guess(d: Mapping[str, Array]) -> Array:
    return d["k"].argmax(axis=1)


def _f1(guess: Array, truth: Array) -> float:
    return _ratio(2 * (guess & truth).sum(), guess.sum() + truth.sum())


def _macro(d: Mapping[str, Array], of: Callable[[float, float, float], float]) -> float:
    guess, label = _guess(d), d["c"]
    classes = sorted({*guess.tolist(), *label.tolist()})
    return float(
        np.mean([of(((guess == n) & (label == n)).sum(), (guess == n).sum(), (label == n).sum()) for n in classes])
    )


def _terms(d: Mapping[str, Array]) -> Array:
    k = d["k"].astype(np.float64)
    return np.logaddexp.reduce(k, axis=1) - k[np.arange(len(k)), d["c"]]


def _cross_entropy(d: Mapping[str, Array]) -> float:
    return _mean(_terms(d))


def _weighed(d: Mapping[str, Array], by_weight: bool) -> float:
    weights = np.array([1, 2, 0.5, 3])[d["c"]]
    return float((weights * _terms(d)).sum() / (weights.sum() if by_weight else len(weights)))


def _binned(s: Array) -> Array:
    return np.clip(np.floor((s - np.float32(-4)) / np.float32(8) * 64), 0, 63)


def _auc(score: Array, truth: Array) -> float:
    """By all pairs."""
    differences = score[truth][:, None] - score[~truth]
    return float(np.where(differences == 0, 0.5, differences > 0).mean()) if differences.size else 0.5


def drawn(rows: int, seed: int = 0) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    return {
        "s": random.normal(size=rows).astype(np.float32),
        "k": (random.normal(size=(rows, 4)) * 2).astype(np.float32),
        "t": (random.normal(size=rows) + 100).astype(np.float32),
        "c": random.integers(0, 4, rows).astype(np.int32),
        "keep": random.random(rows) < 0.7,
        "b": (random.random(rows) < 0.4).astype(np.float32),
        "w": random.uniform(0.1, 3, rows).astype(np.float32),
    }


def measured(data: Mapping[str, Array], batch: int = 8, text: str = TEXT, **options: Any) -> dict[str, float]:
    return dlc.loads(text, batch=batch, **options).evaluate(dict(data))


def in_order(found: Mapping[str, float]) -> list[float]:
    """The metrics in the order of the text; a repeated name is numbered."""
    return [value for name, value in found.items() if name != "loss"]


def extremes() -> dict[str, dict[str, Array]]:
    every = drawn(40, seed=3)
    ties = {**every, "s": np.full(40, 0.25, np.float32), "k": np.zeros((40, 4), np.float32)}
    large = {**every, "t": (every["t"] + 3e4).astype(np.float32)}
    return {
        "plain": every,
        "one row": {name: values[:1] for name, values in every.items()} | {"keep": np.ones(1, bool)},
        "one class": {**every, "c": np.full(40, 2, np.int32), "b": np.ones(40, np.float32)},
        "no class": {**every, "b": np.zeros(40, np.float32)},
        "constant target": {**every, "t": np.full(40, 0.1, np.float32)},
        "perfect and constant": {**every, "t": np.full(40, 0.1, np.float32), "s": np.full(40, 0.1, np.float32)},
        "ties": ties,
        "nothing kept": {**every, "keep": np.zeros(40, bool)},
        "far from zero": large,
    }


@pytest.mark.parametrize("name", extremes())
def test_each_metric_is_the_number_that_numpy_gives(name: str) -> None:
    data = extremes()[name]
    if name == "nothing kept":
        expected = {call: of(data) for call, of in METRICS.items() if "keep" not in call}
    else:
        expected = {call: of(data) for call, of in METRICS.items()}
    found = dict(zip(METRICS, in_order(measured(data)), strict=True))
    for call, value in expected.items():
        near = 1e-9 if call.startswith(("r2", "accuracy", "macro", "f1")) and name != "far from zero" else 2e-6
        assert found[call] == pytest.approx(value, rel=max(near, 2e-6), abs=1e-6), call


def test_every_cut_and_machine_gives_the_same_bits() -> None:
    data = drawn(67)
    first = measured(data, 1, threads=1)
    assert [*first.values()] != [0.0] * len(first)
    for batch in (2, 5, 8, 32, 64, 66, 67):
        assert measured(data, batch, threads=2) == first, batch
    order = np.random.default_rng(1).permutation(67)
    assert measured({name: values[order] for name, values in data.items()}, 16) == first


def test_the_reference_and_wide_floats_agree() -> None:
    data = drawn(30)
    found = measured(data)
    for other in (measured(data, 7, target="reference"), measured(data, 7, dtype="f64")):
        for name, value in found.items():
            assert other[name] == pytest.approx(value, rel=2e-6, abs=1e-6), name
    assert measured(data, 7, dtype="f64") == measured(data, 30, dtype="f64")


def test_a_constant_target_has_no_variance_to_the_last_bit() -> None:
    """Sums of squares less the square of a sum would leave some; so would f32."""
    data = drawn(1001) | {"t": np.full(1001, 1e6 + 0.3, np.float32)}
    for dtype in ("f32", "f64"):
        found = in_order(measured(data, 10, dtype=dtype))
        assert found[0] == 0.0


def test_the_epochs_of_a_training_have_the_metrics_of_all_their_rows() -> None:
    """With a rate of 0, every step has the weights of the start."""
    data = drawn(45, seed=5)
    still: dict[str, Any] = {"optimizer.lr": 0.0}
    model = dlc.loads(TEXT, epochs=2, **still)
    for batch in (7, 45):
        result = model.train(data, batch=batch)
        evaluated = model.evaluate(data)
        for name, value in result.history[-1].scalars.items():
            if name != "loss":
                assert value == pytest.approx(evaluated[name], rel=1e-6, abs=1e-6), name
    accumulated = "metrics = [r2(s, t, where = keep), macro_f1(k, c), f1(s, b), root_mean_squared_error(s, t)]"
    lines = [accumulated if line.strip().startswith("metrics") else line for line in TEXT.split("\n")]
    text = "\n".join(lines).replace("batch = 8", "batch = 4\n    accumulate = 3\n    epochs = 1")
    model = dlc.loads(text, **still)
    scalars, evaluated = model.train(data).history[-1].scalars, model.evaluate(data)
    for name in evaluated.keys() - {"loss"}:
        assert scalars[name] == pytest.approx(evaluated[name], rel=1e-6), name


def test_a_loss_that_is_a_mean_does_not_depend_on_the_batch_and_another_is_that_of_a_batch() -> None:
    data = drawn(20)
    for loss in ("sqrt(mse(y[:, 0], t))", "mse(y[:, 0], t, where = keep)", "ratio(sum(y[:, 0] ^ 2), sum(w))"):
        text = TEXT.replace("loss = mse(y[:, 0], t)", f"loss = {loss}")
        assert measured(data, 3, text)["loss"] == measured(data, 20, text)["loss"]
    text = TEXT.replace("loss = mse(y[:, 0], t)", 'loss = mse(y[:, 0], t, reduction = "sum")')
    assert measured(data, 10, text)["loss"] == pytest.approx(measured(data, 20, text)["loss"] / 2)


@pytest.mark.parametrize(
    "metric",
    [
        "sum(t * mean(t))",
        "mean(abs(t - mean(t)))",
        "sum(w * (t - mean(t)) ^ 2)",
        "mean(softmax(k, axis = batch))",
        "mean(reverse(t, batch) * t)",
        "sum(cumsum(t, axis = batch))",
        "mean(t / batch)",
        "mean(t * random_like(t))",
        "mean(t * arange(batch))",
    ],
)
def test_a_metric_that_would_depend_on_the_cut_is_a_mistake(metric: str) -> None:
    lines = [f"    metrics = [{metric}]" if "metrics =" in line else line for line in TEXT.split("\n")]
    assert codes(mistakes("\n".join(lines))) == ["E0616"]


def test_no_rows_are_a_mistake() -> None:
    with pytest.raises(dlc.DataError, match="rows differ or are 0"):
        measured({name: values[:0] for name, values in drawn(3).items()})
