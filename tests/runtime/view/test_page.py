"""A page is one file that loads nothing, and shows hostile names as text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from view_pages import SMALL, data_in, page_of, printed, written

from runtime.cli.main import main
from runtime.view.page_text import MODULES, PAGE, page_text, script_text

HOSTILE = "</script><script>document.title='taken'</script><!-- <b>&amp;\u2028\u2029"


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("page")
    assert main(["view", str(written(folder)), "--html", str(folder / "net.html")]) == 0
    return (folder / "net.html").read_text("utf-8")


def test_a_page_loads_nothing(html: str):
    assert not re.search(r"<(link|img|iframe|object|embed|base)\b", html)
    assert not re.search(r"<script[^>]* src|@import|url\(|\bimport\s*\(|^import ", html, re.MULTILINE)
    without_names = html.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(
        r"https?://|[\"'`]//\w", re.sub(r"<script type=\"application/json\".*?</script>", "", without_names)
    )


def test_only_the_scripts_and_styles_of_the_page_are_obeyed(html: str):
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    script = re.search(r'<script type="module">(.*?)</script>', html, re.DOTALL)
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert policy
    assert script
    assert style
    rules = dict(part.split(" ", 1) for part in policy[1].split("; "))
    assert rules["default-src"] == "'none'"
    for name, text in (("script-src", script[1]), ("style-src", style[1])):
        assert rules[name] == f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_the_data_of_a_page_is_that_of_its_document(tmp_path: Path):
    page = page_of(written(tmp_path))
    html = page_text("net", page.document, page.code)
    assert data_in(html, "document") == json.loads(json.dumps(page.document))
    assert data_in(html, "code")["symbols"] == list(page.code)


def test_hostile_text_neither_ends_nor_begins_an_element():
    document: Any = {HOSTILE: [HOSTILE]}
    html = page_text(HOSTILE, document, {})
    assert html.count("<script") == html.count("</script>") == 3
    assert "<!--" not in html
    assert data_in(html, "document") == document
    assert "\u2028" not in html.split("<body>")[1]


def test_names_of_modules_are_unique_when_they_are_one():
    script = script_text()
    names = re.findall(r"^(?:async )?(?:function|class|const|let) (\w+)", script, re.MULTILINE)
    assert len(names) > 80
    assert sorted({name for name in names if names.count(name) > 1}) == []
    assert {path.stem for path in PAGE.glob("*.js")} == {*MODULES}
    assert not re.search(r"^(import|export) ", script, re.MULTILINE)


def test_modules_follow_those_that_they_import():
    for n, name in enumerate(MODULES):
        imported = re.findall(r'from "\./(\w+)\.js";', (PAGE / f"{name}.js").read_text("utf-8"))
        assert {*imported} <= {*MODULES[:n]}, name


def test_the_command_says_where_the_page_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "net.html"
    assert printed(capsys, "view", written(tmp_path), "--html", out, "--json") == {
        "file": str(out),
        "bytes": out.stat().st_size,
    }


def test_a_text_with_mistakes_writes_no_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = written(tmp_path, text=SMALL.replace("dense(3)", "dens(3)"))
    assert main(["view", str(path), "--html", str(tmp_path / "net.html")]) == 1
    assert "dens" in capsys.readouterr().err
    assert not (tmp_path / "net.html").exists()


@pytest.mark.parametrize(("name", "code"), [("missing.dl", 2), (".", 2)])
def test_what_cannot_be_viewed_is_told(tmp_path: Path, name: str, code: int, capsys: pytest.CaptureFixture[str]):
    assert main(["view", str(tmp_path / name), "--html", str(tmp_path / "net.html")]) == code
    assert "error" in capsys.readouterr().err
