"""Names and places of statements, in declarations that are used or not; imports; the programs of the design."""

from __future__ import annotations

from pathlib import Path

import pytest
from elaboration import codes, mistakes, modules, paths, program

from compiler.errors.diagnostics import Diagnostic
from compiler.frontend.elaborate import check, elaborate
from compiler.frontend.library import library_modules
from compiler.syntax.modules import load_modules


def found(text: str) -> list[str]:
    """The mistakes as `CODE line`."""
    return [f"{d.code} {d.span.line}" for d in mistakes(text)]


def warnings(text: str) -> list[Diagnostic]:
    return [d for d in check(modules(text)) if d.severity == "warning"]


def fn(*lines: str, head: str = "fn f(n: int)(x: [batch, d])") -> str:
    return "\n".join([f"{head} {{", *(f"    {line}" for line in lines), "}"])


SOUND = {
    "rebinding": ["x = x + 1", "x = 2 * x", "return x"],
    "both branches": ["if n > 0 { y = x } else { y = 2 * x }", "return y"],
    "a branch that returns": ["if n > 0 { return x } else { y = 2 * x }", "return y"],
    "else if": ["if n > 0 { y = x } else if n < 0 { y = 2 * x } else { y = 0 }", "return y"],
    "a name before the loop": ["y = x", "for i in 0..n { y = y + i }", "return y"],
    "a name of the round": ["for i in 0..n {", "    z = x + i", "    x = z", "}", "return x"],
    "discarded values": ["a, _ = split(x, 2)", "return a"],
    "a name of the library, bound": ["mean = mean(x)", "return mean + mean(x)"],
    "a scan that carries": [
        "y, s = scan xt in x over batch carry s = zeros(d) {", "    s = s + xt", "    emit s", "}", "return y + s",
    ],
}  # fmt: skip


@pytest.mark.parametrize("case", SOUND)
def test_sound_bodies(case: str) -> None:
    assert found(fn(*SOUND[case])) == []


