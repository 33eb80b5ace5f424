"""A release: its text is cut from the changelog, its version stands in one place, its workflows name existing files."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from typing import TypeAlias

import pytest
from repository import ROOT

Released: TypeAlias = Callable[..., tuple[int, str, str]]
SCRIPT = ROOT / ".ci" / "release_notes.py"
PYPROJECT = '[project]\nname = "dlc"\nversion = "1.2.0"\n'
CHANGELOG = """# Changelog

## [Unreleased]

- Not yet.

## [1.2.0] - 2026-05-01

### Added

- A thing.

## [1.1.0] - 2026-01-01

- Old.

[1.2.0]: https://example.org/1.2.0
"""


@pytest.fixture
def released(tmp_path_factory: pytest.TempPathFactory) -> Released:
    """Runs the script on a tag and two texts: exit code, output and errors."""

    def run(tag: str, pyproject: str = PYPROJECT, changelog: str = CHANGELOG) -> tuple[int, str, str]:
        project = tmp_path_factory.mktemp("project")
        (project / ".ci").mkdir()
        (project / ".ci" / SCRIPT.name).write_text(SCRIPT.read_text())
        (project / "pyproject.toml").write_text(pyproject)
        (project / "CHANGELOG.md").write_text(changelog)
        command = [sys.executable, str(project / ".ci" / SCRIPT.name), tag]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    return run


def test_the_text_of_a_release_is_its_section(released: Released) -> None:
    assert released("v1.2.0") == (0, "### Added\n\n- A thing.\n", "")


def test_the_last_section_ends_before_the_links(released: Released) -> None:
    assert released("v1.1.0", PYPROJECT.replace("1.2.0", "1.1.0"))[:2] == (0, "- Old.\n")


@pytest.mark.parametrize(
    ("tag", "changelog", "message"),
    [
        ("v1.3.0", CHANGELOG, "pyproject.toml has version 1.2.0"),
        ("1.2.0", CHANGELOG, "the tag must be v1.2.0"),
        ("v1.2.0", CHANGELOG.replace("[1.2.0] - 2026-05-01", "[1.2.1] - 2026-05-01"), "has no section"),
        ("v1.2.0", CHANGELOG.replace("### Added\n\n- A thing.\n", ""), "is empty"),
    ],
)
def test_a_release_that_does_not_fit_is_refused(tag: str, changelog: str, message: str, released: Released) -> None:
    status, said, errors = released(tag, changelog=changelog)
    assert (status, said) == (1, "")
    assert message in errors


def test_the_version_stands_in_one_place() -> None:
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    written = re.compile(rf"__version__|version = \"{re.escape(version[1])}\"")
    found = [
        str(path.relative_to(ROOT))
        for folder in ("compiler", "runtime", "docs")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".toml", ".yml") and written.search(path.read_text())
    ]
    assert found == []


def test_what_the_workflows_name_exists() -> None:
    for workflow in (ROOT / ".github" / "workflows").glob("*.yml"):
        named = re.findall(r"(?:\.ci|tests|docs)/[\w./-]+", workflow.read_text())
        assert [name for name in named if not (ROOT / name).exists()] == [], workflow.name
