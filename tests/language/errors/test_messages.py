"""Each mistake of a program has one message: its code, its whole text, and none for the corrected program."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from elaboration import codes, mistakes, modules, program
from golden import Golden, cases
from safetensors.numpy import save_file

from compiler.diagnosis.gradient_check import check_gradients
from compiler.diagnosis.test_run import failures_of
from compiler.errors.diagnostics import Diagnostic, Source, SourceError
from compiler.errors.index import ERRORS, ErrorEntry
from compiler.errors.rendering import render
from compiler.frontend.elaborate import check, elaborate_tests
from compiler.programs.load import findings
from runtime.analysis.checked_data import data_findings

# E01 are syntax: tests/language/syntax/test_parser_errors.py.
# These are found only when an experiment is chosen and set.
_ON_THE_COMMAND_LINE = {"E0609": (), "E0610": (("optimizer.rate", "0.01"),)}
_OF_DATA = ("E0509", "E0701", "W0119", "W0120")
# E10 and W10 are found by tests alone.
ENTRIES = [entry for entry in ERRORS.values() if not entry.code.startswith("E01")]


def found(entry: ErrorEntry, text: str) -> list[Diagnostic]:
    """All errors and warnings of a text; a warning counts only where the entry is one."""
    if entry.code in _ON_THE_COMMAND_LINE:
        overrides = _ON_THE_COMMAND_LINE[entry.code] if text == entry.wrong else ()
        return mistakes(text, *overrides, elaborates=True)
    if entry.code[1:3] == "10":
        return found_by_testing(text)
    if entry.code in _OF_DATA:
        return found_in_data(text)
    severity = "warning" if entry.code.startswith("W") else "error"
    return [d for d in findings(Source("model.dl", text), None)[0] if d.severity == severity]


def found_in_data(text: str) -> list[Diagnostic]:
    """What `dlc check` says of 32 rows of six numbers and a label, and of the weights of a `dense(3)`."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path("model.dl").write_text(text, encoding="utf-8")
        rows = ["a,b,c,d,e,f,label", *(f"{k},1,2,3,4,5,{k % 3}" for k in range(32))]
        Path("data.csv").write_text("\n".join(rows), encoding="utf-8")
        save_file({"body.W": np.zeros((6, 3), np.float32), "body.b": np.zeros(3, np.float32)}, "weights.safetensors")
        shown = list(data_findings(Path("model.dl"), None, (), None))
        return [replace(found, message=found.message.replace(f"{Path.cwd()}/", "")) for found in shown]


def found_by_testing(text: str) -> list[Diagnostic]:
    """The claims of the tests of a text that do not hold, and the wrong derivatives of its model."""
    whole = modules(text)
    failures = [failure for test in elaborate_tests(whole) for failure in failures_of(test, 0)]
    if "model" not in text:
        return failures
    of_model = program(text)
    data = {spec.name: np.ones((2, 4), np.float32) for spec in of_model.inputs}
    return [*failures, *check_gradients(of_model, data, {}, 2).findings]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.code)
def test_each_code_has_an_example_with_this_text(entry: ErrorEntry, golden: Golden) -> None:
    shown = found(entry, entry.wrong)
    assert codes(shown) == [entry.code]
    text = render(shown)
    assert "hint: " in text
    golden(f"errors/{entry.code}.error", text)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.code)
def test_the_corrected_text_has_no_mistake(entry: ErrorEntry) -> None:
    assert found(entry, entry.right) == []


@pytest.mark.parametrize("case", cases("errors"), ids=lambda case: case.stem)
def test_the_messages_of_a_case(case: Path, golden: Golden) -> None:
    text = case.read_text(encoding="utf-8")
    golden(f"errors/{case.stem}.error", render(check(modules(text))))


def test_every_code_that_is_raised_has_an_entry() -> None:
    known = set(ERRORS)
    compiler = Path(__file__).parents[3] / "compiler"
    sources = [path for folder in ("syntax", "frontend", "lints") for path in (compiler / folder).rglob("*.py")]
    raised = {word for path in sources for word in path.read_text().split('"') if _is_code(word)}
    assert raised <= known


def test_every_code_has_a_hint() -> None:
    assert [code for code, entry in ERRORS.items() if entry.hint[0].isupper() or entry.hint.endswith(".")] == []


def _is_code(word: str) -> bool:
    return len(word) == 5 and word[0] in "EW" and word[1:].isdigit()


def test_a_mistake_in_the_library_is_shown_at_the_users_call() -> None:
    text = "model M {\n    input x: i32[batch, 4]\n    output y = x |> dense(3)\n}"
    (shown,) = mistakes(text)
    assert (shown.span.line, shown.span.source.name) == (3, "model.dl")


def test_one_mistake_gives_one_error() -> None:
    text = """
layer broken(x: [batch, n]) {
    h = x + zeros(n + 1)
    z = h * 2
    return z @ ones(n, 3)
}
model M {
    input x: f32[batch, 4]
    a = broken(x)
    for i in 0..5 { a = broken(a) + a }
    output y = a |> dense(3)
}
train M {
    loss = mean(y)
    optimizer = adam()
    batch = 2
}
"""
    assert codes(mistakes(text)) == ["E0401"]


def test_nothing_is_called_unused_beside_a_mistake() -> None:
    text = "layer L(units: int)(x: [batch, n]) {\n    param W: [n, unit] = zeros\n    return x @ W\n}"
    assert codes(list(check(modules(text)))) == ["E0201"]
    masked = "model M {\n    input x: i32[batch] padded by mask\n    output y = x / 2\n}"
    assert codes(list(check(modules(masked)))) == ["E0410"]


