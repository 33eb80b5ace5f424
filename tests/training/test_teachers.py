"""`average(layer, momentum)` and `frozen(file, layer)`: instances that no gradient trains."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import dlc
from compiler import driver
from compiler.errors.diagnostics import Source, SourceError
from compiler.frontend.elaborate import elaborate_tests
from compiler.graph.ir import Role
from compiler.syntax.modules import load_modules
from runtime.cli.main import main
from runtime.runs.checkpoint import newest_checkpoint

Array: TypeAlias = np.ndarray[Any, Any]

LAYER = """
layer net(width: int)(x: [batch, n]) -> [batch, 3] {
    return x |> dense(width) |> batch_norm |> relu |> dense(3)
}
"""
AVERAGED = f"""{LAYER}
model Pair(momentum = 0.9) {{
    input x: f32[batch, 6]
    student = net(5)
    teacher = average(student, momentum)
    output y = student(x)
    output goal = teacher(x)
}}

train Pair {{
    data = npz("data.npz")
    target label: i32[batch] in 0..3
    loss = cross_entropy(y, label) + mse(y, goal)
    optimizer = adam(lr = 1e-1)
    steps = 3
    restore = false
    batch = all
}}
"""
RANDOM = np.random.default_rng(5)
ARRAYS: dict[str, Any] = {
    "x": RANDOM.random((24, 6), dtype=np.float32),
    "label": RANDOM.integers(0, 3, 24).astype(np.int32),
}


def weights_after(steps: int, text: str = AVERAGED, **options: Any) -> dict[str, Array]:
    model = dlc.loads(text, **options)
    if steps:
        model = dlc.loads(text.replace("steps = 3", f"steps = {steps}"), **options)
        model.train(ARRAYS)
    return {name: np.array(values) for name, values in model.parameters.items()}


def followed(name: str) -> str:
    return name.replace("teacher.", "student.")


OF_THE_TEACHER = (
    *("teacher.dense.W", "teacher.dense.b", "teacher.batch_norm.gamma", "teacher.batch_norm.beta"),
    *("teacher.dense_2.W", "teacher.dense_2.b"),
)


# Averages


def test_an_average_starts_as_what_it_follows() -> None:
    start = weights_after(0)
    for name in (*OF_THE_TEACHER, "teacher.batch_norm.running_mean"):
        np.testing.assert_array_equal(start[name], start[followed(name)])


@pytest.mark.parametrize("target", ["native", "reference"])
def test_averages_follow_the_weights_behind_each_update(target: str) -> None:
    found = [weights_after(steps, target=target) for steps in range(4)]
    for name in OF_THE_TEACHER:
        average = found[0][followed(name)].astype(np.float64)
        for step in (1, 2, 3):
            average = 0.9 * average + 0.1 * found[step][followed(name)]
            np.testing.assert_allclose(found[step][name], average, rtol=1e-5, atol=1e-7)


def test_the_momentum_may_be_a_function_of_the_updates() -> None:
    text = AVERAGED.replace("average(student, momentum)", "average(student, rising(momentum))")
    text = "fn rising(most: float)(t) = min(most, t / (t + 2))\n" + text
    found = [weights_after(steps, text) for steps in range(4)]
    name = "teacher.dense.W"
    average = found[0][followed(name)].astype(np.float64)
    for step, momentum in ((1, 0.0), (2, 1 / 3), (3, 0.5)):
        average = momentum * average + (1 - momentum) * found[step][followed(name)]
        np.testing.assert_allclose(found[step][name], average, rtol=1e-5, atol=1e-7)


def test_the_momentum_is_a_number_of_the_run() -> None:
    program = driver.load_text(AVERAGED, "pair.dl")
    (setting,) = (setting for setting in program.settings if setting.name == "momentum")
    assert setting.is_runtime
    assert setting.limits == ((">=", 0), ("<=", 1))
    other = AVERAGED.replace("momentum = 0.9", "momentum = 0.5")
    for name, values in weights_after(3, other).items():
        np.testing.assert_array_equal(weights_after(3, momentum=0.5)[name], values)


def test_averages_are_states_and_no_gradient_reaches_them() -> None:
    program = driver.load_text(AVERAGED, "pair.dl")
    specs = {spec.path: spec for spec in program.parameters}
    assert {path for path, spec in specs.items() if spec.average is not None} == set(OF_THE_TEACHER)
    assert all(spec.role is Role.STATE for path, spec in specs.items() if path.startswith("teacher"))
    assert program.plan is not None
    assert {path for rule in program.plan.rules for path in rule.paths} == set(map(followed, OF_THE_TEACHER))


def test_states_of_an_averaged_layer_are_its_own() -> None:
    text = AVERAGED.replace("teacher(x)", "teacher(2 * x)")
    found = weights_after(1, text)
    start = weights_after(0, text)
    hidden = 2 * ARRAYS["x"] @ start["student.dense.W"] + start["student.dense.b"]
    mean = found["teacher.batch_norm.running_mean"]
    np.testing.assert_allclose(mean, 0.1 * hidden.mean(0), rtol=1e-4, atol=1e-6)
    assert not np.allclose(mean, found["student.batch_norm.running_mean"])


def test_an_average_that_training_does_not_apply_moves_all_the_same() -> None:
    text = AVERAGED.replace(" + mse(y, goal)", "").replace(
        "output goal = teacher(x)", "if training { shown = y } else { shown = teacher(x) }\n    output goal = shown"
    )
    start, found = (weights_after(steps, text)["teacher.dense.W"] for steps in (0, 3))
    assert not np.allclose(start, found)


@pytest.mark.parametrize(
    "change",
    [
        ("batch = all", "batch = 12\n    accumulate = 2"),
        ("batch = all", "batch = all\n    ema = 0.9"),
        ("adam(lr = 1e-1)", "newton_cg()"),
        ("adam(lr = 1e-1)", '[adam(on = "*.W"), gradient_descent(lr = 0.1)]'),
        ("batch = all", 'batch = all\n    freeze = ["student.dense.*"]'),
    ],
)
def test_averages_beside_other_keys(change: tuple[str, str]) -> None:
    text = AVERAGED.replace(" |> batch_norm", "").replace(*change)
    if "ema" in change[1]:
        # The average follows the weights themselves, and not their averages: these stand in a checkpoint.
        plain, averaged = weights_after(3, text.replace(change[1], change[0])), weights_after(3, text)
        np.testing.assert_array_equal(averaged["teacher.dense.W"], plain["teacher.dense.W"])
        return
    found = [weights_after(steps, text) for steps in range(4)]
    for name in ("teacher.dense.W", "teacher.dense_2.b"):
        average = found[0][followed(name)].astype(np.float64)
        for step in (1, 2, 3):
            average = 0.9 * average + 0.1 * found[step][followed(name)]
            np.testing.assert_allclose(found[step][name], average, rtol=1e-5, atol=1e-6)


def test_an_average_moves_once_in_a_step_of_several_updates() -> None:
    blocks = """    update first {
        parameters = "student.dense.*"
        loss = cross_entropy(y, label)
        optimizer = adam(lr = 0.1)
        times = 2
    }
    update second {
        parameters = "student.dense_2.*"
        loss = mse(y, goal)
        optimizer = gradient_descent(lr = 0.1)
    }
