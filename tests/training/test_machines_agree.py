"""A training gives the same bits under every machine whose code this processor runs, and on every kind of processor."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest
from golden import Golden
from native import host

from compiler.errors.diagnostics import UsageError
from compiler.interface import Options
from compiler.machine import CHOICES
from compiler.targets.registry import kernel_target_of
from runtime.cli.main import main
from runtime.runs.checkpoint import newest_checkpoint

DIGITS = Path(__file__).parents[2] / "examples" / "digits" / "model.dl"
EPOCHS = 3


def runs(name: str) -> bool:
    try:
        kernel_target_of(Options()).machine(Options(machine=name))
    except UsageError:
        return False
    return True


@pytest.mark.parametrize("machine", CHOICES)
def test_every_machine_trains_to_the_same_bits(machine: str, golden: Golden, tmp_path: Path) -> None:
    """The golden file holds all processors to the same weights and moments."""
    golden.used.add("bits/digits.sha256")
    if not runs(machine):
        pytest.skip(f"this processor has {host().name}")
    arguments = ["train", str(DIGITS), "--epochs", str(EPOCHS), "--out", str(tmp_path / "run"), "--target", machine]
    assert main([*arguments, "--json"]) == 0
    found = newest_checkpoint(tmp_path / "run" / "checkpoints").checkpoint
    tensors = [(n, t) for part in (found.weights, found.optimizer) for n, t in sorted(part.items())]
    rows = [f"{sha256(t.tobytes()).hexdigest()}  {n} {t.dtype}{list(t.shape)}" for n, t in tensors]
    golden("bits/digits.sha256", "\n".join(rows))
