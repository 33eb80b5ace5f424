"""`dlc export --to wasm`: predictions and training steps in Node and wasmtime have the bits of the command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported_models import trained_model
from web_programs import in_node, in_wasmtime

from compiler import driver
from compiler.driver import PREDICTION, TRAINING, Array, Steps, Tensors
from compiler.machine import WASM
from compiler.targets.llvm.jit import compile_module
from runtime.cli.main import main
from runtime.exports.model_library import model_library
from runtime.exports.wasm_module import wasm_module
from runtime.exports.web_library import MACHINES, MODULE, SLOW_MODULE, web_files
from runtime.inference.model import length_of, runtime_settings, training_of, weight_names
from runtime.runs.tensor_files import read_tensors, replace_tensors
from runtime.runs.trained import Trained
from runtime.train.jobs import fresh_tensors

MODEL = """
model Small(width = 24) {
    input picture: f32[batch, 1, 6, 6]
    input __proto__: i32[batch] in 0..3
    hidden = picture |> conv2d(4, 3) |> batch_norm |> relu |> flatten |> dense(width) |> gelu |> dropout(0.3)
    output scores = (hidden |> dense(3)) + (__proto__ |> embedding(3, 3))
    output size = sqrt(sum(picture * picture, axis = 1))
}

train Small {
    target label: i32[batch] in 0..3
    loss = cross_entropy(scores, label)
    metrics = [accuracy(scores, label)]
    optimizer = adam(lr = 0.01)
    schedule = cosine(T = total_steps)
    epochs = 3
    batch = 16
    seed = 5
}
"""
ROWS, STEPS = 21, 50


@pytest.fixture(scope="module")
def trained() -> Trained:
    return trained_model(MODEL, ROWS)


@pytest.fixture(scope="module")
def folder(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported files, with the training step."""
    machines = [replace(trained, options=replace(trained.options, machine=name)) for name in MACHINES]
    made = [model_library(one, True) for one in machines]
    tensors = made[0][1]
    path = tmp_path_factory.mktemp("web")
    for name, content in web_files(trained.program, [library for library, _ in made], tensors, {}, None).items():
        (path / name).write_bytes(content)
    replace_tensors(path / "weights.safetensors", tensors.values)
    return path


def fed() -> dict[str, Array]:
    random = np.random.default_rng(3)
    return {
        "picture": random.standard_normal((ROWS, 1, 6, 6)).astype(np.float32),
        "__proto__": random.integers(0, 3, ROWS).astype(np.int32),
        "label": (7 * np.arange(ROWS) % 3).astype(np.int32),
    }


def first(arrays: Mapping[str, Array], rows: int) -> dict[str, Array]:
    return {name: array[:rows] for name, array in arrays.items()}


def inputs_of(arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name: array for name, array in arrays.items() if name != "label"}


def predicted(trained: Trained, tensors: Tensors) -> dict[str, bytes]:
    executable = driver.compile_program(trained.program, PREDICTION, trained.options)
    found = executable.run(Steps(tensors, inputs_of(fed()), np.arange(ROWS), ROWS)).arrays
    return {name: found[name].tobytes() for name in ("scores", "size")}


def rows_of_step(number: int) -> int:
    return 16 if number % 2 else ROWS


@pytest.fixture(scope="module")
def expected(trained: Trained) -> tuple[list[bytes], dict[str, bytes], dict[str, Array]]:
    """The losses of all steps, a prediction behind them, and the weights."""
    program, options = trained.program, trained.options
    tensors = fresh_tensors(program, options)
    settings = runtime_settings(program, length_of(training_of(program), ROWS))
    step = driver.compile_program(program, TRAINING, options)
    losses: list[bytes] = []
    for number in range(STEPS):
        rows = np.arange(rows_of_step(number))
        found = step.run(Steps(tensors, fed(), rows, len(rows), number, training_of(program).seed, settings))
        losses.append(found.scalars["loss"].astype(np.float32).tobytes())
    return losses, predicted(trained, tensors), {name: tensors[name].copy() for name in tensors.names()}


def said(answers: list[Any]) -> list[str]:
    return [answer["error"] for answer in answers if isinstance(answer, dict) and "error" in answer]


def without_relaxed_simd() -> bytes:
    """A module that no engine takes, as an older one does not take relaxed SIMD."""
    return b"\0asm\2\0\0\0"


