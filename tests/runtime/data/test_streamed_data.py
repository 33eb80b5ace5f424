"""Data that is read block by block: the rows, parts and statistics of the same data in memory, bit for bit."""

import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_specs import idx_bytes, source_of, spec, write_digits
from streamed_data import (
    ALL,
    BLOCK,
    COLUMNS,
    FORMATS,
    ROWS,
    SPECS,
    both,
    columns,
    expect_same,
    expect_same_rows,
    files,
    write,
)

from compiler.errors.diagnostics import DataError
from runtime.data.formats.content import length_of, stretches_of
from runtime.data.loading import load_evaluation_data, load_row_blocks, load_training_data
from runtime.data.specs import Cut, Cuts, Fold, PartSource
from runtime.support.files import fingerprints


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path / "cache"))


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("normalise", ["standard", "min-max", "robust"])
def test_every_format_gives_the_rows_and_statistics_of_memory(tmp_path: Path, ending: str, normalise: str) -> None:
    path = files(tmp_path, ending)
    options: dict[str, Any] = {**COLUMNS, "missing": "mean", "normalise": normalise}
    expect_same(*both(path, FORMATS[ending], Cuts(0.2, 0.1, seed=3), **options))


CUTS: dict[str, tuple[PartSource, PartSource]] = {
    "shares": (0.1, 0.25),
    "where": (Cut("where", condition="year < 2004"), Cut("where", condition="year >= 2016 and plot < 30")),
    "where and share": (Cut("where", condition="kind == 'rose'"), 0.2),
    "latest": (Cut("latest", 0.1), None),
    "latest by column": (Cut("latest", 0.1, "year"), 0.1),
    "fold": (Cut("random", Fold(2, 5)), 0.1),
    "last fold": (Cut("random", Fold(5, 5)), None),
    "stratified": (Cut("stratified", 0.2), Cut("stratified", 0.1, "year")),
    "grouped": (Cut("grouped", 0.2, "plot"), None),
    "folds of groups": (Cut("grouped", Fold(1, 3), "plot"), 0.1),
}


