"""The parser that tree-sitter generates from its grammar: it reads what the compiler reads, with the same structure.

The tests need the command `tree-sitter` of version 0.25 or newer, which is the first to know reserved words, gcc, and
the package `tree_sitter`. Without these, `test_grammars` still has the grammar parsed by Lark.
"""

from __future__ import annotations

import ctypes
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from editor_questions import document_of
from repository import ROOT

from compiler.editing.tokens import Class, coloured
from compiler.errors.diagnostics import Source, SourceError, Span
from compiler.errors.index import ERRORS
from compiler.frontend.library import LIBRARY
from compiler.syntax.lexer import lex
from compiler.syntax.parser import Parser
from compiler.syntax.syntax_errors import read_explanations

TEXTS = {
    str(path.relative_to(ROOT)): path.read_text("utf-8")
    for folder in (ROOT / "examples", LIBRARY, ROOT / "docs", ROOT / "benchmarks", ROOT / "tests")
    for path in sorted(folder.rglob("*.dl"))
}
PARSER = Parser()
_CAPTURES = {
    Class.KEYWORD: ("keyword", "constant.builtin"),
    Class.NUMBER: ("number",),
    Class.STRING: ("string",),
    Class.COMMENT: ("comment",),
    Class.OPERATOR: ("operator",),
}
_OF_NAMES = ("variable", "function", "type", "property")
_BEYOND_GRAMMAR = {
    "E0107": "where a line may end",
    "E0109": "where a line may end",
    "E0113": "what a comment documents",
    "E0114": "which names are types",
    "E0115": "the order of arguments",
    "E0116": "indentation",
    "E0117": "depth",
}
"""What the compiler refuses behind its grammar, and an editor's tree does not show."""
_LEXED_OTHERWISE = "<-"  # where no state is updated, tree-sitter reads `<` and `-`
_MUTATIONS = 1500
_OLDEST = (0, 25)
# Nodes of tree-sitter that stand for a node of the compiler's syntax.
_STRUCTURE = frozenset(
    (
        *("annotation", "assign", "attribute", "bare_tuple", "binary", "block", "boolean", "call"),
        *("callable", "carry", "const", "element_type", "ellipsis", "emit", "entry", "expression_statement"),
        *("for", "generate", "gradient", "if", "import", "index", "input", "keyword", "list_literal", "loss"),
        *("model", "name", "named_value", "new_axis", "none", "number", "output", "param", "parameter"),
        *("parenthesised", "pipe", "range", "return", "sample", "scan", "scan_input", "slice", "state"),
        *("state_update", "target", "test", "text", "train", "tuple_literal", "unary", "update", "view"),
    )
)


class Generated:
    """The parser, with the queries for colours."""

    def __init__(self, folder: Path, tree_sitter: Any) -> None:
        self._library = folder / "dl.so"  # which must be loaded as long as its language is used
        sources = [str(folder / "src" / name) for name in ("parser.c", "scanner.c")]
        options = ["-shared", "-fPIC", f"-I{folder / 'src'}"]
        subprocess.run(["gcc", *options, *sources, "-o", str(self._library)], check=True)
        made = ctypes.CDLL(str(self._library)).tree_sitter_dl
        made.restype = ctypes.c_void_p
        capsule = ctypes.pythonapi.PyCapsule_New
        capsule.restype, capsule.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
        language = tree_sitter.Language(capsule(made(), b"tree_sitter.Language", None))
        self._parser = tree_sitter.Parser(language)
        query = tree_sitter.Query(language, (folder / "queries" / "highlights.scm").read_text("utf-8"))
        self._query = tree_sitter.QueryCursor(query)

    def tree(self, text: str) -> Any:
        return self._parser.parse(text.encode("utf-8")).root_node

    def captures(self, text: str) -> dict[tuple[int, int], str]:
        """The last capture at each place, which is the one that an editor shows."""
        captured = self._query.captures(self.tree(text)).items()
        place = _places_in(text)
        return {place(node.start_point): name for name, nodes in captured for node in nodes}


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Generated:
    for command in ("tree-sitter", "gcc"):
        if shutil.which(command) is None:
            pytest.skip(f"the command {command} is not installed")
    version = subprocess.run(["tree-sitter", "--version"], capture_output=True, text=True, check=True).stdout
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < _OLDEST:
        pytest.skip(f"{version.strip()} is older than 0.25")
    tree_sitter = pytest.importorskip("tree_sitter", reason="the package tree_sitter is not installed")
    folder = tmp_path_factory.mktemp("generated") / "tree-sitter-dl"
    shutil.copytree(ROOT / "editors" / "tree-sitter-dl", folder)
    subprocess.run(["tree-sitter", "generate"], cwd=folder, check=True)
    return Generated(folder, tree_sitter)


