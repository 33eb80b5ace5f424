"""What style asks of files: a sentence at the head of each module, pure test folders, nothing left over."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest
from repository import ROOT, files, texts

PYTHON = [path for path in files(".py") if path.read_text().strip()]
STAGES_WITH_A_REPRESENTATION = ("graph", "schedule/fusion", "schedule", "loops", "targets/cpu/products", "nest")


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_starts_with_a_sentence(path: Path) -> None:
    documentation = ast.get_docstring(ast.parse(path.read_text()))
    assert documentation, "the module has no docstring"
    first = documentation.split("\n\n")[0]
    assert first[0].isupper() or first[0] in "`(", first
    assert first.rstrip().endswith((".", ":", "?")), first


def test_test_folders_are_no_packages() -> None:
    """`tests/runtime/__init__.py` would shadow the package `runtime`."""
    assert [str(path) for path in files(below=ROOT / "tests") if path.name == "__init__.py"] == []


def test_test_modules_have_names_of_their_own() -> None:
    names = Counter(path.name for path in files(".py", below=ROOT / "tests"))
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize("stage", STAGES_WITH_A_REPRESENTATION)
def test_a_representation_can_be_printed_and_verified(stage: str) -> None:
    names = {path.name for path in (ROOT / "compiler" / stage).iterdir()}
    assert {"ir.py", "printer.py", "verify.py"} <= names


def test_no_text_tells_of_work_left_or_of_one_machine() -> None:
    # The words are put together here so that this file does not hold them.
    unwanted = [
        r"\b" + "TO" + r"DO\b",
        r"\b" + "FIX" + r"ME\b",
        r"\b" + "X" * 3 + r"\b",
        "/" + "work/",
        "/" + r"root\b",
        "/" + r"home/\w",
        "/" + "tmp/v" + r"\b",
        r"\.\./" + "shared/(?:data|bench|design)",
        r"#\s*[-=*#]{4,}\s*$",
    ]
    pattern = re.compile("|".join(unwanted), re.MULTILINE)
    found = [
        f"{name}:{text[: match.start()].count(chr(10)) + 1}: {match.group()}"
        for name, text in texts()
        for match in pattern.finditer(text)
    ]
    assert found == []


def test_every_line_of_code_is_code() -> None:
    """Commented-out statements are noise; a comment that parses as an assignment or a call is one."""
    commented = re.compile(r"^\s*# ?((?:return|import|from|assert|raise|del) .+|[\w.]+(?:\[.*\])? = .+|[\w.]+\(.*\))$")

    def is_statement(text: str) -> bool:
        try:
            ast.parse(text)
        except SyntaxError:
            return False
        return True

    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in PYTHON
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if (match := commented.match(line)) and is_statement(match.group(1))
    ]
    assert found == []
