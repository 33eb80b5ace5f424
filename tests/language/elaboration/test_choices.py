"""Integers that choose classes or elements: what of declared ranges is refused, and above all what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from compiler.errors.diagnostics import Source, SourceError
from compiler.programs.load import findings, load


def told(text: str) -> list[str]:
    """`CODE line` of each finding."""
    return [f"{d.code} {d.span.line}" for d in findings(Source("model.dl", text), None)[0]]


def classifier(limits: str, loss: str, metrics: str = "[]", before: str = "", more: str = "", target: str = "") -> str:
    """Three classes; the target stands in line 6, counted without what stands before."""
    return (
        f"{before}model M {{\n    input x: f32[batch, 4]\n    output y = dense(3)(x)\n}}\n"
        f"train M {{\n    target label: {target or 'i32[batch]'} in {limits}\n{more}    loss = {loss}\n"
        f"    metrics = {metrics}\n    optimizer = adam()\n    batch = 8\n}}\n"
    )


def embedded(limits: str, output: str, before: str = "") -> str:
    return f"{before}model M {{\n    input tokens: i32[batch, 5] in {limits}\n    output y = {output}\n}}\n"


_CHOOSING = {
    "cross_entropy": "cross_entropy(y, label)",
    "smoothed": "cross_entropy(smoothing = 0.1)(y, label)",
    "weighted by class": "cross_entropy(class_weights = [1.0, 2.0, 3.0])(y, label)",
    "nll": "nll(log_softmax(y), label)",
    "of probabilities": "sparse_categorical_cross_entropy(softmax(y), label)",
    "one_hot": "mse(y, one_hot(3)(label))",
    "picked by row": "mean(-gather(log_softmax(y), label))",
    "a table of weights": "mean(tensor([1.0, 2.0, 3.0])[label] * mean(y ^ 2, axis = -1))",
    "after arithmetic": "cross_entropy(y, 2 * label - label)",
    "after a reshape": "cross_entropy(y, reshape(label[:, None], batch))",
    "after another remainder": "cross_entropy(y, label % 5)",
}


@pytest.mark.parametrize("loss", _CHOOSING.values(), ids=_CHOOSING)
def test_a_range_beyond_the_classes_is_a_mistake(loss: str) -> None:
    assert told(classifier("0..3", loss)) == []
    assert told(classifier("0..4", loss)) == ["E0421 6"]
    assert told(classifier("-1..3", loss)) == ["E0421 6"]


@pytest.mark.parametrize("metric", ["accuracy", "top_k_accuracy(k = 2)", "macro_f1", "perplexity"])
def test_metrics_choose_as_well(metric: str) -> None:
    loss = "mse(y, x[:, 0:3])"
    assert told(classifier("0..3", loss, f"[{metric}(y, label)]")) == []
    assert told(classifier("1..4", loss, f"[{metric}(y, label)]")) == ["E0421 6"]


_RIGHT = {
    "masked below 0": ("-1..3", "cross_entropy(y, label, where = label >= 0)"),
    "masked by a value": ("-100..3", "cross_entropy(y, label, where = label != -100)"),
    "counted from 1": ("1..4", "cross_entropy(y, label - 1)"),
    "clipped": ("-5..9", "cross_entropy(y, min(max(label, 0), 2))"),
    "a remainder": ("0..100", "cross_entropy(y, label % 3)"),
    "divided": ("0..6", "cross_entropy(y, label // 2)"),
    "replaced": ("-1..3", "cross_entropy(y, where(label >= 0, label, 0))"),
    "left out behind": ("-1..3", "mean(where(label >= 0, -gather(log_softmax(y), label), 0))"),
    "times 0": ("-1..3", "mean(-gather(log_softmax(y), label) * cast(label >= 0, f32))"),
    "seldom in a product": ("-1..3", "sum(one_hot(3)(label) * y * cast(label >= 0, f32)[:, None]) / batch"),
}


@pytest.mark.parametrize(("limits", "loss"), _RIGHT.values(), ids=_RIGHT)
def test_what_the_text_leaves_out_is_right(limits: str, loss: str) -> None:
    assert told(classifier(limits, loss)) == []


def test_a_mask_of_the_data_may_leave_out_what_has_no_class() -> None:
    text = classifier("-1..3", "cross_entropy(y, label, where = known)", more="    target known: bool[batch]\n")
    assert told(text) == []
    weighted = "mean(weight * -gather(log_softmax(y), label))"
    assert told(classifier("-1..3", weighted, more="    target weight: f32[batch]\n")) == []


def test_a_label_that_does_not_count_may_be_no_class() -> None:
    for loss in ("cross_entropy(ignore = -1)(y, label)", "nll(ignore = -1, smoothing = 0.1)(log_softmax(y), label)"):
        assert told(classifier("-1..3", loss, "[accuracy(y, label, where = label >= 0)]")) == []
        assert told(classifier("-2..3", loss)) == ["E0421 6"]
        assert told(classifier("-1..3", loss, "[accuracy(y, label)]")) == ["E0421 6"]
    (mistake,) = findings(Source("model.dl", classifier("-1..3", "cross_entropy(y, label)")), None)[0]
    assert "`where = label >= 0`, or in a loss `ignore = -1`" in mistake.notes[0].message


def test_a_mask_of_padding_leaves_out_no_class() -> None:
    text = (
        "model M {\n    input tokens: i32[batch, 5] in 0..9 padded by mask\n"
        "    output y = dense(9)(embedding(9, 4)(tokens))\n}\n"
        "train M {\n    target next: i32[batch, 5] in 0..10\n    loss = cross_entropy(y, next, where = mask)\n"
        "    optimizer = adam()\n    batch = 8\n}\n"
    )
    assert told(text) == ["E0421 6"]
    assert told(text.replace("0..10", "0..9")) == []


_PICKING = {
    "embedding": "embedding(40, 8)(tokens)",
    "normalised": "layer_norm(embedding(40, 8)(tokens))",
    "shifted": "embedding(40, 8)(tokens + 0 * tokens)",
    "in a scan": "walked(tokens)",
    "a table of its own": "looked_up(tokens)",
}
_OWN = (
    "layer looked_up(t: i32[..., n]) {\n    param W: [40, 8] = normal()\n    return W[t]\n}\n"
    "layer walked(t: i32[b, n]) {\n    param W: [40, 8] = normal()\n"
    "    h = scan token in t over n carry h = zeros(b, 8) {\n        h = tanh(h + W[token])\n    }\n    return h\n}\n"
)


@pytest.mark.parametrize("output", _PICKING.values(), ids=_PICKING)
def test_a_range_beyond_a_table_is_a_mistake(output: str) -> None:
    line = _OWN.count("\n") + 2
    assert told(embedded("0..40", output, _OWN)) == []
    assert told(embedded("0..41", output, _OWN)) == [f"E0421 {line}"]


def test_tokens_that_are_masked_afterwards_may_be_anything() -> None:
    assert told(embedded("-1..40", "where(tokens[:, :, None] >= 0, embedding(40, 8)(tokens), 0)")) == []
    assert told(embedded("0..100", "embedding(40, 8)(tokens % 40)")) == []


def test_a_comparison_of_ones_own_is_a_warning() -> None:
    own = "-mean(sum(where(label[:, None] == arange(3), log_softmax(y), 0), axis = -1))"
    assert told(classifier("0..3", own)) == []
    assert told(classifier("0..4", own)) == ["W0117 6"]
    share = "[mean(where(argmax(y, axis = -1) == label, 1.0, 0.0))]"
    assert told(classifier("1..4", "cross_entropy(y, label - 1)", share)) == ["W0117 6"]


def test_a_sequence_is_not_extended_by_tokens_that_the_input_lacks() -> None:
    text = (
        "model M {\n    input tokens: i32[batch, 5]\n    output y = dense(70)(embedding(40, 8)(tokens))\n}\n"
        "generate M {\n    feed tokens from y\n    start = [1]\n}\n"
    )
    assert told(text) == ["E0421 2"]
    assert told(text.replace("70", "40")) == []


def test_training_refuses_it_as_check_does(tmp_path: Path) -> None:
    path = tmp_path / "model.dl"
    path.write_text(classifier("0..4", "cross_entropy(y, label)"), encoding="utf-8")
    with pytest.raises(SourceError, match="chooses among 3 classes"):
        load(path, None, ())
