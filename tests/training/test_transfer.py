"""Transfer learning: weights taken over by name, frozen layers, gradual unfreezing, rates by group."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

import dlc
from compiler import driver
from compiler.driver import Options
from compiler.errors.diagnostics import CheckpointError, UsageError
from compiler.graph.ir import Direction
from compiler.interface import Steps
from compiler.programs.kinds import TRAINING
from compiler.programs.load import complete
from compiler.programs.steps.training_step import training_step
from runtime.cli.main import main
from runtime.data.orders import epoch_order
from runtime.inference.model import runtime_settings
from runtime.runs.checkpoint import newest_checkpoint
from runtime.runs.position import Length
from runtime.runs.tensor_files import write_tensors
from runtime.train.programs import kind_at

Array: TypeAlias = np.ndarray[Any, Any]
Weights: TypeAlias = dict[str, Array]

MODEL = """
layer head(classes: int)(x) = dense(classes)(x)

model Net(classes = 3) {
    input x: f32[batch, 4]
    backbone = x |> dense(6) |> batch_norm |> relu
    output y = head(classes)(backbone)
}
"""
TRAIN = """
train Net {
    data = npz("data.npz")
    target t: u8[batch] in 0..classes
    loss = cross_entropy(y, t)
    optimizer = adam(lr = 1e-2)
    batch = 8
    epochs = 2
    KEYS
}
"""
RANDOM = np.random.default_rng(4)
DATA: dict[str, Any] = {
    "x": RANDOM.normal(size=(24, 4)).astype(np.float32),
    "t": RANDOM.integers(0, 3, 24).astype(np.uint8),
}
HEAD = {"y.head.dense.W", "y.head.dense.b"}
STATISTICS = {"backbone.batch_norm.running_mean", "backbone.batch_norm.running_var"}


def text(*keys: str) -> str:
    return MODEL + TRAIN.replace("KEYS", "\n    ".join(keys))


def replaced(program: str, changes: dict[str, str]) -> str:
    for old, new in changes.items():
        program = program.replace(old, new)
    return program


def copied(model: dlc.Model) -> Weights:
    return {name: values.copy() for name, values in model.parameters.items()}


def trained(*keys: str, **settings: Any) -> tuple[Weights, Weights]:
    """The weights before and after a training."""
    model = dlc.loads(text(*keys), **settings)
    before = copied(model)
    model.train(DATA)
    return before, copied(model)


def changed(before: Weights, after: Weights) -> set[str]:
    return {name for name in before if not np.array_equal(before[name], after[name])}


@pytest.fixture
def weights(tmp_path: Path) -> tuple[Path, Weights]:
    """A file with weights of the model, as of another training."""
    random = np.random.default_rng(9)
    values = {
        name: random.uniform(0.5, 1.5, array.shape).astype(np.float32)
        for name, array in copied(dlc.loads(text())).items()
    }
    write_tensors(tmp_path / "w.safetensors", values)
    return tmp_path / "w.safetensors", values


def model_in(folder: Path, *keys: str) -> Path:
    np.savez(folder / "data.npz", **DATA)
    file = folder / "net.dl"
    file.write_text(text(*keys))
    return file


# Freezing


def test_what_is_frozen_has_no_gradient_and_stays() -> None:
    before, after = trained('freeze = ["backbone.*"]')
    assert changed(before, after) == HEAD
    step = training_step(complete(driver.load_text(text('freeze = "backbone.*"'), "net.dl")))
    assert {output.updates for output in step.outputs if output.updates and ":" not in output.updates} == HEAD
    paths = {o.path for node in step.nodes for o in node.origins if o.direction is Direction.BACKWARD}
    assert not any(path.startswith("backbone") for path in paths)


def test_a_layer_with_frozen_statistics_uses_them_as_inference_does(weights: tuple[Path, Weights]) -> None:
    path, start = weights
    model = dlc.loads(text('freeze = "backbone.*"', f'init_from = "{path}"'))
    model.train(DATA)
    part = {name.removeprefix("backbone."): values for name, values in start.items()}
    z = DATA["x"] @ part["dense.W"] + part["dense.b"] - part["batch_norm.running_mean"]
    scale = part["batch_norm.gamma"] / np.sqrt(part["batch_norm.running_var"] + 1e-5)
    features = np.maximum(z * scale + part["batch_norm.beta"], 0)
    # The head alone, trained on what the backbone gives in inference, is trained alike.
    head = {name.removeprefix("y.head."): start[name] for name in HEAD}
    write_tensors(path, {f"y.{name}": values for name, values in head.items()})
    alone = dlc.loads(
        "model Head {\n    input x: f32[batch, 6]\n    output y = dense(3)(x)\n}\n"
        + TRAIN.replace("Net", "Head").replace("classes", "3").replace("KEYS", f'init_from = "{path}"')
    )
    alone.train({"x": features.astype(np.float32), "t": DATA["t"]})
    for name in ("dense.W", "dense.b"):
        found = model.parameters[f"y.head.{name}"]
        assert np.abs(found - head[name]).max() > 0.01
        np.testing.assert_allclose(found, alone.parameters[f"y.{name}"], atol=1e-5)


def test_statistics_move_where_only_parameters_are_frozen() -> None:
    before, after = trained('freeze = ["*.dense.W", "backbone.dense.b", "backbone.batch_norm.gamma"]')
    assert changed(before, after) == STATISTICS | {"backbone.batch_norm.beta", "y.head.dense.b"}


def test_rates_by_group() -> None:
    grouped = text().replace("adam(lr = 1e-2)", '[adam(lr = 1e-4, on = "backbone.*"), adam(lr = 1e-2)]')
    model = dlc.loads(grouped, batch=24, epochs=1)
    before = copied(model)
    model.train(DATA)
    largest = {name: float(np.abs(values - before[name]).max()) for name, values in model.parameters.items()}
    # The first step of Adam moves by the rate.
    assert largest["backbone.dense.W"] == pytest.approx(1e-4, rel=0.01)
    assert largest["y.head.dense.W"] == pytest.approx(1e-2, rel=0.01)


# Unfreezing

LATER = ('freeze = "backbone.*"', 'unfreeze = [after(2, "backbone.batch_norm.*"), after(1, "backbone.dense.*")]')


def test_each_phase_trains_what_is_not_frozen_then() -> None:
    parts = {1: HEAD, 2: HEAD | {"backbone.dense.W", "backbone.dense.b"}}
    for epochs, expected in parts.items():
        assert changed(*trained(*LATER, epochs=epochs)) == expected
    before, after = trained(*LATER, epochs=3)
    assert changed(before, after) == set(before)
    program = driver.load_text(text(*LATER), "net.dl")
    assert [str(kind_at(program, epoch)) for epoch in range(4)] == [
        "training",
        "training 1",
        "training 2",
        "training 2",
    ]


def test_a_phase_is_the_training_with_the_rest_frozen() -> None:
    """The second epoch of a training that unfreezes is an epoch with less frozen, from the weights of the first."""
    with_descent = {"adam(lr = 1e-2)": "gradient_descent(lr = 0.1)"}
    whole = dlc.loads(replaced(text(*LATER), with_descent), epochs=2)
    start = copied(whole)
    whole.train(DATA)
    first = dlc.loads(replaced(text('freeze = "backbone.*"'), with_descent), epochs=1)
    first.train(DATA)
    assert changed(start, copied(first)) == HEAD
    program = driver.load_text(replaced(text('freeze = "backbone.batch_norm.*"'), with_descent), "net.dl")
    tensors = driver.allocate(program, Options())
    for name, values in first.parameters.items():
        tensors.write(name, values)
    settings = runtime_settings(program, Length(24, 8, 6))
    driver.compile_program(program, TRAINING, Options()).run(
        Steps(tensors, DATA, epoch_order(24, 0, 1), 8, 3, 0, settings)
    )
    for name, values in whole.parameters.items():
        np.testing.assert_array_equal(tensors[name], values)


def test_what_is_unfrozen_begins_to_count_its_updates() -> None:
    before, after = trained(*LATER, epochs=2, batch=24)
    step = np.abs(after["backbone.dense.W"] - before["backbone.dense.W"]).max()
    assert step == pytest.approx(1e-2, rel=0.01)


@pytest.mark.parametrize("pieces", [(1, 3), (2, 3)])
def test_a_resumed_training_goes_on_in_its_phase(tmp_path: Path, pieces: tuple[int, int]) -> None:
    model = str(model_in(tmp_path, *LATER))
    first, last = map(str, pieces)
    assert main(["train", model, "--out", str(tmp_path / "whole"), "--epochs", last, "--json"]) == 0
    assert main(["train", model, "--out", str(tmp_path / "parts"), "--epochs", first, "--json"]) == 0
    assert main(["train", "--resume", str(tmp_path / "parts"), "--epochs", last, "--json"]) == 0
    whole, parts = (newest_checkpoint(tmp_path / run / "checkpoints").checkpoint for run in ("whole", "parts"))
    kept = {**parts.weights, **parts.optimizer}
    for name, values in {**whole.weights, **whole.optimizer}.items():
        np.testing.assert_array_equal(kept[name], values)


GROUPS = {"adam(lr = 1e-2)": '[adam(lr = 1e-5, on = "backbone.*"), adam(lr = 1e-2)]'}


@pytest.mark.parametrize(
    ("frozen", "later", "told"),
    [
        ("backbone.*", "backbone.*", [1e-2, 1e-2, 1e-2]),
        ("y.*", "y.*", [1e-5, 1e-5, 1e-5]),
        ("*", "backbone.dense.*", [None, 1e-5, 1e-5]),
    ],
)
def test_the_rate_that_is_told_is_of_one_group(
    tmp_path: Path, frozen: str, later: str, told: list[float | None], capsys: pytest.CaptureFixture[str]
) -> None:
    keys = (f'freeze = "{frozen}"', f'unfreeze = after(1, "{later}")')
    history = dlc.loads(replaced(text(*keys), GROUPS), epochs=3).train(DATA).history
    assert [epoch.rate for epoch in history] == [None if rate is None else float(np.float32(rate)) for rate in told]
    model = model_in(tmp_path, *keys)
    model.write_text(replaced(model.read_text(), GROUPS))
    assert main(["lr", str(model), "--schedule", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rates"][-1] == history[-1].rate


def test_the_reference_unfreezes_alike() -> None:
    native, reference = (dlc.loads(text(*LATER), epochs=3, target=target) for target in ("native", "reference"))
    for model in (native, reference):
        model.train(DATA)
    for name, values in native.parameters.items():
        np.testing.assert_allclose(values, reference.parameters[name], atol=1e-4)


# Weights


def test_what_is_assigned_counts_at_once(weights: tuple[Path, Weights]) -> None:
    """Also in a program that has packed its weights already."""
    plain, other = dlc.loads(text()), dlc.loads(text(f'init_from = "{weights[0]}"'))
    first = plain.predict({"x": DATA["x"]})["y"]
    expected = other.predict({"x": DATA["x"]})["y"]
    for name, values in weights[1].items():
        plain.parameters[name] = values
    assert not np.array_equal(first, expected)
    np.testing.assert_array_equal(plain.predict({"x": DATA["x"]})["y"], expected)
    assert not plain.parameters["y.head.dense.b"].flags.writeable


def test_a_training_starts_from_weights(weights: tuple[Path, Weights]) -> None:
    path, values = weights
    model = dlc.loads(text(f'init_from = "{path}"'))
    for name, array in model.parameters.items():
        np.testing.assert_array_equal(array, values[name])


def test_names_are_mapped_and_a_new_head_is_fresh(
    tmp_path: Path, weights: tuple[Path, Weights], capsys: pytest.CaptureFixture[str]
) -> None:
    path, values = weights
    theirs = {f"module.{name}".replace("y.head.dense.", "fc."): array for name, array in values.items()}
    theirs = {name.replace("batch_norm", "bn"): array for name, array in theirs.items()}
    write_tensors(path, {**theirs, "module.bn.batches": np.zeros(1, np.int64)})
    rename = 'rename = ["module.backbone.bn.* -> backbone.batch_norm.*", "module.* -> *"]'
    file = model_in(tmp_path, f'init_from = weights("{path.name}", {rename}, fresh = ["y.head.*"])')
    model = dlc.load(file, classes=5)
    for name, array in model.parameters.items():
        if name not in HEAD:
            np.testing.assert_array_equal(array, values[name])
    assert model.parameters["y.head.dense.W"].shape == (6, 5)
    run = tmp_path / "run"
    assert main(["train", str(file), "--set", "classes=5", "--out", str(run), "--json"]) == 0
    output = capsys.readouterr()
    report = json.loads(output.out.splitlines()[0])["init_from"]
    assert report["matched"]["backbone.batch_norm.gamma"] == "module.backbone.bn.gamma"
    assert len(report["matched"]) == 6
    assert report["fresh"] == sorted(HEAD)
    assert report["missing"] == report["mismatched"] == []
    assert report["unused"] == ["module.bn.batches", "module.fc.W", "module.fc.b"]
    assert json.loads((run / "init_from.json").read_text()) == report
    assert "6 of 8 tensors start from" in output.err
    assert "6 of them under another name" in output.err
    assert "fresh: `y.head.dense.W`, `y.head.dense.b`" in output.err


def test_what_does_not_fit_is_refused_unless_it_may_be_fresh(tmp_path: Path, weights: tuple[Path, Weights]) -> None:
    path, values = weights
    del values["backbone.dense.b"]
    write_tensors(path, values)
    with pytest.raises(CheckpointError) as caught:
        _ = dlc.loads(text(f'init_from = "{path}"'), classes=5).parameters
    message = str(caught.value)
    assert "missing: `backbone.dense.b`" in message
    assert "mismatched: `y.head.dense.W` is [6, 3] in the file, but [6, 5] in the model" in message
    assert "fresh" in caught.value.fix
    lenient = dlc.loads(text(f'init_from = weights("{path}", strict = false)'), classes=5)
    plain = dlc.loads(text(), classes=5)
    np.testing.assert_array_equal(lenient.parameters["backbone.dense.W"], values["backbone.dense.W"])
    np.testing.assert_array_equal(lenient.parameters["y.head.dense.W"], plain.parameters["y.head.dense.W"])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ('rename = "encoder.* -> *"', 'the rule "encoder.* -> *" of `rename` fits no tensor'),
        ('rename = "backbone.dense.* -> same"', "both become `same`"),
        ('fresh = "*"', "0 of 8 tensors start from"),
        ('rename = "* -> other.*", strict = false', "0 of 8 tensors start from"),
    ],
)
def test_rules_that_make_no_sense(weights: tuple[Path, Weights], how: str, message: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        _ = dlc.loads(text(f'init_from = weights("{weights[0]}", {how})')).parameters
    assert message in str(caught.value)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="there is no file"):
        _ = dlc.loads(text('init_from = "nowhere.safetensors"')).parameters


def test_on_the_command_line(tmp_path: Path, weights: tuple[Path, Weights], capsys: pytest.CaptureFixture[str]) -> None:
    path, values = weights
    write_tensors(path, {f"module.{name}": array for name, array in values.items()})
    train = ["train", str(model_in(tmp_path)), "--dry-run", "--json", "--init-from", str(path)]
    assert main(train) == 1
    assert "missing: `backbone.dense.W`; the file has `module.backbone.dense.W`" in capsys.readouterr().err
    assert main([*train, "--rename", "module.* -> *"]) == 0
    assert main([*train, "--rename", "module.* -> *", "--fresh", "y.*", "--set", "classes=5"]) == 0
    assert "fresh: `y.head.dense.W`" in capsys.readouterr().err
    assert main([*train, "--rename", "module.*"]) == 2
    setting = f'init_from=weights("{path}", rename = "module.* -> *")'
    assert main(["train", str(model_in(tmp_path)), "--dry-run", "--set", setting]) == 0
    assert main(["train", str(model_in(tmp_path)), "--fresh", "y.*"]) == 2
    assert "go with --init-from" in capsys.readouterr().err
