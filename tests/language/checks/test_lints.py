"""What the lints tell, and above all what they do not: sound programs have no warnings."""

from __future__ import annotations

from pathlib import Path

import pytest
from elaboration import program
from lint_texts import found, model, told, trained

from compiler.programs.load import load

# Logits


@pytest.mark.parametrize("before", ["softmax(dense(3)(x))", "reshape(sigmoid(dense(3)(x)), batch, 3)"])
def test_probabilities_are_no_logits(before: str) -> None:
    (warning,) = found(trained(before))
    assert (warning.code, warning.span.line) == ("W0106", 8)
    assert [note.span and note.span.line for note in warning.notes] == [None, 3]
    assert told(trained("dense(3)(x)", "output p = " + before, loss="cross_entropy(y, label) + 0 * sum(p)")) == []


def test_a_loss_of_ones_own_may_want_logits_too() -> None:
    own = "fn own(logits: [batch, n], label) = cross_entropy(logits, label)\n"
    assert told(trained("softmax(dense(3)(x))", loss="own(y, label)", before=own)) == ["W0106 1", "W0106 9"]
    loss = "sparse_categorical_cross_entropy(y, label)"
    assert told(trained("softmax(dense(3)(x))", loss=loss)) == []


# Gradients


@pytest.mark.parametrize(
    ("barrier", "place"),
    [("step(h)", "step(h)"), ("stop_gradient(h)", "stop_gradient(h)"), ("floor(h) + 0 * x", "floor(h)")],
)
def test_a_parameter_behind_what_lets_no_gradient_through(barrier: str, place: str) -> None:
    (warning,) = found(trained(f"dense(3)({barrier})", "h = dense(4)(x)"))
    assert (warning.code, warning.span.text) == ("W0107", "dense(4)(x)")
    assert "`h.dense.W` and `h.dense.b`" in warning.message
    assert [note.span.text for note in warning.notes if note.span] == [place]


def test_a_parameter_that_the_loss_does_not_see() -> None:
    (warning,) = found(trained("dense(3)(x)", "_h = dense(4)(x)"))
    assert (warning.code, warning.span.line) == ("W0107", 3)
    assert "the loss does not depend on them" in warning.message


def test_frozen_parameters_need_no_gradient() -> None:
    assert told(trained("dense(3)(step(h))", "h = dense(4)(x)", freeze='"h.*"')) == []


# Zeros


@pytest.mark.parametrize(
    "expression",
    [
        "log(relu(x))",
        "log(softmax(x))",
        "log(1 - sigmoid(x))",
        "log1p(-sigmoid(x))",
        "log(tanh(x))",
        "log(x ^ 2)",
        "log(max(x, 0))",
        "log(random(4)) + x",
        "where(x > 0, log(relu(x)), 0)",
        "x / relu(x)",
        "x / abs(x)",
        "x / sqrt(variance(x, axis = -1, keepdims = true))",
        "x / sqrt(sum(x * x, axis = -1, keepdims = true))",
        "x / (1 + cos(x))",
        "x / image",
        "x / count",
        "x / where(x > 0, 1.0, 0.0)",
        "rsqrt(mean(x ^ 2, axis = -1, keepdims = true)) * x",
        "x / arange(4)",
        "x / max(image)",
        "x |> dense(4) |> log",
        "log(concat(dense(2)(x), -dense(2)(x), axis = 1))",
        "log1p(dense(4)(x))",
        "log(batch_norm(x))",
        "log(where(x > 0, dense(4)(x), 1))",
        "log(sigmoid(x) * dense(4)(x))",
        "sqrt(dense(4)(x))",
        "sqrt(tanh(x))",
        "dense(4)(x) ^ 0.5",
        "relu(x) ^ -1",
    ],
)
def test_what_can_be_zero(expression: str) -> None:
    inputs = "x: f32[batch, 4]; image: u8[batch, 4]; count: i32[batch, 4] in 0..9"
    text = model(f"z + 0 * (image + count) + {expression}", "z = x", inputs=inputs)
    assert {d.code for d in found(text)} >= {"W0108"}
    assert {d.span.line for d in found(text) if d.code == "W0108"} == {6}


