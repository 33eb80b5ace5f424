"""Every command on a project of `dlc new`, with the real compiler."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlc
from runtime.cli.main import main
from runtime.runs.checkpoint import newest_checkpoint

ROOT = Path(__file__).parent.parent.parent.parent


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new project and in it `run`, a training of six epochs."""
    folder = tmp_path_factory.mktemp("whole") / "rings"
    assert main(["new", str(folder)]) == 0
    assert main(["train", str(folder / "model.dl"), "--epochs", "6", "--out", str(folder / "run"), "--json"]) == 0
    return folder


@pytest.fixture(autouse=True)
def _in_the_project(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(project)
    capsys.readouterr()


def records(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path, "metrics.jsonl").read_text().splitlines()]


def without_times(found: list[dict[str, object]]) -> list[dict[str, object]]:
    return [{k: v for k, v in record.items() if k not in ("seconds", "samples_per_second")} for record in found]


def tensors(run: str) -> dict[str, bytes]:
    checkpoint = newest_checkpoint(Path(run) / "checkpoints").checkpoint
    return {name: values.tobytes() for name, values in {**checkpoint.weights, **checkpoint.optimizer}.items()}


def test_the_project_is_free_of_mistakes_and_formatted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "model.dl", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert main(["fmt", "--check", "model.dl"]) == 0


def test_it_learns() -> None:
    found = records("run")
    assert found[-1]["val_accuracy"] > 0.9
    assert found[-1]["loss"] < found[0]["loss"]
    assert found[-1]["rate"] == pytest.approx(0.01)


def test_eval_repeats_the_validation_of_the_best_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "run", "--part", "validation", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    best = [record for record in records("run") if record["best"]][-1]
    assert (result["loss"], result["accuracy"]) == (best["val_loss"], best["val_accuracy"])


def test_predict_names_the_classes(capsys: pytest.CaptureFixture[str]) -> None:
    Path("new.csv").write_text("x,y\n0.9,0.1\n-1.5,1.4\n")
    assert main(["predict", "run", "--input", "new.csv"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["ring"] for line in lines] == ["inner", "outer"]


@pytest.mark.parametrize("option", [["--threads", "1"], ["--threads", "3"], ["--no-fuse"], ["--no-fusion", "rows"]])
def test_the_same_bits_whatever_the_threads_and_the_fusion(option: list[str]) -> None:
    out = "-".join(option).lstrip("-")
    assert main(["train", "model.dl", "--epochs", "6", "--out", out, "--json", *option]) == 0
    assert tensors(out) == tensors("run")
    assert without_times(records(out)) == without_times(records("run"))


@pytest.mark.parametrize("command", [["train"], ["plan"], ["show"], ["bench"]])
def test_a_fusion_that_there_is_not(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "model.dl", "--no-fusion", "rows", "--no-fusion", "slops"]) == 2
    assert capsys.readouterr().err == "error: there is no fusion `slops`\nhint: did you mean `slopes`?\n"
    assert main([*command, "model.dl", "--no-fusion", "epilogue"]) == 2
    assert "hint: fusions are activation, bias, residual, " in capsys.readouterr().err


