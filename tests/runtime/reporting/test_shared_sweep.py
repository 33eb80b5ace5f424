"""`dlc sweep` with several workers: the same trials for any number, trials of dead workers, pruning, joining."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from killing import write_project

from runtime.cli.main import main

pytest.importorskip("optuna")
SPACE = ("--set", "optimizer.lr=1e-3..1e-1:log", "--set", "batch=[8,16]")


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_project(tmp_path, epochs=2)
    monkeypatch.chdir(tmp_path)


def sweep(*arguments: str) -> int:
    return main(["sweep", *arguments])


def result(folder: str) -> dict[str, Any]:
    return json.loads(Path(folder, "sweep.json").read_text())


def values(folder: str) -> set[tuple[object, ...]]:
    return {(trial["value"], *sorted(trial["settings"].items())) for trial in result(folder)["trials"]}


def test_any_number_of_workers_makes_the_trials_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep("model.dl", *SPACE, "--trials", "5", "--workers", "2", "--out", "two", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told == result("two")
    assert sweep("model.dl", *SPACE, "--trials", "5", "--workers", "1", "--out", "one") == 0
    assert sweep("model.dl", *SPACE, "--trials", "5", "--out", "plain") == 0
    assert values("two") == values("one") == values("plain")
    assert [trial["trial"] for trial in told["trials"]] == [1, 2, 3, 4, 5]
    best = min(told["trials"], key=lambda trial: trial["value"])
    assert told["best"] == best["trial"]
    assert all(Path(trial["run"], "result.json").exists() for trial in told["trials"])
    capsys.readouterr()
    assert sweep("--join", "two") == 0  # nothing is left
    assert capsys.readouterr().err.count("trial ") == 5


def test_workers_compute_as_the_command_says(capsys: pytest.CaptureFixture[str]) -> None:
    search = ("model.dl", *SPACE, "--trials", "2", "--dtype", "f64", "--target", "reference", "--no-fuse")
    assert sweep(*search, "--workers", "2", "--out", "two") == 0
    assert capsys.readouterr().err.replace("\\\n ", "").count("--dtype f64 --target reference") == 1
    assert sweep(*search, "--out", "plain") == 0
    assert values("two") == values("plain")
    for trial in result("two")["trials"]:
        settings = json.loads(Path(trial["run"], "settings.json").read_text())["choices"]
        assert (settings["dtype"], settings["target"]) == ("f64", "reference")
    assert sweep("--join", "two") == 0
    assert sweep(*search[:5], "--trials", "1", "--workers", "1", "--out", "one") == 0
    capsys.readouterr()
    assert sweep("--join", "one", "--dtype", "f64") == 2
    assert "the search computes in f32" in capsys.readouterr().err


def test_a_worker_that_is_killed_gives_its_trial_back() -> None:
    write_project(Path(), epochs=20_000)
    command = [sys.executable, "-m", "runtime.cli", "sweep"]
    begin = [*command, "model.dl", *SPACE, "--trials", "2", "--pruner", "median", "--out", "study"]
    worker = subprocess.Popen(begin, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not Path("study/trial-001/metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    plan = json.loads(Path("study/study.json").read_text())
    Path("study/study.json").write_text(json.dumps({**plan, "epochs": 2}))
    assert sweep("--join", "study") == 0
    found = result("study")["trials"]
    assert len(found) == 2
    assert sorted(trial["trial"] for trial in found) == [2, 3]  # the first was made again as the third
    first = json.loads(Path("study/trial-001/settings.json").read_text())["settings"]["optimizer.lr"]["value"]
    again = next(trial for trial in found if trial["trial"] == 3)
    assert float(again["settings"]["optimizer.lr"]) == first
    assert os.listdir("study/workers") == [f"{socket.gethostname()}-{worker.pid}"]


def test_hopeless_trials_are_pruned_and_can_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    write_project(Path(), epochs=12)
    rates = "optimizer.lr=[0.05, 0.04, 0.03, 0.06, 0.07, 1e-9, 2e-9, 3e-9]"
    options = ("--pruner", "median", "--trials", "8", "--seed", "1")
    assert sweep("model.dl", "--set", rates, *options, "--out", "study") == 0
    found = result("study")["trials"]
    pruned = [trial for trial in found if trial.get("pruned")]
    assert pruned
    assert any(float(trial["settings"]["optimizer.lr"]) < 1e-8 for trial in pruned)
    assert all(trial["trial"] > 5 for trial in pruned)  # the first five are what others are compared with
    assert "pruned" in capsys.readouterr().err
    run = pruned[0]["run"]
    epochs = len(Path(run, "metrics.jsonl").read_text().splitlines())
    assert epochs < 12
    assert main(["train", "--resume", run]) == 0
    assert len(Path(run, "metrics.jsonl").read_text().splitlines()) == 12


def test_hyperband_gives_the_epochs_to_trials_that_deserve_them() -> None:
    """Trials fall into brackets, of which all but the last end some after 1 or 3 epochs."""
    write_project(Path(), epochs=9)
    rates = "optimizer.lr=[0.05, 0.04, 0.03, 1e-9, 2e-9, 3e-9, 0.06, 4e-9, 0.07, 5e-9]"
    assert sweep("model.dl", "--set", rates, "--pruner", "hyperband", "--trials", "10", "--out", "study") == 0
    found = result("study")["trials"]
    epochs = {t["trial"]: len(Path(t["run"], "metrics.jsonl").read_text().splitlines()) for t in found}
    pruned = [trial for trial in found if trial.get("pruned")]
    assert pruned
    assert {epochs[trial["trial"]] for trial in pruned} <= {1, 3}
    assert all(epochs[trial["trial"]] == 9 for trial in found if trial not in pruned)
    best = next(trial for trial in found if trial["trial"] == result("study")["best"])
    assert float(best["settings"]["optimizer.lr"]) > 0.01


def test_trials_may_lie_in_a_database() -> None:
    """Of SQLite, which two workers write."""
    pytest.importorskip("sqlalchemy")
    url = f"sqlite:///{Path('study.db').absolute()}"
    options = ("--trials", "4", "--workers", "2", "--pruner", "median")
    assert sweep("model.dl", *SPACE, *options, "--storage", url, "--out", "study") == 0
    assert not Path("study/journal.log").exists()
    assert sorted(trial["trial"] for trial in result("study")["trials"]) == [1, 2, 3, 4]
    assert sweep("--join", "study") == 0
    assert sweep("model.dl", *SPACE, *options, "--out", "journal") == 0
    assert values("study") == values("journal")
    journal = Path("journal/journal.log")
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":7,"worker')  # as a full disk leaves it
    assert sweep("--join", "journal") == 0
    assert journal.read_bytes().startswith(whole)
    assert all(json.loads(line) for line in journal.read_bytes().splitlines())
    journal.write_bytes(whole.replace(b":", b"", 1))
    assert sweep("--join", "journal") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--join", "nothing"], "there is no search that others could join"),
        (["--join", "study", "model.dl"], "FILE does not go with --join"),
        (["--join", "study", "--workers", "2"], "--workers does not go with --join"),
        ([], "FILE is missing"),
        (["model.dl", *SPACE, "--workers", "0"], "at least 1"),
        (["model.dl", *SPACE, "--pruner", "medium"], "median"),
        (["model.dl", *SPACE, "--storage", "nonsense", "--out", "new"], "--storage cannot be opened"),
    ],
)
def test_mistakes_are_told(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("study").mkdir()
    assert sweep(*arguments) in (1, 2)
    assert message in capsys.readouterr().err


def test_a_text_that_changed_is_not_joined(capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep("model.dl", *SPACE, "--trials", "1", "--workers", "1", "--out", "study") == 0
    Path("model.dl").write_text(Path("model.dl").read_text() + "\n# another\n")
    assert sweep("--join", "study") == 2
    assert "has changed since the search began" in capsys.readouterr().err
    Path("study/study.json").write_text("[3]")
    assert sweep("--join", "study") == 1
    assert "this is no plan of a search" in capsys.readouterr().err


def test_a_search_whose_trials_all_failed_has_failed(capsys: pytest.CaptureFixture[str]) -> None:
    wild = ("model.dl", "--set", "optimizer.lr=[1e30, 1e31]", "--trials", "2")
    assert sweep(*wild, "--out", "plain") == 1
    assert "every trial failed" in capsys.readouterr().err
    assert sweep(*wild, "--workers", "1", "--out", "study") == 1
    assert sweep("--join", "study") == 1


def test_a_mistake_in_the_settings_is_told_once_and_begins_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep("model.dl", "--set", "optimiser.lr=[1, 2]", "--workers", "2", "--out", "study") == 1
    assert capsys.readouterr().err.count("there is no setting `optimiser.lr`") == 1
    assert not Path("study").exists()
    assert sweep("model.dl", *SPACE, "--metric", "accurcy", "--workers", "2", "--out", "study") == 2
    assert capsys.readouterr().err.count("there is no metric `accurcy`") == 1
    assert not Path("study").exists()


@pytest.mark.parametrize("workers", [("--workers", "2"), ("--pruner", "median"), ()])
def test_no_gpu_is_told_once_before_any_trial(
    workers: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compiler.targets.gpu.driver.LIBRARY", "libno-such-driver.so.1")
    assert sweep("model.dl", *SPACE, "--trials", "3", *workers, "--target", "gpu", "--out", "study") == 2
    told = capsys.readouterr().err
    assert told.count("driver of NVIDIA GPUs") == 1
    assert "trial" not in told
    assert not Path("study").exists()


def test_missing_data_is_told_once_before_any_trial(capsys: pytest.CaptureFixture[str]) -> None:
    Path("rows.csv").unlink()
    assert sweep("model.dl", *SPACE, "--trials", "3", "--workers", "2", "--out", "study") == 1
    assert capsys.readouterr().err.count("there is no such file") == 1
    assert not Path("study").exists()


def test_a_worker_says_which_lock_it_waits_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep("model.dl", *SPACE, "--trials", "1", "--workers", "1", "--out", "one") == 0
    assert "journal.log.lock" not in capsys.readouterr().err
    monkeypatch.setattr("runtime.sweep.study._SECONDS_UNTIL_TOLD", 0.2)
    lock = Path("one", "journal.log.lock")
    lock.touch()
    threading.Timer(1.5, lock.unlink).start()
    assert sweep("--join", "one") == 0
    told = " ".join(capsys.readouterr().err.split())
    assert told.count("one/journal.log.lock, by which another worker keeps the journal to itself") == 1
    assert "if that worker is dead, the lock is taken from it 30 s after it was made; or remove the file" in told
