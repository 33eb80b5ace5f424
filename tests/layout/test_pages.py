"""The pages of the documentation keep up with the code: lists are whole, generated pages current, examples sound."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from html import unescape
from pathlib import Path
from platform import machine

import pytest
from repository import ROOT, script_of_pages, table_rows

from compiler.errors.diagnostics import Source, SourceError
from compiler.errors.rendering import render
from compiler.frontend import elaborate
from compiler.frontend.builtins.functions import BUILTINS
from compiler.inspection.passes import passes_over_kernels
from compiler.interface import Options
from compiler.pipeline import GRAPH_PASSES
from compiler.schedule.fusion.passes import FUSED_PASSES
from compiler.schedule.passes import SCHEDULE_PASSES
from compiler.support.data_formats import OPTIONS
from compiler.support.train_keys import KEYS
from compiler.syntax.build_syntax import ELEMENT_TYPES, SETTING_TYPES
from compiler.syntax.lexer import DECLARATIONS, RESERVED
from compiler.syntax.modules import load_modules
from runtime.cli.main import COMMANDS

LANGUAGE = (ROOT / "docs" / "language.md").read_text()
GUIDE = (ROOT / "docs" / "user-guide.md").read_text()
ARCHITECTURE = (ROOT / "compiler" / "README.md").read_text()
COMING_FROM = (ROOT / "docs" / "coming-from.md").read_text()
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text()
TOUR = (ROOT / "docs" / "tour.md").read_text()
COURSE = "".join(page.read_text() for page in sorted((ROOT / "docs" / "course").glob("*.md")))
EXAMPLES = re.findall(r"^```dl\n(.*?)^```$", LANGUAGE + COMING_FROM + TUTORIAL + COURSE, re.MULTILINE | re.DOTALL)


def words_in_code(page: str) -> set[str]:
    """Every word between backticks, or in a block of code."""
    blocks = re.findall(r"^```.*?\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)
    return set(re.findall(r"\w+", " ".join([*blocks, *re.findall(r"`([^`]+)`", prose)])))


def missing(words: Iterable[str], page: str) -> list[str]:
    known = words_in_code(page)
    return sorted(word for word in words if word not in known)


def test_the_language_reference_names_every_word_of_the_language() -> None:
    for words in (BUILTINS, KEYS, RESERVED, DECLARATIONS, SETTING_TYPES, ELEMENT_TYPES):
        assert missing(words, LANGUAGE) == []


def test_the_user_guide_names_every_command_format_and_option_of_data() -> None:
    assert missing([command.name for command in COMMANDS], GUIDE) == []
    for name, options in OPTIONS.items():
        assert missing([name, *options], GUIDE) == []


def test_the_library_page_is_current() -> None:
    script = script_of_pages("make_library")
    assert script.PAGE.read_text() == script.library_page(), "run python docs/make_library.py"


@pytest.mark.skipif(machine() not in ("x86_64", "AMD64"), reason="on Arm, `--target neon` is the processor at hand")
def test_the_listings_of_the_tour_are_current(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert script_of_pages("make_tour").tour_page(TOUR) == TOUR, "run python docs/make_tour.py"


def test_the_tour_shows_its_model() -> None:
    assert f"```dl\n{(ROOT / 'docs' / 'tour.dl').read_text()}```" in TOUR


@pytest.mark.parametrize("name", ["training", "error"])
def test_the_pictures_of_terminals_are_current(name: str, tmp_path: Path) -> None:
    """But for speeds and times: losses have the same bits on every machine."""
    script = script_of_pages("make_pictures")
    words = script.COMMANDS[name]
    shown = (ROOT / f"docs/pictures/{name}.svg").read_text()
    assert "http" not in shown.replace("http://www.w3.org/2000/svg", ""), "a picture loads nothing"
    measured = re.compile(r"\s+[\d.]+\s[kM]?\s+[\d.]+\ss|[\d.]+\ss;")
    texts = [
        [measured.sub("…", unescape(text)) for text in re.findall(r"<text[^>]*>([^<]*)<", svg)]
        for svg in (shown, script.picture(name, words, script.printed(words, tmp_path)))
    ]
    assert texts[0] == texts[1], "run python docs/make_pictures.py"


def test_the_names_of_other_frameworks_are_current() -> None:
    assert script_of_pages("make_names").page_of_names(COMING_FROM) == COMING_FROM, "run python docs/make_names.py"


@pytest.mark.parametrize("text", EXAMPLES, ids=lambda text: text.splitlines()[0].strip("# ")[:40])
def test_an_example_of_a_page_has_no_mistakes(text: str) -> None:
    found = elaborate.check(load_modules(Source("example.dl", text), None))
    assert not found, render(SourceError(found))


def test_the_architecture_page_lists_the_passes_in_their_order() -> None:
    for column, passes in (
        ("pass", GRAPH_PASSES),
        ("pass over a fused graph", [each for each, _ in FUSED_PASSES]),
        ("pass over a schedule", [each for each, _ in SCHEDULE_PASSES]),
    ):
        assert [row[0].strip("`") for row in table_rows(ARCHITECTURE, column)] == [each.__name__ for each in passes]
    columns = ("pass over rows or columns", "pass over a product")
    over_kernels = [row[0].strip("`") for column in columns for row in table_rows(ARCHITECTURE, column)]
    assert over_kernels == [*passes_over_kernels(Options())]


def test_the_architecture_page_places_every_file_and_folder() -> None:
    places = {name for row in table_rows(ARCHITECTURE, "place") for name in re.findall(r"`([^`]+)`", row[0])}
    folder = ROOT / "compiler"
    files = {path.name for path in folder.glob("*.py")} - {"__init__.py"}
    folders = {f"{path.name}/" for path in folder.iterdir() if path.is_dir()} - {"__pycache__/"}
    assert places == files | folders


def test_the_architecture_page_names_every_file_of_the_front_end_and_of_the_native_target() -> None:
    for folder in ("syntax", "frontend", "targets/cpu", "schedule"):
        names = {path.stem for path in (ROOT / "compiler" / folder).rglob("*.py")} - {"__init__"}
        named = words_in_code(ARCHITECTURE)
        assert sorted(names - named) == [], folder


DECISIONS = (ROOT / "compiler" / "DECISIONS.md").read_text()


def decisions() -> Iterator[tuple[str, str, str]]:
    """Topic, heading and text of each decision."""
    for section in re.split(r"^## ", DECISIONS, flags=re.MULTILINE)[2:]:
        topic, *entries = re.split(r"^### ", section, flags=re.MULTILINE)
        for entry in entries:
            heading, _, text = entry.partition("\n")
            yield topic.strip(), heading, text


def test_every_decision_says_when_why_and_what_was_rejected() -> None:
    assert list(decisions())
    for topic, heading, text in decisions():
        assert "20" not in topic, f"`{topic}` is a decision outside of a topic: give it three #"
        assert re.match(r"\d{4}-\d{2}-\d{2}: ", heading), heading
        assert "\nWhy: " in text, heading
        assert "\nRejected" in text, heading


def test_the_index_of_decisions_lists_each_under_its_topic() -> None:
    wanted: list[str] = []
    for topic, heading, _ in decisions():
        line = f"- [{topic}](#{anchor(topic)})"
        if line not in wanted:
            wanted.append(line)
        wanted.append(f"  - [{heading.partition(': ')[2]}](#{anchor(heading)})")
    index = DECISIONS.partition("## Index\n\n")[2].partition("\n\n## ")[0]
    assert index.splitlines() == wanted


def test_decisions_name_modules_that_exist() -> None:
    folders = sorted(path.name for path in (ROOT / "compiler").iterdir() if path.is_dir())
    named = re.findall(rf"`((?:{'|'.join(folders)})/[a-z_/]+)(?:\.\w+)*`", DECISIONS)
    assert named
    missing = [name for name in named if not any((ROOT / "compiler" / f"{name}{end}").exists() for end in ("", ".py"))]
    assert missing == []


def anchor(heading: str) -> str:
    """The fragment by which pages refer to a heading: letters, digits, hyphens; each space a hyphen."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _paths(page: str) -> list[Path]:
    """Files of the repository that a page names between backticks."""
    roots = "compiler|runtime|tests|docs|grammar|examples|benchmarks"
    named = re.findall(rf"`(?:python )?((?:{roots})/[\w./-]+)`", page)
    return [Path(name) for name in named if "NAME" not in name]


@pytest.mark.parametrize(
    "page", [*sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name
)
def test_files_that_a_page_names_exist(page: Path) -> None:
    assert [str(path) for path in _paths(page.read_text()) if not (ROOT / path).exists()] == []
