"""Types of signatures, names of dimensions, broadcasting, `batch`, `align` and axes by name."""

from __future__ import annotations

import numpy as np
import pytest
from elaboration import codes, mistakes, mistakes_of_call, modules, program, run, run_program

from compiler.frontend.elaborate import check, elaborate
from compiler.frontend.program import DataQuestion
from compiler.types import BatchExtent


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def test_a_dimension_name_is_bound_once_and_must_agree() -> None:
    text = "fn f(a: [n, m], b: [m]) = sum(a @ b) / n"
    assert run(text, ones(2, 3), ones(3)) == 3
    (found,) = mistakes_of_call(text, ones(2, 3), ones(4))
    assert found.code == "E0404"
    assert "`m`" in found.message
    assert "[4]" in found.message


def test_a_dimension_name_is_a_number_in_the_body() -> None:
    assert run("fn f(x: [n, m]) = x[0, 0] * (n * m)", ones(2, 3)) == 6


def test_expressions_are_checked_after_lone_names() -> None:
    text = "fn f(units: int)(a: [2 * units, n], b: [n + 1]) = sum(a)"
    assert run(text, ones(6, 2), ones(3), units=3) == 12
    assert codes(mistakes_of_call(text, ones(5, 2), ones(3), units=3)) == ["E0404"]
    assert codes(mistakes_of_call(text, ones(6, 2), ones(2), units=3)) == ["E0404"]


def test_all_dots_of_one_signature_are_the_same_dimensions() -> None:
    text = "fn f(a: [..., n], b: [...]) = sum(a)"
    assert run(text, ones(2, 3, 4), ones(2, 3)) == 24
    assert codes(mistakes_of_call(text, ones(2, 3, 4), ones(3, 2))) == ["E0404"]


def test_ranks_must_fit() -> None:
    assert codes(mistakes_of_call("fn f(a: [n, m]) = a", ones(3))) == ["E0404"]
    assert codes(mistakes_of_call("fn f(a: [..., n, m]) = a", ones(3))) == ["E0404"]


def test_a_setting_is_a_constant_in_a_signature() -> None:
    text = "fn f(n: int)(a: [n]) = a"
    assert run(text, ones(3), n=3).shape == (3,)
    assert codes(mistakes_of_call(text, ones(3), n=4)) == ["E0404"]


def test_a_const_is_a_constant_in_a_signature() -> None:
    text = "const N = 3\nfn f(a: [N, m]) = a"
    assert run(text, ones(3, 2)).shape == (3, 2)
    assert codes(mistakes_of_call(text, ones(4, 2))) == ["E0404"]


def test_results_are_checked() -> None:
    assert run("fn f(x: [n]) -> [n, 1] = x[:, None]", ones(3)).shape == (3, 1)
    (found,) = mistakes_of_call("fn f(x: [n]) -> [n + 1] = x", ones(3))
    assert found.code == "E0405"
    assert codes(mistakes_of_call("fn f(x: [n]) -> i32[n] = x", ones(3))) == ["E0405"]
    assert codes(mistakes_of_call("fn f(x) -> [...], [...] = x", ones(3))) == ["E0405"]


def test_element_types_of_a_signature() -> None:
    assert run("fn f(x: i32[n]) = x", np.array([1, 2], np.uint8)).dtype == np.int32
    assert codes(mistakes_of_call("fn f(x: [n]) = x", np.array([1, 2], np.int32))) == ["E0416"]
    assert codes(mistakes_of_call("fn f(x: u8[n]) = x", np.array([1, 2], np.int32))) == ["E0416"]


# Broadcasting


def test_extents_follow_numpy() -> None:
    assert run("fn f(a, b) = a + b", ones(4, 1, 3), ones(2, 1)).shape == (4, 2, 3)
    (found,) = mistakes_of_call("fn f(a, b) = a + b", ones(4, 3), ones(4))
    assert found.code == "E0401"


def test_a_named_dimension_must_stand_at_the_same_place() -> None:
    model = "model M {{\n input x: f32[batch, 3]\n output y = {0}\n}}"
    assert not mistakes(model.format("x - mean(x, axis = batch)"))
    assert codes(mistakes(model.format("x - mean(x, axis = 1)"))) == ["E0402"]
    assert not mistakes(model.format("x - mean(x, axis = 1)[:, None]"))
    assert codes(mistakes_of_call("fn f(x: [b, c, h, w], g: [c]) = x * g", ones(2, 3, 3, 3), ones(3))) == ["E0402"]
    assert codes(mistakes_of_call("fn f(x: [n]) = x[:, None] - x", ones(3))) == ["E0402"]


