"""`dlc export --to onnx`: what ONNX Runtime computes is close to what the command line does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")

import onnx
from exported_models import trained_model
from onnx_models import CLOSE, difference, outputs_of, run, session_of
from safetensors.numpy import load_file

from compiler import driver
from compiler.driver import PREDICTION, TRAINING, Steps
from compiler.errors.diagnostics import UsageError
from runtime.cli.main import main
from runtime.data.part import Part, at_epoch, in_precision, numbered
from runtime.exports.onnx_file import onnx_file
from runtime.inference.model import length_of, runtime_settings, training_of
from runtime.runs.tensor_files import replace_tensors
from runtime.runs.trained import Trained
from runtime.train.jobs import fresh_tensors

Array: TypeAlias = np.ndarray[Any, Any]
ROWS, STEPS = 7, 5
MODEL = """
model Small(width = 24, share = 0.1) {
    input x: f32[batch, 10]
    input double: i32[batch] in 0..3
    hidden = x |> dense(width, bias = false) |> batch_norm |> relu |> dropout(0.3)
    output scores = (hidden |> dense(3)) + (double |> embedding(3, 3)) + share * random(3)
    output size = sqrt(sum(x * x, axis = 1))
    output largest = argmax(scores, axis = 1)
}

train Small {
    target label: i32[batch] in 0..3
    target amount: f32[batch]
    loss = cross_entropy(scores, label)
    metrics = [accuracy(scores, label), r2(size, amount)]
    optimizer = adam(lr = 0.01)
    schedule = cosine(T = total_steps)
    epochs = 3
    batch = 16
    seed = 5
}
"""
IMAGES = """
model Images(classes = 4) {
    input image: u8[batch, 9, 9]
    x = reshape(cast(image, f32) / 255.0, [batch, 1, 9, 9])
    x = x |> conv2d(6, 3, padding = 1, bias = false) |> batch_norm |> relu |> max_pool(3, stride = 2)
    x = x |> conv2d(8, 3) |> tanh
    output logits = reshape(x, [batch, 32]) |> dropout(0.2) |> dense(classes)
}

train Images {
    target label: i32[batch] in 0..4
    loss = cross_entropy(logits, label)
    optimizer = momentum(lr = 0.1)
    clip = global_norm(1.0)
    epochs = 1
    batch = 8
}
"""
WORDS = """
model Words(vocab = 11, units = 5) {
    input tokens: i32[batch, 6] in 0..vocab
    h = tokens |> embedding(vocab, 4) |> dropout(0.25)
    output logits = max(h |> bidirectional(lstm(units)), axis = 1) |> dense(3)
}

