"""Ways of sampling: which tokens are kept, how often each is drawn, and that a seed and a position decide a draw."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from elaboration import program, run_graph

import dlc
from compiler.frontend.program import Program

_LOGITS = np.random.default_rng(3).normal(scale=2.0, size=(3, 17)).astype(np.float32)


def _generating(way: str, classes: int = 17, text: str = "") -> Program:
    model = (
        f"{text}\nmodel M {{\n    input tokens: i32[batch, 4] in 0..{classes}\n"
        f"    output logits = tokens |> embedding({classes}, {classes})\n}}\n"
        f"generate M {{\n    feed tokens from logits\n    sample = {way}\n}}\n"
    )
    return program(model)


def _drawn(way: str, logits: Any, seed: int = 0, step: int = 0, text: str = "") -> Any:
    found = _generating(way, logits.shape[1], text)
    assert found.generation is not None
    settings = {s.name: np.array(s.value, np.float32) for s in found.settings if s.is_runtime}
    given = {"logits": logits, **settings}
    names = {entry.name for entry in found.generation.sampler.inputs}
    inputs = {name: value for name, value in given.items() if name in names}
    (drawn,) = run_graph(found.generation.sampler, inputs, len(logits), seed, step).values()
    return drawn


def _softmax(x: Any) -> Any:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("target", ["reference", "native"])
@pytest.mark.parametrize("k", [1, 2, 5, 16, 17, 30])
def test_keep_top_keeps_the_largest(k: int, target: str) -> None:
    keep = dlc.function(f"fn f(x) = keep_top({k})(x)", "f", target=target)
    kept = np.isfinite(keep(_LOGITS))
    least = -np.sort(-_LOGITS, axis=1)[:, min(k, 17) - 1 : min(k, 17)]
    np.testing.assert_array_equal(kept, least <= _LOGITS)


@pytest.mark.parametrize("target", ["reference", "native"])
@pytest.mark.parametrize("p", [0.01, 0.3, 0.6, 0.95, 1.0])
def test_keep_nucleus_keeps_the_fewest_of_that_probability(p: float, target: str) -> None:
    keep = dlc.function(f"fn f(x) = keep_nucleus({p})(x)", "f", target=target)
    kept = np.isfinite(keep(_LOGITS)).sum(axis=1)
    shares = np.cumsum(-np.sort(-_softmax(_LOGITS.astype(np.float64)), axis=1), axis=1)
    np.testing.assert_array_equal(kept, 17 if p == 1 else (shares < p).sum(axis=1) + 1)


def test_excluded_tokens_stay_excluded() -> None:
    logits = np.where(np.arange(17) < 3, _LOGITS, -np.inf).astype(np.float32)
    for way in ("temperature(2.0)", "top_k(9)", "top_p(0.9)"):
        for step in range(20):
            assert (_drawn(way, logits, step=step) < 3).all()


def test_greedy_takes_the_most_likely() -> None:
    np.testing.assert_array_equal(_drawn("greedy", _LOGITS), _LOGITS.argmax(axis=1))


@pytest.mark.parametrize(
    ("way", "shares"),
    [
        ("temperature(1.0)", lambda p: p),
        ("temperature(0.5)", lambda p: p**2 / (p**2).sum()),
        ("top_k(2)", lambda p: np.where(p >= np.sort(p)[-2], p, 0) / np.sort(p)[-2:].sum()),
        ("top_p(0.7, k = 3)", lambda p: np.where(p >= np.sort(p)[-2], p, 0) / np.sort(p)[-2:].sum()),
    ],
)
def test_tokens_are_drawn_as_often_as_they_should_be(way: str, shares: Any) -> None:
    likely = np.array([0.4, 0.3, 0.2, 0.1])
    rows = 20_000
    drawn = _drawn(way, np.tile(np.log(likely).astype(np.float32), (rows, 1)))
    found = np.bincount(drawn, minlength=4) / rows
    # three deviations of a share of 1/2 over that many draws
    np.testing.assert_allclose(found, shares(likely), atol=3 * 0.5 / rows**0.5)


def test_a_draw_depends_on_seed_position_and_row_alone() -> None:
    logits = np.zeros((6, 40), np.float32)
    first = _drawn("temperature(1.0)", logits, seed=5, step=9)
    np.testing.assert_array_equal(_drawn("temperature(1.0)", logits[:2], seed=5, step=9), first[:2])
    assert len(set(first.tolist())) > 1
    assert (_drawn("temperature(1.0)", logits, seed=6, step=9) != first).any()
    assert (_drawn("temperature(1.0)", logits, seed=5, step=10) != first).any()


def test_beam_scores_are_logarithms_of_probabilities() -> None:
    np.testing.assert_allclose(_drawn("beam(4)", _LOGITS), np.log(_softmax(_LOGITS)), rtol=1e-5)


def test_a_way_of_sampling_of_ones_own() -> None:
    text = (
        "fn second(logits) = argmax(where(logits == max(logits, axis = -1, keepdims = true), -inf, logits), axis = -1)"
    )
    np.testing.assert_array_equal(_drawn("second", _LOGITS, text=text), np.argsort(_LOGITS, axis=1)[:, -2])


def test_numbers_that_reach_only_arithmetic_are_settings_of_run_time() -> None:
    settings = {s.name: s for s in _generating("top_k(4, temperature = 0.7)").settings}
    assert settings["generate.sample.temperature"].is_runtime
    assert not settings["generate.sample.k"].is_runtime
