"""Golden files: how a text is compared, and that none is left over, whether one process runs the tests or several."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from golden import Golden, stale
from repository import ROOT


def test_an_equal_text_passes_and_a_different_one_shows_the_difference(tmp_path: Path) -> None:
    Golden(update=True, folder=tmp_path)("stage/case.graph", "one\ntwo")
    golden = Golden(folder=tmp_path)
    golden("stage/case.graph", "one\ntwo\n")
    with pytest.raises(AssertionError, match=r"-two\n\+three"):
        golden("stage/case.graph", "one\nthree")


def test_a_missing_golden_fails_and_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="no golden file"):
        Golden(folder=tmp_path)("stage/case.graph", "one")
    assert not list(tmp_path.iterdir())


def test_stale_names_what_no_test_asked_for(tmp_path: Path) -> None:
    golden = Golden(update=True, folder=tmp_path)
    for name in ("stage/kept.dl", "stage/kept.error", "stage/left.dl", "stage/left.error"):
        golden(name, "text")
    assert stale({"stage/kept.error"}, tmp_path) == ["stage/left.dl", "stage/left.error"]


# A project with these tests' own settings and `conftest.py`, two golden files, and a test that uses the first.
USES_ONE = """
def test_one(golden):
    golden("kept.txt", "text")


def test_other():
    pass
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("pyproject.toml", "tests/conftest.py", "tests/support/golden.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "tests/test_uses.py").write_text(USES_ONE)
    for name in ("kept.txt", "left.txt"):
        Golden(update=True, folder=tmp_path / "tests/golden")(name, "text")
    return tmp_path


@pytest.mark.parametrize("processes", [1, 2])
def test_a_golden_that_no_test_uses_fails_a_run_of_all_tests(processes: int, project: Path) -> None:
    if processes > 1:
        pytest.importorskip("xdist")
    several = ("-p", "xdist", f"--numprocesses={processes}", "--dist=worksteal") if processes > 1 else ()
    status, said = run_of_pytest(project, *several)
    assert "no test uses these files below tests/golden:\nleft.txt" in said
    assert "1 failed, 2 passed" in said.splitlines()[-1]
    assert status == 1


def test_a_run_without_the_cache_of_pytest_ends_well(project: Path) -> None:
    (project / "tests/golden/left.txt").unlink()
    status, said = run_of_pytest(project, "-p", "no:cacheprovider")
    assert status == 0, said


@pytest.mark.parametrize("part", [("-k", "one"), ("tests",), ("--collect-only",)])
def test_a_run_of_some_tests_looks_for_no_golden_that_is_left(part: tuple[str, ...], project: Path) -> None:
    status, said = run_of_pytest(project, *part)
    assert status == 0, said


def run_of_pytest(folder: Path, *arguments: str) -> tuple[int, str]:
    outside = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", *arguments]
    done = subprocess.run(
        command,
        cwd=folder,
        env=outside | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr
