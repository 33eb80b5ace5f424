"""The losses of the benchmarked models are PyTorch's, from the same weights on the same batches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
from repository import ROOT

RELATIVE = {"f32": 1e-4, "f64": 1e-9}
# Where rounding decides a tie, see benchmarks/loss_curve.py, the curves part, but not far.
RELATIVE_AFTER_A_TIE = 1e-2


@pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is not installed; the extra `bench` has it")
@pytest.mark.parametrize("model", ["mlp", "mlp_small"])
def test_fifty_losses_are_those_of_pytorch(model: str) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "loss_curve.py"), model, "--steps", "50"]
    # A process of its own: PyTorch brings a team of threads and warnings that are not ours.
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)[model]
    assert max(found["f64"]) < RELATIVE["f64"], found
    assert min(found["f32"]) < RELATIVE["f32"], found
    assert max(found["f32"]) < RELATIVE_AFTER_A_TIE, found
