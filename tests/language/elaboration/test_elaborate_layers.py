"""Layers: identity, sharing, paths, parameters, state and randomness."""

from __future__ import annotations

import numpy as np
import pytest
from elaboration import codes, mistakes, paths, program, run_program, started

from compiler.frontend.bodies.own_graphs import fans
from compiler.graph.ir import Role
from compiler.ops.sources import RandomUniform

HEAD = "model M(n = 3) {\n    input x: f32[batch, n]\n"


def model(body: str, before: str = "") -> str:
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return f"{before}\n{HEAD}{lines}}}"


def weights(body: str, before: str = "") -> list[str]:
    """The paths of the parameters, without the last segment and without biases."""
    return [path[:-2] for path in paths(program(model(body, before))) if path.endswith(".W")]


BLOCK = """
layer block(units: int)(x: [..., n]) {
    h = dense(units)(x) |> relu
    return dense(n)(h)
}
layer wrapper(inner: layer)(x) = inner(x)
layer stack(cells)(x) {
    for cell in cells { x = cell(x) }
    return x
}
layer with_default(norm: layer = dense(3))(x) = norm(x)
"""

PATHS = {
    "a variable and a kind": ("h = dense(4)(x)\noutput y = h", ["h.dense"]),
    "the output": ("output y = x |> dense(4)", ["y.dense"]),
    "the instance itself is bound": ("h = dense(4)\noutput y = h(x)", ["h"]),
    "repeated kinds": (
        "h = x |> dense(4) |> dense(5)\nh = dense(6)(h)\noutput y = h",
        ["h.dense", "h.dense_2", "h.dense_3"],
    ),
    "rounds of a loop": ("for i in 0..2 { x = x |> dense(4) }\noutput y = x", ["x.0.dense", "x.1.dense"]),
    "nested rounds": (
        "for i in 0..2 { for j in 0..2 { x = dense(4)(x) } }\noutput y = x",
        ["x.0.0.dense", "x.0.1.dense", "x.1.0.dense", "x.1.1.dense"],
    ),
    "inside a layer, without a name for return": (
        "h = block(4)(x)\noutput y = h",
        ["h.block.h.dense", "h.block.dense"],
    ),
    "an argument": ("h = wrapper(dense(4))(x)\noutput y = h", ["h.wrapper.inner"]),
    "an argument of a bound instance": ("h = wrapper(dense(4))\noutput y = h(x)", ["h.inner"]),
    "an argument in an argument": ("h = wrapper(wrapper(dense(4)))(x)\noutput y = h", ["h.wrapper.inner.inner"]),
    "a list": ("h = [dense(4), dense(5)]\noutput y = h[1](h[0](x))", ["h.0", "h.1"]),
    "a list as an argument": (
        "h = stack([dense(4), dense(5)])(x)\noutput y = h",
        ["h.stack.cells.0", "h.stack.cells.1"],
    ),
    "a default": ("h = with_default(x)\noutput y = h", ["h.with_default.norm"]),
    "a shared instance": ("h = dense(3)\noutput y = h(h(x))", ["h"]),
    "an instance in several branches": (
        "h = x\nif n == 3 { h = dense(4)(h) } else { h = dense(5)(h) }\nh = dense(6)(h)\noutput y = h",
        ["h.dense", "h.dense_3"],
    ),
    "fresh": ("a = dense(3)\nb = fresh(a)\noutput y = b(a(x))", ["a", "b"]),
    "the first of several names": ("a, b = split(dense(4)(x), 2)\noutput y = a + b", ["a.dense"]),
    "two bindings of one name": ("a = dense(3)\nx = a(x)\na = dense(3)\noutput y = a(x)", ["a", "a_2"]),
}


@pytest.mark.parametrize("case", PATHS)
def test_paths(case: str) -> None:
    body, expected = PATHS[case]
    assert weights(body, BLOCK) == expected


def test_the_path_of_the_design() -> None:
    text = """
layer attention(units: int)(q) {
    Q = dense(units)(q)
    return Q
}
model M {
    input x: f32[batch, 4]
    encoder = x
    for i in 0..3 { encoder = attention(4)(encoder) }
    output y = encoder
}
"""
    assert paths(program(text))[-2] == "encoder.2.attention.Q.dense.W"


