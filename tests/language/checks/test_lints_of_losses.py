"""What the lints tell of losses and metrics: exchanged arguments, and losses that are not meant to fall."""

from __future__ import annotations

import pytest
from lint_texts import found, model, told, trained

# Arguments in each other's place


@pytest.mark.parametrize(
    "call",
    [
        "kl_divergence(one_hot(3)(label), softmax(y))",
        "cross_entropy(one_hot(3)(label), y)",
        "own(one_hot(3)(label), y)",
    ],
)
def test_exchanged_arguments_of_a_loss(call: str) -> None:
    own = "fn own(score: [...], target: [...]) = mean(score * log(1 + target ^ 2))\n"
    assert [t for t in told(trained("dense(3)(x)", loss=call, before=own)) if "W0118" in t] == ["W0118 9"]
    name, first, second = call.split("(", 1)[0], "one_hot(3)(label)", call.rsplit(", ", 1)[1][:-1]
    assert "W0118" not in " ".join(told(trained("dense(3)(x)", loss=f"{name}({second}, {first})", before=own)))


def test_exchanged_arguments_of_a_metric() -> None:
    assert told(trained("dense(3)(x)", metrics="[r2(x[:, 0], y[:, 0])]")) == ["W0118 11"]
    assert told(trained("dense(3)(x)", metrics="[r2(y[:, 0], x[:, 0])]")) == []


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("accuracy(label, y)", "E0416"),
        ("mse(label, y)", "E0416"),
        ("binary_accuracy(cast(label, u8), y)", "E0416"),
        ("accuracy(x[:, 0], y)", "E0616"),
        ("perplexity(x[:, 0], y)", "E0315"),
        ("class_precision(1)(x[:, 0], y)", "E0307"),
        ("macro_f1(one_hot(3)(label), y[:, 0])", "E0616"),
        ("hinge(x[:, 0], y)", "E0404"),
    ],
)
def test_a_mistake_that_comes_of_an_exchange_advises_to_exchange(call: str, code: str) -> None:
    (mistake,) = found(trained("dense(3)(x)", metrics=f"[{call}]"))
    assert mistake.code == code
    assert "exchange the two" in mistake.notes[-1].message
    assert "largest value" not in str(mistake.notes)


def test_sizes_that_do_not_agree_are_told_of_exchanged_arguments_too() -> None:
    (mistake,) = found(trained("dense(1)(x)", metrics="[mse(x[:, 0], y)]"))
    assert [note.message.split(" ")[0] for note in mistake.notes if note.kind == "hint"] == ["take", "exchange"]


def test_only_pixels_are_divided_by_their_largest_value() -> None:
    for inputs, is_told in (("x: u8[batch, 4]", True), ("x: i32[batch, 4]", False), ("x: bool[batch, 4]", False)):
        (mistake,) = found(model("dense(3)(x)", inputs=inputs))
        assert ("largest value" in mistake.notes[0].message) is is_told


def test_two_outputs_may_stand_in_either_place() -> None:
    assert told(trained("dense(3)(x)", loss="kl_divergence(softmax(y), stop_gradient(softmax(2 * y)))")) == []


def test_a_label_of_floats_is_a_distribution() -> None:
    (mistake,) = found(trained("dense(3)(x)", loss="cross_entropy(y, x[:, 0])"))
    assert (mistake.code, "classes are integers" in mistake.message) == ("E0315", True)
    (mistake,) = found(trained("dense(3)(x)", loss="cross_entropy(y, x[:, 0:1])"))
    assert (mistake.code, "classes are integers" in mistake.message) == ("E0315", True)
    assert told(trained("dense(3)(x)", loss="cross_entropy(y, x[:, 0:3])")) == []
    assert told(trained("dense(3)(x)", metrics="[accuracy(y, x[:, 0:1])]")) == ["W0118 11"]
    assert told(trained("dense(3)(x)", metrics="[accuracy(y, x[:, 0])]")) == ["E0616 11"]  # classes would be the rows
    assert told(trained("dense(3)(x)", metrics="[accuracy(y, x[:, 0:3])]")) == []


# Scores for probabilities