def rounding_twice() -> bytes:
    """What the fast module is where relaxed multiply-adds are rounded twice."""
    texts = [
        f"define {type_} @model_multiply_add_{name}({type_} %a, {type_} %b, {type_} %c) {{\n"
        f"  %p = fmul {type_} %a, %b\n  %s = fadd {type_} %p, %c\n  ret {type_} %s\n}}\n"
        for name, type_ in (("f32", "float"), ("f64", "double"))
    ]
    names = ["model_multiply_add_f32", "model_multiply_add_f64"]
    return wasm_module([compile_module("".join(texts), WASM, verify=True)], names, {})


@pytest.mark.parametrize("fast", [None, without_relaxed_simd, rounding_twice])
def test_steps_and_predictions_in_node(
    fast: Callable[[], bytes] | None,
    trained: Trained,
    folder: Path,
    expected: tuple[list[bytes], dict[str, bytes], dict[str, Array]],
    tmp_path: Path,
) -> None:
    losses, prediction, weights = expected
    steps = [("step", first(fed(), rows_of_step(number))) for number in range(STEPS)]
    calls = [("predict", inputs_of(fed())), *steps, ("predict", inputs_of(fed())), ("save",)]
    if fast is not None:
        (tmp_path / MODULE).write_bytes(fast())
    answers = in_node(folder, ROWS, calls, None if fast is None else tmp_path / MODULE)
    assert not said(answers)
    assert answers[0]["isFast"] is (fast is None)
    assert answers[1] == predicted(trained, trained.tensors)
    assert [answer["loss"] for answer in answers[2:-2]] == losses
    assert answers[-2] == prediction
    (tmp_path / "saved.safetensors").write_bytes(answers[-1])
    saved = read_tensors(tmp_path / "saved.safetensors")
    assert {name: array.tobytes() for name, array in saved.items()} == {k: v.tobytes() for k, v in weights.items()}


@pytest.mark.parametrize("module", [MODULE, SLOW_MODULE])
def test_steps_and_predictions_in_wasmtime(
    module: str, folder: Path, expected: tuple[list[bytes], dict[str, bytes], dict[str, Array]]
) -> None:
    losses, prediction, _ = expected
    manifest = json.loads((folder / "manifest.json").read_text())
    weights = read_tensors(folder / "weights.safetensors")
    places = {tensor["place"]: weights[tensor["name"]].tobytes() for tensor in manifest["tensors"]}
    run = in_wasmtime((folder / module).read_bytes(), places, int(manifest["abi"]), ROWS)
    described = manifest["functions"]["model_step"]
    assert {setting["dtype"] for setting in described["settings"]} == {"f64"}
    usual = np.array([setting["usual"] for setting in described["settings"]])
    given = {name: run.given(array.tobytes()) for name, array in fed().items()}
    made = [run.room(64) for _ in described["outputs"]]
    arguments = [run.given(usual.tobytes()), *(given[item["name"]] for item in described["inputs"]), *made]
    for number, loss in enumerate(losses):
        assert run.call("step", run.place, rows_of_step(number), *arguments) == 0
        assert run.read(made[0], 4) == loss, number
    outputs = {name: run.room(len(content)) for name, content in prediction.items()}
    places_given = [given[item["name"]] for item in manifest["functions"]["model_predict"]["inputs"]]
    assert run.call("predict", run.place, ROWS, *places_given, *outputs.values()) == 0
    assert {name: run.read(outputs[name], len(content)) for name, content in prediction.items()} == prediction


@pytest.mark.parametrize("is_fast", [True, False])
def test_a_nan_stays_where_it_is_in_node(is_fast: bool, trained: Trained, folder: Path, tmp_path: Path) -> None:
    given = inputs_of(fed())
    given["picture"][2], given["picture"][5] = np.nan, np.inf
    executable = driver.compile_program(trained.program, PREDICTION, trained.options)
    expected = executable.run(Steps(trained.tensors, given, np.arange(ROWS), ROWS)).arrays
    (tmp_path / MODULE).write_bytes(without_relaxed_simd())
    _, found = in_node(folder, ROWS, [("predict", given)], None if is_fast else tmp_path / MODULE)
    scores = np.frombuffer(found["scores"], np.float32).reshape(ROWS, 3)
    assert np.isnan(scores[2]).all()
    assert np.array_equal(scores, expected["scores"], equal_nan=True)


def test_predictions_in_several_calls_are_those_in_one(trained: Trained, folder: Path) -> None:
    answers = in_node(folder, 4, [("predict", inputs_of(fed()))])
    assert answers[1] == predicted(trained, trained.tensors)


