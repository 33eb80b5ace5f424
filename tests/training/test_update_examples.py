"""The examples with `update` blocks reach what their pages promise, in fewer steps where these take long."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType

import dlc

EXAMPLES = Path(__file__).parents[2] / "examples"


@contextmanager
def imported(example: str, name: str) -> Generator[ModuleType]:
    """A script of an example, and nothing of it afterwards."""
    before, path = set(sys.modules), str(EXAMPLES / example)
    sys.path.insert(0, path)
    try:
        yield import_module(name)
    finally:
        sys.path.remove(path)
        for new in set(sys.modules) - before:
            if str(getattr(sys.modules[new], "__file__", "")).startswith(path):
                del sys.modules[new]


def test_the_generator_finds_all_eight_modes() -> None:
    model = dlc.load(EXAMPLES / "gan" / "model.dl")
    end = model.train().history[-1].scalars
    assert end["found"] == 8
    assert end["precise"] > 0.75


def test_a_classifier_reads_the_digits_that_are_made() -> None:
    judge = dlc.load(EXAMPLES / "digits" / "model.dl")
    judge.train()
    model = dlc.load(EXAMPLES / "wgan" / "model.dl", steps=500)
    model.train()
    with imported("wgan", "judge") as script:
        right, spread = script.judged(model, judge)
    assert right > 0.9
    assert 0.7 < spread < 1.3


def test_convolutions_make_digits_of_every_kind() -> None:
    judge = dlc.load(EXAMPLES / "digits" / "model.dl")
    judge.train()
    model = dlc.load(EXAMPLES / "dcgan" / "model.dl", epochs=40)
    model.train()
    with imported("dcgan", "judge") as script:
        sure, rarest, spread = script.judged(model, judge)
    assert sure > 0.45
    assert rarest > 0.02
    assert 0.8 < spread < 1.3


def test_the_actor_stops_the_cart_in_the_middle() -> None:
    model = dlc.load(EXAMPLES / "actor_critic" / "model.dl")
    with imported("actor_critic", "play") as script:
        before = script.mean_reward(lambda state: script.likeliest(model, state))
        model.train()
        after = script.mean_reward(lambda state: script.likeliest(model, state))
    assert before < -0.2
    assert after > -0.1