def test_the_classic_silent_mistake_of_losses_is_told() -> None:
    text = """
model M {
    input x: f32[batch, 3]
    output y = dense(1)(x)
}
train M {
    target t: f32[batch]
    loss = mean((y - t) ^ 2)
    optimizer = adam()
    batch = 4
}
"""
    (found,) = mistakes(text)
    assert found.code == "E0402"
    assert (found.span.line, found.span.column) == (8, 17)
    assert "f32[batch, 1]" in found.message
    assert "f32[batch]" in found.message
    assert any("[:, 0]" in note.message for note in found.notes)
    assert any(note.span is not None and note.span.line == 7 for note in found.notes)


def test_two_names_of_one_signature_never_meet() -> None:
    assert codes(mistakes_of_call("fn f(q: [i, d], k: [j, d]) = q + k", ones(3, 2), ones(3, 2))) == ["E0403"]
    assert run("fn f(q: [i, d], k: [j, d]) = q[:, None] * k[None]", ones(3, 2), ones(3, 2)).shape == (3, 3, 2)


def test_a_named_dimension_meets_a_number_of_its_size() -> None:
    assert run("fn f(x: [n]) = x + ones(3)", ones(3)).shape == (3,)


def test_names_are_local_and_stay_through_calls() -> None:
    text = "fn g(v: [k]) = 2 * v\nfn f(x: [n, m]) = sum(g(x[0]), axis = m) + sum(g(x[:, 0]), axis = n)"
    assert run(text, ones(2, 3)) == 10
    assert codes(mistakes_of_call("fn g(v: [k]) = 2 * v\nfn f(x: [n]) = sum(g(x), axis = k)", ones(3))) == ["E0201"]


@pytest.mark.parametrize(
    "expression", ["reshape(x, n * m)", "concat(x, x, axis = 1)", "x[:, 1:]", "split(x, 1, axis = 1)[0]"]
)
def test_what_changes_an_axis_drops_its_name(expression: str) -> None:
    (found,) = mistakes_of_call(f"fn f(x: [n, m]) = sum({expression}, axis = m)", ones(2, 3))
    assert found.code == "E0406"


@pytest.mark.parametrize(
    "expression",
    ["x.T", 'rearrange(x, "n m -> m n")', "exp(x)", "x + ones(3)", "x @ ones(3, 3) @ x.T @ x", "reshape(x, 1, n, m)",
     "where(x > 0, x, 0)", "concat(x, x, axis = 0)", "reverse(x, m)"],
)  # fmt: skip
def test_what_leaves_an_axis_whole_keeps_its_name(expression: str) -> None:
    assert run(f"fn f(x: [n, m]) = sum(sum({expression}, axis = m))", ones(2, 3)).shape == ()


def test_axes_by_name() -> None:
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    np.testing.assert_array_equal(run("fn f(x: [a, b, c]) = sum(x, axis = b)", x), x.sum(1))
    np.testing.assert_array_equal(run("fn f(x: [a, b, c]) = sum(x, axis = [a, c])", x), x.sum((0, 2)))
    np.testing.assert_array_equal(run("fn f(x: [a, b, c]) = sum(x, axis = except(b))", x), x.sum((0, 2)))
    np.testing.assert_array_equal(run("fn f(x: [a, b, c]) = reverse(x, b)", x), x[:, ::-1])
    np.testing.assert_array_equal(run("fn f(x: [a, b, c]) = transpose(x, c, a, b)", x), x.transpose(2, 0, 1))


def test_an_axis_is_passed_on_by_a_setting() -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    text = "fn total(over: axis = -1)(x) = sum(x, axis = over)\nfn f(x: [a, b]) = total(over = a)(x) + 0 * total(x)[0]"
    np.testing.assert_array_equal(run(text, x), x.sum(0))
    np.testing.assert_allclose(run("fn f(x: [a, b]) = softmax(x, axis = a)", x).sum(0), 1, rtol=1e-6)


