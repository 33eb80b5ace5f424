"""Samplers of a sweep: at random, or near good trials."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Protocol

from runtime.sweep.space import Space


class Sampler(Protocol):
    """Asked for a trial, then told its value, in turns."""

    def ask(self) -> Mapping[str, str]:
        """The texts of the searched settings."""
        ...

    def tell(self, value: float | None) -> None:
        """The value of the trial that was asked for last, the lower the better; None where it failed."""
        ...


class RandomSampler:
    """Each setting is drawn by itself. Bergstra & Bengio, "Random search for hyper-parameter optimization", 2012."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._draw = space, random.Random(seed)

    def ask(self) -> Mapping[str, str]:
        return {dimension.key: dimension.text(self._draw.random()) for dimension in self._space.dimensions}

    def tell(self, value: float | None) -> None:
        del value