"""
    text = AVERAGED.replace(" |> batch_norm", "").replace("batch = all", "batch = 12")
    text = text.replace("    loss = cross_entropy(y, label) + mse(y, goal)\n    optimizer = adam(lr = 1e-1)\n", blocks)
    found = [weights_after(steps, text) for steps in range(3)]
    average = found[0]["student.dense.W"].astype(np.float64)
    for step in (1, 2):
        average = 0.9 * average + 0.1 * found[step]["student.dense.W"]
        np.testing.assert_allclose(found[step]["teacher.dense.W"], average, rtol=1e-5, atol=1e-6)


def test_a_frozen_average_stays() -> None:
    text = AVERAGED.replace("batch = all", 'batch = all\n    freeze = ["teacher.*"]')
    start, found = weights_after(0, text), weights_after(3, text)
    for name in start:
        if name.startswith("teacher"):
            np.testing.assert_array_equal(found[name], start[name])


def test_a_file_without_the_average_starts_it_too(tmp_path: Path) -> None:
    given = {n: v for n, v in weights_after(3).items() if n.startswith("student.")}
    save_file(given, str(tmp_path / "w.safetensors"))
    place = tmp_path / "w.safetensors"
    text = AVERAGED.replace("batch = all", f'batch = all\n    init_from = weights("{place}", fresh = ["*.running_*"])')
    start = weights_after(0, text)
    np.testing.assert_array_equal(start["teacher.dense.W"], given["student.dense.W"])


def run_in(folder: Path, text: str, *options: str) -> Path:
    np.savez(folder / "data.npz", **ARRAYS)
    (folder / "pair.dl").write_text(text)
    run = folder / f"run{len(list(folder.glob('run*')))}"
    assert main(["train", str(folder / "pair.dl"), "--out", str(run), *options]) == 0
    return run


def weights_of(run: Path) -> dict[str, bytes]:
    found = newest_checkpoint(run / "checkpoints").checkpoint
    return {name: array.tobytes() for name, array in (*found.weights.items(), *found.optimizer.items())}


IN_EPOCHS = AVERAGED.replace("steps = 3", "epochs = 4").replace("batch = all", "batch = 7")


def test_averages_have_the_same_bits_resumed_and_with_any_threads(tmp_path: Path) -> None:
    straight = run_in(tmp_path, IN_EPOCHS)
    again = run_in(tmp_path, IN_EPOCHS, "--epochs", "2", "--threads", "2")
    assert main(["train", "--resume", str(again), "--epochs", "4"]) == 0
    assert weights_of(again) == weights_of(straight)
    without = run_in(tmp_path, IN_EPOCHS, "--no-fuse")
    assert weights_of(without) == weights_of(straight)


def test_replay_gives_averages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_in(tmp_path, IN_EPOCHS, "--epochs", "1")
    out = tmp_path / "step.npz"
    shown = ["--show", "teacher.dense.W", "--show", "student.dense.W"]
    assert main(["replay", str(run), "--step", "4", *shown, "--out", str(out)]) == 0
    found = newest_checkpoint(run / "checkpoints").checkpoint.weights
    np.testing.assert_array_equal(np.load(out)["teacher.dense.W"], found["teacher.dense.W"])
    capsys.readouterr()


def test_a_prediction_of_the_student_carries_no_teacher(tmp_path: Path) -> None:
    text = IN_EPOCHS.replace(
        "    output goal = teacher(x)\n", "    goal = teacher(x)\n    loss distance = mse(y, goal)\n"
    )
    text = text.replace(" + mse(y, goal)", "")
    run = run_in(tmp_path, text, "--epochs", "1")
    assert main(["export", str(run), "--to", "c", "-o", str(tmp_path / "c")]) == 0
    carried = load_file(str(tmp_path / "c" / "weights.safetensors"))
    assert {name.split(".")[0] for name in carried} == {"student"}
    assert all(b"teacher" not in file.read_bytes() for file in (tmp_path / "c").iterdir())
    assert "pair_evaluate" not in (tmp_path / "c" / "model.h").read_text()
    assert main(["export", str(run), "--to", "c", "--training", "-o", str(tmp_path / "step")]) == 0
    assert "teacher.dense.W" in load_file(str(tmp_path / "step" / "weights.safetensors"))


def test_onnx_of_the_student_carries_no_teacher(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    text = IN_EPOCHS.replace(
        "    output goal = teacher(x)\n", "    goal = teacher(x)\n    loss distance = mse(y, goal)\n"
    )
    run = run_in(tmp_path, text.replace(" + mse(y, goal)", ""), "--epochs", "1")
    assert main(["export", str(run), "--to", "onnx", "-o", str(tmp_path / "onnx")]) == 0
    graph = onnx.load(str(tmp_path / "onnx" / "model.onnx")).graph
    assert not [tensor.name for tensor in graph.initializer if "teacher" in tensor.name]


@pytest.mark.parametrize(
    ("line", "code", "told"),
    [
        ("teacher = average(student)", "E0302", "momentum"),
        ("teacher = average(x, 0.9)", "E0312", "of a layer"),
        ("teacher = average(student, 1.5)", "E0508", "between 0 and 1"),
        ("teacher = average(student, x)", "E0312", "momentum"),
        ("teacher = average(net(5), 0.9)", "E0508", "which the model does not have"),
        ("other = average(student, 0.9)\n teacher = average(other, 0.9)", "E0508", "none of its own"),
        ('other = frozen("w", net(5))\n teacher = average(other, 0.9)', "E0508", "none of its own"),
        ('teacher = frozen(net(5), "w")', "E0312", "path of a file"),
        ('teacher = frozen("w", 3)', "E0312", "of a layer"),
        ('teacher = frozen("w", net(5), at = 3)', "E0312", "`at`"),
        ("inner = dense(5)\n wide = wrap(inner)\n teacher = average(wide, 0.9)", "E0508", "from elsewhere"),
    ],
)
def test_mistakes(line: str, code: str, told: str) -> None:
    text = AVERAGED.replace("teacher = average(student, momentum)", line)
    text = text.replace("model Pair", "layer wrap(cell: layer)(x: [batch, n]) = cell(x)\n\nmodel Pair")
    with pytest.raises(SourceError) as caught:
        driver.load_text(text, "pair.dl")
    messages = [f"{d.code} {d.message}" for d in caught.value.diagnostics]
    assert any(code in message and told in message for message in messages), messages


def test_what_an_average_cannot_follow_is_told_at_its_call() -> None:
    text = "model M {\n    input x: f32[batch, 3]\n    a = dense(3)\n    t = average(a, 0.9)\n    output y = t(x)\n}\n"
    other = text.replace("    output", "    input z: f32[batch, 4]\n    output w = a(z)\n    output")
    for one, notes in ((text, 0), (other, 2)):
        with pytest.raises(SourceError) as caught:
            driver.load_text(one, "pair.dl")
        (mistake,) = caught.value.diagnostics
        assert (mistake.code, mistake.span.line, mistake.span.text) == ("E0508", 4, "average(a, 0.9)")
        assert len([note for note in mistake.notes if note.span is not None]) == notes


def test_layers_in_arguments_are_averaged_too() -> None:
    text = AVERAGED.replace("student = net(5)", "student = wrap(cell = dense(5))")
    text = text.replace("model Pair", "layer wrap(cell: layer)(x: [batch, n]) = x |> cell |> dense(3)\n\nmodel Pair")
    found = [weights_after(steps, text) for steps in (0, 1)]
    for name in ("teacher.cell.W", "teacher.dense.W"):
        average = 0.9 * found[0][followed(name)] + 0.1 * found[1][followed(name)]
        np.testing.assert_allclose(found[1][name], average, rtol=1e-5, atol=1e-7)


MOMENTUM_CONTRAST = """
model Moco(width = 3, rows = 4, length = 12) {
    input a: f32[batch, 6]
    encoder = dense(width)
    teacher = average(encoder, 0.5)
    state queue: [length, width] = zeros
    output code = a |> encoder |> unit_vectors
    output key = a |> teacher |> unit_vectors
    output odds = concat(sum(code * key, axis = 1, keepdims = true), code @ queue.T) / 0.1
    newest = scatter_add(key, arange(batch), rows)
    next = concat(newest, queue[0:-rows], axis = 0)
    if training { queue <- where(sum(ones(batch)) >= rows, next, queue) }
}

