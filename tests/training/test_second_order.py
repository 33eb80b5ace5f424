"""Optimizers of `(p, g, t, objective)`: what the objective gives, and that Newton and L-BFGS find what NumPy finds."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from elaboration import codes, mistakes
from killing import final_state, write_project

from compiler import driver
from compiler.driver import Array, Options, Program, Tensors
from compiler.interface import Steps
from compiler.programs.kinds import TRAINING
from runtime.cli.main import main
from runtime.inference.model import runtime_settings
from runtime.runs.checkpoint import newest_checkpoint

DOUBLE = Options(dtype="f64")


class Training:
    """Updates of one batch that is all the data."""

    def __init__(self, text: str, data: dict[str, Any], options: Options = DOUBLE) -> None:
        self.program: Program = driver.load_text(text, "model.dl")
        self.tensors: Tensors = driver.allocate(self.program, options)
        driver.initialise(self.program, self.tensors, 0, options)
        self.step = driver.compile_program(self.program, TRAINING, options)
        kind = np.float64 if options.dtype == "f64" else np.float32
        self.data = {name: np.asarray(values, kind) for name, values in data.items()}
        self.updates = 0

    def update(self, times: int = 1, stay: bool = False) -> list[float]:
        """The loss before each update; with `stay`, the same update is made each time."""
        rows = np.arange(len(next(iter(self.data.values()))))
        losses: list[float] = []
        for _ in range(times):
            results = self.step.run(
                Steps(self.tensors, self.data, rows, len(rows), self.updates, 0, runtime_settings(self.program))
            )
            assert not results.nonfinite
            losses.append(float(results.scalars["loss"][0]))
            self.updates += not stay
        return losses

    def parameters(self) -> Array:
        paths = [spec.path for spec in self.program.parameters if spec.role.value == "parameter"]
        return np.concatenate([self.tensors[path].ravel() for path in paths])

    def put(self, point: Array) -> None:
        start = 0
        for spec in self.program.parameters:
            size = self.tensors[spec.path].size
            if spec.role.value == "parameter":
                self.tensors.write(spec.path, point[start : start + size].reshape(self.tensors[spec.path].shape))
                start += size


DRAWN = np.random.default_rng(1)
X = DRAWN.normal(size=(60, 4)) * (1, 3, 0.3, 2)
NOISY = X @ (1.0, -0.5, 2.0, 0.3) + 0.7 + DRAWN.normal(size=60)
SIGN = (NOISY > 0).astype(float)

NETWORK = """
optimizer probe(lr = 1.0)(p, g, t, objective) {
    state direction = uniform(-1.0, 1.0)
    state product = zeros
    state slope = zeros
    state loss: [1] = zeros
    f, slope, product = objective(p, direction)
    loss = f[None]
    p - 0 * lr * g
}

model N {
    input x: f32[batch, 4]
    h = x |> dense(5) |> tanh |> dropout(0.3)
    output z = h |> dense(3) |> softmax
}

train N {
    target y: f32[batch]
    loss = mean((z[:, 0] * 2 - z[:, 1] - y) ^ 2)
    penalty = l2(1e-2)
    optimizer = OPTIMIZER
    batch = 60
    steps = 10
}
"""


@pytest.mark.parametrize("target", ["native", "reference"])
def test_the_objective_gives_loss_gradient_and_products_of_the_hessian(target: str) -> None:
    """On the batch of the step, with its draws: the products are differences of the step's own gradients."""
    options = Options(target=target, dtype="f64")
    probe = Training(NETWORK.replace("OPTIMIZER", "probe()"), {"x": X, "y": NOISY}, options)
    plain = Training(NETWORK.replace("OPTIMIZER", "gradient_descent(lr = 1.0)"), {"x": X, "y": NOISY}, options)
    point = probe.parameters()

    def gradient(at: Array) -> Array:
        plain.put(at)
        plain.update(stay=True)
        return at - plain.parameters()

    (loss,) = probe.update()
    state = {name: probe.tensors[f"(optimizer):{name}"].ravel() for name in ("direction", "product", "slope", "loss")}
    assert state["loss"][0] == pytest.approx(loss, rel=1e-12)
    np.testing.assert_allclose(state["slope"], gradient(point), rtol=1e-9, atol=1e-12)
    step = 1e-5 * state["direction"]
    expected = (gradient(point + step) - gradient(point - step)) / 2e-5
    np.testing.assert_allclose(state["product"], expected, rtol=1e-6, atol=1e-8)
    assert np.abs(expected).max() > 0.1


