"""Elaboration is bounded: what would take too long or too much memory is refused at once, with a message."""

from __future__ import annotations

import time

import pytest
from elaboration import mistakes

from compiler.frontend.bodies import calls
from compiler.frontend.elaborator import MAXIMUM_APPLICATIONS, MAXIMUM_RECURSIONS, MAXIMUM_WORK

# A second on a machine of one's own; others may compute beside the tests.
_SECONDS = 10


def model(*lines: str) -> str:
    return "model M {\n    input x: f32[batch, 4]\n    " + "\n    ".join(lines) + "\n}"


def chain(first: str, further: str, last: str) -> str:
    text = "\n".join([first, *(further.format(i=i, before=i - 1) for i in range(1, 41))])
    return f"{text}\n{model(last)}"


CASES = {
    "a loop of 10^9 rounds": (model("y = x", "for i in 0..1000000000 { y = y + 1 }", "output z = y"), "E0310"),
    "loops in loops": (
        model("y = x", "for i in 0..90000 { for j in 0..90000 { y = y + 1 } }", "output z = y"),
        "E0310",
    ),
    "loops that do nothing": (
        model("y = 0", "for i in 0..90000 { for j in 0..90000 { y = j } }", "output z = x * y"),
        "E0310",
    ),
    "a chain of functions of tensors": (
        chain("fn f0(x) = x + x", "fn f{i}(x) = f{before}(x) + f{before}(x)", "output z = f40(x)"),
        "E0310",
    ),
    "a chain of functions of numbers": (
        chain("fn f0(n: int) = n", "fn f{i}(n: int) = f{before}(n) + f{before}(n)", "output z = x * f40(1)"),
        "E0310",
    ),
    "a chain of layers": (
        chain(
            "layer f0(x: [batch, n]) = x |> dense(4)",
            "layer f{i}(x: [batch, n]) = x |> f{before} |> f{before}",
            "output z = x |> f40",
        ),
        "E0310",
    ),
    "a function that calls itself": (f"fn f(n: int) = f(n + 1)\n{model('output z = x * f(0)')}", "E0310"),
    "a tensor of 10^12 elements": (model("output z = x + sum(zeros(1000000, 1000000))"), "E0414"),
    "a parameter of 10^12 elements": (model("output z = x |> dense(1000000000000)"), "E0414"),
    "integers up to 10^12": (model("output z = x * sum(arange(1000000000000))"), "E0414"),
    "a power of a power": (model("output z = x * (10 ^ 10 ^ 10)"), "E0308"),
    "a range to 10^30": (model("output z = x * len(0..1e30)"), "E0308"),
    "a range of 2^64 numbers": (model("a = 9223372036854775807", "output z = x * len(-a..a)"), "E0308"),
    "a list that doubles": (model("a = [1]", "for i in 0..60 { a = a + a }", "output z = x * len(a)"), "E0310"),
    "a list of copies": (model("a = per_axis(1, 1000000000000)", "output z = x * len(a)"), "E0310"),
    "a tensor of a range": (model("output z = x * sum(tensor([0..1000000000]))"), "E0310"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_would_not_end_is_refused(name: str) -> None:
    text, code = CASES[name]
    begin = time.process_time()
    found = mistakes(text)
    seconds = time.process_time() - begin
    assert found
    assert found[0].code == code
    assert seconds < _SECONDS


# The text, and the line that is told: that of the outermost loop, or of the statement that calls.
LOOPS = {
    "of a setting": ("fn f(n: int) {\n    s = 0\n    BODY\n    return s\n}\n", "output z = x * f(1000)", 3),
    "of a constant": ("const n = 1000\nfn f() {\n    s = 0\n    BODY\n    return s\n}\n", "output z = x * f()", 9),
    "of tensors": ("fn f(n: int)(s) {\n    BODY\n    return s\n}\n", "output z = x |> f(1000)", 2),
}


@pytest.mark.parametrize("name", LOOPS)
def test_loops_in_loops_are_counted_when_settings_are_known(name: str) -> None:
    """10^9 rounds in a function: refused before the first of them, and once."""
    text, last, line = LOOPS[name]
    body = "for i in 0..n { for j in 0..n { for k in 0..n { s = s + 1 } } }"
    (found,) = mistakes(text.replace("BODY", body) + model(last))
    assert (found.code, found.span.line) == ("E0310", line)
    assert found.message.startswith("this takes 4,004,004,0")


def test_a_loop_whose_length_follows_another_is_not_judged_by_what_the_name_was() -> None:
    lines = ("n = 90000", "y = x", "for n in 0..3 { for i in 0..n { for j in 0..n { y = y + 1 } } }", "output z = y")
    assert not mistakes(model(*lines))


def test_exponential_recursion_ends_soon() -> None:
    text = "layer f(n: int)(x) {\n    if n == 0 { return x }\n    return f(n - 1)(x) + f(n - 1)(x)\n}\n"
    found = mistakes(text + model("output z = x |> f(90)"))
    assert [d.code for d in found][:1] == ["E0310"]
    assert f"`f` calls itself more than {MAXIMUM_RECURSIONS} times" in found[0].message


def test_exponential_recursion_by_settings_ends_at_the_limit_of_applications(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "MAXIMUM_APPLICATIONS", 300)
    text = "fn f(n: int)(x) {\n    if n == 0 { return x }\n    return f(n - 1)(x) + f(n - 1)(x)\n}\n"
    found = mistakes(text + model("output z = f(60)(x)"))
    assert [d.code for d in found][:1] == ["E0310"]
    assert "is applied more than 300 times" in found[0].message


def test_what_is_only_large_is_elaborated() -> None:
    lines = ("y = x", "for i in 0..300 { y = tanh(y) + relu(y) }", "output z = y")
    assert not mistakes(model(*lines))
    assert MAXIMUM_WORK >= 1_000_000
    assert MAXIMUM_APPLICATIONS >= 10_000