@pytest.mark.parametrize(
    ("lines", "code", "line"),
    [
        (("input x: f32[batch, 2]", "output y = x"), "E0202", 3),
        (("output y = x", "output y = 2 * x"), "E0202", 4),
        (("output x = 2 * x",), "E0202", 3),
        (("output y = x", "return x"), "E0205", 4),
    ],
)
def test_inputs_and_outputs_have_one_name_each(lines: tuple[str, ...], code: str, line: int) -> None:
    text = "\n    ".join(("model M {", "input x: f32[batch, 2]", *lines)) + "\n}"
    assert [(d.code, d.span.line) for d in check(modules(text))] == [(code, line)]


def test_a_size_that_the_library_made_comes_from_the_users_call() -> None:
    text = "model M {\n    input x: f32[batch, 4]\n    a = x |> dense(8)\n    output y = a + dense(9)(x)\n}"
    (shown,) = mistakes(text)
    assert [(note.message, note.span and note.span.line) for note in shown.notes if note.kind == "note"] == [
        ("`8` comes from here", 3),
        ("`9` comes from here", 4),
    ]


@pytest.mark.parametrize(
    ("setting", "column"), [(("hiden", "8"), 1), (("hidden", "abc"), 14), (("k", "1 + [zz][0]"), 14)]
)
def test_a_wrong_setting_is_shown_as_it_was_typed(setting: tuple[str, str], column: int) -> None:
    text = "model M(hidden = 4, k = 1) {\n    input x: f32[batch, 4]\n    output y = k * dense(hidden)(x)\n}"
    (shown,) = mistakes(text, setting)
    assert (shown.span.source.name, shown.span.column) == ("command line", column)
    assert shown.span.source.text == f"--set {setting[0]}={setting[1]}"


@pytest.mark.parametrize(("value", "code"), [("2.5", "E0304"), ('"wide"', "E0304")])
def test_a_setting_that_does_not_fit_is_shown_on_the_command_line(value: str, code: str) -> None:
    text = "model M(hidden = 4) {\n    input x: f32[batch, 4]\n    output y = x |> dense(hidden) |> dense(hidden)\n}"
    (shown,) = mistakes(text, ("hidden", value))
    assert (shown.code, shown.span.source.name) == (code, "command line")
    assert [(note.message, note.span and note.span.line) for note in shown.notes] == [("it is used here", 3)]


def test_a_mistake_that_may_come_from_the_command_line_names_it() -> None:
    text = """
fn f(hidden) = hidden + ones(hidden)
model M(hidden = 4, k = 2) {
    input x: f32[batch, 4]
    output y = x |> dense(hidden + k)
    output z = x @ zeros(3, k)
}
"""
    shown = mistakes(text, ("hidden", "-3"), ("k", "1"))
    assert [(d.code, d.span.line, d.notes[-1].message) for d in shown] == [
        ("E0413", 5, "`k` is set here"),
        ("E0408", 6, "`k` is set here"),
    ]
    assert [note.message for note in shown[0].notes][-2:] == ["`hidden` is set here", "`k` is set here"]


def test_independent_mistakes_are_all_told() -> None:
    text = """
fn unused(x) = y
layer broken(x: [batch, n]) {
    a = x + zeros(n + 1)
    b = relu(x, 2)
    return a + b
}
model M {
    input x: f32[batch, 4]
    output y = broken(x)
    output z = dens(3)(x)
}
"""
    shown = mistakes(text)
    assert [(d.code, d.span.line) for d in shown] == [("E0201", 2), ("E0401", 4), ("E0303", 5), ("E0201", 11)]


def test_warnings_do_not_stop_a_program() -> None:
    text = "model M(spare = 1) {\n    input x: f32[batch, 4]\n    output y = 2 * x\n}"
    assert codes(list(program(text).warnings)) == ["W0103"]


def test_errors_come_as_a_source_error() -> None:
    with pytest.raises(SourceError):
        program("model M {\n    input x: f32[batch, 4]\n    output y = z\n}")


_AROUND = (
    "model M(n = 3) {{\n    input x: f32[batch, 4]\n    {line}\n    output y = dense(n)(x)\n}}\n"
    "train M {{\n    target label: i32[batch] in 0..3\n    loss = cross_entropy(y, label)\n"
    "    metrics = [accuracy(y, label)]\n    optimizer = adam()\n    batch = 8\n}}\n"
)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("x + 1", ["E0206"]),
        ("return x", ["E0205", "E0206"]),
        ('require(n > 5, "more")', ["E0315"]),
        ("h = unknown(x)", ["E0201"]),
    ],
)
def test_what_follows_from_a_mistake_is_not_told(line: str, expected: list[str]) -> None:
    shown = findings(Source("model.dl", _AROUND.format(line=line)), None)[0]
    assert sorted(d.code for d in shown if d.severity == "error") == expected


def test_masks_of_what_only_the_data_knows_are_no_mistake() -> None:
    text = (
        "model M {\n    input tokens: i32[batch, time] in 0..vocab padded by mask\n    input x: f32[batch, 4]\n"
        "    output y = dense(3)(x * sum(cast(mask, f32), axis = 1)[:, None])\n}\n"
        "train M {\n    target label: i32[batch, later] in 0..3 padded by there\n"
        "    loss = cross_entropy(y, label[:, 0]) + 0 * mean(cast(mask, f32)) + 0 * mean(cast(there, f32))\n"
        "    optimizer = adam()\n    batch = 8\n}\n"
    )
    shown = findings(Source("model.dl", text), None)[0]
    assert {d.code for d in shown} <= {"W0101", "W0105"}
