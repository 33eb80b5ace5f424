"""`dlc sweep`: what is searched, that samplers stay inside it, and that trials share one compiled program."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from killing import write_project

from compiler.errors.diagnostics import UsageError
from compiler.interface import Options
from compiler.targets.registry import kernel_target_of
from runtime.cli import sweep
from runtime.cli.main import main
from runtime.sweep import trials
from runtime.sweep.tpe import TpeSampler
from runtime.sweep.trials import RandomSampler, Sampler, ValueList, ValueRange, space_of
from runtime.train.session import TrainingRequest, TrainingSession


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_project(tmp_path, epochs=2)
    monkeypatch.chdir(tmp_path)


def test_ranges_and_lists_are_searched_and_the_rest_is_fixed() -> None:
    space = space_of(
        [("lr", "1e-4..1e-1:log"), ("rate", "0.0..0.5"), ("layers", "1..4"), ("hidden", "[32, 64]"), ("seed", "3")]
    )
    assert space.dimensions == (
        ValueRange("lr", 1e-4, 1e-1, True, False),
        ValueRange("rate", 0.0, 0.5, False, False),
        ValueRange("layers", 1, 4, False, True),
        ValueList("hidden", ("32", "64")),
    )
    assert space.fixed == (("seed", "3"),)
    nested = space_of([("optimizer", "[adam(lr = 0.1, beta1 = 0.5), momentum(lr = 0.1)]"), ("on", '["a,b", [1, 2]]')])
    assert nested.dimensions == (
        ValueList("optimizer", ("adam(lr = 0.1, beta1 = 0.5)", "momentum(lr = 0.1)")),
        ValueList("on", ('"a,b"', "[1, 2]")),
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([("a", "1")], "nothing to search"),
        ([("a", "2..1")], "the range a=2..1 is empty"),
        ([("a", "1..1e400:log")], "has a number that is too large"),
        ([("a", "0.0..1:log")], "begins at 0.0"),
        ([("a", "[1]")], "offers no choice"),
        ([("a", "[1,2]"), ("a", "3")], "`a` is set twice"),
    ],
)
def test_what_is_no_space(settings: list[tuple[str, str]], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        space_of(settings)
    assert caught.value.fix


SPACE = space_of([("lr", "1e-4..1e-1:log"), ("layers", "1..4"), ("hidden", "[32, 64]")])


@pytest.mark.parametrize("make", [RandomSampler, TpeSampler])
def test_samplers_stay_inside_the_space_and_repeat_by_seed(make: Any) -> None:
    def asked(seed: int) -> list[dict[str, str]]:
        sampler: Sampler = make(SPACE, seed)
        found: list[dict[str, str]] = []
        for number in range(40):
            found.append(dict(sampler.ask()))
            sampler.tell(None if number % 7 == 0 else abs(float(found[-1]["lr"]) - 0.01))
        return found

    trials = asked(1)
    assert all(1e-4 <= float(trial["lr"]) <= 1e-1 for trial in trials)
    assert {trial["layers"] for trial in trials} <= {"1", "2", "3"}
    assert {trial["hidden"] for trial in trials} <= {"32", "64"}
    assert asked(1) == trials
    assert asked(2) != trials


def test_random_draws_cover_a_logarithmic_range_evenly() -> None:
    sampler = RandomSampler(SPACE, 0)
    decades = Counter(len(str(int(1 / float(sampler.ask()["lr"])))) for _ in range(600))
    assert min(decades[n] for n in (2, 3, 4)) > 150


def test_whole_numbers_on_both_sides_of_zero_are_equally_likely() -> None:
    sampler = RandomSampler(space_of([("n", "-2..2")]), 0)
    counts = Counter(sampler.ask()["n"] for _ in range(600))
    assert set(counts) == {"-2", "-1", "0", "1"}
    assert min(counts.values()) > 110


def test_the_estimator_looks_where_good_trials_were() -> None:
    space = space_of([("x", "0.0..1.0")])
    sampler = TpeSampler(space, 0)
    found: list[float] = []
    for _ in range(60):
        found.append(float(sampler.ask()["x"]))
        sampler.tell((found[-1] - 0.3) ** 2)
    late = found[30:]
    assert sum(abs(x - 0.3) < 0.1 for x in late) > 0.5 * len(late)


def test_trials_of_one_shape_share_one_compiled_program(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rates and other settings of run time compile nothing; two widths are two programs."""
    target = type(kernel_target_of(Options()))
    lower = target.lower
    compiled: list[Any] = []

    def counted(*arguments: Any, **options: Any) -> Any:
        compiled.append(arguments)
        return lower(*arguments, **options)

    monkeypatch.setattr(target, "lower", counted)
    cache = ["--cache-dir", str(tmp_path / "cache")]
    assert main(["train", "model.dl", "--out", "first", "--json", *cache]) == 0
    programs = len(compiled)
    assert programs == 4, "initialisation, training, evaluation, and what finishes metrics"
    searched = ["--set", "optimizer.lr=1e-3..1e-1:log", "--set", "optimizer.beta1=0.5..0.95"]
    assert main(["sweep", "model.dl", *searched, "--trials", "4", "--out", "rates", *cache]) == 0
    assert len(compiled) == programs
    assert "compiled" not in capsys.readouterr().err
    widths = ["--set", "hidden=[8,12]", "--set", "optimizer.lr=[0.1,0.2,0.3]", "--trials", "6", "--out", "widths"]
    assert main(["sweep", "model.dl", *widths, "--json", *cache]) == 0
    assert len(compiled) == 3 * programs
    output = capsys.readouterr()
    told = [trial["compiled"] for trial in json.loads(output.out)["trials"]]
    assert sorted(told) == [0, 0, 0, 0, programs, programs]
    assert output.err.count("  4 programs compiled\n") == 2


