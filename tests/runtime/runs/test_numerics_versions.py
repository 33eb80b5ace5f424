"""The version of the numerics in runs: kept with the steps it computed, and told where it decides about bits."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from view_pages import data_in

from compiler.support.numerics import NUMERICS
from runtime.cli.main import main
from runtime.runs import numerics
from runtime.runs.checkpoint import checkpoints_in, read_checkpoint
from runtime.runs.directory import open_run
from runtime.runs.listing import summary_of
from runtime.runs.numerics import NEW, VersionSpan, continued, stretches_of, stretches_to_json, versions_in, versions_of
from runtime.support.files import sha256_of

TEXT = """model M {
    input x: f32[batch, 5]
    output y = x |> dense(1)
}
train M {
    data = npz("data.npz")
    target t: f32[batch, 1]
    loss = mse(y, t)
    optimizer = gradient_descent(lr = 0.01)
    epochs = 2
    batch = 8
    keep = 9
}
"""
OTHER = NUMERICS + 1


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code_cache: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLC_CACHE_DIR", str(code_cache))
    x = np.random.default_rng(0).normal(size=(32, 5)).astype(np.float32)
    np.savez("data.npz", x=x, t=x.sum(axis=1, keepdims=True))
    Path("model.dl").write_text(TEXT)
    assert main(["train", "model.dl", "--out", "run", "--threads", "1", "--json"]) == 0
    return Path("run")


def settings_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "settings.json").read_text())


def rewritten(run: Path, entries: Mapping[str, Any]) -> None:
    """The settings with other entries; None removes one, as in a run of an earlier `dlc`."""
    kept = {name: value for name, value in {**settings_of(run), **entries}.items() if value is not None}
    (run / "settings.json").write_text(json.dumps(kept))


def computed_by(run: Path, version: int) -> None:
    rewritten(run, {"numerics": [{"from_step": 0, "version": version}]})


def test_a_run_and_its_checkpoints_keep_the_version(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert settings_of(run)["numerics"] == [{"from_step": 0, "version": NUMERICS}]
    assert {read_checkpoint(path).numerics for path in checkpoints_in(run / "checkpoints")} == {NUMERICS}
    assert summary_of(run).numerics == (NUMERICS,)
    capsys.readouterr()
    assert main(["runs", ".", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["numerics"] == [NUMERICS]
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.endswith(f", numerics {NUMERICS}\n")
    assert main(["report", "run", "--threads", "1"]) == 0
    report = data_in((run / "report.html").read_text(), "document")
    assert ["version of the numerics", str(NUMERICS), "fact"] in report["report"]["result"]


def test_a_run_of_one_version_is_resumed_and_replayed_without_a_word(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--resume", "run", "--epochs", "3", "--threads", "1"]) == 0
    assert "warning" not in capsys.readouterr().err
    assert main(["replay", "run", "--step", "5", "--json", "--threads", "1"]) == 0
    output = capsys.readouterr()
    assert "warning" not in output.err
    found = json.loads(output.out)
    assert (found["same_bits"], found["numerics"]) == (True, [NUMERICS])
    assert settings_of(run)["numerics"] == stretches_to_json(NEW)


def test_resuming_by_another_version_says_so_once(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    computed_by(run, OTHER)
    capsys.readouterr()
    assert main(["train", "--resume", "run", "--epochs", "3", "--threads", "1"]) == 0
    told = capsys.readouterr().err
    assert f"warning: the steps up to 8 were computed by version {OTHER} of the numerics" in told
    assert f"the rest will be by version {NUMERICS}: last bits may differ" in told
    assert "last bits may differ" in (run / "events.log").read_text()
    assert settings_of(run)["numerics"] == [{"from_step": 0, "version": OTHER}, {"from_step": 8, "version": NUMERICS}]
    assert main(["train", "--resume", "run", "--epochs", "4", "--threads", "1"]) == 0
    assert "warning" not in capsys.readouterr().err


def test_a_run_without_a_version_is_of_an_unknown_one(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewritten(run, {"numerics": None})
    for path in checkpoints_in(run / "checkpoints"):
        position = json.loads((path / "position.json").read_text())
        assert position.pop("numerics") == NUMERICS
        (path / "position.json").write_text(json.dumps(position))
        manifest = json.loads((path / "manifest.json").read_text())
        manifest["sha256"]["position.json"] = sha256_of(path / "position.json")
        (path / "manifest.json").write_text(json.dumps(manifest))
        assert read_checkpoint(path).numerics == 0
    assert summary_of(run).numerics == (0,)
    assert main(["train", "--resume", "run", "--epochs", "3", "--threads", "1"]) == 0
    assert "the steps up to 8 were computed by an unknown version of the numerics" in capsys.readouterr().err
    assert main(["runs", "."]) == 0
    assert "unknown" in capsys.readouterr().out


def test_a_replay_by_another_version_says_that_bits_may_differ(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    computed_by(run, OTHER)
    capsys.readouterr()
    assert main(["replay", "run", "--step", "5", "--json", "--threads", "1"]) == 0
    output = capsys.readouterr()
    assert f"warning: the run computed these steps by version {OTHER} of the numerics" in output.err
    found = json.loads(output.out)
    assert (found["same_bits"], found["numerics"]) == (False, [OTHER])


def test_a_replay_of_a_checkpoint_itself_computes_nothing(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    computed_by(run, OTHER)
    capsys.readouterr()
    assert main(["replay", "run", "--step", "8", "--show", "y.dense.W", "--json", "--threads", "1"]) == 0
    output = capsys.readouterr()
    assert "warning" not in output.err
    assert json.loads(output.out)["same_bits"] is True


def test_a_comparison_of_two_versions_says_so(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(run, "other")
    capsys.readouterr()
    assert main(["runs", "--diff", "run", "other"]) == 0
    assert "warning" not in capsys.readouterr().err
    computed_by(Path("other"), OTHER)
    assert main(["runs", "--diff", "run", "other", "--json"]) == 0
    output = capsys.readouterr()
    assert f"one run was computed by version {NUMERICS} of the numerics, the other by version {OTHER}" in output.err
    assert json.loads(output.out)["numerics"] == [[NUMERICS], [OTHER]]


def test_damaged_settings_have_no_known_version(run: Path) -> None:
    for damaged in ("words", [{"from_step": 0}], [3], [{"from_step": "0", "version": 1}], []):
        rewritten(run, {"numerics": damaged})
        assert summary_of(run).numerics == (0,)
    (run / "settings.json").unlink()
    assert summary_of(run).numerics == ()
    assert open_run(run).path == run


def test_stretches_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    several = (VersionSpan(0, 3), VersionSpan(10, 4), VersionSpan(30, 3))
    assert stretches_of({"numerics": stretches_to_json(several)}) == several
    assert versions_of(several) == (3, 4)
    cases = {(0, 10): (3,), (0, 11): (3, 4), (10, 30): (4,), (29, 31): (4, 3), (40, 90): (3,), (5, 5): (), (10, 10): ()}
    for (begin, end), versions in cases.items():
        assert versions_in(several, begin, end) == versions
    monkeypatch.setattr(numerics, "NUMERICS", 4)
    assert continued(several, 20) == several[:2], "what was computed beyond is computed again"
    assert continued(several, 10) == several[:2]
    assert continued(several, 40) == (*several, VersionSpan(40, 4))
    assert continued(several, 0) == (VersionSpan(0, 4),)
