"""`dlc tune`: what is kept and why, what is said, and what other commands make of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from compiler.driver import Options
from compiler.errors.diagnostics import CompilerBug
from compiler.kept_tuning import KeptTuning, keep_tuning, kept_tuning, tuning_file
from compiler.targets.registry import kernel_target_of
from compiler.tuning import Tuning
from runtime.analysis import tuning
from runtime.analysis.tuning import Candidates, Ratio, Tried, Workload, compared, tuned
from runtime.cli.main import main

WORKLOADS = tuple(
    Workload(name, 4, f"input x: f32[batch, {width}]\n    output y = x |> dense(10)")
    for name, width in (("narrow", 3), ("wide", 40))
)
CHOICES = (
    Candidates("steps_ahead", "narrow", (4, 16)),
    Candidates("serial_work", "wide", (20_000,), needs_threads=True),
)
MODEL = "model M {\n    input x: f32[batch, 3]\n    output y = x |> dense(2)\n}\n"
Speeds = Callable[[str, Tuning], float]  # of a workload, beside the usual


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


def machine_here() -> KeptTuning:
    """What a tuning of this processor is kept as."""
    machine = kernel_target_of(Options()).machine(Options())
    return KeptTuning(tuning_file(machine), Tuning(serial_work=1000), "2026-01-02", 2, {"serial_work": 1.25})


def with_speeds(monkeypatch: pytest.MonkeyPatch, speed: Speeds, noise: float = 0.02) -> list[tuple[str, Tuning]]:
    """Let trainings be as fast as `speed` says; what is measured."""
    seen: list[tuple[str, Tuning]] = []

    def ratio(self: tuning.Search, name: str, of: Tuning, rounds: int = 9, beside: Tuning | None = None) -> Ratio:
        seen.append((name, of))
        return Ratio(speed(name, of) / speed(name, beside or self.tuning), noise)

    monkeypatch.setattr(tuning.Search, "ratio", ratio)
    return seen


def found(
    choices: tuple[Candidates, ...] = CHOICES, threads: int = 2, seconds: float = 1e9
) -> tuple[Tuning, list[Tried]]:
    told: list[Tried] = []
    report = tuned(Options(threads=threads), seconds, told.append, choices, WORKLOADS)
    assert list(report.tried) == told
    return report.tuning, told


def test_the_fastest_value_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    with_speeds(monkeypatch, lambda name, of: {4: 1.1, 16: 1.2}.get(of.steps_ahead, 1.0))
    best, (first, second) = found()
    assert best == Tuning(steps_ahead=16)
    assert (first.value, first.why, [value for value, _ in first.ratios]) == (16, "", [4, 16])
    assert (second.value, second.why) == (80_000, "no gain beyond noise")


def test_a_gain_within_noise_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with_speeds(monkeypatch, lambda name, of: 1.1 if of.steps_ahead != 8 else 1.0, noise=0.15)
    best, (tried, _) = found()
    assert (best, tried.why) == (Tuning(), "no gain beyond noise")


def test_a_gain_has_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([1.2, 1.0, 1.0] + [1.0] * 9)
    monkeypatch.setattr(tuning.Search, "ratio", lambda *_: Ratio(next(times), 0.02))
    assert found(CHOICES[:1])[1][0].why == "its gain did not come again"


def test_what_makes_another_workload_slower_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def speed(name: str, of: Tuning) -> float:
        return 1.0 if of.steps_ahead == 8 else {"narrow": 1.3, "wide": 0.9}[name]

    with_speeds(monkeypatch, speed)
    best, (tried, _) = found()
    assert (best, tried.why) == (Tuning(), "wide becomes slower")


def test_nothing_is_kept_where_all_together_is_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    def ratio(self: tuning.Search, name: str, of: Tuning, rounds: int = 9, beside: Tuning | None = None) -> Ratio:
        return Ratio(0.8 if beside is not None else 1.2, 0.02)

    monkeypatch.setattr(tuning.Search, "ratio", ratio)
    report = tuned(Options(threads=2), 1e9, lambda _: None, CHOICES, WORKLOADS)
    assert report.tuning == Tuning()
    assert report.why == "with all of them together narrow, wide is slower"
    assert [name for name, _ in report.workloads] == ["narrow", "wide"]


def test_nothing_is_said_of_workloads_that_were_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = with_speeds(monkeypatch, lambda name, of: 1.0)
    report = tuned(Options(threads=1), 1e9, lambda _: None, CHOICES, WORKLOADS)
    assert (report.workloads, report.why) == ((), "")
    assert {name for name, _ in seen} == {"narrow"}


def test_one_thread_has_fewer_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    with_speeds(monkeypatch, lambda name, of: 1.0)
    assert [tried.choice.number for tried in found(threads=1)[1]] == ["steps_ahead"]


def test_what_there_is_no_time_for_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = with_speeds(monkeypatch, lambda name, of: 1.0)
    _, tried = found(seconds=-1)
    assert {each.why for each in tried} == {"there was no time for it"}
    assert not seen


def test_trainings_with_other_bits_are_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    class Steps:
        made = 0.0

        def __init__(self, *_: object) -> None:
            Steps.made += 1
            self.tensors = self

        def names(self) -> tuple[str, ...]:
            return ("w",)

        def __getitem__(self, name: str) -> memoryview:
            return memoryview(b"%d" % Steps.made)

        def __call__(self, steps: int) -> None: ...

    monkeypatch.setattr(tuning, "CompiledSteps", Steps)
    with pytest.raises(CompilerBug, match="other bits"):
        found()


def test_ratios_are_medians_of_pairs_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    now, calls = [0.0], list[str]()
    monkeypatch.setattr(tuning.time, "perf_counter", lambda: now[0])

    def step(name: str, seconds: float) -> Callable[[int], None]:
        def run(steps: int) -> None:
            calls.append(name)
            now[0] += seconds * steps * (10 if len(calls) == 5 else 1)  # one that something disturbed

        return run

    ratio = compared(step("usual", 0.03), step("other", 0.02), 4)
    assert ratio.value == pytest.approx(1.5)
    assert ratio.noise == 0.02
    assert ratio.gains
    assert not ratio.loses
    assert calls[2:] == ["other", "usual", "usual", "other"] * 2


def test_the_command_measures_and_keeps(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with_speeds(monkeypatch, lambda name, of: 1.25 if of.serial_work == 20_000 else 1.0)
    monkeypatch.setattr(tuning, "tuned", partial(tuned, choices=CHOICES, workloads=WORKLOADS))
    assert main(["tune", "--threads", "2", "--json"]) == 0
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert (report["numbers"], report["gains"], report["threads"]) == (
        {"serial_work": 20_000},
        {"serial_work": 1.25},
        2,
    )
    assert [tried["value"] for tried in report["tried"]] == [8, 20_000]
    assert report["workloads"] == {name: {"ratio": 1.25, "noise": 0.02} for name in ("narrow", "wide")}
    assert "wide: serial_work 80000; 20000 1.250 times as fast: 20000 is better" in said.err
    assert Path(report["file"]).parent == folder / "tuning"
    assert main(["tune", "--show"]) == 0
    assert "serial_work = 20000 (1.250 times as fast)" in capsys.readouterr().out
    assert main(["tune", "--show", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kept"]["numbers"] == {"serial_work": 20_000}
    assert main(["tune", "--forget"]) == 0
    assert "its tuning is forgotten" in capsys.readouterr().err
    assert main(["tune", "--forget", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["forgotten"] is False
    assert main(["tune", "--show"]) == 0
    assert "not tuned" in capsys.readouterr().out


def test_real_trainings_are_compared(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tuning, "tuned", partial(tuned, choices=CHOICES[:1], workloads=WORKLOADS))
    assert main(["tune", "--threads", "1", "--cache-dir", str(folder / "other")]) == 0
    said = capsys.readouterr()
    assert "narrow: steps_ahead 8; 4 " in said.err
    assert "kept in" in said.out
    assert [file.name for file in (folder / "other").iterdir()] == ["tuning"]


def test_an_interrupted_measurement_changes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = machine_here()
    keep_tuning(kept)

    def interrupted(*_: object) -> Ratio:
        raise KeyboardInterrupt

    monkeypatch.setattr(tuning.Search, "ratio", interrupted)
    monkeypatch.setattr(tuning, "tuned", partial(tuned, choices=CHOICES, workloads=WORKLOADS))
    assert main(["tune"]) == 130
    assert capsys.readouterr().err.endswith("interrupted\n")
    assert kept_tuning(kernel_target_of(Options()).machine(Options())) == kept


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--show", "--forget"], "do not go together"),
        (["--seconds", "0"], "--seconds"),
        (["--target", "vax"], "there is no target `vax`"),
        (["--show", "--seconds", "5"], "--show measures nothing\nhint: leave out --seconds"),
        (["--forget", "--threads", "2"], "--forget measures nothing\nhint: leave out --threads"),
    ],
)
def test_command_lines_without_sense(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_a_failure_before_anything_is_measured(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = with_speeds(monkeypatch, lambda name, of: 1.0)
    monkeypatch.setattr(tuning, "tuned", partial(tuned, choices=CHOICES, workloads=WORKLOADS))
    folder.mkdir()
    (folder / "tuning").write_text("")
    assert main(["tune"]) == 1
    assert f"{folder}/tuning: this is not a folder: no tuning can be kept" in capsys.readouterr().err
    assert not seen


def test_choices_without_time_are_counted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = iter(range(0, 1000, 10))
    with_speeds(monkeypatch, lambda name, of: 1.0)
    monkeypatch.setattr(tuning, "tuned", partial(tuned, choices=CHOICES, workloads=WORKLOADS))
    monkeypatch.setattr(tuning.time, "perf_counter", lambda: next(now))
    assert main(["tune", "--threads", "2", "--seconds", "15"]) == 0
    assert "there was no time for 1 of 2 choices" in capsys.readouterr().err
    assert main(["tune", "--show"]) == 0
    assert "no number was found to be better" in capsys.readouterr().out


def test_large_numbers_are_printed_whole(capsys: pytest.CaptureFixture[str]) -> None:
    keep_tuning(replace(machine_here(), tuning=Tuning(overwritten_bytes=(1 << 20) + 1), gains={}))
    assert main(["tune", "--show"]) == 0
    assert "  overwritten_bytes = 1048577\n" in capsys.readouterr().out
    assert Tuning(overwritten_bytes=(1 << 20) + 1).description == "tuned: overwritten_bytes 1048577"


def test_a_damaged_file_is_told_of_and_the_usual_numbers_serve(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("model.dl").write_text(MODEL)
    kept = machine_here()
    keep_tuning(kept)
    kept.file.write_text("{")
    assert main(["plan", "model.dl"]) == 0
    said = capsys.readouterr().err
    assert said.count("warning: ") == 1
    assert str(kept.file) in said
    assert "remove this file, or let `dlc tune` measure anew" in said
    assert kept.file.read_text() == "{"
    assert main(["tune", "--show"]) == 1
    assert str(kept.file) in capsys.readouterr().err
    assert main(["plan", "model.dl", "--no-tuning"]) == 0
    assert "warning" not in capsys.readouterr().err


def test_commands_say_whether_code_is_tuned(capsys: pytest.CaptureFixture[str]) -> None:
    Path("model.dl").write_text(MODEL)
    timed = ["bench", "model.dl", "--mode", "infer", "--seconds", "0.05", "--threads", "1"]
    assert main(timed) == 0
    assert "; usual tuning" in capsys.readouterr().out
    keep_tuning(machine_here())
    assert main(timed) == 0
    assert "; tuned: serial_work 1000" in capsys.readouterr().out
    assert main([*timed, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tuning"] == {"serial_work": 1000}
    assert main([*timed, "--json", "--no-tuning"]) == 0
    assert json.loads(capsys.readouterr().out)["tuning"] == {}
    assert main([*timed, "--json", "--target", "reference"]) == 0
    assert json.loads(capsys.readouterr().out)["tuning"] is None


TRAINED = MODEL + (
    'train M {\n    data = csv("rows.csv")\n    target z: i32[batch] in 0..2\n'
    "    loss = cross_entropy(y, z)\n    optimizer = adam(lr = 0.1)\n    batch = 2\n    epochs = 1\n}\n"
)


def test_a_run_says_by_which_tuning_it_was_made(capsys: pytest.CaptureFixture[str]) -> None:
    Path("model.dl").write_text(TRAINED)
    Path("rows.csv").write_text("a,b,c,z\n1,2,3,0\n3,2,1,1\n")
    keep_tuning(machine_here())
    for arguments, numbers in (([], {"serial_work": 1000}), (["--no-tuning"], {})):
        assert main(["train", "model.dl", "--out", f"run{len(arguments)}", *arguments]) == 0
        assert ("tuned: serial_work 1000" in capsys.readouterr().err) == bool(numbers)
        (environment,) = Path(f"run{len(arguments)}").rglob("environment.json")
        assert json.loads(environment.read_text())["tuning"] == numbers
