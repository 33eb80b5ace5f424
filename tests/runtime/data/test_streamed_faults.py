"""Faults of data that is read block by block: each is told with its file and row."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_specs import source_of
from pyarrow import parquet
from streamed_data import BLOCK, COLUMNS, FORMATS, ROWS, SPECS, both, columns, expect_same, files, only_streamed, write

from compiler.errors.diagnostics import DataError, DlcError
from runtime.data.loading import load_training_data
from runtime.data.specs import Cut, Cuts
from runtime.data.streaming.packs import usual_packs


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path / "cache"))


def broken(folder: Path, ending: str) -> str:
    """Forty files, of which number 37 has a value that is no number."""
    for number in range(40):
        rows = columns(number, 50)
        rows["width"] = [1.0] * 50
        if number == 37:
            rows["area"][44] = float("inf")
        write(folder / f"{number:02d}.{ending}", rows)
    return str(folder / f"*.{ending}")


def test_a_broken_row_is_named_by_file_row_group_and_row(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"37\.parquet, row 45: .*inf.*row group 1") as caught:
        only_streamed(broken(tmp_path, "parquet"), "parquet")
    assert "finite" in caught.value.fix
    assert usual_packs().info()[0] == 0
    assert not [file for file in (tmp_path / "cache" / "rows").iterdir() if file.suffix != ".lock"]


def test_a_damaged_row_group_is_named(tmp_path: Path) -> None:
    path = broken(tmp_path, "parquet").replace("*", "12")
    content = bytearray(Path(path).read_bytes())
    group = parquet.ParquetFile(path).metadata.row_group(1).column(0)
    begin = group.dictionary_page_offset or group.data_page_offset
    content[begin : begin + 20] = b"\xff" * 20
    Path(path).write_bytes(content)
    with pytest.raises(DataError, match=r"12\.parquet: row group 1, from row 41 on, cannot be read"):
        only_streamed(str(tmp_path / "*.parquet"), "parquet")


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    path = files(tmp_path, "jsonl")
    with (tmp_path / "b.jsonl").open("a") as file:
        file.write('{"width": 1\n')
    with pytest.raises(DataError, match=r"b\.jsonl, row 101: this line is no JSON"):
        only_streamed(path, "jsonl")
    (tmp_path / "b.jsonl").write_text('{"width": 1, "area": 2, "kind": "rose", "new": 3}\n')
    with pytest.raises(DataError, match=r"b\.jsonl: its columns are not those of a\.jsonl"):
        only_streamed(path, "jsonl")


def test_later_blocks_of_csv_keep_the_types_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.data.formats.content._PIECE", 2000)  # a block of a few lines
    path = tmp_path / "t.csv"
    rows = {**columns(), "width": [1.0] * ROWS}
    write(path, rows)
    expect_same(*both(str(path), "csv", Cuts(0.2), normalise=True, **COLUMNS))
    rows["width"] = [1.0] * 200 + ["many"] * 100
    write(path, rows)
    with pytest.raises(DataError, match=r"t\.csv, row 202: column `width` holds numbers, but here stands `many`"):
        only_streamed(str(path), "csv")
    write(path, {**columns(), "width": [f'"a\nb{k}"' for k in range(ROWS)]})
    with pytest.raises(DataError, match="holds categories, but"):
        only_streamed(str(path), "csv")


@pytest.mark.parametrize(
    ("form", "cuts", "options", "message", "fix"),
    [
        ("parquet", Cuts(oversample="kind"), {}, "puts all 282 rows in order, which takes", "balanced"),
        ("parquet", Cuts(Cut("stratified", 0.1)), {}, "puts all 282 rows in order, which takes", "larger `stream`"),
    ],
)
def test_what_blocks_cannot_do_is_refused(
    tmp_path: Path, form: str, cuts: Cuts, options: dict[str, Any], message: str, fix: str
) -> None:
    path = files(tmp_path, "parquet")
    given = {**COLUMNS, "missing": "drop", **options}
    with pytest.raises(DataError, match=message) as caught:
        load_training_data(SPECS, source_of(form, Path(path), **given), replace(cuts, stream=BLOCK))
    assert fix in caught.value.fix


@pytest.mark.parametrize("ending", [*FORMATS, "npz"])
def test_hostile_files_end_in_a_message(tmp_path: Path, ending: str) -> None:
    path, drawn = tmp_path / f"x.{ending}", random.Random(ending)
    if ending == "npz":
        np.savez_compressed(path, features=np.ones((50, 2)), kind=np.arange(50) % 3)
    else:
        write(path, {**columns(0, 120), "width": [1.0] * 120})
    content, refused = path.read_bytes(), 0
    for _ in range(40):
        hostile = bytearray(content)
        for _ in range(drawn.randint(1, 3)):
            hostile[drawn.randrange(len(hostile))] = drawn.randrange(256)
        path.write_bytes(hostile[: drawn.choice([len(hostile), drawn.randrange(1, len(hostile))])])
        try:
            given = {} if ending == "npz" else COLUMNS
            load_training_data(SPECS, source_of(FORMATS.get(ending, "npz"), path, **given), Cuts(0.2, stream=16))
        except DlcError:
            refused += 1
    assert refused > 10


def test_a_record_that_differs_from_most_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever file and block of lines it is in, after blank lines too."""
    monkeypatch.setattr("runtime.data.formats.content._PIECE", 2000)
    for name, broken in (("a", None), ("b", 150), ("c", 3)):
        widths: list[float | str] = [1.0] * ROWS
        if broken is not None:
            widths[broken] = "many"
        rows = {**columns(), "width": widths}
        write(tmp_path / f"{name}.jsonl", rows)
        text = (tmp_path / f"{name}.jsonl").read_text().split("\n")
        (tmp_path / f"{name}.jsonl").write_text("\n".join([text[0], "", *text[1:]]))
    for name, row in (("b", 152), ("c", 5)):
        for stream in (0, BLOCK):
            source = source_of("jsonl", tmp_path / "*.jsonl", **COLUMNS)
            with pytest.raises(DataError, match=rf"{name}\.jsonl, row {row}: column `width` holds numbers, but here"):
                load_training_data(SPECS, source, Cuts(stream=stream))
        (tmp_path / f"{name}.jsonl").unlink()