train Moco {
    data = npz("data.npz")
    loss = -mean(log_softmax(odds)[:, 0])
    optimizer = gradient_descent(lr = 1e-1)
    restore = false
    steps = 3
    batch = 4
}
"""


def test_a_queue_of_keys_is_a_state() -> None:
    """Three batches of 4 rows in a queue of 12, the newest first; each as the teacher saw it in its step."""
    arrays = {"a": ARRAYS["x"][:12]}
    queues: list[Array] = []
    for steps in (1, 2, 3):
        model = dlc.loads(MOMENTUM_CONTRAST.replace("steps = 3", f"steps = {steps}"))
        model.train(arrays)
        queues.append(np.array(model.parameters["queue"]))
    for older, newer in pairwise(queues):
        np.testing.assert_array_equal(newer[4:], older[:-4])
        assert not np.array_equal(newer[:4], older[:4])
    np.testing.assert_allclose((queues[2] ** 2).sum(axis=1), 1, rtol=1e-5)
    assert (queues[0][4:] == 0).all()
    short = dlc.loads(MOMENTUM_CONTRAST.replace("steps = 3", "epochs = 1"))
    short.train({"a": ARRAYS["x"][:6]})  # a batch of 4, and one of 2, which stays out
    assert (np.array(short.parameters["queue"])[4:] == 0).all()


# Frozen layers

FROZEN = f"""{LAYER}
model Student {{
    input x: f32[batch, 6]
    teacher = frozen("teacher.safetensors", net(5))
    output y = x |> net(4)
    output goal = x |> dropout(0.5) |> teacher
}}