def test_shares_of_an_average_share_one_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--trials", "3", "--epochs", "1", "--out", "sweep", "--json", "--cache-dir", str(tmp_path / "cache")]
    assert main(["sweep", "model.dl", "--set", "ema=0.5..0.9", *arguments]) == 0
    trials = json.loads(capsys.readouterr().out)["trials"]
    assert [trial["compiled"] for trial in trials] == [4, 0, 0]
    assert len({trial["value"] for trial in trials}) == 3


def test_amounts_of_label_smoothing_share_one_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = Path("model.dl")
    before = model.read_text()
    text = re.sub(r"cross_entropy\((\w+), (\w+)\)", r"cross_entropy(\1, \2, smoothing = smoothing)", before)
    model.write_text(re.sub(r"(model \w+\()", r"\1smoothing = 0.1, ", text))
    assert model.read_text().count("smoothing") == 3
    arguments = ["--trials", "3", "--epochs", "1", "--out", "sweep", "--json", "--cache-dir", str(tmp_path / "cache")]
    assert main(["sweep", "model.dl", "--set", "smoothing=[0.0,0.1,0.2]", *arguments]) == 0
    trials = json.loads(capsys.readouterr().out)["trials"]
    assert [trial["compiled"] for trial in trials] == [4, 0, 0]


def test_a_sweep_takes_no_folder_that_is_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "model.dl", "--out", "run", "--json"]) == 0
    before = sorted(Path("run").rglob("*"))
    assert main(["sweep", "model.dl", "--set", "optimizer.lr=0.1..0.2", "--out", "run"]) == 1
    assert "run: the folder holds a run\nhint: choose another --out" in capsys.readouterr().err
    assert sorted(Path("run").rglob("*")) == before


def test_a_sweep_keeps_its_trials_and_names_the_best(capsys: pytest.CaptureFixture[str]) -> None:
    searched = ["--set", "optimizer.lr=1e-4..1e-1:log", "--set", "hidden=[8,16]", "--set", "seed=4"]
    assert main(["sweep", "model.dl", *searched, "--trials", "3", "--out", "sweep", "--epochs", "1", "--json"]) == 0
    output = capsys.readouterr()
    found = json.loads(output.out)
    assert json.loads(Path("sweep/sweep.json").read_text()) == found
    values = {trial["trial"]: trial["value"] for trial in found["trials"]}
    assert found["best"] == min(values, key=values.__getitem__)
    best = found["trials"][found["best"] - 1]
    assert f"best: trial {found['best']}, in {best['run']}" in output.err
    assert main(["runs", "sweep", "--json"]) == 0
    listed = {run["run"]: run for run in json.loads(capsys.readouterr().out)}
    assert {run["state"] for run in listed.values()} == {"finished"}
    assert {path: run["val_loss"] for path, run in listed.items()} == {
        trial["run"]: trial["value"] for trial in found["trials"]
    }
    again = shlex.split(output.err.rsplit("again: dlc ", 1)[1])
    assert main([*again, "--out", "again", "--json"]) == 0
    epoch = json.loads(capsys.readouterr().out.splitlines()[1])
    assert epoch["val_loss"] == best["value"]


