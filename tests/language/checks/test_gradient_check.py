"""The derivatives of whole programs: which are right, and which line a wrong one is laid to."""

from __future__ import annotations

import numpy as np
import pytest
from elaboration import program
from repository import ROOT

from compiler import driver
from compiler.diagnosis.gradient_check import check_gradients
from compiler.diagnosis.reports import GradientReport
from runtime.analysis.made_up_steps import synthetic
from runtime.inference.model import runtime_settings
from runtime.runs.position import Length

MODEL = """
{function}
layer bent(units: int)(x: [batch, n]) {{
    param scale: [n] = ones
    return f(x * scale) |> dense(units)
}}
model M {{
    input x: f32[batch, 4]
    h = x |> dense(6) |> tanh
    output y = h |> bent(3)
}}
train M {{
    target t: u8[batch] in 0..3
    loss = cross_entropy(y, t)
    optimizer = adam()
    batch = 8
}}
"""


def report(function: str, full: bool = False, batch: int = 3) -> GradientReport:
    found = program(MODEL.format(function=function))
    return check_gradients(found, synthetic(found.inputs, batch, 0), {}, batch, 0, full)


@pytest.mark.parametrize("full", [False, True])
def test_right_derivatives(full: bool) -> None:
    found = report("fn f(x) = x ^ 2 * exp(-x) gradient(x, y, dy) = dy * (2 * x - x ^ 2) * exp(-x)", full)
    assert found.is_right
    by_path = {check.path: check for check in found.checks}
    assert by_path.keys() == {None, "", "h.dense", "y.bent", "y.bent.dense"}
    assert all(check.is_right and check.error < 1e-7 for check in found.checks)
    # of the layer `bent`: 3 rows of 4 inputs... its weights, the rest of its operations
    assert by_path["h.dense"].elements == (3 * 4 + 4 * 6 + 6 if full else 0)


@pytest.mark.parametrize("slope", ["dy * x", "dy", "-2 * dy * x", "dy * where(x > 0.3, 2 * x, 1.9 * x)"])
@pytest.mark.parametrize("full", [False, True])
def test_a_wrong_gradient_clause_is_named(slope: str, full: bool) -> None:
    found = report(f"fn f(x) {{\n    z = x * x\n    return z\n}} gradient(x, y, dy) {{\n    return {slope}\n}}", full)
    assert not found.is_right
    (finding,) = found.findings
    assert finding.code == "W1001"
    assert finding.span.line == (5 if slope == "dy" else 6)  # what is passed on comes from the clause as a whole
    assert "`gradient` of `x`" in finding.message
    assert finding.notes[0].span is not None
    assert "f(x * scale)" in finding.notes[0].span.source.line(finding.notes[0].span.line)
    assert {check.path for check in found.checks if not check.is_right} == {None, "y.bent"}


def test_the_wrong_one_of_two_parameters_is_named() -> None:
    text = "fn g(a, b) {\n    return a * b\n} gradient(a, b, y, dy) {\n    da = dy * b\n    db = dy * a * 2\n"
    (finding,) = report(text + "    return da, db\n}\nfn f(x) = g(x, tanh(x))").findings
    assert finding.span.line == 6
    assert "`gradient` of `b`" in finding.message


def test_a_gradient_that_means_to_be_another_is_suppressed() -> None:
    straight = "fn f(x) = where(x > 0, 1.0, 0.0) gradient(x, y, dy) = dy"
    assert len(report(straight).findings) == 1
    assert report(straight + "  # dlc: ignore[W1001]").is_right


def test_a_stopped_gradient_is_none() -> None:
    assert report("fn f(x) = x * stop_gradient(x ^ 2) + stop_gradient(tanh(x))").is_right


def test_where_values_are_not_finite_nothing_is_said() -> None:
    found = report("fn f(x) = log(x - 100)")
    assert found.is_right
    assert {check.path: check.is_right for check in found.checks} == {
        None: None,
        "": True,
        "h.dense": True,
        "y.bent": None,
        "y.bent.dense": None,
    }


def test_a_gradient_that_is_no_number_where_the_value_is_one_is_wrong() -> None:
    """The trap of `where`: the branch that is not taken spoils the slope."""
    found = report("fn f(x) = where(x > 2, sqrt(x - 2), 0.0)")
    assert not found.is_right


@pytest.mark.parametrize("example", ["digits", "iris", "functional", "perceptron", "xor"])
def test_the_derivatives_of_examples_are_right(example: str) -> None:
    found = driver.load(ROOT / "examples" / example / "model.dl")
    rng = np.random.default_rng(0)
    rows = {name: np.abs(array) for name, array in synthetic(found.inputs, 4, int(rng.integers(9))).items()}
    checked = check_gradients(found, rows, runtime_settings(found, Length(4, 4, 100)), 4, 0, full=False)
    assert checked.is_right
    assert all(check.is_right for check in checked.checks)


TIED = """
{function}
model M {{
    input x: f32[batch, 6]
    h = f(x |> dense(8, bias = false))
    output y = mean(h, axis = 1)
}}
train M {{
    target t: f32[batch]
    loss = mse(y, t)
    optimizer = adam()
    batch = 64
}}
"""


def report_of_tied(function: str, zeros: int, seed: int) -> GradientReport:
    """Of rows of zeros, at which `relu` has a kink in each of the eight."""
    found = program(TIED.format(function=function))
    rows = synthetic(found.inputs, 64, seed)
    rows["x"][:zeros] = 0
    return check_gradients(found, rows, {}, 64, seed)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("zeros", [1, 8, 64])
def test_exact_ties_have_a_derivative_on_either_side(zeros: int, seed: int) -> None:
    """Those of one row are a small part of the whole; those of many cancel along a direction."""
    assert report_of_tied("fn f(x) = relu(x)", zeros, seed).is_right


@pytest.mark.parametrize("zeros", [1, 8, 64])
def test_a_wrong_derivative_is_found_beside_exact_ties(zeros: int) -> None:
    wrong = "fn f(x) = x * cast(x > 0, f32) gradient(x, y, dy) = 1.5 * dy * cast(x >= 0, f32)"
    assert not report_of_tied(wrong, zeros, 0).is_right
