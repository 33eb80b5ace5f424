"""The losses of the benchmarked models are PyTorch's, from the same weights on the same batches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from statistics import median

import pytest
from repository import ROOT

AGREEMENT = {"f32": 1e-4, "f64": 1e-9}
# Once rounding has decided a tie, see benchmarks/loss_curve.py, curves of f32 part, but not far.
AFTER_A_TIE = 1e-2
HAS_TIES = {"mlp"}


@pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is not installed; the extra `bench` has it")
@pytest.mark.parametrize("model", ["mlp", "mlp_small", "lenet5"])
def test_fifty_losses_are_those_of_pytorch(model: str) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "loss_curve.py"), model, "--steps", "50"]
    # A process of its own: PyTorch brings a team of threads and warnings that are not ours.
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    seeds = json.loads(done.stdout)[model]
    assert max(seed["dlc f64, PyTorch f64"] for seed in seeds) < AGREEMENT["f64"], seeds
    assert median(seed["dlc f32, PyTorch f32, first steps"] for seed in seeds) < AGREEMENT["f32"], seeds
    allowed = AFTER_A_TIE if model in HAS_TIES else AGREEMENT["f32"]
    assert max(seed["dlc f32, PyTorch f32"] for seed in seeds) < allowed, seeds
