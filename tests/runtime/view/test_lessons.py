"""Lessons: texts of READMEs below the lines that they name, on the page and in a file, until they are switched off."""

from __future__ import annotations

import base64
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from repository import ROOT
from view_pages import browser, chromium, data_in, opened, page_of, written

from compiler.errors.diagnostics import Source
from runtime.cli.main import main
from runtime.view.lessons import lessons_of, pieces_in

READMES = sorted(path for path in (ROOT / "examples").glob("*/README.md") if pieces_in(path.read_text()))
LESSON = """# Net

## Line by line

### `scaled(x)`

Twice <script>document.title='taken'</script> `x`.

![half](half.svg)

![outside](../secret.txt)

### `nowhere`

No line has this.

## Other

### `dense(3)`

This is not of the lesson.
"""
DRAWN = '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20"><rect width="40" height="20"/></svg>'


@pytest.fixture(scope="module")
def running() -> Generator[Any]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a README beside it."""
    folder = tmp_path_factory.mktemp("taught") / "net"
    model = written(folder)
    (folder / "README.md").write_text(LESSON)
    (folder / "half.svg").write_text(DRAWN)
    (folder.parent / "secret.txt").write_text("secret")
    return model


def of(model: Path) -> list[Any]:
    return [*lessons_of(Source(str(model), model.read_text()), 0)]


def test_the_course_is_in_the_lessons_of_five_examples() -> None:
    names = {path.parent.name for path in READMES}
    assert names >= {"perceptron", "digits", "lenet", "names", "gpt"}
    for path in READMES:
        assert "![" in path.read_text().partition("## Line by line")[2], path


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.parent.name)
def test_each_piece_of_a_readme_stands_in_its_model(readme: Path) -> None:
    model = readme.with_name("model.dl")
    found = of(model)
    assert {lesson["code"] for lesson in found} == set(pieces_in(readme.read_text()))
    pictures = [picture for lesson in found for picture in lesson["pictures"]]
    assert pictures
    assert all(data.startswith("data:image/svg+xml;base64,") and alternative for alternative, data in pictures)


def test_a_lesson_belongs_to_each_line_with_its_code(taught: Path) -> None:
    document: Any = page_of(taught).document
    lessons = document["lessons"]
    assert [(lesson["file"], lesson["line"]) for lesson in lessons] == [(0, 8), (1, 2)], "an import is in the folder"
    assert lessons[0]["text"] == ["Twice <script>document.title='taken'</script> `x`."]
    ((alternative, data),) = lessons[0]["pictures"]
    assert alternative == "half", "a file that is no picture is left out"
    assert base64.b64decode(data.split(",")[1]).decode() == DRAWN


def test_a_picture_that_is_too_large_is_left_out(taught: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.view.lessons._MOST_BYTES", len(DRAWN) - 1)
    (lesson,) = of(taught)
    assert lesson["pictures"] == []


def test_a_model_without_a_readme_has_no_lessons(tmp_path: Path) -> None:
    assert page_of(written(tmp_path)).document["lessons"] == []


def test_lessons_stand_below_their_lines_until_they_are_switched_off(running: Any, taught: Path, tmp_path: Path):
    chromium()
    out = tmp_path / "page.html"
    assert main(["view", str(taught), "--html", str(out)]) == 0
    with opened(running, out.as_uri()) as tab:
        lesson = tab.locator("#line-0-8 + .lesson")
        assert "<script>document.title" in lesson.inner_text()
        assert tab.title() != "taken"
        assert lesson.locator("img").evaluate("(picture) => picture.naturalWidth") == 40
        tab.keyboard.press("s")
        assert not lesson.is_visible()
        tab.get_by_role("button", name="Lesson").click()
        assert lesson.is_visible()


def test_the_page_of_lenet_teaches_its_convolution(running: Any, tmp_path: Path):
    out = tmp_path / "page.html"
    assert main(["view", str(ROOT / "examples" / "lenet" / "model.dl"), "--html", str(out)]) == 0
    assert [lesson["line"] for lesson in data_in(out.read_text(), "document")["lessons"]] == [6, 7, 8]
    for scheme in ("light", "dark"):
        with opened(running, out.as_uri(), scheme) as tab:
            picture = tab.locator("#line-0-6 + .lesson img")
            assert picture.evaluate("(picture) => picture.naturalWidth") > 400
            assert picture.evaluate("(picture) => getComputedStyle(picture).colorScheme") == scheme


def test_a_page_without_lessons_has_no_switch(running: Any, tmp_path: Path):
    out = tmp_path / "page.html"
    assert main(["view", str(written(tmp_path)), "--html", str(out)]) == 0
    with opened(running, out.as_uri()) as tab:
        assert not tab.get_by_role("button", name="Lesson").is_visible()
