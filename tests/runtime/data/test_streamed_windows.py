"""Windows of series and texts that are read block by block: those of memory, bit for bit."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from data_specs import source_of, spec
from streamed_data import BLOCK, ROWS, both, columns, expect_same, expect_same_rows, write

from compiler.driver import SAMPLE_NUMBERS, rows_of_process
from compiler.errors.diagnostics import DataError
from runtime.data.loading import load_evaluation_data, load_training_data
from runtime.data.part import rows_of_epoch
from runtime.data.specs import Cut, Cuts, InputSpec
from runtime.data.streaming.reader import EpochRows, OwnShards
from runtime.data.streaming.windows import WindowStream


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path / "cache"))


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
