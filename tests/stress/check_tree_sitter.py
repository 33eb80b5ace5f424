"""Builds the parser that `tree-sitter generate` wrote, and parses every example and the library with it.

    cp -r editors/tree-sitter-dl /tmp/parser && (cd /tmp/parser && tree-sitter generate)
    python tests/stress/check_tree_sitter.py /tmp/parser

It needs gcc and the package `tree_sitter`. No tree may hold an error, and the queries give each word the class that it
has in the language; otherwise it ends with exit status 1.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_TESTS.parent), str(_TESTS / "support")]

from editor_questions import document_of  # noqa: E402

from compiler.editing.tokens import Class, coloured  # noqa: E402
from compiler.errors.diagnostics import Source  # noqa: E402
from compiler.frontend.library import LIBRARY  # noqa: E402

_CAPTURES = {
    Class.KEYWORD: ("keyword", "constant.builtin"),
    Class.NUMBER: ("number",),
    Class.STRING: ("string",),
    Class.COMMENT: ("comment",),
    Class.OPERATOR: ("operator",),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a copy of editors/tree-sitter-dl with src/parser.c")
    folder = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as build:
        language = _language(folder, Path(build) / "dl.so")
        texts = [*sorted((_TESTS.parent / "examples").glob("*/*.dl")), *sorted(LIBRARY.rglob("*.dl"))]
        faults = [fault for path in texts for fault in _faults(language, folder, path)]
    print("\n".join([*faults, f"{len(texts)} texts, {len(faults)} faults"]))
    return 1 if faults else 0


def _language(folder: Path, library: Path) -> Any:
    tree_sitter: Any = importlib.import_module("tree_sitter")
    sources = [str(folder / "src" / name) for name in ("parser.c", "scanner.c")]
    options = ["-shared", "-fPIC", "-O1", f"-I{folder / 'src'}"]
    subprocess.run(["gcc", *options, *sources, "-o", str(library)], check=True)
    made = ctypes.CDLL(str(library)).tree_sitter_dl
    made.restype = ctypes.c_void_p
    new_capsule = ctypes.pythonapi.PyCapsule_New
    new_capsule.restype, new_capsule.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
    return tree_sitter.Language(new_capsule(made(), b"tree_sitter.Language", None))


def _faults(language: Any, folder: Path, path: Path) -> list[str]:
    tree_sitter: Any = importlib.import_module("tree_sitter")
    content = path.read_bytes()
    tree = tree_sitter.Parser(language).parse(content)
    faults = [f"{path.parent.name}/{path.name}: the tree holds an error"] if tree.root_node.has_error else []
    query = tree_sitter.Query(language, (folder / "queries" / "highlights.scm").read_text("utf-8"))
    captured = tree_sitter.QueryCursor(query).captures(tree.root_node)
    names = {(node.start_point[0], node.start_point[1]): name for name, nodes in captured.items() for node in nodes}
    lines = content.split(b"\n")
    for word in coloured(document_of(Source(str(path), content.decode("utf-8")))):
        before = lines[word.line - 1].decode("utf-8")[: word.column - 1]
        name = names.get((word.line - 1, len(before.encode("utf-8"))), "")
        if (expected := _CAPTURES.get(word.class_)) is None:
            is_right = name.split(".")[0] in ("variable", "function", "type", "property")
        else:
            is_right = name in expected
        if not is_right:
            faults.append(f"{path.parent.name}/{path.name}:{word.line}:{word.column}: {word.class_.value} is `{name}`")
    return faults


if __name__ == "__main__":
    sys.exit(main())
