"""Rates, probabilities, decays and the like have a range, wherever they are set, and stay numbers of the run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from decoding_models import CAUSAL
from elaboration import codes, mistakes, program

from compiler.errors.diagnostics import Diagnostic, SourceError
from compiler.frontend.library import library_modules
from compiler.syntax import tree
from compiler.syntax.walk import expressions_in, is_requirement, statements_of, values_of

TEXT = """model M(v = {good}) {{
    input x: f32[batch, 3, 8, 8]
    input s: f32[batch, 6, 4]
    output y = {call}
    output logits = s[:, 0] |> dense(4)
}}

train M {{
    target label: i32[batch] in 0..4
    target t: f32[batch, 4]
    loss = {loss}
    optimizer = {optimizer}
    batch = 2
{entries}}}
"""
NEGATIVE, NO_SHARE, NO_PROBABILITY = ("-0.2",), ("-0.2", "1.0", "1.5"), ("-0.2", "1.5")

# A call with the setting `v`, a good value of it, and bad ones.
OF_THE_MODEL = (
    ("dropout(v)(s)", "0.5", NO_SHARE),
    ("optional_dropout(v)(s)", "0.0", NO_SHARE),
    ("spatial_dropout(v)(x)", "0.5", NO_SHARE),
    ("stochastic_depth(v)(x)", "0.5", NO_SHARE),
    ("mbconv(3, drop = v)(x)", "0.5", NO_SHARE),
    ("mbconv(6, drop = v)(x)", "0.5", NO_SHARE),
    ("mbconv(3, squeeze = v)(x)", "0.5", NEGATIVE),
    ("attention(2, drop = v)(s, s, s)", "0.5", NO_SHARE),
    ("encoder_block(2, 8, drop = v)(s)", "0.5", NO_SHARE),
    ("decoder_block(2, 8, drop = v)(s, s)", "0.5", NO_SHARE),
    ("gru(3, drop = v)(s)", "0.5", NO_SHARE),
    ("lstm(3, recurrent_drop = v)(s)", "0.5", NO_SHARE),
    ("stacked(gru(4), 2, drop = v)(s)", "0.5", NO_SHARE),
    ("batch_norm(momentum = v)(x)", "1.0", NO_PROBABILITY),
    ("batch_norm(eps = v)(x)", "0.0", NEGATIVE),
    ("conv_norm(4, 3, eps = v)(x)", "0.0", NEGATIVE),
    ("layer_norm(eps = v)(s)", "0.0", NEGATIVE),
    ("rms_norm(eps = v)(s)", "0.0", NEGATIVE),
    ("group_norm(3, eps = v)(x)", "0.0", NEGATIVE),
    ("sinusoidal_positions(base = v)(s)", "10.0", ("-1.0", "0.0")),
    ("rotary(base = v)(s)", "10.0", ("-1.0", "0.0")),
    ("dense(3, weights = normal(std = v))(s)", "0.0", NEGATIVE),
    ("dense(3, weights = truncated_normal(std = v))(s)", "0.0", NEGATIVE),
    ("dense(3, weights = uniform(low = v))(s)", "0.0", ("0.1",)),
)
OF_LOSSES = (
    ("mmd(bandwidth = v)(logits, t)", "1.0", ("0.0", "-1.0")),
    ("info_nce(temperature = v)(logits, t)", "1.0", ("0.0", "-1.0")),
    ("nt_xent(temperature = v)(logits, t)", "1.0", ("0.0", "-1.0")),
    ("supervised_contrastive(temperature = v)(logits, label)", "1.0", ("0.0", "-1.0")),
    ("triplet_hard(margin = v)(logits, label)", "0.0", NEGATIVE),
    ("huber(delta = v)(logits, t)", "0.5", ("0.0", "-1.0")),
    ("binary_cross_entropy(eps = v)(sigmoid(logits), t)", "0.0", ("-0.2", "0.5")),
    ("cross_entropy(logits, label, smoothing = v)", "1.0", NO_PROBABILITY),
    ("nll(log_softmax(logits), label, smoothing = v)", "0.0", NO_PROBABILITY),
    ("categorical_cross_entropy(eps = v)(softmax(logits), softmax(t))", "0.0", NEGATIVE),
    ("categorical_cross_entropy(smoothing = v)(softmax(logits), softmax(t))", "0.1", NO_PROBABILITY),
    ("sparse_categorical_cross_entropy(eps = v)(softmax(logits), label)", "0.0", NEGATIVE),
    ("kl_divergence(eps = v)(softmax(logits), softmax(t))", "0.0", NEGATIVE),
)
OF_AUGMENTATIONS = (
    ("random_flip(v)", "1.0", NO_PROBABILITY),
    ("random_translation(v)", "0.0", NO_PROBABILITY),
    ("random_rotation(v)", "0.0", NEGATIVE),
    ("random_scale(v)", "1.1", ("0.0", "1.2")),
    ("color_jitter(brightness = v)", "0.0", NEGATIVE),
    ("color_jitter(contrast = v)", "0.0", NEGATIVE),
    ("color_jitter(saturation = v)", "0.0", NEGATIVE),
    ("gaussian_noise(v)", "0.0", NEGATIVE),
)
# A way of sampling with a good value, a setting of it, and bad values.
OF_SAMPLING = (
    ("temperature(0.5)", "value", ("-1.0", "0.0", "1e-31")),
    ("top_k(2, temperature = 0.5)", "temperature", ("-1.0", "0.0", "1e-31")),
    ("top_p(0.5, temperature = 0.5)", "temperature", ("-1.0", "0.0", "1e-31")),
    ("top_p(1.0)", "p", ("0.0", "1.5")),
)
# An entry of `train` that names a form with a good value, a setting of it, and bad values.
OF_TRAIN = (
    ("optimizer = gradient_descent(lr = 0.0)", "lr", NEGATIVE),
    ("optimizer = gradient_descent(weight_decay = 0.0)", "weight_decay", NEGATIVE),
    ("optimizer = momentum(momentum = 0.0)", "momentum", NO_SHARE),
    ("optimizer = momentum(weight_decay = 0.0)", "weight_decay", NEGATIVE),
    ("optimizer = nesterov(momentum = 0.0)", "momentum", NO_SHARE),
    ("optimizer = nesterov(weight_decay = 0.0)", "weight_decay", NEGATIVE),
    ("optimizer = adam(beta1 = 0.0)", "beta1", NO_SHARE),
    ("optimizer = adam(beta2 = 0.0)", "beta2", NO_SHARE),
    ("optimizer = adam(eps = 0.0)", "eps", NEGATIVE),
    ("optimizer = adamw(beta1 = 0.0)", "beta1", NO_SHARE),
    ("optimizer = adamw(beta2 = 0.0)", "beta2", NO_SHARE),
    ("optimizer = adamw(eps = 0.0)", "eps", NEGATIVE),
    ("optimizer = adamw(weight_decay = 0.0)", "weight_decay", NEGATIVE),
    ("optimizer = adadelta(rho = 0.0)", "rho", NO_SHARE),
    ("optimizer = adadelta(eps = 1e-6)", "eps", ("-0.2", "0.0")),
    ("optimizer = adagrad(eps = 0.0)", "eps", NEGATIVE),
    ("optimizer = rmsprop(rho = 0.0)", "rho", NO_SHARE),
    ("optimizer = rmsprop(eps = 0.0)", "eps", NEGATIVE),
    ("optimizer = newton(damping = 0.0)", "damping", NEGATIVE),
    ("optimizer = newton_cg(damping = 0.0)", "damping", NEGATIVE),
    ("optimizer = newton_cg(tolerance = 0.0)", "tolerance", NEGATIVE),
    ("optimizer = lion(beta1 = 0.0)", "beta1", NO_SHARE),
    ("optimizer = lion(beta2 = 0.0)", "beta2", NO_SHARE),
    ("optimizer = lion(weight_decay = 0.0)", "weight_decay", NEGATIVE),
    ("optimizer = lamb(beta1 = 0.0)", "beta1", NO_SHARE),
    ("optimizer = lamb(beta2 = 0.0)", "beta2", NO_SHARE),
    ("optimizer = lamb(eps = 0.0)", "eps", NEGATIVE),
    ("optimizer = lamb(weight_decay = 0.0)", "weight_decay", NEGATIVE),
    ("optimizer = adafactor(beta2_decay = 0.0)", "beta2_decay", ("0.5",)),
    ("optimizer = adafactor(eps = 0.0)", "eps", NEGATIVE),
    ("optimizer = adafactor(limit = 0.5)", "limit", ("0.0", "-1.0")),
    ("optimizer = adafactor(weight_decay = 0.0)", "weight_decay", NEGATIVE),
    ("optimizer = [muon(on = matrices, momentum = 0.0), adam()]", "0.momentum", NO_SHARE),
    ("optimizer = [muon(on = matrices, weight_decay = 0.0), adam()]", "0.weight_decay", NEGATIVE),
    ("optimizer = sam(rho = 0.0)", "rho", NEGATIVE),
    ("optimizer = sam(momentum = 0.0)", "momentum", NO_SHARE),
    ("optimizer = sam(weight_decay = 0.0)", "weight_decay", NEGATIVE),
    ("schedule = trapezoid(T = total_steps)", "T", ("0", "-1")),
    ("schedule = trapezoid(T = total_steps, warm = 0.5)", "warm", NO_PROBABILITY),
    ("schedule = trapezoid(T = total_steps, cool = 0.5)", "cool", NO_PROBABILITY),
    ("schedule = trapezoid(T = 10)", "floor", NEGATIVE),
    ("schedule = step(10, factor = 0.5)", "factor", ("-0.2", "0.0")),
    ("schedule = step(10)", "every", ("0", "-1")),
    ("schedule = exponential(0.9)", "factor", ("-0.2", "0.0")),
    ("schedule = linear(T = total_steps)", "T", ("0", "-1")),
    ("schedule = linear(T = total_steps)", "floor", NEGATIVE),
    ("schedule = polynomial(T = 10, power = 1.0)", "power", ("-0.2", "0.0")),
    ("schedule = polynomial(T = 10)", "floor", NEGATIVE),
    ("schedule = cosine(T = total_steps)", "floor", NEGATIVE),
    ("schedule = warm_restarts(10)", "mult", ("0",)),
    ("schedule = warm_restarts(10)", "floor", NEGATIVE),
    ("schedule = warmup(10, cosine(T = total_steps))", "steps", ("-1",)),
    ("schedule = one_cycle(T = total_steps, warm = 0.5)", "warm", ("0.0", "1.0")),
    ("schedule = one_cycle(T = 10)", "start", ("0.0",)),
    ("schedule = one_cycle(T = 10, end = 2.0)", "end", ("0.0",)),
    ("schedule = reduce_on_plateau(factor = 1.0)", "factor", ("0.0", "1.5")),
    ("schedule = reduce_on_plateau(patience = 1)", "patience", ("0",)),
    ("schedule = reduce_on_plateau(min_change = 0.0)", "min_change", NEGATIVE),
    ("schedule = reduce_on_plateau(floor = 0.0)", "floor", NO_PROBABILITY),
    ("clip = value(1.0)", "limit", ("0.0", "-1.0")),
    ("clip = norm(1.0)", "limit", ("0.0", "-1.0")),
    ("clip = global_norm(1.0)", "limit", ("0.0", "-1.0")),
    ("penalty = l1(0.0)", "weight", NEGATIVE),
    ("penalty = l2(0.0)", "weight", NEGATIVE),
    ("penalty = l1_l2(0.0, 0.0)", "absolute", NEGATIVE),
    ("penalty = l1_l2(0.0, 0.0)", "squared", NEGATIVE),
)
# Settings that decide what a program is made of, or stand in it in the form of another number.
DECIDE = ("optional_dropout", "squeeze", "attention", "_block", "gru", "lstm", "weights", "mbconv(6", "base", ".end")


def text_of(
    call: str = "s", good: str = "1.0", loss: str = "mse(logits, t)", optimizer: str = "adam", entries: str = ""
) -> str:
    return TEXT.format(good=good, call=call, loss=loss, optimizer=optimizer, entries=entries)


def augmented(call: str, good: str) -> str:
    return text_of(good=good, entries=f"    augment {{\n        x = x |> {call}\n    }}\n")


def texts() -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """What is named in a message, the program, the setting, and bad values of it."""
    for call, good, bad in OF_THE_MODEL:
        yield call, text_of(call, good), "v", bad
    for call, good, bad in OF_LOSSES:
        yield call, text_of(good=good, loss=call), "v", bad
    for call, good, bad in OF_AUGMENTATIONS:
        yield call, augmented(call, good), "v", bad
    for way, setting, bad in OF_SAMPLING:
        yield way, CAUSAL["each by itself"].replace("greedy", way), f"generate.sample.{setting}", bad
    for entry, setting, bad in OF_TRAIN:
        key, _, form = entry.partition(" = ")
        text = text_of(optimizer=form) if key == "optimizer" else text_of(entries=f"    {entry}\n")
        yield entry, text, f"{key}.{setting}", bad


CASES = tuple(texts())


@pytest.mark.parametrize(("name", "text", "setting", "bad"), CASES, ids=[f"{case[0]} {case[2]}" for case in CASES])
def test_a_setting_has_a_range(name: str, text: str, setting: str, bad: tuple[str, ...]) -> None:
    (found,) = [entry for entry in program(text).settings if entry.name == setting]
    is_number_of_the_run = isinstance(found.value, float) and not any(part in f"{name} {setting}" for part in DECIDE)
    assert found.is_runtime == is_number_of_the_run
    for value in bad:
        mistake = mistake_of(text, setting, value)
        assert mistake.code == "E0315"
        assert value in mistake.message
        assert mistake.span.text.strip("`") in text or setting in mistake.span.text
        if "." in value:
            (note,) = [note for note in mistake.notes if note.message.startswith("the setting")]
            assert note.message == f"the setting `{setting}` is {value}"
            assert note.span is not None
            assert note.span.text == f"--set {setting}={value}"


def mistake_of(text: str, setting: str, value: str) -> Diagnostic:
    with pytest.raises(SourceError) as raised:
        program(text, (setting, value))
    (found,) = raised.value.diagnostics
    return found


def test_a_value_in_the_text_has_the_same_range() -> None:
    with pytest.raises(SourceError) as raised:
        program(text_of(optimizer="momentum(momentum = 1.5)"))
    (found,) = raised.value.diagnostics
    assert found.message == "`momentum` of `momentum` is at least 0 and below 1, not 1.5"
    assert found.span.text == "momentum(momentum = 1.5)"
    assert [note.message for note in found.notes if "setting" in note.message] == [
        "the setting `optimizer.momentum` is 1.5"
    ]


def test_a_rate_that_follows_from_a_setting_names_it() -> None:
    mistake = mistake_of(text_of("dropout(2 * v)(s)", "0.25"), "v", "0.75")
    assert mistake.message == "`rate` of `dropout` is at least 0 and below 1, not 1.5"
    assert "the setting `v` is 0.75" in [note.message for note in mistake.notes]


def test_a_requirement_decides_nothing_and_what_only_the_run_knows_is_not_judged() -> None:
    own = "schedule part(T: int, a = 0.5)(lr, t) {\n    require(a < T, a)\n    return a * lr\n}\n"
    for length in ("9", "total_steps"):
        found = program(own + text_of(entries=f"    schedule = part({length}, 0.25)\n"))
        assert [entry.is_runtime for entry in found.settings if entry.name == "schedule.a"] == [True]
    assert codes(mistakes(own + text_of(entries="    schedule = part(0)\n"), elaborates=True)) == ["E0315"]


# Floats for which any number has a meaning, and those that go to another declaration, which judges them.
FREE = {
    "forget": "the start of a bias",
    "start": "the start of a slope, of either sign; `one_cycle` judges its own",
    "slope": "of either sign",
    "alpha": "a factor of either sign; `mixup` judges its own",
    "beta": "a factor of either sign",
    "gain": "a factor of either sign",
    "scale": "a factor of either sign",
    "mean": "of either sign",
    "value": "a start value or a filling; `temperature` judges its own",
    "threshold": "scores are of either sign",
    "length_penalty": "a power of either sign",
    "decrease": "of the line search, which no user calls",
    "curvature": "of the line search, which no user calls",
    "weight": "of `level`, which gets what its callers have judged; penalties judge their own",
    "high": "a bound that is judged with `low`",
    "temperature": "judged by all who take it",
}
PASSED_ON = {
    ("attention", "drop"): "dropout",
    ("encoder_block", "drop"): "dropout",
    ("decoder_block", "drop"): "dropout",
    ("stacked", "drop"): "dropout",
    ("conv_norm", "eps"): "batch_norm",
    ("inception", "eps"): "conv_norm",
    ("group_norm", "eps"): "standardise_groups",
    ("sinusoidal_positions", "base"): "angles",
    ("sinusoids", "base"): "angles",
    ("rotary", "base"): "angles",
    ("top_p", "p"): "keep_nucleus",
    ("mmd", "bandwidth"): "gaussian_kernel",
} | {
    (layer, setting): "with_masks"
    for layer in ("simple_rnn", "gru", "lstm", "peephole_lstm", "recurrence", "memory_recurrence")
    for setting in ("drop", "recurrent_drop")
}


def floats_of_the_library() -> Iterator[tuple[str, str, bool]]:
    """Declarations, their settings that are floats, and whether a requirement looks at them."""
    for module in library_modules():
        for declaration in module.declarations:
            if not isinstance(declaration, tree.Callable):
                continue
            judged = {
                part.id
                for statement in statements_of(declaration.body)
                for value in values_of(statement)
                if is_requirement(value)
                for part in expressions_in(value)
                if isinstance(part, tree.Name)
            }
            for parameter in (p for group in declaration.groups for p in group):
                number = parameter.default
                if isinstance(number, tree.Number) and isinstance(number.value, float):
                    yield declaration.name, parameter.name, parameter.name in judged


def test_every_float_setting_of_the_library_is_judged() -> None:
    left = [
        (name, setting)
        for name, setting, is_judged in floats_of_the_library()
        if not is_judged and setting not in FREE and setting != "lr" and (name, setting) not in PASSED_ON
    ]
    assert left == []
    assert len(list(floats_of_the_library())) > 60
