"""What IPython and browsers make of a notebook: tracebacks without lines of dlc, and pictures in the dark."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from repository import ROOT
from rings import RINGS
from view_pages import browser

import dlc
from compiler.support.palette import SURFACES, channels, tint

_MISTAKES = (
    "dlc.load('nowhere.dl')",
    "dlc.loads('model A {')",
    "model.train(epochs=0.5)",
    "model.predict(np.zeros((3, 7)))",
    "model.parameters['nothing'] = 1",
    "dlc.function('fn f(x) = x', 'g')",
)
_SHELL = """
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance(colors="nocolor")
shell.run_cell("import dlc, numpy as np; model = dlc.loads(open(0).read())")
for cell in sys.argv[1:]:
    shell.run_cell("def of_the_user():\\n    " + cell + "\\nof_the_user()")
    print("====")
"""


def test_a_traceback_in_a_notebook_has_the_lines_of_the_user(tmp_path: Path) -> None:
    pytest.importorskip("IPython", reason="IPython is not installed")
    command = [sys.executable, "-c", _SHELL, *_MISTAKES]
    done = subprocess.run(command, input=RINGS, capture_output=True, text=True, check=True, cwd=tmp_path)
    shown = done.stdout.split("====\n")[:-1]
    assert len(shown) == len(_MISTAKES), done.stdout + done.stderr
    for mistake, text in zip(_MISTAKES, shown, strict=True):
        assert f"----> 2     {mistake}" in text
        assert "----> 3 of_the_user()" in text
        assert "Error: " in text
        assert not any(str(ROOT / place) in text for place in ("runtime", "compiler", "dlc.py"))


def test_a_traceback_elsewhere_is_that_of_python() -> None:
    code = "import dlc, sys; sys.excepthook is sys.__excepthook__ or print('hook'); dlc.load('nowhere.dl')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "UsageError: " in done.stderr
    assert "caller.py" in done.stderr


@pytest.fixture(scope="module")
def running() -> Iterator[Any]:
    with browser() as found:
        yield found


@pytest.mark.parametrize(
    ("marks", "system", "is_dark"),
    [
        ('data-jp-theme-light="false"', "light", True),
        ('data-jp-theme-light="true"', "dark", False),
        ('class="dark"', "light", True),
        ('class="vscode-dark"', "light", True),
        ('class="vscode-light"', "dark", False),
        ("", "dark", True),
        ("", "light", False),
    ],
)
def test_a_graph_is_as_dark_as_the_notebook(running: Any, marks: str, system: str, is_dark: bool) -> None:
    page = running.new_page(color_scheme=system)
    page.set_content(f"<html><body {marks}>{_graph()}</body></html>")
    fill = "element => getComputedStyle(element).fill"
    paper = page.locator(".graph svg > rect, .graph svg > g > polygon").first.evaluate(fill)
    data = page.locator(f'.graph [fill="{tint("own", 1.0)}"]').first.evaluate(fill)
    page.close()
    assert paper == _rgb(SURFACES["raised"][is_dark])
    assert data == _rgb(SURFACES["own"][is_dark])


def _graph() -> str:
    display: Any = dlc.loads(RINGS).graph()
    return display._repr_html_()


def _rgb(colour: str) -> str:
    return f"rgb{channels(colour)}"
