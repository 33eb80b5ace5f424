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
# Rounding decides whether an activation counts, see benchmarks/loss_curve.py: then curves of f32 part, but not far.
HAS_TIES = {"mlp", "transformer_ed"}
AFTER_A_TIE = 1e-2
OWN_TIE = 1e-5  # from here on, PyTorch's own f32 and f64 have parted
WITHOUT_A_TIE = 1e-6
# Steps and seeds; a step of a Transformer takes as long as fifty of a small network.
EXTENTS = {
    "mlp": (50, 10),
    "mlp_small": (50, 4),
    "lenet5": (50, 4),
    "lstm": (6, 1),
    "gpt_mini": (10, 1),
    "transformer_ed": (6, 1),
    "vit": (4, 1),
}


@pytest.mark.skipif(
    not (find_spec("torch") and find_spec("jax")), reason="PyTorch or JAX is not installed; the extra `bench` has both"
)
@pytest.mark.parametrize("model", EXTENTS)
def test_the_losses_are_those_of_pytorch(model: str) -> None:
    steps, seeds = EXTENTS[model]
    command = [sys.executable, str(ROOT / "benchmarks" / "loss_curve.py"), model]
    command += ["--steps", str(steps), "--seeds", str(seeds)]
    # A process of its own: PyTorch brings warnings that are not ours. One thread: its bits depend on their number.
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)[model]
    assert max(seed["dlc f64, PyTorch f64"] for seed in found) < AGREEMENT["f64"], found
    assert median(seed["dlc f32, PyTorch f32, first steps"] for seed in found) < AGREEMENT["f32"], found
    allowed = AFTER_A_TIE if model in HAS_TIES else AGREEMENT["f32"]
    assert max(seed["dlc f32, PyTorch f32"] for seed in found) < allowed, found
    if len(found) > 1:
        settled = [s["dlc f32, PyTorch f32"] for s in found if s["PyTorch f32, PyTorch f64"] < OWN_TIE]
        # As a rule; `dlc` has ties of its own.
        assert median(settled) < AGREEMENT["f32"], found
        assert min(settled) < WITHOUT_A_TIE, found
