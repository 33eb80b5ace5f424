"""`dlc runs`: what it lists, how it compares, and that it removes only what it may."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import small_driver

from runtime.cli.main import main
from runtime.runs.directory import create_run, open_run
from runtime.runs.listing import prunable, runs_below, summary_of


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    small_driver.install(monkeypatch)
    monkeypatch.chdir(tmp_path)
    x, label = small_driver.rows_of(40)
    rows = [",".join([*(f"{v:.5f}" for v in row), str(word)]) for row, word in zip(x, label, strict=True)]
    Path("rows.csv").write_text("a,b,c,kind\n" + "\n".join(rows) + "\n")
    Path("model.dl").write_text('data = "rows.csv"\nvalidation = 0.2\ntest = 0.2\nepochs = 2\n')


@pytest.fixture
def runs(capsys: pytest.CaptureFixture[str]) -> Path:
    """Two finished runs, and one that ended before its first checkpoint."""
    assert main(["train", "model.dl", "--out", "runs/a", "--json"]) == 0
    assert main(["train", "model.dl", "--out", "runs/b", "--json", "--set", "optimizer.lr=0.5", "--epochs", "3"]) == 0
    create_run("Small", Path("runs/c"), ()).close()
    capsys.readouterr()
    return Path("runs")


def test_a_list_says_how_each_run_ended(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "--json"]) == 0
    listed = {run["run"]: run for run in json.loads(capsys.readouterr().out)}
    assert {name: run["state"] for name, run in listed.items()} == {
        "runs/a": "finished",
        "runs/b": "finished",
        "runs/c": "broken off",
    }
    best = listed["runs/b"]
    assert (best["epochs"], best["step"]) == (3, 18)
    line = open_run(runs / "b").read_metrics()[best["best_epoch"] - 1]
    assert best["val_loss"] == line["val_loss"]
    assert best["test_accuracy"] > 0.5
    assert listed["runs/c"]["best_epoch"] is None
    assert main(["runs", "runs"]) == 0
    text = capsys.readouterr().out
    assert "runs/a" in text
    assert "broken off" in text


def test_a_run_in_use_is_in_training_and_never_removed(runs: Path) -> None:
    with open_run(runs / "c", for_writing=True):
        assert summary_of(runs / "c").state == "training"
        assert prunable(runs_below(runs), keep=1) == [summary_of(runs / "a")]
    assert summary_of(runs / "c").state == "broken off"


def test_an_interrupted_run_that_goes_on_says_so_only_once(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*arguments: object) -> None:
        raise RuntimeError("killed")

    monkeypatch.setattr("runtime.cli.train.run_training", killed)
    assert main(["train", "--resume", "runs/a", "--epochs", "9"]) == 1
    assert summary_of(runs / "a").state == "broken off"


def test_a_comparison_shows_what_differs(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "--diff", "a", "runs/b", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["settings"] == {"epochs": [2, 3], "optimizer.lr": [0.1, 0.5]}
    assert found["metrics"]["epochs"] == [2, 3]
    assert found["other"] == []
    source = next((runs / "b" / "source").glob("*.dl"))
    source.write_text("seed = 3\n")
    assert main(["runs", "--diff", "a", "b"]) == 0
    text = capsys.readouterr().out
    assert "the program differs" in text
    assert "optimizer.lr" in text
    assert main(["runs", "--diff", "a", "a"]) == 0
    assert "settings: the same\nmetrics: the same\n" in capsys.readouterr().out


def test_pruning_says_what_it_removes(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "--prune", "--keep", "1", "--dry-run"]) == 0
    output = capsys.readouterr()
    assert output.out.split() == ["runs/a", "runs/c"]
    assert "2 of 3 runs would be removed" in output.err
    assert len(runs_below(runs)) == 3
    assert main(["runs", "--prune"]) == 0
    assert capsys.readouterr().out.split() == ["runs/c"]
    assert main(["runs", "--prune", "--keep", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"removed": ["runs/a"], "dry_run": False}
    assert [path.name for path in runs.iterdir()] == ["b"]


def test_runs_of_a_sweep_are_listed_and_half_removed_ones_are_not(runs: Path) -> None:
    shutil.move(runs / "a", runs / "sweep" / "trial-1")
    shutil.move(runs / "c", runs / ".removing-c")
    assert {run.path for run in runs_below(runs)} == {runs / "sweep" / "trial-1", runs / "b"}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["runs", "rnus"], 2, "hint: did you mean runs?"),
        (["runs", "--diff", "runs/a", "runs/bb"], 1, "hint: did you mean runs/b?"),
        (["runs", "--keep", "3"], 2, "--keep goes with --prune"),
        (["runs", "--dry-run"], 2, "--dry-run goes with --prune"),
        (["runs", "--prune", "--diff", "a", "b"], 2, "--diff does not go with --prune"),
        (["runs", "--prune", "--kep", "3"], 2, "hint: did you mean `--keep`?"),
    ],
)
def test_mistakes_have_a_hint(
    runs: Path, arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == code
    assert message in capsys.readouterr().err


def test_a_damaged_run_hides_no_other(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "b" / "run.json").write_text('{"version"')
    assert main(["runs", "--json"]) == 0
    listed = {run["run"]: run["model"] for run in json.loads(capsys.readouterr().out)}
    assert listed == {"runs/a": "Small", "runs/b": "?", "runs/c": "Small"}


def test_damaged_files_leave_gaps(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "a" / "metrics.jsonl").write_text("{}\nx\n{}\n")
    (runs / "a" / "result.json").write_text("{")
    (runs / "a" / "settings.json").unlink()
    found = summary_of(runs / "a")
    assert (found.state, found.epochs, found.checkpoints) == ("broken off", 0, 2)
    assert main(["runs", "--diff", "a", "b"]) == 0
    assert "optimizer.lr" in capsys.readouterr().out


def test_settings_that_json_cannot_hold_are_words(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = open_run(runs / "a")
    saved = json.loads((run.path / "settings.json").read_text())
    saved["settings"]["limit"] = {"value": float("inf"), "from": "train"}
    run.write_json("settings.json", saved)
    assert main(["runs", "--diff", "a", "b", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["settings"]["limit"] == ["inf", None]
