"""The grammars of editors: each gives the words of all examples and of the library the classes of the language."""

from __future__ import annotations

import importlib.util
import json
import logging
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any, ClassVar

import pytest
from editor_questions import document_of
from lark import Lark, Token, Tree
from lark.lexer import Lexer
from repository import ROOT

from compiler.editing.tokens import Class, coloured
from compiler.errors.diagnostics import Source
from compiler.frontend.library import LIBRARY
from compiler.syntax.declarations import split_declarations
from compiler.syntax.highlighting import PATTERNS, coarse
from compiler.syntax.lexer import KEYWORDS, NEWLINE, OPERATORS, lex

TEXTS = [*sorted((ROOT / "examples").glob("*/*.dl")), *sorted(LIBRARY.rglob("*.dl"))]
SOURCES = [Source(str(path), path.read_text("utf-8")) for path in TEXTS]
EDITORS = ROOT / "editors"
NODE = shutil.which("node")
_COARSE = {
    Class.KEYWORD: "keyword",
    Class.NUMBER: "number",
    Class.STRING: "string",
    Class.COMMENT: "comment",
    Class.OPERATOR: "operator",
}
Words = dict[int, tuple[str, str]]
"""Words with their classes, by their offsets."""


def expected(source: Source) -> Words:
    """The words of a text as the parser reads them."""
    starts = [0]
    for line in source.text.split("\n"):
        starts.append(starts[-1] + len(line) + 1)
    found: Words = {}
    for word in coloured(document_of(source)):
        offset = starts[word.line - 1] + word.column - 1
        found[offset] = source.text[offset : offset + word.length], _COARSE.get(word.class_, "name")
    return found


@cache
def all_expected() -> list[Words]:
    return [expected(source) for source in SOURCES]


def made_grammars() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_grammars", EDITORS / "make_grammars.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_grammars_are_those_of_the_language() -> None:
    for path, text in made_grammars().made().items():
        assert path.read_text("utf-8") == text, f"python editors/make_grammars.py writes {path.name} anew"


def test_pygments_gives_words_their_classes() -> None:
    pytest.importorskip("pygments", reason="Pygments is not installed")
    from pygments.token import Whitespace

    from runtime.editor.pygments_lexer import TOKENS, DlLexer

    classes = {token: coarse(class_) for class_, token in TOKENS.items()}
    for source, words in zip(SOURCES, all_expected(), strict=True):
        found: Words = {}
        offset = 0
        for token, text in DlLexer(stripnl=False).get_tokens(source.text):
            if token is not Whitespace:
                found[offset] = text.rstrip() if classes[token] == "comment" else text, classes[token]
            offset += len(text)
        assert found == words, source.name


def test_pygments_leaves_datalog_alone() -> None:
    pytest.importorskip("pygments", reason="Pygments is not installed")
    from runtime.editor.pygments_lexer import DlLexer

    assert DlLexer.analyse_text("# A model.\nmodel A {\n}\n") > 0.5
    assert DlLexer.analyse_text(".decl edge(x: number, y: number)\npath(x, y) :- edge(x, y).\n") == 0


def test_textmate_gives_words_their_classes() -> None:
    """Its patterns are tried as editors do: the first match in the line, and of several there the first pattern."""
    grammar = json.loads((EDITORS / "vscode/syntaxes/dl.tmLanguage.json").read_text("utf-8"))
    patterns = [(re.compile(p["match"]), p["name"]) for p in grammar["patterns"]]
    scopes = {scope: coarse(pattern.class_) for (_, scope), pattern in zip(patterns, PATTERNS, strict=True)}
    for source, words in zip(SOURCES, all_expected(), strict=True):
        found: Words = {}
        start = 0
        for line in source.text.split("\n"):
            column = 0
            while column < len(line):
                matches = [(m.start(), n, m) for n, (p, _) in enumerate(patterns) if (m := p.search(line, column))]
                if not matches:
                    break
                _, number, match = min(matches, key=lambda entry: entry[:2])
                found[start + match.start()] = match.group().rstrip(), scopes[patterns[number][1]]
                column = max(match.end(), column + 1)
            start += len(line) + 1
        assert found == words, source.name