def test_parameters_in_a_loop_are_numbered() -> None:
    text = "layer l(x: [..., n]) {\n for i in 0..2 {\n param W: [n, n] = zeros\n x = x @ W\n }\n return x\n}"
    assert paths(program(model("output y = l(x)", text))) == ["y.l.W.0", "y.l.W.1"]


def test_a_setting_of_type_layer_is_one_instance() -> None:
    twice = "layer twice(inner: layer)(x) = inner(inner(x))"
    assert weights("output y = twice(dense(3))(x)", twice) == ["y.twice.inner"]
    fresh = "layer twice(inner: layer)(x) {\n other = fresh(inner)\n return other(inner(x))\n}"
    assert weights("output y = twice(dense(3))(x)", fresh) == ["y.twice.inner", "y.twice.other"]


def test_a_shared_layer_owns_its_parts_once() -> None:
    assert weights("b = block(4)\noutput y = b(b(x))", BLOCK) == ["b.h.dense", "b.dense"]


def test_a_shared_parameter_keeps_its_type() -> None:
    (found,) = mistakes(model("h = dense(4)\noutput y = h(h(x))"))
    assert found.code == "E0502"
    assert "h.W" in found.message


def test_only_layers_and_models_make_instances() -> None:
    (found,) = mistakes(model("output y = f(x)", "fn f(x) = dense(3)(x)"))
    assert found.code == "E0501"
    assert not mistakes(model("output y = f(dense(3))(x)", "fn f(l: layer)(x) = l(x)"))


def test_a_layer_without_settings() -> None:
    text = "layer scale(x: [..., n]) {\n param g: [n] = ones\n return g * x\n}"
    assert paths(program(model("output y = x |> scale |> scale() |> scale()", text))) == [
        "y.scale.g",
        "y.scale_2.g",
        "y.scale_3.g",
    ]


def test_parameters_are_described() -> None:
    found = program(model("output y = dense(4, weights = he_normal)(x)"))
    first, second = found.parameters
    assert (first.path, str(first.type), first.role) == ("y.dense.W", "f32[3, 4]", Role.PARAMETER)
    assert (second.path, str(second.type)) == ("y.dense.b", "f32[4]")
    assert started(first.initializer).std() > 0
    assert not started(second.initializer).any()


# Initialisers


def test_fans() -> None:
    assert fans((3, 4)) == (3, 4)
    assert fans((5, 5, 3, 4)) == (75, 100)
    assert fans((7,)) == (7, 7)
    assert fans(()) == (1, 1)


def test_an_initialiser_of_ones_own() -> None:
    text = "init ramp(scale = 1.0)(fan_in, fan_out, shape) = scale * fan_in * ones(shape) + fan_out + len(shape)"
    found = program(model("output y = dense(4, weights = ramp(2.0))(x)", text))
    np.testing.assert_array_equal(started(found.parameters[0].initializer), np.full((3, 4), 2 * 3 + 4 + 2))


def test_an_initialiser_may_give_a_number() -> None:
    found = program(model("output y = dense(4, weights = seven)(x)", "init seven(fan_in, fan_out, shape) = 7"))
    np.testing.assert_array_equal(started(found.parameters[0].initializer), np.full((3, 4), 7))


def test_starts_depend_on_the_path_alone() -> None:
    def start(body: str, path: str) -> np.ndarray:
        specs = {spec.path: spec for spec in program(model(body)).parameters}
        return started(specs[path].initializer)

    short = start("a = dense(4)(x)\noutput y = a", "a.dense.W")
    long = start("b = dense(4)(x)\na = dense(4)(x)\noutput y = a + b", "a.dense.W")
    other = start("b = dense(4)(x)\na = dense(4)(x)\noutput y = a + b", "b.dense.W")
    np.testing.assert_array_equal(short, long)
    assert (short != other).all()


def test_wrong_initialisers() -> None:
    bad = "init bad(fan_in, fan_out, shape) = zeros(2)"
    assert codes(mistakes(model("output y = dense(4, weights = bad)(x)", bad))) == ["E0505"]
    text = "layer l(x: [..., n]) {\n param W: [n] = {}\n return x * W\n}"
    assert codes(mistakes(model("output y = l(x)", text.replace("{}", "0.5")))) == ["E0505"]
    assert codes(mistakes(model("output y = l(x)", text.replace("{}", "zeroes")))) == ["E0201"]