@pytest.mark.parametrize("name", CUTS)
def test_cuts_choose_the_rows_that_they_choose_in_memory(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.data.streaming.cutting._BYTES_OF_A_ROW", 1)  # a block here is of few bytes
    validation, test = CUTS[name]
    expect_same(*both(files(tmp_path, "parquet"), "parquet", Cuts(validation, test, 7), missing="drop", **COLUMNS))


def test_rows_that_a_condition_chooses(tmp_path: Path) -> None:
    path = files(tmp_path, "csv")
    expect_same(*both(path, "csv", Cuts(0.2), rows="year != 2003", missing="drop", **COLUMNS))


@pytest.mark.parametrize("cuts", [Cuts(0.2, seed=3), Cuts(Cut("where", condition="year < 2004"))])
def test_rows_of_rare_classes_come_more_often(tmp_path: Path, cuts: Cuts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.data.streaming.cutting._BYTES_OF_A_ROW", 1)
    rows = columns()
    rows["kind"] = ["rose" if k % 7 else "iris" if k % 2 else "aster" for k in range(ROWS)]
    write(tmp_path / "t.csv", rows)
    options: dict[str, Any] = {**COLUMNS, "missing": "mean", "normalise": True}
    kept, streamed = both(str(tmp_path / "t.csv"), "csv", replace(cuts, oversample="kind"), **options)
    expect_same(kept, streamed)
    counts = np.bincount(kept.train.arrays["kind"][kept.train.rows])
    assert len(set(counts.tolist())) == 1
    assert any("`oversample`: " in note for note in streamed.notes)


def test_arrays_of_npz_and_npy(tmp_path: Path) -> None:
    drawn = np.random.default_rng(0)
    features, kind = drawn.normal(size=(ROWS, 2)), drawn.integers(0, 3, ROWS)
    np.savez(tmp_path / "plain.npz", features=features, kind=kind)
    np.savez_compressed(tmp_path / "packed.npz", features=features, kind=kind)
    for name in ("plain", "packed"):
        expect_same(*both(str(tmp_path / f"{name}.npz"), "npz", Cuts(0.1)))
    np.save(tmp_path / "one.npy", features.astype(">f8"))
    expect_same(*both(str(tmp_path / "one.npy"), "npy", Cuts(0.1), SPECS[:1]))


def test_folders_of_images(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    drawn = np.random.default_rng(0)
    for part, count in (("train", 9), ("test", 4)):
        for kind in ("cat", "dog"):
            (tmp_path / "p" / part / kind).mkdir(parents=True)
            for k in range(count):
                pixels = drawn.integers(0, 256, (6, 5, 3), np.uint8)
                image.fromarray(pixels).save(tmp_path / "p" / part / kind / f"{k}.png")
    specs = [spec("image", "u8", row=(3, 6, 5)), spec("label", "i32", target=True, low=0, high=2)]
    expect_same(*both(str(tmp_path / "p"), "images", Cuts(0.2), specs))
    expect_same(*both(str(tmp_path / "p"), "images", Cuts(0.2, 0.1), specs))


IMAGE_SPECS = [spec("image", "u8", row=(4, 3)), spec("label", "i32", target=True, low=0, high=10)]


def test_folders_and_files_of_idx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.data.formats.idx._BLOCK_BYTES", 100)
    folder = write_digits(tmp_path / "digits", train=90, test=25)
    for cuts in (Cuts(), Cuts(0.2), Cuts(0.2, 0.1)):
        expect_same(*both(str(folder), "idx", cuts, IMAGE_SPECS))
    images = folder / "train-images-idx3-ubyte.gz"
    expect_same(*both(str(images), "idx", Cuts(0.2), IMAGE_SPECS[:1]))
    (tmp_path / "x-idx2-ubyte").write_bytes(idx_bytes(np.arange(300, dtype=np.float64).reshape(150, 2)))
    expect_same(*both(str(tmp_path / "x-idx2-ubyte"), "idx", Cuts(0.2), [spec("image", row=(2,))]))
    kept, _ = both(str(folder), "idx", ALL, IMAGE_SPECS)
    found = load_evaluation_data(IMAGE_SPECS, source_of("idx", folder), kept.preparation, BLOCK)
    assert len(found.part.rows) == 25
    blocks = [part.part for part in load_row_blocks(folder, IMAGE_SPECS, kept.preparation, {}, BLOCK)]
    assert sum(len(block.rows) for block in blocks) == 25
    for part, prefix in (("train", "train"), ("test", "t10k")):
        labels = folder / f"{prefix}-labels-idx1-ubyte"
        content = labels.read_bytes()
        labels.write_bytes(content[:-4] + b"\x0b" + content[-3:])
        rows = {"train": 90, "test": 25}[part]
        with pytest.raises(
            DataError, match=rf"{prefix}-labels-idx1-ubyte, row {rows - 3}: `label`: 11 is out of range"
        ):
            load_training_data(IMAGE_SPECS, source_of("idx", folder), Cuts(stream=BLOCK))
        labels.write_bytes(content[:-1])
        with pytest.raises(DataError, match=rf"{rows} values need {rows} bytes, but the file holds {rows - 1}"):
            load_training_data(IMAGE_SPECS, source_of("idx", folder), Cuts(stream=BLOCK))
        labels.write_bytes(content)
    images.write_bytes(gzip.compress(gzip.decompress(images.read_bytes()) + b"0" * 1000))
    with pytest.raises(DataError, match="but the file holds more"):
        load_training_data(IMAGE_SPECS, source_of("idx", folder), Cuts(stream=BLOCK))


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_content_in_stretches(tmp_path: Path, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.data.formats.content._PIECE", piece)
    content = bytes(range(256)) * 3
    (tmp_path / "plain").write_bytes(content)
    (tmp_path / "packed").write_bytes(gzip.compress(content[:300]) + gzip.compress(content[300:]))
    for name in ("plain", "packed"):
        assert length_of(tmp_path / name) == 768
        for start, each in ((0, 768), (5, 13), (767, 1), (768, 4), (16, 376)):
            found = list(stretches_of(tmp_path / name, start, each))
            assert b"".join(found) == content[start:]
            assert all(len(stretch) == each for stretch in found[:-1])
    assert 100 < length_of(tmp_path / "packed", 100) <= 100 + max(piece, 256)


@pytest.mark.parametrize("is_fine", [False, True])
def test_batches_of_cifar(tmp_path: Path, is_fine: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.data.formats.cifar._AT_ONCE", 7)
    drawn = np.random.default_rng(0)
    size = 3074 if is_fine else 3073
    for name, rows in (("data_batch_1.bin", 30), ("data_batch_2.bin", 45), ("test_batch.bin", 12)):
        records = drawn.integers(0, 256, (rows, size), np.uint8)
        records[:, : size - 3072] %= 10
        (tmp_path / name).write_bytes(records.tobytes())
    packed = tmp_path / "data_batch_2.bin"
    (tmp_path / "data_batch_2.bin.gz").write_bytes(gzip.compress(packed.read_bytes()))
    packed.unlink()
    specs = [spec("image", "u8", row=(3, 32, 32)), spec("label", "i32", target=True, low=0, high=10)]
    for cuts in (Cuts(), Cuts(0.2), Cuts(0.2, 0.1)):
        expect_same(*both(str(tmp_path), "cifar", cuts, specs))
    expect_same(*both(str(tmp_path / "test_batch.bin"), "cifar", ALL, specs))
    broken = bytearray((tmp_path / "data_batch_2.bin.gz").read_bytes())
    records = bytearray(gzip.decompress(broken))
    records[20 * size + size - 3073] = 77
    (tmp_path / "data_batch_2.bin.gz").write_bytes(gzip.compress(records))
    for stream in (0, BLOCK):
        with pytest.raises(DataError, match=r"data_batch_2\.bin\.gz, row 21: `label`: 77 is out of range"):
            load_training_data(specs, source_of("cifar", tmp_path), Cuts(stream=stream))
    (tmp_path / "data_batch_2.bin.gz").write_bytes(gzip.compress(records[:-5]))
    with pytest.raises(DataError, match="a file of CIFAR holds records of"):
        load_training_data(specs, source_of("cifar", tmp_path), Cuts(stream=BLOCK))


def test_further_sources_are_prepared_as_the_training(tmp_path: Path) -> None:
    path = files(tmp_path, "parquet")
    write(tmp_path / "c.csv", columns(7, 50))
    other = source_of("csv", tmp_path / "c.csv", missing="mean", **COLUMNS)
    options: dict[str, Any] = {**COLUMNS, "missing": "mean", "normalise": True}
    kept, streamed = both(path, "parquet", Cuts(other, 0.1), **options)
    expect_same(kept, streamed)
    assert kept.summary["fingerprints_of_parts"] == {"validation": fingerprints([tmp_path / "c.csv"])}
    found = load_evaluation_data(SPECS, other, kept.preparation, BLOCK)
    expect_same_rows(load_evaluation_data(SPECS, other, kept.preparation).part, found.part)


@pytest.mark.parametrize("pages", [1, 1 << 20])
def test_row_groups_are_unpacked_or_read_by_pages(tmp_path: Path, pages: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.data.formats.records._PAGES", pages)
    rows = {**columns(), "area": list(range(ROWS)), "plot": [None, *range(ROWS - 1)]}
    write(tmp_path / "t.parquet", rows)
    options: dict[str, Any] = {**COLUMNS, "columns": ("width", "area"), "missing": "drop"}
    kept, streamed = both(str(tmp_path / "t.parquet"), "parquet", **options)
    expect_same(kept, streamed)
    assert any("a row group takes up to" in note for note in streamed.notes) == (pages > 1)
    rows["area"][77] = 2**53 + 1
    write(tmp_path / "t.parquet", rows)
    with pytest.raises(DataError, match=r"t\.parquet, row 78: .*9007199254740993"):
        both(str(tmp_path / "t.parquet"), "parquet", **options)


def test_csv_files_of_one_table(tmp_path: Path) -> None:
    path = files(tmp_path, "csv")
    data = load_training_data(SPECS, source_of("csv", Path(path), missing="drop", **COLUMNS), Cuts())
    write(tmp_path / "whole.csv.txt", columns(0, 200))
    assert len(data.train.rows) == sum(
        width is not None for part in ((0, 200), (200, 100)) for width in columns(*part)["width"]
    )
    names = data.train.names["features"]
    assert (names.file_of(0).name, names.of(0)) == ("a.csv", 2)
    assert (names.file_of(len(data.train.rows) - 1).name, names.of(len(data.train.rows) - 1)) == ("b.csv", 101)
    (tmp_path / "c.csv").write_text("width,area,kind\n1,2,rose\n")
    with pytest.raises(DataError, match=r"c\.csv: its columns are not those of a\.csv: `plot`, `year` stand in one"):
        load_training_data(SPECS, source_of("csv", Path(path), missing="drop", **COLUMNS), Cuts())
