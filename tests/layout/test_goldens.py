"""Golden files: how a text is compared, and that none is left over."""

from __future__ import annotations

from pathlib import Path

import pytest
from golden import Golden, stale


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


@pytest.mark.last
def test_no_golden_is_stale(golden: Golden, is_whole_run: bool) -> None:
    if not is_whole_run:
        pytest.skip("only a run of all tests shows which goldens nothing uses")
    assert stale(golden.used) == []
