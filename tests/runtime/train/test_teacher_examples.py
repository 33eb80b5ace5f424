"""`examples/byol`, `distillation` and `mean_teacher`: what a student and its teacher learn, in a few epochs."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest

import dlc
from runtime.cli.main import main

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The examples in a folder where runs may stand."""
    for name in ("byol", "distillation", "digits"):
        shutil.copytree(EXAMPLES / name, tmp_path / name, ignore=shutil.ignore_patterns("runs"))
    return tmp_path


def trained(file: Path, experiment: str, run: str, *options: str) -> float:
    """The accuracy of a run on its test part, or 0 where it has none."""
    place = file.parent / "runs" / run
    assert main(["train", str(file), "-e", experiment, "--out", str(place), *options]) == 0
    return float(dlc.load(str(place)).evaluate().get("accuracy", 0.0))


def test_a_probe_reads_what_byol_has_learnt(copied: Path) -> None:
    file = copied / "byol" / "model.dl"
    trained(file, "Byol", "byol", "--epochs", "8")
    assert trained(file, "Probe", "probe", "--epochs", "10") > 0.93


def test_a_student_learns_from_its_teacher(copied: Path) -> None:
    file = copied / "distillation" / "model.dl"
    teacher = trained(file, "LeNet", "lenet", "--epochs", "10")
    helped = trained(file, "Student", "student", "--epochs", "20")
    alone = trained(file, "Student", "alone", "--epochs", "20", "--set", "trust=0")
    assert teacher > helped > alone + 0.05


def test_labels_are_known_of_100_digits() -> None:
    tables: list[np.ndarray[tuple[int, int], np.dtype[np.float64]]] = []
    for name in ("digits", "distillation"):
        with gzip.open(EXAMPLES / name / "digits.csv.gz", "rt") as file:
            tables.append(np.loadtxt(file, delimiter=",", skiprows=1, ndmin=2))
    np.testing.assert_array_equal(tables[1][:, :65], tables[0])
    assert tables[1][:, 65].sum() == 100


def test_a_student_agrees_with_its_average_where_labels_are_missing() -> None:
    found: dict[str, float] = {}
    for experiment in ("Taught", "Alone"):
        model = dlc.load(EXAMPLES / "mean_teacher" / "model.dl", experiment=experiment, epochs=60)
        model.train()
        found[experiment] = model.evaluate()["accuracy"]
    assert found["Taught"] > 0.9
    assert found["Taught"] > found["Alone"] + 0.01
