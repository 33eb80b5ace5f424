"""`train`: keys, losses, metrics, penalties, optimizers, schedules and clips."""

from __future__ import annotations

import numpy as np
import pytest
from elaboration import codes, mistakes, program, run_graph, run_program
from train_texts import MODEL, REQUIRED, inputs, setting, text

from compiler.errors.diagnostics import UsageError
from compiler.frontend.update_rules import EarlyStop, Plateau
from compiler.graph.ir import Role
from compiler.types import DType, TensorType


def test_a_program_has_two_graphs_and_a_plan() -> None:
    found = program(text(metrics="[accuracy(logits, label)]", epochs="3", seed="7"))
    assert (found.name, found.model, found.outputs) == ("M", "M", ("logits",))
    names = [output.name for output in found.training_graph.outputs]
    assert names == ["logits", "loss", "accuracy"] == [output.name for output in found.inference_graph.outputs]
    assert found.plan is not None
    assert (found.plan.batch, found.plan.epochs, found.plan.steps, found.plan.seed) == (8, 3, None, 7)
    assert found.plan.metrics == ("accuracy",)
    label = found.inputs[1]
    assert (label.name, label.is_target, label.low, label.high, label.dimension_names) == (
        "label",
        True,
        0,
        3,
        ("batch",),
    )
    assert "seed" in inputs(found.training_graph)
    assert "seed" not in inputs(found.inference_graph)


def test_a_model_without_train() -> None:
    found = program(MODEL)
    assert found.plan is None
    assert [output.name for output in found.training_graph.outputs] == ["logits"]


def test_a_metric_that_is_called_like_a_key_of_records_is_numbered() -> None:
    own = "".join(f"fn {name}(x) = mean(x)\n" for name in ("rate", "step", "val_loss", "val_rate", "rows", "val_other"))
    metrics = "[rate(logits), step(logits), val_loss(logits), val_rate(logits), rows(logits), val_other(logits)]"
    found = program(own + text(metrics=metrics))
    assert found.plan is not None
    assert found.plan.metrics == ("rate_2", "step_2", "val_loss_2", "val_rate_2", "rows_2", "val_other")


def test_loss_and_metrics_are_scalars() -> None:
    x, label = np.ones((4, 5), np.float32), np.array([0, 1, 2, 1], np.uint8)
    found = program(text(metrics="[accuracy(logits, label), accuracy(logits, label), mean(logits)]"))
    results = run_program(found, {"x": x, "label": label}, batch=4, training=False)
    assert set(results) == {"logits", "loss", "accuracy", "accuracy_2", "mean"}
    assert results["loss"].dtype == np.float32
    assert codes(mistakes(text(loss="logits"))) == ["E0604"]
    assert codes(mistakes(text(loss="3"))) == ["E0604"]
    assert codes(mistakes(text(metrics="[logits]"))) == ["E0611"]


# Optimizers


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


# Penalties and clips


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


# Keys


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("data", 'images("a", chanels = 1)', "E0301"),
        ("data", 'npz("a", header = true)', "E0301"),
        ("validation", 'csv("a", sep = ";")', "E0301"),
        ("batch", "0", "E0603"),
        ("batch", "2.5", "E0603"),
        ("epochs", '"many"', "E0603"),
        ("validation", "1.5", "E0603"),
        ("validation", '"no"', "E0603"),
        ("early_stop", "5", "E0603"),
        ("init_from", "3", "E0603"),
        ("init_from", "weights()", "E0302"),
        ("init_from", "weights(nothing)", "E0201"),
        ("init_from", 'weights("w", renames = "a -> b")', "E0301"),
        ("init_from", 'weights("w", rename = "a")', "E0603"),
        ("init_from", 'weights("w", rename = ["a.* -> *.*"])', "E0603"),
        ("init_from", 'weights("w", fresh = 3)', "E0603"),
        ("init_from", 'weights("w", fresh = "heads.*")', "E0605"),
        ("init_from", 'weights("w", strict = 1)', "E0603"),
        ("unfreeze", 'after(3, "*")', "E0603"),
        ("data", 'xlsx("x")', "E0201"),
        ("data", "csv()", "E0302"),
        ("early_stop", "patience()", "E0603"),
        ("early_stop", "patience(0)", "E0603"),
        ("early_stop", "patience(5, min_chang = 0.1)", "E0603"),
        ("early_stop", "patience(5, epochs = 5)", "E0603"),
        ("early_stop", "patience(5, restore = 1)", "E0603"),
        ("plateau", "reduce(factor = 2.0)", "E0603"),
        ("plateau", "patience(2)", "E0603"),
        ("accumulate", "0", "E0603"),
        ("ema", "1.0", "E0603"),
        ("ema", '"0.9"', "E0603"),
        ("precision", "f16", "E0603"),
        ("learning_rate", "0.1", "E0601"),
        ("metric", "mean(logits)", "E0601"),
    ],
)
def test_keys_are_checked(key: str, value: str, code: str) -> None:
    assert codes(mistakes(text(**{key: value}))) == [code]


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ('after(0, "*")', "E0603"),
        ('after(1.5, "*")', "E0603"),
        ("after(1)", "E0603"),
        ('"*"', "E0603"),
        ('after(1, "*.V")', "E0605"),
        ('[after(1, "*.W"), after(2, "logits.dense.c")]', "E0605"),
    ],
)
def test_unfreeze_says_after_how_many_epochs_what(value: str, code: str) -> None:
    assert codes(mistakes(text(freeze='"logits.dense.*"', unfreeze=value))) == [code]


