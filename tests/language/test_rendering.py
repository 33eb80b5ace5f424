"""Diagnostics as text and as data."""

import re

from repository import ROOT

from compiler.errors.diagnostics import Diagnostic, Note, Source, SourceError, Span, hint
from compiler.errors.index import ERRORS, PAGE, explain
from compiler.errors.rendering import render, to_json
from compiler.errors.suggestions import nearest

TEXT = "layer f(x) {\n\ty = größe @ 数据 + x\n    z = y\n    return z\n}\n"
SOURCE = Source("model.dl", TEXT)


def diagnostic(span: Span, *notes: Note, severity: str = "error") -> Diagnostic:
    return Diagnostic("E0000", "shapes differ", span, notes, severity)


def test_a_message_without_a_hint_has_that_of_its_code() -> None:
    plain = Diagnostic("E0408", "sizes differ", Span(SOURCE, 3, 9, 3, 10))
    assert render(plain).endswith(f"\n  = hint: {ERRORS['E0408'].hint}")
    assert to_json(plain)["notes"] == [{"kind": "hint", "message": ERRORS["E0408"].hint}]
    own = Diagnostic("E0408", "sizes differ", plain.span, (hint("transpose it"),))
    assert render(own).count("hint") == 1


def test_one_line_with_notes() -> None:
    first, second = Span(SOURCE, 3, 9, 3, 10), Span(SOURCE, 4, 5, 4, 13)
    shown = render(diagnostic(first, hint("use `align`"), Note("it is used here", second)))
    assert shown == (
        "error[E0000]: shapes differ\n"
        " --> model.dl:3:9\n"
        "  |\n"
        "3 |     z = y\n"
        "  |         ^\n"
        "  = hint: use `align`\n"
        "note: it is used here\n"
        " --> model.dl:4:5\n"
        "  |\n"
        "4 |     return z\n"
        "  |     ^^^^^^^^"
    )


def test_tabs_and_wide_characters_keep_the_marks_in_place() -> None:
    line = TEXT.split("\n")[1]
    for word, start, width in (("größe", 8, 5), ("数据", 16, 4), ("x", 23, 1)):
        column = line.index(word) + 1
        shown = render(diagnostic(Span(SOURCE, 2, column, 2, column + len(word)))).split("\n")
        assert shown[3] == "2 |     y = größe @ 数据 + x"
        assert shown[4] == "  | " + " " * start + "^" * width


def test_several_lines() -> None:
    shown = render(diagnostic(Span(SOURCE, 1, 12, 5, 2))).split("\n")
    assert shown[3:] == ["1 | layer f(x) {", "  |            ^", "...", "5 | }", "  | ^"]
    neighbours = render(diagnostic(Span(SOURCE, 3, 5, 4, 13))).split("\n")
    assert neighbours[3:] == ["3 |     z = y", "  |     ^^^^^", "4 |     return z", "  |     ^^^^^^^^"]


def test_the_end_of_a_line_can_be_marked() -> None:
    shown = render(diagnostic(Span(SOURCE, 3, 10, 3, 11))).split("\n")
    assert shown[4] == "  |" + " " * 10 + "^"
    assert render(diagnostic(Span(SOURCE, 99, 1, 99, 2))).split("\n")[3:] == ["99 |", "   | ^"]


def test_long_lines_are_cut_around_the_mark() -> None:
    source = Source("long.dl", "const c = " + "abcdefghi " * 100)
    for column in (1, 11, 500, 1000):
        lines = render(diagnostic(Span(source, 1, column, 1, column + 3)), width=60).split("\n")
        assert all(len(line) <= 60 for line in lines)
        start = lines[4].index("^")
        assert lines[3][start : start + 3].strip() == source.text[column - 1 : column + 2].strip()
        assert lines[4].count("^") == 3


