"""Trainings that are killed, and damaged checkpoints: a resumed run ends with the bits of an undisturbed one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from killing import Killer, final_state, write_project

from runtime.cli.main import main
from runtime.runs.checkpoint import checkpoints_in


def test_twenty_kills_change_no_bit(tmp_path: Path) -> None:
    """`tests/stress/kill_training.py` does the same 200 times."""
    killer = Killer(tmp_path, random.Random(5), epochs=100)
    killer.kill(20)
    assert killer.kills == 20
    assert killer.kills_in_training > 0
    assert killer.finished > 0


def test_a_damaged_newest_checkpoint_falls_back_and_the_bits_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_project(tmp_path, epochs=6)
    monkeypatch.chdir(tmp_path)
    assert main(["train", "model.dl", "--out", "run", "--json"]) == 0
    wanted = final_state(Path("run"))
    *_, before, newest = checkpoints_in(Path("run/checkpoints"))
    content = bytearray((newest / "weights.safetensors").read_bytes())
    content[-5] ^= 1
    (newest / "weights.safetensors").write_bytes(content)
    capsys.readouterr()
    assert main(["train", "--resume", "run", "--json"]) == 0
    output = capsys.readouterr()
    assert f"note: checkpoint {newest.name} is passed over" in output.err
    assert "does not match its checksum" in output.err
    assert f'"step": {int(before.name.split("-")[2])},' in output.out.splitlines()[0]
    assert final_state(Path("run")) == wanted
