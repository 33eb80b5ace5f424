"""Imports point one way: the contracts of `pyproject.toml` hold, and they would notice if they did not."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest
from importlinter.cli import lint_imports
from repository import ROOT

KEPT = 0


def check_contracts(configuration: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = lint_imports(config_filename=str(configuration), no_cache=True, no_logo=True)
    return code, capsys.readouterr().out


def test_every_contract_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    code, report = check_contracts(ROOT / "pyproject.toml", capsys)
    assert code == KEPT, report


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("compiler/types.py", "import compiler.driver"),
        ("compiler/graph/ir.py", "import compiler.ops"),
        ("compiler/graph_passes/__init__.py", "import lark"),
        ("compiler/errors/diagnostics.py", "import runtime"),
        ("runtime/__init__.py", "import compiler.graph.ir"),
        ("compiler/unplaced.py", ""),
    ],
)
def test_a_contract_notices(
    module: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a copy of the sources, one import that points the wrong way, or a module with no place, breaks a contract."""
    for package in ("compiler", "runtime", "grammar"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / module).open("a") as file:
        file.write(f"\n{line}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("compiler", "runtime", "grammar")]:
        monkeypatch.delitem(sys.modules, name)  # what other tests imported stands in the way of the copy
    code, report = check_contracts(tmp_path / "pyproject.toml", capsys)
    assert code != KEPT, report


TESTS_OF_THE_CPU = ("tests/targets", "tests/nest", "tests/support")
BESIDE = {
    "tests/passes/test_chained_kernels.py": "which kernels the target blocks or transposes",
    "tests/runtime/runs/test_memory.py": "no memory is taken before it is known to be there",
    "tests/training/test_each_fusion.py": "the execution plan of a loaded program",
}
"""What else looks into the CPU target, and at what."""


def test_only_tests_of_the_cpu_target_import_it() -> None:
    files = [path for room in ("tests", "benchmarks", "docs") for path in (ROOT / room).rglob("*.py")]
    text = re.compile(r"^\s*(from|import) compiler\.targets(\.cpu| import .*\bcpu\b)", re.MULTILINE)
    found = {path.relative_to(ROOT).as_posix() for path in files if text.search(path.read_text())}
    assert {name for name in found if not name.startswith(TESTS_OF_THE_CPU)} == {*BESIDE}
