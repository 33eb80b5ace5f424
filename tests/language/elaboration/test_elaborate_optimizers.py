"""Optimizers, penalties and clips of `train`: their rules, the parameters that they take, and their names."""

from __future__ import annotations

import numpy as np
import pytest
from elaboration import codes, mistakes, program, run_graph, run_program
from train_texts import MODEL, inputs, setting, text

from compiler.graph.ir import Role
from compiler.types import DType, TensorType


def test_rules_of_each_parameter() -> None:
    found = program(text())
    assert found.plan is not None
    rules = found.plan.rules
    assert [rule.parameter for rule in rules] == [spec.path for spec in found.parameters]
    graph = rules[0].graph
    assert inputs(graph)[:6] == ["p", "g", "t", "lr", "m", "v"]
    assert [output.name for output in graph.outputs] == ["p", "m", "v"]
    assert [state.type for state in rules[1].states] == [TensorType(DType.F32, (4,))] * 2
    assert rules[0].rate == "optimizer.lr"


def test_an_optimizer_of_ones_own() -> None:
    own = """
optimizer own(lr = 0.1, heavy = 0.5)(p, g, t) {
    state v = zeros
    state n: [] = ones
    v = heavy * v + g
    n = n + t
    p - lr * v * n
}
"""
    found = program(text(own, optimizer="own(heavy = 0.25)"))
    assert found.plan is not None
    rule = found.plan.rules[1]
    p = np.arange(4, dtype=np.float32)
    scalars = {"t": 3.0, "lr": 0.5, "n": 1.0, "optimizer.heavy": 0.25}
    known = {name: np.array(value, np.float32) for name, value in scalars.items()}
    results = run_graph(rule.graph, {"p": p, "g": p + 1, "v": p * 2, **known})
    np.testing.assert_allclose(results["v"], 0.25 * p * 2 + p + 1)
    assert results["n"] == 4
    np.testing.assert_allclose(results["p"], p - 0.5 * results["v"] * 4)


def test_groups_of_parameters() -> None:
    chosen = '[gradient_descent(lr = 0.1, on = "*.b"), adam(lr = 0.2)]'
    found = program(text(optimizer=chosen))
    assert found.plan is not None
    assert {rule.parameter[-1]: (rule.rate, len(rule.states)) for rule in found.plan.rules} == {
        "W": ("optimizer.1.lr", 2),
        "b": ("optimizer.0.lr", 0),
    }
    assert codes(mistakes(text(optimizer='[adam(on = "*.W")]'))) == ["E0606"]
    assert codes(mistakes(text(optimizer='[adam(on = "*.U"), adam()]'))) == ["E0605"]


@pytest.mark.parametrize(("selector", "decayed"), [("matrices", {"W"}), ('"*.b"', {"b"}), ('"*"', {"W", "b"})])
def test_weight_decay_is_selected(selector: str, decayed: set[str]) -> None:
    found = program(text(optimizer=f"adamw(weight_decay = 0.5, decay_on = {selector})"))
    assert found.plan is not None
    taking = {r.parameter[-1] for r in found.plan.rules if any("weight_decay" in n for n in inputs(r.graph))}
    assert taking == decayed


def test_an_optimizer_may_take_the_matrices() -> None:
    found = program(text(optimizer="[muon(on = matrices), adam()]", penalty="l2(0.1, on = matrices)"))
    assert found.plan is not None
    assert {rule.parameter[-1]: rule.rate for rule in found.plan.rules} == {
        "W": "optimizer.0.lr",
        "b": "optimizer.1.lr",
    }
    assert codes(mistakes(text(optimizer="muon()"), elaborates=True)) == ["E0315"]


def test_what_has_no_decay_takes_no_selector() -> None:
    assert codes(mistakes(text(optimizer="adam(decay_on = matrices)"))) == ["E0301"]


def test_frozen_parameters_have_no_rule() -> None:
    found = program(text(freeze='["logits.dense.*"]'))
    assert found.plan is not None
    assert [rule.parameter for rule in found.plan.rules] == ["logits.dense_2.W", "logits.dense_2.b"]
    assert [spec.path for spec in found.parameters if spec.frozen] == ["logits.dense.W", "logits.dense.b"]
    assert codes(mistakes(text(freeze='["backbone.*"]'))) == ["E0605"]


def test_frozen_statistics_keep_their_values() -> None:
    normal = MODEL.replace("relu", "batch_norm")
    frozen = text(freeze='["*batch_norm*"]').replace(MODEL, normal)
    assert [o.name for o in program(frozen).training_graph.outputs if o.role is Role.STATE] == []
    free = text().replace(MODEL, normal)
    assert len([o for o in program(free).training_graph.outputs if o.role is Role.STATE]) == 2