def test_what_unfreezes_later_needs_an_optimizer_now() -> None:
    keys = {"freeze": '"logits.dense.b"', "unfreeze": 'after(2, "*")'}
    assert codes(mistakes(text(optimizer='[adam(on = "*.W")]', **keys))) == ["E0606"]
    assert mistakes(text(optimizer='[adam(on = "*.W"), adam(on = "*.b")]', **keys)) == []
    assert codes(mistakes(text(optimizer='[adam(on = "*.W"), adam(on = "*.b")]', freeze='"*.b"'))) == ["E0605"]


@pytest.mark.parametrize(
    ("block", "code"),
    [
        ("x = x[:, 0:2]", "E0613"),
        ("label = mean(cast(label, f32))", "E0613"),
        ("x = logits", "E0201"),
        ("return x", "E0205"),
        ("param W: [4] = zeros", "E0205"),
        ("x = gather(x, label, axis = 0)", "E0409"),
        ("x = x + cast(gather(x, x), f32)", "E0409"),
        ("x = width * x + unknown", "E0201"),
    ],
)
def test_mistakes_in_augment(block: str, code: str) -> None:
    changed = text().replace("train M {", f"train M {{\n    augment {{ {block} }}")
    assert code in codes(mistakes(changed))


@pytest.mark.parametrize("key", REQUIRED)
def test_required_keys(key: str) -> None:
    (found,) = mistakes(text(**{key: ""}))
    assert found.code == "E0602"
    assert f"`{key}`" in found.message


def test_keys_of_the_run() -> None:
    found = program(
        text(
            data='csv("d.csv", header = true, names = ["a", "b"])',
            validation="0.2",
            test='npz("t.npz")',
            early_stop="patience(5, min_change = 1e-3, restore = false)",
            plateau="reduce(0.5, patience = 3)",
            keep="2",
            init_from='"w.safetensors"',
        )
    )
    plan = found.plan
    assert plan is not None
    assert plan.data is not None
    assert plan.data.options == (("header", True), ("names", ("a", "b")))
    assert plan.init_from is not None
    assert (plan.validation, plan.keep, plan.init_from.path) == (0.2, 2, "w.safetensors")
    assert plan.early_stop == EarlyStop(5, 1e-3, False)
    assert plan.plateau == Plateau(0.5, 3, 0.0, 0.0)
    assert setting(found, "early_stop").value == 5
    assert setting(found, "early_stop.min_change").value == 1e-3
    assert (setting(found, "plateau").value, setting(found, "plateau.patience").value) == (0.5, 3)
    assert getattr(plan.test, "format", None) == "npz"


def test_the_command_line_changes_single_settings_of_stopping() -> None:
    lines = text(early_stop="patience(5, min_change = 1e-3)", plateau="reduce(0.5, patience = 3)", validation="0.1")
    found = program(lines, ("early_stop.restore", "false"), ("early_stop", "9"), ("plateau.patience", "4"))
    assert found.plan is not None
    assert (found.plan.early_stop, found.plan.plateau) == (EarlyStop(9, 1e-3, False), Plateau(0.5, 4, 0.0, 0.0))
    names = ("early_stop", "early_stop.min_change", "plateau", "plateau.patience", "plateau.floor")
    origins = [setting(found, name).origin for name in names]
    assert origins == ["command line", "train", "train", "command line", "default"]
    whole = program(lines, ("plateau", "reduce(0.2)"), ("early_stop.epochs", "2")).plan
    assert whole is not None
    assert (whole.early_stop, whole.plateau) == (EarlyStop(2, 1e-3, True), Plateau(0.2, 10, 0.0, 0.0))
    assert codes(mistakes(lines, ("plateau", "2"))) == ["E0603"]
    assert codes(mistakes(text(), ("early_stop.restore", "false"))) == ["E0610"]


def test_epochs_and_steps_exclude_each_other() -> None:
    assert codes(mistakes(text(epochs="1", steps="2"))) == ["E0608"]


def test_a_setting_of_the_model_is_no_key() -> None:
    assert codes(mistakes(text().replace("hidden", "steps"))) == ["E0607"]


