"""Each format's reader: what a good file gives, and what a bad one is said to be."""

import gzip
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_specs import idx_bytes, source, spec, write, write_digits

from compiler.errors.diagnostics import DataError
from compiler.support.data_formats import OPTIONS
from runtime.data.dataset import Dataset
from runtime.data.formats import csv_table
from runtime.data.formats.format import SourceOptions, SourceRequest
from runtime.data.loading import load_training_data
from runtime.data.reading import FORMATS, format_named, format_of
from runtime.data.specs import Cuts


def read(path: Path, wanted: str = "", **options: Any) -> Dataset:
    return format_of(path).read(SourceRequest(path, SourceOptions(options), frozenset(wanted.split())))


def values(dataset: Dataset, name: str) -> list[object]:
    return dataset.fields[name].values.tolist()


def test_every_format_has_its_own_name_and_endings() -> None:
    assert len({known.name for known in FORMATS}) == len(FORMATS)
    endings = [ending for known in FORMATS for ending in known.endings]
    assert len(set(endings)) == len(endings)


def test_every_format_has_options() -> None:
    assert [known.name for known in FORMATS] == list(OPTIONS)


def test_an_unknown_format_gets_the_nearest_name() -> None:
    with pytest.raises(DataError, match="did you mean `csv`"):
        format_named("cvs")


def test_csv_with_header_and_text(tmp_path: Path) -> None:
    dataset = read(write(tmp_path / "a.csv", "height,species\n1.5,oak\n2,fir\n\n-3e2, oak\n"))
    assert values(dataset, "height") == [1.5, 2.0, -300.0]
    assert values(dataset, "species") == ["oak", "fir", "oak"]
    assert dataset.table is not None
    assert dataset.table.has_header
    assert dataset.fields["height"].row_number(2) == 5
    assert dataset.notes == ()


def test_csv_without_header(tmp_path: Path) -> None:
    dataset = read(write(tmp_path / "a.csv", "1,2\n3,4"))
    assert values(dataset, "column_2") == [2.0, 4.0]
    assert dataset.fields["column_2"].row_number(1) == 2


@pytest.mark.parametrize(("text", "taken"), [("2019,name\n1,2\n3,4\n", "column names"), ("word\nred\nblue\n", "data")])
def test_csv_says_how_it_took_a_first_line_that_could_be_either(tmp_path: Path, text: str, taken: str) -> None:
    (note,) = read(write(tmp_path / "a.csv", text)).notes
    assert taken in note
    assert "header = " in note


def test_csv_header_can_be_forced_either_way(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "2019,2020\n3,4\n")
    assert values(read(path, header=True), "2020") == [4.0]
    assert values(read(path), "column_1") == [2019.0, 3.0]
    texts = write(tmp_path / "b.csv", "word\nred\nblue\n")
    assert values(read(texts), "column_1") == ["word", "red", "blue"]
    assert values(read(texts, "word"), "word") == ["red", "blue"], "a name that the program asks for makes a header"


def test_csv_names_option_and_separator(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "1;2\n3;4\n")
    assert values(read(path, names=("a", "b"), separator=";"), "b") == [2.0, 4.0]
    with pytest.raises(DataError, match="no comma") as caught:
        read(path)
    assert 'separator = ";"' in caught.value.fix


def test_csv_quotes_gzip_byte_order_mark_and_line_ends(tmp_path: Path) -> None:
    text = '\ufeffname,x\r\n"Doe, Jane",1\r\n"two\nlines",2\r\n"say ""hi""",3\r\n'
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(text.encode()))
    dataset = read(path)
    assert values(dataset, "name") == ["Doe, Jane", "two\nlines", 'say "hi"']
    assert values(dataset, "x") == [1.0, 2.0, 3.0]
    assert [dataset.fields["x"].row_number(i) for i in range(3)] == [2, 3, 5]


def test_csv_quoted_numbers_agree_on_both_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.csv", 'a,b\n"1", 2.50\n 3,"4"\n-0.1,1e-3\n')
    fast = read(path)
    monkeypatch.setattr(csv_table, "_parse_numbers", lambda *_: None)
    slow = read(path)
    for name in ("a", "b"):
        np.testing.assert_array_equal(fast.fields[name].values, slow.fields[name].values)
    assert fast.fields["a"].values.tolist() == [1.0, 3.0, -0.1]


def test_csv_columns_listed_as_categories_stay_text(tmp_path: Path) -> None:
    assert values(read(write(tmp_path / "a.csv", "1,7\n2,8\n"), categories=-1), "column_2") == ["7", "8"]