BROKEN = {
    "an unknown name": (["return y"], "E0201 2"),
    "told once": (["a = y", "return y + a"], "E0201 2"),
    "one branch": (["if n > 0 { y = x }", "return y"], "E0203 3"),
    "a branch of a branch": (
        ["if n > 0 {", "    if n > 1 { y = x }", "} else { y = 2 * x }", "return y"], "E0203 5",
    ),
    "a name of the round": (["for i in 0..n { z = x }", "return z"], "E0203 3"),
    "a loop variable afterwards": (["for i in 0..n { x = x + i }", "return x + i"], "E0203 3"),
    "a setting": (["n = 3", "return x * n"], "E0204 2"),
    "a dimension": (["d = 3", "return x * d"], "E0204 2"),
    "a loop variable": (["for i in 0..n { i = 2 }", "return x"], "E0204 2"),
    "a setting as a loop variable": (["for n in 0..3 { x = x + n }", "return x"], "E0204 2"),
    "training": (["training = true", "return x"], "E0204 2"),
    "an unused value": (["x + 1", "return x"], "E0206 2"),
    "after a return": (["return x", "x = 2 * x"], "E0206 3"),
    "no result": (["x = 2 * x"], "E0207 1"),
    "a parameter": (["param p: [3] = zeros", "return x"], "E0205 2"),
    "a state": (["state p: [3] = zeros", "return x"], "E0205 2"),
    "an update": (["x <- 3", "return x"], "E0205 2"),
    "an emit": (["emit x", "return x"], "E0205 2"),
    "an output": (["output y = x", "return x"], "E0205 2"),
    "an unknown setting": (["return softmax(x, axes = 1)"], "E0301 2"),
    "an unknown setting of a built-in": (["return sum(x, axes = 1)"], "E0301 2"),
    "an initialiser as a value": (["return he_normal"], "E0201 2"),
    "an unknown element type": (["return cast(x, f8)"], "E0201 2"),
    "a scan that does not carry": (
        ["s = 0", "y = scan xt in x over batch { ", "    s = s + xt", "    emit s", "}", "return y"], "E0210 4",
    ),
    "a name of a scan": (
        ["y = scan xt in x over batch { emit xt }", "return xt + y"], "E0201 3",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_broken_bodies(case: str) -> None:
    lines, expected = BROKEN[case]
    assert expected in found(fn(*lines))
    assert len({place for place in found(fn(*lines)) if not place.startswith("E0205")}) <= 1


def test_parameters_are_distinct() -> None:
    assert found("fn f(a: int, a: int)(x) = a * x") == ["E0202 1"]
    assert found("fn f(a: int)(a) = a") == ["E0202 1"]


def test_one_name_in_two_namespaces() -> None:
    assert found("fn twice(x) = 2 * x\ninit twice(fan_in, fan_out, shape) = 2 * ones(shape)") == []


def test_nearest_names() -> None:
    for text, near in (
        ("fn f(x) = sofmax(x)", "softmax"),
        ("fn f(width: int)(x) = widht * x", "width"),
        ("fn f(x) = sum(x, keepdim = true)", "keepdims"),
        ("layer l(x: [n]) {\n    param w: [n] = glorot_unifrom\n    return w * x\n}", "glorot_uniform"),
    ):
        (shown,) = mistakes(text)
        assert f"`{near}`" in shown.notes[0].message


def test_what_is_not_used() -> None:
    body = "input x: f32[batch, 4]\n    input z: f32[batch, 4]\n    h = 2 * x\n    output y = b * x"
    text = f"model M(a = 1, b = 2) {{\n    {body}\n}}"
    assert [d.code for d in warnings(text)] == ["W0103", "W0101", "W0102"]
    assert warnings(text.replace("a = 1", "_a = 1").replace("z:", "_z:").replace("h =", "_h =")) == []
    train = "\ntrain M {\n    loss = mean(y - z) * a\n    optimizer = adam()\n    batch = 2\n}"
    assert [d.code for d in warnings(text + train)] == ["W0102"]


def test_a_model_has_an_output() -> None:
    assert found("model M {\n    input x: f32[batch, 2]\n    y = 2 * x\n}") == ["E0207 1"]
    branch = "    if true { output y = 2 * x }\n"
    assert found(f"model M {{\n    input x: f32[batch, 2]\n{branch}}}") == []


@pytest.mark.parametrize(
    ("head", "result"),
    [
        ("optimizer o(lr = 0.1)(p, g)", "p - lr * g"),
        ("optimizer o(p)", "p"),
        ("schedule s(lr)", "lr"),
        ("schedule s(a = 1)(lr, t, metric, more)", "a * lr"),
        ("init i(fan_in, shape)", "fan_in"),
    ],
)
def test_what_training_calls_takes_what_training_gives(head: str, result: str) -> None:
    assert found(f"{head} {{\n    return {result}\n}}") == ["E0211 1"]


def test_the_library_has_no_mistakes() -> None:
    assert [d for module in library_modules() for d in check((module,))] == []


def test_imports(tmp_path: Path) -> None:
    (tmp_path / "blocks.dl").write_text('import "base.dl"\nlayer block(x: [..., n]) = scaled(dense(n)(x))\n')
    (tmp_path / "base.dl").write_text("const SCALE = 3\nfn scaled(x) = SCALE * x\nfn relu(x) = x\n")
    main = tmp_path / "model.dl"
    main.write_text('import "blocks.dl"\nmodel M {\n    input x: f32[batch, 4]\n    output y = x |> block |> relu\n}\n')
    files = load_modules(main, None)
    assert paths(elaborate(files)) == ["y.block.dense.W", "y.block.dense.b"]
    # What an imported file imports is its own.
    main.write_text('import "blocks.dl"\nmodel M {\n    input x: f32[batch, 4]\n    output y = scaled(x)\n}\n')
    assert codes(list(check(load_modules(main, None)))) == ["E0201"]


def test_a_declaration_of_ones_own_takes_the_place_of_the_librarys() -> None:
    text = "layer dense(units: int)(x: [..., n]) {\n    param V: [n, units] = zeros\n    return x @ V\n}\n"
    assert paths(program(text + "model M {\n    input x: f32[batch, 4]\n    output y = x |> dense(3)\n}")) == [
        "y.dense.V"
    ]


# Programs of the design that this version compiles, as written there.

DESIGN = """
layer dense(units: int, bias = true, weights = glorot_uniform)(x: [..., n]) -> [..., units] {
    param W: [n, units] = weights
    z = x @ W
    if bias {
        param b: [units] = zeros
        z = z + b
    }
    return z
}

fn sigmoid(x) = 1 / (1 + exp(-x))
fn elu(alpha = 1.0)(x) = where(x > 0, x, alpha * (exp(x) - 1))
fn swish(beta = 1.0)(x) = x * sigmoid(beta * x)

layer batch_norm(momentum = 0.9, eps = 1e-5)(x: [batch, c, ...]) {
    param gamma: [c] = ones
    param beta: [c] = zeros
    state running_mean: [c] = zeros
    state running_var: [c] = ones
    if training {
        mu = mean(x, axis = except(c))
        var = variance(x, axis = except(c))
        running_mean <- momentum * running_mean + (1 - momentum) * mu
        running_var <- momentum * running_var + (1 - momentum) * var
    } else {
        mu = running_mean
        var = running_var
    }
    return align(gamma, x) * (x - align(mu, x)) / sqrt(align(var, x) + eps) + align(beta, x)
}

layer lstm(units: int)(x: [batch, time, n]) -> [batch, time, units] {
    param W: [n, 4 * units] = glorot_uniform
    param U: [units, 4 * units] = orthogonal
    param b: [4 * units] = zeros
    hs, h, c = scan xt in x over time carry h = zeros(batch, units), c = zeros(batch, units) {
        f, i, g, o = split(xt @ W + h @ U + b, 4)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(c)
        emit h
    }
    return hs
}

layer bidirectional(cell: layer)(x: [batch, time, n]) {
    back = fresh(cell)
    return concat(cell(x), reverse(back(reverse(x, time)), time), axis = -1)
}

layer bahdanau(units: int)(s: [batch, d], hs: [batch, time, e]) {
    score = dense(1, bias = false)(tanh(dense(units, bias = false)(s)[:, None] + dense(units)(hs)))
    a = softmax(score, axis = time)
    return sum(a * hs, axis = time), a
}

fn causal_mask(i: int, j: int) = arange(i)[:, None] >= arange(j)

layer attention(heads: int, causal = false)(q: [batch, i, d], k: [batch, j, e], v: [batch, j, e]) {
    Q = rearrange(dense(d)(q), "b i (h c) -> b h i c", h = heads)
    K = rearrange(dense(d)(k), "b j (h c) -> b h j c", h = heads)
    V = rearrange(dense(d)(v), "b j (h c) -> b h j c", h = heads)
    score = Q @ K.T / sqrt(d / heads)
    if causal { score = where(causal_mask(i, j), score, -inf) }
    return rearrange(softmax(score) @ V, "b h i c -> b i (h c)") |> dense(d)
}

optimizer adam(lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8)(p, g, t) {
    state m = zeros
    state v = zeros
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g ^ 2
    p - lr * (m / (1 - beta1 ^ t)) / (sqrt(v / (1 - beta2 ^ t)) + eps)
}

schedule cosine(T: int, floor = 0.0)(lr, t) = floor + 0.5 * (lr - floor) * (1 + cos(pi * min(t, T) / T))
schedule warmup(steps: int, then: schedule = constant)(lr, t) = where(
    t < steps, lr * (t + 1) / steps, then(lr, max(t - steps, 0))
)

model M(classes = 10) {
    input x: f32[batch, 6, 8]
    b = x |> bidirectional(dense(4)) |> batch_norm
    q = (b, b, b) |> attention(heads = 2, causal = true)
    summary, weights = bahdanau(5)(q[:, 0], q)
    output logits = summary |> elu |> swish |> dense(classes)
    output attended = weights
}

train M {
    target label: u8[batch] in 0..classes
    loss = cross_entropy(logits, label)
    metrics = [accuracy(logits, label)]
    optimizer = adam(lr = 1e-3)
    schedule = warmup(steps = 10, then = cosine(T = total_steps))
    epochs = 10
    batch = 64
    early_stop = patience(5)
    clip = norm(1.0)
    penalty = l2(1e-4, on = "*.W")
    seed = 0
}
"""


def test_programs_of_the_design() -> None:
    assert mistakes(DESIGN) == []
    compiled = program(DESIGN)
    weights = [path for path in paths(compiled) if path.endswith(".W")]
    assert weights == [
        "b.bidirectional.cell.W",
        "b.bidirectional.back.W",
        "q.attention.Q.dense.W",
        "q.attention.K.dense.W",
        "q.attention.V.dense.W",
        "q.attention.dense.W",
        "summary.bahdanau.score.dense_2.W",
        "summary.bahdanau.score.dense_3.W",
        "summary.bahdanau.score.dense.W",
        "logits.dense.W",
    ]