def test_wrong_axes() -> None:
    assert codes(mistakes_of_call("fn f(x: [n]) = sum(x, axis = 1)", ones(3))) == ["E0406"]
    assert codes(mistakes_of_call("fn f(x: [n, n]) = sum(x, axis = n)", ones(3, 3))) == ["E0406"]
    assert codes(mistakes_of_call("fn f(x: [n]) = sum(x, axis = [0, -1])", ones(3))) == ["E0406"]
    assert codes(mistakes_of_call("fn f(x: [n]) = x.T", ones(3))) == ["E0406"]


def test_align_puts_names_where_they_are() -> None:
    x, g = ones(2, 3, 4, 5), np.arange(3, dtype=np.float32)
    found = run("fn f(x: [b, c, h, w], g: [c]) = x * align(g, x)", x, g)
    np.testing.assert_array_equal(found, x * g[:, None, None])
    both = run(
        "fn f(x: [a, b, c], v: [c, a]) = x * align(v, x)", ones(2, 3, 4), np.arange(8, dtype=np.float32).reshape(4, 2)
    )
    np.testing.assert_array_equal(both, ones(2, 3, 4) * np.arange(8).reshape(4, 2).T[:, None, :])
    assert codes(mistakes_of_call("fn f(x: [a, b], v: [c]) = align(v, x)", ones(2, 3), ones(2))) == ["E0406"]


def test_a_mask_is_placed_by_its_names() -> None:
    x = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    keep = np.array([[1, 0, 1], [0, 0, 0]], bool)
    text = "fn f(x: [b, t, d], keep: bool[b, t]) = mean(x, axis = t, where = keep)"
    expected = np.stack([x[0, [0, 2]].mean(0), np.zeros(2)])
    np.testing.assert_allclose(run(text, x, keep), expected)


# The batch

MODEL = "model M {{\n    input x: f32[batch, 6]\n    output y = {0}\n}}"


def test_batch_is_a_dimension_of_run_time() -> None:
    found = program(MODEL.format("reshape(x, 2 * batch, 3)[:, 0] + zeros(2 * batch)"))
    assert found.training_graph.output("y").value.type.shape == (BatchExtent(2),)
    assert run_program(found, {"x": ones(5, 6)}, batch=5)["y"].shape == (10,)


@pytest.mark.parametrize(
    ("expression", "factor"),
    [("x * batch", 5), ("x / batch", 1 / 5), ("x * (1 / batch)", 1 / 5), ("x * sqrt(batch)", 5**0.5)],
)
def test_batch_in_arithmetic_is_a_scalar_tensor(expression: str, factor: float) -> None:
    found = run_program(program(MODEL.format(expression)), {"x": ones(5, 6)}, batch=5)["y"]
    np.testing.assert_allclose(found, factor * ones(5, 6), rtol=1e-6)


def test_reductions_over_the_batch() -> None:
    data = np.arange(30, dtype=np.float32).reshape(5, 6)
    for expression, expected in (
        ("x - mean(x, axis = batch)", data - data.mean(0)),
        ("x - mean(x)", data - data.mean()),
        ("x / sqrt(variance(x, axis = batch))", data / data.std(0)),
    ):
        np.testing.assert_allclose(
            run_program(program(MODEL.format(expression)), {"x": data}, batch=5)["y"], expected, rtol=1e-5
        )


@pytest.mark.parametrize(
    ("expression", "code"),
    [
        ("reshape(x, batch + 1, 6)", "E0410"),
        ("x[0]", "E0410"),
        ("x[1:]", "E0410"),
        ("zeros(batch, batch)", "E0410"),
        ("split(x, 2, axis = 0)[0]", "E0410"),
        ("dense(batch)(x)", "E0307"),
        ("reshape(x, 3)", "E0407"),
    ],
)
def test_what_batch_cannot_be(expression: str, code: str) -> None:
    assert codes(mistakes(MODEL.format(expression))) == [code]


@pytest.mark.parametrize("called", ["prod(x)", "cummax(x, axis = 0)", "sort(x, axis = 0)", "roll(1, axis = 0)(x)"])
def test_an_axis_of_rows_is_not_taken_apart(called: str) -> None:
    (found,) = mistakes(MODEL.format(called))
    assert (found.code, found.message.split(",")[0]) == ("E0307", "this function needs an axis of known length")


@pytest.mark.parametrize(
    "statement", ["if batch > 1 { y = x }", "for i in 0..batch { y = x }", "for i in batch { y = x }"]
)
def test_batch_decides_nothing(statement: str) -> None:
    text = f"model M {{\n input x: f32[batch, 6]\n y = x\n {statement}\n output z = y\n}}"
    assert codes(mistakes(text)) == ["E0307"]