def test_another_metric_is_maximised(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--metric", "val_accuracy", "--maximise", "--trials", "3", "--out", "sweep", "--json"]
    assert main(["sweep", "model.dl", "--set", "optimizer.lr=[1e-6, 0.02, 0.03]", *arguments]) == 0
    found = json.loads(capsys.readouterr().out)
    values = {trial["trial"]: trial["value"] for trial in found["trials"]}
    assert found["best"] == max(values, key=values.__getitem__)


def test_a_metric_of_the_library_says_which_values_are_better(capsys: pytest.CaptureFixture[str]) -> None:
    searched = ["--set", "optimizer.lr=[1e-6, 0.02]", "--trials", "2", "--epochs", "4", "--json"]
    for options, pick, word in (([], max, "largest"), (["--minimise"], min, "smallest")):
        out = f"sweep-{word}"
        assert main(["sweep", "model.dl", "--metric", "val_accuracy", *options, *searched, "--out", out]) == 0
        output = capsys.readouterr()
        found = json.loads(output.out)
        values = {trial["trial"]: trial["value"] for trial in found["trials"]}
        for trial in found["trials"]:
            lines = [json.loads(line) for line in Path(trial["run"], "metrics.jsonl").read_text().splitlines()]
            assert trial["value"] == pick(line["val_accuracy"] for line in lines)
            assert trial["best_epoch"] == [line["epoch"] for line in lines if line["best"]][-1]
        best = next(trial for trial in found["trials"] if trial["trial"] == found["best"])
        assert ("the weights that the run kept are those of" in output.err) == (best["epoch"] != best["best_epoch"])
        assert values[found["best"]] == pick(values.values())
        assert found["goal"] == {"metric": "val_accuracy", "direction": f"{pick.__name__}imise"}
        assert f"by the {word} val_accuracy" in output.err


def test_what_counts_is_best_of_the_training(capsys: pytest.CaptureFixture[str]) -> None:
    searched = ["--set", "optimizer.lr=[1e-6, 0.02]", "--set", "best=accuracy", "--trials", "2", "--json"]
    assert main(["sweep", "model.dl", *searched, "--out", "sweep"]) == 0
    assert json.loads(capsys.readouterr().out)["goal"] == {"metric": "val_accuracy", "direction": "maximise"}


def test_a_metric_of_ones_own_must_say_it(capsys: pytest.CaptureFixture[str]) -> None:
    model = Path("model.dl")
    model.write_text(re.sub(r"metrics = \[.*\]", "metrics = [mean(logits)]", model.read_text()))
    arguments = ["sweep", "model.dl", "--set", "optimizer.lr=[0.01, 0.02]", "--metric", "val_mean", "--trials", "1"]
    assert main([*arguments, "--out", "first"]) == 2
    assert "add --maximise or --minimise, or write `maximise(mean(…))`" in capsys.readouterr().err
    assert not Path("first/trial-001/metrics.jsonl").exists(), "nothing is trained for a goal that nobody knows"
    assert main([*arguments, "--maximise", "--out", "second"]) == 0
    assert main([*arguments, "--maximise", "--minimise", "--out", "third"]) == 2
    assert "--maximise does not go with --minimise" in capsys.readouterr().err


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_no_settings_are_tried_twice(sampler: str, capsys: pytest.CaptureFixture[str]) -> None:
    searched = ["--set", "optimizer.lr=[0.01, 0.02]", "--set", "hidden=8..11", "--sampler", sampler, "--epochs", "1"]
    assert main(["sweep", "model.dl", *searched, "--out", "sweep", "--json"]) == 0
    output = capsys.readouterr()
    found = [tuple(trial["settings"].values()) for trial in json.loads(output.out)["trials"]]
    assert sorted(found) == [(rate, width) for rate in ("0.01", "0.02") for width in ("10", "8", "9")]
    assert "the search ends after 6 of 20 trials: every combination is tried" in output.err


class Stubborn:
    """A sampler that proposes the same for ever."""

    def ask(self) -> dict[str, str]:
        return {"hidden": "8"}

    def tell(self, value: float | None) -> None:
        del value


def test_a_sampler_that_repeats_itself_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sweep, "RandomSampler", lambda space, seed: Stubborn())
    arguments = ["--set", "hidden=[8, 9]", "--trials", "3", "--epochs", "1", "--out", "sweep"]
    assert main(["sweep", "model.dl", *arguments]) == 0
    assert "the search ends after 1 of 3 trials: the sampler comes to no other settings" in capsys.readouterr().err


