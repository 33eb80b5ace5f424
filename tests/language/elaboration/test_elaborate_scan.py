"""`scan`: what it gives, against loops in NumPy, and the mistakes that can be made with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from elaboration import codes, function_graph, mistakes, mistakes_of_call, paths, program, run, run_program

from compiler.errors.rendering import render
from compiler.graph.ir import Graph
from compiler.ops.scan import Scan

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(2, 5, 3)).astype(np.float32)
MASK = np.array([[True, True, True, False, False], [True, True, True, True, True]])

TOTAL = """
layer f(x: [batch, time, n], where: bool[batch, time] = none) {
    y, s = scan xt in x over time where = where carry s = zeros(batch, n) {
        s = s + xt
        emit s
    }
    return y, s
}
"""


def scans_of(graph: Graph) -> list[Scan]:
    return [node.op for node in graph.nodes if isinstance(node.op, Scan)]


def test_stacks_have_the_axis_where_the_input_has_it_and_carries_follow() -> None:
    stack, last = run(TOTAL, X)
    np.testing.assert_allclose(stack, np.cumsum(X, axis=1), rtol=1e-6)
    np.testing.assert_allclose(last, X.sum(axis=1), rtol=1e-5)


def test_a_masked_step_keeps_its_carries_and_emits_0() -> None:
    stack, last = run(TOTAL, X, MASK)
    np.testing.assert_allclose(stack, np.where(MASK[..., None], np.cumsum(X, axis=1), 0), rtol=1e-6)
    np.testing.assert_allclose(last, np.where(MASK[..., None], X, 0).sum(axis=1), rtol=1e-5)


def test_the_same_body_serves_any_length() -> None:
    (short,), (long,) = (scans_of(function_graph(TOTAL, "f", np.zeros((2, n, 3)))) for n in (5, 50))
    assert len(short.body.nodes) == len(long.body.nodes)


EXPRESSIONS: dict[str, tuple[str, Any]] = {
    "in reverse": (
        "scan xt in x over time reverse = true carry s = zeros(batch, n) {\n s = s + xt\n emit s\n }",
        (np.cumsum(X[:, ::-1], axis=1)[:, ::-1], X.sum(axis=1)),
    ),
    "one carry alone": ("scan xt in x over time carry s = zeros(batch, n) { s = s + xt }", X.sum(axis=1)),
    "one stack alone": ("scan xt in x over time { emit 2 * xt }", 2 * X),
    "an axis by number": ("scan xt in x over 2 carry s = zeros(batch, time) { s = s + xt }", X.sum(axis=2)),
    "an axis from the end": ("scan xt in x over -1 { emit xt }", X),
    "several inputs, and one step's tensors of another rank": (
        "scan a in x, b in 2 * x over time { emit sum(a * b, axis = n) }",
        (2 * X * X).sum(axis=2),
    ),
    "stacks of another rank have the axis last": (
        "scan column in x over n { emit sum(column, axis = time) }",
        X.sum(axis=1),
    ),
    "several emits": ("scan xt in x over time {\n emit xt, -xt\n emit 1 + xt\n }", (X, -X, 1 + X)),
    "emits of a branch": ("scan xt in x over time {\n if time > 3 { emit xt } else { emit -xt }\n }", X),
    "a range": ("scan i in 1..4 over 0 carry s = 0 {\n s = s + i\n emit s\n }", (np.array([1, 3, 6]), np.array(6))),
    "a range over a later axis": (
        "scan i in 0..4 over 1 carry s = zeros(batch, n) {\n s = s + i\n emit s\n }",
        (np.cumsum(np.arange(4.0))[None, :, None] * np.ones((2, 1, 3)), np.full((2, 3), 6.0)),
    ),
    "a range over the last axis": (
        "scan i in 0..2 over -1 { emit i * ones(batch, n) }",
        np.arange(2.0) * np.ones((2, 3, 1)),
    ),
    "a range beside a tensor": ("scan xt in x, i in 0..time over time { emit i * xt }", np.arange(5.0)[:, None] * X),
    "a carry that swaps": ("scan i in 0..3 over 0 carry a = 1, b = 2 { a, b = (b, a) }", (np.array(2), np.array(1))),
    "a list of carries": (
        "scan xt in x over time carry s = [zeros(batch, n), zeros(batch)] {\n"
        " s = [s[0] + xt, s[1] + sum(xt, axis = n)]\n }\n y = (y[0], y[1])",
        (X.sum(axis=1), X.sum(axis=(1, 2))),
    ),
    "a number becomes a carry's next value": (
        "scan xt in x over time carry s = zeros(batch) {\n emit s\n s = 1\n }",
        (np.array([[0, 1, 1, 1, 1]] * 2), np.ones(2)),
    ),
    "what is emitted is from outside": (
        "scan xt in x over time { emit sum(x, axis = time) }",
        X.sum(1)[:, None] + 0 * X,
    ),
    "nested": (
        "scan row in x over time carry s = zeros(batch) {\n"
        " inner, s = scan a in row over n carry s = s {\n  s = s + a\n  emit s\n }\n emit inner\n }",
        (np.cumsum(X.reshape(2, 15), axis=1).reshape(2, 5, 3), X.sum(axis=(1, 2))),
    ),
    "a mask of steps alone": (
        "scan xt in x over time where = arange(time) < 2 carry s = zeros(batch, n) { s = s + xt }",
        X[:, :2].sum(axis=1),
    ),
    "no mask": ("scan xt in x over time where = none { emit xt }", X),
    "a name of the input in the body": ("scan x in x over time {\n x = 2 * x\n emit x\n }", 2 * X),
}


@pytest.mark.parametrize("case", EXPRESSIONS)
def test_an_expression(case: str) -> None:
    expression, expected = EXPRESSIONS[case]
    found = run(f"fn f(x: [batch, time, n]) {{\n    y = {expression}\n    return y\n}}", X)
    many = found if isinstance(found, tuple) else (found,)
    wanted = expected if isinstance(expected, tuple) else (expected,)
    assert len(many) == len(wanted)
    for one, other in zip(many, wanted, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_truncation_stops_gradients_every_n_steps_and_changes_no_value() -> None:
    text = """