def test_batch_in_a_signature_is_a_name_like_any_other() -> None:
    text = "fn g(v: [batch, n]) = v / batch\n" + MODEL.format("reshape(g(reshape(x, 2 * batch, 3)), batch, 6)")
    np.testing.assert_allclose(run_program(program(text), {"x": ones(5, 6)}, batch=5)["y"], ones(5, 6) / 10)


@pytest.mark.parametrize("dimension", ["5 / 2", "2 - 3", "1.5"])
def test_a_dimension_comes_out_whole(dimension: str) -> None:
    assert codes(mistakes_of_call(f"fn f(x) = x + zeros({dimension})", 1.0)) == ["E0413"]


def test_a_dimension_of_an_input_must_be_bound() -> None:
    text = "model M(time = 4) {\n input x: f32[batch, time]\n input z: f32[batch, tine]\n output y = x + z\n}"
    (found,) = mistakes(text)
    assert found.code == "E0415"
    assert any("`time`" in note.message for note in found.notes)


def test_the_data_may_bind_a_dimension() -> None:
    text = "model M {\n input x: f32[batch, width]\n output y = dense(2)(x) * width\n}"
    assert codes(mistakes(text)) == ["E0415"]
    asked: list[DataQuestion] = []

    def answer(question: DataQuestion) -> dict[str, int]:
        asked.append(question)
        return {"width": 7}

    found = elaborate(modules(text), dimensions_of=answer)
    assert found.inputs[0].type.shape == (BatchExtent(), 7)
    assert [(q.names, [(s.name, s.dimension_names) for s in q.inputs], q.source) for q in asked] == [
        (("width",), [("x", ("batch", "width"))], None)
    ]
    assert [(s.name, s.value, s.origin) for s in found.settings] == [("width", 7, "data")]


def test_the_command_line_may_bind_a_dimension_of_the_data() -> None:
    text = "model M {\n input x: f32[batch, width, 2 * width]\n output y = dense(2)(x) * width\n}"
    found = program(text, ("width", "7"))
    assert found.inputs[0].type.shape == (BatchExtent(), 7, 14)
    assert [(s.name, s.value, s.origin) for s in found.settings] == [("width", 7, "command line")]
    assert codes(mistakes(text, ("width", "7.5"))) == ["E0413"]


def test_without_its_data_an_experiment_is_not_checked_and_not_wrong() -> None:
    text = """model M {
    input x: f32[batch, width]
    output y = dense(3)(x) + zeros(2)
}
train M {
    target z: i32[batch, other]
    loss = mean(y) + unknown
    optimizer = adam()
    batch = 2
}
"""
    found = check(modules(text))
    assert [(d.code, d.severity) for d in found] == [("W0105", "warning"), ("W0105", "warning"), ("E0201", "error")]
    found = check(modules(text), dimensions_of=lambda question: dict.fromkeys(question.names, 4))
    assert codes(list(found)) == ["E0401", "E0201"]


def test_a_parameter_has_elements() -> None:
    found = mistakes("model M {\n    input x: f32[batch, 2]\n    output y = dense(0)(x)\n}\n")
    assert codes(found) == ["E0413"]


def test_labels_of_another_rank_are_told_at_the_users_call() -> None:
    text = """model M(classes = 7) {
    input x: i32[batch, time] in 0..classes
    output logits = x |> embedding(classes, 8) |> dense(classes)
}
train M {
    target t: i32[batch] in 0..classes
    loss = cross_entropy(logits, t)
    optimizer = adam()
    batch = 2
}
"""
    (found,) = check(modules(text), dimensions_of=lambda question: dict.fromkeys(question.names, 6))
    assert (found.code, found.span.line, found.span.text) == ("E0404", 7, "cross_entropy(logits, t)")
    assert "[batch, time = 6] first, but `label` is i32[batch]" in found.message


@pytest.mark.parametrize(
    "use", ["scan u in x over time carry h = zeros(batch, 3) { h = h + u }", "mean(x, axis = time)"]
)
def test_the_name_of_a_setting_is_no_axis(use: str) -> None:
    (found,) = mistakes(f"model M(time = 5) {{\n    input x: f32[batch, time, 3]\n    output y = {use}\n}}\n")
    assert found.code == "E0406"
    assert "the axis of size 5 is axis 1" in found.notes[-1].message
