"""The course keeps up with the code: its texts, figures, pictures and exercises are what the commands give."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from repository import ROOT, script_of_pages

import dlc
from runtime.cli.main import main

COURSE = ROOT / "docs" / "course"
PAGES = sorted(COURSE.glob("[0-9]*.md"))
EXERCISES = sorted((COURSE / "exercises").iterdir())


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return script_of_pages("make_course")


@pytest.mark.parametrize("path", EXERCISES, ids=lambda path: path.stem)
def test_an_exercise_is_open_and_its_solution_passes(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    solution = COURSE / "solutions" / path.name
    assert main(["test", str(solution)]) == 0
    capsys.readouterr()
    assert main(["test", str(path)]) == 1
    shown = capsys.readouterr()
    assert {*re.findall(r"error\[(E\d+)\]", shown.out + shown.err)} == {"E1001"}, "claims are false, nothing else"
    lines = list(zip(path.read_text().splitlines(), solution.read_text().splitlines(), strict=True))
    assert sum(open_line != solved for open_line, solved in lines) == 1


def test_each_chapter_has_an_exercise_a_picture_and_an_equation() -> None:
    assert [path.stem for path in PAGES] == [path.stem for path in EXERCISES]
    for page in PAGES:
        text = page.read_text()
        assert f"exercises/{page.stem}.dl" in text
        assert f"../pictures/course-{page.stem[2:]}.svg" in text
        assert "$$" in text


@pytest.mark.parametrize(("name", "chapter"), [("line", 0), ("bent", 0), ("maps", 2), ("reversed", 4)])
def test_a_chapter_shows_its_model(name: str, chapter: int) -> None:
    whole = (COURSE / f"{name}.dl").read_text()
    model = re.search(r"^model .*?^}\n", whole, re.MULTILINE | re.DOTALL)
    assert model is not None
    assert f"```dl\n{model[0]}```" in PAGES[chapter].read_text()


@pytest.mark.parametrize("name", ["perceptron", "training", "convolution", "recurrence", "attention"])
def test_a_picture_of_the_course_is_current(script: ModuleType, name: str) -> None:
    drawn = (ROOT / f"docs/pictures/course-{name}.svg").read_text()
    assert drawn == script.CHAPTERS[name](), "run python docs/make_course.py"


@pytest.mark.parametrize("name", ["perceptron", "layers", "lenet"])
def test_a_picture_of_a_lesson_is_current(script: ModuleType, name: str) -> None:
    drawn = (ROOT / f"docs/pictures/lesson-{name}.svg").read_text()
    assert drawn == script.LESSONS[name](), "run python docs/make_course.py"


def test_the_figures_of_the_chapters() -> None:
    one, two, three, _, five = (page.read_text() for page in PAGES)
    for name, said in (("line", "loss is 0.6931"), ("bent", "loss is 0.00055")):
        model = dlc.load(COURSE / f"{name}.dl")
        model.train()
        figure = said.removeprefix("loss is ")
        assert f"{model.evaluate()['loss']:.{len(figure) - 2}f}" == figure
        assert said in one
    for rate in ("0.0001", "0.005", "0.3"):
        settings: dict[str, Any] = {"optimizer.lr": float(rate)}
        result = dlc.load(COURSE / "maps.dl").train(**settings)
        loss, accuracy = result.history[-1].scalars["loss"], result.test["accuracy"]
        assert f"| {rate} | {loss:.3f} | {accuracy:.3f} |" in two
    maps = dlc.load(COURSE / "maps.dl")
    assert maps.plan()["parameters"] == 1370
    assert "97.5 %" in three
    backwards = dlc.load(COURSE / "reversed.dl")
    result = backwards.train()
    assert result.history[-1].validation["accuracy"] == 1.0
    assert "from 922 examples" in five
