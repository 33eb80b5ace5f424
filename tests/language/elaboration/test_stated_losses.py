"""`loss NAME = value` in layers and models: where it may stand, what is added up, its weight, and what is not told."""

from __future__ import annotations

import numpy as np
import pytest
from elaboration import codes, mistakes, modules, program, run, run_graph, started

from compiler.frontend.elaborate import check
from compiler.frontend.program import Program
from compiler.graph.ir import Graph
from compiler.lints import lint
from compiler.programs.steps.training_step import prediction_graph

LAYER = """
layer gate(n: int)(x: [batch, d]) -> [batch, n] {
    p = x |> dense(n, bias = false) |> softmax
    loss balance = n * sum(mean(p, axis = 0) ^ 2)
    return p
}
"""
MODEL = """
model M(strength = 0.5) {
    input x: f32[batch, 4]
    h = x |> gate(4)
    output y = h |> gate(3)
}
"""
TRAIN = """
train M {
    target label: i32[batch] in 0..3
    loss = nll(log(y), label)
    optimizer = adam(lr = 0.1)
    batch = 4
    epochs = 1
"""
ROWS = {"x": np.linspace(-1, 1, 20).reshape(5, 4).astype(np.float32), "label": np.array([0, 1, 2, 1, 0], np.int32)}


def text(*entries: str, layer: str = LAYER, model: str = MODEL, train: str = TRAIN) -> str:
    return layer + model + train + "".join(f"    {entry}\n" for entry in entries) + "}\n"


def results(found: Program, graph: Graph | None = None) -> dict[str, float]:
    """The scalars of a step over five rows, with start values and the settings of the text."""
    graph = graph or found.inference_graph
    inputs = {spec.path: started(spec.initializer) for spec in found.parameters}
    inputs |= {s.name: np.asarray(s.value, np.float32) for s in found.settings if isinstance(s.value, float)}
    names = {entry.name for entry in graph.inputs}
    given = {name: value for name, value in {**ROWS, **inputs}.items() if name in names}
    return {name: float(value) for name, value in run_graph(graph, given, batch=5).items() if np.ndim(value) == 0}


def balances(found: Program) -> float:
    """Both balances, by NumPy."""
    total, h = 0.0, ROWS["x"].astype(np.float64)
    for spec in found.parameters:
        z = h @ started(spec.initializer).astype(np.float64)
        h = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        total += h.shape[1] * (h.mean(axis=0) ** 2).sum()
    return total


def codes_of(source: str) -> list[str]:
    return codes(mistakes(source))


def told(source: str, *overrides: tuple[str, str]) -> str:
    """The only mistake of a text, with its hint."""
    (found,) = mistakes(source, *overrides)
    return "\n".join((found.message, *(note.message for note in found.notes)))


def test_what_layers_state_is_a_part_of_the_loss_and_a_metric() -> None:
    found = program(text())
    alone = results(program(text("auxiliary = {balance: 0}")))
    for graph in (found.inference_graph, found.training_graph):
        numbers = results(found, graph)
        assert numbers["balance"] == pytest.approx(balances(found), rel=1e-6)
        assert numbers["loss"] == pytest.approx(alone["loss"] + numbers["balance"], rel=1e-6)
    assert found.plan is not None
    assert found.plan.metrics == ("balance",)


@pytest.mark.parametrize("weight", ["0.25", "-2", "strength / 2"])
def test_a_weight_weighs_the_loss_and_not_the_metric(weight: str) -> None:
    alone = results(program(text("auxiliary = {balance: 0}")))
    number = {"strength / 2": 0.25}.get(weight) or float(weight)
    if "strength" in weight:
        found = program(text("auxiliary = {balance: 0.1}"), ("auxiliary.balance", "0.25"))
    else:
        found = program(text(f"auxiliary = {{balance: {weight}}}"))
    numbers = results(found)
    assert numbers["balance"] == pytest.approx(alone["balance"], rel=1e-6)
    assert numbers["loss"] == pytest.approx(alone["loss"] + number * alone["balance"], rel=1e-6)


def test_a_weight_of_0_takes_the_loss_out_of_the_gradient() -> None:
    found = program(text("auxiliary = {balance: 0}"))
    without = program(text(layer=LAYER.replace("loss balance", "_balance")))
    assert results(found)["loss"] == results(without)["loss"]
    assert [s.name for s in found.settings if s.name.startswith("auxiliary")] == ["auxiliary.balance"]


def test_weights_are_settings_of_run_time() -> None:
    found = program(text("auxiliary = {balance: 0.5}"))
    setting = next(s for s in found.settings if s.name == "auxiliary.balance")
    assert (setting.value, setting.origin, setting.is_runtime) == (0.5, "train", True)
    default = next(s for s in program(text()).settings if s.name == "auxiliary.balance")
    assert (default.value, default.origin) == (1.0, "default")


def test_a_weight_may_be_made_of_settings_of_the_model() -> None:
    alone = results(program(text("auxiliary = {balance: 0}")))
    found = program(text("auxiliary = {balance: strength}"), ("strength", "0.125"))
    assert results(found)["loss"] == pytest.approx(alone["loss"] + 0.125 * alone["balance"], rel=1e-6)