@pytest.mark.parametrize("missing", ["", "?", "NA", "NaN"])
def test_csv_missing_values_are_nan_or_empty(tmp_path: Path, missing: str) -> None:
    dataset = read(write(tmp_path / "a.csv", f"x,y\n1,a\n{missing},{missing}\n3,b\n"))
    assert np.isnan(dataset.fields["x"].values).tolist() == [False, True, False]
    assert values(dataset, "y") == ["a", "", "b"]


@pytest.mark.parametrize(
    ("text", "row", "message"),
    [
        ("", None, "empty"),
        ("\n \n", None, "empty"),
        ("a,b\n", None, "no rows"),
        ("1,2\n3\n", 2, "1 values, but the table has 2 columns"),
        ("1,2\n3,4,5\n", 2, "3 values"),
        ("x,y\n1,a\n\n2,b,c\n", 4, "3 values"),
        ("x\n1\n2\nthree\n4\n", 4, "here stands `three`"),
        ("x\n1\n2\n1_000\n4\n", 4, "here stands `1_000`"),
        ("x\n1\n2\ninf\n4\n", 4, "here stands `inf`"),
        ("x,y\n1,2\n" + "3,4\n" * 200 + "5,six\n", 203, "here stands `six`"),
        ('a,b\n1,"open\n2,3\n', 2, "cannot be read"),
        ("a,a\n1,2\n", 1, "more than once"),
    ],
)
def test_csv_mistakes_name_their_row(tmp_path: Path, text: str, row: int | None, message: str) -> None:
    options: dict[str, Any] = {"header": True} if text.startswith(("a,", "x")) else {}
    with pytest.raises(DataError, match=message) as caught:
        read(write(tmp_path / "a.csv", text), **options)
    assert caught.value.row == row
    assert caught.value.fix
    assert "a.csv" in str(caught.value)


def test_csv_that_is_not_utf8_names_the_row(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("1,a\n2,é\n".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8") as caught:
        read(path)
    assert caught.value.row == 2


def test_truncated_and_damaged_gzip(tmp_path: Path) -> None:
    whole = gzip.compress(b"1,2\n" * 1000)
    (tmp_path / "a.csv.gz").write_bytes(whole[:-9])
    with pytest.raises(DataError, match="truncated"):
        read(tmp_path / "a.csv.gz")
    (tmp_path / "a.csv.gz").write_bytes(whole[:-8] + b"\0\0\0\0" + whole[-4:])
    with pytest.raises(DataError, match="damaged"):
        read(tmp_path / "a.csv.gz")


def test_gzip_of_several_members(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"1,2\n") + gzip.compress(b"3,4\n"))
    assert values(read(tmp_path / "a.csv.gz"), "column_1") == [1.0, 3.0]


def test_idx_folder_gives_both_parts(tmp_path: Path) -> None:
    dataset = read(write_digits(tmp_path / "digits"))
    assert dataset.fields["image"].values.shape == (12, 4, 3)
    assert dataset.test is not None
    assert dataset.test["label"].values.tolist() == [0, 1, 2, 3, 4]
    assert len(dataset.fingerprints) == 4


def test_idx_files_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "pictures").write_bytes(idx_bytes(np.zeros((3, 2, 2), np.uint8)))
    (tmp_path / "classes").write_bytes(idx_bytes(np.arange(3, dtype=np.uint8)))
    dataset = read(tmp_path, images="pictures", labels="classes")
    assert dataset.rows == 3
    assert dataset.test is None


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "float32", "float64"])
def test_idx_element_types(tmp_path: Path, dtype: str) -> None:
    array = np.arange(12).reshape(3, 4).astype(dtype)
    (tmp_path / "x.idx").write_bytes(idx_bytes(array))
    found = read(tmp_path / "x.idx").fields["image"].values
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0"),
        (b"\0\0\x08", "4 bytes"),
        (b"\x01\0\x08\x01\0\0\0\x01\x05", "magic number is 0x01000801"),
        (b"\0\0\x07\x01\0\0\0\x01\x05", "magic number"),
        (b"\0\0\x08\x03\0\0\0\x01", "cut off"),
        (b"\0\0\x08\x01\0\0\0\x05\x01", "5 values need 5 bytes, but the file holds 1"),
        (b"\0\0\x08\x01\0\0\0\x01\x01\x02", "holds more"),
        (b"\0\0\x08\x01\0\0\0\x00", "no rows"),
        (b"\0\0\x08\x02\xff\xff\xff\xff\xff\xff\xff\xff\x01", "need"),
    ],
)
def test_bad_idx_files(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.idx").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path / "x.idx")


def test_idx_parts_must_fit(tmp_path: Path) -> None:
    folder = write_digits(tmp_path / "digits")
    (folder / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(11, np.uint8)))
    with pytest.raises(DataError, match=r"11 labels, but .* 12 images"):
        read(folder)
    (folder / "other-train-images-idx3-ubyte").write_bytes(b"")
    with pytest.raises(DataError, match="several files") as caught:
        read(folder)
    assert "images = " in caught.value.fix


