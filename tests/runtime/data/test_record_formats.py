"""Parquet, Arrow and JSON lines: the same rows as a csv table, one file or several, and messages for bad ones."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.feather
import pytest
from data_specs import source_of, spec
from pyarrow import ipc, parquet

from compiler.errors.diagnostics import DataError
from runtime.data.loading import LoadedData, load_evaluation_data, load_rows, load_training_data
from runtime.data.reading import format_of, source_at
from runtime.data.specs import Cut, Cuts

SPECS = [spec("features", row=(2,)), spec("kind", "i32", target=True, low=0, high=3)]
OPTIONS = {"columns": ("width", "area"), "target": "kind"}
ROWS: dict[str, list[Any]] = {
    "width": [float(i) for i in range(12)],
    "area": [i * i for i in range(12)],
    "kind": [("iris", "aster", "rose")[i % 3] for i in range(12)],
    "wet": [i % 2 == 0 for i in range(12)],
}


def write(path: Path, rows: dict[str, list[Any]] = ROWS) -> Path:
    table = pyarrow.table(rows)
    match path.suffix:
        case ".parquet":
            parquet.write_table(table, path, row_group_size=5)
        case ".feather":
            pyarrow.feather.write_feather(table, path)
        case ".arrows":
            with ipc.new_stream(path, table.schema) as stream:
                stream.write_table(table, max_chunksize=5)
        case ".arrow":
            with ipc.new_file(path, table.schema) as file:
                file.write_table(table, max_chunksize=5)
        case ".jsonl":
            count = len(next(iter(rows.values())))
            lines = [json.dumps({name: cells[i] for name, cells in rows.items()}) for i in range(count)]
            path.write_text("\n".join([*lines, ""]))
        case _:
            lines = [",".join(map(str, cells)) for cells in zip(*rows.values(), strict=True)]
            path.write_text("\n".join([",".join(rows), *lines, ""]))
    return path


def load(path: Path, cuts: Cuts | None = None, **options: Any) -> LoadedData:
    form = format_of(path).name if "*" not in str(path) and not path.is_dir() else "parquet"
    return load_training_data(SPECS, source_of(form, path, **{**OPTIONS, **options}), cuts or Cuts())


ENDINGS = (".parquet", ".arrow", ".arrows", ".feather", ".jsonl")


@pytest.mark.parametrize("ending", ENDINGS)
def test_rows_are_those_of_a_csv_table(tmp_path: Path, ending: str) -> None:
    plain, other = (load(write(tmp_path / f"t{e}"), Cuts(0.25, seed=2), normalise=True) for e in (".csv", ending))
    for name in ("features", "kind"):
        np.testing.assert_array_equal(plain.train.arrays[name], other.train.arrays[name])
    np.testing.assert_array_equal(plain.train.rows, other.train.rows)
    assert plain.preparation.scales == other.preparation.scales
    assert plain.preparation.vocabularies == other.preparation.vocabularies
    chosen = load(tmp_path / f"t{ending}", rows="wet == 1 and kind != 'rose'")
    assert chosen.train.arrays["features"][:, 0].tolist() == [i for i in range(12) if i % 2 == 0 and i % 3 != 2]
    source = source_of(format_of(tmp_path / f"t{ending}").name, tmp_path / f"t{ending}", **OPTIONS)
    again = load_evaluation_data(SPECS, source, plain.preparation)
    np.testing.assert_array_equal(again.part.arrays["features"], plain.train.arrays["features"])
    rows = load_rows(tmp_path / f"t{ending}", SPECS, plain.preparation, {"target": "kind"})
    np.testing.assert_array_equal(rows.part.arrays["features"], plain.train.arrays["features"])


def test_several_files_are_one_table_whose_rows_know_their_file(tmp_path: Path) -> None:
    for k in range(3):
        write(tmp_path / f"p-{k}.parquet", {name: cells[4 * k : 4 * k + 4] for name, cells in ROWS.items()})
    whole = load(write(tmp_path / "whole.csv"))
    for path in (tmp_path / "p-*.parquet",):
        several = load(path)
        np.testing.assert_array_equal(several.train.arrays["features"], whole.train.arrays["features"])
    assert several.train.names["features"].file_of(9) == tmp_path / "p-2.parquet"
    assert several.train.names["features"].of(9) == 2
    assert sorted(several.summary["fingerprints"]) == [f"p-{k}.parquet" for k in range(3)]  # type: ignore[arg-type]
    write(tmp_path / "p-1.parquet", {**ROWS, "width": [1.0, None, *[2.0] * 10]})
    with pytest.raises(DataError, match=r"p-1.parquet, row 2: column `width` has no value"):
        load(tmp_path / "p-*.parquet")
    (tmp_path / "whole.csv").unlink()
    with pytest.raises(DataError, match=r"p-1.parquet, row 2"):
        load(tmp_path)


def test_empty_cells_are_missing_ones(tmp_path: Path) -> None:
    rows = {**ROWS, "width": [None, *ROWS["width"][1:]], "kind": [*ROWS["kind"][:-1], None]}
    for ending in ENDINGS:
        path = write(tmp_path / f"gaps{ending}", rows)
        assert len(load(path, missing="drop").train.rows) == 10
        with pytest.raises(DataError, match="has no value"):
            load(path)


def test_dates_are_texts_in_their_order(tmp_path: Path) -> None:
    days = pyarrow.array([19000 - i for i in range(12)], pyarrow.date32())
    parquet.write_table(pyarrow.table({**ROWS, "day": days}), tmp_path / "t.parquet")
    data = load(tmp_path / "t.parquet", Cuts(Cut("latest", 0.25, "day")))
    assert data.validation is not None
    assert data.validation.rows.tolist() == [0, 1, 2]


@pytest.mark.parametrize("ending", ENDINGS)
def test_damaged_files(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / f"t{ending}")
    content = path.read_bytes()
    for damaged in (b"", content[: len(content) // 2], b"\x00" * 64, b"\xff" * len(content)):
        path.write_bytes(damaged)
        with pytest.raises(DataError):
            load(path)


def test_a_damaged_row_group_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet")
    second = parquet.ParquetFile(path).metadata.row_group(1).column(0)
    content = bytearray(path.read_bytes())
    begin = second.dictionary_page_offset or second.data_page_offset
    content[begin : begin + second.total_compressed_size] = b"\xff" * second.total_compressed_size
    path.write_bytes(content)
    with pytest.raises(DataError, match="row group 1, from row 6 on, cannot be read"):
        load(path)


@pytest.mark.parametrize("stream", [0, 4])
def test_a_changed_value_is_found_where_pages_have_checksums(tmp_path: Path, stream: int) -> None:
    path = tmp_path / "t.parquet"
    parquet.write_table(pyarrow.table(ROWS), path, compression="none", use_dictionary=False, write_page_checksum=True)
    first = parquet.ParquetFile(path).metadata.row_group(0).column(0)
    content = bytearray(path.read_bytes())
    content[first.data_page_offset + first.total_compressed_size - 3] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="row group 0, from row 1 on, cannot be read"):
        load(path, Cuts(stream=stream))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"width": 1, "area": 2, "kind": "iris"}', '{"width": '], "row 2: this line is no JSON"),
        (['{"width": 1, "area": 2, "kind": "iris"}', "", "[1]"], "row 3: this line holds no record"),
        (['{"width": 1, "kind": "iris"}'], "there is no column `area`"),
        (
            ['{"width": 1, "area": 2, "kind": "iris"}', '{"width": "a", "area": 2, "kind": "iris"}'],
            'row 2: column `width` holds numbers, but here stands "a"',
        ),
        (
            ['{"width": "a", "kind": "iris"}', "", '{"width": "b", "kind": "iris"}', '{"width": 3, "kind": "iris"}'],
            "row 4: column `width` holds texts, but here stands 3",
        ),
        (
            ['{"width": 1, "area": 2, "kind": "iris"}', "", '{"width": [1, 2], "area": 2, "kind": "iris"}'],
            r"row 3: column `width` holds numbers, but here stands \[1, 2\]",
        ),
        (['{"width": 1, "area": 2, "kind": "iris"}', "", '{"width": 1, "kind": "iris"}'], "row 3: .*`area`"),
        (['{"width": 99007199254740993, "area": 2, "kind": "iris"}'], r"above 2\^53"),
        (["[" * 100_000], "this line is no JSON"),
        (['{"width": 1, "area": 2, "kind": "iris", "width": 3}'], "row 1: .*`width` stands in it twice"),
        (['{"width": NaN, "area": 2, "kind": "iris"}'], "has no value"),
    ],
)
def test_bad_lines(tmp_path: Path, lines: list[str], message: str) -> None:
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    with pytest.raises(DataError, match=message):
        load(tmp_path / "t.jsonl")


def test_columns_that_are_no_column_of_a_table(tmp_path: Path) -> None:
    lists = pyarrow.table({**ROWS, "list": [[1.0]] * 12})
    parquet.write_table(lists, tmp_path / "t.parquet")
    assert "t.parquet: not used: `list`, `wet`" in load(tmp_path / "t.parquet").notes
    big = pyarrow.table({**ROWS, "area": pyarrow.array([2**60] * 12)})
    parquet.write_table(big, tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"row 1: column `area` holds 1152921504606846976"):
        load(tmp_path / "t.parquet")
    words = pyarrow.array(ROWS["kind"]).dictionary_encode()
    parquet.write_table(pyarrow.table({**ROWS, "kind": words}), tmp_path / "t.parquet")
    assert load(tmp_path / "t.parquet").preparation.vocabularies["kind"] == ("aster", "iris", "rose")
    write(tmp_path / "a.parquet")
    write(tmp_path / "b.parquet", {name: cells for name, cells in ROWS.items() if name != "wet"})
    with pytest.raises(DataError, match="`wet` stand in one of both"):
        load(tmp_path / "*.parquet")


@pytest.mark.parametrize("ending", [".parquet", ".jsonl"])
def test_a_folder_and_a_path_with_a_star_are_other_data_of_the_same_kind(tmp_path: Path, ending: str) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}{ending}")
    like = source_of(format_of(tmp_path / f"a{ending}").name, tmp_path / f"a{ending}", **OPTIONS)
    for path in (tmp_path, tmp_path / "*", tmp_path / f"*{ending}"):
        source = source_at(path, like)
        assert (source.format, source.options) == (like.format, like.options)
        assert len(load_training_data(SPECS, source, Cuts()).train.arrays["features"]) == 24
        assert format_of(path).name == like.format
    (tmp_path / "notes.txt").write_text("of another kind")
    assert format_of(tmp_path).name == "idx"