def test_rounds_of_a_loop_and_the_model_add_to_one_loss() -> None:
    model = """
model M {
    input x: f32[batch, 4]
    for i in 0..3 { loss size = mean(x) + i }
    loss offset = mean(x) * 0 + 1
    output y = x |> dense(3) |> softmax
}
"""
    numbers = results(program(text("auxiliary = {size: 0, offset: 0}", model=model)))
    assert numbers["size"] == pytest.approx(3 * ROWS["x"].mean() + 3, rel=1e-6)
    assert numbers["offset"] == 1
    assert "balance" not in numbers


def test_a_prediction_and_a_model_without_train_have_no_losses() -> None:
    stated = prediction_graph(program(text()))
    without = prediction_graph(program(text(layer=LAYER.replace("loss balance", "_balance"))))
    assert [type(node.op) for node in stated.nodes] == [type(node.op) for node in without.nodes]
    assert [o.name for o in program(LAYER + MODEL).inference_graph.outputs] == ["y"]


def test_a_layer_that_is_applied_as_a_function_has_no_losses() -> None:
    layer = "layer f(x: [batch, d]) {\n    loss size = mean(x ^ 2)\n    return x + size\n}\n"
    assert run(layer, np.array([[1.0, 3.0]])).tolist() == [[6.0, 8.0]]


def test_a_tensor_may_be_called_loss() -> None:
    lines = ("loss = x * 2", "loss = loss + 1", "loss loss_ = mean(loss)", "return loss")
    layer = "".join(("layer f(x: [batch, d]) {\n", *(f"    {line}\n" for line in lines), "}\n"))
    assert run(layer, np.array([[1.0, 3.0]])).tolist() == [[3.0, 7.0]]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("mean(p, axis = 1)", "must be a scalar, but has the type f32[batch]"),
        ("sum(argmax(p, axis = 1))", "must be a float, but has the type i32[]"),
        ("3", "must be a scalar tensor, not the number 3"),
        ("none", "must be a scalar tensor, not `none`"),
        ("accuracy(p, argmax(p, axis = 1))", "a large value of this is good"),
    ],
)
def test_a_loss_is_a_scalar_of_floats_that_is_to_be_small(value: str, words: str) -> None:
    layer = LAYER.replace("n * sum(mean(p, axis = 0) ^ 2)", value)
    assert codes_of(text(layer=layer)) == ["E0604"]
    found = told(text(layer=layer))
    assert words in found
    if value.startswith("mean"):
        assert "`mean(…)` or `sum(…)` reduces it to one number" in found


SCANNED = """
layer gate(n: int)(x: [batch, d]) -> [batch, n] {
    p = x |> dense(n, bias = false)
    s = scan i in 0..3 over 1 carry h = p {
        LINE
        h = h + 1
        emit h
    }
    return p
}
"""


def test_a_loss_stands_in_no_scan_and_in_no_layer_that_a_scan_applies() -> None:
    assert "`loss` stands in the body of a `scan`" in told(
        text(layer=SCANNED.replace("LINE", "loss balance = mean(h)"))
    )
    inner = "layer own(x: [batch, d]) {\n    loss balance = mean(x)\n    return x\n}\n"
    source = text(layer=inner + SCANNED.replace("LINE", "h = h |> own"))
    assert set(codes_of(source)) == {"E0205"}
    assert "each step has a value of its own" in told(source)
    assert "loss name = mean(values)" in told(source)


def test_a_loss_stands_where_gradients_reach_it() -> None:
    layer = """
layer gate(n: int)(x: [batch, d]) -> [batch, d] {
    loss balance = mean(x)
    return x
} gradient(x, y, dy) = dy
"""
    assert "a `gradient` clause says the derivative" in told(text(layer=layer))


@pytest.mark.parametrize("keyword", ["fn", "init", "schedule", "optimizer", "test"])
def test_a_loss_stands_in_layers_and_models_only(keyword: str) -> None:
    head = {"fn": "fn f(x)", "init": "init f(fan_in, fan_out, shape)", "test": "test f"}.get(keyword)
    head = head or {"schedule": "schedule f(lr, t)", "optimizer": "optimizer f(p, g, t)"}[keyword]
    last = {"fn": "return x", "init": "return 1", "schedule": "return lr", "optimizer": "p - g", "test": "true"}[
        keyword
    ]
    source = f"{head} {{\n    loss a = 1\n    {last}\n}}\n"
    assert "`loss` stands in a `layer` or `model`" in told(source)


def test_a_loss_exists_in_training_and_in_inference() -> None:
    layer = LAYER.replace("    loss balance", "    if training { loss balance").replace("^ 2)", "^ 2) }")
    assert codes_of(text(layer=layer)) == ["E0504"]


def test_a_loss_that_a_setting_leaves_to_training_is_told() -> None:
    layer = LAYER.replace("gate(n: int)", "gate(n: int, has = false)").replace("    loss", "    if has { loss")
    source = text(layer=layer.replace("^ 2)", "^ 2) }"), model=MODEL.replace("gate(3)", "gate(3, has = training)"))
    assert codes_of(source) == ["E0504"]
    assert "`balance` would exist in training only" in told(source)


