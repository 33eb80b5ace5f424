"""Packs of rows in the cache: when they serve again, and what is told of those that the disk changed."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from streamed_data import COLUMNS, both, copied, expect_same, expect_same_rows, files

from compiler.errors.diagnostics import DataError
from runtime.data.specs import Cuts
from runtime.data.streaming.packs import usual_packs
from runtime.data.streaming.rows import RowStream


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path / "cache"))


def test_a_pass_is_made_once_for_the_same_files_and_settings(tmp_path: Path) -> None:
    path = files(tmp_path, "jsonl")
    options: dict[str, Any] = {**COLUMNS, "missing": "mean"}
    _, first = both(path, "jsonl", Cuts(0.1), **options)
    packs = usual_packs()
    assert packs.info()[0] == 1
    _, again = both(path, "jsonl", Cuts(0.1), **options)
    assert packs.info()[0] == 1
    expect_same_rows(
        replace(first.train, arrays=dict(first.train.arrays), rows=first.train.rows[:], names=dict(first.train.names)),
        again.train,
    )
    both(path, "jsonl", Cuts(0.1, seed=1), **options)  # another cut at random
    assert packs.info()[0] == 2
    (tmp_path / "b.jsonl").touch()
    both(path, "jsonl", Cuts(0.1), **options)
    assert packs.info()[0] == 3
    packs.clear()
    assert packs.info() == (0, 0)


def test_a_pack_that_is_not_whole_is_made_anew(tmp_path: Path) -> None:
    path = files(tmp_path, "csv")
    options: dict[str, Any] = {**COLUMNS, "missing": "drop"}
    both(path, "csv", **options)
    for file in (tmp_path / "cache" / "rows").iterdir():
        if file.suffix == ".0":
            file.write_bytes(file.read_bytes()[:-4])
    expect_same(*both(path, "csv", **options))
    for file in (tmp_path / "cache" / "rows").glob("*.head"):
        file.write_text('{"parts": {"train": [')
    expect_same(*both(path, "csv", **options))


@pytest.mark.parametrize(("what", "share"), [("zeroed", 0.5), ("flipped", 0.0), ("sums", 1.0), ("cut short", 0.5)])
def test_rows_that_changed_on_disk_are_told_and_made_anew(tmp_path: Path, what: str, share: float) -> None:
    path = files(tmp_path, "parquet")
    options: dict[str, Any] = {**COLUMNS, "missing": "drop"}
    kept, streamed = both(path, "parquet", **options)
    assert isinstance(streamed.train.stream, RowStream)
    place = tmp_path / "cache" / "rows" / streamed.train.stream.stored("features").entry
    content = bytearray(place.read_bytes())
    at = min(int(share * len(content)), len(content) - 8)
    if what == "cut short":
        os.truncate(place, at)
    else:
        content[at : at + 8] = bytes(8) if what != "flipped" else bytes(byte ^ 1 for byte in content[at : at + 8])
        place.write_bytes(content)
    for read in (lambda: copied(streamed.train), lambda: [streamed.train.arrays["features"]]):
        with pytest.raises(DataError, match="are not those that were written") as caught:
            read()
        assert "the next command makes them anew" in caught.value.fix
        assert str(caught.value).startswith(str(place))
        named = "rows 1 to 256 of `features`" if what in ("zeroed", "flipped") else "the checksums of `features`"
        assert named in str(caught.value)
    expect_same(kept, both(path, "parquet", **options)[1])


@pytest.mark.parametrize(
    "told", ["{}", '{"preparation": {"columns": 3}, "notes": [], "fingerprints": {}, "files": []}']
)
def test_a_head_that_says_something_else_is_made_anew(tmp_path: Path, told: str) -> None:
    path = files(tmp_path, "csv")
    options: dict[str, Any] = {**COLUMNS, "missing": "mean", "normalise": True}
    kept, _ = both(path, "csv", **options)
    (head,) = (tmp_path / "cache" / "rows").glob("*.head")
    _, content = head.read_bytes().split(b"\n")
    changed = content.replace(b"0", b"1", 1)
    head.write_bytes(b"\n".join([hashlib.sha256(content).hexdigest().encode(), changed]))  # the disk changed a digit
    expect_same(kept, both(path, "csv", **options)[1])
    changed = json.dumps({**json.loads(content), "told": json.loads(told)}).encode()  # somebody wrote another
    head.write_bytes(b"\n".join([hashlib.sha256(changed).hexdigest().encode(), changed]))
    expect_same(kept, both(path, "csv", **options)[1])
