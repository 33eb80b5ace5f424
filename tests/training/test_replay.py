"""`dlc replay`: tensors of past steps have the bits that they had."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from runtime.cli.main import main
from runtime.runs.checkpoint import checkpoints_in, read_checkpoint

TEXT = """model M {
    input x: f32[batch, 5]
    h = x |> dense(7) |> tanh |> dropout(0.1)
    output y = h |> dense(1)
}
train M {
    data = npz("data.npz")
    target t: f32[batch, 1]
    validation = 0.2
    loss = mse(y, t)
    optimizer = adam(lr = 0.02)
    schedule = cosine(T = total_steps)
    plateau = reduce(0.5, patience = 1)
    ema = 0.9
    epochs = 6
    batch = 8
    keep = 100
}
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code_cache: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLC_CACHE_DIR", str(code_cache))
    random = np.random.default_rng(0)
    x = random.normal(size=(60, 5)).astype(np.float32)
    np.savez("data.npz", x=x, t=np.sin(x.sum(axis=1, keepdims=True)))
    Path("model.dl").write_text(TEXT)
    assert main(["train", "model.dl", "--out", "run", "--threads", "1"]) == 0
    return Path("run")


def replayed(run: Path, step: int, *paths: str) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    shown = [word for path in paths for word in ("--show", path)]
    assert main(["replay", str(run), "--step", str(step), *shown, "--out", "found.npz", "--threads", "1"]) == 0
    with np.load("found.npz") as file:
        return dict(file)


def test_tensors_have_the_bits_of_the_checkpoints(run: Path) -> None:
    """From the start, over validations that lower the rate, and from the checkpoints themselves."""
    kept = {read_checkpoint(path).position.step: read_checkpoint(path) for path in checkpoints_in(run / "checkpoints")}
    last = max(kept)
    names = [name for name in kept[last].optimizer if not name.endswith("(average)")]
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    for path in checkpoints_in(run / "checkpoints")[:-1]:  # what is left must be made again
        path.rename(path.with_name("." + path.name))
    from_one = replayed(run, last, *names)
    for path in (run / "checkpoints").glob(".*"):
        path.rename(path.with_name(path.name[1:]))
    (run / "checkpoints").rename("elsewhere")
    (run / "checkpoints").mkdir()
    from_nothing = replayed(run, last, *names)
    assert all(np.array_equal(from_nothing[name], kept[last].optimizer[name]) for name in names)
    assert all(np.array_equal(from_one[name], from_nothing[name]) for name in names)
    assert before


