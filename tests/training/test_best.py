"""`best` in `train`: by which metric epochs are compared, in keeping weights, stopping early, and for the rate."""

from __future__ import annotations

import numpy as np
import pytest
from elaboration import codes, mistakes, program

import dlc

TEXT = """
fn size(y) = mean(y ^ 2)

model M {
    input x: f32[batch, 2]
    output y = x |> dense(1)
}

train M {
    target t: f32[batch, 1]
    loss = mse(y, t)
    metrics = [maximise(size(y)), minimise(size(y)), size(y)]
    optimizer = gradient_descent(lr = 0.05)
    batch = 8
    epochs = 6
}
"""
X = np.random.default_rng(0).normal(size=(32, 2)).astype(np.float32)
DATA = {"x": X, "t": (X @ [[1.0], [2.0]]).astype(np.float32)}


def trained(key: str = "", **settings: object) -> tuple[dlc.Model, dlc.TrainingResult]:
    """From weights of zero, so that what the model gives becomes larger with every epoch, and the loss smaller."""
    model = dlc.loads(TEXT.replace("epochs = 6", f"epochs = 6\n    {key}"))
    model.parameters["y.dense.W"] = 0.0
    return model, model.train(DATA, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(("best", "epoch"), [("loss", 6), ("size", 6), ("size_2", 1)])
def test_epochs_are_compared_by_it(best: str, epoch: int) -> None:
    model, result = trained(best=best, validation=DATA)
    sizes = [event.validation["size"] for event in result.history]
    assert sizes == sorted(sizes)
    assert result.best_epoch == epoch
    assert [event.is_best for event in result.history] == [epoch == 6 or k == 0 for k in range(6)]
    assert model.evaluate(DATA)["size"] == sizes[epoch - 1]


def test_a_training_stops_early_and_slows_down_by_it() -> None:
    _, result = trained("early_stop = patience(2)", best="size_2")
    assert (result.reason, len(result.history)) == ("stopped early", 3)
    _, result = trained("early_stop = patience(2)", best="size")
    assert len(result.history) == 6
    for key in ("plateau = reduce(0.5, patience = 2)", "schedule = reduce_on_plateau(0.5, patience = 2)"):
        for best, is_slower in (("size", False), ("size_2", True)):
            _, result = trained(key, best=best)
            assert result.history[-1].rate == pytest.approx(0.05) or is_slower, (key, best)
            assert result.history[-1].rate < 0.04 or not is_slower, (key, best)  # type: ignore[operator]


def test_a_mistake_says_what_to_write() -> None:
    (found,) = mistakes(TEXT.replace("batch = 8", "batch = 8\n    best = size_3"))
    assert found.code == "E0617"
    assert "by `maximise(…)` or `minimise(…)` around `size_3`" in found.notes[0].message
    (found,) = mistakes(TEXT.replace("batch = 8", "batch = 8\n    best = sise"))
    assert found.code == "E0617"
    assert codes(mistakes(TEXT.replace("batch = 8", "batch = 8\n    best = 3"))) == ["E0603"]


def test_directions_are_those_of_the_library() -> None:
    text = TEXT.replace("size(y)), minimise(size(y)), size(y)", "size(y)), r2(y, t), mse(y, t), 2 * r2(y, t)")
    plan = program(text).plan
    assert plan is not None
    assert plan.metrics == ("size", "r2", "mse", "metric")
    assert plan.directions == {"loss": False, "size": True, "r2": True, "mse": False}


def test_a_loss_is_not_made_large() -> None:
    (found,) = mistakes(TEXT.replace("loss = mse(y, t)", "loss = r2(y, t)"))
    assert found.code == "E0604"
    assert "a large value of this is good" in found.message