LINEAR = """
model L {
    input x: f32[batch, 4]
    output z = x |> dense(1)
}

train L {
    target y: f32[batch]
    loss = LOSS
    optimizer = OPTIMIZER
    batch = 60
    steps = 10
}
"""


def linear(loss: str, optimizer: str) -> str:
    return LINEAR.replace("LOSS", loss).replace("OPTIMIZER", optimizer)


@pytest.mark.parametrize("optimizer", ["newton()", "newton_cg(iterations = 6, tolerance = 1e-12)"])
def test_newton_solves_a_quadratic_in_one_step(optimizer: str) -> None:
    training = Training(linear("mse(z[:, 0], y)", optimizer), {"x": X, "y": NOISY})
    training.update()
    solution = np.linalg.lstsq(np.c_[X, np.ones(60)], NOISY)[0]
    np.testing.assert_allclose(training.parameters(), solution, rtol=1e-8)


def logistic_optimum() -> Array:
    """Newton's method in NumPy."""
    wide, w = np.c_[X, np.ones(60)], np.zeros(5)
    for _ in range(30):
        p = 1 / (1 + np.exp(-wide @ w))
        slope = wide.T @ (p - SIGN) / 60 + 0.02 * w
        w = w - np.linalg.solve(wide.T * (p * (1 - p)) @ wide / 60 + 0.02 * np.eye(5), slope)
    return w


@pytest.mark.parametrize(
    ("optimizer", "updates", "target"),
    [
        ("newton()", 12, "native"),
        ("newton_cg()", 14, "native"),
        ("lbfgs()", 25, "native"),
        ("lbfgs()", 25, "reference"),
        ("lbfgs(memory = 3, evaluations = 2)", 40, "native"),
    ],
)
def test_logistic_regression_is_solved(optimizer: str, updates: int, target: str) -> None:
    text = linear("binary_cross_entropy_with_logits(z[:, 0], y)", optimizer).replace(
        "batch = 60", "penalty = l2(1e-2)\n    batch = 60"
    )
    training = Training(text, {"x": X, "y": SIGN}, Options(target=target, dtype="f64"))
    losses = training.update(updates)
    np.testing.assert_allclose(training.parameters(), logistic_optimum(), rtol=1e-5, atol=1e-5)
    assert all(after <= before + 1e-12 for before, after in pairwise(losses))


def test_single_precision_comes_as_near_as_it_can() -> None:
    text = linear("binary_cross_entropy_with_logits(z[:, 0], y)", "lbfgs()").replace(
        "batch = 60", "penalty = l2(1e-2)\n    batch = 60"
    )
    training = Training(text, {"x": X, "y": SIGN}, Options())
    training.update(25)
    np.testing.assert_allclose(training.parameters(), logistic_optimum(), rtol=2e-3, atol=2e-3)


ROSENBROCK = """
layer point()(x: [batch, 1]) {
    param a: [1] = constant(-1.2)
    param b: [1] = constant(1.0)
    return x * ((1 - a) ^ 2 + 100 * (b - a ^ 2) ^ 2)
}

model R {
    input x: f32[batch, 1]
    output y = point()(x)
}

train R {
    loss = mean(y)
    optimizer = OPTIMIZER
    batch = 1
    steps = 10
}
"""


@pytest.mark.parametrize(
    ("optimizer", "updates"),
    [("lbfgs(evaluations = 10)", 45), ("newton()", 25), ("newton_cg(tolerance = 1e-3, evaluations = 8)", 30)],
)
def test_the_valley_of_rosenbrock_is_followed_to_its_end(optimizer: str, updates: int) -> None:
    training = Training(ROSENBROCK.replace("OPTIMIZER", optimizer), {"x": np.ones((1, 1))})
    training.update(updates)
    np.testing.assert_allclose(training.parameters(), (1, 1), atol=1e-6)


