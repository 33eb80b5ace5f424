"""Settings: who decided them, what the command line may change, and which are given or follow at run time."""

from __future__ import annotations

import numpy as np
import pytest
from elaboration import mistakes, program, run_graph, run_program
from train_texts import inputs, setting, text


def test_origins_of_settings() -> None:
    found = program(text(head="train M(hidden = 6)"), ("classes", "4"), ("optimizer.lr", "3e-4"), ("batch", "16"))
    origins = {s.name: (s.value, s.origin) for s in found.settings}
    assert origins["hidden"] == (6, "train")
    assert origins["classes"] == (4, "command line")
    assert origins["rate"] == (0.5, "default")
    assert origins["optimizer.lr"] == (3e-4, "command line")
    assert origins["optimizer.beta1"] == (0.9, "default")
    assert origins["batch"] == (16, "command line")
    assert found.plan is not None
    assert found.plan.batch == 16


def test_the_command_line_may_give_what_is_missing() -> None:
    found = program(text(batch=""), ("batch", "4"), ("epochs", "2"), ("data", "some/data.csv"))
    assert found.plan is not None
    assert (found.plan.batch, found.plan.epochs) == (4, 2)
    assert found.plan.data is not None
    assert (found.plan.data.format, found.plan.data.path) == ("csv", "some/data.csv")


def test_a_whole_key_on_the_command_line() -> None:
    found = program(text(), ("optimizer", "gradient_descent(lr = 0.5)"), ("loss", "mean(logits)"))
    assert setting(found, "optimizer.lr").value == 0.5
    assert found.plan is not None
    assert not found.plan.rules[0].states


def test_the_length_of_the_command_line_replaces_the_other_kind() -> None:
    found = program(text(epochs="3"), ("steps", "10"))
    assert found.plan is not None
    assert (found.plan.epochs, found.plan.steps) == (None, 10)


def test_an_unknown_override_is_an_error() -> None:
    (found,) = mistakes(text(), ("optimizer.learning_rate", "1"))
    assert found.code == "E0610"
    (near,) = mistakes(text(), ("hiden", "3"))
    assert any("`hidden`" in note.message for note in near.notes)
    (absent,) = mistakes(text(), ("streem", "512"))  # near a key that the text leaves out
    assert any("`stream`" in note.message for note in absent.notes)
    (lone,) = mistakes("model A {\n    input x: f32[batch]\n    output y = x\n}\n", ("width", "3"))
    assert [note.message for note in lone.notes] == ["there are none"]


@pytest.mark.parametrize("value", ["1e400", "-1e400", "[1, 1e400]", "2 * 99999999999999999999", "constant(1e400)"])
def test_a_number_that_no_type_holds_is_no_text(value: str) -> None:
    (found,) = mistakes(text(), ("rate", value))
    assert (found.code, str(found.span)) == ("E0104", "command line:1:1")
    assert found.notes[0].message.endswith(f"in quotes: 'rate=\"{value}\"'")
    read = program(text(), ("data", "runs/20261125202611252026/1e400.csv")).plan
    assert read is not None
    assert read.data is not None
    assert read.data.path == "runs/20261125202611252026/1e400.csv"


def test_floats_that_reach_only_tensors_are_given_at_run_time() -> None:
    found = program(text())
    rate = setting(found, "rate")
    assert rate.is_runtime
    assert "rate" in inputs(found.training_graph)
    assert setting(found, "optimizer.beta2").is_runtime
    assert setting(found, "optimizer.lr").is_runtime
    derived = setting(found, "(1 - optimizer.beta1)")
    assert (derived.value, derived.origin) == (pytest.approx(0.1), "derived")


