"""Trainings that are killed at random moments, and what must hold after each kill and at the end."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repository import ROOT

from runtime.runs.checkpoint import best_checkpoint, checkpoints_in, newest_checkpoint
from runtime.runs.directory import open_run
from runtime.support.files import sha256_of

# States, draws, a schedule and an optimizer with moments: all that a resumed training has to find again.
MODEL = """
model Killed(hidden = 24) {
    input x: f32[batch, 4]
    h = x |> dense(hidden) |> batch_norm |> relu |> dropout(0.2)
    output logits = h |> dense(3)
}

train Killed {
    data = csv("rows.csv")
    validation = 0.2
    target kind: u8[batch] in 0..3
    loss = cross_entropy(logits, kind)
    metrics = [accuracy(logits, kind)]
    optimizer = adam(lr = 0.01)
    schedule = cosine(T = total_steps)
    epochs = EPOCHS
    batch = 8
    keep = 3
}
"""
_TIMES = ("seconds", "epoch_seconds", "samples_per_second")


def write_project(folder: Path, epochs: int) -> None:
    """A model and 500 rows of data."""
    draw = random.Random(1)
    rows = [[draw.gauss(0, 1) for _ in range(4)] for _ in range(500)]
    lines = [",".join([*(f"{v:.4f}" for v in row), str(int(row[0] > 0) + int(row[1] > 0.5))]) for row in rows]
    (folder / "rows.csv").write_text("a,b,c,d,kind\n" + "\n".join(lines) + "\n")
    (folder / "model.dl").write_text(MODEL.replace("EPOCHS", str(epochs)))


@dataclass(frozen=True)
class FinalState:
    """All of a finished run that must not depend on how often it was interrupted."""

    weights: str
    best_weights: str
    optimizer: str
    position: str
    metrics: str


def final_state(run: Path) -> FinalState:
    newest, best = newest_checkpoint(run / "checkpoints"), best_checkpoint(run / "checkpoints")
    position = json.loads((newest.path / "position.json").read_text())
    return FinalState(
        weights=sha256_of(newest.path / "weights.safetensors"),
        best_weights=sha256_of(best.path / "weights.safetensors"),
        optimizer=sha256_of(newest.path / "optimizer.safetensors"),
        position=_without_times(position),
        metrics="\n".join(map(_without_times, open_run(run).read_metrics())),
    )


def _without_times(record: Any) -> str:
    return json.dumps({name: value for name, value in record.items() if name not in _TIMES})


class Killer:
    """Trains in `folder` in processes of their own, which it kills; `draw` chooses the moments."""

    def __init__(self, folder: Path, draw: random.Random, epochs: int = 200) -> None:
        self.folder, self._draw = folder, draw
        self.run = folder / "killed"
        write_project(folder, epochs)
        self._finish("once to fill the cache", folder / "first")
        self.seconds = self._finish("without interruption", folder / "whole")
        self.wanted = final_state(folder / "whole")
        self.kills = self.kills_in_training = self.finished = 0

    def kill(self, count: int, report: Callable[[str], None] = lambda line: None) -> None:
        """Kill `count` processes, each at a random moment; every training is resumed until it finishes."""
        while self.kills < count:
            self._begin_and_kill(report)
        while self.run.exists():
            self._begin_and_kill(report, patience=600)

    def _begin_and_kill(self, report: Callable[[str], None], patience: float | None = None) -> None:
        reached = self._reached()
        was_open = reached is not None and (self.run / "lock").read_bytes() != b""
        process = self._process(self.run, resume=reached is not None)
        # One in eight is killed while it gets ready, the others while they train.
        started = "" if patience is None and self._draw.random() < 1 / 8 else _first_line(process)
        moment = self._draw.uniform(0, 1.1 * self.seconds) if patience is None else patience
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            process.kill()
        output, errors = process.communicate()
        output = started + output
        if process.returncode == 0:
            assert was_open == ("its lock is taken over" in errors), errors
            self._compare(output, reached)
            report(f"finished after {self.kills} kills: the same bits")
            return
        assert process.returncode == -9, errors
        self.kills += 1
        after = self._reached()
        self.kills_in_training += after is not None
        assert reached is None or (after is not None and after >= reached), "a checkpoint was lost"
        report(f"kill {self.kills} after {moment:.3f} s: steps {reached or 0} to {after or 0}")
        if after is None:
            shutil.rmtree(self.run, ignore_errors=True)  # nothing was saved yet, so nothing can be resumed

    def _reached(self) -> int | None:
        """The step of the newest checkpoint, which must be whole; None where there is none yet."""
        folder = self.run / "checkpoints"
        if not folder.is_dir() or not checkpoints_in(folder):
            return None
        found = newest_checkpoint(folder)
        assert found.notes == (), found.notes
        assert found.path == checkpoints_in(folder)[-1]
        return found.checkpoint.position.step

    def _compare(self, output: str, reached: int | None) -> None:
        started = json.loads(output.splitlines()[0])
        assert started["step"] == (reached or 0), "it goes on where the newest checkpoint stands"
        found = final_state(self.run)
        assert found == self.wanted, f"other bits after {self.kills} kills:\n{found}\n{self.wanted}"
        self.finished += 1
        shutil.rmtree(self.run)

    def _process(self, run: Path, resume: bool) -> subprocess.Popen[str]:
        how = ["--resume", str(run)] if resume else ["model.dl", "--out", str(run)]
        command = [sys.executable, "-m", "runtime.cli", "train", *how, "--json", "--threads", "2"]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _finish(self, what: str, run: Path) -> float:
        """Train in one go; the seconds from the start of the training to its end."""
        process = self._process(run, resume=False)
        _first_line(process)
        begin = time.monotonic()
        _, errors = process.communicate()
        assert process.returncode == 0, f"training {what}: {errors}"
        return time.monotonic() - begin


def _first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()