fn f(x: [batch, time], s0: [batch]) = scan xt in x over time reverse = REVERSE truncate = 2 carry s = s0 { s = s * xt }
fn whole(x: [batch, time], s0: [batch]) = scan xt in x over time carry s = s0 { s = s * xt }
"""
    x, start = X[..., 0], X[:, 0, 1]
    found = run(text.replace("REVERSE", "false"), x, start)
    np.testing.assert_allclose(found, run(text.replace("REVERSE", "true"), x, start, name="whole"), rtol=1e-6)
    for is_reversed, reached in (("false", 4), ("true", 0)):
        graph = function_graph(text.replace("REVERSE", is_reversed), "f", x, start)
        gradient = gradients(graph, x, start)[0]
        assert [bool(np.any(column)) for column in gradient.T] == [t == reached for t in range(5)]


def gradients(graph: Graph, *operands: Any) -> list[Any]:
    """The gradients of the sum of a graph's only result by its operands."""
    from elaboration import run_graph

    from compiler.graph.builder import GraphBuilder
    from compiler.graph.ir import Role
    from compiler.ops.autodiff import gradients_of
    from compiler.ops.spreading import Sum

    builder = GraphBuilder.continuing(graph)
    for node in graph.nodes:
        builder.append(node)
    (result,) = (output.value for output in graph.outputs)
    loss = builder.emit(Sum(tuple(range(result.type.rank))), result)
    for number, slope in enumerate(gradients_of(builder, builder.nodes, loss, [i.value for i in graph.inputs])):
        assert slope is not None
        builder.output(f"d{number}", Role.OUTPUT, slope)
    data = {entry.name: operand for entry, operand in zip(graph.inputs, operands, strict=True)}
    found = run_graph(builder.build(), data)
    return [found[f"d{number}"] for number in range(len(operands))]


# Layers and states

LAYERS = """
layer counter(x) {
    state n: [] = zeros
    if training { n <- n + 1 }
    return x * n
}
layer walk(x: [batch, time, n]) {
    h = scan xt in x over time carry h = zeros(batch, n) { h = tanh(dense(n)(h) + dense(n, bias = false)(xt)) }
    return h
}
layer counting(x: [batch, time, n]) {
    c = counter()
    y = scan xt in x over time { emit c(xt) }
    return y, c(x)
}
layer own(x: [batch, time, n]) {
    state s: [] = zeros
    y = scan xt in x over time {
        if training { s <- s + 1 }
        emit s * xt
    }
    return y, s
}
model M {
    input x: f32[batch, 5, 3]
    output y = BODY
}
"""