def test_a_setting_that_decides_is_elaborated() -> None:
    body = "    h = x\n    if rate > 0.25 { h = rate * h }\n    output logits = dense(3)(h)\n"
    found = program(f"model M(rate = 0.5) {{\n    input x: f32[batch, 5]\n{body}}}")
    assert not setting(found, "rate").is_runtime
    assert inputs(found.training_graph) == ["x", "logits.dense.W", "logits.dense.b"]
    results = run_program(found, {"x": np.ones((2, 5))}, batch=2)
    assert results["logits"].shape == (2, 3)


def test_a_number_of_a_setting_that_decides_and_one_that_does_not_is_given_at_run_time() -> None:
    body = "h = x\n if b > 0.3 { h = x + 1 }\n output y = h * a + h * (a * b)\n"
    found = program(f"model M(a = 0.25, b = 0.5) {{\n input x: f32[batch, 2]\n {body}}}")
    assert inputs(found.training_graph) == ["x", "a", "(a * b)"]
    assert [setting(found, name).is_runtime for name in ("a", "b", "(a * b)")] == [True, False, True]


def test_a_setting_within_other_numbers_decides_nothing() -> None:
    found = program("model M(a = 0.25, b = 2) {\n input x: f32[batch, 2]\n output y = x * log(a) |> dense(b)\n}")
    assert inputs(found.training_graph)[:2] == ["x", "log(a)"]
    assert (setting(found, "a").is_runtime, setting(found, "a").is_within) == (False, True)
    assert not setting(found, "b").is_within


def test_the_same_bits_as_a_constant() -> None:
    settings = "model M(a = 0.3, b = 0.7) {\n input x: f32[batch, 5]\n output y = x * a - (1 - b) * x / a\n}"
    constants = "model M {\n input x: f32[batch, 5]\n output y = x * 0.3 - (1 - 0.7) * x / 0.3\n}"
    x = np.random.default_rng(0).normal(size=(4, 5))
    first, second = (run_program(program(t), {"x": x}, batch=4)["y"] for t in (settings, constants))
    assert first.tobytes() == second.tobytes()


def test_the_size_of_the_run_is_known_at_run_time() -> None:
    found = program(text(schedule="warmup(steps = total_steps // 10, then = cosine(T = total_steps))"))
    assert found.plan is not None
    schedule = found.plan.schedule
    assert schedule is not None
    assert inputs(schedule) == ["lr", "t", "total_steps", "schedule.then.floor"]
    assert setting(found, "total_steps").is_runtime
    scalars = {"lr": 1.0, "total_steps": 100.0, "schedule.then.floor": 0.0}
    rates = []
    for t in (0, 9, 10, 60, 110):
        known = {name: np.array(value, np.float32) for name, value in (scalars | {"t": t}).items()}
        rates.append(float(run_graph(schedule, known)["lr"]))
    assert rates == pytest.approx([0.1, 1.0, 1.0, 0.5, 0.0], abs=1e-6)


def test_settings_that_follow_from_the_size_of_the_run() -> None:
    schedule = (
        "warmup(steps = total_steps // 10, then = polynomial(T = -(5 - total_steps), power = 1 / steps_per_epoch))"
    )
    found = program(text(schedule=schedule))
    names = ("schedule.steps", "schedule.then.T", "schedule.then.power", "schedule.then.floor", "total_steps")
    assert [setting(found, name).value for name in names] == [None, None, None, 0.0, None]
    sizes = {"total_steps": 95, "steps_per_epoch": 4}
    assert [setting(found, name).in_run(sizes).value for name in names] == [9, 90, 0.25, 0.0, 95]
    assert setting(found, "schedule.then.power").in_run({"total_steps": 95}).value is None
    assert setting(found, "schedule.then.power").in_run(sizes | {"steps_per_epoch": 0}).value is None


def test_a_known_number_of_steps_is_a_constant() -> None:
    found = program(text(schedule="cosine(T = total_steps)", steps="50"))
    assert found.plan is not None
    assert found.plan.schedule is not None
    assert inputs(found.plan.schedule) == ["lr", "t", "schedule.floor"]