@pytest.mark.parametrize(
    ("output", "loss", "said"),
    [
        ("dense(3)(x)", "binary_cross_entropy(y, one_hot(3)(label))", "can be any number"),
        ("relu(dense(3)(x))", "binary_cross_entropy(y, one_hot(3)(label))", "can be above 1"),
        ("tanh(dense(3)(x))", "binary_cross_entropy(y, one_hot(3)(label))", "can be negative"),
        ("dense(3)(x)", "categorical_cross_entropy(y, one_hot(3)(label))", "can be any number"),
        ("dense(3)(x)", "sparse_categorical_cross_entropy(2 * y + 1, label)", "can be any number"),
        ("dense(3)(x)", "kl_divergence(y, one_hot(3)(label))", "can be any number"),
        ("dense(3)(x)", "nll(y, label)", "can be above 0"),
        ("dense(3)(x)", "nll(softmax(y), label)", "has the probabilities themselves"),
        ("sigmoid(dense(3)(x))", "binary_cross_entropy(y, one_hot(3)(label))", ""),
        ("tanh(dense(3)(x))", "binary_cross_entropy((y + 1) / 2, one_hot(3)(label))", ""),
        ("dense(3)(x)", "binary_cross_entropy(min(max(y, 0), 1), one_hot(3)(label))", ""),
        ("dense(3)(x)", "categorical_cross_entropy(softmax(y), one_hot(3)(label))", ""),
        ("dense(3)(x)", "categorical_cross_entropy(0.5 * softmax(y) + 0.5 * softmax(2 * y), one_hot(3)(label))", ""),
        ("dense(3)(x)", "kl_divergence(softmax(y), one_hot(3)(label))", ""),
        ("dense(3)(x)", "nll(log_softmax(y), label)", ""),
        ("dense(3)(x)", "binary_cross_entropy(exp(y) / (1 + exp(y)), one_hot(3)(label))", ""),
    ],
)
def test_a_loss_of_probabilities_takes_no_scores(output: str, loss: str, said: str) -> None:
    mistakes = [mistake for mistake in found(trained(output, loss=loss)) if mistake.code == "W0128"]
    assert bool(mistakes) is bool(said)
    assert all(said in mistake.message and mistake.span.line == 8 for mistake in mistakes)


@pytest.mark.parametrize("loss", ["binary_cross_entropy_with_logits", "hinge"])
@pytest.mark.parametrize(
    ("metric", "is_told"),
    [
        ("binary_accuracy(y, one_hot(3)(label))", True),
        ("f1(y[:, 0], one_hot(3)(label)[:, 0])", True),
        ("true_positives(y, one_hot(3)(label))", True),
        ("binned_auc(y, one_hot(3)(label))", True),
        ("binary_accuracy(sigmoid(y), one_hot(3)(label))", False),
        ("binary_accuracy(threshold = 0)(y, one_hot(3)(label))", False),
        ("binary_accuracy(threshold = 0.7)(y, one_hot(3)(label))", False),
        ("binned_auc(sigmoid(y), one_hot(3)(label))", False),
        ("binned_auc(low = -5.0, high = 5.0)(y, one_hot(3)(label))", False),
    ],
)
def test_a_metric_cuts_logits_at_zero(loss: str, metric: str, is_told: bool) -> None:
    text = trained("dense(3)(x)", loss=f"{loss}(y, one_hot(3)(label))", metrics=f"[{metric}]")
    assert told(text) == (["W0128 11"] if is_told else [])
    assert told(text.replace(f"{loss}(", "mse(")) == [], "a score that the loss brings near 0 and 1"


# Losses that are not meant to fall

_ADVERSARIES = """layer judge(x: [batch, n]) -> [batch] {
    param W: [n, 1] = glorot_uniform
    return (x @ W)[:, 0]
}

model M {
    input x: f32[batch, 4]
    made = dense(4)(random(batch, 8))
    d = judge
    output real = d(x)
    output fake = d(FAKE)
    output fooled = d(made)
}

train M {
    loss = mean(softplus(-real)) + mean(softplus(fake)) + mean(softplus(-fooled))
    optimizer = adam()
    batch = 8
}
"""


def test_adversaries_have_no_best_epoch() -> None:
    assert told(_ADVERSARIES.replace("FAKE", "stop_gradient(made)")) == ["W0121 16"]
    for last in ("restore = false", "early_stop = patience(9, restore = false)"):
        text = _ADVERSARIES.replace("FAKE", "stop_gradient(made)").replace("batch = 8\n}", f"batch = 8\n    {last}\n}}")
        assert told(text) == []
    assert told(_ADVERSARIES.replace("FAKE", "2 * made")) == []


def test_a_reversed_gradient_has_no_best_epoch() -> None:
    same = "fn through(x: [...]) = x gradient (x, y, dy) { return SIGN dy }\n"
    for sign, expected in (("-1 *", ["W0121 9"]), ("2 *", [])):
        assert told(trained("dense(3)(through(dense(4)(x)))", before=same.replace("SIGN", sign))) == expected


def test_a_straight_way_through_a_rounding_is_no_adversary() -> None:
    rounded = "h + stop_gradient(floor(h) - h)"
    assert told(trained(f"dense(3)({rounded})", "h = dense(4)(x)")) == []
    teacher = "mse(y, stop_gradient(2 * y)) + cross_entropy(y, label)"
    assert told(trained("dense(3)(x)", loss=teacher)) == []


def test_an_optimizer_that_climbs_has_no_best_epoch() -> None:
    own = "optimizer own(lr = 0.1)(p, g, t) {\n    p SIGN lr * g\n}\n"
    for sign, expected in (("+", ["W0121 11"]), ("-", [])):
        assert told(trained("dense(3)(x)", before=own.replace("SIGN", sign), optimizer="own()")) == expected
    for optimizer in ("adamw()", "rmsprop()", "adadelta()", "momentum(lr = 0.1)", "lbfgs()"):
        assert told(trained("dense(3)(x)", optimizer=optimizer)) == []