def test_a_layer_of_the_body_is_one_layer_named_after_the_variable_in_it() -> None:
    found = program(LAYERS.replace("BODY", "walk(x)"))
    assert paths(found) == ["y.walk.h.dense.W", "y.walk.h.dense.b", "y.walk.h.dense_2.W"]


def test_a_state_of_a_layer_in_the_body_moves_with_each_step() -> None:
    found = program(LAYERS.replace("output y = BODY", "output y, z = counting(x)"))
    assert paths(found) == ["y.counting.c.n"]
    results = run_program(found, {"x": X}, 2)
    np.testing.assert_allclose(results["y"], X * np.arange(5.0)[:, None])
    np.testing.assert_allclose(results["z"], X * 5)
    assert results["y.counting.c.n"] == 6


def test_a_state_of_the_declaration_around_moves_with_each_step() -> None:
    found = program(LAYERS.replace("output y = BODY", "output y, z = own(x)"))
    results = run_program(found, {"x": X}, 2)
    np.testing.assert_allclose(results["y"], X * np.arange(5.0)[:, None])
    assert results["z"] == 0  # the rest of this application still sees the old value
    assert results["y.own.s"] == 5


def test_a_state_that_no_step_changes_is_no_carry() -> None:
    graph = program(LAYERS.replace("BODY", "walk(x)")).inference_graph
    assert scans_of(graph)[0].carries == 1
    graph = program(LAYERS.replace("output y = BODY", "output y, z = counting(x)")).inference_graph
    assert scans_of(graph)[0].carries == 0


def test_a_state_in_nested_scans() -> None:
    text = """
layer nested(x: [batch, time, n]) {
    state s: [] = zeros
    y = scan row in x over time {
        inner = scan a in row over n {
            if training { s <- s + 1 }
            emit s * a
        }
        emit inner
    }
    return y
}
model M {
    input x: f32[batch, 5, 3]
    output y = nested(x)
}
"""
    results = run_program(program(text), {"x": X}, 2)
    np.testing.assert_allclose(results["y"], X * np.arange(15.0).reshape(5, 3))
    assert results["y.nested.s"] == 15


def test_each_step_draws_anew_and_nested_steps_too() -> None:
    text = """
fn f(x: [batch, time, n]) = scan row in x over time {
    inner = scan a in row over n { emit random_like(a) }
    emit inner
}
"""
    (drawn,) = (run(text, X),)
    assert len(np.unique(drawn)) == drawn.size


def test_a_function_with_its_own_gradient_in_a_body() -> None:
    text = """
fn clipped(x) { return 3 * x } gradient(x, y, dy) = 5 * dy
fn f(x: [batch, time]) = scan xt in x over time carry s = zeros(batch) { s = s + clipped(xt) }
"""
    (gradient,) = gradients(function_graph(text, "f", X[..., 0]), X[..., 0])
    np.testing.assert_allclose(gradient, np.full((2, 5), 5.0))


def test_levels_count_the_scans_around() -> None:
    text = "fn f(x: [batch, time, n]) = scan row in x over time {\n s = scan a in row over n { emit a }\n emit s\n}"
    (outer,) = scans_of(function_graph(text, "f", X))
    (inner,) = scans_of(outer.body)
    assert (outer.level, inner.level) == (0, 1)


# Mistakes