def test_a_trial_that_fails_is_no_end(capsys: pytest.CaptureFixture[str]) -> None:
    """Draws of seed 0 begin with a width that is one; the second is none."""
    assert main(["sweep", "model.dl", "--set", "hidden=[-1, 8]", "--trials", "4", "--out", "sweep", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {trial["settings"]["hidden"]: trial["value"] is None for trial in found["trials"]} == {
        "8": False,
        "-1": True,
    }
    failed = next(trial for trial in found["trials"] if trial["value"] is None)
    assert failed["failure"]
    assert failed["run"] is None


def test_a_trial_that_leaves_no_data_is_no_end(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--set", "validation=[0.999, 0.2]", "--set", "test=0", "--trials", "4", "--epochs", "1"]
    assert main(["sweep", "model.dl", *arguments, "--json"]) == 0
    failures = [trial["failure"] for trial in json.loads(capsys.readouterr().out)["trials"]]
    assert any("leave none to train on" in str(failure) for failure in failures)


def test_an_interrupted_sweep_says_what_was_best(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, begun = iter([True, True, False]), trials.begun

    def begun_twice(request: TrainingRequest) -> TrainingSession:
        if not next(whole):
            raise KeyboardInterrupt
        return begun(request)

    monkeypatch.setattr(trials, "begun", begun_twice)
    arguments = ["sweep", "model.dl", "--set", "optimizer.lr=0.1..0.2", "--out", "sweep", "--json"]
    assert main(arguments) == 130
    output = capsys.readouterr()
    assert "interrupted after 2 of 20 trials, which are in sweep" in output.err
    assert "best: trial " in output.err
    assert json.loads(output.out) == json.loads(Path("sweep/sweep.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--set", "learning=[1,2]"], 1, "there is no setting `learning`"),
        (["--set", "optimizer.lr=0.1..0.2", "--metric", "val_acuracy"], 2, "did you mean `val_accuracy`?"),
        (["--set", "hidden=8"], 2, "there is nothing to search"),
        (["--set", "hidden=[8,9]", "--sampler", "tp"], 2, "did you mean `tpe`?"),
    ],
)
def test_mistakes_show_in_the_first_trial(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", "model.dl", *arguments, "--trials", "2", "--epochs", "1"]) == code
    assert message in capsys.readouterr().err


def test_a_number_is_the_same_however_it_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert space_of([("lr", "[0.1, 1e-1, 0.2]")]).size == 2
    with pytest.raises(UsageError, match="offers no choice"):
        space_of([("lr", "[0.1, 1e-1, 0.10]")])
    assert main(["sweep", "model.dl", "--set", "optimizer.lr=[0.1,1e-1,0.01]", "--trials", "3", "--out", "s"]) == 0
    assert "the search ends after 2 of 3 trials: every combination is tried" in capsys.readouterr().err
    assert space_of([("seed", "[9007199254740992, 9007199254740993]")]).size == 2


def test_a_sweep_begins_again_where_a_full_disk_left_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sweep", "model.dl", "--set", "optimizer.lr=[0.1,0.01]", "--trials", "2", "--out", "s"]
    Path("s/trial-001").mkdir(parents=True)
    assert main(words) == 0
    assert "s held 1 trials without a checkpoint, which are replaced" in capsys.readouterr().err
    assert main(words) == 1, "what has a checkpoint stays"
    assert "the folder is not empty" in capsys.readouterr().err
    Path("other/mine").mkdir(parents=True)
    Path("other/mine/letter").write_text("dear")
    assert main([*words[:-1], "other"]) == 1
    assert Path("other/mine/letter").read_text() == "dear"
