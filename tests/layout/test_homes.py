"""Things that have one home: adding one touches a few files, which `How to add` of the architecture page names."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest
from repository import ROOT, files

from compiler.ops.mathematics import Cos, Erf, Function, Sin


@pytest.mark.parametrize("op", [Sin, Cos, Erf], ids=lambda op: op.name)
def test_a_mathematical_function_stands_in_its_class_its_vector_formulas_and_its_operator(op: type[Function]) -> None:
    """These are functions that no law and no lint knows."""
    folder = ROOT / "compiler"
    names = {op.name, op.__name__}
    found = {path for path in files(".py", below=folder) if names & _words(path)}
    by_type = {"targets/llvm/math_single.py", "targets/llvm/math_double.py"}
    shared = "targets/llvm/math_shared.py"  # of formulas that differ in numbers alone
    homes = {str(path.relative_to(folder)) for path in found}
    homes -= {"ops/mathematics.py", "to_onnx/elementwise.py"}
    assert homes == {shared} or homes - {shared} == by_type


@cache
def _words(path: Path) -> set[str]:
    """The names in a module, and its strings that are a name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Name(name) | ast.Attribute(attr=name) | ast.alias(name) | ast.Constant(str(name)):
                found.add(name)
            case ast.ClassDef(name) | ast.FunctionDef(name):
                found.add(name)
            case _:
                pass
    return found