@pytest.mark.parametrize(
    "expression",
    [
        "log(relu(x) + 1e-7)",
        "log(max(x, 1e-7))",
        "log(exp(x) + 1)",
        "log(sum(exp(x), axis = -1, keepdims = true))",
        "log(softplus(dense(4)(x)))",
        "log(softplus(h) + abs(h))",
        "log(h + sqrt(h ^ 2 + 1))",
        "log(where(h > 0, h, 1))",
        "log(concat(h, exp(h), axis = 1)[:, 4:])",
        "log(max(h, 1e-7))",
        "log(h ^ 2 + 1e-7)",
        "log(softmax(h) + 1e-7)",
        "log(x)",
        "log(x + 1)",
        "log(x / max(x))",
        "log1p(x)",
        "sqrt(x)",
        "sqrt(relu(h))",
        "sqrt(variance(h, axis = -1, keepdims = true))",
        "sqrt(mean(h ^ 2, axis = -1, keepdims = true) - mean(h, axis = -1, keepdims = true) ^ 2)",
        "h ^ 3",
        "relu(h) ^ 0.5",
        "log(where(x > 0, x, 1))",
        "log(where(relu(x) != 0, relu(x), 1))",
        "log(where(r == 0, 1, r))",
        "log(where(r <= 0, 1, r))",
        "log(1 - random(4)) + x",
        "log(positive)",
        "log1p(relu(x))",
        "log_softmax(x)",
        "x / (1 + abs(x))",
        "x / (x ^ 2 + 1)",
        "x / softplus(x)",
        "x / exp(x)",
        "x / sum(x, axis = -1, keepdims = true)",
        "x / dense(4)(x)",
        "x / max(sum(r, axis = -1, keepdims = true), 1)",
        "x / sqrt(variance(x, axis = -1, keepdims = true) + eps)",
        "x / (where(x > 0, 1.0, 0.0) + 1)",
        "x / count",
        "x / sqrt(4)",
        "x / 10000 ^ (arange(4) / 4)",
        "x / batch",
        "softmax(x) / (1.5 - sigmoid(x))",
    ],
)
def test_what_is_kept_away_from_zero(expression: str) -> None:
    inputs = "x: f32[batch, 4]; count: i32[batch, 4] in 1..9; positive: i32[batch, 4] in 1..5"
    lines = ("r = relu(x)", "h = dense(4)(x)")
    text = model(f"r + h + 0 * (count + positive) + {expression}", *lines, inputs=inputs)
    text = text.replace("model M {", "model M(eps = 1e-5) {").replace("+ 0 *", "+ 0 * eps *")
    assert [d for d in found(text) if d.code == "W0108"] == []


def test_the_source_of_a_zero_is_shown() -> None:
    (warning,) = found(model("log(h / 2 + 0.5 * h)", "h = sum(relu(x), axis = -1)"))
    assert [note.span.text for note in warning.notes if note.span] == ["relu(x)"]
    (warning,) = found(model("x / image", inputs="x: f32[batch, 4]; image: u8[batch, 4]"))
    assert [note.span.line for note in warning.notes if note.span] == [3]


# Start values


@pytest.mark.parametrize(
    ("initializer", "activation", "better"),
    [
        ("he_normal", "tanh", "glorot_normal"),
        ("he_uniform", "sigmoid", "glorot_uniform"),
        ("glorot_uniform", "relu", "he_uniform"),
        ("lecun_normal", "leaky_relu", "he_normal"),
        ("he_normal", "selu", "lecun_normal"),
        ("", "selu", "lecun_uniform"),
    ],
)
def test_start_values_suit_the_activation(initializer: str, activation: str, better: str) -> None:
    settings = f", weights = {initializer}" if initializer else ""
    (warning,) = found(model(f"x |> dense(8{settings}) |> {activation} |> dense(2)"))
    assert (warning.code, warning.span.text) == ("W0109", f"dense(8{settings})")
    assert f"take `{better}`" in [note.message for note in warning.notes]
    assert told(model(f"x |> dense(8, weights = {better}) |> {activation} |> dense(2)")) == []


