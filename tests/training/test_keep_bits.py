"""The script that compares hashes of weights and code sees a change of either, and nothing where there is none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "stress" / "keep_bits.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False)


def test_equal_models_have_equal_hashes_and_others_are_told(tmp_path: Path) -> None:
    before = tmp_path / "before.json"
    chosen = ("--models", "xor", "--machines", "avx2,neon", "--steps", "3")
    assert run("--write", str(before), *chosen).returncode == 0
    kept = json.loads(before.read_text())["xor"]
    assert set(kept) == {f"{kind}, {name}" for kind in ("training", "prediction") for name in ("avx2", "neon")} | {
        "weights"
    }
    assert len(set(kept.values())) == len(kept)
    same = run("--compare", str(before), *chosen)
    assert (same.returncode, same.stdout.splitlines()[-1]) == (0, "no difference")
    other = run("--compare", str(before), *chosen[:-1], "4")
    assert (other.returncode, other.stdout.splitlines()[-1]) == (1, "xor: weights: differs")
    before.write_text(json.dumps({"xor": kept | {"training, neon": "0" * 64}}))
    code = run("--compare", str(before), *chosen, "--only", "code")
    assert (code.returncode, code.stdout.splitlines()[-1]) == (1, "xor: training, neon: differs")


def test_a_model_that_was_not_hashed_is_told(tmp_path: Path) -> None:
    before = tmp_path / "before.json"
    before.write_text("{}")
    found = run("--compare", str(before), "--models", "xor", "--only", "code", "--machines", "avx2")
    assert (found.returncode, found.stdout.splitlines()[-1]) == (1, "xor: not in the earlier file")