train Student {{
    data = npz("data.npz")
    target label: i32[batch] in 0..3
    loss = cross_entropy(y, label) + mse(y, goal)
    optimizer = adam(lr = 1e-1)
    epochs = 2
    batch = 7
}}
"""


def stored(folder: Path, prefix: str = "", beside: dict[str, Array] | None = None) -> dict[str, Array]:
    """The file of the teacher; its tensors by their names in the layer."""
    trained = weights_after(3)
    tensors = {n.removeprefix("student."): v for n, v in trained.items() if n.startswith("student.")}
    save_file({**{prefix + n: v for n, v in tensors.items()}, **(beside or {})}, str(folder / "teacher.safetensors"))
    return tensors


@pytest.mark.parametrize("prefix", ["", "body.", "some.deep.path."])
def test_a_frozen_layer_is_that_of_the_file(tmp_path: Path, prefix: str) -> None:
    tensors = stored(tmp_path, prefix)
    run = run_in(tmp_path, FROZEN)
    found = newest_checkpoint(run / "checkpoints").checkpoint.weights
    for name, values in tensors.items():
        np.testing.assert_array_equal(found[f"teacher.{name}"], values)
    model = dlc.load(str(run))
    normal = tensors["dense.W"], tensors["batch_norm.running_mean"], tensors["batch_norm.running_var"]
    hidden = (ARRAYS["x"] @ normal[0] + tensors["dense.b"] - normal[1]) / np.sqrt(normal[2] + 1e-5)
    hidden = np.maximum(hidden * tensors["batch_norm.gamma"] + tensors["batch_norm.beta"], 0)
    expected = hidden @ tensors["dense_2.W"] + tensors["dense_2.b"]
    np.testing.assert_allclose(model.predict({"x": ARRAYS["x"]})["goal"], expected, rtol=1e-4, atol=1e-5)
    report = json.loads((run / "frozen.json").read_text())
    assert report[0]["matched"]["teacher.dense.W"] == f"{prefix}dense.W"


def test_a_run_needs_the_file_at_its_start_alone(tmp_path: Path) -> None:
    stored(tmp_path)
    straight = run_in(tmp_path, FROZEN)
    run = run_in(tmp_path, FROZEN, "--epochs", "1")
    (tmp_path / "teacher.safetensors").unlink()
    assert main(["train", "--resume", str(run), "--epochs", "2"]) == 0
    assert weights_of(run) == weights_of(straight)
    assert main(["eval", str(run)]) == 0
    assert main(["replay", str(run), "--step", "5"]) == 0
    assert main(["replay", str(run), "--step", "1"]) == 1


def test_a_run_may_be_the_teacher(tmp_path: Path) -> None:
    teacher = run_in(tmp_path, IN_EPOCHS, "--epochs", "1")
    shutil.move(teacher, tmp_path / "first")
    text = FROZEN.replace('"teacher.safetensors", net(5)', '"first", net(5), at = "student"')
    run = run_in(tmp_path, text, "--epochs", "1")
    kept = newest_checkpoint(run / "checkpoints").checkpoint.weights
    trained = newest_checkpoint(tmp_path / "first" / "checkpoints").checkpoint.weights
    np.testing.assert_array_equal(kept["teacher.dense.W"], trained["student.dense.W"])


def findings(folder: Path, text: str, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    np.savez(folder / "data.npz", **ARRAYS)
    (folder / "pair.dl").write_text(text)
    capsys.readouterr()
    main(["check", str(folder / "pair.dl"), "--json"])
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return [finding for finding in found if finding["code"] in ("W0119", "E0509")]


def test_check_reads_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (absent,) = findings(tmp_path, FROZEN, capsys)
    assert absent["code"] == "W0119"
    assert main(["train", str(tmp_path / "pair.dl"), "--out", str(tmp_path / "none")]) == 1
    assert "E0509" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
    stored(tmp_path)
    assert findings(tmp_path, FROZEN, capsys) == []
    (wide,) = findings(tmp_path, FROZEN.replace("net(5))", "net(7))"), capsys)
    assert "`dense.W` is [6, 5] in the file, but [6, 7] in the model" in wide["message"]
    (several,) = findings_of_two(tmp_path, capsys)
    assert "2 layers" in several["message"]
    (elsewhere,) = findings(tmp_path, FROZEN.replace("net(5))", 'net(5), at = "nowhere")'), capsys)
    assert "there is no layer `nowhere`" in elsewhere["message"]
    assert "its tensors belong to no layer" not in str(elsewhere)  # they are those of `dense` and `batch_norm`
    (tmp_path / "teacher.safetensors").write_bytes(b"no tensors")
    (damaged,) = findings(tmp_path, FROZEN, capsys)
    assert "safetensors" in damaged["message"]
    stored(tmp_path, "body.")
    (near,) = findings(tmp_path, FROZEN.replace("net(5))", 'net(5), at = "boddy")'), capsys)
    assert "there is no layer `boddy`" in near["message"]
    assert "did you mean `body`?" in str(near)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"p0,p1,p2,label\n1,2,3,4\n", "a text"),
        (b"PK\x03\x04 and more", "a zip archive, such as .npz, .pt or .keras"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"\x93NUMPY\x01\x00v\x00", "an array of NumPy"),
        (b"\x80\x04\x95\x10\x00\x00", "a pickle"),
    ],
)
def test_files_of_other_formats_are_named(
    content: bytes, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "teacher.safetensors").write_bytes(content)
    (found,) = findings(tmp_path, FROZEN, capsys)
    assert f"this is {kind}" in found["message"]
    assert "`dlc import FILE --into model.dl" in str(found)


def findings_of_two(folder: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    tensors = stored(folder, "a.")
    stored(folder, "a.", {f"b.{name}": values for name, values in tensors.items()})
    found = findings(folder, FROZEN, capsys)
    assert findings(folder, FROZEN.replace("net(5))", 'net(5), at = "b")'), capsys) == []
    stored(folder)
    return found


def test_a_frozen_layer_works_as_in_inference() -> None:
    program = driver.load_text(FROZEN.replace(" |> dropout(0.5) |> teacher", " |> teacher"), "pair.dl")
    assert not {o.updates for o in program.training_graph.outputs if o.updates and o.updates.startswith("teacher")}
    assert all(spec.role is Role.STATE for spec in program.parameters if spec.path.startswith("teacher"))


def test_a_test_reads_no_file() -> None:
    text = f'{LAYER}\nmodel M {{\n    input x: f32[batch, 6]\n    t = frozen("w", net(5))\n    output y = t(x)\n}}\n'
    text += "\ntest frozen {\n    y = M()(random(4, 6))\n    shape(y) == [4, 3]\n}\n"
    with pytest.raises(SourceError) as caught:
        elaborate_tests(load_modules(Source("m.dl", text), None))
    assert [d.code for d in caught.value.diagnostics] == ["E0508"]