train Words {
    target label: i32[batch] in 0..3
    loss = cross_entropy(logits, label)
    optimizer = adamw(lr = 0.01)
    epochs = 1
    batch = 8
}
"""
TEXTS = {"small": MODEL, "images": IMAGES, "words": WORDS}


def rows_for(trained: Trained, rows: int = ROWS) -> dict[str, Array]:
    random, given = np.random.default_rng(3), dict[str, Array]()
    for spec in trained.program.inputs:
        shape = (rows, *(extent for extent in spec.type.shape[1:] if isinstance(extent, int)))
        drawn = random.standard_normal(shape) if spec.type.dtype.is_float else random.integers(0, 3, shape)
        given[spec.name] = drawn.astype({"f32": "f4", "i32": "i4", "u8": "u1"}[spec.type.dtype.value])
    part = in_precision(Part(given, np.arange(rows)), trained.options.dtype)
    return dict(at_epoch(numbered(trained.program, part).arrays, 0))


@pytest.mark.parametrize("opset", [17, 21])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("name", TEXTS)
def test_predictions(name: str, rows: int, opset: int, tmp_path: Path) -> None:
    trained = trained_model(TEXTS[name], ROWS)
    data = rows_for(trained, rows)
    executable = driver.compile_program(trained.program, PREDICTION, trained.options)
    settings = runtime_settings(trained.program)
    expected = executable.run(Steps(trained.tensors, data, np.arange(rows), rows, settings=settings)).arrays
    found = outputs_of(onnx_file(trained, False, opset)[0], data)
    assert {*found} == {*trained.program.outputs}
    assert max(difference(found[output], array) for output, array in expected.items()) <= CLOSE


def stepped(content: bytes, tensors: Mapping[str, Array], data: Mapping[str, Array]) -> dict[str, Array]:
    """The tensors after the steps, and the losses."""
    session, losses = session_of(content), list[Array]()
    state = {name: np.asarray(array) for name, array in tensors.items()}
    for number in range(STEPS):
        found = run(session, {**data, **state, "step": np.array(number, np.int64)})
        state = {name: found.get(f"{name}:new", array) for name, array in state.items()}
        losses.append(found["loss"])
    return {**state, "losses": np.array(losses)}


@pytest.mark.parametrize(("dtype", "opset", "most"), [("f32", 18, CLOSE), ("f64", 17, 1e-12), ("f64", 21, 1e-12)])
@pytest.mark.parametrize("name", TEXTS)
def test_training_steps(name: str, dtype: str, opset: int, most: float, tmp_path: Path) -> None:
    """In f64, differences of rounding are far below those of a wrong step."""
    trained = trained_model(TEXTS[name], ROWS, dtype)
    program, data = trained.program, rows_for(trained)
    content, tensors = onnx_file(trained, True, opset)
    found = stepped(content, tensors.values, data)
    reference = fresh_tensors(program, trained.options)
    step = driver.compile_program(program, TRAINING, trained.options)
    settings = runtime_settings(program, length_of(training_of(program), ROWS))
    losses = [
        step.run(Steps(reference, data, np.arange(ROWS), ROWS, number, training_of(program).seed, settings)).scalars[
            "loss"
        ]
        for number in range(STEPS)
    ]
    assert difference(found["losses"].astype(np.float64), np.concatenate(losses)) <= most
    assert all(difference(found[tensor], reference[tensor]) <= most for tensor in reference.names())
    moved = max(np.abs(found[tensor] - tensors.values[tensor]).max() for tensor in reference.names())
    assert moved > 100 * most


def test_names_dimensions_and_origin(tmp_path: Path) -> None:
    trained = trained_model(MODEL, ROWS)
    model = onnx.load_from_string(onnx_file(trained, False, 19)[0])
    shapes = {
        entry.name: [dimension.dim_param or dimension.dim_value for dimension in entry.type.tensor_type.shape.dim]
        for entry in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {
        "x": ["batch", 10],
        "double": ["batch"],
        "seed": [],
        "step": [],
        "scores": ["batch", 3],
        "size": ["batch"],
        "largest": ["batch"],
    }
    weights = {tensor.name for tensor in model.graph.initializer}
    assert weights - {"seed", "step"} == {spec.path for spec in trained.program.parameters}
    notes = {entry.key: entry.value for entry in model.metadata_props}
    assert notes["dlc.model"] == "Small"
    assert len(notes["dlc.program"]) == 64
    assert json.loads(notes["dlc.settings"])["width"] == 24
    assert [entry.version for entry in model.opset_import if not entry.domain] == [19]
    places = {node.doc_string for node in model.graph.node if node.op_type == "MatMul"}
    assert places == {"model.dl:5", "model.dl:6"}


def test_settings_of_a_step_have_usual_values_and_can_be_changed(tmp_path: Path) -> None:
    trained = trained_model(MODEL, ROWS)
    content, tensors = onnx_file(trained, True, 18)
    session = session_of(content)
    changeable = {entry.name for entry in session.get_overridable_initializers()}
    assert changeable >= {"seed", "optimizer.lr"}
    given = {**rows_for(trained), **tensors.values, "step": np.array(0, np.int64)}
    usual, weight = run(session, given), "scores.dense.W:new"
    same = run(session, {**given, "optimizer.lr": np.array(0.01)})
    assert same[weight].tobytes() == usual[weight].tobytes()
    still = run(session, {**given, "optimizer.lr": np.array(0.0)})
    assert still[weight].tobytes() == tensors.values["scores.dense.W"].tobytes()
    other = run(session, {**given, "seed": np.array(6, np.int64)})
    assert other["loss"] != usual["loss"]


def test_the_command_writes_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.dl").write_text(IMAGES)
    trained = trained_model(IMAGES, ROWS)
    weights = tmp_path / "weights.safetensors"
    replace_tensors(weights, {spec.path: trained.tensors[spec.path] for spec in trained.program.parameters})
    command = ["export", str(tmp_path / "model.dl"), "--weights", str(weights), "--to", "onnx"]
    assert main([*command, "-o", str(tmp_path / "out")]) == 0
    assert "opset 17" in capsys.readouterr().err
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["model.onnx"]
    data = rows_for(trained, 3)
    np.savez(tmp_path / "in.npz", image=data["image"])
    predict = ["predict", str(tmp_path / "model.dl"), "--weights", str(weights), "--input", str(tmp_path / "in.npz")]
    assert main([*predict, "--output", str(tmp_path / "out.npz")]) == 0
    found = outputs_of((tmp_path / "out" / "model.onnx").read_bytes(), data)
    assert difference(found["logits"], np.load(tmp_path / "out.npz")["logits"]) <= CLOSE
    assert main([*command, "--training", "--opset", "20", "-o", str(tmp_path / "step")]) == 0
    assert {file.name for file in (tmp_path / "step").iterdir()} == {"model.onnx", "weights.safetensors"}
    started = load_file(tmp_path / "step" / "weights.safetensors")
    assert {*started} == {*trained.tensors.names()}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--to", "c", "--opset", "18"], "--opset goes with --to onnx"),
        (["--to", "onnx", "--opset", "16"], "16"),
        (["--to", "onnx", "--opset", "22"], "22"),
        (["--to", "onnx", "--target", "neon"], "is the same for every processor"),
    ],
)
def test_misuse(more: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.dl").write_text(IMAGES)
    trained = trained_model(IMAGES, ROWS)
    weights = tmp_path / "weights.safetensors"
    replace_tensors(weights, {spec.path: trained.tensors[spec.path] for spec in trained.program.parameters})
    command = ["export", str(tmp_path / "model.dl"), "--weights", str(weights), "-o", str(tmp_path / "out"), *more]
    assert main(command) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_other_element_types(tmp_path: Path) -> None:
    text = """