@pytest.mark.parametrize(
    "stages",
    [
        "dense(8) |> relu",  # a default that nobody chose
        "dense(8, weights = normal(std = 0.1)) |> relu",
        "dense(8, weights = orthogonal) |> tanh",
        "dense(8, weights = he_normal) |> batch_norm |> tanh",
        "dense(8, weights = he_normal) |> swish",
        "dense(8, weights = glorot_normal) |> dense(8) |> relu",
    ],
)
def test_start_values_that_are_not_judged(stages: str) -> None:
    assert told(model(f"x |> {stages} |> dense(2)")) == []


def test_start_values_of_ones_own_layer() -> None:
    own = "layer own(x: [batch, n]) {\n    param W: [n, 8] = he_normal\n    return tanh(1 + (x @ W))\n}\n"
    assert told(model("own(x)", before=own)) == ["W0109 2"]


# Schedules


@pytest.mark.parametrize(
    ("schedule", "length", "is_told"),
    [
        ("cosine(T = 100)", {"steps": "2000"}, True),
        ("cosine(T = 4000)", {"steps": "2000"}, True),
        ("cosine(T = 1990)", {"steps": "2000"}, False),
        ("cosine(T = total_steps)", {"steps": "2000"}, False),
        ("linear(T = total_steps)", {"epochs": "20"}, False),
        ("warmup(100, then = cosine(T = 1900))", {"steps": "2000"}, False),
        ("warmup(100, then = cosine(T = 2000))", {"steps": "2000"}, True),
        ("warmup(100)", {"steps": "2000"}, False),
        ("step(every = 100)", {"steps": "2000"}, False),
        ("warm_restarts(T = 100)", {"steps": "2000"}, False),
        ("cosine(T = 20)", {"epochs": "100"}, True),
        ("cosine(T = 100)", {"epochs": "20"}, False),
        ("one_cycle(T = 500)", {}, False),
    ],
)
def test_a_schedule_ends_with_the_run(schedule: str, length: dict[str, str], is_told: bool) -> None:
    text = trained("dense(3)(x)", schedule=schedule, **length)
    assert [d.code for d in found(text)] == ["W0110"] * is_told


# Statistics


def test_statistics_of_a_frozen_layer() -> None:
    lines = ("h = batch_norm(dense(8)(x))",)
    (warning,) = found(trained("dense(3)(h)", *lines, freeze='["*.gamma", "*.beta"]'))
    assert (warning.code, warning.span.text) == ("W0111", '["*.gamma", "*.beta"]')
    assert "`h.batch_norm.running_mean` and `h.batch_norm.running_var`" in warning.message
    for freeze in ('["h.batch_norm.*"]', '["*.gamma"]', '["h.dense.*"]', '["h.*"]'):
        assert told(trained("dense(3)(h)", *lines, freeze=freeze)) == []


# Freezing


def test_what_is_never_trained() -> None:
    (warning,) = found(trained("dense(3)(x)", freeze='"*"'))
    assert (warning.code, warning.span.text) == ("W0116", '"*"')
    assert warning.message == "`freeze` selects every parameter, so nothing is trained"
    late = {"freeze": '"*"', "unfreeze": 'after(3, "*.W")'}
    (warning,) = found(trained("dense(3)(x)", **late, epochs="3"))
    assert (warning.code, warning.span.text) == ("W0116", 'after(3, "*.W")')
    assert "after 3 epochs stay frozen: the run has 3" in warning.message
    for keys in ({**late, "epochs": "4"}, {**late, "steps": "30"}, {"freeze": '"*.b"'}):
        assert found(trained("dense(3)(x)", **keys)) == []


@pytest.mark.parametrize(
    ("freeze", "idle"),
    [
        ("head.*", "every parameter of the update `head`, which trains nothing"),
        ("*", "every parameter, so nothing is trained"),
        ("head.W", ""),
    ],
)
def test_an_update_of_frozen_parameters(freeze: str, idle: str) -> None:
    lines = ["model M {", "input x: f32[batch, 6]", "body = dense(4)", "head = dense(1)", "output z = body(x)"]
    lines += ["output y = head(z)", "}", "train M {"]
    for name, value in (("body", "z"), ("head", "y")):
        lines += [
            f"update {name} {{",
            f'parameters = "{name}.*"',
            f"loss = mean({value} ^ 2)",
            "optimizer = adam()",
            "}",
        ]
    text = "\n".join([*lines, f'freeze = "{freeze}"', "batch = 8", "}", ""])
    warnings = [warning.message for warning in found(text) if warning.code == "W0116"]
    assert warnings == [f"`freeze` selects {idle}"] * bool(idle)