def test_train_sees_no_intermediate_values() -> None:
    hidden = "model M {\n input x: f32[batch, 3]\n h = dense(2)(x)\n output y = h\n}\n"
    train = "train M {\n loss = mean(h)\n optimizer = adam()\n batch = 2\n}"
    (found,) = mistakes(hidden + train)
    assert (found.code, found.span.line) == ("E0201", 7)


def test_batch_is_the_nominal_size_in_train() -> None:
    found = program(text(loss="mean(logits) * batch", batch="32"))
    x, label = np.ones((2, 5), np.float32), np.zeros(2, np.uint8)
    results = run_program(found, {"x": x, "label": label}, batch=2, training=False)
    assert results["loss"] == pytest.approx(results["logits"].mean() * 32, rel=1e-5)


def test_one_of_several_experiments_is_named() -> None:
    both = text(head="train first: M") + text(head="train second: M", batch="3").replace(MODEL, "")
    assert program(both, experiment="second").plan.batch == 3  # type: ignore[union-attr]
    with pytest.raises(UsageError, match="2 experiments"):
        program(both)
    with pytest.raises(UsageError, match="frist") as caught:
        program(both, experiment="frist")
    assert "first" in caught.value.fix


def test_the_name_of_a_model_means_its_train_without_a_name() -> None:
    both = text(head="train M") + text(head="train Other: M", batch="3").replace(MODEL, "")
    for order in (
        both,
        MODEL
        + text(head="train Other: M", batch="3").replace(MODEL, "")
        + both.split("train Other")[0].replace(MODEL, ""),
    ):
        found = {name: program(order, experiment=name) for name in ("M", "Other")}
        assert [(p.name, p.plan.batch) for p in found.values() if p.plan] == [("M", 8), ("Other", 3)]
    with pytest.raises(UsageError) as caught:
        program(both)
    assert caught.value.fix == "name one with --experiment: M, Other"
    only = text(head="train First: M")
    assert program(only, experiment="M").name == "First"


def test_two_experiments_of_one_name_are_told() -> None:
    for head in ("train M", "train Same: M"):
        (found,) = mistakes(text(head=head) + text(head=head, batch="3").replace(MODEL, ""))
        assert (found.code, found.message.startswith("the experiment `")) == ("E0202", True)
        assert [note.span.line for note in found.notes if note.span is not None] < [found.span.line]
    assert not mistakes(text(head="train M") + text(head="train Same: M").replace(MODEL, ""))


def test_an_experiment_that_means_to_build_on_one_without_a_name_is_advised() -> None:
    found = mistakes(text(head="train M") + "train Other: M { batch = 3 }\n")
    said = [note.message for item in found for note in item.notes]
    assert any("give that a name, `train First: M`, and write `train Other: First`" in line for line in said)


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


def test_integers_for_floats_of_an_own_function_may_be_meant() -> None:
    own = "fn of_both(x: [batch, n], label: [batch]) = mean(x) + 0 * sum(label)\n"
    (found,) = mistakes(own + text(loss="of_both(logits, label)"))
    assert [note.message for note in found.notes][-1] == "where integers are meant, declare `label: any[…]`"
    (found,) = mistakes(text(loss="mse(label, logits[:, 0])"))
    assert not any("any[" in note.message for note in found.notes)


def test_the_forms_of_keys_are_settings_by_their_names() -> None:
    keys = {"schedule": "cosine(T = 9)", "clip": "value(1.0)", "penalty": "[l1(0.1), l2(0.1)]"}
    found = {s.name: (s.value, s.origin) for s in program(text(optimizer="swa()", **keys)).settings}
    named = {"optimizer": "swa", "schedule": "cosine", "clip": "value", "penalty.0": "l1", "penalty.1": "l2"}
    assert {name: found[name] for name in named} == {name: (value, "train") for name, value in named.items()}
    names = [*found]
    assert names.index("optimizer") < names.index("optimizer.lr")
    given = {s.name: (s.value, s.origin) for s in program(text(), ("optimizer", "swa(start = 3)")).settings}
    assert given["optimizer"] == ("swa(start = 3)", "command line")


def test_all_independent_mistakes_are_told() -> None:
    found = mistakes(
        text(loss="cros_entropy(logits, label)", optimizer="adam(l = 1)", metrics="[mean(logits, axis = 5)]")
    )
    assert sorted(codes(found)) == ["E0201", "E0301", "E0406"]


def test_the_batch_as_an_axis_is_a_dimension_in_train_too() -> None:
    found = program(text(loss="sum(mean(logits, axis = batch)) + 0 * sum(reshape(logits, batch, -1))"))
    x, label = np.ones((2, 5), np.float32), np.zeros(2, np.uint8)
    results = run_program(found, {"x": x, "label": label}, batch=2, training=False)
    assert results["loss"] == pytest.approx(results["logits"].mean(0).sum(), rel=1e-5)