model Mixed() {
    input x: f64[batch, 3]
    input n: i64[batch, 3]
    input flag: bool[batch, 3]
    output smooth = erf(x) * cast(n, f64)
    output whole = (n // 4) * 2 + n % 3
    output either = (flag and n > 2) or x < 0.0
    output picked = where(flag, n, 0 - n)
    output small = cast(x * 100.0, u8)
}
"""
    trained = trained_model(text, ROWS)
    random = np.random.default_rng(1)
    whole = np.array([[-(2**62), 2**62, -1], [0, 3, -7]])
    data = {"x": random.standard_normal((2, 3)), "n": whole, "flag": random.random((2, 3)) < 0.5}
    executable = driver.compile_program(trained.program, PREDICTION, trained.options)
    expected = executable.run(Steps(trained.tensors, data, np.arange(2), 2)).arrays
    found = outputs_of(onnx_file(trained, False, 17)[0], data)
    assert {*found} == {*expected}
    assert all(difference(found[name], array) <= 1e-12 for name, array in expected.items())


def test_an_input_that_is_called_as_a_number_of_the_step(tmp_path: Path) -> None:
    text = """
model Named() {
    input step: f32[batch, 3]
    input seed: f32[batch, 3]
    output y = step - 2.0 * seed
}
"""
    data = {"step": np.ones((2, 3), np.float32), "seed": np.full((2, 3), 3, np.float32)}
    found = outputs_of(onnx_file(trained_model(text, ROWS), False, 17)[0], data)
    assert np.array_equal(found["y"], np.full((2, 3), -5, np.float32))


def test_twice_as_many_rows_and_rows_behind_another_axis(tmp_path: Path) -> None:
    text = """
model Turned() {
    input x: f32[batch, 2, 3]
    output twice = reshape(x, [2 * batch, 3]) |> dense(2)
    output behind = transpose(x, [1, 0, 2]) * 2.0
    output mean_of_all = mean(x)
}
"""
    trained = trained_model(text, ROWS)
    data = {"x": np.random.default_rng(1).standard_normal((5, 2, 3)).astype(np.float32)}
    executable = driver.compile_program(trained.program, PREDICTION, trained.options)
    results = executable.run(Steps(trained.tensors, data, np.arange(5), 5))
    expected = {**results.arrays, "mean_of_all": np.float32(results.scalars["mean_of_all"][-1])}
    content = onnx_file(trained, False, 19)[0]
    found = outputs_of(content, data)
    assert all(difference(found[name], np.asarray(array)) <= CLOSE for name, array in expected.items())
    made = {entry.name: entry.type.tensor_type.shape.dim for entry in onnx.load_from_string(content).graph.output}
    assert made["twice"][0].dim_param == "2*batch"
    assert made["behind"][1].dim_param == "batch"


@pytest.mark.parametrize("name", ["images", "words"])
def test_an_exported_model_can_be_imported(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, _ = onnx_file(trained_model(TEXTS[name], ROWS), False, 17)
    (tmp_path / "model.onnx").write_bytes(content)
    assert main(["import", str(tmp_path / "model.onnx"), "-o", str(tmp_path / "imported")]) == 0
    assert "the largest difference" in capsys.readouterr().err
    weights = load_file(tmp_path / "imported" / "weights.safetensors")
    assert all(array.ndim or not np.isfinite(array) for array in weights.values()), "a number of the text is trained"


def test_a_step_that_accumulates_is_refused(tmp_path: Path) -> None:
    trained = trained_model(MODEL.replace("batch = 16", "batch = 16\n    accumulate = 2"), ROWS)
    with pytest.raises(UsageError, match="accumulates gradients"):
        onnx_file(trained, True, 17)


def test_a_step_of_unknown_length_is_refused(tmp_path: Path) -> None:
    trained = replace(trained_model(MODEL, ROWS), training_rows=None)
    with pytest.raises(UsageError, match="nothing says how long the training is"):
        onnx_file(trained, True, 17)