# Rows


@pytest.mark.parametrize(
    "expression",
    [
        "x - mean(x, axis = 0)",
        "softmax(x, axis = 0)",
        "x * batch",
        "sum(x)",
        "x.T @ x",
        "reverse(x, batch)",
        "cumsum(x, axis = 0)",
        "reshape(reshape(x, 4 * batch) - max(x), batch, 4)",
    ],
)
def test_outputs_that_mix_rows(expression: str) -> None:
    assert told(model(expression)) == ["W0112 3"]


@pytest.mark.parametrize(
    "expression",
    [
        "x - mean(x, axis = 1, keepdims = true)",
        "x |> batch_norm |> dense(3)",
        "reshape(sum(reshape(x, 2 * batch, 2), axis = 1), batch, 2)",
        'einsum("b i, b j -> b i j", x, x)',
        "concat(x, x, axis = 1)",
        "one_hot(3)(argmax(x, axis = 1))",
        "zeros(batch, 3) + x[:, 0:3]",
    ],
)
def test_outputs_of_single_rows(expression: str) -> None:
    assert told(model(expression)) == []


# Sharing


@pytest.mark.parametrize(
    ("body", "is_told"),
    [
        ("a = inner(x)\n    return inner(relu(a))", True),
        ("return x |> inner |> inner", True),
        ("a = inner(x)\n    b = inner(x + 0.5 * a)\n    c = inner(x + 0.5 * b)\n    return x + inner(x + c)", True),
        ("return inner(x) + inner(2 * x)", False),
        ("a = x\n    for _ in 0..3 { a = inner(a) }\n    return a", False),
        ("second = fresh(inner)\n    return x |> inner |> second", False),
        ("own = dense(4)\n    return x |> inner |> own |> own", False),
    ],
)
def test_a_layer_is_not_applied_to_what_it_gave(body: str, is_told: bool) -> None:
    before = f"layer twice(inner: layer)(x: [batch, n]) {{\n    {body}\n}}\n"
    assert [d.code for d in found(model("x |> twice(dense(4))", before=before))] == ["W0114"] * is_told
    assert told(model("x |> twice(relu)", before=before)) == []


# Bodies of scans


def scanned(*body: str, output: str = "dense(3)(h)", loss: str = "cross_entropy(y, label)") -> str:
    """A model whose scan stands in line 3, so that its body begins in line 4."""
    head = "hs, h = scan u in x over time carry h = zeros(batch, 4) {"
    lines = [head, *(f"    {line}" for line in body), "}"]
    return (
        trained(output, *lines, loss=loss)
        .replace("input x: f32[batch, 4]", "input x: f32[batch, time, 4]")
        .replace("model M", "model M(time = 6)")
        .replace("over time", "over 1")
    )


@pytest.mark.parametrize(
    ("body", "code", "line"),
    [
        (["h = h + log(relu(u))", "emit h"], "W0108", 4),
        (["p = softmax(dense(4)(u))", "h = h + p", "emit log(p)"], "W0108", 6),
        (["p = dense(4, weights = he_normal)(u)", "h = tanh(p)", "emit h"], "W0109", 4),
        (["l = dense(4)", "h = l(u) + h", "emit h"], None, 0),
        (["h = tanh(h + u)", "emit h / sum(h, axis = 1, keepdims = true)"], None, 0),
    ],
)
def test_lines_in_the_body_of_a_scan(body: list[str], code: str | None, line: int) -> None:
    expected = [] if code is None else [f"{code} {line}"]
    assert [shown for shown in told(scanned(*body, output="dense(3)(h + mean(hs, axis = 1))"))] == expected


def test_probabilities_that_a_scan_emits_are_no_logits() -> None:
    (warning,) = found(scanned("h = tanh(h + u)", "emit softmax(h)", output="hs[:, 5, 0:3]"))
    assert warning.code == "W0106"
    assert [note.span and note.span.line for note in warning.notes] == [None, 5]