def test_a_saved_training_goes_on_with_the_same_bits(
    folder: Path, expected: tuple[list[bytes], dict[str, bytes], dict[str, Array]]
) -> None:
    steps = [("step", first(fed(), rows_of_step(number))) for number in range(6)]
    begun = [*steps[:3], ("save",)]
    saved = in_node(folder, ROWS, begun)[-1]
    answers = in_node(folder, ROWS, [("load", np.frombuffer(saved, np.uint8)), ("continue", 5, 3), *steps[3:]])
    assert not said(answers)
    assert [answer["loss"] for answer in answers[3:]] == expected[0][3:6]


def test_an_evaluation_has_the_bits_of_one_batch(trained: Trained, folder: Path) -> None:
    executable = driver.compile_program(trained.program, driver.BATCH_EVALUATION, trained.options)
    settings = runtime_settings(trained.program, length_of(training_of(trained.program), ROWS))
    found = executable.run(Steps(trained.tensors, fed(), np.arange(ROWS), ROWS, settings=settings)).scalars
    answer = in_node(folder, ROWS, [("evaluate", fed())])[1]
    assert answer == {name: found[name].astype(np.float32).tobytes() for name in ("loss", "accuracy")}


def test_types_are_those_of_typescript(folder: Path) -> None:
    text = (folder / "model.d.ts").read_text()
    assert '"__proto__": Int32Array | ArrayLike<number> | readonly unknown[];' in text
    for line in (
        "predict(inputs: Inputs): Outputs;",
        "step(inputs: StepInputs, settings?: StepSettings): StepOutputs;",
    ):
        assert f"  {line}\n" in text
    assert text.count("{") == text.count("}")


def test_wrong_calls_are_refused_in_words(folder: Path) -> None:
    given = inputs_of(fed())
    wrong = [
        ("predict",),
        ("predict", {"picture": given["picture"]}),
        ("predict", given | {"other": given["picture"]}),
        ("predict", given | {"picture": given["picture"][:2]}),
        ("predict", given | {"picture": given["picture"].ravel()[:-1]}),
        ("predict", given | {"__proto__": np.full(ROWS, 3, np.int32)}),
        ("predict", given | {"__proto__": np.full(ROWS, 0.5, np.float32)}),
        ("predict", given | {"__proto__": np.full(ROWS, 1 << 40, np.int64)}),
        ("predict", given | {"picture": "text"}),
        ("predict", given | {"picture": None}),
        ("step", {name: np.concatenate([array, array]) for name, array in fed().items()}),
        ("step", fed(), {"rate": 1}),
        ("load", np.zeros(8, np.uint8)),
    ]
    assert said(in_node(folder, ROWS, wrong)) == [
        "TypeError: the inputs are picture, __proto__, not none",
        "TypeError: the inputs are picture, __proto__, not picture",
        "TypeError: the inputs are picture, __proto__, not picture, __proto__, other",
        f"RangeError: __proto__ has {ROWS} rows, not 2",
        f"RangeError: picture has 36 numbers a row, not {36 * ROWS - 1}",
        "RangeError: __proto__ is in 0..3",
        "TypeError: __proto__ holds integers",
        "RangeError: __proto__ is of i32, which does not hold all of these numbers",
        "TypeError: picture holds numbers",
        "TypeError: picture holds numbers",
        f"RangeError: a call has at most {ROWS} rows, not {2 * ROWS}",
        "TypeError: there is no setting rate",
        "Error: the file is smaller than MODEL_FILE_BYTES",
    ]


def test_the_command_writes_a_folder(trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.dl").write_text(MODEL)
    replace_tensors(tmp_path / "w.safetensors", {name: trained.tensors[name] for name in weight_names(trained.program)})
    command = ["export", str(tmp_path / "model.dl"), "--weights", str(tmp_path / "w.safetensors")]
    assert main([*command, "--to", "wasm", "-o", str(tmp_path / "web")]) == 0
    assert "KiB, beside" in capsys.readouterr().err
    files = {MODULE, SLOW_MODULE, "model.js", "model.d.ts", "manifest.json", "weights.safetensors"}
    assert {file.name for file in (tmp_path / "web").iterdir()} == files
    answers = in_node(tmp_path / "web", ROWS, [("predict", inputs_of(fed())), ("step", fed()), ("save",)])
    assert answers[1] == predicted(trained, trained.tensors)
    assert said(answers) == ["Error: this model was exported without --training"] * 2
    assert main([*command, "--to", "wasm", "--target", "avx2", "-o", str(tmp_path / "web")]) == 2
    assert "`--to wasm` is for every browser" in capsys.readouterr().err
    assert main([*command, "--to", "c", "--target", "wasm", "-o", str(tmp_path / "web")]) == 2
    assert "take `--to wasm`" in capsys.readouterr().err
