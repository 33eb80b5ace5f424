"""Every `.dl` file of the repository passes the checker, library, examples, templates and benchmarks alike."""

from __future__ import annotations

from pathlib import Path

import pytest
from repository import ROOT, files

from runtime.cli.main import main

GOLDEN = ROOT / "tests" / "golden"
SOURCES = [path for path in files(".dl") if GOLDEN not in path.parents]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_source_has_no_mistakes(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["check", str(path)])
    assert code == 0, "\n".join(capsys.readouterr())