def test_rows_that_meet_in_the_body_of_a_scan() -> None:
    text = scanned("h = tanh(h + u)", "emit h - mean(h, axis = 0)", output="dense(3)(mean(hs, axis = 1))")
    assert [code for shown in told(text) if (code := shown.split()[0]) == "W0112"] == ["W0112"]


# Waivers


def test_suppressions_hold_for_their_line_and_codes() -> None:
    text = """fn f(x, y) {
    z = 2 * x  # dlc: ignore[W0102]
    # it stays # dlc: ignore[W0102, W0108]
    w = 3 * x  # of no other use
    v = 4 * x
    return x  # dlc: ignore[W0103]
}
# dlc: ignore
const name = "# dlc: ignore[W0102]"
"""
    assert told(text) == ["W0102 5", "W0113 6", "W0113 8"]
    assert told(text.replace("return x", "return nothing")) == ["E0201 6"]


def test_suppressions_hold_for_what_training_tells() -> None:
    text = "fn f(x) {\n    z = 2 * x # dlc: ignore[W0102]\n    y = 1\n    return x\n}\n" + model("f(x)")
    assert [d.span.line for d in program(text).warnings] == [3]


def test_suppressions_of_other_lints_may_serve_other_programs() -> None:
    assert told("fn f(x) {\n    return log(relu(x))  # dlc: ignore[W0108]\n}\n") == []


TOKENS = "tokens: i32[batch, 6] in 0..9 padded by mask"
EMBEDDED = "x = tokens |> embedding(9, 4)"
CAUSAL = "where(causal_mask(6, 6), x @ x.T, -inf)"


@pytest.mark.parametrize(
    "output",
    [
        "mean(x, axis = 1)",
        "softmax(dense(1)(x)[:, :, 0])",
        "max(x |> dense(3) |> relu, axis = 1)",
        "sum(reshape(x, batch, 6, 2, 2), axis = 1)",
        'mean(rearrange(x, "b t d -> b d t"), axis = -1)',
        "sum(dense(3)(where(mask[:, :, None], x, 0)), axis = 1)",
    ],
)
def test_a_reduction_that_takes_in_padding(output: str) -> None:
    assert "W0115 4" in told(model(output, EMBEDDED, inputs=TOKENS))


@pytest.mark.parametrize(
    "output",
    [
        "mean(x, axis = 1, where = mask)",
        "mean(x, axis = 2) * mask",
        "sum(where(mask[:, :, None], x, 0), axis = 1)",
        "sum(x * cast(mask, x)[:, :, None], axis = 1) / max(sum(cast(mask, f32), axis = 1), 1)[:, None]",
        "sum(where(tokens[:, :, None] == 0, 0, x), axis = 1) * mask[:, :1]",
        f"(softmax({CAUSAL}) @ x) * mask[:, :, None]",
        "attention(2)(x, x, x, where = mask)",
    ],
)
def test_a_reduction_that_leaves_padding_out(output: str) -> None:
    assert told(model(output, EMBEDDED, inputs=TOKENS)) == []


def test_a_loss_over_padding() -> None:
    text = (
        model("x |> dense(9)", EMBEDDED, inputs=TOKENS)
        + "\ntrain M {\n    target next: i32[batch, 6] in 0..9\n    loss = cross_entropy(y, next)\n"
        "    metrics = [accuracy(y, next, where = mask)]\n    optimizer = adam()\n    batch = 4\n}\n"
    )
    assert told(text) == ["W0115 9"]
    assert told(text.replace("(y, next)\n", "(y, next, where = mask)\n")) == []


# What training tells


def test_a_program_that_is_trained_has_the_warnings_of_check(tmp_path: Path) -> None:
    path = tmp_path / "model.dl"
    path.write_text(trained("softmax(dense(3)(x))"), encoding="utf-8")
    for _ in range(2):  # the second from the cache
        assert [warning.code for warning in load(path, None, ()).warnings] == ["W0106"]
    path.write_text(path.read_text("utf-8").replace("label)\n", "label)  # dlc: ignore[W0106]\n"), encoding="utf-8")
    assert load(path, None, ()).warnings == ()
