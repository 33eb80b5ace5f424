"""What style asks of files: a sentence at the head of each module, pure test folders, nothing left over."""

from __future__ import annotations

import ast
import re
from collections import Counter

import pytest
from repository import ROOT, files, texts

PYTHON = {path: text for path in files(".py") if (text := path.read_text()).strip()}
STAGES_WITH_A_REPRESENTATION = ("graph", "schedule/fusion", "schedule", "loops", "targets/cpu/products", "nest")


def test_a_module_starts_with_a_sentence() -> None:
    """Of all modules in one test: a test for each of a thousand takes as long as the reading of them."""
    first = {path: _first_paragraph(text) for path, text in PYTHON.items()}
    no_sentence = re.compile(r"(?![A-Z`(])|.*[^.:?]\Z", re.DOTALL)
    assert [f"{path.relative_to(ROOT)}: {said}" for path, said in first.items() if no_sentence.match(said)] == []


def _first_paragraph(text: str) -> str:
    """Of the docstring of a module, before which comments may stand; empty where there is none."""
    found = re.match(r'(?:#.*\n|\s)*[rR]?"""(.*?)(?:"""|\n\n)', text, re.DOTALL)
    return found[1].strip() if found else ""


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
        for path, text in PYTHON.items()
        for number, line in enumerate(text.splitlines(), 1)
        if (match := commented.match(line)) and is_statement(match.group(1))
    ]
    assert found == []