def test_notebooks_give_words_their_classes() -> None:
    if NODE is None:
        pytest.skip("node is not installed")
    script = EDITORS / "jupyterlab/labextension/static/highlight.js"
    asking = f"const {{ words }} = require({json.dumps(str(script))});"
    asking += "console.log(JSON.stringify(JSON.parse(require('fs').readFileSync(0)).map(words)));"
    texts = [source.text for source in SOURCES]
    answer = subprocess.run([NODE, "-e", asking], input=json.dumps(texts), capture_output=True, text=True, check=True)
    for source, found, expected_words in zip(SOURCES, json.loads(answer.stdout), all_expected(), strict=True):
        words = {first: (source.text[first:last].rstrip(), coarse(class_)) for first, last, class_ in found}
        assert words == expected_words, source.name


def test_the_wheel_brings_the_extension_of_notebooks() -> None:
    """JupyterLab finds an extension by the folder that has the name in its `package.json`."""
    shared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"]["wheel"]
    ((folder, place),) = shared["shared-data"].items()
    package = json.loads((ROOT / folder / "package.json").read_text("utf-8"))
    assert place == f"share/jupyter/labextensions/{package['name']}"
    assert f'["{package["name"]}"] = container' in (ROOT / folder / package["jupyterlab"]["_build"]["load"]).read_text()


# Tree-sitter: its grammar is evaluated by node, and what it describes is parsed by Lark.

_STUB = """
const seq = (...m) => ({ type: "SEQ", m: m.map(form) }), choice = (...m) => ({ type: "CHOICE", m: m.map(form) });
const one = (type) => (m) => ({ type, m: [form(m)] });
const repeat = one("REPEAT"), repeat1 = one("REPEAT1"), optional = one("OPTIONAL");
const alias = (m, to) => ({ type: "ALIAS", m: [form(m)], to: to.symbol });
function form(m) {
  if (typeof m === "string") return { type: "STRING", value: m };
  if (m instanceof RegExp) return { type: "PATTERN", value: m.source };
  return m.symbol ? { type: "SYMBOL", value: m.symbol } : m;
}
const $ = new Proxy({}, { get: (_, name) => ({ symbol: name }) });
function grammar(g) {
  const rules = Object.fromEntries(Object.entries(g.rules).map(([name, rule]) => [name, form(rule($))]));
  console.log(JSON.stringify({ rules, externals: g.externals($).map((e) => e.symbol) }));
}
const module = {};
"""


def tree_sitter_grammar() -> dict[str, Any]:
    if NODE is None:
        pytest.skip("node is not installed")
    text = (EDITORS / "tree-sitter-dl/grammar.js").read_text("utf-8")
    answer = subprocess.run([NODE, "-e", _STUB + text], capture_output=True, text=True, check=True)
    return json.loads(answer.stdout)


class _Tokens(Lexer):
    """The tokens of the compiler's lexer, with newlines between statements, for Lark."""

    kinds: ClassVar[dict[str, str]] = {}

    def __init__(self, configuration: object) -> None:
        pass

    def lex(self, data: str) -> Iterator[Token]:  # pyright: ignore[reportIncompatibleMethodOverride]
        source = Source("parsed.dl", data)
        for declared in split_declarations(source, lex(source)):
            for token in declared.tokens:
                yield Token(token.kind.replace(NEWLINE, "NEWLINE"), token.text, line=token.line, column=token.column)


def lark_of(grammar: dict[str, Any]) -> str:
    """The grammar for Lark, its strings as the lexer's terminals."""
    kinds = {text: kind for text, kind in (KEYWORDS | OPERATORS).items()}

    def shown(form: dict[str, Any]) -> str:
        match form["type"]:
            case "SEQ":
                return f"({' '.join(map(shown, form['m']))})"
            case "CHOICE":
                return f"({' | '.join(map(shown, form['m']))})"
            case "REPEAT" | "REPEAT1" | "OPTIONAL":
                return shown(form["m"][0]) + {"REPEAT": "*", "REPEAT1": "+", "OPTIONAL": "?"}[form["type"]]
            case "ALIAS":
                return shown(form["m"][0])
            case "STRING":
                return kinds[form["value"]]
            case _:
                return form["value"].replace(NEWLINE, "NEWLINE")

    rules = [f"{name}: {shown(form)}" for name, form in grammar["rules"].items() if name.lower() == name != "comment"]
    return "\n".join([*rules, f"%declare {' '.join(sorted({*kinds.values(), 'NAME', 'NUMBER', 'STRING', 'NEWLINE'}))}"])


