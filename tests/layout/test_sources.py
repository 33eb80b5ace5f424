"""Every `.dl` file of the repository passes the checker; those that readers take as a pattern have no warnings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from repository import ROOT, files

from runtime.cli.main import main

GOLDEN = ROOT / "tests" / "golden"
ALLOWED = ("W0105", "W0119")  # what is not checked for want of data or weights
PATTERNS = (ROOT / "examples", ROOT / "benchmarks")
SOURCES = [path for path in files(".dl") if GOLDEN not in path.parents]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_source_has_no_mistakes(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["check", str(path), "--json"])
    shown = capsys.readouterr()
    assert code == 0, "\n".join(shown)
    found = [finding for finding in json.loads(shown.out) if finding["code"] not in ALLOWED]
    assert not found or not any(path.is_relative_to(folder) for folder in PATTERNS), found
