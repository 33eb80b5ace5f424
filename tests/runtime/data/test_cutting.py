"""Rows chosen by conditions, and cut into parts: each beside plain loops over the rows of a table."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from data_specs import source, spec, write

from compiler.errors.diagnostics import DataError
from runtime.data.conditions import read_condition
from runtime.data.cutting import split_rows
from runtime.data.dataset import Dataset, Field
from runtime.data.loading import LoadedData, load_rows, load_training_data
from runtime.data.preparation import preparation_from_json
from runtime.data.specs import Array, Cut, Cuts, Fold, PartSource

CITIES = ("Oslo", "Rome", "", "Paris")
SPECS = [spec("features", row=(2,)), spec("kind", "i32", target=True, low=0, high=3)]


def table(rows: int = 60) -> Dataset:
    """Columns of numbers with gaps, of text with gaps, of rare and common classes, and of groups."""
    path = Path("t.csv")
    city: Array = np.empty(rows, np.object_)
    city[:] = [CITIES[i % 4] for i in range(rows)]
    kind: Array = np.empty(rows, np.object_)
    kind[:] = ["rare" if i % 10 == 3 else "usual" if i % 2 else "common" for i in range(rows)]
    year = np.array([np.nan if i % 7 == 6 else 2000 + i % 13 for i in range(rows)])
    columns = {
        "year": year,
        "city": city,
        "class": kind,
        "patient": np.arange(rows) // 4 * 1.0,
        "day": -np.arange(rows),
    }
    numbers = np.arange(2, rows + 2)
    return Dataset("csv", path, {name: Field(values, path, numbers) for name, values in columns.items()})


def rows_of(dataset: Dataset) -> list[dict[str, object]]:
    columns = {name: field.values.tolist() for name, field in dataset.fields.items()}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("year < 2005", lambda r: r["year"] < 2005),
        ("2003 <= year < 2008", lambda r: 2003 <= r["year"] < 2008),
        ("class == 'rare' or city != 'Rome'", lambda r: r["class"] == "rare" or r["city"] not in ("Rome", "")),
        ("not (year == 2001) and city in ['Oslo', 'Rome']", lambda r: r["year"] != 2001 and r["city"] in CITIES[:2]),
        ("city not in ('Oslo', 'Rome')", lambda r: r["city"] == "Paris"),
        ("missing(year)", lambda r: r["year"] != r["year"]),
        ("missing(city) and not missing(year)", lambda r: r["city"] == "" and r["year"] == r["year"]),
        ("year % 5 == 0 and patient // 2 - 1 > -1", lambda r: r["year"] % 5 == 0 and r["patient"] // 2 - 1 > -1),
        ("`patient` >= 10", lambda r: r["patient"] >= 10),
        ("day < -50", lambda r: r["day"] < -50),
    ],
)
def test_conditions_mean_what_python_says_row_by_row(condition: str, expected: object) -> None:
    dataset = table()
    assert callable(expected)
    found = read_condition(condition).mask(dataset.fields).tolist()
    assert found == [bool(expected(row)) for row in rows_of(dataset)]
    assert 0 < sum(found) < len(found)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("year <", "cannot be read"),
        ("", "cannot be read"),
        ("1 < 2", "names no column"),
        ("yaer < 2005", r"no column `yaer`; did you mean `year`\?"),
        ("city < 3", "compares text with a number"),
        ("year == 'x'", "compares text with a number"),
        ("year", "has `year` where a comparison should be"),
        ("year + 1", "where a comparison should be"),
        ("city + 1 == 2", "has `city` where a number should be"),
        ("year in 3", "where a list in brackets should be"),
        ("year is 3", "cannot be read"),
        ("open('/etc/passwd') == 1", "there is no column `open`"),
        ("year.real == 1", "where a column, a number or a text should be"),
        ("(" * 3000 + "year" + ")" * 3000 + " > 1", "cannot be read"),
        ("year > 1" + " or year > 1" * 1000, "characters"),
        ("not " * 2000 + "year > 1", "is too deep|cannot be read"),
        ("year == True", "there is no column `True`"),
    ],
)
def test_conditions_that_mean_nothing(condition: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_condition(condition, "here").mask(table().fields)


def parts_of(validation: PartSource, test: PartSource = None, seed: int = 0) -> tuple[Array, Array, Array]:
    found = split_rows(table(), Cuts(validation, test, seed), "class")
    every = np.concatenate([found.train, found.validation, found.test])
    assert sorted(every) == list(range(60))
    return found.train, found.validation, found.test


def classes(rows: Array) -> Counter[object]:
    return Counter(table().fields["class"].values[rows].tolist())


def test_a_stratified_share_has_each_class_in_its_share() -> None:
    whole = classes(np.arange(60))
    for fraction in (0.1, 0.25, 1 / 3, 0.5):
        for seed in range(5):
            _, validation, _ = parts_of(Cut("stratified", fraction), seed=seed)
            assert len(validation) == round(60 * fraction)
            for kind, count in whole.items():
                assert abs(classes(validation)[kind] - count * fraction) < 1, (kind, fraction)
    first, second = (parts_of(Cut("stratified", 0.5), seed=seed)[1] for seed in range(2))
    assert not np.array_equal(first, second)


def test_stratified_folds_cover_the_rows_and_have_each_class() -> None:
    folds = [parts_of(Cut("stratified", Fold(k, 4)))[1] for k in range(1, 5)]
    assert sorted(np.concatenate(folds)) == list(range(60))
    for rows in folds:
        for kind, count in classes(np.arange(60)).items():
            assert abs(classes(rows)[kind] - count / 4) < 1


def test_plain_folds_are_about_equal_and_leave_the_test_alone() -> None:
    folds = [parts_of(Cut("random", Fold(k, 7)), 0.1) for k in range(1, 8)]
    assert {len(validation) for _, validation, _ in folds} == {7, 8}
    assert len({tuple(test) for _, _, test in folds}) == 1
    rest = set(range(60)) - set(folds[0][2])
    assert sorted(np.concatenate([validation for _, validation, _ in folds])) == sorted(rest)


def test_groups_stay_together() -> None:
    patient = table().fields["patient"].values
    train, validation, test = parts_of(Cut("grouped", 0.2, "patient"), Cut("grouped", 0.1, "patient"))
    groups = [set(patient[rows]) for rows in (train, validation, test)]
    assert not groups[0] & groups[1] and not groups[1] & groups[2] and not groups[0] & groups[2]  # noqa: PT018
    assert (len(validation), len(test)) == (12, 4)  # 15 groups of 4: as near as whole groups come
    folds = [parts_of(Cut("grouped", Fold(k, 5), "patient"))[1] for k in range(1, 6)]
    assert [len(rows) for rows in folds] == [12] * 5
    assert all(set(patient[a]).isdisjoint(patient[b]) for a in folds for b in folds if a is not b)


def test_the_latest_rows_by_a_column_or_by_their_place() -> None:
    train, validation, test = parts_of(Cut("latest", 0.2), Cut("latest", 0.1))
    assert (train.tolist(), validation.tolist(), test.tolist()) == ([*range(42)], [*range(42, 54)], [*range(54, 60)])
    train, validation, test = parts_of(Cut("latest", 0.2, "day"), Cut("latest", 0.1, "day"))
    assert test.tolist() == [*range(6)]  # days go backwards
    assert validation.tolist() == [*range(6, 18)]


def test_conditions_choose_parts_and_shares_are_cut_from_the_rest() -> None:
    _, validation, test = parts_of(0.2, Cut("where", condition="city == 'Paris'"))
    assert test.tolist() == [*range(3, 60, 4)]
    assert len(validation) == 12


@pytest.mark.parametrize(
    ("validation", "test", "message"),
    [
        (Cut("where", condition="year < 2003"), Cut("where", condition="year < 2001"), "both take row 2, and"),
        (Cut("where", condition="day > 5"), None, "no row satisfies"),
        (Cut("where", condition="day <= 0"), None, "none to train on"),
        (Cut("stratified", 0.2, "day"), None, "another value in every row"),
        (Cut("stratified", 0.2, "year"), None, "`year`, by which rows are cut, has no value"),
        (Cut("grouped", Fold(1, 16), "patient"), None, "15 values, which are fewer than 16 folds"),
        (Cut("random", Fold(1, 70)), None, "70 folds of 60 rows"),
        (Cut("grouped", 0.2, "pateint"), None, r"did you mean `patient`\?"),
        (Cut("stratified", 0.6), 0.5, "none to train on"),
        (Cut("stratified", 1.2), None, "no fraction"),
    ],
)
def test_impossible_cuts(validation: PartSource, test: PartSource, message: str) -> None:
    with pytest.raises(DataError, match=message):
        split_rows(table(), Cuts(validation, test), "class")


def flowers(tmp_path: Path) -> Path:
    kinds = ("iris", "aster", "rose")
    lines = [f"{i},{i * i},{kinds[(i % 5) // 2]},{i // 3}" for i in range(30)]
    return write(tmp_path / "flowers.csv", "\n".join(["width,area,kind,bed", *lines, ""]))


def load(path: Path, cuts: Cuts, **options: object) -> LoadedData:
    return load_training_data(SPECS, source(path, columns=("width", "area"), target="kind", **options), cuts)


def test_rows_of_the_source_are_chosen_before_they_are_cut(tmp_path: Path) -> None:
    data = load(flowers(tmp_path), Cuts(0.25), rows="bed >= 2 and width % 2 == 0")
    found = data.train.arrays["features"][:, 0].tolist()
    assert found == [i for i in range(30) if i // 3 >= 2 and i % 2 == 0]
    assert "flowers.csv: 12 of 30 rows satisfy `bed >= 2 and width % 2 == 0`" in data.notes
    assert not any("not used" in note for note in data.notes)
    assert data.train.names["features"].of(0) == 8  # its line in the file
    with pytest.raises(DataError, match="no row satisfies `width > 99`"):
        load(flowers(tmp_path), Cuts(), rows="width > 99")
    specs = [spec("past", row=(3, 2)), spec("next", target=True)]
    with pytest.raises(DataError, match="leaves gaps in a series"):
        load_training_data(specs, source(flowers(tmp_path), window=3, rows="width != 9"), Cuts())


def test_arrays_are_chosen_too(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(6.0), fold=np.array([0, 1, 2, 0, 1, 2]))
    data = load_training_data(
        [spec("x")], source(tmp_path / "a.npz", rows="fold != 2"), Cuts(Cut("where", condition="fold == 1"))
    )
    assert data.train.arrays["x"].tolist() == [0, 1, 3, 4]
    assert data.validation is not None
    assert data.validation.rows.tolist() == [1, 3]


def test_every_class_is_met_equally_often(tmp_path: Path) -> None:
    data = load(flowers(tmp_path), Cuts(0.2, seed=3, oversample="kind"))
    assert data.validation is not None
    labels = data.train.arrays["kind"]
    counts = np.bincount(labels[data.train.rows])
    plain = np.bincount(labels[np.unique(data.train.rows)])
    assert set(counts) == {plain.max()}
    assert set(data.train.rows).isdisjoint(data.validation.rows)
    own = Counter(data.train.rows.tolist())
    for kind in range(3):
        times = {own[row] for row in np.unique(data.train.rows) if labels[row] == kind}
        assert max(times) - min(times) <= 1  # rows of a class are taken equally often, but for a rest
    assert len(data.train.rows) == 3 * plain.max()
    with pytest.raises(DataError, match="another value in every row"):
        load(flowers(tmp_path), Cuts(oversample="width"))


@pytest.mark.parametrize("scaling", ["standard", "min-max", "robust"])
def test_scalings(tmp_path: Path, scaling: str) -> None:
    data = load(flowers(tmp_path), Cuts(0.2), normalise=scaling)
    area = np.array([float(i * i) for i in data.train.rows])
    centre, spread = {
        "standard": (area.mean(), area.std()),
        "min-max": (area.min(), area.max() - area.min()),
        "robust": (np.median(area), np.percentile(area, 75) - np.percentile(area, 25)),
    }[scaling]
    found = data.train.arrays["features"][data.train.rows, 1]
    np.testing.assert_allclose(found, (area - centre) / spread, rtol=1e-6)
    rows = write(tmp_path / "p.csv", "width,area\n3,9\n")
    options = {"normalise": scaling, "target": "kind"}
    given = load_rows(rows, SPECS, data.preparation, options).part.arrays["features"]
    np.testing.assert_allclose(given[0, 1], (9 - centre) / spread, rtol=1e-6)
    with pytest.raises(DataError, match=r"`normalise` cannot be `minmax`; did you mean `min-max`\?"):
        load(flowers(tmp_path), Cuts(), normalise="minmax")


def test_a_column_whose_quartiles_are_equal_is_only_centred(tmp_path: Path) -> None:
    lines = [f"{9 if i == 0 else 1},{i},{'iris' if i % 2 else 'rose'}" for i in range(20)]
    path = write(tmp_path / "t.csv", "\n".join(["width,area,kind", *lines, ""]))
    scale = load(path, Cuts(), normalise="robust").preparation.scales["width"]
    assert (scale.centre, scale.spread) == (1.0, 1.0)


def test_scales_of_older_runs_are_read(tmp_path: Path) -> None:
    data = load(flowers(tmp_path), Cuts(), normalise=True)
    saved = json.loads(json.dumps(data.preparation.to_json()))
    saved["scales"] = {n: {"mean": s["centre"], "deviation": s["spread"]} for n, s in saved["scales"].items()}
    assert preparation_from_json(saved) == data.preparation