@pytest.mark.parametrize("optimizer", ["newton()", "newton_cg()", "lbfgs()"])
def test_a_loss_that_is_not_convex_falls_all_the_same(optimizer: str) -> None:
    text = NETWORK.replace("OPTIMIZER", optimizer).replace(" |> dropout(0.3)", "")
    losses = Training(text, {"x": X, "y": np.tanh(NOISY)}, Options()).update(25)
    assert losses[-1] < 0.3 * losses[0]


DEEP = """
model D {
    input x: f32[batch, 4]
    output z = x |> dense(6) |> tanh |> dense(6) |> tanh |> dense(6) |> tanh |> dense(1)
}

train D {
    target y: f32[batch]
    loss = mse(z[:, 0], y)
    optimizer = newton()
    batch = 60
    steps = 10
}
"""


def test_newton_stands_still_nowhere() -> None:
    """Where the loss curves downwards, the damping is raised within the step, until the loss falls."""
    x = X / X.std(0)
    losses = Training(DEEP, {"x": x, "y": np.tanh(NOISY) * x[:, 0]}).update(60)
    assert all(after < before for before, after in pairwise(losses))
    assert losses[-1] < 1e-3 * losses[0]


def test_other_parameters_have_their_own_optimizer() -> None:
    """What the objective differentiates is the share of its optimizer; the others stand still in it."""
    listed = '[lbfgs(on = "z.*"), gradient_descent(lr = 0.0)]'
    text = NETWORK.replace("OPTIMIZER", listed).replace(" |> dropout(0.3)", "")
    training = Training(text, {"x": X, "y": NOISY})
    first = {name: training.tensors[name].copy() for name in training.tensors.names()}
    losses = training.update(30)
    assert losses[-1] < 0.9 * losses[0]
    assert np.array_equal(training.tensors["h.dense.W"], first["h.dense.W"])
    assert not np.array_equal(training.tensors["z.dense.W"], first["z.dense.W"])
    assert training.tensors["(optimizer.0):steps"].shape == (10, 18)


THAWING = 'freeze = "z.dense.b"\n    unfreeze = [after(1, "*")]'


@pytest.mark.parametrize("key", ["clip = norm(1.0)", "accumulate = 2", "ema = 0.9", THAWING])
def test_what_does_not_go_with_the_objective_is_refused(key: str) -> None:
    text = linear("mse(z[:, 0], y)", "lbfgs()").replace("batch = 60", f"batch = 60\n    {key}")
    assert codes(mistakes(text, elaborates=True)) == ["E0615"]


def test_an_interrupted_training_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_project(tmp_path, epochs=3)
    monkeypatch.chdir(tmp_path)
    options = ["--set", "optimizer=lbfgs(memory = 2)", "--set", "batch=100"]
    assert main(["train", "model.dl", *options, "--out", "whole", "--json"]) == 0
    wanted = final_state(Path("whole"))
    newest = newest_checkpoint(Path("whole/checkpoints")).path
    (newest / "weights.safetensors").write_bytes(b"damaged")
    assert main(["train", "--resume", "whole", "--json"]) == 0
    assert "is passed over" in capsys.readouterr().err
    assert final_state(Path("whole")) == wanted


def test_sharpness_aware_steps_take_the_gradient_at_the_worst_point_nearby() -> None:
    plain = Training(NETWORK.replace("OPTIMIZER", "gradient_descent(lr = 1.0)"), {"x": X, "y": NOISY})
    aware = Training(
        NETWORK.replace("OPTIMIZER", "sam(lr = 0.1, rho = 0.3, weight_decay = 0.01)"), {"x": X, "y": NOISY}
    )
    point, velocity = aware.parameters(), 0.0

    def gradient(at: Array) -> Array:
        plain.put(at)
        plain.update(stay=True)
        return at - plain.parameters()

    for _ in range(3):
        here = gradient(point)
        slope = gradient(point + 0.3 * here / np.linalg.norm(here))
        velocity = 0.9 * velocity + slope + 0.01 * point
        point = point - 0.1 * velocity
        aware.update()
        plain.updates += 1
        np.testing.assert_allclose(aware.parameters(), point, rtol=1e-9, atol=1e-12)