@pytest.mark.parametrize(
    "lines",
    [
        "loss balance = mean(p)\n    loss balance = sum(p)",
        "if n > 2 { loss balance = mean(p) }\n    loss balance = sum(p)",
    ],
)
def test_a_body_states_a_name_once(lines: str) -> None:
    layer = LAYER.replace("loss balance = n * sum(mean(p, axis = 0) ^ 2)", lines)
    assert "the layer `gate` states a loss `balance` already" in told(text(layer=layer))
    branches = "if n > 3 { loss balance = mean(p) } else { loss balance = sum(p) }"
    assert codes_of(text(layer=LAYER.replace("loss balance = n * sum(mean(p, axis = 0) ^ 2)", branches))) == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("y", "the model has an output `y` already"),
        ("epoch", "a field of that name"),
        ("val_loss", "a field of that name"),
    ],
)
def test_the_name_of_a_loss_means_nothing_else(name: str, words: str) -> None:
    assert words in told(text(layer=LAYER.replace("loss balance", f"loss {name}")))


def test_a_setting_keeps_its_value() -> None:
    found = mistakes(text(layer=LAYER.replace("loss balance", "loss n")))
    assert found[0].message == "the setting `n` cannot be the name of a loss"


@pytest.mark.parametrize(
    ("entry", "code", "words"),
    [
        ("auxiliary = {balanc: 1}", "E0618", "did you mean `balance`?"),
        ("auxiliary = {zzz: 1}", "E0618", "there are balance"),
        ("auxiliary = {balance: 1, balance: 2}", "E0603", "given twice"),
        ("auxiliary = 0.1", "E0603", "write `auxiliary = {name: 0.01}`"),
        ("auxiliary = {balance: y}", "E0603", "is a finite number, not"),
        ("auxiliary = {balance: inf}", "E0603", "is a finite number, not"),
        ("auxiliary = {balance: none}", "E0603", "is a finite number, not `none`"),
        ("auxiliary = {balance: zzz}", "E0201", "there is no `zzz` here"),
        ("metrics = [balance]", "E0201", "shown beside it by itself"),
        ("seed = {balance: 1}", "E0603", "only `auxiliary` takes values by name"),
    ],
)
def test_mistakes_in_train_are_told(entry: str, code: str, words: str) -> None:
    assert codes_of(text(entry)) == [code]
    assert words in told(text(entry))


def test_weights_of_a_model_without_losses_are_told() -> None:
    source = text("auxiliary = {balance: 1}", layer=LAYER.replace("loss balance", "_balance"))
    assert "`loss name = …` in a layer or model states one" in told(source)


def test_weights_of_the_command_line() -> None:
    with_key, without = text("auxiliary = {balance: 0.5}"), text()
    for source in (with_key, without):
        found = program(source, ("auxiliary.balance", "0.25"))
        setting = next(s for s in found.settings if s.name == "auxiliary.balance")
        assert (setting.value, setting.origin) == (0.25, "command line")
    assert "did you mean `auxiliary.balance`?" in told(without, ("auxiliary.balanc", "1"))
    assert "is a finite number, not" in told(without, ("auxiliary.balance", "none"))


def test_a_metric_of_the_name_of_a_loss_is_numbered() -> None:
    balance = "fn balance(y: [batch, n]) = mean(y)\n"
    found = program(text("metrics = [balance(y)]", layer=balance + LAYER))
    assert found.plan is not None
    assert found.plan.metrics == ("balance_2", "balance")


def test_epochs_may_be_compared_by_a_loss() -> None:
    found = program(text("best = balance"))
    assert found.plan is not None
    assert (found.plan.best, found.plan.directions["balance"]) == ("balance", False)


def test_accumulated_batches_refuse_a_product_of_means_and_take_a_mean() -> None:
    found = told(text("accumulate = 2"))
    assert "`accumulate` cannot add up gradients of `balance`" in found
    layer = LAYER.replace("n * sum(mean(p, axis = 0) ^ 2)", "mean(p ^ 2)")
    assert codes_of(text("accumulate = 2", layer=layer)) == []
    layer = LAYER.replace("n * sum(mean(p, axis = 0) ^ 2)", "max(p)")
    assert "cannot put `balance` together" in told(text("accumulate = 2", "auxiliary = {balance: 0}", layer=layer))


def test_parameters_that_only_a_loss_reaches_are_reached() -> None:
    layer = """
layer gate(n: int)(x: [batch, d]) -> [batch, d] {
    loss size = mean((x |> dense(n)) ^ 2)
    return x
}
"""
    model = MODEL.replace("(strength = 0.5)", "").replace("gate(3)", "gate(3) |> dense(3) |> softmax")

    def warnings(*entries: str) -> list[str]:
        source = text(*entries, layer=layer, model=model)
        return [found.code for found in check(modules(source), lint=lint) if found.severity == "warning"]

    assert "W0107" not in warnings()
    assert "W0107" in warnings("auxiliary = {size: 0}")
