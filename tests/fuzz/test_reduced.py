"""Small programs and graphs that an earlier compiler got wrong, as `tests/stress/reduce.py` left them."""

from __future__ import annotations

from pathlib import Path

import pytest
from judging import kind_of_fault

FILES = sorted((Path(__file__).parent / "reduced").iterdir())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_was_wrong_is_right(file: Path) -> None:
    assert kind_of_fault(file.read_text(), file.suffix != ".dl", None) is None