def _places_in(text: str) -> Any:
    """Places of tree-sitter, which counts bytes from 0, as lines and columns of the compiler."""
    lines = text.encode("utf-8").split(b"\n")
    return lambda point: (point[0] + 1, len(lines[point[0]][: point[1]].decode("utf-8")) + 1)


def refusals(text: str) -> list[str]:
    """The codes of the mistakes in the syntax of a text, with the word that is marked."""
    try:
        PARSER.parse(Source("model.dl", text))
    except SourceError as error:
        lines = text.split("\n")
        return [f"{d.code} {lines[d.span.line - 1][d.span.column - 1 :]}" for d in error.diagnostics]
    return []


def agrees(generated: Generated, text: str) -> bool:
    """Whether both refuse a text, or both read it, or only the compiler refuses it, behind its grammar."""
    refused = refusals(text)
    if not refused:
        return not generated.tree(text).has_error
    if all(r[:5] in _BEYOND_GRAMMAR or r.startswith(f"E0101 {_LEXED_OTHERWISE}") for r in refused):
        return True
    return generated.tree(text).has_error


def test_it_reads_every_text_with_the_structure_of_the_compiler(generated: Generated) -> None:
    for name, text in TEXTS.items():
        tree = generated.tree(text)
        assert not tree.has_error, name
        spans = set(_spans(PARSER.parse(Source(name, text)).declarations))
        place = _places_in(text)
        for node in _inner(tree):
            around = node.parent if node.parent.type == "parenthesised" else node  # the compiler keeps no such node
            assert (*place(around.start_point), *place(around.end_point)) in spans, f"{name}: {node.type}: {node.text}"


def _inner(node: Any) -> Iterator[Any]:
    """The nodes of a tree that have one in the compiler's syntax."""
    for child in node.named_children:
        is_name_of_node = child.type == "name" and node.type not in ("call", "binary", "pipe", "unary", "bare_tuple")
        if child.type in _STRUCTURE and not is_name_of_node:
            yield child
        yield from _inner(child)


def _spans(node: object) -> Iterator[tuple[int, int, int, int]]:
    """The places of all nodes of the compiler's syntax."""
    if isinstance(node, Span):
        yield node.line, node.column, node.end_line, node.end_column
    elif isinstance(node, tuple):
        for part in cast(tuple[object, ...], node):
            yield from _spans(part)
    elif is_dataclass(node) and not isinstance(node, Source):
        for field in fields(node):
            yield from _spans(getattr(node, field.name))


def test_its_queries_give_words_their_classes(generated: Generated) -> None:
    for name, text in TEXTS.items():
        captures = generated.captures(text)
        for word in coloured(document_of(Source(name, text))):
            found = captures.get((word.line, word.column), "")
            expected = _CAPTURES.get(word.class_)
            is_right = found.split(".")[0] in _OF_NAMES if expected is None else found in expected
            assert is_right, f"{name}:{word.line}:{word.column}: {word.class_.value} is `{found}`"


def test_it_refuses_what_the_compiler_refuses(generated: Generated) -> None:
    snippets = [snippet for entry in read_explanations() for snippet in entry.snippets]
    examples = [text for entry in ERRORS.values() for text in (entry.wrong, entry.right) if text]
    disagreed = [text for text in (*snippets, *examples) if not agrees(generated, text)]
    assert disagreed == []


def test_it_agrees_on_texts_with_a_changed_word(generated: Generated) -> None:
    chooser = random.Random(7)
    texts = [text for text in TEXTS.values() if len(text) < 5_000 and "layer" in text]
    for _ in range(_MUTATIONS):
        text = chooser.choice(texts)
        changed = _changed(text, chooser)
        assert agrees(generated, changed), changed


def _changed(text: str, chooser: random.Random) -> str:
    """A text with one word left out, or with another one in its place or behind it."""
    tokens = lex(Source("model.dl", text)).tokens
    token, other = chooser.choice(tokens), chooser.choice(tokens)
    begin = [match.end() for match in re.finditer(r"^|\n", text)][token.line - 1] + token.column - 1
    words = chooser.choice(("", other.text, f"{token.text} {other.text}"))
    return text[:begin] + words + text[begin + len(token.text) :]