def test_idx_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no idx training images"):
        read(tmp_path)


def test_npz_reads_only_what_is_wanted(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.ones((3, 2)), y=np.arange(3), other=np.zeros(7))
    dataset = read(tmp_path / "a.npz", "x y")
    assert values(dataset, "y") == [0, 1, 2]
    assert dataset.unread == ("other",)


def test_npz_keeps_order_and_byte_order(tmp_path: Path) -> None:
    array = np.arange(6.0).reshape(2, 3)
    np.savez(tmp_path / "a.npz", x=np.asfortranarray(array), y=array.astype(">f4"))
    dataset = read(tmp_path / "a.npz", "x y")
    np.testing.assert_array_equal(dataset.fields["x"].values, array)
    np.testing.assert_array_equal(dataset.fields["y"].values, array)
    assert dataset.fields["y"].values.dtype.isnative


class _Trap:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("trapped",)


def test_npz_never_unpickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    array = np.empty(1, object)
    array[0] = _Trap()
    np.savez("a.npz", x=array)
    Path("b.npy").write_bytes(pickle.dumps(_Trap()))
    with pytest.raises(DataError, match="pickled"):
        read(tmp_path / "a.npz", "x")
    with pytest.raises(DataError, match="damaged npy header"):
        read(tmp_path / "b.npy", "x")
    assert not Path("trapped").exists()


def test_npz_rows_must_agree(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 2)), y=np.zeros(4))
    with pytest.raises(DataError, match="`x` has 3, `y` has 4"):
        read(tmp_path / "a.npz", "x y")
    np.savez(tmp_path / "b.npz", x=np.float32(1))
    with pytest.raises(DataError, match="single number"):
        read(tmp_path / "b.npz", "x")


def test_npy_header_cannot_claim_more_than_there_is(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 3), np.float32))
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content.replace(b"(2, 3), }            ", b"(2, 3000000000000), }"))
    with pytest.raises(DataError, match="needs 24000000000000 bytes, but 24 follow"):
        read(tmp_path / "a.npy", "x")


def test_options_are_strict(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "1,2\n")
    specs = [spec("x", row=(2,))]
    with pytest.raises(DataError, match=r"model.dl:3:5: `csv` has no option `haeder`; did you mean `header`\?"):
        load_training_data(specs, source(path, haeder=True), Cuts())
    with pytest.raises(DataError, match="option `header` is 1"):
        load_training_data(specs, source(path, header=1), Cuts())
    with pytest.raises(DataError, match="cannot be `means`; did you mean `mean`"):
        load_training_data(specs, source(path, missing="means"), Cuts())


def test_a_format_is_told_by_the_path(tmp_path: Path) -> None:
    assert format_of(tmp_path).name == "idx"
    assert format_of(Path("a/b.CSV.gz")).name == "csv"
    with pytest.raises(DataError, match="cannot be told"):
        format_of(write(tmp_path / "a.xyz", ""))
    with pytest.raises(DataError, match="there is no such file or folder"):
        format_of(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["npy", "npz"])
def test_large_arrays_are_mapped_and_checked_piece_by_piece(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.data.formats.numpy_arrays._MAPPED", 1000)
    monkeypatch.setattr("runtime.data.arrays._PIECE", 100)
    values = np.arange(600, dtype=np.float32).reshape(200, 3)
    path = tmp_path / f"x.{name}"

    def saved() -> Path:
        if name == "npy":
            np.save(path, values)
        else:
            with zipfile.ZipFile(path, "w") as archive, archive.open("a.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, values)
        return path

    part = load_training_data([spec("a", row=(3,))], source(saved()), Cuts()).train
    assert part.arrays["a"].tobytes() == values.tobytes()
    base, bases = part.arrays["a"], list[type]()
    while base is not None:
        bases.append(type(base))
        base = getattr(base, "base", None)
    assert (np.memmap in bases) == (name == "npy")  # a member of an archive lies at any byte
    values[177, 1] = np.nan
    with pytest.raises(DataError, match=r"row 178: .*the value is nan"):
        load_training_data([spec("a", row=(3,))], source(saved()), Cuts())