def test_ctrl_c_saves_and_resume_ends_with_the_same_bits() -> None:
    command = [sys.executable, "-m", "runtime.cli", "train", "model.dl", "--epochs", "100000", "--json"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [*command, "--out", "stopped"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    while json.loads(process.stdout.readline())["event"] != "epoch":
        pass
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert json.loads(output.splitlines()[-1])["reason"] == "interrupted"
    assert "resume: dlc train --resume stopped" in errors
    assert "Traceback" not in errors
    epochs = str(len(records("stopped")) + 3)
    assert main(["train", "--resume", "stopped", "--epochs", epochs, "--json"]) == 0
    assert main(["train", "model.dl", "--epochs", epochs, "--out", "whole", "--json"]) == 0
    assert tensors("stopped") == tensors("whole")
    assert without_times(records("stopped")) == without_times(records("whole"))


@pytest.mark.parametrize(
    "stage", ["ast", "graph", "step", "grad", "fixed", "fused", "schedule", "kernels", "tiles", "loops", "llvm", "asm"]
)
def test_show_prints_every_stage(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "model.dl", "--stage", stage]) == 0
    whole = capsys.readouterr().out
    line = next(n for n, text in enumerate(Path("model.dl").read_text().splitlines(), 1) if "hidden_2 = " in text)
    assert main(["show", f"model.dl:{line}", "--stage", stage]) == 0
    part = capsys.readouterr().out
    assert 0 < len(part) < len(whole)


def test_a_plan_of_several_processes_says_where_its_bytes_go(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "model.dl", "--set", "shards=2", "--processes", "2", "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["exchange"]["sent_bytes"] > 0
    assert "between machines; processes of one machine read them in each other's memory" in told.err


def test_plan_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "model.dl", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["parameters"] == 2 * 32 + 32 + 32 * 32 + 32 + 32 * 2 + 2
    assert sum(layer["parameters"] for layer in report["layers"]) == report["parameters"]
    assert report["flops_forward"] < report["flops_step"]
    assert main(["plan", "model.dl"]) == 0
    assert "FLOPs of a step" in capsys.readouterr().out


CONVOLUTIONS = """
model Images {
    input image: f32[batch, 3, 8, 8]
    x = image |> conv2d(6, 3, padding = 1, bias = false) |> batch_norm |> relu |> conv2d(4, 3)
    output logits = x |> global_average_pool |> dense(2)
}
"""


def test_plan_tells_layers_apart_that_are_computed_together(capsys: pytest.CaptureFixture[str]) -> None:
    """A normalisation becomes part of the convolution before it, and images are laid out otherwise in memory."""
    Path("images.dl").write_text(CONVOLUTIONS)
    assert main(["plan", "images.dl", "--batch", "2", "--json"]) == 0
    rows = {row["path"]: row for row in json.loads(capsys.readouterr().out)["layers"]}
    outputs = {"x.conv2d": [6, 8, 8], "x.batch_norm": [6, 8, 8], "x.conv2d_2": [4, 6, 6], "logits.dense": [2]}
    for path, shape in outputs.items():
        assert rows[path]["output"] == f"f32[batch, {', '.join(map(str, shape))}]"
    assert rows["x.conv2d"]["flops_forward"] == 2 * 2 * 27 * 6 * 64
    assert rows["x.batch_norm"]["flops_forward"] < 10 * 2 * 6 * 64
    assert rows["x.conv2d_2"]["flops_forward"] == 2 * (2 * 54 + 1) * 4 * 36


@pytest.mark.parametrize("mode", ["train", "infer"])
def test_bench_measures(mode: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "model.dl", "--mode", mode, "--seconds", "0.1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["median_ms"] > 0
    assert report["parameters"] == 1218
    assert report["flops"] > 0


def test_a_mistake_is_shown_at_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    Path("wrong.dl").write_text(Path("model.dl").read_text().replace("|> relu", "|> rulu", 1))
    assert main(["train", "wrong.dl"]) == 1
    error = capsys.readouterr().err
    assert "rulu" in error
    assert "wrong.dl:" in error
    assert "relu" in error.split("rulu", 1)[1]


def test_a_loss_may_depend_on_the_length_of_the_training(capsys: pytest.CaptureFixture[str]) -> None:
    text = Path("model.dl").read_text().replace("loss = ", "loss = total_steps * ")
    Path("long.dl").write_text(text)
    assert main(["train", "long.dl", "--epochs", "2", "--out", "long", "--json"]) == 0
    steps = records("long")[-1]["step"]
    assert json.loads(Path("long/settings.json").read_text())["settings"]["total_steps"]["value"] == steps
    best = [record for record in records("long") if record["best"]][-1]
    capsys.readouterr()
    assert main(["eval", "long", "--part", "validation", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["loss"] == best["val_loss"]
    assert dlc.load("long").evaluate()["loss"] > 0
    weights = str(newest_checkpoint(Path("long/checkpoints")).path / "weights.safetensors")
    assert main(["eval", "long.dl", "--weights", weights, "--part", "validation"]) == 0
    Path("numbers.csv").write_text("x,y,ring\n0.9,0.1,0\n-1.5,1.4,1\n")
    assert main(["eval", "long.dl", "--weights", weights, "--data", "numbers.csv"]) == 2
    assert "depends on `total_steps`" in capsys.readouterr().err


def test_predict_takes_an_array_for_the_columns_of_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    Path("numbers.csv").write_text("a,b,kind\n" + "0.5,1,0\n2,3,1\n" * 4)
    text = Path("model.dl").read_text().replace("points.csv", "numbers.csv")
    Path("numbers.dl").write_text(text.replace(', target = "ring"', ', target = "kind"'))
    assert main(["train", "numbers.dl", "--epochs", "1", "--out", "numbers", "--json"]) == 0
    np.save("rows.npy", np.array([[0.5, 1], [2, 3]], np.float32))
    Path("rows.csv").write_text("a,b\n0.5,1\n2,3\n")
    printed: list[str] = []
    for name in ("rows.npy", "rows.csv"):
        capsys.readouterr()
        assert main(["predict", "numbers", "--input", name]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] != ""


def test_a_schedule_of_another_length_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", "model.dl", "--dry-run", "--epochs", "2"]
    assert main([*arguments, "--set", "schedule=cosine(T = 7)"]) == 0
    assert "the schedule ends at update 7, the run at update" in capsys.readouterr().err
    assert main([*arguments, "--set", "schedule=cosine(T = total_steps)"]) == 0
    assert "the schedule ends" not in capsys.readouterr().err


def test_evaluation_has_the_batch_of_the_training() -> None:
    text = (
        "model M {\n    input x: f32[batch, 2]\n    output y = x |> dense(1)\n}\n"
        "train M {\n    loss = sum(y ^ 2)\n    optimizer = adam()\n    batch = 64\n    epochs = 1\n}"
    )
    model = dlc.loads(text)
    x = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    assert model.train({"x": x[:8]}).steps == 1
    sums = [float((model.predict(x[first : first + 8])["y"] ** 2).sum()) for first in range(0, 40, 8)]
    assert model.evaluate({"x": x})["loss"] == pytest.approx(np.mean(sums), rel=1e-5)


@pytest.mark.parametrize("target", ["native", "reference"])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_outputs_without_rows_can_be_predicted(target: str, dtype: str) -> None:
    text = "model M {\n    input x: f32[batch, 4]\n    output total = sum(x)\n    output largest = max(x, axis = 0)\n}"
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)
    found = dlc.loads(text, target=target, dtype=dtype).predict(rows)
    assert (found["total"].shape, found["total"].tolist(), found["largest"].tolist()) == ((), 66, [8, 9, 10, 11])
    assert found["total"].dtype == found["largest"].dtype == {"f32": np.float32, "f64": np.float64}[dtype]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model.dl:999"], "has no line 999"),
        (["model.dl", "--node", "logits.dens"], "did you mean logits.dense?"),
        (["model.dl", "--node", "zzz"], "the outermost nodes are hidden_1, hidden_2, logits"),
    ],
)
def test_show_finds_no_such_place(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_the_api_loads_the_run_and_calls_functions(project: Path) -> None:
    model = dlc.load(project / "run")
    logits = model.predict(np.array([[0.9, 0.1], [-1.5, 1.4]]))["logits"]
    assert logits.argmax(axis=1).tolist() == [0, 1]
    for target in ("native", "reference"):
        square = dlc.function("fn square(scale = 2.0)(x) = scale * x * x", "square", target=target, scale=3.0)
        weight = np.array([1, 2, 3, 4], np.float32)
        (alone,), (listed,) = (square.gradient(weight, cotangents=given) for given in (weight, [weight]))
        assert alone.tolist() == listed.tolist() == (6 * weight * weight).tolist()
        x = np.array([1.0, -2.0], np.float32)
        assert np.asarray(square(x)).tolist() == [3.0, 12.0]
        assert square.gradient(x)[0].tolist() == [6.0, -12.0]


def test_what_takes_nothing_of_a_tensor_is_computed_too() -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    expected = {
        "pad(x[:, 0:0], 2, 1)": np.zeros((3, 3)),
        "concat(x[:, 2:2] * 2, exp(x))": np.exp(x),
        "sum(x[:, 2:2], axis = 1)": np.zeros(3),
        "x[:, 4:4] @ zeros(0, 2)": np.zeros((3, 2)),
        "concat(x[:, 0:0], x[:, 1:1])": np.zeros((3, 0)),
    }
    for text, values in expected.items():
        for target in ("native", "reference"):
            found = dlc.function(f"fn f(x: [batch, n]) = {text}", "f", target=target)
            np.testing.assert_allclose(found(x), values, rtol=1e-6)
            if values.size:
                assert found.gradient(x)[0].shape == x.shape


@pytest.mark.parametrize("command", ["plan", "show", "bench", "lr"])
def test_a_command_on_texts_names_that_of_a_run(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "run"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: run is a run, and this command takes a model file")
    assert f"name a model file: {Path('run/source/model.dl')}" in said