def test_control_characters_do_not_reach_the_terminal() -> None:
    source = Source("evil.dl", "const c = \x1b[31m\u202e1")
    assert "\x1b" not in render(diagnostic(Span(source, 1, 11, 1, 12)))
    assert "\u202e" not in render(diagnostic(Span(source, 1, 11, 1, 12)))


def test_colour_changes_nothing_but_colour() -> None:
    plain = render(diagnostic(Span(SOURCE, 3, 9, 3, 10), hint("x")), colour=False)
    painted = render(diagnostic(Span(SOURCE, 3, 9, 3, 10), hint("x")), colour=True)
    assert "\x1b[1;31m" in painted
    assert __import__("re").sub(r"\x1b\[[0-9;]*m", "", painted) == plain


def test_several_diagnostics_and_errors() -> None:
    two = (diagnostic(Span(SOURCE, 3, 9, 3, 10)), diagnostic(Span(SOURCE, 4, 5, 4, 6), severity="warning"))
    shown = render(SourceError(two))
    assert shown.count("\n\n") == 1
    assert "warning[E0000]" in shown
    assert render(two) == shown


def test_json() -> None:
    data = to_json(diagnostic(Span(SOURCE, 3, 9, 3, 10), hint("x"), Note("y", Span(SOURCE, 1, 1, 1, 2))))
    assert data == {
        "code": "E0000",
        "severity": "error",
        "message": "shapes differ",
        "file": "model.dl",
        "line": 3,
        "column": 9,
        "end_line": 3,
        "end_column": 10,
        "notes": [
            {"kind": "hint", "message": "x"},
            {
                "kind": "note",
                "message": "y",
                "file": "model.dl",
                "line": 1,
                "column": 1,
                "end_line": 1,
                "end_column": 2,
            },
        ],
        "edits": [],
    }


def test_nearest_name() -> None:
    known = ["dense", "Dense", "dropout", "batch_norm", "layer_norm"]
    assert nearest("dens", known) in ("dense", "Dense")
    assert nearest("drop_out", known) == "dropout"
    assert nearest("bachnorm", known) == "batch_norm"
    assert nearest("convolution", known) is None
    assert nearest("", known) is None


def test_error_index_is_in_order_and_in_sections() -> None:
    assert list(ERRORS) == sorted(ERRORS)
    sections = PAGE.read_text("utf-8").split("\n## ")[1:]
    written = [re.findall(r"^### (\w+): ", section, re.MULTILINE) for section in sections]
    assert [code for codes in written for code in codes] == list(ERRORS)  # each entry of the page was read
    assert all(len({code[:3] for code in codes}) == 1 for codes in written)
    for entry in ERRORS.values():
        assert f'<a id="{entry.code.lower()}"></a>' in PAGE.read_text("utf-8")
        assert entry.wrong != entry.right
        assert entry.explanation.endswith((".", "`"))
        assert entry.title[0] == entry.title[0].lower() or entry.title[0] == "`" or entry.title.split()[0].isupper()


def test_explain() -> None:
    shown = explain("e0108")
    assert shown.startswith("E0108: ")
    assert "if n == 1" in shown


def test_error_page_is_current() -> None:
    """After a change of the index, run `cp compiler/errors/index.md docs/errors.md`."""
    assert (ROOT / "docs" / "errors.md").read_text("utf-8") == PAGE.read_text("utf-8")


def test_of_very_many_findings_the_first_hundred_are_shown_errors_before_warnings() -> None:
    source = Source("many.dl", "x\n" * 5000)
    spans = [Span(source, line, 1, line, 2) for line in range(1, 5001)]
    found = [
        Diagnostic("E0201" if span.line > 4950 else "W0101", f"at {span.line}", span,
                   severity="error" if span.line > 4950 else "warning")
        for span in spans
    ]  # fmt: skip
    text = render(found)
    assert text.count("\nerror[") + text.startswith("error[") == 50
    assert text.count("warning[") == 50
    assert text.endswith("and 4,900 more, which may follow from these")
    assert "more" not in render(found[:100])
