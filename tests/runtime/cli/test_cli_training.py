"""`dlc train`, `eval` and `predict` from the command line, over a small model in NumPy."""

from __future__ import annotations

import errno
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_driver

from compiler.driver import Results
from compiler.interface import Steps
from compiler.programs.kinds import TRAINING
from runtime.cli.main import main
from runtime.runs.directory import open_run
from runtime.support import regular_files


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    small_driver.install(monkeypatch)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def model(tmp_path: Path) -> str:
    x, label = small_driver.rows_of(60)
    rows = [",".join([*(f"{v:.5f}" for v in row), str(word)]) for row, word in zip(x, label, strict=True)]
    Path("rows.csv").write_text("a,b,c,kind\n" + "\n".join(rows) + "\n")
    Path("model.dl").write_text('data = "rows.csv"\nvalidation = 0.2\ntest = 0.2\nepochs = 4\n')
    return "model.dl"


@pytest.fixture
def run(model: str) -> str:
    assert main(["train", model, "--out", "run", "--json"]) == 0
    return "run"


class Output:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.out, self.err = capsys.readouterr()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


def test_events_as_json_lines(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", model, "--json", "--epochs", "3", "--set", "optimizer.lr=0.2"]) == 0
    output = Output(capsys)
    start, *epochs, end = output.lines
    assert start["event"] == "start"
    assert start["rows"] == {"train": 36, "validation": 12, "test": 12}
    assert start["settings"]["optimizer.lr"] == {"value": 0.2, "from": "command line"}
    assert [(e["event"], e["epoch"], e["step"]) for e in epochs] == [("epoch", n, 9 * n) for n in (1, 2, 3)]
    assert {"loss", "accuracy", "val_loss", "val_accuracy", "seconds", "samples_per_second", "best"} <= set(epochs[0])
    assert end["event"] == "end"
    assert {"test_loss", "test_accuracy", "seconds", "best_epoch"} <= set(end)
    assert Path(str(end["run"])).is_dir()
    assert f"next: dlc eval {end['run']}" in output.err


def test_text_goes_to_standard_error(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", model, "--out", "run"]) == 0
    output = Output(capsys)
    assert output.out == ""
    assert "36 to train, 12 to validate, 12 to test" in output.err
    assert "optimizer.lr" in output.err
    assert "epoch 4/4" in output.err
    assert "test: loss" in output.err
    assert "saved in run" in output.err


def test_run_directory_says_how_it_was_made(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    directory = open_run(Path(run))
    settings: Any = directory.read_json("settings.json")
    assert settings["settings"]["epochs"] == {"value": 4, "from": "train"}
    assert directory.program.read_text() == Path("model.dl").read_text()
    assert [record["epoch"] for record in directory.read_metrics()] == [1, 2, 3, 4]
    data: Any = directory.read_json("data.json")
    assert data["rows"] == {"train": 36, "validation": 12, "test": 12}
    environment: Any = directory.read_json("environment.json")
    assert environment["threads"] >= 1


def test_data_of_the_command_line_is_a_setting_of_the_run(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("rows.csv").rename("moved.csv")
    assert main(["train", model, "--data", "moved.csv", "--out", "run", "--json"]) == 0
    assert Output(capsys).lines[0]["settings"]["data"] == {"value": "moved.csv", "from": "command line"}
    assert main(["train", "--resume", "run", "--epochs", "5", "--json"]) == 0
    assert Output(capsys).lines[0]["settings"]["data"]["value"] == str(tmp_path / "moved.csv")
    assert main(["eval", "run"]) == 0


def test_dry_run_writes_nothing(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", model, "--dry-run"]) == 0
    assert "nothing was trained" in Output(capsys).err
    assert not Path("runs").exists()


def last_weights(run: str) -> dict[str, bytes]:
    from runtime.runs.checkpoint import newest_checkpoint

    checkpoint = newest_checkpoint(Path(run) / "checkpoints").checkpoint
    return {name: values.tobytes() for name, values in {**checkpoint.weights, **checkpoint.optimizer}.items()}


@pytest.mark.parametrize("stop_at", [1, 13])
def test_interrupted_and_resumed_is_as_if_uninterrupted(
    stop_at: int, model: str, run: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    capsys.readouterr()
    whole = open_run(Path(run)).read_metrics()

    class Interrupted(small_driver.SmallExecutable):
        def run(self, steps: Steps) -> Results:
            if steps.first_step <= stop_at < steps.first_step + -(-len(steps.rows) // steps.batch):
                os.kill(os.getpid(), signal.SIGINT)
            return super().run(steps)

    with monkeypatch.context() as patch:
        patch.setitem(small_driver.EXECUTABLES, TRAINING, Interrupted)
        assert main(["train", model, "--out", "halved"]) == 130
    assert "resume: dlc train --resume halved" in Output(capsys).err
    assert main(["train", "--resume", "halved", "--json"]) == 0
    assert Output(capsys).lines[0]["step"] > stop_at
    assert last_weights("halved") == last_weights(run)
    timing = {"seconds", "samples_per_second"}
    resumed = open_run(Path("halved")).read_metrics()
    assert [{k: v for k, v in r.items() if k not in timing} for r in resumed] == [
        {k: v for k, v in r.items() if k not in timing} for r in whole
    ]


def test_resume_for_more_epochs(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["train", "--resume", run, "--epochs", "6", "--json"]) == 0
    assert [line["epoch"] for line in Output(capsys).lines if line["event"] == "epoch"] == [5, 6]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch", "8"], "a run cannot change its `batch`"),
        (["--seed", "8"], "a run cannot change its `seed`"),
        (["--data", "other.csv"], "--data does not go with --resume"),
        (["--out", "other"], "--out does not go with --resume"),
        (["--overfit", "3"], "--resume does not go with --overfit"),
        (["--target", "reference"], "a run cannot change its target"),
        (["--dtype", "f64"], "a run cannot change its element type, f32"),
    ],
)
def test_what_a_resumed_run_cannot_change(
    arguments: list[str], message: str, run: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--resume", run, *arguments]) == 2
    output = Output(capsys)
    assert message in output.err
    assert "hint: " in output.err


def test_resume_refuses_changed_text_and_changed_data(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("model.dl").write_text(Path("model.dl").read_text() + "optimizer.lr = 0.5\n")
    assert main(["train", "model.dl", "--resume", run]) == 2
    assert "model.dl has changed since the run began" in Output(capsys).err
    Path("rows.csv").write_text(Path("rows.csv").read_text() + "1,1,1,0\n")
    assert main(["train", "--resume", run]) == 1
    assert "the data has changed since the run began" in Output(capsys).err


def test_init_from_a_run(model: str, run: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["train", model, "--init-from", run, "--json", "--epochs", "1"]) == 0
    output = Output(capsys)
    assert "2 of 2 tensors start from run" in output.err
    assert output.lines[0]["settings"]["init_from"] == {"value": run, "from": "command line"}
    first_of_run: Any = open_run(Path(run)).read_metrics()[0]
    assert output.lines[1]["loss"] < first_of_run["loss"]


def test_eval_repeats_the_test_metrics_of_the_training(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", model, "--out", "run", "--json"]) == 0
    end = Output(capsys).lines[-1]
    assert main(["eval", "run", "--json"]) == 0
    result = json.loads(Output(capsys).out)
    assert result == {
        "model": "Small",
        "data": "the test part",
        "rows": 12,
        "loss": end["test_loss"],
        "accuracy": end["test_accuracy"],
    }
    weights = max(Path("run/checkpoints").glob("*-best")) / "weights.safetensors"
    assert main(["eval", model, "--weights", str(weights), "--part", "test", "--json"]) == 0
    assert json.loads(Output(capsys).out) == result


def test_eval_takes_the_last_weights_where_none_are_restored(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Path(model).open("a") as file:
        file.write("patience = 2\nrestore = 0\noptimizer.lr = 2.0\nepochs = 200\n")
    assert main(["train", model, "--out", "run", "--json"]) == 0
    *_, last, end = Output(capsys).lines
    assert end["best_epoch"] != last["epoch"]
    assert main(["eval", "run", "--part", "validation", "--json"]) == 0
    assert json.loads(Output(capsys).out)["loss"] == last["val_loss"]


def test_eval_on_other_data(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("other.csv").write_text("a,b,c,kind\n5,-5,1,1\n-5,5,-1,0\n")
    capsys.readouterr()
    assert main(["eval", run, "--data", "other.csv"]) == 0
    output = Output(capsys)
    assert "accuracy  1.0000" in output.out
    assert "2 rows" in output.err


def test_predict_gives_a_line_for_each_row(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("new.csv").write_text("a,b,c\n5,-5,1\n-5,5,-1\n9,0,0\n")
    capsys.readouterr()
    assert main(["predict", run, "--input", "new.csv"]) == 0
    lines = Output(capsys).lines
    assert [line["label"] for line in lines] == [1, 0, 1]
    assert all(len(line["logits"]) == 2 for line in lines)


def test_predict_to_npz_and_jsonl(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("new.npz", x=small_driver.rows_of(9)[0])
    assert main(["predict", run, "--input", "new.npz", "--output", "out.npz"]) == 0
    with np.load("out.npz") as arrays:
        assert arrays["logits"].shape == (9, 2)
        assert np.array_equal(arrays["label"], arrays["logits"].argmax(axis=1))
        logits = arrays["logits"]
    assert main(["predict", run, "--input", "new.npz", "--output", "out.jsonl"]) == 0
    read = [json.loads(line)["logits"] for line in Path("out.jsonl").read_text().splitlines()]
    assert np.array_equal(np.array(read, np.float32), logits)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train"], 2, "FILE is missing"),
        (["train", "modle.dl"], 2, "hint: did you mean `model.dl`?"),
        (["train", "model.dl", "--epochs", "0"], 2, "--epochs: wants a whole number of at least 1"),
        (["train", "model.dl", "--batch", "al"], 2, "--batch: wants a whole number of at least 1, or `all`, not `al`"),
        (["train", "model.dl", "--epoch", "3"], 2, "hint: did you mean `--epochs`?"),
        (["train", "model.dl", "--set", "lr"], 2, "wants key=value"),
        (["train", "model.dl", "--set", "learning=1"], 2, "no setting `learning`"),
        (["train", "model.dl", "--data", "absent.csv"], 1, "no such file"),
        (["train", "model.dl", "--resume", "nowhere"], 1, "no such run"),
        (["eval", "model.dl"], 2, "give --weights"),
        (["eval", "nowhere"], 1, "no such run"),
        (["eval", "nowhere", "--experiment", "A"], 2, "--experiment goes with a model file"),
        (["eval", "model.dl", "--weights", "w", "--last"], 2, "--last goes with a run"),
        (["eval", "nowhere", "--weights", "w"], 2, "--weights goes with a model file"),
        (["predict", "model.dl"], 2, "--input is missing"),
        (["predict", "model.dl", "--weights", "w", "--input", "rows.csv", "--output", "x.xls"], 2, "ends in .npz"),
        (
            ["predict", "model.dl", "--weights", "rows.csv", "--input", "rows.csv"],
            1,
            "this is a text, and no safetensors file",
        ),
    ],
)
def test_misuse(arguments: list[str], code: int, message: str, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == code
    output = Output(capsys)
    assert "error: " in output.err
    assert message in output.err
    assert "Traceback" not in output.err
    assert output.out == ""


def test_spoilt_weights_are_not_saved(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", model, "--out", "run", "--set", "optimizer.lr=1.0e38", "--epochs", "9"]) == 1
    error = Output(capsys).err
    assert "became NaN or infinite at step" in error
    assert "hint: lower the rate" in error


def _let_fail(patch: pytest.MonkeyPatch, code: int, *names: str) -> None:
    """A disk where writing to files of these names fails."""
    opened_before, appended_before = Path.open, regular_files.appended

    def opened(path: Path, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        if path.name in names and mode != "r":
            raise OSError(code, os.strerror(code), str(path))
        return opened_before(path, mode, *arguments, **named)

    def appended(path: Path) -> Any:
        if path.name in names:
            raise OSError(code, os.strerror(code), str(path))
        return appended_before(path)

    patch.setattr(Path, "open", opened)
    patch.setattr(regular_files, "appended", appended)


@pytest.mark.parametrize(
    ("file", "what"),
    [
        ("weights.safetensors", "the checkpoint of step 9 cannot be written: the disk is full"),
        ("metrics.jsonl", "run/metrics.jsonl: the disk is full"),
    ],
)
def test_a_disk_that_fills_up_while_training(
    file: str, what: str, model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        _let_fail(patch, errno.ENOSPC, file)
        assert main(["train", model, "--out", "run"]) == 1
    errors = Output(capsys).err
    assert what in errors
    assert "hint: free some space" in errors
    assert "fault of dlc" not in errors
    with open_run(Path("run"), for_writing=True) as run:
        assert run.notes == (), "the run was closed all the same"


_WRITTEN_FIRST = ("run.json", "lock", "m.dl", "settings.json", "data.json", "events.log", "metrics.jsonl", "weights")


@pytest.mark.parametrize("file", _WRITTEN_FIRST)
def test_a_disk_that_was_full_stands_in_the_way_of_no_retry(
    file: str, model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("m.dl").write_text(Path(model).read_text())
    names = (file, f".{file}.{os.getpid()}.writing", f"{file}.safetensors")
    with monkeypatch.context() as patch:
        _let_fail(patch, errno.ENOSPC, *names)
        assert main(["train", "m.dl", "--out", "run"]) == 1
    assert "the disk is full" in Output(capsys).err
    assert main(["train", "m.dl", "--out", "run"]) == 0
    assert main(["train", "m.dl", "--out", "run"]) == 1, "what is finished stays"
    assert "the folder holds a run" in Output(capsys).err


@pytest.mark.parametrize(
    ("code", "what", "fix"),
    [
        (errno.EROFS, "the file system is read-only", "choose another place"),
        (errno.EACCES, "no permission", "check the permissions"),
    ],
)
@pytest.mark.parametrize(
    ("command", "place"),
    [
        (["train", "model.dl"], "runs"),
        (["train", "model.dl", "--out", "other"], "other"),
        (["sweep", "model.dl", "--set", "optimizer.lr=0.1..1.0", "--out", "other"], "other"),
        (["new", "other"], "other"),
    ],
)
def test_a_folder_that_cannot_be_written(
    code: int,
    what: str,
    fix: str,
    command: list[str],
    place: str,
    model: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refused(path: Path, *arguments: Any, **named: Any) -> None:
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(Path, "mkdir", refused)
    assert main(command) == 1
    errors = Output(capsys).err
    assert f"error: {place}: {what}" in errors
    assert f"hint: {fix}" in errors


def test_data_that_goes_away_in_the_middle_of_an_epoch(model: str, run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it is in memory by then."""

    class Removing(small_driver.SmallExecutable):
        def run(self, steps: Steps) -> Results:
            Path("rows.csv").unlink(missing_ok=True)
            return super().run(steps)

    monkeypatch.setitem(small_driver.EXECUTABLES, TRAINING, Removing)
    assert main(["train", model, "--out", "other"]) == 0
    assert not Path("rows.csv").exists()
    assert last_weights("other") == last_weights(run)