# State

COUNTER = """
layer counter(x) {
    state seen: f32[] = zeros
    if training { seen <- seen + 1 }
    return x * seen
}
"""


def test_a_state_moves_at_the_end_of_an_application() -> None:
    found = program(model("c = counter()\noutput y = c(x) + c(x)", COUNTER))
    (spec,) = found.parameters
    assert (spec.path, spec.role) == ("c.seen", Role.STATE)
    results = run_program(found, {"x": np.ones((2, 3))}, batch=2)
    # The first application sees 0, the second 1; after both it is 2.
    np.testing.assert_array_equal(results["y"], np.ones((2, 3)))
    assert results["c.seen"] == 2
    assert found.training_graph.output("c.seen").updates == "c.seen"
    inference = run_program(found, {"x": np.ones((2, 3))}, batch=2, training=False)
    assert set(inference) == {"y"}


def test_a_state_changes_in_training_only() -> None:
    text = "layer l(x) {\n state s: [] = zeros\n s <- s + 1\n return x\n}"
    (found,) = mistakes(model("output y = l(x)", text))
    assert found.code == "E0503"
    assert any("if training" in note.message for note in found.notes)


def test_a_state_keeps_its_type() -> None:
    text = "layer l(x) {\n state s: [] = zeros\n if training { s <- x }\n return x\n}"
    assert codes(mistakes(model("output y = l(x)", text))) == ["E0503"]
    assigned = "layer l(x) {\n state s: [] = zeros\n s = s + 1\n return x\n}"
    assert codes(mistakes(model("output y = l(x)", assigned))) == ["E0503"]


@pytest.mark.parametrize("line", ["param p: [3] = zeros", "state p: [3] = zeros", "output p = x"])
def test_nothing_is_owned_in_training_alone(line: str) -> None:
    assert codes(mistakes(model(f"if training {{ {line} }}\noutput y = x"))) == ["E0504"]


def test_a_layer_under_training_keeps_its_parameters() -> None:
    found = program(model("h = x\nif training { h = dense(3)(h) }\noutput y = h"))
    assert paths(found) == ["h.dense.W", "h.dense.b"]
    assert [entry.name for entry in found.inference_graph.inputs] == ["x"]


# Randomness


def streams(body: str) -> list[int]:
    nodes = program(model(body)).training_graph.nodes
    return [node.op.stream for node in nodes if isinstance(node.op, RandomUniform)]


def test_each_application_draws_anew() -> None:
    found = streams("d = dropout(0.5)\noutput y = d(d(x)) + dropout(0.5)(x)")
    assert len(found) == 3
    assert len(set(found)) == 3


def test_a_draw_is_not_moved_by_edits_elsewhere() -> None:
    alone = streams("h = dropout(0.5)(x)\noutput y = h")
    among = streams("g = dropout(0.5)(x)\nh = dropout(0.5)(x)\noutput y = h + g")
    assert among[1] == alone[0]


def test_draws_differ_by_step() -> None:
    found = program(model("output y = random_like(x)"))
    first, second = (run_program(found, {"x": np.ones((2, 3))}, batch=2, step=step)["y"] for step in (0, 1))
    assert (first != second).all()
    assert ((first >= 0) & (first < 1)).all()


# Gradient clauses


def test_a_gradient_clause_is_kept_in_the_graph() -> None:
    text = "fn twice(x) = 2 * x gradient(x, y, dy) = 5 * dy"
    found = program(model("output y = twice(x)", text))
    np.testing.assert_array_equal(run_program(found, {"x": np.ones((2, 3))}, batch=2)["y"], 2 * np.ones((2, 3)))
    assert [node.op.name for node in found.training_graph.nodes].count("custom_gradient") == 1


@pytest.mark.parametrize("clause", ["gradient(x, dy) = dy", "gradient(x, y, dy) = sum(dy)", "gradient(x, y, dy) = x.T"])
def test_wrong_gradient_clauses(clause: str) -> None:
    assert codes(mistakes(model("output y = g(x)", f"fn g(x) = 2 * x {clause}"))) == ["E0506"]
