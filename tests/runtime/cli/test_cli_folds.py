"""`dlc train --folds`, cuts in `train` and balanced classes, with the real compiler."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.cli.main import main
from runtime.runs.checkpoint import newest_checkpoint

MODEL = """model Rings {
    input point: f32[batch, 2]
    output logits = point |> dense(4) |> tanh |> dense(2)
}

train Rings {
    data = csv("points.csv", target = "ring", columns = ["x", "y"], rows = "year < 2020", normalise = "robust")
    validation = stratified(0.25)
    test = where("year == 2019")
    target label: i32[batch] in 0..2
    loss = cross_entropy(logits, label, class_weights = balanced(label))
    metrics = [accuracy(logits, label)]
    optimizer = adam(lr = 0.05)
    epochs = 3
    batch = 8
}
"""


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(1)
    lines = ["x,y,year,patient,ring"]
    for i in range(100):
        inner = i % 4 == 0
        x, y = draw.normal(0, 0.5 if inner else 2.0, 2)
        lines.append(f"{x:.4f},{y:.4f},{2010 + i % 11},p{i // 5},{'inner' if inner else 'outer'}")
    Path("points.csv").write_text("\n".join([*lines, ""]))
    Path("model.dl").write_text(MODEL)


def told(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_settings_say_how_rows_are_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "model.dl", "--out", "run", "--json"]) == 0
    start, *_, end = told(capsys)
    years = [2010 + i % 11 for i in range(100)]
    counts = {"train": sum(y < 2019 for y in years) - round(0.25 * sum(y < 2020 for y in years))}
    assert start["rows"] == {**counts, "validation": round(0.25 * 91), "test": years.count(2019)}
    settings = {name: setting["value"] for name, setting in start["settings"].items()}
    assert settings["data.rows"] == "year < 2020"
    assert settings["data.normalise"] == "robust"
    assert settings["validation"] == "stratified(0.25)"
    assert settings["label.rows_of_class.0"] + settings["label.rows_of_class.1"] == counts["train"]
    saved = json.loads(Path("run/settings.json").read_text())["settings"]
    assert {name: setting["value"] for name, setting in saved.items()} == settings
    assert "test_accuracy" in end
    assert main(["eval", "run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == end["test_accuracy"]


def test_each_fold_is_a_run_and_the_end_has_the_spread_of_each_metric(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "model.dl", "--folds", "3", "--out", "all", "--json"]) == 0
    *events, end = told(capsys)
    assert [event["event"] for event in events] == ["start", *["epoch"] * 3, "end"] * 3
    assert (end["event"], end["folds"], end["run"]) == ("folds", 3, "all")
    for k, run in enumerate(end["runs"]):
        epochs, last = events[5 * k + 1 : 5 * k + 4], events[5 * k + 4]
        best = min(epochs, key=lambda epoch: epoch["val_loss"])
        assert run["fold"] == k + 1
        assert run["run"] == f"all/fold-{k + 1}"
        assert run["epoch"] == best["epoch"] == last["best_epoch"]
        assert run["metrics"] == {
            **{name: best[name] for name in ("val_loss", "val_accuracy")},
            **{name: last[name] for name in ("test_loss", "test_accuracy")},
        }
    for name, spread in end["metrics"].items():
        values = [run["metrics"][name] for run in end["runs"]]
        assert spread["values"] == values
        assert spread["mean"] == pytest.approx(np.mean(values))
        assert spread["deviation"] == pytest.approx(statistics.stdev(values))
    assert json.loads(Path("all/folds.json").read_text())["metrics"] == end["metrics"]
    assert sum(event["rows"]["validation"] for event in events[::5]) == 91 - events[0]["rows"]["test"]


def test_a_fold_is_what_the_text_would_say_and_can_be_resumed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "model.dl", "--folds", "2", "--out", "all"]) == 0
    report = capsys.readouterr().err
    assert "deviations divide by the number of folds - 1" in report
    fold = "--set=validation=stratified(fold(2, of = 2))"
    assert main(["train", "model.dl", fold, "--epochs", "2", "--out", "alone", "--json"]) == 0
    assert main(["train", "--resume", "alone", "--epochs", "3", "--json"]) == 0
    weights = [newest_checkpoint(Path(run) / "checkpoints").checkpoint.weights for run in ("alone", "all/fold-2")]
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--folds", "1"], "--folds: wants a whole number of at least 2"),
        (["--folds", "3", "--watch"], "--watch does not go with --folds"),
        (["--folds", "3", "--set", 'validation=where("year == 2011")'], 'is `where("year == 2011")`'),
        (["--folds", "3", "--set", "validation=latest(0.1)"], "`validation` is `latest(0.1)`"),
        (["--folds", "90"], "90 folds of"),
        (["--set", "validation=stratifed(0.2)"], "did you mean `stratified`?"),
        (["--set", "validation=grouped(0.2)"], "needs the column"),
        (["--set", "validation=fold(4, of = 3)"], "a whole number from 1 to 3"),
        (["--set", "validation=latest(fold(1, of = 3))"], "names one part alone"),
        (["--set", "validation=where(3)"], "is a text in quotes"),
        (["--set", "validation=stratified(0.2, with = 3)"], "`stratified` has no setting `with`"),
        (["--set", "validation=stratified()"], "needs a fraction or a fold"),
        (["--set", "validation=fold(1)"], "needs `of`, the number of folds"),
        (["--set", "oversample=yaer"], "did you mean `year`?"),
        (["--set", "data.rows=year < "], "cannot be read"),
        (["--set", "data.rws=year < 3"], "did you mean `data.rows`?"),
    ],
)
def test_mistakes_are_told(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "model.dl", "--out", "run", *arguments]) in (1, 2)
    assert message in capsys.readouterr().err
    assert not Path("run/fold-1").exists()


def test_balanced_weights_are_those_of_the_rows_to_train_on(capsys: pytest.CaptureFixture[str]) -> None:
    """A loss with the weights written out has the same bits."""
    assert main(["train", "model.dl", "--out", "run", "--json"]) == 0
    start = told(capsys)[0]
    counts = [start["settings"][f"label.rows_of_class.{k}"]["value"] for k in range(2)]
    weights = [sum(counts) / (2 * count) for count in counts]
    Path("written.dl").write_text(MODEL.replace("balanced(label)", str(weights)))
    assert main(["train", "written.dl", "--out", "other", "--json"]) == 0
    first, second = (newest_checkpoint(Path(run) / "checkpoints").checkpoint.weights for run in ("run", "other"))
    assert all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("column", "is_told"), [("ring", True), ("year", False)])
def test_classes_are_made_up_for_once(column: str, is_told: bool, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "model.dl", "--dry-run", "--set", f"oversample={column}"]) == 0
    assert (
        "`oversample` and `balanced(label)` both make rare classes count more" in capsys.readouterr().err
    ) == is_told


@pytest.mark.parametrize(
    ("text", "message"),
    [("balanced(logits)", "takes a target of classes"), ("balanced(3)", "`target` of `balanced` must be a tensor")],
)
def test_balanced_is_for_targets(text: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("model.dl").write_text(MODEL.replace("balanced(label)", text))
    assert main(["check", "model.dl"]) == 1
    assert message in capsys.readouterr().out


def test_without_the_data_nothing_is_said_of_its_classes(capsys: pytest.CaptureFixture[str]) -> None:
    Path("points.csv").unlink()
    assert main(["check", "model.dl"]) in (0, 1)
    output = capsys.readouterr()
    assert "how many rows each class of `label` has" in output.out + output.err
