"""`train`: its keys, losses, metrics and experiments."""

from __future__ import annotations

import numpy as np
import pytest
from elaboration import codes, mistakes, program, run_program
from train_texts import MODEL, REQUIRED, inputs, setting, text

from compiler.errors.diagnostics import UsageError
from compiler.frontend.update_rules import EarlyStop, Plateau


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


def test_integers_for_floats_of_an_own_function_may_be_meant() -> None:
    own = "fn of_both(x: [batch, n], label: [batch]) = mean(x) + 0 * sum(label)\n"
    (found,) = mistakes(own + text(loss="of_both(logits, label)"))
    assert [note.message for note in found.notes][-1] == "where integers are meant, declare `label: any[…]`"
    (found,) = mistakes(text(loss="mse(label, logits[:, 0])"))
    assert not any("any[" in note.message for note in found.notes)


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