def test_tree_sitter_parses_every_text_and_gives_words_their_classes(caplog: pytest.LogCaptureFixture) -> None:
    """Its grammar has no conflicts, and the same words are names as in the language."""
    grammar = tree_sitter_grammar()
    assert grammar["externals"] == [NEWLINE]
    with caplog.at_level(logging.DEBUG, logger="lark"):
        parser = Lark(
            lark_of(grammar), start="source_file", parser="lalr", lexer=_Tokens, keep_all_tokens=True, debug=True
        )
    assert "onflict" not in caplog.text
    for source in SOURCES:
        names = {(t.line, t.column) for t in _names(parser.parse(source.text))}
        document = document_of(source)
        tokens = [t for t in lex(source).tokens if t.kind in KEYWORDS.values()]
        assert tokens
        for token in tokens:
            assert ((token.line, token.column) in names) is ((token.line, token.column) in document.occurrences), token


def _names(tree: Tree[Token]) -> Iterator[Token]:
    for part in tree.iter_subtrees():
        if part.data == "name":
            yield from (child for child in part.children if isinstance(child, Token))


def test_tree_sitter_has_every_keyword_and_mark() -> None:
    grammar = json.dumps(tree_sitter_grammar())
    for text in (*KEYWORDS, *OPERATORS):
        assert f'"value": {json.dumps(text)}' in grammar


def test_tree_sitter_highlights_name_nodes_of_the_tree() -> None:
    """A token that is a rule by itself has no node of its own: a query for it is refused by editors."""
    queries = (EDITORS / "tree-sitter-dl/queries/highlights.scm").read_text("utf-8")
    named = {json.loads(text) for text in re.findall(r'"[^"]+"', queries)}
    rules = tree_sitter_grammar()["rules"]
    lone = {form["value"] for form in rules.values() if form["type"] == "STRING"}
    inner = {value for form in rules.values() if form["type"] != "STRING" for value in _strings(form)}
    assert named == inner - lone


def _strings(form: dict[str, Any]) -> Iterator[str]:
    """The anonymous nodes in a rule: its strings but for those with another name."""
    if form["type"] == "STRING":
        yield form["value"]
    elif form["type"] != "ALIAS":
        for part in form.get("m", ()):
            yield from _strings(part)


# The extension for VS Code

DATALOG = (
    ".decl edge(x: number, y: number)\n.input edge\npath(x, y) :- edge(x, y).\n",
    "// A program of Soufflé\n.type Node <: symbol\n",
    "% facts\nparent(anna, ben).\n",
    "input relation Edge(a: u32, b: u32)\n",
)


def test_the_extension_claims_files_by_their_content() -> None:
    if NODE is None:
        pytest.skip("node is not installed")
    models = [source.text for source in SOURCES] + ["", "# nothing yet\n", "\n\n## A layer.\nlayer a(x: [n]) = x\n"]
    script = f"const {{ isModel }} = require({json.dumps(str(EDITORS / 'vscode/claim.js'))});"
    script += (
        "const texts = JSON.parse(require('fs').readFileSync(0)); console.log(JSON.stringify(texts.map(isModel)));"
    )
    answer = subprocess.run(
        [NODE, "-e", script], input=json.dumps([*models, *DATALOG]), capture_output=True, text=True, check=True
    )
    assert json.loads(answer.stdout) == [True] * len(models) + [False] * len(DATALOG)


def test_the_extension_has_what_it_names() -> None:
    folder = EDITORS / "vscode"
    package = json.loads((folder / "package.json").read_text("utf-8"))
    contributed = package["contributes"]
    named = [package["main"], *(entry["path"] for entry in contributed["grammars"])]
    named += [entry["configuration"] for entry in contributed["languages"]]
    assert [name for name in named if not (folder / name).is_file()] == []
    json.loads((folder / "language-configuration.json").read_text("utf-8"))
    if NODE is not None:
        for script in ("extension.js", "claim.js"):
            subprocess.run([NODE, "--check", str(folder / script)], check=True)
