"""The data that the examples ship loads as their programs declare it."""

from dataclasses import replace
from pathlib import Path

import pytest
from data_specs import source, source_of, spec

from runtime.data.loading import load_training_data
from runtime.data.specs import Cuts, InputSpec

_EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.mark.parametrize(
    ("file", "rows", "specs", "options"),
    [
        (
            "digits/digits.csv.gz",
            1797,
            [spec("pixels", row=(64,)), spec("label", "i32", target=True, low=0, high=10)],
            {},
        ),
        ("digits/digits.csv.gz", 1797, [spec("pixels", row=(64,))], {"columns": tuple(range(64))}),
        ("housing/housing.csv", None, [spec("district", row=(8,)), spec("value", target=True)], {"normalise": True}),
        (
            "iris/iris.csv",
            150,
            [spec("lengths", row=(4,)), spec("species", "i32", target=True, low=0, high=3)],
            {"normalise": True},
        ),
        ("perceptron/banknotes.csv", 1372, [spec("features", row=(4,)), spec("forged", target=True)], {}),
        (
            "wine/wine.csv",
            178,
            [spec("measurements", row=(13,)), spec("cultivar", "i32", target=True, low=1, high=4)],
            {"normalise": True},
        ),
        ("xor/xor.csv", 4, [spec("bits", row=(2,)), spec("different", target=True)], {}),
        (
            "functional/signals.npz",
            None,
            [spec("samples", "u8", (32,)), spec("rate"), spec("frequency", target=True)],
            {},
        ),
    ],
)
def test_example_data(file: str, rows: int | None, specs: list[InputSpec], options: dict[str, object]) -> None:
    data = load_training_data(specs, source(_EXAMPLES / file, **options), Cuts())
    assert len(data.train.rows) == (rows or len(data.train.rows)) > 0
    for wanted in specs:
        assert data.train.arrays[wanted.name].flags.c_contiguous


def test_the_lines_of_questions() -> None:
    path = _EXAMPLES / "bag_of_words" / "questions.txt"
    label = spec("label", "i32", target=True, low=0, high=5)
    specs = [spec("tokens", "i32", (21,)), replace(spec("mask", "bool", (21,)), mask_of="tokens"), label]
    data = load_training_data(specs, source_of("lines", path, label="first"), Cuts())
    assert len(data.train.rows) == 1500
    assert data.preparation.vocabulary_of("label") == ("number", "person", "place", "reason", "time")
    assert data.notes == ()


def test_the_days_of_temperatures() -> None:
    path = _EXAMPLES / "temperatures" / "temperatures.csv.gz"
    data = load_training_data([spec("Temp", row=(30,)), spec("tomorrow", target=True)], source(path, window=30), Cuts())
    assert len(data.train.rows) == 3650 - 30
    assert data.train.arrays["Temp"][1, 29] == data.train.arrays["tomorrow"][0]
