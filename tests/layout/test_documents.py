"""Documents say what is true: tables match the lists, links lead somewhere, commands are understood."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
from repository import ROOT, files, shell_commands, table_rows

from compiler.ops import OPS
from runtime.cli.main import COMMANDS
from runtime.cli.parser import Parser
from runtime.data.reading import FORMATS

PAGES = list(files(".md"))
EXAMPLES = sorted(path for path in (ROOT / "examples").iterdir() if path.is_dir())
DECLARATION = re.compile(r"^(?:fn|layer|init|optimizer|schedule) (\w+)", re.MULTILINE)


def page_name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_readme_lists_the_commands() -> None:
    listed = [(row[0].strip("`").split()[1], row[1]) for row in table_rows((ROOT / "README.md").read_text(), "command")]
    assert listed == [(command.name, command.summary) for command in COMMANDS]


def test_command_modules_offer_what_the_registry_says() -> None:
    for command in COMMANDS:
        module = import_module(command.module)
        assert module.__doc__, command.name
        assert callable(module.configure), command.name
        assert callable(module.run), command.name


def test_a_path_has_one_format() -> None:
    endings = [ending for format in FORMATS for ending in format.endings]
    assert len(set(endings)) == len(endings)


def test_operation_names_are_unique() -> None:
    names = [operation.name for operation in OPS]
    assert len(set(names)) == len(names)


def test_the_library_page_names_what_the_library_declares() -> None:
    folder = ROOT / "compiler" / "stdlib"
    described: dict[str, set[str]] = {}
    for file, what in table_rows((folder / "README.md").read_text(), "file"):
        lists = re.findall(r"`(\w+(?: \w+)*)`", what)
        described[file.strip("`").rstrip("/")] = {name for text in lists for name in text.split()}
    for entry, names in described.items():
        sources = [folder / entry] if entry.endswith(".dl") else sorted((folder / entry).glob("*.dl"))
        declared = {name for source in sources for name in DECLARATION.findall(source.read_text())}
        assert names <= declared, f"{entry} does not declare {sorted(names - declared)}"
    missing = {path.name for path in folder.iterdir() if path.suffix == ".dl" or path.is_dir()} - set(described)
    assert missing - {"__pycache__"} == set()


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    local = [target for target in targets if "://" not in target and not target.startswith("mailto:")]
    assert [target for target in local if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_commands_in_a_page_are_understood(page: Path) -> None:
    for line in shell_commands(page.read_text(), "dlc"):
        parse_command(line)


def parse_command(line: str) -> None:
    """Raises UsageError for a command that `dlc` does not understand."""
    words = shlex.split(line, comments=True)[1:]
    if not words[0].startswith("-"):
        module = import_module({command.name: command for command in COMMANDS}[words[0]].module)
        parser = Parser(f"dlc {words[0]}", "", ())
        module.configure(parser)
        parser.parse(words[1:])


def test_what_sets_dlc_apart_has_commands() -> None:
    for _, command in table_rows((ROOT / "README.md").read_text(), "property"):
        parse_command(command.strip("`"))


def test_the_speed_of_the_readme_is_that_of_the_benchmarks() -> None:
    results = (ROOT / "benchmarks" / "README.md").read_text().partition("<!-- results: AMD EPYC Zen 5, AVX-512 -->")[2]
    assert results.strip().startswith("2026-11-22")
    training = results.partition("#### Training step, ms")[2]

    def number(cell: str) -> float:
        return float(cell.split()[0].rstrip("¹~"))

    measured = {
        row[0]: (number(row[1]), min(map(number, row[2:5])), number(row[5]), number(row[6]))
        for row in table_rows(training, "model")
    }
    for name, *cells in table_rows((ROOT / "README.md").read_text(), "model"):
        assert tuple(map(float, cells)) == measured[name], name


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_can_be_followed(example: Path) -> None:
    """Its page has a command that trains one of its own files."""
    commands = shell_commands((example / "README.md").read_text(), "dlc")
    trained = [shlex.split(line)[2] for line in commands if line.startswith("dlc train ")]
    assert trained, "the page has no `dlc train` command"
    for file in trained:
        assert (ROOT / file).is_file(), file
        assert example in (ROOT / file).parents, file