def test_missing_keys_are_told_together() -> None:
    (found,) = mistakes(text(loss="", batch=""))
    assert "`loss` and `batch`" in found.message


@pytest.mark.parametrize("time", ["4", "time"])
@pytest.mark.parametrize("reduction", ["mean", "max"])
def test_a_mask_stands_before_further_axes_with_or_without_names(time: str, reduction: str) -> None:
    found = program(
        f"model M(units = 3) {{\n    input tokens: i32[batch, {time}] in 0..9 padded by mask\n"
        f"    output words = tokens |> embedding(9, units)\n"
        f"    output y = {reduction}(words, axis = 1, where = mask)\n}}",
        *((("time", "4"),) if time == "time" else ()),
    )
    assert [(spec.name, spec.mask_of) for spec in found.inputs] == [("tokens", None), ("mask", "tokens")]
    mask = np.array([[True, True, False, False], [True] * 4])
    outputs = run_program(found, {"tokens": [[3, 1, 0, 0], [2, 2, 5, 8]], "mask": mask}, 2)
    words = outputs["words"]
    for row, length in enumerate((2, 4)):
        np.testing.assert_allclose(outputs["y"][row], getattr(words[row, :length], reduction)(axis=0), rtol=1e-6)


def test_the_end_of_a_range_is_a_dimension_of_the_data() -> None:
    text = "model M {\n    input tokens: i32[batch, 4] in 0..vocab\n    output y = tokens |> embedding(vocab, 2)\n}"
    (shown,) = mistakes(text, elaborates=True)
    assert (shown.code, shown.span.line) == ("E0415", 2)
    assert "`vocab`" in shown.message
    found = program(text, ("vocab", "7"))
    assert (found.inputs[0].high, found.inputs[0].range_name) == (7, "vocab")
    assert found.parameters[0].type.shape == (7, 2)


LOCAL = """model M {
    input x: f32[batch, 4]
    output y = x |> dense(1, bias = false)
}

train M {
    target t: f32[batch, 1]
    error = y - t
    squares = sum(error ^ 2)
    per_row = squares / batch
    metrics = [minimise(per_row), spread(error), offset]
    offset = mean(error)
    loss = per_row + offset
    optimizer = adam()
    batch = 2
}

fn spread(error) = sqrt(variance(error))
"""


def test_train_names_values_for_loss_and_metrics() -> None:
    found = program(LOCAL)
    x, t = np.ones((5, 4), np.float32), np.arange(5, dtype=np.float32)[:, None]
    given = {"x": x, "t": t, "y.dense.W": np.full((4, 1), 0.5, np.float32)}
    results = run_program(found, given, batch=5, training=False)
    error = 2.0 - t
    assert found.plan is not None
    assert found.plan.metrics == ("per_row", "spread", "offset")
    np.testing.assert_allclose(results["per_row"], (error**2).mean(), rtol=1e-6)  # of the rows that are measured
    np.testing.assert_allclose(results["spread"], error.std(), rtol=1e-6)
    np.testing.assert_allclose(results["loss"], (error**2).sum() / 2 + error.mean(), rtol=1e-6)  # of the nominal batch


@pytest.mark.parametrize(
    ("line", "replacement", "found"),
    [
        ("    loss = per_row + offset", "    losss = per_row + offset", ["E0601"]),
        ("    loss = per_row + offset", "    loss = offset\n    unread = offset", ["E0601"]),
        ("    error = y - t", "    error = y - t\n    error = y", ["E0601"]),
        ("    squares = sum(error ^ 2)", "    squares = per_row", ["E0201"]),
        ("    error = y - t", "    y = y - t\n    error = y", ["E0202"]),
        ("    per_row = squares / batch", "    per_row = mean(abs(error - mean(error))) + squares", ["E0616"]),
    ],
)
def test_mistakes_in_values_of_train(line: str, replacement: str, found: list[str]) -> None:
    assert codes(mistakes(LOCAL.replace(line, replacement))) == found


def test_a_value_that_a_misspelt_key_reads_is_no_unknown_key() -> None:
    text = LOCAL.replace("    metrics =", "    metric =").replace("    loss =", "    los =")
    assert [found.message for found in mistakes(text)] == ["`train` has no key `metric`", "`train` has no key `los`"]
    unread = LOCAL.replace("offset]", "spread(y)]").replace("+ offset", "")
    (found,) = mistakes(unread)
    assert found.message == "`train` has no key `offset`"
    assert "other names are values that `loss` or `metrics` read" in found.notes[0].message
    circular = LOCAL.replace("    loss = per_row + offset", "    loss = mean(y)\n    a = b\n    b = a")
    assert codes(mistakes(circular)) == ["E0601", "E0601"]
