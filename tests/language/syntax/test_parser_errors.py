"""Syntax mistakes: each gets one message that says what to do, and each independent one is reported."""

import pytest
from golden import Golden

from compiler.errors.diagnostics import Diagnostic, Source, SourceError
from compiler.errors.index import ERRORS, ErrorEntry
from compiler.errors.rendering import render
from compiler.syntax.parser import MOST_MISTAKES, Parser
from compiler.syntax.syntax_errors import SyntaxErrorEntry, read_explanations

PARSER = Parser()
# The codes from E0121 on are about files: tests/language/syntax/test_parser_modules.py.
INDEXED = [entry for entry in ERRORS.values() if "E0101" <= entry.code < "E0121"]


def mistakes(text: str) -> tuple[Diagnostic, ...]:
    with pytest.raises(SourceError) as caught:
        PARSER.parse(Source("a.dl", text))
    return caught.value.diagnostics


def found(text: str) -> list[str]:
    """The mistakes as `CODE line:column`."""
    return [f"{mistake.code} {mistake.span.line}:{mistake.span.column}" for mistake in mistakes(text)]


@pytest.mark.parametrize("entry", INDEXED, ids=lambda entry: entry.code)
def test_each_code_has_an_example_with_this_text(entry: ErrorEntry, golden: Golden) -> None:
    shown = mistakes(entry.wrong)
    assert [mistake.code for mistake in shown] == [entry.code]
    golden(f"parse/{entry.code}.error", render(shown))
    PARSER.parse(Source("a.dl", entry.right))


EXPLANATIONS = [(entry, snippet) for entry in read_explanations() for snippet in entry.snippets]


@pytest.mark.parametrize(("entry", "snippet"), EXPLANATIONS, ids=[snippet for _, snippet in EXPLANATIONS])
def test_each_snippet_gets_its_own_message(entry: SyntaxErrorEntry, snippet: str) -> None:
    (mistake,) = mistakes(snippet)
    assert mistake.code == entry.code
    beginning = entry.message.split("{")[0].split("}")[0]
    assert mistake.message.startswith(beginning)
    shown = " ".join([mistake.message, *(note.message for note in mistake.notes)])
    assert not any(left in shown for left in ("{{", "}}", "{token}", "{before}", "{next}", "{start}", "``"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fn f(x) = g(x", ["E0102 1:12"]),
        ("fn f(x) {\n    y = [1, 2\n    return y\n}\nconst c = 1", ["E0102 2:9"]),
        ("fn f(x) {\n    y = x\nfn g(x) = ]", ["E0102 1:9", "E0102 3:11"]),
        ("fn f(x) = (x]", ["E0102 1:11"]),
        ("fn f(x) = x)", ["E0102 1:12"]),
        ("fn f(x) {\n    if a {\n        y = 1\n    return y\n}\nconst c = 1", ["E0102 2:10"]),
        ("const a = .5 + 1. + 0x1F + 1_000 + 3px", [f"E0104 1:{column}" for column in (11, 16, 21, 28, 36)]),
        ("const a = 1e999", ["E0104 1:11"]),
        ("const a = 99999999999999999999", ["E0104 1:11"]),
        ('const a = "x\nconst b = "\\q"\nconst c = "', ["E0105 1:11", "E0105 2:12", "E0105 3:11"]),
        ("const a = 1;\nconst b = 2 && 3\nconst c = x²", ["E0103 1:12", "E0103 2:13", "E0103 3:12"]),
        ("const a = True", ["E0111 1:11"]),
        ("fn f(x) {\n    x += 1\n}", ["E0111 2:7"]),
        ("fn f(for) = 1", ["E0106 1:6"]),
        ("fn f(x) {\n    in = 3\n}", ["E0106 2:5"]),
        ("  const a = 1", ["E0110 1:3"]),
        ("const a = 1\n    const b = 2", ["E0110 2:5"]),
        ("modle M { }", ["E0110 1:1"]),
        ("fn f(x) = y(a = 1, 2)", ["E0115 1:20"]),
        ("fn f(x: f17[n]) -> int = x", ["E0114 1:9", "E0114 1:20"]),
        ("train M {\n    feed a from b\n}", ["E0101 2:5"]),
        ("generate M {\n    target a: i32\n    augment { b = 1 }\n}", ["E0101 2:5", "E0101 3:5"]),
        ("generate M {\n    feed a from b\n    feed a from b\n}", ["E0116 3:5"]),
        ("## lost", ["E0113 1:1"]),
        ("fn f(x) {\n    return x\n    ## lost\n}", ["E0113 3:5"]),
        ("fn f x = 1", ["E0101 1:6"]),
        ("fn f(x) =", ["E0101 1:10"]),
        ("const", ["E0101 1:6"]),
        ("fn f(x) { return x }  y = 2", ["E0101 1:23"]),
        ("const c = 1\x00", ["E0103 1:12"]),
    ],
)
def test_codes_and_places(text: str, expected: list[str]) -> None:
    assert found(text) == expected


def test_every_declaration_is_checked() -> None:
    text = """fn a(x) = x +

fn b(x) {
    y = (x
    return y
}

layer c(x) {
    if x = 1 { y = 2 }
    else { y = 3 }
}

fn fine(x) = x

model d {
    input x
    output y = .5
}

train d {
    data = "a
    batch: 3
}
"""
    codes = [entry.split()[0] for entry in found(text)]
    # After its first mistake a declaration is not read further, except for mistakes inside words.
    assert codes == ["E0101", "E0102", "E0108", "E0104", "E0105"]


def test_a_lost_brace_spoils_only_its_own_declaration() -> None:
    text = "".join(f"fn f{number}(x) {{\n    y = x\n" + ("" if number == 1 else "}\n") for number in range(4))
    assert found(text) == ["E0102 4:10"]


def test_what_could_stand_there_is_said() -> None:
    assert mistakes("fn f(x, ,y) = 1")[0].message == "expected a name or `)` after `,`, found `,`"
    assert mistakes("const 3")[0].message == "expected a name after `const`, found `3`"
    assert mistakes("fn f(x) = g(]")[0].code == "E0102"
    assert mistakes("const a = *")[0].message == "expected an expression after `=`, found `*`"


def test_the_reserved_word_is_named() -> None:
    (mistake,) = mistakes("fn f(x) { return = 1 }")
    assert "`return`" in mistake.message or "return" in mistake.notes[0].message


def test_hints_suggest_the_nearest_word() -> None:
    assert "`layer`" in mistakes("layr f(x) = 1")[0].notes[0].message
    assert "`float`" in mistakes("fn f(n: flaot)(x) = 1")[0].notes[0].message
    assert "`f32`" in mistakes("fn f(x: f23[n]) = 1")[0].notes[0].message


def test_an_endless_list_of_mistakes_is_cut() -> None:
    assert len(mistakes("$ " * 5000)) == MOST_MISTAKES


def test_of_very_many_mistakes_the_last_that_is_told_says_how_many_there_are() -> None:
    found = mistakes("const c = = 1\n" * 4000)
    assert len(found) == MOST_MISTAKES
    assert [note.message for note in found[-1].notes if "more" in note.message] == [
        "the syntax of this file has 3,900 more mistakes"
    ]
