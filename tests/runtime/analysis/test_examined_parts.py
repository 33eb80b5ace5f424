"""The parts of an examination by themselves: pairs, counters, tensors, and the rows and values that are shown."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from compiler import driver
from compiler.driver import InputSpec
from compiler.errors.diagnostics import UsageError
from runtime.analysis.examined import measures, weights
from runtime.analysis.examined.examination import alike, counted, pairs_of, truth_of
from runtime.analysis.examined.measures import Confusion, ConfusionCounter, NumberCounter
from runtime.analysis.examined.samples import (
    ANY,
    RIGHT,
    WORST,
    WRONG,
    chosen_rows,
    described,
    log_probabilities,
    place_of,
    shown_value,
)
from runtime.analysis.examined.weights import BINS, facts_of_tensor, first_filters
from runtime.data.part import Part, RowNames
from runtime.data.preparation import Preparation, Scale
from runtime.reporting.run_facts import most_confused_rows


def test_targets_are_paired_with_the_outputs_that_say_something_about_them() -> None:
    text = """
model M {
    input x: f32[batch, 5, 3]
    input words: i32[batch, 5] in 0..9 padded by mask
    output y = dense(4)(x) + embedding(9, 4)(words)
}

train M {
    target kind: i32[batch, 5] in 0..4
    target share: f32[batch, 5, 4]
    target yes: f32[batch]
    target size: f32[batch, 1]
    loss = cross_entropy(y, kind) + mean(share) + mean(yes) + mean(size)
    optimizer = gradient_descent(lr = 0.1)
    epochs = 1
    batch = 4
}
"""
    specs = driver.load_text(text, "text").inputs
    draw = np.random.default_rng(6)
    arrays = {
        "words": np.zeros((6, 5), np.int32),
        "mask": np.tile(np.arange(5) < 3, (6, 1)),
        "kind": draw.integers(0, 4, (6, 5)),
        "share": np.eye(4, dtype=np.float32)[draw.integers(0, 4, (6, 5))],
        "yes": np.array([0, 1, 1, 0, 1, 9], np.float32),
        "size": draw.random((6, 1), np.float32),
    }
    part = Part(arrays, np.arange(5))  # the last row, which is neither yes nor no, is not one of them
    outputs = {"y": draw.random((6, 5, 4), np.float32), "p": np.array([0.2, 0.4, 0.1, 0.9, 0.31, 0], np.float32)}
    pairs = pairs_of(specs, outputs, part, {"kind": ("y",)}, {"p": 0.3})
    kind, share, yes, size = pairs
    assert [(pair.target.name, pair.output) for pair in pairs] == [
        ("kind", "y"),
        ("share", "y"),
        ("yes", "p"),
        ("size", "p"),
    ]
    assert (kind.classes, kind.mask, kind.is_score) == (4, "mask", False)
    assert counted(kind, part, part.rows, None).sum() == 15
    assert (share.classes, share.is_distribution) == (4, True)
    np.testing.assert_array_equal(truth_of(share, part, part.rows), arrays["share"][:5].argmax(axis=-1))
    assert (yes.classes, yes.is_score, yes.threshold, yes.is_distribution) == (2, True, 0.3, False)
    assert yes.guesses(outputs["p"], arrays["yes"]).tolist() == [0, 1, 0, 1, 1, 0]
    assert (size.classes, size.is_score) == (None, False)
    assert alike(outputs["p"], arrays["size"]).shape == (6, 1)


def test_many_classes_are_counted_by_pairs() -> None:
    draw = np.random.default_rng(1)
    truth, guess = draw.integers(-1, 1001, 5000), draw.integers(0, 1000, 5000)
    guess[:3000] = np.clip(truth[:3000], 0, 999)
    counter = ConfusionCounter(1000)
    for part in np.array_split(np.arange(5000), 7):
        counter.add(truth[part], guess[part])
    found = Confusion("t", "o", tuple(map(str, range(1000))), counter.pairs())
    counts = np.zeros((1000, 1000), int)
    for one, other in zip(truth, guess, strict=True):
        if 0 <= one < 1000:  # the others have no class
            counts[one, other] += 1
    np.testing.assert_array_equal(found.counts, counts)
    assert found.accuracy == np.trace(counts) / counts.sum()
    hits, present, taken = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    f1 = [2 * h / (p + t) if p + t else 0 for h, p, t in zip(hits, present, taken, strict=True)]
    np.testing.assert_allclose(found.scores().f1, f1)
    off = counts - np.diag(hits)
    assert [row["count"] for row in most_confused_rows(found)] == sorted(off[off > 0], reverse=True)[:20]
    with pytest.raises(UsageError, match="3,000 classes"):
        _ = Confusion("t", "o", ("",) * 3000, counter.pairs()).counts
    empty = Confusion("t", "o", ("a", "b"), ConfusionCounter(2).pairs())
    assert set(empty.averages().values()) == {0.0}


def test_errors_of_numbers_are_added_up_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(2)
    truth = draw.normal(100, 1, 5000).astype(np.float32)
    guess = truth + draw.normal(0.2, 0.3, 5000).astype(np.float32)
    guess[17], guess[18] = np.nan, np.inf
    keep = draw.random(5000) < 0.9
    keep[17:19] = True
    monkeypatch.setattr(measures, "_POINTS", 500)
    counter = NumberCounter(5000)
    for part in np.array_split(np.arange(5000), 9):
        counter.add(truth[part], guess[part], keep[part])
    found = counter.fit("value", "estimate")
    kept = keep & np.isfinite(guess)
    t, g = truth[kept].astype(np.float64), guess[kept].astype(np.float64)
    assert (found.count, found.nonfinite) == (kept.sum(), 2)
    assert found.mean_error == pytest.approx((g - t).mean())
    assert found.mean_absolute_error == pytest.approx(np.abs(g - t).mean())
    assert found.root_mean_squared_error == pytest.approx(np.sqrt(((g - t) ** 2).mean()))
    assert found.largest_error == np.abs(g - t).max()
    assert found.r2 == pytest.approx(1 - ((g - t) ** 2).sum() / ((t - t.mean()) ** 2).sum())
    assert len(found.points) == pytest.approx(450, abs=10)
    assert {(float(x), float(y)) for x, y in found.points} <= set(zip(t.tolist(), g.tolist(), strict=True))


def test_equal_numbers_have_no_spread() -> None:
    counter = NumberCounter(10)
    for part in (np.full(7, 0.1), np.full(3, 0.1)):  # the f64 sum of three, by three, is not 0.1
        counter.add(part, part + 0.5, np.ones(len(part), np.bool_))
    assert counter.fit("value", "estimate").r2 == 0


def test_a_tensor_is_measured_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_AT_ONCE", 100)
    draw = np.random.default_rng(4)
    values = draw.normal(1000, 0.01, (30, 40)).astype(np.float32)
    values[0, :5], values[1, :3] = 0, (np.nan, np.inf, -np.inf)
    found = facts_of_tensor("a.W", "parameter", values)
    finite = values[np.isfinite(values)].astype(np.float64)
    assert (found.count, found.nonfinite, found.zeros) == (1200, 3, 5)
    assert found.mean == pytest.approx(finite.mean(), rel=1e-12)
    assert found.std == pytest.approx(finite.std(), rel=1e-9)
    assert (found.least, found.most) == (finite.min(), finite.max())
    assert found.norm == pytest.approx(np.linalg.norm(finite))
    assert list(found.bins) == np.histogram(finite, BINS)[0].tolist()
    same = facts_of_tensor("a.b", "parameter", np.full(7, 0.1, np.float32))
    assert (same.std, sum(same.bins)) == (0.0, 7)
    broken = facts_of_tensor("a.b", "parameter", np.array([np.nan]))
    assert (broken.nonfinite, math.isnan(broken.mean), broken.to_json()["max"]) == (1, True, None)
    assert facts_of_tensor("a.b", "state", np.zeros(0)).count == 0


def test_the_first_filters_stand_in_front() -> None:
    kernel = np.arange(3 * 3 * 2 * 70, dtype=np.float32).reshape(3, 3, 2, 70)
    found = first_filters({"x.W": np.zeros((3, 3)), "conv.W": kernel, "later.W": kernel * 2})
    assert found is not None
    assert (found.path, found.count, found.images.shape, found.bound) == ("conv.W", 70, (64, 3, 3, 2), kernel.max())
    np.testing.assert_array_equal(found.images[5], kernel[..., 5])
    assert first_filters({"x.W": np.zeros((3, 3))}) is None


def test_the_rows_that_are_shown_are_always_the_same() -> None:
    losses = np.array([1.0, 5.0, math.nan, 5.0, 0.1, 0.2, 7.0])
    is_right = np.array([True, False, False, False, True, True, True])
    assert chosen_rows(losses, is_right) == [
        (RIGHT, 0),
        (RIGHT, 4),
        (RIGHT, 5),
        (RIGHT, 6),
        (WRONG, 2),
        (WRONG, 1),
        (WRONG, 3),
    ]
    many = chosen_rows(np.arange(100.0), None)
    assert many[:4] == [(ANY, 0), (ANY, 30), (ANY, 60), (ANY, 91)]
    assert many[4:] == [(WORST, 99 - n) for n in range(8)]
    assert chosen_rows(np.zeros(1), np.array([False])) == [(WRONG, 0)]


def test_rows_are_named_as_the_data_counts_them() -> None:
    arrays, rows = {"x": np.zeros((3, 1))}, np.arange(3)
    folder = Path("images")
    table = Part(arrays, rows, names={"x": RowNames(Path("a/b.csv"), np.array([2, 3, 1500]))})
    files = tuple(folder / "cats" / f"{n}.png" for n in range(3))
    pictures = Part(arrays, rows, names={"x": RowNames(folder / "cats" / "0.png", None, files)})
    assert place_of(table, 2) == "b.csv, row 1,500"
    assert place_of(pictures, 1) == "1.png, row 2"
    assert place_of(Part(arrays, rows), 1) == "window from step 2"


def spec_named(name: str, row: str) -> InputSpec:
    text = f"model M {{\n    input {name}: {row}\n    output y = reshape({name}, batch, 64) |> dense(1)\n}}\n"
    return driver.load_text(text, "text").inputs[0]


def test_a_value_is_shown_as_people_know_it() -> None:
    spec = spec_named("pixels", "f32[batch, 64]")
    shown = shown_value(spec, np.linspace(0, 1, 64, dtype=np.float32), None)
    assert shown.picture is not None
    assert (shown.picture.shape, shown.picture[0, 0, 0], shown.picture[0, 7, 7]) == ((1, 8, 8), 0, 255)
    columns = tuple(f"c{n}" for n in range(64))
    preparation = Preparation({"size": columns}, {"c1": ("low", "high")}, {}, {"c0": Scale(10.0, 2.0)}, columns)
    values = np.ones(64, np.int32)
    shown = shown_value(spec_named("size", "f32[batch, 64]"), values, preparation)
    assert (list(shown.columns.items())[:3], shown.left_out) == ([("c0", "12"), ("c1", "high"), ("c2", "1")], 48)
    shown = shown_value(spec_named("grid", "f32[batch, 8, 8]"), np.full((8, 8), np.nan, np.float32), None)
    assert shown.picture is not None
    assert not shown.picture.any()


@pytest.mark.parametrize(
    ("values", "words", "text"),
    [
        (np.repeat(np.array([0, 4, 0, 2, 0]), [30, 1, 12, 1, 52]), None, "0 × 30, 4, 0 × 12, 2, 0 × 52"),
        (np.array([4, 2, 0, 0], np.uint8), None, "4, 2, 0, 0"),
        (np.array([255, 255, 0], np.uint8), ("a",), "255, 255, a"),
        (np.array([1, 0, 1]), ("cat", "dog"), "dog, cat, dog"),
        (np.arange(96) < 33, None, "true × 33, false × 63"),
        (np.array([True, False]), None, "true, false"),
        (np.arange(40) % 2 == 0, None, "bool[40], 20 of 40 true"),
        (np.ones((2, 3), bool), None, "bool[2, 3], 6 of 6 true"),
        (np.arange(20), None, "i64[20] from 0 to 19, mean 9.5"),
        (np.array([], np.int32), None, "i32[0]"),
        (np.array([12345, -1]), None, "12345, -1"),
        (np.array([0.5, 0.25]), None, "0.5, 0.25"),
    ],
)
def test_sequences_of_classes_are_spelt(values: np.ndarray, words: tuple[str, ...] | None, text: str) -> None:
    assert described(values, words) == text


def test_scores_are_logits_unless_they_are_probabilities() -> None:
    logits = np.array([[2.0, 1.0, -1.0], [0.0, 1000.0, 0.0]])
    shares = np.exp(log_probabilities(logits))
    np.testing.assert_allclose(shares[0], np.exp(logits[0]) / np.exp(logits[0]).sum())
    np.testing.assert_allclose(shares[1], [0, 1, 0], atol=1e-300)
    np.testing.assert_allclose(np.exp(log_probabilities(shares[:1])), shares[:1])
    np.testing.assert_allclose(np.exp(log_probabilities(np.log(shares[:1]))), shares[:1])
