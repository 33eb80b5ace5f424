"""The names of torchvision, timm and Hugging Face: each model's tensors find their places in ours.

`tests/stress/check_imports.py` writes the lists of names and shapes, and compares outputs.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from golden import Golden
from import_cases import IMPORT_CASES
from repository import ROOT

from compiler import driver
from runtime.imports.weights.find_table import Rules, find_table, shapes_of
from runtime.imports.weights.sources import ForeignWeights
from runtime.imports.weights.table import Table, lines_of, read_table

NAMES = Path(__file__).parent / "names"


def source_of(name: str, is_ordered: bool) -> ForeignWeights:
    """Tensors of these names and shapes, which need no memory; by name where the file keeps no order."""
    shapes = json.loads((NAMES / f"{name}.json").read_text())
    listed = shapes if is_ordered else sorted(shapes)
    tensors = {key: np.broadcast_to(np.float32(0), tuple(shapes[key])) for key in listed}
    return ForeignWeights(Path(name), "torch", tensors, is_ordered, (), {}, {})


@pytest.mark.parametrize("name", IMPORT_CASES)
def test_every_tensor_finds_its_place(name: str, golden: Golden) -> None:
    case = IMPORT_CASES[name]
    program = driver.load(ROOT / case.model, None, case.settings, lambda _: {})
    source = source_of(name, case.is_ordered)
    shapes = {key: values.shape for key, values in source.tensors.items()}
    wanted = shapes_of(program)
    answers = read_table("\n".join(case.answers), Path("answers"), wanted, shapes) if case.answers else Table({})
    found = find_table(program, source, Rules(answers))
    assert found.questions == ()
    lines = lines_of(found.table, found.reasons)
    golden(f"imports/{name}.table", "\n".join(lines))
    again = read_table("\n".join(lines), Path("table"), wanted, shapes)
    assert again == found.table


@pytest.mark.parametrize("name", [name for name, case in IMPORT_CASES.items() if case.answers])
def test_what_names_and_shapes_leave_open_is_asked(name: str) -> None:
    case = IMPORT_CASES[name]
    program = driver.load(ROOT / case.model, None, case.settings, lambda _: {})
    found = find_table(program, source_of(name, case.is_ordered), Rules())
    assert {line for question in found.questions for line in question.answers} >= set(case.answers)
    assert all(line.split(" = ")[0] not in found.table.entries for line in case.answers)