def test_a_penalty_is_part_of_the_training_loss_only() -> None:
    x, label = np.ones((4, 5), np.float32), np.array([0, 1, 2, 1], np.uint8)
    # Only W: the biases start at 0.
    plain = program(text(), ("rate", "0.0"))
    found = program(text(penalty='l2(0.1, on = "*.W")'), ("rate", "0.0"))
    data = {"x": x, "label": label}
    squares = sum(float((run_graph(s.initializer, {})["value"] ** 2).sum()) for s in found.parameters)
    without = run_program(plain, data, batch=4)["loss"]
    assert run_program(found, data, batch=4)["loss"] == pytest.approx(without + 0.1 * squares, rel=1e-5)
    assert run_program(found, data, batch=4, training=False)["loss"] == pytest.approx(without, rel=1e-6)
    assert setting(found, "penalty.weight").is_runtime


def test_several_penalties() -> None:
    found = program(text(penalty='[l2(0.1), l1(0.2, on = "*.b")]'))
    assert setting(found, "penalty.1.weight").value == 0.2
    assert codes(mistakes(text(penalty='l2(0.1, on = "*.w")'))) == ["E0605"]


@pytest.mark.parametrize(
    ("clip", "is_global"), [("value(0.5)", False), ("norm(1.0)", False), ("global_norm(2.0)", True)]
)
def test_clips(clip: str, is_global: bool) -> None:
    found = program(text(clip=clip))
    assert found.plan is not None
    assert found.plan.clip is not None
    assert found.plan.clip.is_global is is_global
    graph = found.plan.clip.graph_of(TensorType(DType.F32, (3,)))
    assert inputs(graph) == ["g", "total", "clip.limit"] if is_global else ["g", "clip.limit"]


def test_a_clip_of_ones_own() -> None:
    found = program(text("fn sign(g) = where(g > 0, 1, -1)\n", clip="sign"))
    assert found.plan is not None
    assert found.plan.clip is not None
    graph = found.plan.clip.graph_of(TensorType(DType.F32, (3,)))
    np.testing.assert_array_equal(run_graph(graph, {"g": np.array([2, -3, 4], np.float32)})["g"], [1, -1, 1])


def test_forms_have_their_own_namespaces() -> None:
    assert codes(mistakes(text(clip="l2(0.1)"))) == ["E0201"]
    assert codes(mistakes(text(penalty="norm(0.1)"))) == ["E0201"]
    assert codes(mistakes(text(optimizer="cosine(T = 3)"))) == ["E0201"]
    assert codes(mistakes(text(loss="l2(0.1)(logits)"))) == ["E0201"]
    # `step` and `constant` mean two things.
    assert not mistakes(text(schedule="step(every = 3)"))


def test_none_is_no_schedule_and_the_hint_says_what_it_is_for() -> None:
    for key in ("schedule", "clip", "penalty"):
        (found,) = mistakes(text(**{key: "none"}))
        assert found.code == "E0304"
        assert f"leave it out; `{key} = none` stands in an experiment that builds on another" in found.notes[0].message


def test_settings_inside_a_key_of_the_command_line_are_its_own() -> None:
    found = program(text(), ("optimizer", "swa(start = 3)"))
    origins = {s.name: (s.value, s.origin) for s in found.settings}
    assert origins["optimizer.start"] == (3, "command line")
    assert origins["optimizer.every"] == (1, "default")


def test_the_last_word_of_a_setting_is_enough_for_a_hint() -> None:
    (found,) = mistakes(text(), ("lr", "0.1"))
    assert (found.code, found.notes[0].message) == ("E0610", "did you mean `optimizer.lr`?")
    several = '[adam(lr = 1e-2, on = "*.b"), adam(lr = 1e-3)]'
    (found,) = mistakes(text(optimizer=several), ("lr", "0.1"))
    assert found.notes[0].message == "did you mean `optimizer.0.lr` or `optimizer.1.lr`?"


def test_the_forms_of_keys_are_settings_by_their_names() -> None:
    keys = {"schedule": "cosine(T = 9)", "clip": "value(1.0)", "penalty": "[l1(0.1), l2(0.1)]"}
    found = {s.name: (s.value, s.origin) for s in program(text(optimizer="swa()", **keys)).settings}
    named = {"optimizer": "swa", "schedule": "cosine", "clip": "value", "penalty.0": "l1", "penalty.1": "l2"}
    assert {name: found[name] for name in named} == {name: (value, "train") for name, value in named.items()}
    names = [*found]
    assert names.index("optimizer") < names.index("optimizer.lr")
    given = {s.name: (s.value, s.origin) for s in program(text(), ("optimizer", "swa(start = 3)")).settings}
    assert given["optimizer"] == ("swa(start = 3)", "command line")
