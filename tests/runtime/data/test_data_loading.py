"""From sources to arrays: matching, conversion, ranges, splits, missing values, normalisation, prediction input."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from data_specs import place, source, spec, write, write_digits

from compiler.errors.diagnostics import CheckpointError, DataError, Source, Span, UsageError
from compiler.types import BatchExtent, DType, TensorType
from runtime.analysis.made_up_steps import synthetic
from runtime.data.loading import LoadedData, load_evaluation_data, load_rows, load_training_data
from runtime.data.preparation import preparation_from_json
from runtime.data.reading import located, source_at
from runtime.data.specs import Cuts, DataSource, InputSpec

SPECIES = [spec("features", row=(2,)), spec("species", "i32", target=True, low=0, high=3)]


def load(specs: list[InputSpec], data: DataSource, validation: object = None, test: object = None) -> LoadedData:
    return load_training_data(specs, data, Cuts(validation, test, 7))  # type: ignore[arg-type]


def flowers(tmp_path: Path, rows: int = 30) -> Path:
    kinds = ("iris", "aster", "rose")
    lines = [f"{i},{i * i},{kinds[i % 3]}" for i in range(rows)]
    return write(tmp_path / "flowers.csv", "\n".join(["width,area,species", *lines, ""]))


def test_csv_columns_that_nobody_names_become_the_features(tmp_path: Path) -> None:
    data = load(SPECIES, source(flowers(tmp_path)))
    features = data.train.arrays["features"]
    assert features.dtype == np.float32
    assert features.flags.c_contiguous
    np.testing.assert_array_equal(features[:4], [[0, 0], [1, 1], [2, 4], [3, 9]])
    assert data.preparation.vocabulary_of("species") == ("aster", "iris", "rose")
    assert data.train.arrays["species"][:3].tolist() == [1, 0, 2]
    assert data.validation is None
    assert data.test is None


def test_csv_target_by_option_and_position(tmp_path: Path) -> None:
    specs = [spec("features", row=(2,)), spec("kind", "u8", target=True, low=0, high=3)]
    for target in ("species", 2, -1):
        data = load(specs, source(flowers(tmp_path), target=target))
        assert data.preparation.columns == {"features": ("width", "area"), "kind": ("species",)}
    with pytest.raises(DataError, match="no column `kind`") as caught:
        load(specs, source(flowers(tmp_path)))
    assert 'target = "species"' in caught.value.fix
    with pytest.raises(DataError, match=r"`specis`; did you mean `species`\?"):
        load(specs, source(flowers(tmp_path), target="specis"))
    with pytest.raises(DataError, match="there is no column 3: the table has 3"):
        load(specs, source(flowers(tmp_path), target=3))


def test_csv_columns_in_the_order_of_the_option(tmp_path: Path) -> None:
    specs = [spec("left"), spec("right", "i32"), spec("species", "i32", target=True)]
    data = load(specs, source(flowers(tmp_path), columns=("area", "width")))
    assert data.train.arrays["left"][:3].tolist() == [0, 1, 4]
    assert data.train.arrays["right"].dtype == np.int32
    with pytest.raises(DataError, match="gives 1 columns, but `left` takes 1, `right` takes 1"):
        load(specs, source(flowers(tmp_path), columns="area"))
    with pytest.raises(DataError, match="no columns `left`, `right`"):
        load(specs, source(flowers(tmp_path)))


def test_csv_columns_fill_the_declared_shape(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "1,2,3,4,9\n5,6,7,8,9\n")
    data = load([spec("image", "u8", (2, 2)), spec("y", target=True)], source(path, target=-1))
    assert data.train.arrays["image"].tolist() == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]


def test_csv_with_a_wrong_number_of_columns_says_which_there_are(tmp_path: Path) -> None:
    specs = [spec("features", row=(4,)), SPECIES[1]]
    with pytest.raises(DataError, match=r"takes 4 numbers a row, but the table has 2 .*`width`, `area`"):
        load(specs, source(flowers(tmp_path)))


def test_categories_are_numbered_by_value(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "0.5,10\n0.1,2\n0.2,10\n")
    specs = [spec("x"), spec("y", "u8", target=True, low=0, high=2)]
    with pytest.raises(DataError, match="10 is out of range") as caught:
        load(specs, source(path, target=-1, columns=0))
    assert caught.value.row == 1
    assert 'categories = ["column_2"]' in caught.value.fix
    data = load(specs, source(path, target=-1, columns=0, categories=-1))
    assert data.train.arrays["y"].tolist() == [1, 0, 1]
    assert data.preparation.vocabularies == {"column_2": ("2", "10")}


def test_more_categories_than_declared(tmp_path: Path) -> None:
    specs = [SPECIES[0], spec("species", "i32", target=True, low=0, high=2)]
    with pytest.raises(DataError, match=re.escape("2 (`rose`) is out of range")) as caught:
        load(specs, source(flowers(tmp_path)))
    assert caught.value.row == 4
    assert "3 categories" in caught.value.fix


def test_text_is_not_calculated_with(tmp_path: Path) -> None:
    specs = [spec("features", row=(2,)), spec("area", target=True)]
    with pytest.raises(DataError, match="column `species` holds categories") as caught:
        load(specs, source(flowers(tmp_path), columns=("width", "species")))
    assert "one_hot" in caught.value.fix


def test_missing_values(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "x,y,z\n1,2,0\n?,4,0\n3,NA,1\n8,6,1\n")
    specs = [spec("features", row=(2,)), spec("z", "u8", target=True)]
    with pytest.raises(DataError, match="row 3: column `x` has no value") as caught:
        load(specs, source(path))
    assert "drop" in caught.value.fix
    dropped = load(specs, source(path, missing="drop"))
    assert dropped.train.arrays["features"].tolist() == [[1, 2], [8, 6]]
    assert any("2 of 4 rows" in note for note in dropped.notes)
    filled = load(specs, source(path, missing="mean"))
    assert filled.train.arrays["features"].tolist() == [[1, 2], [4, 4], [3, 4], [8, 6]]


def test_a_missing_value_matters_only_where_it_is_used(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "x,y,z\n1,2,0\n2,,1\n")
    data = load([spec("x"), spec("z", target=True)], source(path))
    assert data.train.arrays["x"].tolist() == [1, 2]
    assert any("not used: `y`" in note for note in data.notes)


def test_a_missing_target_is_not_made_up(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "x,z\n1,0\n2,\n")
    with pytest.raises(DataError, match="column `z` has no value"):
        load([spec("x"), spec("z", target=True)], source(path, missing="mean"))


def test_means_and_scales_come_from_the_training_rows_alone(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    table = generator.normal(5, 3, (200, 3))
    lines = [
        ",".join("" if i % 7 == 0 and j == 0 else repr(float(x)) for j, x in enumerate(r)) for i, r in enumerate(table)
    ]
    path = write(tmp_path / "a.csv", "\n".join(lines))
    specs = [spec("x", row=(2,)), spec("y", target=True)]
    data = load(specs, source(path, target=-1, missing="mean", normalise=True), 0.25, 0.25)
    train = table[data.train.rows]
    present = train[data.train.rows % 7 != 0, 0]
    assert data.preparation.fills["column_1"] == pytest.approx(present.mean())
    assert data.preparation.scales["column_2"].centre == pytest.approx(train[:, 1].mean())
    assert data.preparation.scales["column_2"].spread == pytest.approx(train[:, 1].std())
    assert data.train.arrays["x"][data.train.rows, 1].std() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(data.train.arrays["y"], table[:, 2], rtol=1e-6)


def test_a_constant_column_is_only_centred(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "0.1,1\n0.1,2\n0.1,3\n")
    data = load([spec("x"), spec("y", target=True)], source(path, target=-1, columns=0, normalise=True))
    np.testing.assert_allclose(data.train.arrays["x"], 0, atol=1e-7)


def test_idx_uses_its_official_test_part(tmp_path: Path) -> None:
    specs = [spec("image", "u8", (4, 3)), spec("label", "u8", target=True, low=0, high=10)]
    data = load(specs, source(write_digits(tmp_path / "digits")), 0.25)
    assert data.validation is not None
    assert data.test is not None
    assert [len(p.rows) for p in (data.train, data.validation, data.test)] == [9, 3, 5]
    assert data.validation.arrays is data.train.arrays
    assert data.test.arrays["image"].shape == (5, 4, 3)
    assert sorted([*data.train.rows, *data.validation.rows]) == list(range(12))
    assert data.summary["rows"] == {"train": 9, "validation": 3, "test": 5}
    widened = load([spec("image", "f32", (4, 3)), spec("label", "i64", target=True)], source(tmp_path / "digits"))
    assert widened.train.arrays["image"].dtype == np.float32
    assert widened.train.arrays["label"].dtype == np.int64


def test_labels_out_of_range_name_their_file_and_row(tmp_path: Path) -> None:
    specs = [spec("image", "u8", (4, 3)), spec("label", "u8", target=True, low=0, high=9)]
    with pytest.raises(DataError, match="train-labels-idx1-ubyte, row 10: `label`: 9 is out of range"):
        load(specs, source(write_digits(tmp_path / "digits")))


def test_wrong_shapes_and_names_show_both_sides(tmp_path: Path) -> None:
    folder = write_digits(tmp_path / "digits")
    with pytest.raises(DataError, match=r"rows of shape \[4, 3\], but `image: u8\[batch, 12\]` takes \[12\]"):
        load([spec("image", "u8", (12,))], source(folder))
    with pytest.raises(DataError, match=r"no field `images`.*did you mean `image`\?") as caught:
        load([spec("images", "u8", (4, 3))], source(folder))
    assert "`image` u8[4, 3], `label` u8" in caught.value.fix


def test_an_input_must_begin_with_the_batch(tmp_path: Path) -> None:
    odd = InputSpec("x", TensorType(DType.F32, (3, BatchExtent())), False, None, None, place())
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 3)))
    with pytest.raises(DataError, match="does not begin with `batch`"):
        load([odd], source(tmp_path / "a.npz"))


def test_npz_conversion_is_checked_and_said(tmp_path: Path) -> None:
    def one(values: object, dtype: str, **limits: int) -> LoadedData:
        np.savez(tmp_path / "a.npz", x=np.array(values))
        return load([spec("x", dtype, **limits)], source(tmp_path / "a.npz"))  # type: ignore[arg-type]

    rounded = one([0.1, 0.2], "f32")
    assert rounded.train.arrays["x"].tolist() == [np.float32(0.1), np.float32(0.2)]
    assert any("rounded to f32" in note for note in rounded.notes)
    assert one([1, 255], "u8").train.arrays["x"].tolist() == [1, 255]
    assert one([1.0, 3.0], "i32").train.arrays["x"].tolist() == [1, 3]
    assert one([0, 1], "bool").train.arrays["x"].tolist() == [False, True]
    assert one([True, False], "f32").train.arrays["x"].tolist() == [1.0, 0.0]
    for values, dtype, row, message in (
        ([1, 256], "u8", 2, "256 is out of range: `x` is u8"),
        ([0, -1], "u8", 2, "-1 is out of range"),
        ([0.0, 1.5], "i32", 2, "1.5 is not a whole number"),
        ([2**31], "i32", 1, "out of range"),
        ([0, 2], "bool", 2, "2 is out of range: `x` is bool"),
        ([1.0, np.nan], "f32", 2, "the value is nan"),
        ([1.0, 1e39], "f32", 2, "too large for f32"),
        ([1, 2**24 + 1], "f32", 2, "cannot be kept exactly"),
        ([2**24 + 3], "f32", 1, "cannot be kept exactly"),
    ):
        with pytest.raises(DataError, match=re.escape(message)) as caught:
            one(values, dtype)
        assert caught.value.row == row


def test_npz_text_has_a_vocabulary(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros(3), y=np.array(["b", "a", "b"]))
    data = load([spec("x"), spec("y", "u8", target=True, low=0, high=2)], source(tmp_path / "a.npz"))
    assert data.train.arrays["y"].tolist() == [1, 0, 1]
    np.savez(tmp_path / "b.npz", x=np.zeros(1), y=np.array(["b"]))
    again = load_evaluation_data(
        [spec("x"), spec("y", "u8", target=True)], source(tmp_path / "b.npz"), data.preparation
    )
    assert again.part.arrays["y"].tolist() == [1]


def test_splits_are_disjoint_cover_everything_and_depend_on_the_seed(tmp_path: Path) -> None:
    path = source(flowers(tmp_path))
    first, second = (load_training_data(SPECIES, path, Cuts(0.1, 0.2, 3)) for _ in range(2))
    assert first.validation is not None
    assert first.test is not None
    rows = [first.train.rows, first.validation.rows, first.test.rows]
    assert [len(r) for r in rows] == [21, 3, 6]
    assert sorted(np.concatenate(rows)) == list(range(30))
    np.testing.assert_array_equal(first.train.rows, second.train.rows)
    other = load_training_data(SPECIES, path, Cuts(0.1, 0.2, 4))
    assert not np.array_equal(first.train.rows, other.train.rows)


@pytest.mark.parametrize(
    ("validation", "test", "message"),
    [
        (0.01, None, "is no row"),
        (0.6, 0.5, "none to train on"),
        (1.5, None, "no fraction"),
        (None, -0.1, "no fraction"),
    ],
)
def test_impossible_splits(tmp_path: Path, validation: float | None, test: float | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(SPECIES, source(flowers(tmp_path)), validation, test)


def test_other_sources_are_prepared_as_the_training_data(tmp_path: Path) -> None:
    training = source(flowers(tmp_path), normalise=True)
    other = source(write(tmp_path / "more.csv", "species,area,width\nrose,4,2\n"))
    data = load(SPECIES, training, other)
    assert data.validation is not None
    scale = data.preparation.scales["width"]
    assert data.validation.arrays["species"].tolist() == [2]
    assert data.validation.arrays["features"][0, 0] == pytest.approx((2 - scale.centre) / scale.spread)
    strange = source(write(tmp_path / "strange.csv", "width,area,species\n1,2,rose\n1,1,roes\n"))
    with pytest.raises(DataError, match=r"row 3: `species` is `roes`.*did you mean `rose`\?"):
        load(SPECIES, training, strange)


def test_preparation_survives_json(tmp_path: Path) -> None:
    data = load(SPECIES, source(flowers(tmp_path), normalise=True, missing="mean"))
    saved = json.loads(json.dumps(data.summary))["preparation"]
    assert preparation_from_json(saved) == data.preparation
    for key in saved:
        damaged = {**saved, key: 3}
        with pytest.raises(CheckpointError, match="saved preparation"):
            preparation_from_json(damaged)


def test_rows_to_predict(tmp_path: Path) -> None:
    preparation = load(SPECIES, source(flowers(tmp_path))).preparation
    by_name = write(tmp_path / "p.csv", "area,name,width\n9,x,3\n16,y,4\n")
    found = load_rows(by_name, SPECIES, preparation, {})
    assert found.part.arrays["features"].tolist() == [[3, 9], [4, 16]]
    assert found.part.rows.tolist() == [0, 1]
    by_position = write(tmp_path / "q.csv", "3,9\n4,16\n")
    assert load_rows(by_position, SPECIES, preparation, {}).part.arrays["features"].tolist() == [[3, 9], [4, 16]]
    whole = write(tmp_path / "r.csv", "3,9,rose\n")
    assert load_rows(whole, SPECIES, preparation, {}).part.arrays["features"].tolist() == [[3, 9]]
    with pytest.raises(DataError, match="4 columns without names, but 2 or 3 are needed"):
        load_rows(write(tmp_path / "s.csv", "1,2,3,4\n"), SPECIES, preparation, {})
    with pytest.raises(DataError, match=r"no column `width`; did you mean `widht`\?"):
        load_rows(write(tmp_path / "t.csv", "area,x,y,widht\n1,2,3,4\n"), SPECIES, preparation, {})


def test_names_that_the_training_had_are_not_replaced_by_positions(tmp_path: Path) -> None:
    """Two columns of other names, or in another order, would be taken for each other."""
    named = load(SPECIES, source(flowers(tmp_path))).preparation
    for line in ("Area,Width", "area,height", "width,height,species"):
        other = write(tmp_path / "other.csv", f"{line}\n" + ",".join("123"[: line.count(",") + 1]) + "\n")
        with pytest.raises(DataError, match="there is no column"):
            load_rows(other, SPECIES, named, {})
    unnamed = load(SPECIES, source(write(tmp_path / "plain.csv", "3,9,rose\n4,16,iris\n5,25,aster\n"), target=-1))
    found = load_rows(write(tmp_path / "named.csv", "width,area\n3,9\n"), SPECIES, unnamed.preparation, {})
    assert found.part.arrays["features"].tolist() == [[3, 9]]
    assert found.notes == ("named.csv: columns were taken by position, as `column_1`, `column_2`",)


def test_a_message_names_every_array_of_an_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", picture=np.ones((2, 3)), label=np.ones(2, np.int32))
    specs = [spec("image", row=(3,)), spec("label", "i32", target=True)]
    with pytest.raises(DataError, match="no field `image`") as caught:
        load(specs, source(tmp_path / "a.npz"))
    assert caught.value.fix.endswith("the data has `label` i32, `picture`")


def test_what_a_training_learnt_of_its_data_is_not_guessed(tmp_path: Path) -> None:
    """Without a run, nobody knows the means and deviations, nor the numbers of the words."""
    path = write(tmp_path / "p.csv", "width,area,kind,note\n3,9,rose,x\n4,16,iris,y\n")
    features = spec("features", row=(2,))
    plain = load_rows(path, [features], None, {"target": "species"}).part
    assert plain.arrays["features"].tolist() == [[3, 9], [4, 16]]
    np.save(tmp_path / "p.npy", np.ones((2, 2)))
    for options in ({"normalise": True}, {"missing": "mean"}):
        for name in ("p.csv", "p.npy"):
            with pytest.raises(UsageError, match="must be prepared as the training data was"):
                load_rows(tmp_path / name, [features], None, options)
    with pytest.raises(UsageError, match="must be prepared as the training data was"):
        load_rows(path, [features, spec("kind", "i32", low=0, high=3)], None, {})


def test_messages_say_what_column_is_meant(tmp_path: Path) -> None:
    shades = [spec("grade"), spec("species", "i32", target=True, low=0, high=3)]
    path = write(tmp_path / "g.csv", "graed,species\nx,rose\ny,iris\n")
    with pytest.raises(DataError, match=r"no column `grade` for the input .* did you mean `graed`\?"):
        load(shades, source(path))
    with pytest.raises(DataError, match="`species` holds categories") as caught:
        load([spec("features", row=(2,)), spec("species", target=True)], source(flowers(tmp_path)))
    assert caught.value.fix.startswith("declare `target species: i32[batch] in 0..3`")
    with pytest.raises(DataError, match=r"row 1: .*here stands `width`") as caught:
        load(SPECIES, source(flowers(tmp_path), header=False, target=-1))
    assert caught.value.fix.startswith("if the first line names the columns, give csv `header = true`")


def test_rows_to_predict_from_arrays(tmp_path: Path) -> None:
    specs = [spec("image", "u8", (2, 2)), spec("label", "u8", target=True)]
    array = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", image=array)
    for name in ("a.npy", "a.npz"):
        np.testing.assert_array_equal(load_rows(tmp_path / name, specs, None, {}).part.arrays["image"], array)
    folder = write_digits(tmp_path / "digits")
    digits = load_rows(folder / "t10k-images-idx3-ubyte.gz", [spec("x", "u8", (4, 3))], None, {})
    assert digits.part.arrays["x"].shape == (5, 4, 3)


def test_arrays_for_a_model_of_normalised_columns_are_scaled_like_them(tmp_path: Path) -> None:
    trained = load(SPECIES, source(flowers(tmp_path), normalise=True))
    values = np.array([[3.0, 9.0], [4.0, 16.0]])
    np.savez(tmp_path / "a.npz", features=values, species=np.array(["rose", "rose"]))
    np.save(tmp_path / "a.npy", values)
    table = write(tmp_path / "a.csv", "width,area,species\n3,9,rose\n4,16,rose\n")
    expected = load_rows(table, SPECIES, trained.preparation, {}).part.arrays["features"]
    scale = trained.preparation.scales["area"]
    assert expected[0, 1] == pytest.approx((9 - scale.centre) / scale.spread)
    for name in ("a.npz", "a.npy"):
        found = load_rows(tmp_path / name, SPECIES, trained.preparation, {}).part.arrays["features"]
        np.testing.assert_array_equal(found, expected)
    measured = load_evaluation_data(SPECIES, source(tmp_path / "a.npz"), trained.preparation).part
    np.testing.assert_array_equal(measured.arrays["features"], expected)
    assert measured.arrays["species"].tolist() == [2, 2]
    np.save(tmp_path / "b.npy", np.array([[1.0, 1.0], [np.nan, 2.0]]))
    with pytest.raises(DataError, match="row 2: column `width` for `features`: the value is nan"):
        load_rows(tmp_path / "b.npy", SPECIES, trained.preparation, {})
    np.save(tmp_path / "c.npy", np.ones((2, 3)))
    with pytest.raises(DataError, match=r"rows of shape \[3\].* takes \[2\]"):
        load_rows(tmp_path / "c.npy", SPECIES, trained.preparation, {})


def test_arrays_for_a_model_of_filled_columns_are_filled(tmp_path: Path) -> None:
    trained = load(SPECIES, source(flowers(tmp_path), missing="mean"))
    np.save(tmp_path / "a.npy", np.array([[np.nan, 4.0]]))
    found = load_rows(tmp_path / "a.npy", SPECIES, trained.preparation, {}).part.arrays["features"]
    assert found[0].tolist() == pytest.approx([trained.preparation.fills["width"], 4.0])


def test_paths_count_from_the_file_that_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    named = DataSource("csv", "a.csv", (), place(tmp_path / "models"))
    assert located(named) == tmp_path / "models" / "a.csv"
    write(tmp_path / "a.csv", "1,2\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="no such file") as caught:
        load([spec("x", row=(2,))], named)
    assert "give --data a.csv" in caught.value.fix
    unsaved = DataSource("csv", "b.csv", (), Span(Source("command line", ""), 1, 1, 1, 1))
    with pytest.raises(DataError) as caught:
        load([spec("x", row=(2,))], unsaved)
    assert "the path counts from the current folder" in caught.value.fix
    two = DataSource("pairs", "b.de", (), unsaved.span, (("target", "b.en"),))
    with pytest.raises(DataError) as caught:
        load([spec("x", row=(2,))], two)
    assert "name all files with `--set 'data=pairs(…)'`" in caught.value.fix
    moved = source_at(Path("a.csv"), named)
    assert load([spec("x", row=(2,))], moved).train.arrays["x"].shape == (1, 2)
    assert source_at(Path("a.npz"), named).format == "npz"


def test_synthetic_data_obeys_the_declarations() -> None:
    specs = [spec("x", row=(3, 4)), spec("y", "i32", target=True, low=2, high=5), spec("z", "u8"), spec("m", "bool")]
    made, again = synthetic(specs, 500, 1), synthetic(specs, 500, 1)
    assert made["x"].shape == (500, 3, 4)
    assert made["x"].dtype == np.float32
    assert set(made["y"].tolist()) == {2, 3, 4}
    assert set(made["m"].tolist()) == {False, True}
    assert made["z"].dtype == np.uint8
    for name, array in made.items():
        np.testing.assert_array_equal(array, again[name])


def test_rows_to_predict_keep_the_separator_of_the_training(tmp_path: Path) -> None:
    training = source(write(tmp_path / "a.csv", "x;z;y\n1;2;3\n4;5;6\n"), separator=";", target="y")
    specs = [spec("features", row=(2,)), spec("y", target=True)]
    preparation = load(specs, training).preparation
    options = dict(training.options)
    rows = load_rows(write(tmp_path / "p.csv", "z;x\n8;9\n"), specs, preparation, options)
    assert rows.part.arrays["features"].tolist() == [[9, 8]]
    np.savez(tmp_path / "p.npz", features=np.ones((1, 2), np.float32))
    assert load_rows(tmp_path / "p.npz", specs, preparation, options).part.arrays["features"].tolist() == [[1, 1]]
