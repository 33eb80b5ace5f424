"""`test` blocks: which claims hold, what a false one says, and what a test may hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from elaboration import codes, mistakes, modules

from compiler.diagnosis.test_run import failures_of, run_tests
from compiler.errors.diagnostics import Diagnostic, SourceError
from compiler.frontend.elaborate import check, elaborate_tests
from compiler.interface import Options

DECLARATIONS = """
fn halved(x) = x * x gradient(x, y, dy) = dy * x
fn running(x: [batch, time]) = cumsum(x, axis = time)
fn centred(x: [batch, time]) = x - mean(x, axis = time, keepdims = true)
fn looked_up(ids: i32[batch, time]) {
    table = tensor([0.5, 1.5, 2.5, 3.5])
    return cumsum(table[ids], axis = time)
}
model Net(hidden = 8) {
    input x: f32[batch, 4]
    h = x |> dense(hidden) |> tanh
    output y = h |> dense(3)
    output z = sum(h, axis = 1)
}
"""


def failures(*lines: str) -> list[Diagnostic]:
    text = DECLARATIONS + "test t {\n    " + "\n    ".join(lines) + "\n}\n"
    (test,) = elaborate_tests(modules(text))
    assert len(test.claims) > 0
    return list(failures_of(test, 0))


@pytest.mark.parametrize(
    "lines",
    [
        ("x = tensor([[1, 2], [3, 4]])", "sum(x) == 10", "x[1] > 2", "shape(x) == [2, 2]"),
        ("near(softmax(tensor([1.0, 1.0])), 0.5)", "near(exp(1.0), 2.71828, tolerance = 1e-5)"),
        ("x = random(3, 4)", "near(gradient(x ^ 2, x), 2 * x)", "near(gradient(sum(x), x), 1)"),
        ("x = random(3, 4)", "gradients_agree(tanh(x) * x, x)", "gradients_agree(mean(softmax(x) ^ 2), x)"),
        ("x = tensor([[1.0, 2.0]])", "gradients_agree(sum(x[:, None] + zeros(1, 5, 1), axis = 0), x)"),
        ("x = random(2, 5)", "causal(running(x), x)"),
        ("ids = tensor([[0, 1, 2, 3], [3, 3, 0, 1]])", "causal(looked_up(ids), ids)"),
        ("net = Net(hidden = 5)", "y, z = net(random(6, 4))", "shape(y) == [6, 3]", "shape(z) == [6]"),
        ("net = Net()", "_ = net(random(2, 4))", "parameters(net) == 4 * 8 + 8 + 8 * 3 + 3"),
        ("for n in 1..4 { near(mean(ones(n)), 1) }", "if true { 2 > 1 }"),
        ("d = dense(2)", "x = random(3, 4)", "d(x) == d(x)"),
    ],
    ids=lambda lines: lines[-1],
)
def test_claims_that_hold(lines: tuple[str, ...]) -> None:
    assert not failures(*lines)


@pytest.mark.parametrize(
    ("lines", "message", "notes"),
    [
        (
            ("x = tensor([[1.0, 2], [3, 4]])", "x < 3"),
            "this does not hold at [1, 0], one of 2 such elements of 4",
            ("`x` there is 3.0", "`3` is 3"),
        ),
        (
            ("shape(ones(2, 3)) == [3, 2]",),
            "this does not hold",
            ("`shape(ones(2, 3))` is [2, 3]", "`[3, 2]` is [3, 2]"),
        ),
        (
            ("x = tensor([1.0, 2])", "y = ones(3, 2)", "x == y"),
            "this does not hold at [0, 1], one of 3",
            ("`x` there",),
        ),
        (("near(sqrt(tensor([-1.0])), 0)",), "this does not hold at [0]", ()),
        (("x = random(3)", "gradients_agree(halved(x), x)"), "the gradient is wrong at [", ()),
        (("x = random(3)", "gradients_agree(ones(3), x)"), "nothing flows from the second value to the first", ()),
        (("x = random(2, 4)", "causal(centred(x), x)"), "position 0 of axis 1 depends on", ("at [0, 0]",)),
        (("x = random(2, 4)", "causal(reverse(x, 1), x)"), "position 0 of axis 1 depends on", ()),
        (("ids = tensor([[0, 1], [2, 3]])", "causal(looked_up(reverse(ids, 1)), ids)"), "position 0 of", ()),
    ],
    ids=lambda part: part[-1] if isinstance(part, tuple) and part else None,
)
def test_claims_that_do_not_hold(lines: tuple[str, ...], message: str, notes: tuple[str, ...]) -> None:
    (failure,) = failures(*lines)
    assert failure.code == "E1001"
    assert failure.span.text == lines[-1]
    assert failure.message.startswith(message)
    for wanted, note in zip(notes, failure.notes, strict=False):
        assert note.message.startswith(wanted)


def test_each_false_claim_is_told_and_the_rest_goes_on() -> None:
    assert len(failures("2 < 1", "x = 3", "x == 3", "x == 4")) == 2


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (("x = ones(2)", "x + 1"), ["E0312"]),
        (("return 1",), ["E0205"]),
        (("input x: f32[batch]",), ["E0205"]),
        (("near(unknown, 1)",), ["E0201"]),
        (("ones(2) == ones(3)",), ["E0401"]),
        (("tensor([[1, 2], [3]]) == 1",), ["E0309"]),
        (("x = ones(2, 3)", "causal(sum(x, axis = 1, keepdims = true), x)"), ["E0411"]),
        (("Net(size = 3)(ones(2, 4)) == 1",), ["E0301"]),
        (("parameters(dense(3)) == 1",), ["E0312"]),
    ],
    ids=lambda part: part[-1] if isinstance(part, tuple) else None,
)
def test_mistakes_in_tests(lines: tuple[str, ...], found: list[str]) -> None:
    text = DECLARATIONS + "test t {\n    " + "\n    ".join(lines) + "\n}\n"
    with pytest.raises(SourceError) as caught:
        elaborate_tests(modules(text))
    assert codes(list(caught.value.diagnostics)) == found


def test_claims_belong_into_tests() -> None:
    assert codes(mistakes("model M {\n    input x: f32[batch, 3]\n    y = causal(x, x)\n    output z = x\n}")) == [
        "E0205"
    ]


def test_names_that_a_test_does_not_use_are_told() -> None:
    found = check(modules("test t {\n    x = 1\n    2 == 2\n}\n"))
    assert [(d.code, d.span.line) for d in found] == [("W0102", 2)]


def test_values_may_come_from_compiled_code(tmp_path: Path) -> None:
    file = tmp_path / "tests.dl"
    lines = "net = Net()\n    y, z = net(random(6, 4))\n    abs(y) < 100\n    near(z, sum(z) / 6)"
    file.write_text(DECLARATIONS + "test one {\n    " + lines + "\n}\ntest two { 1 == 1 }\n")
    options = Options(threads=1, cache=tmp_path)
    (native,) = run_tests(file, lambda name: name == "one", 0, options)
    (reference,) = run_tests(file, lambda name: name == "one", 0, Options(target="reference"))
    assert native.claims == 2
    assert [f.message for f in native.failures] == [f.message for f in reference.failures]
    assert len(native.failures) == 1
