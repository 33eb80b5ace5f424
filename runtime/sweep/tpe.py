"""Optuna's tree-structured Parzen estimator as a sampler. Imports Optuna.

Bergstra et al., "Algorithms for hyper-parameter optimization", 2011.
"""

from __future__ import annotations

from collections.abc import Mapping

from runtime.support.files import missing
from runtime.sweep.trials import SearchDimension, SearchSpace, ValueList

try:
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
except ImportError as error:
    raise missing("Optuna", "sweep", "--sampler tpe") from error


class TpeSampler:
    """Draws at random for the first ten trials, then where the good ones lie denser than the others."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space = space
        self._distributions = {dimension.key: distribution_of(dimension) for dimension in space.dimensions}
        self._study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
        self._trial: optuna.Trial | None = None

    def ask(self) -> Mapping[str, str]:
        self._trial = self._study.ask(self._distributions)
        return {d.key: written(d, self._trial.params[d.key]) for d in self._space.dimensions}

    def tell(self, value: float | None) -> None:
        assert self._trial is not None
        if value is None:
            self._study.tell(self._trial, state=optuna.trial.TrialState.FAIL)
        else:
            self._study.tell(self._trial, value)


def distribution_of(dimension: SearchDimension) -> BaseDistribution:
    if isinstance(dimension, ValueList):
        return CategoricalDistribution(dimension.options)
    if dimension.is_whole:
        return IntDistribution(int(dimension.low), int(dimension.high) - 1, log=dimension.is_log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.is_log)


def written(dimension: SearchDimension, value: object) -> str:
    return dimension.written(float(str(value))) if not isinstance(dimension, ValueList) else str(value)
