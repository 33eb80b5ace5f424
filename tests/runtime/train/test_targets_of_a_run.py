"""A run goes on with any target that has its bits, and says which one computed it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from fake_device import gpu_at_hand

from compiler.support.record import record
from runtime.cli.main import main

XOR = str(Path(__file__).parents[3] / "examples/xor/model.dl")
EMULATOR = "gpu-emulator"


@record
class Trained:
    files: dict[str, bytes]
    targets: list[str]  # as `settings.json` names them, after each stretch


def trained(run: Path, *targets: str) -> Trained:
    """Xor for two epochs with each target, one after the other."""
    said: list[str] = []
    for number, target in enumerate(targets, 1):
        place = ["--resume", str(run)] if said else [XOR, "--out", str(run)]
        assert main(["train", *place, "--epochs", str(2 * number), "--target", target]) == 0
        said.append(json.loads((run / "settings.json").read_text())["choices"]["target"])
    files = sorted((run / "checkpoints").glob("*/*.safetensors"))
    return Trained({str(file.relative_to(run)): file.read_bytes() for file in files}, said)


def test_a_run_goes_on_elsewhere_with_the_same_bits(tmp_path: Path) -> None:
    moved = trained(tmp_path / "moved", "native", EMULATOR, "native")
    assert moved.targets == ["native", EMULATOR, "native"]
    stayed = trained(tmp_path / "stayed", "native", "native", "native")
    assert moved.files == stayed.files
    assert len(stayed.files) >= 2
    log = (tmp_path / "moved/events.log").read_text()
    assert f"resumed at step 2 with target {EMULATOR}" in log


def test_a_run_goes_on_where_it_was(tmp_path: Path) -> None:
    run = tmp_path / "run"
    trained(run, EMULATOR)
    assert main(["train", "--resume", str(run), "--epochs", "3"]) == 0
    assert json.loads((run / "settings.json").read_text())["choices"]["target"] == EMULATOR
    assert main(["eval", str(run)]) == 0
    assert main(["replay", str(run), "--step", "1"]) == 0


def test_a_run_names_the_kind_of_gpu_that_its_code_is_made_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path / "cache"))
    run, other = tmp_path / "run", tmp_path / "other"
    with gpu_at_hand():
        assert trained(run, "gpu-sm_75", "gpu").targets == ["gpu-sm_75", "gpu-sm_80"]
    assert re.search(r'^target +"gpu-sm_75" +command line$', capsys.readouterr().err, re.MULTILINE)
    assert "resumed at step 2 with target gpu-sm_80" in (run / "events.log").read_text()
    assert trained(other, "native", "native").targets == ["native", "native"]
    assert main(["runs", "--diff", str(run), str(other)]) == 0
    assert re.search(r"target .*gpu-sm_80.*native", capsys.readouterr().out)


@pytest.mark.parametrize("word", ["gpu", "gpu-sm_80"])
def test_a_run_of_either_word_goes_on_with_what_suits_the_gpu(
    word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older runs name no kind, and the GPU at hand may be of another one."""
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path / "cache"))
    run = tmp_path / "run"
    with gpu_at_hand(capability=(7, 5)):
        trained(run, "gpu")
        settings = json.loads((run / "settings.json").read_text())
        settings["choices"]["target"] = word
        (run / "settings.json").write_text(json.dumps(settings))
        assert main(["train", "--resume", str(run), "--epochs", "3"]) == 0
    found = json.loads((run / "settings.json").read_text())
    assert found["choices"]["target"] == found["settings"]["target"]["value"] == "gpu-sm_75"
    for command in (["eval", str(run)], ["replay", str(run), "--step", "1"]):
        assert main(command) == 0


def test_other_bits_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(tmp_path / "run", "native")
    assert main(["train", "--resume", str(tmp_path / "run"), "--epochs", "3", "--target", "reference"]) == 2
    assert "cannot change its target" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["profile", XOR, "--target", EMULATOR], "other times than a GPU"),
        (["profile", XOR, "--target", "reference"], "has no kernels that can be profiled"),
        (["profile", XOR, "--target", "gpu", "--simulate-threads", "4"], "threads are simulated of a processor"),
        (["train", XOR, "--profile", "--target", EMULATOR], "other times than a GPU"),
        (["plan", XOR, "--profile", "--target", EMULATOR], "other times than a GPU"),
        (["bench", XOR, "--target", EMULATOR], "other times than a GPU"),
        (["tune", "--target", "gpu"], "target gpu is not tuned"),
        (["train", XOR, "--target", "gpu-emulater"], "did you mean `gpu-emulator`?"),
        (["show", XOR, "--stage", "ptx", "--target", "gpuu"], "did you mean `gpu`?"),
    ],
)
def test_times_of_no_device_are_not_told(command: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command) == 2
    assert said in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("target", ["gpu", EMULATOR])
def test_a_library_is_code_of_a_processor(target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(tmp_path / "run", "native")
    assert main(["export", str(tmp_path / "run"), "--to", "c", "-o", str(tmp_path / "c"), "--target", target]) == 2
    assert "for processors" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()