MISTAKES: dict[str, tuple[str, list[str]]] = {
    "over the batch": ("scan xt in x over batch { emit xt }", ["E0419"]),
    "different lengths": ("scan a in x, i in 0..2 over time { emit i * a }", ["E0419"]),
    "a mask of another length": ("scan a in x over time where = arange(2) > 0 { emit a }", ["E0419"]),
    "a mask that is none": ("scan a in x over time where = x { emit a }", ["E0416"]),
    "a mask that fits no carry": (
        "scan a in x over time where = x > 0 carry s = zeros(batch) { s = s + 1 }",
        ["E0401"],
    ),
    "a shape that changes": ("scan a in x over time carry s = zeros(1, n) { s = s + a }", ["E0420"]),
    "an element type that changes": ("scan a in x over time carry s = zeros(batch, n) { s = a > 0 }", ["E0420"]),
    "another number of carries": ("scan a in x over time carry s = [a0, a0] { s = [s[0]] }", ["E0420"]),
    "dimensions that never meet": ("scan a in x over time carry s = zeros(batch, k) {\n s = a\n emit s\n }", ["E0403"]),
    "an axis that is not there": ("scan a in x over k { emit a }", ["E0406"]),
    "a range over a name": ("scan i in 0..3 over time { emit i }", ["E0406"]),
    "not a tensor": ("scan i in 3 over 0 { emit i }", ["E0312"]),
    "a carry that is no tensor": ("scan a in x over time carry s = relu { emit a }", ["E0312"]),
    "an emitted function": ("scan a in x over time { emit relu }", ["E0312"]),
    "reverse by a number": ("scan a in x over time reverse = 1 { emit a }", ["E0312"]),
    "truncate by 0": ("scan a in x over time truncate = 0 carry s = a0 { s = a }", ["E0312"]),
    "no results": ("scan a in x over time { b = a }", ["E0207"]),
    "an unknown option": ("scan a in x over time from_end = true { emit a }", ["E0301"]),
    "an option given twice": ("scan a in x over time reverse = true reverse = true { emit a }", ["E0303"]),
    "a name twice": ("scan a in x, a in x over time { emit a }", ["E0202"]),
    "a dimension as a name": ("scan time in x over time { emit time }", ["E0204"]),
    "return": ("scan a in x over time { return a }", ["E0205"]),
    "assigning what is not carried": ("scan a in x over time {\n a0 = a\n emit a0\n }", ["E0210"]),
    "one mistake in the body": (
        "scan a in x over time carry s = a0 {\n b = a + zeros(7)\n s = b\n emit s\n }",
        ["E0401"],
    ),
    "an unknown name in the body": ("scan a in x over time carry s = a0 {\n s = s + q\n emit s\n }", ["E0201"]),
}


HINTS = {
    "a name too many": ("y, z, q = scan a in x over time carry s = a0 {\n s = a\n emit s\n }", "then its last carries"),
    "no emit": ("y, z = scan a in x over time carry s = a0 { s = a }", "then its last carries"),
    "a sum behind a pipe": ("y = a0 |> relu + a0", "write `(x |> f) + y`"),
    "heads that do not divide": ('y = rearrange(x, "b t (h c) -> b h t c", h = 2)', "says, with `h` = 2"),
}


@pytest.mark.parametrize("case", HINTS)
def test_what_a_message_advises(case: str) -> None:
    statement, advice = HINTS[case]
    text = f"""
fn f(x: [batch, time, n]) {{
    a0 = x[:, 0]
    {statement}
    return y
}}
model M {{
    input x: f32[batch, 5, 3]
    output y = f(x)
}}
"""
    assert advice in render(mistakes(text))


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake(case: str) -> None:
    expression, expected = MISTAKES[case]
    text = f"""
fn f(x: [batch, time, n], z: [k]) {{
    a0 = x[:, 0]
    y = {expression}
    return y, a0, z
}}
model M {{
    input x: f32[batch, 5, 3]
    output y, b, c = f(x, zeros(3))
}}
"""
    assert codes(mistakes(text)) == expected


def test_emit_and_output_stand_where_they_may() -> None:
    assert codes(mistakes_of_call("fn f(x: [n]) {\n    emit x\n    return x\n}", np.zeros(3))) == ["E0205"]
    text = "model M {\n    input x: f32[batch, 4]\n    y = scan a in x over 1 { output z = a }\n    output w = x\n}"
    assert codes(mistakes(text)) == ["E0205"]


def test_a_mistake_in_the_body_of_a_library_layer_is_told_once_at_the_call() -> None:
    text = "model M {\n    input x: f32[batch, 5, 3]\n    output y = scan a in x over 1 { emit dense(2)(a > 0) }\n}"
    (shown,) = mistakes(text)
    assert (shown.span.line, shown.span.source.name) == (3, "model.dl")


def test_the_recurrent_programs_of_the_reference_compile_as_written() -> None:
    text = (Path(__file__).parents[2] / "golden" / "parse" / "reference_programs.dl").read_text(encoding="utf-8")
    assert run(text, X, name="lstm", units=6).shape == (2, 5, 6)
    own = "layer both(x: [batch, time, n]) = x |> bidirectional(lstm(4))\n"
    assert run(f"{text}\n{own}", X, name="both").shape == (2, 5, 8)
    context, weights = run(text, X[:, 0], X, name="bahdanau", units=4)
    assert (context.shape, weights.shape) == ((2, 3), (2, 5, 1))