def test_a_run_that_started_from_other_weights_does_so_again(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its text counts their path from another folder, and may name others than the command line did."""
    assert main(["train", "model.dl", "--out", "other", "--seed", "3", "--epochs", "1", "--threads", "1"]) == 0
    Path("second.dl").write_text(TEXT.replace("    keep = 100\n", '    init_from = "run"\n'))
    for out, arguments in (("of_text", []), ("of_command", ["--init-from", "other"])):
        assert main(["train", "second.dl", "--out", out, "--threads", "1", *arguments]) == 0
        source = json.loads(Path(out, "init_from.json").read_text())["source"]
        saved = read_checkpoint(Path(source)).weights["h.dense.W"]
        assert Path(source).is_relative_to(Path.cwd() / ("other" if arguments else "run"))
        assert np.array_equal(replayed(Path(out), 0, "h.dense.W")["h.dense.W"], saved)
    (Path(source) / "weights.safetensors").write_bytes(b"")
    assert main(["replay", "of_command", "--step", "0"]) == 1
    assert "the run started from these weights, which are gone or have changed" in capsys.readouterr().err
    assert main(["replay", "of_text", "--step", "0"]) == 0


def test_gradients_layers_lines_and_results(run: Path) -> None:
    found = replayed(run, 9, "loss", "h.dense.W", "h.dense.W:gradient", "h.dense", "model.dl:4", "lr")
    assert found["h.dense.W:gradient"].shape == found["h.dense.W"].shape == (5, 7)
    assert np.isfinite(found["loss"])
    layer = next(array for name, array in found.items() if name.startswith("h.dense") and array.shape == (8, 7))
    assert layer.dtype == np.float32
    again = replayed(run, 9, "h.dense.W:gradient")
    assert np.array_equal(again["h.dense.W:gradient"], found["h.dense.W:gradient"])
    # the first moment of adam moves by a tenth of the gradient
    states = replayed(run, 9, "h.dense.W:m"), replayed(run, 10, "h.dense.W:m")
    moved = (states[1]["h.dense.W:m"] - 0.9 * states[0]["h.dense.W:m"]) / 0.1
    np.testing.assert_allclose(moved, found["h.dense.W:gradient"], rtol=1e-3, atol=1e-6)


def test_an_output_a_layer_and_a_line_are_one_value_each(run: Path) -> None:
    """Not what gradients keep of them: masks, slopes, and what a layer computes on its way."""
    found = replayed(run, 9, "y", "h.dense", "model.dl:3", "model.dl:4")
    assert {name: array.shape for name, array in found.items()} == {
        "y": (8, 1),
        "h.dense": (8, 7),
        "model.dl:3": (8, 7),
        "model.dl:4": (8, 1),
    }
    assert np.array_equal(found["y"], found["model.dl:4"])
    assert not np.array_equal(found["h.dense"], found["model.dl:3"])  # before tanh and dropout, and after


def test_a_layer_lists_no_constants(run: Path) -> None:
    """`batch_norm` divides by the number of rows, and `dropout` and `relu` share their zeros."""
    Path("model.dl").write_text(TEXT.replace("|> tanh |> dropout(0.1)", "|> batch_norm |> dropout(0.1) |> relu"))
    assert main(["train", "model.dl", "--out", "other", "--epochs", "1", "--threads", "1"]) == 0
    for path in ("h.batch_norm", "h.dropout", "h", "model.dl:3"):
        found = replayed(Path("other"), 2, path)
        assert [array.shape for array in found.values()] == [(8, 7)], path


def test_as_json_and_mistakes(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["replay", "run", "--step", "7", "--show", "h.dense.W", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["step"], found["epoch"]) == (7, 2)
    assert found["tensors"]["h.dense.W"]["shape"] == [5, 7]
    for arguments, message in (
        (("--step", "999"), "the run has no step 999"),
        (("--step", "3", "--show", "h.dens"), "did you mean h.dense"),
        (("--step", "3", "--show", "h.dense.V:gradient"), "there is no trained parameter"),
        (("--step", "3", "--show", "nothing"), "there is h.dense.W, h.dense.b, y.dense.W"),
        (("--step", "3", "--show", "model.dl:1"), "nothing is computed in line 1"),
        (("--step", "36"), "so no step follows"),
        (("--step", "3", "--out", "found.txt"), "give a name that ends in .npz"),
    ):
        assert main(["replay", "run", *arguments]) == 2
        assert message in capsys.readouterr().err
    assert main(["replay", "run", "--step", "3", "--out", "nowhere/found.npz"]) == 2
    assert "nowhere/found.npz: there is no folder nowhere" in capsys.readouterr().err


def test_results_of_steps_that_accumulate(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    del run
    Path("model.dl").write_text(TEXT.replace("    batch = 8\n", "    batch = 4\n    accumulate = 2\n"))
    assert main(["train", "model.dl", "--out", "several", "--threads", "1"]) == 0
    lines = map(json.loads, Path("several/metrics.jsonl").read_text().splitlines())
    first = next(line for line in lines if line.get("epoch") == 1)
    losses = [float(replayed(Path("several"), step, "loss")["loss"]) for step in range(6)]
    assert np.mean(losses) == pytest.approx(first["loss"], rel=1e-6)
    capsys.readouterr()
    assert main(["replay", "several", "--step", "1", "--show", "h.dense.W:gradient"]) == 2
    assert "none of them shows `h.dense.W:gradient`" in capsys.readouterr().err
