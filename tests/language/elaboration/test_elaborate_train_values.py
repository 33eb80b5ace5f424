"""Values that `train` names for its loss and metrics, and mistakes in them."""

from __future__ import annotations

import numpy as np
import pytest
from elaboration import codes, mistakes, program, run_program

LOCAL = """model M {
    input x: f32[batch, 4]
    output y = x |> dense(1, bias = false)
}

train M {
    target t: f32[batch, 1]
    error = y - t
    squares = sum(error ^ 2)
    per_row = squares / batch
    metrics = [minimise(per_row), spread(error), offset]
    offset = mean(error)
    loss = per_row + offset
    optimizer = adam()
    batch = 2
}

fn spread(error) = sqrt(variance(error))
"""


def test_train_names_values_for_loss_and_metrics() -> None:
    found = program(LOCAL)
    x, t = np.ones((5, 4), np.float32), np.arange(5, dtype=np.float32)[:, None]
    given = {"x": x, "t": t, "y.dense.W": np.full((4, 1), 0.5, np.float32)}
    results = run_program(found, given, batch=5, training=False)
    error = 2.0 - t
    assert found.plan is not None
    assert found.plan.metrics == ("per_row", "spread", "offset")
    np.testing.assert_allclose(results["per_row"], (error**2).mean(), rtol=1e-6)  # of the rows that are measured
    np.testing.assert_allclose(results["spread"], error.std(), rtol=1e-6)
    np.testing.assert_allclose(results["loss"], (error**2).sum() / 2 + error.mean(), rtol=1e-6)  # of the nominal batch


@pytest.mark.parametrize(
    ("line", "replacement", "found"),
    [
        ("    loss = per_row + offset", "    losss = per_row + offset", ["E0601"]),
        ("    loss = per_row + offset", "    loss = offset\n    unread = offset", ["E0601"]),
        ("    error = y - t", "    error = y - t\n    error = y", ["E0601"]),
        ("    squares = sum(error ^ 2)", "    squares = per_row", ["E0201"]),
        ("    error = y - t", "    y = y - t\n    error = y", ["E0202"]),
        ("    per_row = squares / batch", "    per_row = mean(abs(error - mean(error))) + squares", ["E0616"]),
    ],
)
def test_mistakes_in_values_of_train(line: str, replacement: str, found: list[str]) -> None:
    assert codes(mistakes(LOCAL.replace(line, replacement))) == found


def test_a_value_that_a_misspelt_key_reads_is_no_unknown_key() -> None:
    text = LOCAL.replace("    metrics =", "    metric =").replace("    loss =", "    los =")
    assert [found.message for found in mistakes(text)] == ["`train` has no key `metric`", "`train` has no key `los`"]
    unread = LOCAL.replace("offset]", "spread(y)]").replace("+ offset", "")
    (found,) = mistakes(unread)
    assert found.message == "`train` has no key `offset`"
    assert "other names are values that `loss` or `metrics` read" in found.notes[0].message
    circular = LOCAL.replace("    loss = per_row + offset", "    loss = mean(y)\n    a = b\n    b = a")
    assert codes(mistakes(circular)) == ["E0601", "E0601"]
