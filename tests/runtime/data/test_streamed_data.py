"""Data that is read block by block: the rows, parts and statistics of the same data in memory, bit for bit."""

import gzip
import hashlib
import json
import os
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from data_specs import idx_bytes, source_of, spec, write_digits
from pyarrow import ipc, parquet

from compiler.driver import SAMPLE_NUMBERS, rows_of_process
from compiler.errors.diagnostics import DataError, DlcError
from runtime.data.formats.content import length_of, stretches_of
from runtime.data.loading import LoadedData, load_evaluation_data, load_row_blocks, load_training_data
from runtime.data.part import Part, rows_of_epoch
from runtime.data.specs import Cut, Cuts, Fold, InputSpec, PartSource
from runtime.data.streaming.packs import usual_packs
from runtime.data.streaming.reader import EpochRows, OwnShards, blocks_in_order
from runtime.data.streaming.rows import RowStream
from runtime.data.streaming.windows import WindowStream
from runtime.support.files import fingerprints

ROWS = 300
SPECS = [spec("features", row=(2,)), spec("kind", "i32", target=True, low=0, high=3)]
COLUMNS: dict[str, Any] = {"columns": ("width", "area"), "target": "kind"}
BLOCK = 64
ALL = Cuts()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path / "cache"))


def columns(first: int = 0, rows: int = ROWS) -> dict[str, list[Any]]:
    """Numbers with gaps, a class, and columns to cut rows by."""
    drawn = np.random.default_rng(first).normal(5, 3, (rows, 2))
    return {
        "width": [None if k % 17 == 5 else float(number) for k, number in enumerate(drawn[:, 0])],
        "area": [float(number) for number in drawn[:, 1]],
        "kind": [("rose", "iris", "aster")[(first + k) % 3] for k in range(rows)],
        "year": [2000.0 + (first + k) % 20 for k in range(rows)],
        "plot": [float((first + k) // 7) for k in range(rows)],
    }


def write(path: Path, rows: dict[str, list[Any]]) -> None:
    lines = [dict(zip(rows, cells, strict=True)) for cells in zip(*rows.values(), strict=True)]
    text = [",".join("" if cell is None else str(cell) for cell in line.values()) for line in lines]
    match path.suffix:
        case ".parquet":
            parquet.write_table(pyarrow.table(rows), path, row_group_size=40)
        case ".arrow":
            table = pyarrow.table(rows)
            with ipc.new_file(path, table.schema) as file:
                file.write_table(table, max_chunksize=50)
        case ".arrows":
            table = pyarrow.table(rows)
            with ipc.new_stream(path, table.schema) as stream:
                stream.write_table(table, max_chunksize=50)
        case ".jsonl":
            path.write_text("\n".join([*map(json.dumps, lines), ""]))
        case ".gz":
            path.write_bytes(gzip.compress("\n".join([",".join(rows), *text]).encode()))
        case _:
            path.write_text("\n".join([",".join(rows), *text, ""]))


FORMATS = {"parquet": "parquet", "arrow": "arrow", "arrows": "arrow", "jsonl": "jsonl", "csv": "csv", "csv.gz": "csv"}


def files(folder: Path, ending: str) -> str:
    """Two files of one table, as a path with `*`."""
    write(folder / f"a.{ending}", columns(0, 200))
    write(folder / f"b.{ending}", columns(200, ROWS - 200))
    return str(folder / f"*.{ending}")


def both(
    path: str, form: str, cuts: Cuts = ALL, specs: Sequence[InputSpec] = SPECS, **options: Any
) -> tuple[LoadedData, LoadedData]:
    """The data in memory, and the same read block by block."""
    source = source_of(form, Path(path), **options)
    kept = load_training_data(specs, source, cuts)
    return kept, load_training_data(specs, source, replace(cuts, stream=BLOCK))


def expect_same(kept: LoadedData, streamed: LoadedData) -> None:
    for name in ("train", "validation", "test"):
        expect_same_rows(getattr(kept, name), getattr(streamed, name))
    assert replace(kept.preparation, looks={}) == replace(streamed.preparation, looks={})
    assert set(kept.notes) <= set(streamed.notes)
    for name in ("fingerprints", "fingerprints_of_parts"):
        assert kept.summary[name] == streamed.summary[name]


def expect_same_rows(kept: Part | None, streamed: Part | None) -> None:
    assert (kept is None) == (streamed is None)
    if kept is None or streamed is None:
        return
    assert streamed.stream is not None
    blocks = list(_copied(streamed))
    assert len(streamed.rows) == len(kept.rows)
    for name, array in kept.arrays.items():
        joined = np.concatenate([block[name] for block in blocks])
        assert joined.dtype == array.dtype
        assert joined.tobytes() == array[kept.rows].tobytes()
        assert streamed.arrays[name][streamed.rows[:]].tobytes() == joined.tobytes()
    for name, rows in kept.names.items():
        named = [(rows.file_of(row), rows.of(row)) for row in kept.rows.tolist()]
        assert [(streamed.names[name].file_of(k), streamed.names[name].of(k)) for k in range(len(named))] == named


def _copied(part: Part) -> list[dict[str, Any]]:
    assert part.stream is not None
    return [{n: a.copy() for n, a in arrays.items()} for _, arrays in blocks_in_order(part.stream, 7)]


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
    assert not list(load_row_blocks(folder, IMAGE_SPECS, kept.preparation, {}))
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


SERIES_SPECS = {
    "numbers": [spec("x", row=(6, 2)), spec("y", row=(3,), target=True)],
    "one number": [spec("x", row=(6,)), spec("y", target=True)],
    "doubles": [spec("x", "f64", row=(6, 1)), spec("y", "f64", row=(2, 2), target=True)],
}


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("specs", SERIES_SPECS.values(), ids=SERIES_SPECS)
@pytest.mark.parametrize(
    "options",
    [{}, {"stride": 4}, {"horizon": 5, "normalise": "robust"}, {"rows": "year < 2015", "stride": 2, "normalise": True}],
)
def test_windows_of_a_table(
    tmp_path: Path, ending: str, specs: list[InputSpec], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.data.streaming.windows._AT_ONCE", 200)
    rows = {**columns(), "year": [2000.0 + k / 10 for k in range(ROWS)]}
    for name, part in (("a", slice(0, 200)), ("b", slice(200, ROWS))):  # windows lie over the border
        write(tmp_path / f"{name}.{ending}", {column: values[part] for column, values in rows.items()})
    widths = [spec.type.shape[2] if len(spec.type.shape) > 2 else 1 for spec in specs]
    listed = [
        names[: int(str(width))] for names, width in zip((("width", "area"), ("area", "year")), widths, strict=True)
    ]
    given = {"window": 6, "missing": "mean", "columns": listed[0], "target": listed[1], **options}
    path = str(tmp_path / f"*.{ending}")
    for cuts in (Cuts(0.2, 0.1), Cuts(test=0.13), Cuts()):
        kept, streamed = both(path, ending, cuts, specs, **given)
        expect_same(kept, streamed)
        whole = load_training_data(specs, source_of(ending, Path(path), **given), replace(cuts, stream=10_000)).train
        assert isinstance(whole.stream, WindowStream)
        assert kept.train.slack == whole.stream.slack
        assert streamed.train.stream is not None
        blocks = EpochRows(streamed.train.stream.with_numbers(), 7, OwnShards(4, 4, 1, 3))
        for epoch in (0, 1, 2):
            wanted = rows_of_epoch(kept.train, 7, epoch, 4)
            assert rows_of_epoch(whole, 7, epoch, 4).tolist() == wanted.tolist()
            moved = rows_of_epoch(streamed.train, 7, epoch, 4)
            assert sorted(moved) == sorted(wanted)
            arrays, places = blocks.take(epoch, 0, 4)
            begin, end = rows_of_process(1, 3, 4, 4)
            for name in ("x", "y"):
                assert arrays[name][places][begin:end].tobytes() == kept.train.arrays[name][moved[begin:end]].tobytes()
            assert arrays[SAMPLE_NUMBERS][places][begin:end].tolist() == moved[begin:end].tolist()
    assert streamed.validation is None
    other = source_of(ending, tmp_path / f"b.{ending}", **{**given, "rows": "year > 0"})
    found = load_evaluation_data(specs, other, kept.preparation, BLOCK)
    expect_same_rows(load_evaluation_data(specs, other, kept.preparation).part, found.part)


def test_what_windows_of_a_table_do_not_take(tmp_path: Path) -> None:
    path = str(tmp_path / "t.parquet")
    write(Path(path), columns())
    specs, given = SERIES_SPECS["numbers"], {"window": 6, "columns": ("width", "area"), "target": "area"}

    def message_of(stream: int, **options: Any) -> str:
        cuts = Cuts(options.pop("validation", None), oversample=options.pop("oversample", ""), stream=stream)
        taken = options.pop("specs", specs)
        with pytest.raises(DataError) as caught:
            load_training_data(taken, source_of("parquet", Path(path), **given, **options), cuts)
        return f"{caught.value} {caught.value.fix}"

    wrong = [spec("x", row=(5, 2)), spec("y", row=(3,), target=True)]
    for options, told in (
        ({}, "column `width` has no value"),
        ({"missing": "drop"}, "without the rows that miss a value has gaps"),
        ({"missing": "mean", "rows": 'kind != "iris"'}, "leaves gaps in a series"),
        ({"missing": "mean", "rows": "year > 3000"}, "no row satisfies"),
        ({"missing": "mean", "rows": "plot < 1"}, "steps, and a window takes 9"),
        ({"missing": "mean", "oversample": "kind"}, "windows of a series have no classes"),
        ({"missing": "mean", "validation": Cut("stratified", 0.1)}, "a series is cut in its order"),
        ({"missing": "mean", "specs": wrong}, "declare it as f32[batch, 6, 2]"),
    ):
        found = message_of(BLOCK, **options)
        assert told in found
        in_memory = message_of(0, **options)  # which counts the gaps of all rows, and not of a row group alone
        assert found.replace("2 further rows) (row group 0)", "17 further rows)") == in_memory


TEXT_SPECS = [spec("tokens", "i32", row=(6,), low=0, high=99), spec("label", "i32", target=True, low=0, high=4)]


def write_texts(folder: Path) -> None:
    """Folders of two classes, whose files have texts of several lengths, blank lines and letters of several bytes."""
    drawn = random.Random(0)
    words = ["a", "be", "sea", "dé", "été", "Fließ", "gé", "λόγος", "eye", "jay"]
    for kind in ("good", "bad"):
        (folder / kind).mkdir()
        for number in range(7):
            lines = [" ".join(drawn.choices(words, k=drawn.randint(1, 9))) for _ in range(20)]
            ending = "\r\n" if number % 2 else "\n"
            (folder / kind / f"{number}.txt").write_text("\n".join([*lines, "", ""]), newline=ending)


@pytest.mark.parametrize(
    "options",
    [
        {"each": "file"},
        {"tokens": "char", "ends": True, "lower": True},
        {"tokens": "space", "min_frequency": 3, "vocabulary": 40, "longest": 3},
        {"label": "first", "vocabulary": 12},
    ],
)
@pytest.mark.parametrize("piece", [7, 1 << 20])
def test_folders_of_texts(tmp_path: Path, options: dict[str, Any], piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.data.formats.content._PIECE", piece)
    monkeypatch.setattr("runtime.data.formats.text_blocks._ROWS", 3)
    write_texts(tmp_path)
    path = str(tmp_path / "*" / "*.txt")
    if "label" in options:
        for file in tmp_path.glob("*/*.txt"):
            file.write_text("".join(f"{file.parent.name} {line}\n" for line in file.read_text().split("\n") if line))
    kept, streamed = both(path, "lines", Cuts(0.2, 0.1, seed=3), TEXT_SPECS, **options)
    unnamed: dict[str, Any] = {  # in memory, rows are counted over all files
        name: replace(getattr(kept, name), names={}) for name in ("train", "validation", "test")
    }
    expect_same(replace(kept, **unnamed), streamed)
    other = source_of("lines", tmp_path / "good" / "*.txt", **{"tokens": "word", **options})
    specs = TEXT_SPECS[:1]
    found = load_evaluation_data(specs, other, kept.preparation, BLOCK)
    wanted = load_evaluation_data(specs, other, kept.preparation)
    expect_same_rows(replace(wanted.part, names={}), found.part)


def test_texts_of_pairs_tables_and_language_models(tmp_path: Path) -> None:
    write_texts(tmp_path)
    lines = [line for file in sorted(tmp_path.glob("*/*.txt")) for line in file.read_text().split("\n") if line]
    (tmp_path / "en.txt").write_text("\n".join(lines))
    (tmp_path / "fr.txt").write_text("\n".join(reversed(lines)))
    (tmp_path / "both.txt").write_text("\n".join("\t".join(pair) for pair in zip(lines, reversed(lines), strict=True)))
    tokens = [spec(name, "i32", row=(8,), target=name == "next") for name in ("source", "target", "next")]
    for shared in (False, True):
        expect_same(*both(str(tmp_path / "both.txt"), "pairs", Cuts(0.1), tokens, shared=shared, min_frequency=2))
    masks = [*tokens, replace(spec("length", "bool", row=(8,)), mask_of="source")]
    source = source_of("pairs", tmp_path / "en.txt")
    source = replace(source, others=(("target", str(tmp_path / "fr.txt")),))
    expect_same(
        load_training_data(masks, source, Cuts(0.1)), load_training_data(masks, source, Cuts(0.1, stream=BLOCK))
    )
    (tmp_path / "fr.txt").write_text("\n".join(lines[:-3]))
    with pytest.raises(DataError, match=r"fr\.txt: 277 lines, but en\.txt has 280"):
        load_training_data(masks, source, Cuts(0.1, stream=BLOCK))
    modelled = [spec("tokens", "i32", row=(5,)), spec("next", "i32", row=(5,), target=True)]
    expect_same(*both(str(tmp_path / "en.txt"), "lines", Cuts(0.1), modelled, longest=5))
    (tmp_path / "t.csv").write_text("said,kind\n" + "".join(f"{line},{len(line) % 4}\n" for line in lines))
    cut = Cuts(Cut("stratified", 0.2), stream=4096)
    given: dict[str, Any] = {"text": "said", "label": "kind"}
    expect_same(*both(str(tmp_path / "t.csv"), "lines", Cuts(0.1), TEXT_SPECS, **given))
    loaded = load_training_data(TEXT_SPECS, source_of("lines", tmp_path / "t.csv", **given), cut)
    kept = load_training_data(TEXT_SPECS, source_of("lines", tmp_path / "t.csv", **given), replace(cut, stream=0))
    expect_same(kept, loaded)


def write_running_text(folder: Path) -> str:
    drawn = random.Random(0)
    words = ["It's", "a", "Σοφός", "été ", "b-c", "x,", " ", "\n", "\t", "Ligne\r\n", "end.", "中文", "12"]
    for number in range(3):
        text = " ".join(drawn.choices(words, k=250)) + ("" if number == 1 else "\n")
        (folder / f"{number}.txt").write_bytes((b"\xef\xbb\xbf" if number else b"") + text.encode())
    return str(folder / "*.txt")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tokens": "char", "lower": True, "stride": 3},
        {"tokens": "word"},
        {"tokens": "space", "stride": 9},
        {"tokens": "bpe", "vocabulary": 280, "stride": 1},
    ],
)
@pytest.mark.parametrize("piece", [5, 200])
def test_windows_of_a_running_text(
    tmp_path: Path, options: dict[str, Any], piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if options.get("tokens") == "bpe":
        pytest.importorskip("tokenizers")
    monkeypatch.setattr("runtime.data.formats.content._PIECE", piece)
    path = write_running_text(tmp_path)
    specs = [spec("tokens", "i32", row=(6,)), spec("next", "i64", row=(6,), target=True)]
    specs.append(replace(spec("mask", "bool", row=(6,)), mask_of="tokens"))
    for cuts in (Cuts(0.2, 0.1), Cuts(test=0.13), Cuts()):
        kept, streamed = both(path, "text", cuts, specs, **options)
        expect_same(kept, streamed)
        whole = load_training_data(specs, source_of("text", Path(path), **options), replace(cuts, stream=10_000)).train
        assert isinstance(whole.stream, WindowStream)
        assert kept.train.slack == whole.stream.slack
        reader = EpochRows(whole.stream, 7)
        assert streamed.train.stream is not None
        blocks, shards = EpochRows(streamed.train.stream, 7), OwnShards(4, 4, 1, 3)
        own = EpochRows(streamed.train.stream.with_numbers(), 7, shards)
        for epoch in (0, 1, 2):
            rows = rows_of_epoch(kept.train, 7, epoch, 4)
            assert rows_of_epoch(whole, 7, epoch, 4).tolist() == rows.tolist()
            assert sorted(rows_of_epoch(streamed.train, 7, epoch, 4)) == sorted(rows)
            for name in ("tokens", "next", "mask"):
                arrays, places = reader.take(epoch, 0, len(rows))
                assert arrays[name][places].tobytes() == kept.train.arrays[name][rows].tobytes()
                moved = rows_of_epoch(streamed.train, 7, epoch, 4)[:BLOCK]
                arrays, places = blocks.take(epoch, 0, BLOCK)
                assert arrays[name][places].tobytes() == kept.train.arrays[name][moved].tobytes()
                arrays, places = own.take(epoch, 0, 4)
                begin, end = rows_of_process(1, 3, 4, 4)
                assert arrays[name][places][begin:end].tobytes() == kept.train.arrays[name][moved[begin:end]].tobytes()
                assert arrays[SAMPLE_NUMBERS][places][begin:end].tolist() == moved[begin:end].tolist()
    other = source_of("text", tmp_path / "1.txt", **options)
    found = load_evaluation_data(specs, other, kept.preparation, BLOCK)
    expect_same_rows(load_evaluation_data(specs, other, kept.preparation).part, found.part)


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
    for read in (lambda: _copied(streamed.train), lambda: [streamed.train.arrays["features"]]):
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
        both_streamed(broken(tmp_path, "parquet"), "parquet")
    assert "finite" in caught.value.fix
    assert usual_packs().info()[0] == 0
    assert not [file for file in (tmp_path / "cache" / "rows").iterdir() if file.suffix != ".lock"]


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


def both_streamed(path: str, form: str, cuts: Cuts = ALL, **options: Any) -> LoadedData:
    source = source_of(form, Path(path), **{**COLUMNS, **options})
    return load_training_data(SPECS, source, replace(cuts, stream=BLOCK))


def test_a_damaged_row_group_is_named(tmp_path: Path) -> None:
    path = broken(tmp_path, "parquet").replace("*", "12")
    content = bytearray(Path(path).read_bytes())
    group = parquet.ParquetFile(path).metadata.row_group(1).column(0)
    begin = group.dictionary_page_offset or group.data_page_offset
    content[begin : begin + 20] = b"\xff" * 20
    Path(path).write_bytes(content)
    with pytest.raises(DataError, match=r"12\.parquet: row group 1, from row 41 on, cannot be read"):
        both_streamed(str(tmp_path / "*.parquet"), "parquet")


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    path = files(tmp_path, "jsonl")
    with (tmp_path / "b.jsonl").open("a") as file:
        file.write('{"width": 1\n')
    with pytest.raises(DataError, match=r"b\.jsonl, row 101: this line is no JSON"):
        both_streamed(path, "jsonl")
    (tmp_path / "b.jsonl").write_text('{"width": 1, "area": 2, "kind": "rose", "new": 3}\n')
    with pytest.raises(DataError, match=r"b\.jsonl: its columns are not those of a\.jsonl"):
        both_streamed(path, "jsonl")


def test_later_blocks_of_csv_keep_the_types_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.data.formats.content._PIECE", 2000)  # a block of a few lines
    path = tmp_path / "t.csv"
    rows = {**columns(), "width": [1.0] * ROWS}
    write(path, rows)
    expect_same(*both(str(path), "csv", Cuts(0.2), normalise=True, **COLUMNS))
    rows["width"] = [1.0] * 200 + ["many"] * 100
    write(path, rows)
    with pytest.raises(DataError, match=r"t\.csv, row 202: column `width` holds numbers, but here stands `many`"):
        both_streamed(str(path), "csv")
    write(path, {**columns(), "width": [f'"a\nb{k}"' for k in range(ROWS)]})
    with pytest.raises(DataError, match="holds categories, but"):
        both_streamed(str(path), "csv")


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
